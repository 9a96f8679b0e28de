"""PLY and USDZ, units and bit depths; USD's own validators where usd-core is installed."""

import io
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from fitdiff_core.errors import UserError
from fitdiff_core.export import FORMATS, ExportOptions, write_avatar, write_obj, write_ply, write_usdz
from fitdiff_core.image import linear_to_srgb
from tests.support.ball_avatar import avatar, read_obj


def read_ply(path):
    """(header lines, vertex records, triangles), by the header's own account."""
    data = path.read_bytes()
    head, body = data.split(b"end_header\n", 1)
    lines = head.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    types = {"float": "<f4", "uchar": "u1"}
    fields = [(m[2], types[m[1]]) for line in lines if (m := re.match(r"property (float|uchar) (\w+)", line))]
    n, t = (int(re.search(rf"element {kind} (\d+)", head.decode())[1]) for kind in ("vertex", "face"))
    vertices = np.frombuffer(body, np.dtype(fields), n)
    faces = np.frombuffer(body, np.dtype([("n", "u1"), ("i", "<i4", 3)]), t, vertices.nbytes)
    assert len(body) == vertices.nbytes + faces.nbytes and (faces["n"] == 3).all()
    return lines, vertices, faces["i"]


def test_ply_holds_the_mesh_and_vertex_colours(tmp_path):
    one = avatar(size=64)
    ramp = (torch.arange(64) + 0.5) / 64  # at the middle of each texel
    one.maps.diffuse[:] = 0.25
    one.maps.diffuse[:, 0] = ramp  # red grows with u
    one.maps.diffuse[:, 1] = ramp.flip(0)[:, None]  # green grows with v
    lines, vertices, faces = read_ply(write_ply(tmp_path / "my head.ply", one))
    assert "comment TextureFile my_head_diffuse.png" in lines and (tmp_path / "my_head_diffuse.png").is_file()
    np.testing.assert_array_equal(np.stack([vertices[k] for k in "xyz"], 1), one.vertices()[0].numpy())
    np.testing.assert_array_equal(np.stack([vertices[k] for k in "st"], 1), one.head.uv.numpy())
    np.testing.assert_array_equal(faces, one.head.triangles.numpy())
    np.testing.assert_allclose(sum(vertices[k] ** 2 for k in ("nx", "ny", "nz")), 1, atol=1e-5)
    u, v = one.head.uv.clamp(0.02, 0.98).numpy().T
    inside = (one.head.uv.numpy() == one.head.uv.clamp(0.02, 0.98).numpy()).all(1)
    for channel, at in (("red", u), ("green", v)):
        srgb = linear_to_srgb(torch.from_numpy(at)).numpy() * 255
        assert np.abs(vertices[channel] - srgb)[inside].max() <= 0.6, channel
    assert (np.abs(vertices["blue"] - linear_to_srgb(torch.tensor(0.25)).item() * 255) <= 0.6).all()


def test_ply_opens_in_another_reader(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    one = avatar()
    mesh = trimesh.load(write_ply(tmp_path / "a.ply", one), process=False)
    assert len(mesh.faces) == len(one.head.triangles) and mesh.volume > 0


@pytest.mark.parametrize(
    "write, read",
    [
        (write_obj, lambda p: np.array(read_obj(p)["v"], float)),
        (write_ply, lambda p: np.stack([read_ply(p)[1][k] for k in "xyz"], 1)),
    ],
)
def test_centimetres_are_a_hundred_to_the_metre(tmp_path, write, read):
    small, large = (read(write(tmp_path / f"{unit}.x", avatar(), unit=unit)) for unit in ("metres", "centimetres"))
    np.testing.assert_allclose(large, small * 100, atol=1e-4)
    with pytest.raises(UserError, match="Unknown unit"):
        write(tmp_path / "b.x", avatar(), unit="inches")


@pytest.mark.parametrize("format", ["obj", "ply", "usdz", "glb"])
def test_sixteen_bit_maps_beside_every_format(tmp_path, format):
    one = avatar()
    write_avatar(tmp_path / f"a.{format}", one, ExportOptions(format, map_files="16-bit", texture_size=16))
    for name in ("diffuse", "specular", "normal"):
        data = (tmp_path / f"a_{name}.png").read_bytes()
        assert data[24] == 16 and int.from_bytes(data[16:20], "big") == 16


def test_choices_that_a_format_lacks_are_refused(tmp_path):
    assert set(FORMATS) == {"glb", "obj", "ply", "usdz"}
    for options, words in (
        ({"format": "fbx"}, "Unknown format"),
        ({"unit": "centimetres"}, "metres by definition"),
        ({"map_files": "32-bit"}, "Unknown map"),
    ):
        with pytest.raises(UserError, match=words):
            write_avatar(tmp_path / "a", avatar(), ExportOptions(**options))
    assert not list(tmp_path.iterdir())


def test_usdz_archive(tmp_path):
    """Uncompressed, the stage first, every file's data on a 64-byte border: what the USDZ specification asks for."""
    one = avatar()
    data = write_usdz(tmp_path / "my head-1.usdz", one, bits=16).read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        assert archive.testzip() is None
    assert [i.filename for i in infos] == [
        "my_head_1.usda",
        "textures/diffuse.png",
        "textures/specular.png",
        "textures/normal.png",
    ]
    for info in infos:
        name, extra = (int.from_bytes(data[info.header_offset + k :][:2], "little") for k in (26, 28))
        start = info.header_offset + 30 + name + extra
        assert info.compress_type == zipfile.ZIP_STORED and start % 64 == 0
        head = data[start : start + 8]
        assert head == (b"#usda 1." if info.filename.endswith("usda") else b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("unit", ["metres", "centimetres"])
def test_usd_opens_the_stage_and_finds_nothing_wrong(tmp_path, unit):
    pytest.importorskip("pxr", reason="OpenUSD is not installed: pip install usd-core")
    from pxr import Usd, UsdGeom, UsdShade, UsdValidation

    one = avatar()
    path = write_avatar(tmp_path / "a.usdz", one, ExportOptions("usdz", flip_green=True, unit=unit))
    stage = Usd.Stage.Open(str(path))
    found = UsdValidation.ValidationContext(UsdValidation.ValidationRegistry().GetOrLoadAllValidators()).Validate(stage)
    messages = [e.GetMessage() for e in found]
    assert not messages, messages
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    scale = UsdGeom.GetStageMetersPerUnit(stage)
    points, triangles = [], 0
    for name, material in (("Head", "Skin"), ("Eye_L", "Eye_L"), ("Eye_R", "Eye_R")):
        mesh = UsdGeom.Mesh(stage.GetPrimAtPath(f"/Avatar/{name}"))
        points.append(np.array(mesh.GetPointsAttr().Get()) * scale)
        triangles += len(mesh.GetFaceVertexCountsAttr().Get())
        bound, _ = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial()
        assert bound.GetPath() == f"/Avatar/Materials/{material}"
        surface = UsdShade.Shader(stage.GetPrimAtPath(f"/Avatar/Materials/{material}/Surface"))
        for channel in ("diffuseColor", "specularColor", "normal"):
            source = surface.GetInput(channel).GetConnectedSources()[0][0].source
            file = UsdShade.Shader(source.GetPrim()).GetInput("file").Get()
            assert file.resolvedPath.endswith(".png]"), channel
    np.testing.assert_allclose(np.concatenate(points), one.vertices()[0].numpy(), atol=1e-6)
    assert triangles == len(one.head.triangles)
    normal = UsdShade.Shader(stage.GetPrimAtPath("/Avatar/Materials/Skin/Normal"))
    with zipfile.ZipFile(path) as archive:
        texels = np.asarray(Image.open(io.BytesIO(archive.read("textures/normal.png"))))[..., :3] / 255
    scale, bias = (np.array(normal.GetInput(k).Get())[:3] for k in ("scale", "bias"))
    np.testing.assert_allclose(texels * scale + bias, one.maps.normal[0].permute(1, 2, 0).numpy(), atol=1.1 / 127)
