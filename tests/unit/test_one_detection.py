"""Each photo is searched for faces once, by one detector, on the command line and in a graph."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch

from fitdiff_core import cli, config, heads, pipeline
from fitdiff_core.face.detect import FaceDetector
from fitdiff_core.image import load_photo
from tests.support.newer_host import PACK, newer_host
from tests.support.paths import SAMPLE


@pytest.fixture
def count(monkeypatch, detector):
    """How often a detector was loaded and asked."""
    counts = {"loads": 0, "searches": 0}
    search = FaceDetector.detect

    def load(*args, **kw):
        counts["loads"] += 1
        return detector

    def detect(self, image):
        counts["searches"] += 1
        return search(self, image)

    monkeypatch.setattr(pipeline, "load_detector", load)
    monkeypatch.setattr(FaceDetector, "detect", detect)
    return counts


@pytest.mark.parametrize("photos", [1, 3])
def test_the_command_line_searches_each_photo_once(count, photos):
    args = cli.parse([str(SAMPLE)] * photos)
    settings = config.read_config(None)
    images, masks, networks = cli.load(args, settings)
    identity, guidance = heads.fit_head(images, networks, None, settings["which"], masks=masks)
    assert len(identity.views) == len(guidance) == photos
    assert count == {"loads": 1, "searches": photos}


@pytest.mark.parametrize("photos", [1, 3])
def test_a_graph_searches_each_photo_once(monkeypatch, tmp_path, photos):
    """Encode Identity and Guidance are given the same image; a second prompt with other weights searches nothing."""
    with newer_host(monkeypatch, tmp_path):
        sys.modules["comfy"].model_management.get_torch_device = lambda: torch.device("cpu")
        core = importlib.import_module(f"{PACK}.fitdiff_core.face.detect").FaceDetector
        faces = importlib.import_module(f"{PACK}.nodes.faces")
        nodes = [importlib.import_module(f"{PACK}.nodes.{n}") for n in ("identity", "guidance")]
        loads, searches, search = [], [], core.detect
        load = faces.load_detector
        monkeypatch.setattr(faces, "load_detector", lambda **kw: loads.append(1) or load(**kw))
        monkeypatch.setattr(core, "detect", lambda self, image: searches.append(1) or search(self, image))
        recognizer = importlib.import_module(f"{PACK}.fitdiff_core.identity").load_recognizer()
        image = load_photo(SAMPLE).permute(0, 2, 3, 1).repeat(photos, 1, 1, 1)
        image *= torch.linspace(1, 0.9, photos)[:, None, None, None]  # three photos, not one thrice
        nodes[0].EncodeIdentity.execute(image, recognizer, 0)
        for weight in (1.0, 0.5):
            nodes[1].Guidance.execute(image, recognizer, weight, 0.5, 1.0, 0.25, 20.0, 0.03, 0)
        assert (len(loads), len(searches)) == (1, photos)
