"""Shared by all tests: one thread, the sample photo, the shipped networks, and one real ComfyUI.

What has the scope of the session is shared: no test may change it.
"""

from __future__ import annotations

import pytest
import torch

from fitdiff_core import pipeline
from fitdiff_core.face import load_detector
from fitdiff_core.head import load_head
from fitdiff_core.identity import load_recognizer
from fitdiff_core.image import load_photo
from tests.support.paths import SAMPLE
from tests.support.tiny_chain import tiny_chain

torch.set_num_threads(1)  # two OpenMP threads on a busy two-core machine are several times slower than one


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Commands of the lab set the threads of the whole process. In tests they must not: other tests follow."""
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)


@pytest.fixture(scope="session")
def photo():
    """The sample photo, `[1, 3, 512, 512]`."""
    return load_photo(SAMPLE)


@pytest.fixture(scope="session")
def detector():
    return load_detector()


@pytest.fixture(scope="session")
def recognizer():
    return load_recognizer()


@pytest.fixture(scope="session")
def head():
    return load_head()


@pytest.fixture(scope="session")
def shipped():
    """The shipped checkpoint."""
    return pipeline.load_model()


@pytest.fixture(scope="module")
def chain():
    return tiny_chain()


@pytest.fixture(scope="session")
def comfy(tmp_path_factory):
    """A running ComfyUI with this repository as a custom node: `.url`, `.base`, `.log()`."""
    from tests.host import server

    if not server.installed():
        pytest.skip("the ComfyUI test host is not installed: run `make host`")
    with server.Server(tmp_path_factory.mktemp("comfy")) as running:
        yield running


@pytest.fixture
def client(comfy):
    from tests.host.client import Client

    return Client(comfy.url)
