"""Interrupts, progress bars, and what ComfyUI's "free memory" frees, in a real ComfyUI."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from pathlib import Path

import pytest

from tests.host import server
from tests.support.paths import ROOT, SAMPLE_NAME
from tests.support.prompt_nodes import guide

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(600)]

# These measure seconds, so they need a machine with nothing else to do.
timed = pytest.mark.skipif("FITDIFF_TIMING" not in os.environ, reason="set FITDIFF_TIMING=1 on an idle machine")
HEAD = {
    "model": {"class_type": "FitDiff_LoadModel", "inputs": {}},
    "latent": {"class_type": "FitDiff_Sampler", "inputs": {"model": ["model", 0], "steps": 1, "seed": 3}},
    "avatar": {"class_type": "FitDiff_DecodeUV", "inputs": {"model": ["model", 0], "latent": ["latent", 0]}},
}
PHOTO = {
    "photo": {"class_type": "FitDiff_LoadPhoto", "inputs": {"image": SAMPLE_NAME}},
    "recognizer": {"class_type": "FitDiff_LoadRecognizer", "inputs": {}},
    "guidance": guide(),
}
SHOWN = {"show": {"class_type": "PreviewImage", "inputs": {"images": ["end", 0]}}}
GUIDED = HEAD["latent"] | {"inputs": {**HEAD["latent"]["inputs"], "guidance": ["guidance", 0]}}


def node(kind: str, **inputs) -> dict:
    return {"class_type": f"FitDiff_{kind}", "inputs": inputs}


def export(**inputs):
    return HEAD | {"end": node("ExportMesh", avatar=["avatar", 0], filename_prefix="cut/head", **inputs)}


# the node "end" of each takes seconds
LONG = {
    "Photo Detail": HEAD
    | PHOTO
    | {"latent": GUIDED}
    | {
        "end": node("PhotoDetail", model=["model", 0], avatar=["avatar", 0], scene=["latent", 1], image=["photo", 0]),
        "mask": {"class_type": "MaskToImage", "inputs": {"mask": ["end", 1]}},
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["mask", 0]}},
    },
    "Skin Relief of 2048": HEAD
    | {
        "end": node("SkinRelief", avatar=["avatar", 0], texture_size="2048"),
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["end", 1]}},
    },
    "OBJ of 4096": export(format="obj", texture_size=4096, map_files="16-bit"),
    "GLB of 4096": export(format="glb", texture_size=4096),
    "Render of 4096": HEAD | SHOWN | {"end": node("Render", avatar=["avatar", 0], width=4096, height=4096)},
    "Turntable": HEAD | SHOWN | {"end": node("Turntable", avatar=["avatar", 0], width=1024, height=1024)},
    "Passes of 4096": HEAD | SHOWN | {"end": node("RenderPasses", avatar=["avatar", 0], width=4096, height=4096)},
    "UV Template of 8192": SHOWN | {"end": node("UVTemplate", size=8192)},
    "Sampler": HEAD
    | PHOTO
    | {
        "end": {"class_type": "FitDiff_Sampler", "inputs": {**GUIDED["inputs"], "steps": 50}},
        "avatar": node("DecodeUV", model=["model", 0], latent=["end", 0]),
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["avatar", 1]}},
    },
}


@pytest.fixture(scope="module")
def comfy(tmp_path_factory):
    """A server of this file's own, whose memory and files are looked at."""
    if not server.installed():
        pytest.skip("the ComfyUI test host is not installed: run `make host`")
    with server.Server(tmp_path_factory.mktemp("comfy_interrupts")) as running:
        yield running


def cpu(pid: int) -> float:
    """Seconds of CPU of a process. The clock would also count what else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def interrupt_later(client, pid: int, seconds: float, seen: dict):
    """Calls for `run`: interrupts when the node "end" has worked for `seconds` of CPU."""

    def wait(start):
        while cpu(pid) - start < seconds and not seen.get("over"):
            time.sleep(0.02)
        seen["cpu"], seen["clock"] = cpu(pid), time.monotonic()
        client.interrupt()

    def on_event(kind, data):
        if kind == "executing" and data.get("node") == "end" and "thread" not in seen:
            seen["thread"] = threading.Thread(target=wait, args=(cpu(pid),))
            seen["thread"].start()
        if kind in ("execution_success", "execution_error", "execution_interrupted"):
            seen["over"], seen["end"], seen["end_cpu"] = True, kind, cpu(pid)

    return on_event


@timed
@pytest.mark.parametrize("name", LONG)
def test_every_node_stops_within_two_seconds_and_leaves_no_file(name, client, comfy):
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    pid, slowest, stopped = comfy.process.pid, 0.0, 0
    for seconds in (0.3, 1.0, 2.0, 3.5):
        seen: dict = {}
        run = client.run(LONG[name], on_event=interrupt_later(client, pid, seconds, seen))
        if "thread" in seen:
            seen["thread"].join()
        assert run.end in ("execution_interrupted", "execution_success"), run.error
        if run.end == "execution_success":
            break  # it is over before that
        stopped += 1
        slowest = max(slowest, seen["end_cpu"] - seen["cpu"])
        assert not list(comfy.base.glob("output/cut/*")) and not list(comfy.base.rglob("*.part"))
    print(f"\n{name}: stopped {stopped} times, after at most {slowest:.2f} s of CPU")
    assert stopped and slowest < 2
    client.post("/free", {"unload_models": True, "free_memory": True})  # so that nothing is cached for the next


@timed
@pytest.mark.parametrize("name", [n for n in LONG if n != "Sampler"])
def test_nodes_of_more_than_a_second_have_a_progress_bar(name, client):
    run = client.run(LONG[name])
    assert run.end == "execution_success", run.error
    shares = [value / total for value, total in run.progress("end")]
    assert len(set(shares)) >= 3 and shares == sorted(shares) and shares[-1] == 1, shares


PICTURE = HEAD | {"show": {"class_type": "PreviewImage", "inputs": {"images": ["avatar", 1]}}}
salts = itertools.count()


def live(client, graph: dict) -> dict:
    """What is in the server's memory. graph: has run already; with it, its cached outputs stay."""
    run = client.run(graph | {"live": {"class_type": "TestLiveNetworks", "inputs": {"salt": next(salts)}}})
    assert run.end == "execution_success", run.error
    return json.loads(run.outputs["live"]["text"][0])


def free(client, **what) -> None:
    client.post("/free", what)
    time.sleep(1.5)  # the server's worker looks at it when it is idle


def test_free_frees_our_networks(client):
    graph = PICTURE | PHOTO | {"person": node("EncodeIdentity", image=["photo", 0], recognizer=["recognizer", 0])}
    graph["crop"] = {"class_type": "PreviewImage", "inputs": {"images": ["person", 1]}}
    run = client.run(graph)
    assert run.end == "execution_success", run.error
    before = live(client, graph)
    assert before["Denoiser"] == 1 and before["patchers"] >= 3, before
    free(client, unload_models=True, free_memory=True)
    after = live(client, {})
    assert after["Denoiser"] == 0 and after["patchers"] == 0, (before, after)
    assert after["bytes"] < before["bytes"] - 50e6, (before, after)
    assert client.run(PICTURE).end == "execution_success", "they come back"


def test_unload_models_alone_leaves_the_graph_working(client):
    assert client.run(PICTURE).end == "execution_success"
    assert live(client, PICTURE)["patchers"] >= 1
    free(client, unload_models=True)
    assert live(client, PICTURE)["patchers"] == 0, "ComfyUI must take them for unloaded"
    another = PICTURE | {"latent": node("Sampler", model=["model", 0], steps=1, seed=99)}
    assert client.run(another).end == "execution_success", "the model comes from the graph's cache"
    after = live(client, another)
    assert after["patchers"] >= 1 and after["Denoiser"] == 1, after


@pytest.mark.parametrize("path", sorted((ROOT / "workflows" / "api").glob("*.json")), ids=lambda p: p.stem)
def test_shipped_api_workflow_is_accepted_without_its_defaults(path, client):
    """ComfyUI checks the whole graph, calling each node's own check, before it runs anything."""
    info, prompt = client.get_json("/object_info"), json.loads(path.read_text())
    gone = 0
    for one in prompt.values():
        if not one["class_type"].startswith("FitDiff_"):
            continue
        declared = info[one["class_type"]]["input"]
        for name, (_, options) in {**declared.get("required", {}), **declared.get("optional", {})}.items():
            if "default" in options and "image_upload" not in options and name in one["inputs"]:
                del one["inputs"][name]
                gone += 1
    assert gone >= 5
    assert client.queue(prompt)
    client.interrupt()
    client.post("/queue", {"clear": True})


def test_every_node_may_go_without_what_has_a_default(client):
    for name, one in client.get_json("/object_info").items():
        if name.startswith("FitDiff_"):
            required = one["input"].get("required", {})
            left = [n for n, (_, options) in required.items() if options.get("default") is not None]
            # the frontend adds its upload button to required inputs only
            assert not [n for n in left if "image_upload" not in required[n][1]], name


def test_a_graph_without_its_defaults_runs(client):
    graph = HEAD | {
        "end": node("Render", avatar=["avatar", 0]),
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["end", 0]}},
        "file": node("ExportMesh", avatar=["avatar", 0]),
        "mask": node("RegionMasks"),
        "shown": {"class_type": "MaskToImage", "inputs": {"mask": ["mask", 0]}},
        "see": {"class_type": "PreviewImage", "inputs": {"images": ["shown", 0]}},
    }
    run = client.run(graph)
    assert run.end == "execution_success", run.error
    assert run.outputs["file"]["3d"][0]["filename"].startswith("avatar_")
