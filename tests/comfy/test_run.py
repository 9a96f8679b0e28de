"""The shipped workflows run in a real ComfyUI, report progress, stop when told to, and say what is wrong."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from PIL import Image

from tests.host.server import PACK
from tests.support.workflows import STEPS, node_of, only, pictures, read_glb, workflow

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def photo_run(comfy):
    from tests.host.client import Client

    run = Client(comfy.url).run(workflow("photo_to_avatar"), timeout=360)
    assert run.end == "execution_success", run.error
    return run


def test_photo_becomes_pictures(photo_run, client):
    prompt = workflow("photo_to_avatar")
    titles = {k: v["_meta"]["title"] for k, v in prompt.items() if v["class_type"] == "PreviewImage"}
    seen = pictures(client, photo_run.outputs)
    assert set(seen) == set(titles)
    for node, picture in seen.items():
        assert picture.std() > 0.01, f"{titles[node]} is blank"
    by_title = {titles[k]: v for k, v in seen.items()}
    assert by_title["Diffuse albedo"].shape == by_title["Normals"].shape == (512, 512, 3)
    assert by_title["Normals"][..., 2].mean() > 0.8, "normals should mostly point out of the skin"
    assert np.abs(by_title["As in the photo"] - by_title["Turned and relit"]).mean() > 0.02


def test_photo_becomes_a_textured_glb(photo_run, client):
    path = photo_run.outputs["11"]["result"][0]
    assert path.startswith("fitdiff/avatar_") and path.endswith(".glb")
    folder, file = path.rsplit("/", 1)
    gltf = read_glb(client.view({"filename": file, "subfolder": folder, "type": "output"}))
    attributes = gltf["meshes"][0]["primitives"][0]["attributes"]
    assert {"POSITION", "NORMAL", "TEXCOORD_0"} <= set(attributes)
    assert len(gltf["images"]) >= 2 and "KHR_materials_specular" in gltf["extensionsUsed"]
    low, high = (np.array(gltf["accessors"][attributes["POSITION"]][k]) for k in ("min", "max"))
    assert ((high - low) > 0.1).all() and ((high - low) < 0.6).all(), "a head, in metres"


def test_progress_and_previews_arrive(photo_run):
    steps = photo_run.progress("6")
    assert steps == [(i + 1, STEPS) for i in range(STEPS)]
    assert photo_run.previews >= 1


def test_second_run_is_cached(client, photo_run):
    run = client.run(workflow("photo_to_avatar"), timeout=120)
    assert run.end == "execution_success" and not run.progress("6")


def test_random_identity_runs_and_its_seed_matters(client):
    runs = [client.run(workflow("random_head", Sampler={"steps": STEPS, "seed": seed})) for seed in (1, 2)]
    assert [r.end for r in runs] == ["execution_success"] * 2, runs[0].error or runs[1].error
    first, second = (pictures(client, r.outputs)["8"] for r in runs)
    assert np.abs(first - second).mean() > 1e-3


def test_interrupt_ends_within_two_steps_and_the_next_prompt_runs(client):
    prompt = only(workflow("random_head", Sampler={"steps": 200, "seed": 77}))
    seen = []

    def stop(kind, data):
        if kind == "progress":
            seen.append(data["value"])
            if len(seen) == 3:
                client.interrupt()

    run = client.run(prompt, on_event=stop)
    assert run.end == "execution_interrupted"
    assert seen[2] <= seen[-1] <= seen[2] + 2
    assert client.run(only(workflow("random_head", Sampler={"steps": 1, "seed": 78}))).end == "execution_success"


def test_maps_go_out_to_core_nodes_and_back(client):
    """Decode -> core upscaling and inversion -> Replace Maps -> render and export."""
    prompt = workflow("random_head", Sampler={"steps": 1, "seed": 5})
    decode = node_of(prompt, "DecodeUV")
    prompt |= {
        "20": {
            "class_type": "ImageScale",
            "inputs": {
                "image": [decode, 1],
                "upscale_method": "bilinear",
                "width": 768,
                "height": 768,
                "crop": "disabled",
            },
        },
        "21": {"class_type": "ImageInvert", "inputs": {"image": ["20", 0]}},
        "22": {"class_type": "FitDiff_ReplaceMaps", "inputs": {"avatar": [decode, 0], "diffuse": ["21", 0]}},
        "23": {"class_type": "FitDiff_Render", "inputs": {**prompt["4"]["inputs"], "avatar": ["22", 0]}},
        "24": {"class_type": "PreviewImage", "inputs": {"images": ["23", 0]}},
    }
    prompt["5"]["inputs"]["avatar"] = ["22", 0]
    run = client.run(prompt)
    assert run.end == "execution_success", run.error
    seen = pictures(client, run.outputs)
    assert np.abs(seen["24"] - seen["7"]).mean() > 0.02, "the inverted skin should show"


def test_latent_passes_through_core_nodes(client):
    """A batch of two, picked and blended by core latent nodes, still decodes."""
    prompt = only(workflow("random_head", Sampler={"steps": 1, "batch": 2, "seed": 9}))
    prompt |= {
        "20": {"class_type": "LatentFromBatch", "inputs": {"samples": ["2", 0], "batch_index": 0, "length": 1}},
        "21": {"class_type": "LatentFromBatch", "inputs": {"samples": ["2", 0], "batch_index": 1, "length": 1}},
        "22": {
            "class_type": "LatentBlend",
            "inputs": {"samples1": ["20", 0], "samples2": ["21", 0], "blend_factor": 0.5},
        },
    }
    prompt["3"]["inputs"]["latent"] = ["22", 0]
    run = client.run(prompt)
    assert run.end == "execution_success", run.error


def test_a_batch_renders_and_exports_one_file_each(client):
    prompt = workflow("random_head", Sampler={"steps": 1, "batch": 2, "seed": 30})
    run = client.run(prompt)
    assert run.end == "execution_success", run.error
    assert len(run.outputs["7"]["images"]) == 2
    files = run.outputs["5"]["3d"]
    assert len({f["filename"] for f in files}) == 2
    for file in files:
        read_glb(client.view(file))


def test_core_saves_the_bare_mesh(client):
    prompt = workflow("random_head", Sampler={"steps": 1, "seed": 31})
    prompt["20"] = {"class_type": "SaveGLB", "inputs": {"mesh": ["5", 1], "filename_prefix": "mesh/bare"}}
    run = client.run(prompt)
    assert run.end == "execution_success", run.error
    assert read_glb(client.view(run.outputs["20"]["3d"][0]))["meshes"]


def test_environment_and_obj(client, comfy):
    panorama = np.zeros((32, 64, 3), np.uint8)
    panorama[4:12, 10:20] = (255, 40, 40)
    Image.fromarray(panorama).save(comfy.base / "input" / "red.png")
    prompt = workflow("random_head", Sampler={"steps": 1, "seed": 31}, ExportMesh={"format": "obj"})
    prompt["20"] = {"class_type": "LoadImage", "inputs": {"image": "red.png"}}
    prompt["4"]["inputs"]["environment"] = ["20", 0]
    run = client.run(only(prompt) | {"7": prompt["7"]})
    assert run.end == "execution_success", run.error
    head = pictures(client, run.outputs)["7"][128:384, 128:384].mean((0, 1))
    assert head[0] > 1.3 * head[2], "red light should show on the head"
    assert b"mtllib" in client.view(run.outputs["5"]["3d"][0])


def test_blending_a_person_with_itself_changes_nothing(client):
    prompt = workflow("photo_to_avatar", Sampler={"steps": 1})
    del prompt["5"], prompt["6"]["inputs"]["guidance"]
    prompt = only(prompt) | {"13": prompt["13"]}
    plain = client.run(prompt)
    prompt["20"] = {
        "class_type": "FitDiff_BlendIdentities",
        "inputs": {"identity_a": ["4", 0], "identity_b": ["4", 0], "weight": 0.3},
    }
    prompt["6"] = {**prompt["6"], "inputs": {**prompt["6"]["inputs"], "identity": ["20", 0]}}
    blended = client.run(prompt)
    assert plain.end == blended.end == "execution_success", plain.error or blended.error
    first, second = (pictures(client, r.outputs)["13"] for r in (plain, blended))
    assert np.abs(first - second).max() < 0.02


def test_photo_without_a_face_is_refused_readably(client, comfy):
    Image.new("RGB", (320, 240), (90, 120, 60)).save(comfy.base / "input" / "no_face.png")
    prompt = workflow("photo_to_avatar")
    prompt["1"]["inputs"]["image"] = "no_face.png"
    run = client.run(prompt)
    assert run.end == "execution_error" and "face" in run.error.lower() and "Traceback" not in run.error


def test_face_index_out_of_range_is_refused_readably(client):
    run = client.run(workflow("photo_to_avatar", EncodeIdentity={"face": 7}))
    assert run.end == "execution_error" and "7" in run.error and "face" in run.error.lower()


@pytest.mark.parametrize("prefix", ["", "  ", "../escape", "a/../../escape", "/etc/escape", "fitdiff/"])
def test_bad_prefix_is_refused_before_anything_runs(client, comfy, prefix):
    from tests.host.client import Rejected

    with pytest.raises(Rejected, match="prefix"):
        client.run(only(workflow("random_head", ExportMesh={"filename_prefix": prefix})))
    assert not list(comfy.base.glob("escape*"))


@pytest.mark.parametrize(
    "node, change",
    [
        ("LoadModel", {"checkpoint": "nothing.safetensors"}),
        ("Sampler", {"sampler": "magic"}),
        ("Render", {"light": "disco"}),
        ("Sampler", {"steps": 0}),
    ],
)
def test_unknown_choices_are_refused(client, node, change):
    from tests.host.client import Rejected

    prompt = workflow("random_head", **{node: change})
    if node == "Render":  # an output node whose inputs are in order would run all the same
        prompt = {k: prompt[k] for k in ("1", "2", "3", "4", "7")}
    else:
        prompt = only(prompt)
    with pytest.raises(Rejected):
        client.run(prompt)


def test_foreign_checkpoint_is_refused_readably(client, comfy):
    """A file that is no FitDiff model, offered in models/fitdiff."""
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (comfy.base / "models" / "fitdiff" / "foreign.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + b"\0" * 4
    )
    try:
        run = client.run(workflow("random_head", LoadModel={"checkpoint": "foreign.safetensors"}))
        assert run.end == "execution_error" and "foreign.safetensors" in run.error
    finally:
        (comfy.base / "models" / "fitdiff" / "foreign.safetensors").unlink()


def test_foreign_latent_is_refused_readably(client):
    prompt = workflow("random_head")
    prompt["20"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}}
    prompt["3"]["inputs"]["latent"] = ["20", 0]
    run = client.run(only(prompt))
    assert run.end == "execution_error" and "latent" in run.error


@pytest.fixture(scope="module")
def small_pack(comfy) -> str:
    """An insightface pack with a small ArcFace network, where face nodes look for packs."""
    onnx = pytest.importorskip("onnx")
    from tests.support.onnx_networks import iresnet

    folder = comfy.base / "models" / "insightface" / "models" / "small"
    folder.mkdir(parents=True)
    onnx.save(iresnet(), folder / "recognition.onnx")
    return "small"


def guided_by(prompt: dict, source: list) -> dict:
    """Let `source` guide, while the built-in recogniser conditions."""
    prompt["5"]["inputs"]["recognizer"] = source
    return only(prompt) | {"16": prompt["16"]}


def test_an_insightface_pack_is_listed_and_guides(client, small_pack):
    listed = client.get_json("/object_info/FitDiff_LoadRecognizer")["FitDiff_LoadRecognizer"]["input"]["optional"][
        "recognizer"
    ]
    assert listed[1]["options"] == ["built-in", small_pack]
    prompt = workflow("photo_to_avatar", Sampler={"steps": 2})
    prompt["20"] = {"class_type": "FitDiff_LoadRecognizer", "inputs": {"recognizer": small_pack}}
    run = client.run(guided_by(prompt, ["20", 0]))
    assert run.end == "execution_success", run.error


@pytest.mark.parametrize(
    ("slot", "side"),
    list(enumerate([112, 112, 112, 112, 150])),
    ids=["INSIGHTFACE", "FACEANALYSIS", "FACE_ANALYSIS", "ANALYSIS_MODELS insightface", "ANALYSIS_MODELS dlib"],
)
def test_other_packs_face_analysis_is_understood(client, small_pack, slot, side):
    prompt = workflow("photo_to_avatar")
    prompt["20"] = {"class_type": "TestFaceAnalysis", "inputs": {"pack": small_pack, "recognition": True}}
    prompt["4"]["inputs"]["recognizer"] = ["20", slot]
    run = client.run({k: prompt[k] for k in ("1", "20", "4", "12")})
    assert run.end == "execution_success", run.error
    assert pictures(client, run.outputs)["12"].shape == (side, side, 3)


def test_face_analysis_without_recognition_is_refused_readably(client, small_pack):
    prompt = workflow("photo_to_avatar")
    prompt["20"] = {"class_type": "TestFaceAnalysis", "inputs": {"pack": small_pack, "recognition": False}}
    prompt["4"]["inputs"]["recognizer"] = ["20", 0]
    run = client.run({k: prompt[k] for k in ("1", "20", "4", "12")})
    assert run.end == "execution_error" and "recognition" in run.error


def test_conditioning_on_another_recogniser_is_refused_readably(client, small_pack):
    prompt = workflow("photo_to_avatar")
    prompt["20"] = {"class_type": "FitDiff_LoadRecognizer", "inputs": {"recognizer": small_pack}}
    prompt["4"]["inputs"]["recognizer"] = ["20", 0]
    del prompt["5"], prompt["6"]["inputs"]["guidance"]
    run = client.run(only(prompt))
    assert run.end == "execution_error" and "trained with" in run.error


def test_nothing_of_ours_warned(comfy, photo_run):
    """Warnings name the file they come from."""
    warned = [line for line in comfy.log().splitlines() if "Warning" in line and PACK in line]
    assert not warned, "\n".join(warned)
