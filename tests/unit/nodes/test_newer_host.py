"""What the export node hands to hosts newer than the one in `make host`: MESH with uvs and textures, 3D files."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from tests.support.gltf import Glb
from tests.support.newer_host import MESH, PACK


def two_heads():
    core = sys.modules[f"{PACK}.fitdiff_core"].__name__
    head = importlib.import_module(f"{core}.head").load_head()
    maps = importlib.import_module(f"{core}.maps").TextureMaps
    up = torch.zeros(2, 3, 16, 16) + torch.tensor([0, 0, 1.0]).view(3, 1, 1)
    shape = torch.randn(2, head.n_identity, generator=torch.Generator().manual_seed(0))
    return importlib.import_module(f"{core}.avatar").Avatar(
        head, shape, maps(torch.full_like(up, 0.3), torch.full_like(up, 0.4), up)
    )


def test_mesh_comes_with_all_that_the_host_takes(pack):
    export, _ = pack
    avatar = two_heads()
    mesh = export.mesh_of(avatar)
    core = importlib.import_module(export.__name__.replace("nodes.export", "fitdiff_core.export.mesh"))
    whole, own = core.whole_of(avatar), avatar.head.n_vertices
    n, t = whole.n_vertices, len(whole.triangles)
    assert mesh.vertices.shape == mesh.normals.shape == (2, n, 3) and mesh.faces.shape == (2, t, 3)
    assert mesh.tangents.shape == (2, n, 4) and mesh.uvs.shape == (2, n, 2)
    assert mesh.texture.shape == mesh.normal_map.shape == (2, 16, 16, 3)
    torch.testing.assert_close(mesh.uvs[0, :, 1], 1 - whole.uv[:, 1])  # v from the top, as in glTF
    same = avatar.head.vertex_region("mouth_interior") < 0.01  # whose walls make room for teeth and tongue
    same[whole.neck.rows] = False  # the edge is levelled
    torch.testing.assert_close(mesh.vertices[:, :own][:, same], avatar.vertices()[:, same])
    torch.testing.assert_close((mesh.normals * mesh.tangents[..., :3]).sum(-1), torch.zeros(2, n), atol=1e-4, rtol=0)
    # roughness in green, read where the vertices are: eyes are wet, nothing is metal
    at = torch.cat([mesh.uvs[:1] * 2 - 1], 0)[:, None]
    image = mesh.metallic_roughness[:1].permute(0, 3, 1, 2)
    rough = torch.nn.functional.grid_sample(image, at, align_corners=False)[0, 1, 0]
    skin, eye = rough[: avatar.head.n_skin].median(), rough[avatar.head.n_skin : own].median()
    assert abs(skin - avatar.head.roughness[: avatar.head.n_skin].mean()) < 0.02 and eye < 0.2
    assert (mesh.metallic_roughness[..., 2] == 0).all()


@pytest.mark.parametrize("format", ["glb", "obj", "ply", "usdz"])
def test_files_come_out_as_3d_files(pack, format):
    export, _ = pack
    out = export.ExportMesh.execute(two_heads(), "a", format)
    path, mesh, glb, file, _ = out.values
    assert path == f"a_00001_.{format}" and isinstance(mesh, MESH)
    assert file.file_format == format and Path(file.source).is_file()
    assert glb == (file if format == "glb" else None)
    assert [f["filename"] for f in out.ui["3d"]] == [f"a_0000{i}_.{format}" for i in (1, 2)]


def test_mesh_is_posed_with_the_photos_expression(pack):
    export, pipeline = pack
    avatar = two_heads()
    scene = pipeline.Scene.portrait(2)
    scene.expression[1, avatar.head.expression_names.index("jawOpen")] = 1.0
    _, mesh, *_ = export.ExportMesh.execute(avatar, "a", "obj", expression="photo", scene=scene).values
    moved = (mesh.vertices - export.mesh_of(avatar).vertices).norm(dim=-1).amax(1)
    assert moved[0] < 1e-6 < 0.01 < moved[1]


def test_the_graph_goes_into_the_glb(pack, monkeypatch, tmp_path):
    export, _ = pack
    hidden = export.ExportMesh.hidden
    monkeypatch.setattr(hidden, "prompt", {"5": {"class_type": "x", "inputs": {}, "is_changed": [float("nan")]}})
    monkeypatch.setattr(hidden, "extra_pnginfo", {"workflow": {"nodes": []}})
    export.ExportMesh.execute(two_heads()[0], "a", "glb", blendshapes=False)
    extras = Glb(tmp_path / "a_00001_.glb").json["asset"]["extras"]
    assert json.loads(extras["workflow"]) == {"nodes": []}
    assert json.loads(extras["prompt"])["5"]["is_changed"] == [None], "browsers cannot parse NaN"
    monkeypatch.setattr(export.args, "disable_metadata", True)
    export.ExportMesh.execute(two_heads()[0], "a", "glb", blendshapes=False)
    assert "extras" not in Glb(tmp_path / "a_00001_.glb").json["asset"]


@pytest.mark.parametrize("format, refused", [("glb", False), ("obj", False), ("ply", True), ("usdz", True)])
def test_preview_3d_is_refused_for_files_it_cannot_show(pack, format, refused):
    export, _ = pack
    for link, seen in ((["5", 0], refused), (["5", 4], False), (["6", 0], False), ("a.ply", False)):
        prompt = {"9": {"class_type": "Preview3D", "inputs": {"model_file": link}}}
        if seen:
            with pytest.raises(ValueError, match=f"cannot show a {format}.*Choose glb"):
                export.refuse_preview(prompt, "5", format)
        else:
            export.refuse_preview(prompt, "5", format)


@pytest.mark.parametrize("scaled", [True, False])
def test_the_camera_looks_at_the_face(pack, scaled):
    """The whole head is seen from the front; older frontends scale a model to 5 units and stand it on the ground."""
    export, _ = pack
    vertices = torch.tensor([[-0.1, -0.2, -0.1], [0.1, 0.2, 0.1]])
    camera = export.front_camera(vertices, scaled)
    k, middle = (12.5, 2.5) if scaled else (1, 0)
    assert camera["target"] == pytest.approx({"x": 0, "y": middle, "z": 0}, abs=1e-6)
    away = camera["position"]["z"] - 0.1 * k
    assert camera["position"] == pytest.approx({"x": 0, "y": middle, "z": camera["position"]["z"]}, abs=1e-6)
    seen = away * torch.tan(torch.deg2rad(torch.tensor(export.VIEW_ANGLE / 2))).item()
    assert 0.2 * k < seen < 0.3 * k
    assert set(camera) == {"position", "target", "zoom", "cameraType", "fov"}
    assert export.front_camera(vertices, None) is None
