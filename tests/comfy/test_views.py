"""Lights, turntables, passes and atlas nodes in a real host."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.support.rgbe import runs
from tests.support.workflows import only, workflow

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(400)]
VIEW = {"yaw": 0.0, "pitch": 0.0, "distance": 0.9, "fov": 20.0, "width": 128, "height": 128}


def head(**nodes) -> dict:
    """A head sampled in one step (avatar: node 3, scene: 2, 1), and these nodes."""
    prompt = workflow("random_head", Sampler={"steps": 1, "seed": 5, "cfg": 1.0})
    return {k: prompt[k] for k in ("1", "2", "3")} | {
        k: {"class_type": kind, "inputs": inputs} for k, (kind, inputs) in nodes.items()
    }


def seen(client, run, node: str) -> np.ndarray:
    """All pictures of a preview node, `[N, H, W, 3]` 0..1."""
    assert run.end == "execution_success", run.error
    files = run.outputs[node]["images"]
    return np.stack(
        [np.asarray(Image.open(io.BytesIO(client.view(f))).convert("RGB"), np.float32) / 255 for f in files]
    )


def turntable(**changes):
    inputs = {
        "avatar": ["3", 0],
        "spin": "head",
        "frames": 4,
        "start": -40.0,
        "end": 40.0,
        "light": "side",
        **VIEW,
        **changes,
    }
    return ("FitDiff_Turntable", inputs)


def preview(source):
    return ("PreviewImage", {"images": source})


def test_turntable_spins_head_camera_and_light(client):
    nodes = {spin: turntable(spin=spin) for spin in ("head", "camera", "light")}
    nodes |= {f"see_{spin}": preview([spin, 0]) for spin in ("head", "camera", "light")}
    nodes |= {"masks": ("MaskToImage", {"mask": ["light", 1]}), "see_masks": preview(["masks", 0])}
    run = client.run(head(**nodes))
    frames = {spin: seen(client, run, f"see_{spin}") for spin in ("head", "camera", "light")}
    masks = seen(client, run, "see_masks")
    assert all(f.shape == (4, 128, 128, 3) for f in frames.values()) and masks.shape == (4, 128, 128, 3)
    assert all(np.abs(f[0] - f[3]).mean() > 0.02 for f in frames.values()), "something moves"
    assert np.abs(masks[0] - masks[3]).max() < 0.01, "where only the light spins, the head stays"
    done, total = run.progress("head")[-1]
    assert done == total > 0


def test_render_follows_a_turntable(client):
    """One head in the turntable's scenes: the same pictures again. Two heads in its three scenes do not fit."""
    again = {"avatar": ["3", 0], "camera": "scene", "light": "scene", "light_yaw": 0.0, **VIEW, "scene": ["t", 2]}
    nodes = {"t": turntable(frames=3), "r": ("FitDiff_Render", again), "a": preview(["t", 0]), "b": preview(["r", 0])}
    prompt = head(**nodes)
    run = client.run(prompt)
    first, second = seen(client, run, "a"), seen(client, run, "b")
    assert first.shape == (3, 128, 128, 3) and np.abs(first - second).max() < 0.02

    nodes["t"] = turntable(frames=3, width=64, height=64)
    prompt = head(
        **nodes,
        two=("FitDiff_Sampler", {**prompt["2"]["inputs"], "batch": 2}),
        heads=("FitDiff_DecodeUV", {"model": ["1", 0], "latent": ["two", 0]}),
    )
    prompt["r"]["inputs"]["avatar"] = ["heads", 0]
    run = client.run(prompt)
    assert run.end == "execution_error" and "2 heads" in run.error and "3 cameras" in run.error


def test_passes_follow_a_turntable(client):
    nodes = {
        "t": turntable(frames=3),
        "p": (
            "FitDiff_RenderPasses",
            {"avatar": ["3", 0], "camera": "scene", **VIEW, "normals": "opengl", "detail": True, "scene": ["t", 2]},
        ),
        "m": ("MaskToImage", {"mask": ["p", 2]}),
        "tm": ("MaskToImage", {"mask": ["t", 1]}),
        "s": ("MaskToImage", {"mask": ["p", 6]}),
        "e": ("MaskToImage", {"mask": ["p", 8]}),
    }
    names = {
        "depth": ["p", 0],
        "normal": ["p", 1],
        "mask": ["m", 0],
        "lineart": ["p", 3],
        "uv": ["p", 4],
        "turn": ["tm", 0],
        "skin": ["s", 0],
        "eyes": ["e", 0],
        "albedo": ["p", 9],
        "position": ["p", 10],
        "parts": ["p", 11],
    }
    run = client.run(head(**nodes, **{f"see_{k}": preview(v) for k, v in names.items()}))
    got = {k: seen(client, run, f"see_{k}") for k in names}
    assert all(x.shape == (3, 128, 128, 3) for x in got.values())
    assert np.abs(got["mask"] - got["turn"]).mean() < 0.01, "the passes see what the turntable saw"
    inside, outside = got["mask"][..., 0] > 0.99, got["mask"][..., 0] < 0.01
    assert got["depth"][inside].min() > 0.15 and got["depth"][outside].max() < 0.01 and got["depth"].max() > 0.95
    assert np.allclose(got["normal"][outside], [0.5, 0.5, 1], atol=0.01)
    toward = got["normal"][inside][:, 2]  # lashes are thin cards, and the edge of the neck is sharp
    assert np.quantile(toward, 0.01) > 0.4 and toward.min() > 0.2, "what is seen faces the viewer"
    assert 0.005 < got["lineart"].mean() < 0.3 and got["uv"][inside][:, 2].min() > 0.98
    skin, eyes = (got[k][..., 0] > 0.99 for k in ("skin", "eyes"))
    assert 0.5 < skin.mean() / inside.mean() < 1 and 0 < eyes.mean() < 0.05 and not (skin & eyes).any()
    assert np.allclose(got["parts"][skin] * 255, [224, 164, 136], atol=1.5) and not got["parts"][outside].any()
    assert got["albedo"][skin].mean() > 0.2 and not got["position"][outside].any()


def test_normal_protocols_differ_in_red_only(client):
    nodes = {
        style: (
            "FitDiff_RenderPasses",
            {"avatar": ["3", 0], "camera": "orbit", **VIEW, "normals": style, "detail": False},
        )
        for style in ("controlnet", "opengl")
    }
    run = client.run(head(**nodes, a=preview(["controlnet", 1]), b=preview(["opengl", 1])))
    a, b = seen(client, run, "a")[0], seen(client, run, "b")[0]
    assert np.abs(a[..., 1:] - b[..., 1:]).max() < 0.01 and np.abs(a[..., 0] + b[..., 0] - 1).max() < 0.02
    assert a[:, :50, 0].max() > 0.8 > 0.3 > b[:, :50, 0].min(), "controlnet: red is left"


def render(lighting):
    return (
        "FitDiff_Render",
        {"avatar": ["3", 0], "camera": "orbit", "light": "scene", "light_yaw": 0.0, **VIEW, "lighting": lighting},
    )


def lamp(azimuth, light=None, **changes):
    inputs = {
        "azimuth": azimuth,
        "elevation": 10.0,
        "intensity": 3.0,
        "temperature": 6500.0,
        "color": "#ffffff",
        "ambient": 0.02,
    }
    return ("FitDiff_DirectionalLight", inputs | changes | ({"light": light} if light else {}))


def test_lamps_shine_from_their_side_and_add_up(client):
    nodes = {
        "left": lamp(80.0),
        "right": lamp(-80.0, color="#ff0000"),
        "both": lamp(-80.0, light=["left", 0], color="#ff0000"),
        "scene": ("FitDiff_SceneLight", {"scene": ["2", 1], "intensity": 0.5, "rotation": 90.0}),
    }
    nodes |= {f"r_{k}": render([k, 0]) for k in list(nodes)}
    run = client.run(head(**nodes, **{f"see_{k}": preview([f"r_{k}", 0]) for k in ("left", "right", "both", "scene")}))
    shots = {k: seen(client, run, f"see_{k}")[0] for k in ("left", "right", "both", "scene")}
    face = np.s_[40:90]
    assert shots["left"][face, 64:90].mean() > 1.3 * shots["left"][face, 38:64].mean(), (
        "the subject's left is our right"
    )
    right = shots["right"][face, 38:64]
    assert right[..., 0].mean() > 2 * right[..., 2].mean(), "a red filter"
    assert (shots["both"] >= np.maximum(shots["left"], shots["right"]) - 0.02).all()
    assert shots["scene"].std() > 0.02


def test_a_colour_that_is_none_is_refused_readably(client):
    run = client.run(head(a=lamp(0.0, color="crimson"), r=render(["a", 0]), see=preview(["r", 0])))
    assert run.end == "execution_error" and "#rrggbb" in run.error


def test_an_hdr_panorama_lights_beyond_white(client, comfy):
    """The same panorama, as HDR and clipped to a picture."""
    sky = np.full((16, 32, 3), 0.05, np.float32)
    sky[6:8, 5:8] = 60.0  # left of the middle: the subject's left
    (comfy.base / "input" / "sky.hdr").write_bytes(runs(sky))
    environment = {"intensity": 1.0, "rotation": 0.0, "sources": 1, "encoding": "sRGB"}
    nodes = {
        "load": ("FitDiff_LoadEnvironment", {"file": "sky.hdr"}),
        "hdr": ("FitDiff_EnvironmentLight", {"image": ["load", 0], **environment}),
        "turned": ("FitDiff_EnvironmentLight", {"image": ["load", 0], **environment, "rotation": 180.0, "sources": 0}),
        "r_hdr": render(["hdr", 0]),
        "r_turned": render(["turned", 0]),
        "see_hdr": preview(["r_hdr", 0]),
        "see_turned": preview(["r_turned", 0]),
        "see_sky": preview(["load", 0]),
    }
    run = client.run(head(**nodes))
    hdr, turned, picture = (seen(client, run, k)[0] for k in ("see_hdr", "see_turned", "see_sky"))
    assert picture.shape == (16, 32, 3) and picture.max() == 1
    assert hdr[40:90, 64:90].mean() > 1.5 * hdr[40:90, 38:64].mean(), "it shines from the subject's left"
    assert hdr[40:90, 64:90].mean() > 0.3, "sixty times white, though small"
    assert turned[40:90, 38:64].mean() > turned[40:90, 64:90].mean()

    from tests.host.client import Rejected

    nodes["load"] = ("FitDiff_LoadEnvironment", {"file": "none.hdr"})
    with pytest.raises(Rejected, match="none.hdr"):
        client.run(head(**{k: nodes[k] for k in ("load", "see_sky")}))
    (comfy.base / "input" / "bad.hdr").write_bytes(b"#?RADIANCE\n\n-Y 4 +X 8\n")
    nodes["load"] = ("FitDiff_LoadEnvironment", {"file": "bad.hdr"})
    run = client.run(head(**{k: nodes[k] for k in ("load", "see_sky")}))
    assert run.end == "execution_error" and "bad.hdr" in run.error and "cut off" in run.error


def test_a_region_is_painted_through_its_mask(client):
    """Mask -> core composite -> Replace Maps -> render: only the lips turn blue."""
    nodes = {
        "mask": ("FitDiff_RegionMasks", {"region": "lips", "size": 512, "feather": 6.0}),
        "blue": ("EmptyImage", {"width": 512, "height": 512, "batch_size": 1, "color": 255}),
        "paint": (
            "ImageCompositeMasked",
            {
                "destination": ["3", 1],
                "source": ["blue", 0],
                "x": 0,
                "y": 0,
                "resize_source": False,
                "mask": ["mask", 0],
            },
        ),
        "new": ("FitDiff_ReplaceMaps", {"avatar": ["3", 0], "diffuse": ["paint", 0]}),
        "light": lamp(0.0, ambient=0.8),
        "plain": render(["light", 0]),
        "painted": render(["light", 0]),
        "a": preview(["plain", 0]),
        "b": preview(["painted", 0]),
        "layout": ("FitDiff_UVTemplate", {"size": 256, "names": True}),
        "see_layout": preview(["layout", 0]),
    }
    nodes["painted"][1]["avatar"] = ["new", 0]
    run = client.run(head(**nodes))
    plain, painted = seen(client, run, "a")[0], seen(client, run, "b")[0]
    changed = np.abs(plain - painted).max(-1) > 0.1
    rows, columns = np.nonzero(changed)
    assert 20 < changed.sum() < 0.05 * changed.size
    assert rows.min() > 70 and 40 < columns.min() < columns.max() < 88, "low in the middle of the face"
    assert (painted - plain)[changed][:, 2].mean() > (painted - plain)[changed][:, 0].mean() + 0.1
    assert seen(client, run, "see_layout").shape == (1, 256, 256, 3)


@pytest.mark.parametrize(
    "node, wrong",
    [
        ("FitDiff_RegionMasks", {"region": "tail", "size": 64, "feather": 0.0}),
        (
            "FitDiff_EnvironmentLight",
            {"image": ["3", 1], "intensity": 1.0, "rotation": 0.0, "sources": 1, "encoding": "gamma"},
        ),
        ("FitDiff_Turntable", turntable(spin="dance")[1]),
        ("FitDiff_RenderPasses", {"avatar": ["3", 0], "camera": "scene", **VIEW, "normals": "unity", "detail": True}),
    ],
)
def test_unknown_choices_are_refused(client, node, wrong):
    from tests.host.client import Rejected

    image = {"FitDiff_RegionMasks": ("MaskToImage", {"mask": ["x", 0]}), "FitDiff_EnvironmentLight": render(["x", 0])}
    source = {"y": image[node]} if node in image else {}
    with pytest.raises(Rejected):
        client.run(
            only(head(x=(node, wrong), **source))
            | {"see": {"class_type": "PreviewImage", "inputs": {"images": ["y" if source else "x", 0]}}}
        )
