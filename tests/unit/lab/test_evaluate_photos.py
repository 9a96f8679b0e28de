"""The benchmark command, on the sample photo and a picture without a face; what its views, tables and ablation mean."""

import json
import math
import shutil
from dataclasses import MISSING, dataclass, field, fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fitdiff_core import pipeline
from fitdiff_core.avatar import Avatar
from fitdiff_core.errors import UserError
from fitdiff_core.guidance import GuidanceSettings
from fitdiff_core.image import load_photo
from fitdiff_core.model.denoiser import Denoiser, DenoiserConfig, pack_latent
from fitdiff_core.render import Camera, Light
from fitdiff_core.render.rig import combine_lights, directional_light, uniform_light
from fitdiff_core.scene import Scene
from fitdiff_lab.evaluate.photos import (
    PANEL,
    __main__,
    ablation,
    common,
    likeness,
    load_judge,
    mean,
    step_cost,
    summary,
    variants,
    views,
)
from fitdiff_lab.evaluate.photos.likeness import JudgeFile
from fitdiff_lab.evaluate.photos.modes import GUIDED, MODES, RANDOM, RUNS, UNGUIDED, VIEWS
from tests.support.judge import JUDGE
from tests.support.paths import SAMPLE


@pytest.fixture(scope="module")
def avatar():
    model = pipeline.load_model()
    latent, _ = pipeline.sample(model, seed=3, steps=3)
    return pipeline.decode(model, latent, 256)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """photos/ with a face and none, judge.py; one run of the command in out/."""
    folder = tmp_path_factory.mktemp("benchmark")
    photos = folder / "photos"
    photos.mkdir()
    shutil.copy(SAMPLE, photos / "face.jpg")
    Image.new("RGB", (200, 200), (90, 120, 60)).save(photos / "none.png")
    (photos / "notes.txt").write_text("not a photo")
    (folder / "judge.py").write_text(JUDGE)
    (folder / "second.py").write_text(JUDGE)
    argv = [str(photos), "--out", str(folder / "out"), "--steps", "8"]
    argv += ["--judge", str(folder / "judge.py"), "--judge", str(folder / "second.py")]
    assert __main__.main(argv) == 0
    return folder


@pytest.mark.slow
def test_one_photo_and_one_without_a_face(folder):
    report = json.loads((folder / "out" / "results.json").read_text())
    whole, face, none = report["summary"], report["photos"]["face.jpg"], report["photos"]["none.png"]
    assert whole["photos"] == 2 and whole["finished"] == 1
    for mode in RUNS:
        assert (
            none["runs"][mode]["exit"] == 2
            and "face" in none["runs"][mode]["error"]
            and "wall" not in none["runs"][mode]
        )
        run = face["runs"][mode]
        assert run["exit"] == 0 and run["peak_mb"] > 100
        assert run["wall"] > run["seconds"]["total"]  # the process as well as the stages
    assert none["likeness"] == {} and none["yaw"] is None
    assert [(r["name"], r["guided"]) for r in report["settings"]["recognisers"]] == [
        ("judge", False),
        ("second", False),
        ("dlib_resnet_v1", True),
    ]
    for mode in MODES:
        for view in VIEWS:
            marks = face["likeness"][mode][view]
            assert set(marks) == {"judge", "second", "dlib_resnet_v1"} and marks["judge"] == marks["second"]
    everybody = whole["subsets"][summary.ALL]
    assert everybody["photos"] == 1
    assert everybody["likeness"]["judge"][GUIDED]["left"]["mean"] == round(face["likeness"][GUIDED]["left"]["judge"], 3)
    assert "detail" in whole["cost"]["detail"]["stages"] and "detail" not in whole["cost"][GUIDED]["stages"]
    own = {m: face["likeness"][m]["pose"]["dlib_resnet_v1"] for m in MODES}
    assert own[GUIDED] > own[UNGUIDED] > own[RANDOM]
    c = whole["consistency"]
    assert c["identities"] == 1 and c["two_seeds_distance"] > 0 and c["two_identities"]["judge"] is None


@pytest.mark.slow
def test_the_views_are_of_the_head_that_the_command_line_wrote(folder):
    for mode in RUNS:
        run = folder / "out" / mode / "face"
        with Image.open(run / "render.png") as im, Image.open(run / "views" / "pose.png") as view:
            # the run's picture has a film curve and a backdrop; the face is the same
            face, same = (
                np.asarray(x, float)[160:400, 160:350].mean(-1).ravel() for x in (im.crop((512, 0, 1024, 512)), view)
            )
            assert np.corrcoef(face, same)[0, 1] > 0.97, mode
    poses = [
        np.asarray(Image.open(folder / "out" / "unguided" / "face" / "views" / d / "pose.png")) for d in ("", "random")
    ]
    assert not np.array_equal(*poses)


@pytest.mark.slow
def test_sheets_page_and_table(folder):
    out = folder / "out"
    with Image.open(out / "contact.jpg") as sheet, Image.open(out / "renders.jpg") as bare:
        columns = len(__main__.COLUMNS)
        assert sheet.size == ((columns + 1) * PANEL, PANEL) and bare.size == (columns * PANEL, PANEL)
        first, photo = sheet.crop((PANEL, 40, 2 * PANEL, PANEL - 40)), load_photo(SAMPLE)
        assert abs(np.asarray(first, float) - np.asarray(bare.crop((0, 40, PANEL, PANEL - 40)), float)).mean() < 2
        assert photo.shape[1] == 3
    page = (out / "report.html").read_text("utf-8")
    assert "face.jpg" in page and "none.png" in page and "No face" in page
    assert page.count("data:image/jpeg;base64,") == 1 + len(MODES) * len(VIEWS)
    assert "http" not in page and "<script" not in page
    table = (out / "table.md").read_text("utf-8")
    assert "dlib_resnet_v1 (took part in the guidance)" in table and "judge (took no part in the guidance)" in table
    assert "1 of 2" in table and "face.jpg" in table


@pytest.mark.slow
def test_turned_renders_show_the_face_from_there(folder):
    """Measured on the pictures, by the landmark fit that photos get."""
    model, found = pipeline.load_model(), {}
    for view in ("pose", "left", "right"):
        photo = load_photo(folder / "out" / GUIDED / "face" / "views" / f"{view}.png")
        (fitted,) = pipeline.fit_photos(photo, model.head)
        head = Avatar(model.head, fitted.shape, None)
        found[view] = views.yaw(fitted.scene, views.face_centre(head, fitted.scene))
        crop = fitted.scene.crop[0]
        middle = torch.linalg.solve(crop[:, :2], fitted.mesh[0].mean(0) - crop[:, 2]) / 512
        assert ((middle > 0.35) & (middle < 0.65)).all(), view  # still in the middle
    assert found["left"] - found["pose"] == pytest.approx(views.TURN, abs=6)
    assert found["right"] - found["pose"] == pytest.approx(-views.TURN, abs=6)
    stored = json.loads((folder / "out" / GUIDED / "face" / "views" / "views.json").read_text())["yaw"]
    assert found["pose"] == pytest.approx(stored, abs=6)


def test_turning_keeps_the_face_and_its_light_in_place(avatar):
    """Of a head held aslant: the axis is the head's own."""
    camera = Camera(torch.tensor([4.0]), torch.tensor([[0.2, -0.3, 0.4]]), torch.tensor([[0.01, 0.03, -0.8]]))
    scene = replace(Scene.portrait(), camera=camera)
    centre = views.face_centre(avatar, scene)
    start = views.yaw(scene, centre)
    for degrees in (20.0, -20.0, 170.0):
        seen = views.turned(scene, degrees, centre)
        assert (views.yaw(seen, centre) - start - degrees + 180) % 360 == pytest.approx(180, abs=1e-2)
        before, after = (c.project(centre[:, None], (256, 256)) for c in (camera, seen.camera))
        assert torch.allclose(before, after, atol=1e-2)
        assert torch.allclose(camera.view(centre[:, None]), seen.camera.view(centre[:, None]), atol=1e-5)
        rise = (seen.camera.position() - camera.position())[0, 1]
        assert abs(float(rise)) < 1e-5
        assert torch.equal(seen.light.sh, scene.light.sh)
    left = views.turned(scene, 20.0, centre).camera.position()[0, 0]
    assert left > camera.position()[0, 0]  # +x is the subject's left


@pytest.mark.parametrize("side", (-1, 1))
@pytest.mark.parametrize("soft", (False, True))
def test_relit_from_the_other_side(avatar, side, soft):
    """The half of the face that was dark is bright; how bright the face is on the whole hardly changes."""
    key = directional_light(side * 50, 10, (2.0, 2.0, 2.0))
    if soft:  # the same as an environment of harmonics, as fitted to photos
        sh = uniform_light((0.6, 0.6, 0.6)).sh
        sh[:, 3], sh[:, 2] = side * 0.8, 0.5
        key = Light(sh, key.direction[:, :0], key.color[:, :0])
    scene = replace(Scene.portrait(), light=combine_lights(key, uniform_light((0.2, 0.2, 0.2))))
    gray = avatar.maps.diffuse.mean((2, 3), keepdim=True).expand_as(avatar.maps.diffuse)
    plain = replace(avatar, maps=replace(avatar.maps, diffuse=gray))  # no moles or brows on one side
    images = views.render_looks(plain, scene, 128)
    halves = {}
    for name in ("pose", "relit"):
        face = images[name][0].mean(0)[48:88]
        halves[name] = float(face[:, 66:84].mean() - face[:, 44:62].mean())
    assert halves["pose"] * side > 0.02 and halves["relit"] * side < -0.02
    for yaw in (0.0, 60.0, -60.0):  # the other side of the picture, wherever the head faces
        around = replace(scene, camera=Scene.portrait(yaw=yaw).camera)
        old, new = (
            around.camera.matrix()[0, 0] @ views.light_from(x)[0] for x in (around.light, views.other_side(around))
        )
        assert old * new < 0, yaw
    matrix = scene.camera.matrix()
    assert torch.allclose(views.frontal(scene.light, matrix), views.frontal(views.other_side(scene), matrix), rtol=1e-4)


def rows(name, pose, yaw, mode=GUIDED):
    return {name: {"yaw": yaw, "runs": {}, "likeness": {mode: {v: {"a": pose if v == "pose" else 0.5} for v in VIEWS}}}}


def test_summary_counts_missing_faces_and_knows_the_worst():
    results = rows("x.jpg", 0.9, 5.0) | rows("y.jpg", float("nan"), -70.0) | rows("z.jpg", 0.3, -29.0)
    results["bad.jpg"] = {"yaw": None, "runs": {GUIDED: {"exit": 2, "error": "error: no"}}, "likeness": {}}
    s = summary.summarise(results, [{"name": "a", "guided": False}])
    everybody, frontal = s["subsets"].values()
    assert everybody["photos"] == 3 and frontal["photos"] == 2
    assert everybody["likeness"]["a"][GUIDED]["pose"] == {"mean": 0.6, "no_face": 1}
    assert frontal["likeness"]["a"][GUIDED]["pose"] == {"mean": 0.6, "no_face": 0}
    assert [w["photo"] for w in s["worst"]] == ["y.jpg", "z.jpg", "x.jpg"]
    assert summary.worst_rows(s["worst"])[1] == ["y.jpg", "no face", "-70°"]
    assert "0.60 (1)" in summary.likeness_rows(everybody["likeness"]["a"])[1]


def test_stages_and_their_share():
    found = summary.stages(
        [{"seconds": {"load": 1.0, "sample": 2.0, "total": 3.0}}, {"seconds": {"load": 1.0, "sample": 4.0}}]
    )
    assert found == {"load": {"seconds": 1.0, "share": 0.25}, "sample": {"seconds": 3.0, "share": 0.75}}


def test_means_leave_out_what_the_judge_could_not_see(tmp_path):
    assert mean([1.0, float("nan"), None, 3.0]) == 2.0
    assert math.isnan(mean([float("nan")]))
    assert common.plain({"a": [float("nan"), 1.0]}) == {"a": [None, 1.0]}
    assert math.isnan(JudgeFile.between(None, np.ones(2)))
    with pytest.raises(UserError, match="class Judge"):
        load_judge(str(tmp_path / "none.py"))


def test_every_recogniser_at_hand_is_asked(tmp_path):
    onnx = pytest.importorskip("onnx")
    from tests.support.onnx_networks import iresnet

    onnx.save(iresnet(), tmp_path / "w_small.onnx")
    (tmp_path / "judge.py").write_text(JUDGE)
    Image.new("RGB", (200, 200), (90, 120, 60)).save(tmp_path / "none.png")
    known = likeness.recognisers([str(tmp_path / "judge.py")], [str(tmp_path / "w_small.onnx")])
    assert [r.guided for r in known] == [False, False, True] and len({r.name for r in known}) == 3
    with Image.open(SAMPLE) as im:
        same = likeness.score(SAMPLE, im, known)
        mirrored = likeness.score(SAMPLE, im.transpose(Image.Transpose.FLIP_LEFT_RIGHT), known)
    for r in known:
        assert same[r.name] == pytest.approx(1, abs=1e-2) and mirrored[r.name] < same[r.name]
    nobody = likeness.score(SAMPLE, tmp_path / "none.png", known)
    assert [math.isnan(nobody[r.name]) for r in known] == [False, True, True]  # this judge compares any pictures


def test_photos_of_one_name_are_refused(tmp_path):
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(UserError, match="rename"):
        common.photos_in(tmp_path)
    with pytest.raises(UserError, match="No photos"):
        common.photos_in(tmp_path / "nowhere")


@pytest.mark.slow
def test_ablation_goes_on_where_it_stopped(folder, monkeypatch):
    out, photos = folder / "ablation", sorted((folder / "photos").glob("*.*g"))
    names = ["no_photometric", "full"]
    made = []
    real = ablation.make_head
    monkeypatch.setattr(ablation, "make_head", lambda model, v, *rest: made.append(v.what) or real(model, v, *rest))

    def run(names, steps=8):
        made.clear()
        return ablation.run_ablation(photos, out, names, steps, [str(folder / "judge.py")])

    first = run(names)
    assert made == [ablation.VARIANTS[n].what for n in ("full", "no_photometric")]  # none.png has no face
    assert list(first["variants"]) == ["full", "no_photometric"]
    full, without = first["variants"]["full"], first["variants"]["no_photometric"]
    assert full["photos"] == 1 and full["change"] == (0.0, pytest.approx(float("nan"), nan_ok=True))
    assert (
        without["photometric"] > full["photometric"] > 0
    )  # what the loss is for, and that it is measured without it too
    pictures = [(out / "renders" / n / "face_pose.png").read_bytes() for n in names]
    assert pictures[0] != pictures[1]
    file = out / "variants" / "no_photometric.json"
    stored = json.loads(file.read_text())
    assert "error" in stored["photos"]["none.png"]
    del stored["photos"]["face.jpg"]
    file.write_text(json.dumps(stored))
    again = run(names)
    assert made == [ablation.VARIANTS["no_photometric"].what]  # the others are kept
    assert again["variants"]["no_photometric"]["judge"] == first["variants"]["no_photometric"]["judge"]
    assert again["variants"]["full"]["seconds"] == full["seconds"]
    run(["full"], steps=1)
    assert len(made) == 1  # other settings: measured again
    table = (out / "table.md").read_text("utf-8")
    assert "as shipped" in table and "±20°" in table
    with pytest.raises(UserError, match="Unknown variant"):
        run(["ful"])


def ablation_settings() -> dict:
    runner = SimpleNamespace(model=SimpleNamespace(id="checkpoint"), steps=50, known=[])
    return ablation.Ablation.settings(runner, ablation.VARIANTS["full"])


@pytest.mark.parametrize("name", [f.name for f in fields(GuidanceSettings) if f.default_factory is not MISSING])
def test_ablation_measures_again_after_a_change_of_any_constant(name, monkeypatch):
    """Rows are kept only where every constant of the guidance is the same, also those behind a `default_factory`."""
    before, factory = ablation_settings(), GuidanceSettings.__dataclass_fields__[name].default_factory
    first = next(f.name for f in fields(factory()) if isinstance(getattr(factory(), f.name), float))
    changed = replace(factory(), **{first: getattr(factory(), first) + 0.25})
    monkeypatch.setattr(GuidanceSettings.__dataclass_fields__[name], "default_factory", lambda: changed)
    after = ablation_settings()
    assert after != before
    assert json.loads(json.dumps(after)) == after  # what is read back from disk compares equal


def test_default_values_of_nested_dataclasses():
    @dataclass(frozen=True)
    class Inner:
        a: float = 1.0
        pair: tuple = (1, 2)

    @dataclass(frozen=True)
    class Outer:
        given: object
        inner: Inner = field(default_factory=Inner)
        other: Inner = Inner(2.0)
        nothing: Inner | None = None

    assert common.default_values(Outer) == {
        "inner": {"a": 1.0, "pair": [1, 2]},
        "other": {"a": 2.0, "pair": [1, 2]},
        "nothing": None,
    }
    with pytest.raises(TypeError):
        common.default_values(dataclass(type("Bad", (), {"__annotations__": {"x": object}, "x": object()})))


DEFAULT = pipeline.SampleSettings()


def test_every_variant_changes_one_thing():
    model, recognizer = pipeline.load_model(), pipeline.load_recognizer()
    (guidance,) = pipeline.prepare_guidance(pipeline.fit_photos(load_photo(SAMPLE), model.head), recognizer)
    lit = replace(guidance.target.photo, key_light=object())  # whether the fit found one or not
    guidance = replace(guidance, target=replace(guidance.target, photo=lit))
    for name, v in variants.VARIANTS.items():
        changed = v.guidance(guidance)
        pairs = [(changed.settings, guidance.settings), (changed.target.photo, guidance.target.photo)]
        differ = [k for a, b in pairs for k in vars(b) if getattr(a, k) is not getattr(b, k)]
        by_gradient = v.gradient is not variants.Variant("").gradient and v.gradient in (
            variants.detached,
            variants.through_denoiser,
        )
        others = [by_gradient, v.steps != 1, v.cfg != DEFAULT.cfg_scale, v.variation != DEFAULT.variation]
        assert len(differ) + sum(others) == (name != "full"), name


def test_gradients_of_the_variants():
    """Where the network gives 0, the whole denoiser is its linear part. The change ends with its context."""
    torch.manual_seed(0)
    denoiser = Denoiser(DenoiserConfig()).eval()
    model = SimpleNamespace(denoiser=denoiser)
    c = denoiser.config
    texture, shape = torch.randn(1, c.latent, c.size, c.size), torch.randn(1, c.shape)
    linear = denoiser.prior.gradient(texture, shape, 0.7)
    with variants.through_denoiser(model), torch.no_grad():
        denoiser(torch.randn_like(pack_latent(texture, shape)), torch.tensor([0.7]))
        whole = denoiser.prior.gradient(texture, shape, 0.7)
    for a, b in zip(whole, linear, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    with variants.detached(model):
        assert denoiser.prior.gradient(texture, shape, 0.7) == (texture, shape)
    assert torch.equal(denoiser.prior.gradient(texture, shape, 0.7)[0], linear[0]) and not denoiser._forward_pre_hooks


def test_step_cost_names_its_parts(capsys):
    assert step_cost.main(["-n", "1"]) == 0
    text = capsys.readouterr().out
    for part in ("denoiser", "decoder", "renderer", "recogniser", "guided step"):
        assert part in text
    times = step_cost.measure({"a": lambda: None, step_cost.STEP: lambda: sum(range(1000))}, 3)
    assert set(times) == {"a", step_cost.STEP} and all(t >= 0 for t in times.values())
