"""The export node in a real ComfyUI: every format and option, with the files that come out."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.support.gltf import Glb

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(300)]
HEAD = {
    "1": {"class_type": "FitDiff_LoadModel", "inputs": {"checkpoint": "built-in"}},
    "2": {
        "class_type": "FitDiff_Sampler",
        "inputs": {"model": ["1", 0], "seed": 4, "steps": 1, "cfg": 1.0, "batch": 1, "sampler": "dpmpp_2m"},
    },
    "3": {"class_type": "FitDiff_DecodeUV", "inputs": {"model": ["1", 0], "latent": ["2", 0]}},
}


def export(client, **inputs):
    prompt = HEAD | {
        "5": {
            "class_type": "FitDiff_ExportMesh",
            "inputs": {"avatar": ["3", 0], "filename_prefix": "options/head", "format": "glb", **inputs},
        }
    }
    run = client.run(prompt)
    return run, (run.outputs["5"]["3d"][0] if run.end == "execution_success" else None)


def test_old_graphs_without_the_new_inputs_still_run(client, comfy):
    run, file = export(client)
    assert run.end == "execution_success", run.error
    glb = Glb(comfy.base / "output" / "options" / file["filename"])
    assert len(glb.targets(0)) == 52 and set(glb.json["meshes"][0]["weights"]) == {0}


def test_a_glb_restores_its_graph(client, comfy):
    run, file = export(client, blendshapes=False)
    assert run.end == "execution_success", run.error
    extras = Glb(comfy.base / "output" / "options" / file["filename"]).json["asset"]["extras"]
    nodes = json.loads(extras["prompt"])
    assert {k: v["class_type"] for k, v in nodes.items()} == {k: v["class_type"] for k, v in HEAD.items()} | {
        "5": "FitDiff_ExportMesh"
    }


def test_the_camera_reaches_preview_3d(client):
    prompt = HEAD | {
        "5": {
            "class_type": "FitDiff_ExportMesh",
            "inputs": {"avatar": ["3", 0], "filename_prefix": "options/a head", "format": "obj"},
        },
        "6": {"class_type": "Preview3D", "inputs": {"model_file": ["5", 0], "camera_info": ["5", 4]}},
    }
    run = client.run(prompt)
    assert run.end == "execution_success", run.error
    file, camera, *_ = run.outputs["6"]["result"]
    assert file.startswith("options/a_head_") and camera == run.outputs["5"]["camera_info"][0]
    assert camera["position"]["z"] > camera["target"]["z"] and camera["position"]["x"] == camera["target"]["x"]


def test_glb_with_the_scene_and_maps_beside_it(client, comfy):
    run, file = export(
        client, scene=["2", 1], expression="photo", texture_size=128, map_files="16-bit", blendshapes=False
    )
    assert run.end == "execution_success", run.error
    path = comfy.base / "output" / "options" / file["filename"]
    glb = Glb(path)
    assert glb.texture(0).shape == (128, 128, 3) and "targets" not in glb.json["meshes"][0]["primitives"][0]
    for name in ("diffuse", "specular", "normal"):
        data = path.with_name(f"{path.stem}_{name}.png").read_bytes()
        assert data[24] == 16 and int.from_bytes(data[16:20], "big") == 128


def test_normals_up_and_down(client):
    pictures = []
    for inputs in (
        {"normals": "up (OpenGL, Blender)"},
        {"normals": "down (DirectX, Unreal)"},
        {"format": "glb, green flipped"},
    ):
        run, file = export(client, blendshapes=False, **inputs)
        assert run.end == "execution_success", run.error
        data = client.view(file)
        start = 20 + int.from_bytes(data[12:16], "little")
        document = json.loads(data[20:start])
        view = document["bufferViews"][next(i["bufferView"] for i in document["images"] if i["name"] == "normal")]
        png = data[start + 8 + view["byteOffset"] :][: view["byteLength"]]
        pictures.append(np.asarray(Image.open(io.BytesIO(png)), np.int16))
    up, down, old = pictures
    np.testing.assert_array_equal(down, old)
    assert np.abs(up[..., 1] + down[..., 1] - 255).max() <= 1 and (up[..., 0] == down[..., 0]).all()


def test_ply_and_usdz_in_centimetres(client):
    run, file = export(client, format="ply", unit="centimetres")
    assert run.end == "execution_success" and b"centimetres" in client.view(file)[:300], run.error
    run, file = export(client, format="usdz", unit="centimetres")
    assert run.end == "execution_success", run.error
    with zipfile.ZipFile(io.BytesIO(client.view(file))) as archive:
        assert b"metersPerUnit = 0.01" in archive.read(archive.namelist()[0])[:300]


def test_a_glb_in_centimetres_stops_before_it_is_written(client, comfy):
    run, _ = export(client, unit="centimetres", filename_prefix="centimetres/head")
    assert run.end == "execution_error" and "metres by definition" in run.error
    assert not list((comfy.base / "output").glob("centimetres/*"))


def test_a_bad_prefix_is_reported_once_on_its_input(client):
    body = {"prompt": HEAD | {"5": {"class_type": "FitDiff_ExportMesh", "inputs": {"avatar": ["3", 0]}}}}
    body["prompt"]["5"]["inputs"] |= {"filename_prefix": "../escape", "format": "glb", "unit": "metres"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        client.post("/prompt", body)
    (error,) = json.loads(refused.value.read())["node_errors"]["5"]["errors"]
    assert error["extra_info"]["input_name"] == "filename_prefix" and "leads out of" in error["details"]


def test_tokens_of_the_prefix_are_replaced(client, comfy):
    run, file = export(client, filename_prefix="%date:yyyy%/%FitDiff_Sampler.seed%_%year%_%width%", blendshapes=False)
    assert run.end == "execution_success", run.error
    year = time.strftime("%Y")
    assert file == {"filename": f"4_{year}_512_00001_.glb", "subfolder": year, "type": "output"}
    assert (comfy.base / "output" / year / file["filename"]).is_file()


def test_the_photos_expression_needs_a_scene(client):
    run, _ = export(client, expression="photo")
    assert run.end == "execution_error" and "connect" in run.error
