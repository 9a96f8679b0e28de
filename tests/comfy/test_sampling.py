"""ComfyUI's own samplers drive our model in a real host, and our latents pass through its latent nodes."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from tests.support.paths import SAMPLE_NAME
from tests.support.prompt_nodes import guide
from tests.support.workflows import pictures

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(400)]


NEAR = 0.02  # of unit variance: core adds in another order, which bfloat16 rounds otherwise


def ours(**changes) -> dict:
    """FitDiff Sampler, its latent saved as `own`."""
    inputs = {"model": ["1", 0], "seed": 3, "steps": 4, "cfg": 1.0, "batch": 1, "sampler": "ddim", **changes}
    return {
        "1": {"class_type": "FitDiff_LoadModel", "inputs": {"checkpoint": "built-in"}},
        "2": {"class_type": "FitDiff_Sampler", "inputs": inputs},
        "3": {"class_type": "SaveLatent", "inputs": {"samples": ["2", 0], "filename_prefix": "latents/own"}},
    }


def core(
    sampler: str = "euler", steps: int = 4, cfg: float = 1.0, seed: int = 3, batch: int = 1, sigmas: dict | None = None
) -> dict:
    """The same by SamplerCustomAdvanced, its latent saved as `core`."""
    sigmas = sigmas or {"class_type": "FitDiff_Sigmas", "inputs": {"steps": steps, "spacing": "logsnr", "denoise": 1.0}}
    return {
        "1": {"class_type": "FitDiff_LoadModel", "inputs": {"checkpoint": "built-in"}},
        "10": {"class_type": "FitDiff_Guider", "inputs": {"model": ["1", 0], "cfg": cfg}},
        "11": sigmas,
        "12": {"class_type": "FitDiff_EmptyLatent", "inputs": {"model": ["1", 0], "batch": batch}},
        "13": {"class_type": "RandomNoise", "inputs": {"noise_seed": seed}},
        "14": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": sampler}},
        "15": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["13", 0],
                "guider": ["10", 0],
                "sampler": ["14", 0],
                "sigmas": ["11", 0],
                "latent_image": ["12", 0],
            },
        },
        "16": {"class_type": "SaveLatent", "inputs": {"samples": ["15", 0], "filename_prefix": "latents/core"}},
    }


def saved(comfy, run, node: str) -> torch.Tensor:
    """The tensor that a SaveLatent node wrote."""
    assert run.end == "execution_success", run.error
    file = run.outputs[node]["latents"][0]
    return load_file(comfy.base / "output" / file["subfolder"] / file["filename"])["latent_tensor"]


def test_core_samplers_and_ours_walk_the_same_way(client, comfy):
    for core_name, own_name in (("euler", "ddim"), ("dpmpp_2m", "dpmpp_2m")):
        run = client.run(ours(sampler=own_name) | core(core_name))
        own, theirs = saved(comfy, run, "3"), saved(comfy, run, "16")
        assert own.shape == theirs.shape and own.std() > 0.3
        assert (own - theirs).abs().max() < NEAR, core_name
        assert run.progress("15")[-1] == (4, 4) and run.previews >= 2


@pytest.mark.parametrize(
    "sampler",
    [
        "euler_ancestral",
        "heun",
        "dpm_2",
        "lms",
        "dpmpp_2s_ancestral",
        "dpmpp_sde",
        "dpmpp_3m_sde",
        "uni_pc",
        "ddim",
        "lcm",
        "euler_cfg_pp",
        "res_multistep",
        "gradient_estimation",
        "er_sde",
        "sa_solver",
    ],
)
def test_any_core_sampler_gives_a_head(client, comfy, sampler):
    latent = saved(comfy, client.run(core(sampler, cfg=1.3)), "16")
    # four steps from sigma 400 to 0 are long ones, and second-order samplers overshoot
    assert torch.isfinite(latent).all() and 0.2 < latent[:, :-1].std() < 8, sampler


def test_core_schedules_serve_too(client, comfy):
    karras = {
        "class_type": "KarrasScheduler",
        "inputs": {"steps": 4, "sigma_max": 400.0, "sigma_min": 0.02, "rho": 7.0},
    }
    theirs = saved(comfy, client.run(core("euler", sigmas=karras)), "16")
    mine = {"class_type": "FitDiff_Sigmas", "inputs": {"steps": 4, "spacing": "karras", "denoise": 1.0}}
    assert (theirs - saved(comfy, client.run(core("euler", sigmas=mine)), "16")).abs().max() < NEAR


def test_partial_denoising_varies_a_head(client, comfy):
    prompt = ours() | core(
        sigmas={"class_type": "FitDiff_Sigmas", "inputs": {"steps": 2, "spacing": "logsnr", "denoise": 0.2}}, seed=8
    )
    prompt["15"]["inputs"]["latent_image"] = ["2", 0]
    run = client.run(prompt)
    own, varied = saved(comfy, run, "3"), saved(comfy, run, "16")
    near = (varied - own).square().mean()
    assert 0 < near < 0.5 * (own.roll(1, 2) - own).square().mean()


def test_a_noise_mask_resamples_the_texture_there_and_keeps_the_shape(client, comfy):
    prompt = (
        ours()
        | core(seed=9)
        | {
            "20": {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 512, "height": 512}},
            "21": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 256, "height": 512}},
            "22": {
                "class_type": "MaskComposite",
                "inputs": {"destination": ["20", 0], "source": ["21", 0], "x": 0, "y": 0, "operation": "add"},
            },
            "23": {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["2", 0], "mask": ["22", 0]}},
        }
    )
    prompt["15"]["inputs"]["latent_image"] = ["23", 0]
    run = client.run(prompt)
    own, painted = saved(comfy, run, "3"), saved(comfy, run, "16")
    half = own.shape[-1] // 2
    assert torch.allclose(own[:, -1], painted[:, -1], atol=1e-4), "the shape stays"
    assert torch.allclose(own[..., half + 1 :], painted[..., half + 1 :], atol=1e-4), "outside the mask nothing changes"
    assert (own - painted)[:, :-1, :, : half - 1].abs().mean() > 0.05


def test_interrupt_stops_the_core_sampler_and_the_next_prompt_runs(client):
    seen = []

    def stop(kind, data):
        if kind == "progress":
            seen.append(data["value"])
            if data["value"] == 3 and seen.count(3) == 1:
                client.interrupt()

    run = client.run(core(steps=300, seed=77), on_event=stop)
    assert run.end == "execution_interrupted" and seen[-1] <= 5
    assert client.run(core(steps=1, seed=78)).end == "execution_success"


def test_latents_survive_save_load_blend_and_batch(client, comfy):
    prompt = ours(batch=2, steps=1) | {
        "20": {"class_type": "LatentFromBatch", "inputs": {"samples": ["2", 0], "batch_index": 0, "length": 1}},
        "21": {"class_type": "LatentFromBatch", "inputs": {"samples": ["2", 0], "batch_index": 1, "length": 1}},
        "22": {
            "class_type": "LatentBlend",
            "inputs": {"samples1": ["20", 0], "samples2": ["21", 0], "blend_factor": 0.25},
        },
        "23": {"class_type": "LatentBatch", "inputs": {"samples1": ["2", 0], "samples2": ["22", 0]}},
        "24": {"class_type": "SaveLatent", "inputs": {"samples": ["23", 0], "filename_prefix": "latents/three"}},
    }
    run = client.run(prompt)
    own, three = saved(comfy, run, "3"), saved(comfy, run, "24")
    assert three.shape[0] == 3 and torch.equal(three[:2], own)
    assert torch.allclose(three[2], 0.25 * own[0] + 0.75 * own[1], atol=1e-6)

    file = run.outputs["24"]["latents"][0]
    shutil.copy(comfy.base / "output" / file["subfolder"] / file["filename"], comfy.base / "input" / "three.latent")
    again = client.run(
        {
            "1": prompt["1"],
            "2": {"class_type": "LoadLatent", "inputs": {"latent": "three.latent"}},
            "3": {"class_type": "FitDiff_DecodeUV", "inputs": {"model": ["1", 0], "latent": ["2", 0]}},
            "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 1]}},
            "5": {"class_type": "SaveLatent", "inputs": {"samples": ["2", 0], "filename_prefix": "latents/again"}},
        }
    )
    assert torch.equal(saved(comfy, again, "5"), three)
    assert len(again.outputs["4"]["images"]) == 3


def test_guidance_works_through_the_core_sampler(client, comfy):
    """Same noise, same steps: the guided latents agree, and the fitted scene is the sampler's."""
    photo = {
        "30": {"class_type": "FitDiff_LoadPhoto", "inputs": {"image": SAMPLE_NAME}},
        "31": {"class_type": "FitDiff_LoadRecognizer", "inputs": {"recognizer": "built-in"}},
        "32": {
            "class_type": "FitDiff_EncodeIdentity",
            "inputs": {"image": ["30", 0], "recognizer": ["31", 0], "face": 0},
        },
        "33": guide("30", "31", perceptual=0.1, landmark=1.0, sigma_start=1000.0, sigma_end=0.0),
        "34": {"class_type": "FitDiff_FittedScene", "inputs": {"guider": ["10", 0], "latent": ["15", 0]}},
        "35": {"class_type": "FitDiff_DecodeUV", "inputs": {"model": ["1", 0], "latent": ["15", 0]}},
    }
    render = {
        "camera": "scene",
        "yaw": 0.0,
        "pitch": 0.0,
        "distance": 0.8,
        "fov": 20.0,
        "light": "scene",
        "light_yaw": 0.0,
        "width": 256,
        "height": 256,
        "avatar": ["35", 0],
    }
    for node, scene in (("36", ["34", 0]), ("37", ["2", 1])):
        photo[node] = {"class_type": "FitDiff_Render", "inputs": {**render, "scene": scene}}
        photo[f"4{node}"] = {"class_type": "PreviewImage", "inputs": {"images": [node, 0]}}
    prompt = ours(steps=2, identity=["32", 0], guidance=["33", 0]) | core(steps=2) | photo
    prompt["10"]["inputs"] |= {"identity": ["32", 0], "guidance": ["33", 0]}
    run = client.run(prompt)
    own, theirs = saved(comfy, run, "3"), saved(comfy, run, "16")
    assert (own - theirs).abs().max() < 5 * NEAR and (own - theirs).square().mean() < 1e-4
    seen = pictures(client, run.outputs)
    assert seen["436"].std() > 0.05 and abs(seen["436"] - seen["437"]).mean() < 2e-3, "both samplers fit the same scene"


def test_a_foreign_latent_is_refused_readably(client):
    prompt = core()
    prompt["12"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}}
    run = client.run(prompt)
    assert run.end == "execution_error" and "latent" in run.error and "Empty Latent" in run.error


def test_a_guider_that_did_not_sample_has_no_scene(client):
    prompt = ours(steps=1) | {"10": core()["10"]}
    prompt |= {
        "20": {"class_type": "FitDiff_FittedScene", "inputs": {"guider": ["10", 0], "latent": ["2", 0]}},
        "21": {"class_type": "FitDiff_DecodeUV", "inputs": {"model": ["1", 0], "latent": ["2", 0]}},
        "22": {
            "class_type": "FitDiff_Render",
            "inputs": {
                "camera": "scene",
                "yaw": 0.0,
                "pitch": 0.0,
                "distance": 0.8,
                "fov": 20.0,
                "light": "scene",
                "light_yaw": 0.0,
                "width": 64,
                "height": 64,
                "avatar": ["21", 0],
                "scene": ["20", 0],
            },
        },
        "23": {"class_type": "PreviewImage", "inputs": {"images": ["22", 0]}},
    }
    run = client.run(prompt)
    assert run.end == "execution_error" and "guider" in run.error


def test_a_walk_shares_its_noise_through_core_too(client, comfy):
    """FitDiff Sampler with batch 1 and core's fixed batch seed give the same heads. Another batch size is refused."""
    people = {
        "30": {"class_type": "FitDiff_LoadPhoto", "inputs": {"image": SAMPLE_NAME}},
        "31": {"class_type": "ImageFlip", "inputs": {"image": ["30", 0], "flip_method": "y-axis: horizontally"}},
        "32": {"class_type": "FitDiff_LoadRecognizer", "inputs": {"recognizer": "built-in"}},
        "33": {
            "class_type": "FitDiff_EncodeIdentity",
            "inputs": {"image": ["30", 0], "recognizer": ["32", 0], "face": 0},
        },
        "34": {
            "class_type": "FitDiff_EncodeIdentity",
            "inputs": {"image": ["31", 0], "recognizer": ["32", 0], "face": 0},
        },
        "35": {
            "class_type": "FitDiff_WalkIdentities",
            "inputs": {"identity_a": ["33", 0], "identity_b": ["34", 0], "frames": 3},
        },
        "36": {"class_type": "LatentBatchSeedBehavior", "inputs": {"samples": ["12", 0], "seed_behavior": "fixed"}},
    }
    prompt = ours(identity=["35", 0]) | core(batch=3) | people
    prompt["10"]["inputs"]["identity"] = ["35", 0]
    prompt["15"]["inputs"]["latent_image"] = ["36", 0]
    run = client.run(prompt)
    own, theirs = saved(comfy, run, "3"), saved(comfy, run, "16")
    assert own.shape[0] == 3 and (own - theirs).abs().max() < NEAR
    assert (own[0] - own[2]).abs().mean() > 1e-3, "the people differ"

    prompt["12"]["inputs"]["batch"] = 2
    run = client.run(prompt)
    assert run.end == "execution_error" and "3 identities" in run.error and "Empty Latent" in run.error
