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
