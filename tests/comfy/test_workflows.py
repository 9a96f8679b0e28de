"""Every shipped workflow runs headless in a real ComfyUI, with few steps, and gives what its nodes' titles promise."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.support.workflows import read_glb, workflow

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(400)]


def run(client, name: str, **changes) -> tuple[dict, dict[str, np.ndarray]]:
    """The workflow with two steps -> outputs by node id, and by title the first picture of each preview."""
    prompt = workflow(name, **{"Sampler": {"steps": 2}, **changes})
    done = client.run(prompt, timeout=360)
    assert done.end == "execution_success", done.error
    pictures = {}
    for node, output in done.outputs.items():
        if prompt[node]["class_type"] == "PreviewImage":
            picture = Image.open(io.BytesIO(client.view(output["images"][0]))).convert("RGB")
            pictures[prompt[node]["_meta"]["title"]] = np.asarray(picture, np.float32) / 255
    assert len(pictures) == sum(v["class_type"] == "PreviewImage" for v in prompt.values())
    for title, picture in pictures.items():
        assert picture.std() > 0.01, f"{name}: {title} is blank"
    return done.outputs, pictures


def glb(client, outputs: dict, node: str) -> dict:
    return read_glb(client.view(outputs[node]["3d"][0]))


# the three that begin with the same photo follow each other: the host keeps the fitted scene from one to the next


def test_relit_passes_lie_on_one_another(client):
    _, seen = run(client, "avatar_relit_passes")
    assert {x.shape for x in seen.values()} == {(768, 768, 3)}
    lamps, turned = seen["Three lamps"], seen["The photo's light, turned"]
    inside = seen["Mask"][..., 0] > 0.99
    outside = seen["Mask"][..., 0] < 0.01
    assert 0.2 < inside.mean() < 0.9
    assert np.abs(lamps - turned)[inside].mean() > 0.03, "two lights"
    assert np.quantile(np.abs(lamps - turned)[outside], 0.999) < 0.01, (
        "one view"
    )  # a bright rim shows below 1 % coverage
    assert seen["Depth"][inside].min() > 0.1 and seen["Depth"][outside].max() < 0.01
    assert 0.003 < seen["Line art"].mean() < 0.3 and seen["Normals"][inside][:, 2].mean() > 0.6


def test_maps_are_upscaled_and_put_back(client):
    outputs, seen = run(client, "maps_upscaled")
    assert seen["Diffuse albedo, 1024"].shape == (1024, 1024, 3)
    before, after = seen["Before: 512"], seen["After: 1024"]
    assert 0.0005 < np.abs(before - after).mean() < 0.05, "the same head, other texels"
    gltf = glb(client, outputs, "20")
    assert len(gltf["images"]) >= 2


def test_several_photos_make_one_identity(client):
    outputs, seen = run(client, "several_photos")
    assert len(outputs["17"]["images"]) == 2, "both photos go into the average"
    assert np.abs(seen["As in the first photo"] - seen["From the side"]).mean() > 0.02
    glb(client, outputs, "15")


def test_cast_is_of_nine_and_one_is_picked(client):
    outputs, seen = run(client, "random_cast", Sampler={"steps": 6})
    sheet = seen["The cast"]
    assert sheet.shape == (3 * 384 + 8, 3 * 384 + 8, 3)
    cells = [sheet[y : y + 384, x : x + 384] for y in (0, 388, 776) for x in (0, 388, 776)]
    assert all(np.abs(a - b).mean() > 0.005 for i, a in enumerate(cells) for b in cells[:i]), "nine people"
    assert len(outputs["10"]["3d"]) == 1
    glb(client, outputs, "10")


def test_walk_goes_from_one_person_to_the_other(client, comfy):
    outputs, seen = run(client, "identity_walk", Sampler={"steps": 4})
    sheet = seen["The walk"]
    assert sheet.shape == (384, 7 * 384 + 6 * 4, 3)
    frames = [sheet[:, 388 * i : 388 * i + 384] for i in range(7)]
    steps = [np.abs(a - b).mean() for a, b in zip(frames, frames[1:], strict=False)]
    ends = np.abs(frames[0] - frames[-1]).mean()
    assert min(steps) > 0 and max(steps) < 0.6 * ends, "no frame jumps: they share their noise"
    half = np.asarray(Image.fromarray((seen["Half way"] * 255).astype(np.uint8)).resize((384, 384)), np.float32) / 255
    assert np.abs(half - frames[3]).mean() < 0.5 * ends, "the blend is the middle of the walk"
    film = outputs["22"]["images"][0]
    with Image.open(comfy.base / "output" / film["subfolder"] / film["filename"]) as picture:
        assert picture.n_frames == 7


def test_a_talking_face_moves_the_head(client, comfy):
    outputs, _ = run(
        client, "driven_head", PhotoToHead={"steps": 2, "hair": "none"}, Render={"width": 96, "height": 96}
    )
    film = outputs["9"]["images"][0]
    with Image.open(comfy.base / "output" / film["subfolder"] / film["filename"]) as picture:
        assert picture.n_frames == 25
        first, later = (np.asarray(_frame(picture, k), np.float32) / 255 for k in (0, 12))
    assert np.abs(first - later).mean() > 0.005, "the head moves"
    (animation,) = glb(client, outputs, "5")["animations"]
    assert {c["target"]["path"] for c in animation["channels"]} == {"weights", "rotation"}


def _frame(picture: Image.Image, k: int) -> Image.Image:
    picture.seek(k)
    return picture.convert("RGB")
