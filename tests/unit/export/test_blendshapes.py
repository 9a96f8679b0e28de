"""Morph targets of the GLB against the head model itself."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fitdiff_core.avatar import Avatar
from fitdiff_core.export import ExportOptions, write_avatar, write_glb
from fitdiff_core.export.blendshapes import LOOK_ANGLE, STILL
from fitdiff_core.head import load_head
from fitdiff_core.head.corrections import NAMES, corrections
from fitdiff_core.head.joints import JOINTS
from fitdiff_core.head.model import gaze_rotation
from fitdiff_core.head.visemes import EXTRA
from fitdiff_core.maps import TextureMaps
from fitdiff_core.render.normals import vertex_normals
from fitdiff_core.scene import Scene
from tests.support.gltf import Glb, clean, validate

ARKIT = """browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight
eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft
eyeWideRight jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight
mouthFrownLeft mouthFrownRight mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight
mouthPressLeft mouthPressRight mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower
mouthShrugUpper mouthSmileLeft mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft
mouthUpperUpRight noseSneerLeft noseSneerRight tongueOut""".split()  # Apple's ARFaceAnchor.BlendShapeLocation

MESHES = ("Head", "Teeth", "Mouth", "EyeWet", "Eye_L", "Eye_R", "Lashes")
CORRECTED = [load_head().expression_names.index(name) for name in NAMES]


@pytest.fixture(scope="module")
def avatar():
    head = load_head()
    shape = 0.5 * torch.randn(1, head.n_identity, generator=torch.Generator().manual_seed(1))
    flat = torch.zeros(1, 3, 8, 8)
    return Avatar(head, shape, TextureMaps(flat + 0.3, flat + 0.4, flat + torch.tensor([0, 0, 1.0]).view(3, 1, 1)))


@pytest.fixture(scope="module")
def scene(avatar):
    g = torch.Generator().manual_seed(2)
    return replace(Scene.portrait(), expression=0.5 * torch.rand(1, 52, generator=g), gaze=torch.tensor([[0.3, -0.2]]))


@pytest.fixture(scope="module")
def glb(avatar, tmp_path_factory):
    return Glb(write_glb(tmp_path_factory.mktemp("glb") / "a.glb", avatar))


def test_names_are_arkits(glb):
    assert tuple(mesh["name"] for mesh in glb.json["meshes"]) == MESHES
    head, *others = glb.json["meshes"]
    assert sorted(head["extras"]["targetNames"]) == sorted(ARKIT) and len(ARKIT) == 52
    assert head["weights"] == [0] * 52
    for mesh in others:
        assert mesh["extras"] == head["extras"], "a tool drives all meshes with the names and numbers of one"
    moving = {m: {n for n, t in glb.targets(i).items() if t["POSITION"].any()} for i, m in enumerate(MESHES)}
    jaw = {"jawForward", "jawLeft", "jawRight", "jawOpen"}
    assert moving["Teeth"] == jaw and moving["Mouth"] == jaw | {"tongueOut"}, "nothing else moves them"
    for part in ("Lashes", "EyeWet"):
        assert {"eyeBlinkLeft", "eyeSquintRight", "eyeWideLeft"} <= moving[part], "they follow the lids"
    for side, moved in (("Left", moving["Eye_L"]), ("Right", moving["Eye_R"])):
        assert moved == {f"eyeLook{w}{side}" for w in ("Down", "In", "Out", "Up")}


def test_every_accessor_has_data(glb):
    """glTF allows zeros without data, but assimp, Unity and three.js r145 refuse the file."""
    assert all("bufferView" in a or a["sparse"]["count"] for a in glb.json["accessors"])
    used = {
        i
        for mesh in range(len(MESHES))
        for t in glb.json["meshes"][mesh]["primitives"][0]["targets"]
        for i in t.values()
    }
    assert len(used) < 290, "targets that move nothing share one accessor"


def test_the_graph_is_in_the_part_that_comfyui_reads(avatar, tmp_path):
    """ComfyUI's frontend reads 1 MiB of a dropped GLB, and parses the JSON chunk only if it is whole."""
    texts = {"prompt": json.dumps({"1": "x" * 1000}), "workflow": json.dumps({"nodes": ["\u9762"]})}
    path = write_avatar(tmp_path / "a.glb", avatar, ExportOptions(extras=texts))
    assert clean(validate(path)) and Glb(path).json["asset"]["extras"] == texts
    start = path.read_bytes()[: 1 << 20]
    assert 20 + int.from_bytes(start[12:16], "little") <= len(start)
    long = texts | {"prompt": "x" * (1 << 20)}
    glb = Glb(write_avatar(tmp_path / "a.glb", avatar, ExportOptions(extras=long)))
    assert glb.json["asset"]["extras"] == {"workflow": texts["workflow"]}, "the workflow alone restores the graph"
    longer = {"workflow": "x" * (1 << 20)}
    assert Glb(write_glb(tmp_path / "a.glb", avatar, extras=longer)).json["asset"]["extras"] == longer
    assert "extras" not in Glb(write_glb(tmp_path / "a.glb", avatar)).json["asset"]


def test_validator_finds_nothing(avatar, scene, tmp_path):
    for i, options in enumerate(({}, {"scene": scene}, {"scene": scene, "blendshapes": False})):
        report = validate(write_glb(tmp_path / f"{i}.glb", avatar, **options))
        assert clean(report) and report["info"]["hasMorphTargets"] is (i < 2)


def test_the_sum_of_targets_is_the_posed_head(avatar, scene, glb, tmp_path):
    """A viewer computes from the file what the head model computes, up to the threshold for still vertices."""
    weighted = (scene.expression[0].double()[CORRECTED] @ corrections(avatar.head, avatar.shape).flatten(1)).view(-1, 3)
    plain = avatar.vertices(scene) + weighted.float()
    posed = avatar.whole.around(plain, avatar.shape, scene.expression)[0].numpy()
    file = Glb(write_glb(tmp_path / "a.glb", avatar, scene=scene))
    weights = file.json["meshes"][0]["weights"]
    np.testing.assert_allclose(weights, scene.expression[0].numpy(), atol=1e-6)
    teeth, mouth = avatar.head.teeth_rows, avatar.whole.parts["Mouth"]
    for mesh, rows, least in ((0, slice(teeth.start), 5e-3), (1, teeth, 4e-3), (2, mouth, 4e-3)):
        base, targets = file.primitive(mesh)[0], file.targets(mesh)
        base, targets = (
            {"POSITION": base["POSITION"][: rows.stop - (rows.start or 0)]},
            {n: {"POSITION": t["POSITION"][: rows.stop - (rows.start or 0)]} for n, t in targets.items()},
        )
        own = file.json["meshes"][mesh]["weights"]
        mixed = base["POSITION"] + sum(w * t["POSITION"] for w, t in zip(own, targets.values(), strict=True))
        error = np.linalg.norm(mixed - posed[rows], axis=1)
        assert error.max() < 3e-4 and np.median(error) < 2 * STILL, "a tenth of a millimetre after 52 cut-offs"
        assert np.linalg.norm(base["POSITION"] - posed[rows], axis=1).max() > least, "the pose should move something"
    plain = Glb(write_glb(tmp_path / "b.glb", avatar, scene=scene, rig=False))
    n, count = avatar.head.n_skin, len(avatar.head.eyeball)
    for mesh, rows, joint in ((4, slice(n, n + count), "Eye_L"), (5, slice(n + count, n + 2 * count), "Eye_R")):
        node = plain.json["nodes"][mesh]
        turned = plain.primitive(mesh)[0]["POSITION"] @ matrix(node["rotation"]).T + node["translation"]
        np.testing.assert_allclose(turned, posed[rows], atol=2e-6)
        bone = next(x for x in file.json["nodes"] if x["name"] == joint)
        assert bone["rotation"] == node["rotation"]
        at = skinned(file, mesh)
        np.testing.assert_allclose(at, posed[rows], atol=5e-6)


def skinned(glb, mesh):
    """Positions `[N, 3]` of a mesh, moved by its skin as a viewer does."""
    attributes, _ = glb.primitive(mesh)
    skin, nodes = glb.json["skins"][0], glb.json["nodes"]
    parent = {child: i for i, node in enumerate(nodes) for child in node.get("children", ())}

    def world(i):
        own = np.eye(4)
        own[:3, :3] = matrix(nodes[i].get("rotation", (0, 0, 0, 1)))
        own[:3, 3] = nodes[i].get("translation", (0, 0, 0))
        return world(parent[i]) @ own if i in parent else own

    inverse = glb.accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    bones = np.stack([world(i) @ b for i, b in zip(skin["joints"], inverse, strict=True)])
    points = np.concatenate([attributes["POSITION"], np.ones((len(attributes["POSITION"]), 1))], 1)
    weights = attributes["WEIGHTS_0"]
    assert (weights.sum(1) == 1).all() and (attributes["JOINTS_0"][weights == 0] == 0).all()
    moved = np.einsum("nkij,nj->nki", bones[attributes["JOINTS_0"]], points)
    return (weights[..., None] * moved).sum(1)[:, :3]


def test_at_rest_the_skin_moves_nothing_and_the_jaws_joint_opens_it(avatar, glb):
    for mesh in range(len(MESHES)):
        np.testing.assert_allclose(skinned(glb, mesh), glb.primitive(mesh)[0]["POSITION"], atol=1e-6)
    assert [glb.json["nodes"][i]["name"] for i in glb.json["skins"][0]["joints"]] == list(JOINTS)
    jaw = next(x for x in glb.json["nodes"] if x["name"] == "Jaw")
    chin = int(avatar.head.landmark_ids[8])
    by_shape = glb.primitive(0)[0]["POSITION"][chin] + glb.targets(0)["jawOpen"]["POSITION"][chin]
    jaw["rotation"] = jaw["extras"]["jawOpen"]
    try:
        by_joint = skinned(glb, 0)
        assert np.linalg.norm(by_joint[chin] - by_shape) < 1e-3
        scalp = avatar.head.vertex_region("scalp")[: avatar.head.teeth_rows.start].numpy() > 0.5
        np.testing.assert_allclose(
            by_joint[: len(scalp)][scalp], glb.primitive(0)[0]["POSITION"][: len(scalp)][scalp], atol=1e-3
        )
        assert (glb.primitive(1)[0]["POSITION"] - skinned(glb, 1))[:, 1].max() > 0.01, "the lower teeth go along"
    finally:
        del jaw["rotation"]


def test_visemes_follow_the_52(avatar, glb, tmp_path):
    more = Glb(write_glb(tmp_path / "a.glb", avatar, visemes=True))
    names = more.json["meshes"][0]["extras"]["targetNames"]
    assert names == [*glb.json["meshes"][0]["extras"]["targetNames"], *EXTRA] and len(EXTRA) == 20
    targets = more.targets(0)
    smile = targets["mouthSmileLeft"]["POSITION"] + targets["mouthSmileRight"]["POSITION"]
    np.testing.assert_allclose(targets["mouthSmile"]["POSITION"], smile, atol=STILL)
    for name in EXTRA:
        assert targets[name]["POSITION"].any() == (name != "viseme_sil")
    up = more.targets(4)["eyesLookUp"]["POSITION"]
    np.testing.assert_allclose(up, more.targets(4)["eyeLookUpLeft"]["POSITION"], atol=STILL)
    assert clean(validate(tmp_path / "a.glb"))


def matrix(quaternion):
    """(x, y, z, w) -> rotation `[3, 3]`, as glTF reads it."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_one_target_is_one_action(avatar, glb):
    """Positions to the threshold; the blended normal is that of the moved mesh."""
    head, n = avatar.head, avatar.head.teeth_rows.start
    i = head.expression_names.index("jawOpen")
    moved = head(avatar.shape, torch.eye(52)[i : i + 1])
    target, base = ({k: x[:n] for k, x in t.items()} for t in (glb.targets(0)["jawOpen"], glb.primitive(0)[0]))
    moved = avatar.whole.around(moved, avatar.shape, torch.eye(52)[i : i + 1])
    np.testing.assert_allclose(base["POSITION"] + target["POSITION"], moved[0, :n].numpy(), atol=STILL)
    normal = base["NORMAL"] + target["NORMAL"]
    true = vertex_normals(moved, avatar.whole.triangles)[0, :n].numpy()
    assert (normal * true).sum(1).min() > 0.999
    assert (base["NORMAL"] * true).sum(1).min() < 0.9, "without the target's normals the shading would be wrong"


def test_eye_targets_turn_the_eyes(avatar, glb):
    """eyeLookInLeft brings the left pupil towards the nose, by the angle that is promised."""
    for mesh, name, yaw in (
        (4, "eyeLookInLeft", -1),
        (4, "eyeLookOutLeft", 1),
        (5, "eyeLookInRight", 1),
        (5, "eyeLookOutRight", -1),
    ):
        centre = avatar.head.eye_centres(avatar.shape)[0, mesh - 4].numpy()
        base = glb.primitive(mesh)[0]["POSITION"] - centre
        pupil = base[:, 2].argmax()
        moved = base + glb.targets(mesh)[name]["POSITION"]
        turn = gaze_rotation(torch.tensor([[yaw * LOOK_ANGLE, 0.0]]))[0].numpy()
        np.testing.assert_allclose(moved[pupil], turn @ base[pupil], atol=1.5 * STILL)
        assert np.sign(moved[pupil, 0] - base[pupil, 0]) == yaw


def test_targets_are_local_and_the_file_small(avatar, glb, tmp_path):
    full = sum(v["byteLength"] for v in glb.json["bufferViews"])
    bare = write_glb(tmp_path / "a.glb", avatar, blendshapes=False).stat().st_size
    dense = bare + 52 * avatar.head.n_skin * 24
    assert bare < full < 0.45 * dense
    (head,) = glb.json["meshes"][0]["primitives"]
    assert any("sparse" in glb.json["accessors"][t["POSITION"]] for t in head["targets"])
    smile = np.linalg.norm(glb.targets(0)["mouthSmileLeft"]["POSITION"], axis=1)
    x = glb.primitive(0)[0]["POSITION"][:, 0]
    assert smile[x < -0.03].max() < 0.2 * smile.max(), "the left smile stays on the left"


def test_without_blendshapes_the_scene_is_in_the_vertices(avatar, scene, tmp_path):
    glb = Glb(write_glb(tmp_path / "a.glb", avatar, scene=scene, blendshapes=False))
    assert not any("targets" in m["primitives"][0] for m in glb.json["meshes"])
    written = np.concatenate([glb.primitive(mesh)[0]["POSITION"] for mesh in (0, 1)])
    cut = avatar.whole.parts["Cut"]
    posed = avatar.posed(scene)[0]
    skin = torch.cat([posed[: avatar.head.teeth_rows.start], posed[cut], posed[avatar.head.teeth_rows]])
    np.testing.assert_allclose(written, skin.numpy(), atol=1e-6)


def test_bytes_repeat(avatar, scene, tmp_path):
    a, b = (write_avatar(tmp_path / f"{i}.glb", avatar, scene=scene).read_bytes() for i in "ab")
    assert a == b and json.loads(a[20 : 20 + int.from_bytes(a[12:16], "little")])["asset"]["version"] == "2.0"
