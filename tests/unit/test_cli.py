"""The command line with the shipped weights: files, report, warnings, errors."""

import json

import pytest
from PIL import Image

from tests.support.cli import cli, cli_process
from tests.support.paths import SAMPLE

FILES = {"avatar.glb", "diffuse.png", "specular.png", "normal.png", "render.png", "report.json"}


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """The folder and the result of one run in a process of its own."""
    out = tmp_path_factory.mktemp("guided")
    return out, cli_process(SAMPLE, "--out", out, "--steps", 4, "--seed", 3)


def test_photo_becomes_every_promised_file(guided):
    out, run = guided
    assert run.returncode == 0, run.stderr
    assert {p.name for p in out.iterdir()} == FILES
    assert (out / "avatar.glb").read_bytes()[:4] == b"glTF"
    with Image.open(out / "render.png") as im:
        assert im.size == (4 * 512, 512)
    for name in ("diffuse", "specular", "normal"):
        with Image.open(out / f"{name}.png") as im:
            assert im.size == (512, 512) and im.mode == "RGB"
    report = json.loads((out / "report.json").read_text())
    assert report["seed"] == 3 and report["steps"] == 4 and report["guided"] is True
    assert -1 <= report["similarity"]["dlib_resnet_v1"] <= 1
    assert {"load", "identity", "scene", "sample", "decode", "render", "export", "total"} <= set(report["seconds"])
    assert report["checkpoint"] and report["versions"]["fitdiff"]


@pytest.mark.slow
def test_photo_detail_changes_the_maps_it_should(guided, tmp_path):
    out, _ = guided
    run = cli(SAMPLE, "--out", tmp_path, "--steps", 4, "--seed", 3, "--photo-detail", "0.4")
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["photo_detail"] == 0.4 and report["seconds"]["detail"] > 0
    assert (tmp_path / "diffuse.png").read_bytes() != (out / "diffuse.png").read_bytes()
    assert json.loads((out / "report.json").read_text())["photo_detail"] == 1


@pytest.mark.slow
def test_several_photos_are_of_one_person(guided, tmp_path):
    with Image.open(SAMPLE) as im:
        im.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((im.width * 2 // 3, im.height * 2 // 3)).save(
            tmp_path / "mirrored.png"
        )
    run = cli(SAMPLE, "--out", tmp_path / "out", "--steps", 4, tmp_path / "mirrored.png", "--seed", 3)
    assert run.returncode == 0 and run.stderr == "", run.stderr
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES
    with Image.open(tmp_path / "out" / "render.png") as im:
        assert im.size == (4 * 512, 2 * 512), "a row for each photo"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [p["photo"] for p in report["photos"]] == [SAMPLE.name, "mirrored.png"] and report["photo"] == SAMPLE.name
    assert all(-1 <= p["similarity"] <= 1 for p in report["photos"]) and report["warnings"] == []
    assert report["similarity"]["dlib_resnet_v1"] == report["photos"][0]["similarity"]
    assert (tmp_path / "out" / "diffuse.png").read_bytes() != (guided[0] / "diffuse.png").read_bytes()


@pytest.mark.slow
def test_a_photo_of_somebody_else_is_named_and_used(tmp_path):
    """Somebody else is a face that was sampled: the render of a new person."""
    assert cli("--out", tmp_path / "new", "--steps", 8, "--seed", 1).returncode == 0
    with Image.open(tmp_path / "new" / "render.png") as im:
        im.crop((0, 0, 512, 512)).save(tmp_path / "other.png")
    run = cli(SAMPLE, SAMPLE, tmp_path / "other.png", "--out", tmp_path / "out", "--steps", 1, "--no-guidance")
    assert run.returncode == 0 and len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith(f"warning: other.png (photo 3 of 3) may show somebody else than {SAMPLE.name}")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["warnings"] == [run.stderr.strip()[9:]]


def test_seed_repeats_bit_for_bit(guided, tmp_path):
    """In another process, after other runs."""
    out, _ = guided
    assert cli(SAMPLE, "--out", tmp_path, "--steps", 4, "--seed", 3).returncode == 0
    for name in FILES - {"report.json"}:
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes(), name


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Options for small maps and renders, where only the run matters."""
    config = tmp_path_factory.mktemp("config") / "small.json"
    config.write_text('{"texture_size": 128, "render_size": 128}')
    return "--config", config


def test_pure_fitdiff_has_no_photo_detail(tmp_path, small):
    assert cli(SAMPLE, "--out", tmp_path, "--steps", 1, "--no-photo-detail", *small).returncode == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["photo_detail"] == 0 and "detail" not in report["seconds"]


def test_a_viewer_without_its_page_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("fitdiff_core.export.viewer.WEB", tmp_path / "nowhere")
    run = cli("--out", tmp_path / "out", "--steps", 1, "--viewer")
    assert run.returncode == 2 and "The viewer's files are not here" in run.stderr
    assert not (tmp_path / "out").exists()


def test_no_photo_samples_a_new_identity_and_seeds_differ(tmp_path, small):
    for seed in (1, 2):
        run = cli("--out", tmp_path / str(seed), "--steps", 2, "--seed", seed, *small)
        assert run.returncode == 0, run.stderr
    a, b = ((tmp_path / s / "diffuse.png").read_bytes() for s in "12")
    assert a != b
    with Image.open(tmp_path / "1" / "render.png") as im:
        assert im.size == (3 * 128, 128)


def test_unguided_run_says_so(tmp_path, small):
    assert cli(SAMPLE, "--out", tmp_path, "--steps", 2, "--no-guidance", *small).returncode == 0
    assert json.loads((tmp_path / "report.json").read_text())["guided"] is False


def test_files_as_asked_for(tmp_path):
    run = cli(
        "--out",
        tmp_path,
        "--steps",
        1,
        "--format",
        "glb,obj,ply,usdz",
        "--unit",
        "centimetres",
        "--map-bits",
        16,
        "--no-blendshapes",
        "--expression",
        "photo",
        "--normals",
        "down",
    )
    assert run.returncode == 0, run.stderr
    names = {p.name for p in tmp_path.iterdir()}
    maps = ("diffuse", "specular", "normal")
    maps += tuple(f"{part}{kind}" for part in ("hair", "lashes") for kind in ("", "_alpha", "_normal"))
    assert names == FILES | {"avatar.obj", "avatar.mtl", "avatar.ply", "avatar.usdz"} | {
        f"avatar_{m}.png" for m in maps
    }
    assert (tmp_path / "diffuse.png").read_bytes()[24] == (tmp_path / "avatar_normal.png").read_bytes()[24] == 16
    assert (
        b"centimetres" in (tmp_path / "avatar.obj").read_bytes()[:60]
        and b"targetNames" not in (tmp_path / "avatar.glb").read_bytes()
    )


def bad_photo(tmp_path):
    Image.new("RGB", (256, 256), (90, 120, 60)).save(tmp_path / "no_face.png")
    return tmp_path / "no_face.png"


@pytest.mark.parametrize(
    "args, words",
    [
        (["missing.jpg"], "No such photo"),
        (["NO_FACE"], "face"),
        (["SAMPLE", "NO_FACE"], "Photo 2 of 2: No face"),
        (["SAMPLE", "--device", "warp9"], "--device cpu"),
        (["SAMPLE", "--steps", "0"], "steps must be"),
        (["SAMPLE", "--seed", "-1"], "--seed"),
        (["SAMPLE", "--photo-detail", "2"], "--photo-detail must be"),
        (["SAMPLE", "--photo-detail", "--no-guidance"], "--photo-detail needs a photo"),
        (["--photo-detail"], "--photo-detail needs a photo"),
        (["SAMPLE", "--format", "glb,stl"], "Unknown format 'stl'"),
        (["SAMPLE", "--unit", "centimetres"], "metres by definition"),
        (["SAMPLE", "--config", "BAD_JSON"], "Cannot read the config"),
        (["SAMPLE", "--config", "BAD_KEY"], "Unknown setting"),
        (["SAMPLE", "--config", "BAD_CHECKPOINT"], "heckpoint"),
        (["SAMPLE", "--config", "BAD_CFG"], "cfg_scale must be"),
        (["SAMPLE", "--config", "BAD_WEIGHTS"], "weights must be"),
        (["SAMPLE", "--config", "BAD_WEIGHT"], "unconscious"),
        (["SAMPLE", "--config", "BAD_WINDOW"], "sigma_window must be"),
    ],
)
def test_user_errors_are_one_line_and_exit_2(tmp_path, args, words):
    (tmp_path / "json").write_text("{")
    (tmp_path / "key").write_text('{"colour": 1}')
    (tmp_path / "checkpoint").write_text('{"checkpoint": "nowhere.safetensors"}')
    (tmp_path / "cfg").write_text('{"cfg_scale": "high"}')
    (tmp_path / "weights").write_text('{"weights": [1, 2]}')
    (tmp_path / "weight").write_text('{"weights": {"unconscious": 1}}')
    (tmp_path / "window").write_text('{"sigma_window": [3]}')
    names = {
        "BAD_CFG": tmp_path / "cfg",
        "BAD_WEIGHTS": tmp_path / "weights",
        "BAD_WEIGHT": tmp_path / "weight",
        "BAD_WINDOW": tmp_path / "window",
        "SAMPLE": SAMPLE,
        "NO_FACE": bad_photo(tmp_path),
        "BAD_JSON": tmp_path / "json",
        "BAD_KEY": tmp_path / "key",
        "BAD_CHECKPOINT": tmp_path / "checkpoint",
    }
    run = cli(*[names.get(a, a) for a in args], "--out", tmp_path / "out", cwd=tmp_path)
    assert run.returncode == 2, run.stderr
    assert len(run.stderr.strip().splitlines()) == 1 and words in run.stderr
    assert not (tmp_path / "out").exists()
