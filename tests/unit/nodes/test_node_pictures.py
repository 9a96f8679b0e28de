"""Each node's picture: there, of the node as it is now, small, and shown by README and by the node's help page."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

from tests.support.paths import GOLDEN as GOLDEN_FILE
from tests.support.paths import ROOT
from tests.support.pictures import FOLDER, SCALE, WIDTH, shows

GOLDEN = json.loads(GOLDEN_FILE.read_text())  # tests/comfy/test_load.py holds the nodes to it


@pytest.mark.parametrize("node", GOLDEN)
def test_picture_is_of_the_node_as_it_is(node):
    names = {"input": {"required": GOLDEN[node]["inputs"]}, "output_name": list(GOLDEN[node]["outputs"])}
    with Image.open(FOLDER / f"{node}.png") as picture:
        assert picture.text["shows"] == shows(names), "run `python -m tests.host.node_pictures`"
        assert picture.width >= WIDTH * SCALE and picture.height >= 100 * SCALE
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20, "blank"


def test_pictures_are_small_and_of_nodes_that_exist():
    files = list(FOLDER.iterdir())
    assert {f.stem for f in files} == set(GOLDEN)
    assert sum(f.stat().st_size for f in files) < 700_000


@pytest.mark.parametrize("node", GOLDEN)
def test_readme_and_help_page_show_it(node):
    shown = re.compile(
        rf'<img src="web/docs/pictures/{node}\.png" width="\d+" alt="[^"]+"><br>\n\[[^]]+\]\(web/docs/{node}\.md\): \S'
    )
    assert len(shown.findall((ROOT / "README.md").read_text())) == 1
    assert f'<img src="pictures/{node}.png"' in (ROOT / "web" / "docs" / f"{node}.md").read_text()
