"""Our heads in the 3D nodes that core has had since 2026; a host without them skips these tests."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.prompt_nodes import DECODE, EXPORT, HEAD, RENDER, SAMPLER, node, show
from tests.support.workflows import pictures, read_glb

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(300)]
HEAD = HEAD | {"latent": node(SAMPLER, steps=4), "avatar": DECODE}
NEEDED = ("RenderMesh", "MeshTextureToImage", "ApplyTextureToMesh", "MeshToFile3D", "GetMeshInfo", "CreateCameraInfo")


@pytest.fixture(scope="module", autouse=True)
def newest(comfy):
    from tests.host.client import Client

    missing = set(NEEDED) - set(Client(comfy.url).get_json("/object_info"))
    if missing:
        pytest.skip(f"this host has no {', '.join(sorted(missing))}")


def run(client, **nodes):
    done = client.run(HEAD | nodes)
    assert done.end == "execution_success", done.error
    return done


def test_core_renders_our_mesh_through_our_camera(client):
    """The face is in the middle, skin-coloured, as our own render of it is."""
    core = {
        "class_type": "RenderMesh",
        "inputs": {
            "mesh": ["end", 1],
            "camera_info": ["end", 4],
            "mode": "texture",
            "width": 128,
            "height": 128,
            "background": "#000000",
        },
    }
    nodes = {"end": EXPORT, "core": core, "ours": node(RENDER, camera_info=["end", 4], width=128, height=128)}
    seen = pictures(client, run(client, **nodes, a=show("core"), b=show("ours")).outputs)
    theirs, ours = seen["a"], seen["b"]
    face = theirs[48:80, 48:80]
    assert (face[..., 0] > face[..., 2]).mean() > 0.9 and theirs[:8].max() < 0.05
    one, other = theirs.max(-1) > 0.08, np.abs(ours - ours[0, 0]).max(-1) > 0.03
    assert (one & other).sum() / (one | other).sum() > 0.9


def test_maps_and_files_go_through_core(client):
    """Out of the mesh, onto it again, and into a file; the GLB of Export Mesh is a 3D file of core's."""
    nodes = {
        "end": EXPORT,
        "maps": {"class_type": "MeshTextureToImage", "inputs": {"mesh": ["end", 1]}},
        "again": {"class_type": "ApplyTextureToMesh", "inputs": {"mesh": ["end", 1], "base_color": ["maps", 0]}},
        "info": {"class_type": "GetMeshInfo", "inputs": {"mesh": ["again", 0]}},
        "file": {"class_type": "MeshToFile3D", "inputs": {"mesh": ["info", 0]}},
        "one": {"class_type": "SaveGLB", "inputs": {"mesh": ["file", 0], "filename_prefix": "core/mesh"}},
        "two": {"class_type": "SaveGLB", "inputs": {"mesh": ["end", 2], "filename_prefix": "core/file"}},
        "a": show("maps"),
        "b": show("avatar", 1),
    }
    done = run(client, **nodes)
    seen = pictures(client, done.outputs)
    assert np.abs(seen["a"] - seen["b"]).mean() < 0.01, "the diffuse map comes back"
    bare, whole = (read_glb(client.view(done.outputs[k]["3d"][0])) for k in ("one", "two"))
    assert "TEXCOORD_0" in bare["meshes"][0]["primitives"][0]["attributes"] and bare["images"]
    assert len(whole["meshes"]) == 4


def test_a_camera_made_by_core_is_taken(client):
    orbit = {"mode": "orbit", "mode.yaw": 0.0, "mode.pitch": 0.0, "mode.distance": 0.9, "fov": 20.0}
    target = {"target_x": 0.0, "target_y": 0.0, "target_z": 0.0, "roll": 0.0, "zoom": 1.0, "camera_type": "perspective"}
    camera = {"class_type": "CreateCameraInfo", "inputs": orbit | target}
    nodes = {"camera": camera, "picture": node(RENDER, camera_info=["camera", 0])}
    assert pictures(client, run(client, **nodes, out=show("picture")).outputs)["out"].std() > 0.05
