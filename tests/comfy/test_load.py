"""A real ComfyUI loads the pack: no complaint in its log, its nodes with frozen names, docs and workflows found."""

from __future__ import annotations

import json
import re

import pytest

from tests.host.server import PACK
from tests.support.paths import GOLDEN, ROOT, SAMPLE, SAMPLE_NAME

pytestmark = [pytest.mark.comfy, pytest.mark.timeout(240)]
WORKFLOWS = [
    "avatar_relit_passes",
    "driven_head",
    "identity_walk",
    "maps_upscaled",
    "photo_to_avatar",
    "photo_to_head",
    "random_cast",
    "several_photos",
]


def names(info: dict) -> dict:
    """What a saved workflow relies on: ids, the order of outputs, types."""
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    return {
        # 0.3.75 sends the options in place of the type
        "inputs": {k: "COMBO" if isinstance(v[0], list) else v[0] for k, v in inputs.items()},
        "optional": sorted(info["input"].get("optional", {})),
        "outputs": dict(zip(info["output_name"], info["output"], strict=True)),
    }


@pytest.fixture(scope="module")
def nodes(comfy) -> dict[str, dict]:
    from tests.host.client import Client

    everything = Client(comfy.url).get_json("/object_info")
    return {k: v for k, v in everything.items() if v["python_module"] == f"custom_nodes.{PACK}"}


def test_names_are_the_frozen_ones(nodes):
    assert {k: names(v) for k, v in nodes.items()} == json.loads(GOLDEN.read_text())


def test_every_node_explains_itself(nodes):
    for node, info in nodes.items():
        assert info["category"].split("/")[0] == "FitDiff" and info["description"], node
        assert info["display_name"].startswith("FitDiff "), node
        for kind in ("required", "optional"):
            for name, (_, options) in info["input"].get(kind, {}).items():
                assert options.get("tooltip"), f"{node}.{name} has no tooltip"


def test_nodes_stand_in_groups_and_the_main_one_above(nodes):
    assert nodes["FitDiff_PhotoToHead"]["category"] == "FitDiff"
    groups = {info["category"] for node, info in nodes.items() if node != "FitDiff_PhotoToHead"}
    assert groups == {f"FitDiff/{g}" for g in ("photo", "sampling", "maps", "light and pictures", "export")}


@pytest.mark.parametrize("word", ["face", "avatar", "head", "3d", "expression", "relight"])
def test_search_finds_us_by_name(nodes, word):
    """Hosts of the 0.3 series drop `search_aliases`, and the page searches ids and names only."""
    assert any(word in f"{node} {info['display_name']}".lower() for node, info in nodes.items())


def test_the_sample_is_offered_first_and_the_page_can_show_it(nodes, client, comfy):
    options = nodes["FitDiff_LoadPhoto"]["input"]["required"]["image"][1]
    assert options["default"] == options["options"][0] == SAMPLE_NAME and options["image_upload"] is True
    file, folder = SAMPLE_NAME.removesuffix(" [temp]").split("/")[::-1]
    assert client.get("/view", filename=file, subfolder=folder, type="temp") == SAMPLE.read_bytes()
    assert not any((comfy.base / "input").glob("*.jpg")), "nothing of ours in the user's folder"


def test_every_node_has_a_help_page(nodes, client):
    for node in nodes:
        page = client.get(f"/extensions/{PACK}/docs/{node}.md").decode()
        assert page.startswith("# ") and node in page
        assert client.get(f"/extensions/{PACK}/docs/pictures/{node}.png").startswith(b"\x89PNG"), node


def test_log_has_no_complaint(comfy, nodes):
    """The host has no torchaudio, on purpose; two core modules say so, and nothing else may complain."""
    log = comfy.log().split("To see the GUI go to")[0]  # of the start: later tests provoke errors of their own
    assert re.search(rf"[\d.]+ seconds: .*{PACK}$", log, re.MULTILINE), "the import is not in the log"
    errors = re.findall(r"^\w*(?:Error|Exception)\b.*", log, re.MULTILINE)
    assert set(errors) <= {"ModuleNotFoundError: No module named 'torchaudio'"}
    mentions = [
        line for line in log.splitlines() if PACK in line and not re.search(rf"[\d.]+ seconds: .*{PACK}$", line)
    ]
    assert not mentions, "\n".join(mentions)


def test_built_in_is_the_default(nodes):
    for node, name in (("FitDiff_LoadModel", "checkpoint"), ("FitDiff_LoadRecognizer", "recognizer")):
        options = nodes[node]["input"]["optional"][name][1]
        assert options["default"] == options["options"][0] == "built-in"


def test_seed_can_change_after_each_run(nodes):
    assert nodes["FitDiff_Sampler"]["input"]["optional"]["seed"][1]["control_after_generate"] is True


def test_models_folder_is_registered(client, nodes):
    assert client.get_json("/models/fitdiff") == []


def test_template_browser_finds_the_workflows(client):
    listed = client.get_json("/api/workflow_templates")[PACK]
    assert sorted(listed) == WORKFLOWS
    for name in listed:
        graph = json.loads(client.get(f"/api/workflow_templates/{PACK}/{name}.json"))
        assert graph["nodes"] and graph["links"]
        assert client.get(f"/api/workflow_templates/{PACK}/{name}.jpg")[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_ui_workflow_and_its_headless_twin_agree(name, client, nodes):
    """Same nodes, same links, same values; positions and notes aside."""
    api = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text())
    ui = json.loads((ROOT / "workflows" / f"{name}.json").read_text())
    links = {link[0]: link for link in ui["links"]}
    info = client.get_json("/object_info")
    ui_nodes = {str(n["id"]): n for n in ui["nodes"] if n["type"] in info}
    assert {k: n["type"] for k, n in ui_nodes.items()} == {k: n["class_type"] for k, n in api.items()}
    for node_id, node in api.items():
        twin = ui_nodes[node_id]
        linked = {i["name"]: links[i["link"]] for i in twin["inputs"] if i.get("link") is not None}
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                assert [str(linked[name][1]), linked[name][2]] == value, f"{node_id}.{name}"
            else:
                assert value in twin["widgets_values"], f"{node_id}.{name} = {value}"


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_translations_are_complete(language, client, nodes):
    """Every node, input, output and tooltip in each language, and nothing that does not exist."""
    content = client.get_json("/i18n")[language]
    assert list(content["nodeDefs"]) == list(nodes)
    for node, texts in content["nodeDefs"].items():
        info = nodes[node]
        assert texts["display_name"].startswith("FitDiff ") and texts["description"], node
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert set(texts["inputs"]) == set(inputs), node
        for name, (_, options) in inputs.items():
            assert texts["inputs"][name]["name"] and bool(texts["inputs"][name].get("tooltip")) == bool(
                options.get("tooltip")
            ), f"{node}.{name}"
        outputs = len(info["output"])
        assert list(texts["outputs"]) == [str(i) for i in range(outputs)], node
        for i, tooltip in enumerate(info["output_tooltips"]):
            output = texts["outputs"][str(i)]
            assert output["name"] and bool(output.get("tooltip")) == bool(tooltip), f"{node} output {i}"
    types = {t for info in nodes.values() for t in info["output"] if t.startswith("FITDIFF_")}
    groups = {part for info in nodes.values() for part in info["category"].split("/")}
    # the page itself has translations of "sampling"
    assert set(content["dataTypes"]) == types and set(content["nodeCategories"]) == groups - {"sampling"}


def test_help_pages_name_every_input_and_output(nodes):
    for node, info in nodes.items():
        page = (ROOT / "web" / "docs" / f"{node}.md").read_text()
        rows = {
            name.strip()
            for line in page.splitlines()
            if line.startswith("| ")
            for name in line.split("|")[1].split(",")
        }
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        missing = (set(inputs) | set(info["output_name"])) - rows
        assert not missing, f"{node}: {sorted(missing)}"
    assert {p.stem for p in (ROOT / "web" / "docs").glob("*.md")} == set(nodes)


@pytest.mark.parametrize("node", ["FitDiff_Guidance", "FitDiff_Sampler"])
def test_photo_workflow_uses_the_tuned_defaults(nodes, node):
    """The library's defaults are what was tuned; the shipped graph must not lag behind them."""
    prompt = json.loads((ROOT / "workflows" / "api" / "photo_to_avatar.json").read_text())
    shipped = next(n["inputs"] for n in prompt.values() if n["class_type"] == node)
    inputs = {**nodes[node]["input"]["required"], **nodes[node]["input"].get("optional", {})}
    assert {k: v for k, v in shipped.items() if not isinstance(v, list)} == {
        k: options["default"] for k, (_, options) in inputs.items() if "default" in options
    }
