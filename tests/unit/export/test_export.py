from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fitdiff_core import __version__
from fitdiff_core.errors import UserError
from fitdiff_core.export import write_glb, write_maps, write_obj, write_ply, write_usdz
from fitdiff_core.image import linear_to_srgb
from fitdiff_core.render import tangents
from tests.support.ball_avatar import avatar, read_obj
from tests.support.gltf import Glb, clean, validate
from tests.support.plain_avatar import plain_avatar


def picture(x):
    """`[1, 3, H, W]` in 0..1 -> `[H, W, 3]` numpy"""
    return x[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("columns", [24, 400])  # 16-bit and 32-bit indices
def test_khronos_validator_finds_nothing(tmp_path, columns):
    path = write_glb(tmp_path / "a.glb", avatar(columns=columns))
    report = validate(path)
    assert clean(report)
    assert report["info"]["generator"] == f"FitDiff {__version__}"
    assert report["info"]["drawCallCount"] == 3 and report["info"]["materialCount"] == 3


def test_the_validator_test_can_fail(tmp_path):
    path = write_glb(tmp_path / "a.glb", avatar())
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"type":"VEC4"', b'"type":"VEC3"'))
    assert validate(path)["issues"]["numErrors"] > 0


def test_glb_holds_the_mesh(tmp_path):
    one = avatar()
    glb = Glb(write_glb(tmp_path / "a.glb", one))
    assert [m["name"] for m in glb.json["materials"]] == ["Skin", "Eye_L", "Eye_R"]
    assert [n["name"] for n in glb.json["nodes"]] == ["Head", "Eye_L", "Eye_R"]
    frames = tangents(one.vertices().double(), one.head.uv.double(), one.head.triangles)[0].numpy()
    n, start, triangles = one.head.n_skin, 0, []
    half = n + (len(one.head.uv) - n) // 2
    for mesh, rows in enumerate([slice(0, n), slice(n, half), slice(half, None)]):
        attributes, indices = glb.primitive(mesh)
        assert indices.dtype == np.uint16
        pivot = np.array(glb.json["nodes"][mesh].get("translation", [0, 0, 0]))
        np.testing.assert_allclose(attributes["POSITION"] + pivot, one.vertices()[0].numpy()[rows], atol=1e-8)
        assert mesh == 0 or np.abs(attributes["POSITION"].max(0) + attributes["POSITION"].min(0)).max() < 1e-7, (
            "pivot in the middle"
        )
        uv = attributes["TEXCOORD_0"]
        np.testing.assert_allclose(np.stack([uv[:, 0], 1 - uv[:, 1]], 1), one.head.uv.numpy()[rows], atol=1e-6)
        normal, tangent = attributes["NORMAL"], attributes["TANGENT"]
        np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(tangent[:, :3], axis=1), 1, atol=1e-5)
        np.testing.assert_allclose((normal * tangent[:, :3]).sum(1), 0, atol=1e-5)
        np.testing.assert_allclose(tangent, frames[rows], atol=1e-5)
        triangles.append(indices.astype(int) + start)
        start += len(normal)
    np.testing.assert_array_equal(np.concatenate(triangles), one.head.triangles.numpy())


def test_bitangents_of_a_glb_point_up_in_the_picture(tmp_path):
    """The bitangent must point where the picture's up is: towards smaller v in glTF. Both windings of uv occur."""
    glb = Glb(write_glb(tmp_path / "a.glb", avatar(columns=48)))
    attributes, indices = glb.primitive(0)
    p, uv = attributes["POSITION"][indices], attributes["TEXCOORD_0"][indices]
    e1, e2, d1, d2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0], uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    det = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    clear = np.abs(det) > np.median(np.abs(det))
    along_u = (e1 * d2[:, 1:] - e2 * d1[:, 1:]) / np.where(clear, det, 1)[:, None]
    along_v = (e2 * d1[:, :1] - e1 * d2[:, :1]) / np.where(clear, det, 1)[:, None]
    normal, tangent = attributes["NORMAL"][indices].mean(1), attributes["TANGENT"][indices].mean(1)
    bitangent = np.cross(normal, tangent[:, :3]) * tangent[:, 3:]
    assert ((tangent[:, :3] * along_u).sum(1)[clear] > 0).all()
    assert ((bitangent * along_v).sum(1)[clear] < 0).all()
    assert set(np.sign(tangent[clear, 3])) == {-1.0, 1.0}


@pytest.mark.parametrize("flip", [False, True])
def test_glb_textures_and_materials(tmp_path, flip):
    one = avatar()
    glb = Glb(write_glb(tmp_path / "a.glb", one, flip_green=flip))
    assert (
        glb.json["extensionsUsed"] == ["KHR_materials_clearcoat", "KHR_materials_specular"]
        and "extensionsRequired" not in glb.json
    )
    for material in glb.json["materials"]:
        pbr, specular = material["pbrMetallicRoughness"], material["extensions"]["KHR_materials_specular"]
        assert pbr["metallicFactor"] == 0
        np.testing.assert_allclose(
            glb.texture(pbr["baseColorTexture"]["index"]), picture(linear_to_srgb(one.maps.diffuse)), atol=0.51 / 255
        )
        normal = glb.texture(material["normalTexture"]["index"]) * 2 - 1
        normal[..., 1] *= -1 if flip else 1
        np.testing.assert_allclose(normal, picture(one.maps.normal), atol=1.02 / 255)
        # F0 as the extension defines it: min(0.04 * colour factor * colour texture (linear), 1) * factor
        srgb = glb.texture(specular["specularColorTexture"]["index"])
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        f0 = 0.04 * np.array(specular["specularColorFactor"]) * linear * specular.get("specularFactor", 1)
        np.testing.assert_allclose(f0, 0.08 * picture(one.maps.specular), atol=0.0004)
        assert specular["specularFactor"] == 1 and max(specular["specularColorFactor"]) <= 2, "programs clip factors"
    skin, left, right = (m["pbrMetallicRoughness"]["roughnessFactor"] for m in glb.json["materials"])
    assert left == right == 0.4 < skin < 0.6


def test_roughness_of_the_head_is_written(tmp_path):
    one = avatar()
    one.head.roughness = torch.full((len(one.head.uv),), 0.5)
    one.head.roughness[one.head.n_skin :] = 0.08
    glb = Glb(write_glb(tmp_path / "a.glb", one))
    assert [m["pbrMetallicRoughness"]["roughnessFactor"] for m in glb.json["materials"]] == [0.5, 0.4, 0.4]
    coats = [m["extensions"].get("KHR_materials_clearcoat", {}) for m in glb.json["materials"]]
    assert [c.get("clearcoatRoughnessFactor") for c in coats] == [None, 0.03, 0.03], "the cornea is smooth"


def test_textures_have_the_size_asked_for(tmp_path):
    glb = Glb(write_glb(tmp_path / "a.glb", avatar(), texture_size=16))
    assert glb.texture(0).shape == (16, 16, 3)


def test_a_head_without_eyes_has_one_material(tmp_path):
    one = avatar()
    one.head.n_skin = len(one.head.uv)
    path = write_glb(tmp_path / "a.glb", one)
    assert [m["name"] for m in Glb(path).json["materials"]] == ["Skin"]
    assert validate(path)["issues"]["numErrors"] == 0


def test_obj_holds_the_mesh_and_its_materials(tmp_path):
    one = avatar()
    path = write_obj(tmp_path / "my head.obj", one)
    obj = read_obj(path)
    assert path == tmp_path / "my head.obj" and obj["mtllib"] == [["my_head.mtl"]]
    np.testing.assert_allclose(np.array(obj["v"], float), one.vertices()[0].numpy(), atol=1e-7)
    np.testing.assert_allclose(np.array(obj["vt"], float), one.head.uv.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(np.array(obj["vn"], float), axis=1), 1, atol=1e-4)
    corners = np.array([[c.split("/") for c in f] for f in obj["f"]], int)
    assert (corners == corners[..., :1]).all()
    np.testing.assert_array_equal(corners[..., 0] - 1, one.head.triangles.numpy())
    n_skin_faces = int((one.head.triangles < one.head.n_skin).all(1).sum())
    n_eye_faces = (len(obj["f"]) - n_skin_faces) // 2
    assert obj["usemtl"] == [(0, ["Skin"]), (n_skin_faces, ["Eye_L"]), (n_skin_faces + n_eye_faces, ["Eye_R"])]
    assert obj["o"] == [["Head"], ["Eye_L"], ["Eye_R"]]

    material = (tmp_path / "my_head.mtl").read_text()
    assert material.count("newmtl ") == 3
    for key, name in (("map_Kd", "diffuse"), ("map_Ks", "specular"), ("norm", "normal"), ("map_Bump", "normal")):
        assert f"\n{key} my_head_{name}.png\n" in material
        assert (tmp_path / f"my_head_{name}.png").is_file()


def test_a_plain_head_needs_no_specular_factor(tmp_path):
    one = avatar()
    one.maps.specular = one.maps.specular.clamp(max=0.5)
    for material in Glb(write_glb(tmp_path / "a.glb", one)).json["materials"]:
        specular = material["extensions"]["KHR_materials_specular"]
        assert specular["specularFactor"] == 1 and specular["specularColorFactor"] == [1, 1, 1]


@pytest.mark.parametrize("name", ["my  head", "a\tb", "no #1", "-x", 'the "head"'])
def test_obj_names_files_without_blanks(tmp_path, name):
    path = write_obj(tmp_path / f"{name}.obj", avatar())
    lines = path.read_text().splitlines() + next(tmp_path.glob("*.mtl")).read_text().splitlines()
    named = [line for line in lines if line.split()[0] in ("mtllib", "map_Kd", "map_Ks", "norm", "map_Bump")]
    assert len(named) == 13
    for key, file in (line.split(" ") for line in named):
        assert (tmp_path / file).is_file() and not set(file) & set(' \t#"') and not file.startswith("-"), key
    materials = {line.split(" ", 1)[1] for line in lines if line.startswith("newmtl")}
    assert {line.split(" ", 1)[1] for line in lines if line.startswith("usemtl")} == materials


def test_obj_opens_in_another_reader(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    one = avatar()
    for path in (write_obj(tmp_path / "a.obj", one), write_glb(tmp_path / "a.glb", one)):
        scene = trimesh.load_scene(path)
        assert len(scene.geometry) == 3
        assert sum(len(m.faces) for m in scene.geometry.values()) == len(one.head.triangles)
        for mesh in scene.geometry.values():
            assert mesh.visual.uv is not None and mesh.is_watertight and mesh.volume > 0


def test_maps_are_written_in_srgb_and_normals_linear(tmp_path):
    maps = avatar().maps
    paths = write_maps(tmp_path / "out", maps, bits=8)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"diffuse.png", "specular.png", "normal.png"}
    for name in ("diffuse", "specular"):
        np.testing.assert_allclose(
            np.asarray(Image.open(paths[name])) / 255, picture(linear_to_srgb(getattr(maps, name))), atol=0.51 / 255
        )
    normal = np.asarray(Image.open(paths["normal"])) / 255 * 2 - 1
    np.testing.assert_allclose(normal, picture(maps.normal), atol=1.02 / 255)
    flipped = np.asarray(Image.open(write_maps(tmp_path, maps, flip_green=True)["normal"])) / 255 * 2 - 1
    np.testing.assert_allclose(flipped * [1, -1, 1], normal, atol=1.02 / 255)


@pytest.mark.parametrize("write", [write_glb, write_obj, write_ply, write_usdz])
def test_heads_that_cannot_be_written_are_user_errors(tmp_path, write):
    path = tmp_path / "a.x"
    with pytest.raises(UserError, match="one head, not 2"):
        write(path, avatar(2))
    broken = avatar()
    broken.maps.diffuse[0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match="NaN"):
        write(path, broken)
    broken = avatar()
    broken.shape[:] = float("inf")
    with pytest.raises(UserError, match="shape"):
        write(path, broken)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="Cannot write"):
        write(tmp_path / "file" / "a.x", avatar())
    assert not path.exists() and [p.name for p in tmp_path.iterdir()] == ["file"], "no half-written files"


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = write_glb(tmp_path / "a.glb", avatar())
    before = path.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        write_glb(path, avatar(columns=30))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_the_skin_of_a_head_has_roughness_and_occlusion_as_a_texture(tmp_path):
    person = plain_avatar()
    path = write_glb(tmp_path / "a.glb", person, blendshapes=False, rig=False)
    glb = Glb(path)
    by_name = {m["name"]: m for m in glb.json["materials"]}
    skin = by_name["Skin"]
    pbr = skin["pbrMetallicRoughness"]
    assert pbr["roughnessFactor"] == 1 and pbr["metallicFactor"] == 0
    index = pbr["metallicRoughnessTexture"]["index"]
    assert skin["occlusionTexture"]["index"] == index
    assert all("occlusionTexture" not in m for name, m in by_name.items() if name != "Skin")
    picture = glb.texture(index)
    assert picture[..., 2].max() == 0
    lips, neck, scalp = (person.head.region(n, len(picture)).numpy() > 0.9 for n in ("lips", "neck", "scalp"))
    assert picture[..., 1][lips].mean() < 0.42 < 0.48 < picture[..., 1][neck].mean()
    bare = Glb(write_glb(tmp_path / "b.glb", person.with_hair(None), blendshapes=False, rig=False)).texture(index)
    assert picture[..., 0][scalp].mean() < bare[..., 0][scalp].mean() - 0.05, "hair leaves less light"
    assert validate(path)["issues"]["numErrors"] == validate(path)["issues"]["numWarnings"] == 0
