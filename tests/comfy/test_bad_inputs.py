"""Every row of the table of bad and odd inputs that is for the nodes, in a real ComfyUI."""

from __future__ import annotations

import pytest

from tests.bad_inputs.table import table
from tests.host import server
from tests.host.client import Rejected

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def comfy(tmp_path_factory):
    """A server of this file's own: other tests read the shared one's log for complaints."""
    if not server.installed():
        pytest.skip("the ComfyUI test host is not installed: run `make host`")
    with server.Server(tmp_path_factory.mktemp("comfy_bad_inputs")) as running:
        yield running


@pytest.mark.parametrize("case", table("nodes"), ids=lambda c: c.id)
def test_in_a_real_comfyui(case, comfy, client):
    prompt = case.make(comfy.base / "input")
    before = set(comfy.base.parent.rglob("*.part")) | {p for p in (comfy.base / "output").rglob("*") if p.is_file()}
    outside = set(comfy.base.glob("*")) | set(comfy.base.glob("input/*"))
    try:
        run = client.run(prompt, timeout=100)
        outcome = {"execution_success": "works", "execution_error": "stops"}[run.end]
        error = run.error
    except Rejected as e:
        outcome, error = "refused", str(e)
    assert outcome == case.outcome, error
    assert outcome == "works" or case.says in error, error
    assert "Traceback" not in error
    after = set(comfy.base.parent.rglob("*.part")) | {p for p in (comfy.base / "output").rglob("*") if p.is_file()}
    written = [n for n in prompt.values() if n["class_type"] == "FitDiff_ExportMesh"] and outcome == "works"
    assert bool(after - before) == bool(written)
    assert set(comfy.base.glob("*")) | set(comfy.base.glob("input/*")) == outside, "a file outside the output folder"


def test_every_choice_is_checked_when_the_prompt_is_queued(comfy, client):
    """Each combo input of each node, with a value that it does not offer: refused once, on that input."""
    everything = client.get_json("/object_info")
    ours = {k: v for k, v in everything.items() if v["python_module"] == f"custom_nodes.{server.PACK}"}
    checked = 0
    for name, info in ours.items():
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        for choice, (kind, _) in inputs.items():
            if kind != "COMBO" and not isinstance(kind, list):
                continue
            checked += 1
            prompt = {"odd": {"class_type": name, "inputs": {choice: "of no kind"}}}
            if not info["output_node"]:
                prompt["end"] = {"class_type": "PreviewAny", "inputs": {"source": ["odd", 0]}}
            with pytest.raises(Rejected) as refused:
                client.queue(prompt)
            said = [e for e in str(refused.value).split("; ") if "of no kind" in e]
            assert len(said) == 1 and f": {choice}" in said[0], f"{name}.{choice}: {said}"
    assert checked >= 20
