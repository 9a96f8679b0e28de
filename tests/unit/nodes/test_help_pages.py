"""Help pages of the main nodes in Chinese and Japanese, where ComfyUI's page looks for them: docs/NODE/LANGUAGE.md."""

from __future__ import annotations

import json

import pytest

from tests.support.paths import GOLDEN, ROOT

MAIN = "LoadPhoto PhotoToHead FindFaces LoadModel EncodeIdentity Guidance Sampler DecodeUV Render ExportMesh".split()
NODES = json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("language", ["zh", "ja"])
@pytest.mark.parametrize("name", MAIN)
def test_it_names_every_input_and_output(name, language):
    node = NODES[f"FitDiff_{name}"]
    translated = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text())[f"FitDiff_{name}"]
    page = (ROOT / "web" / "docs" / f"FitDiff_{name}" / f"{language}.md").read_text()
    assert page.startswith(f"# {translated['display_name']}\n") and f'<img src="pictures/FitDiff_{name}.png"' in page
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    for kind in ("inputs", "outputs"):
        for i, key in enumerate(node[kind]):
            text = translated[kind][key if kind == "inputs" else str(i)]["name"]
            assert f"{key} ({text})" in rows, f"{kind}: {key}"


def test_every_translated_page_is_of_a_node():
    pages = [p.relative_to(ROOT / "web" / "docs").parts for p in (ROOT / "web" / "docs").glob("*/*.md")]
    assert {node for node, _ in pages} == {f"FitDiff_{name}" for name in MAIN}
    assert {page for _, page in pages} == {"zh.md", "ja.md"}
