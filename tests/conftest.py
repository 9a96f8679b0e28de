"""Shared by all tests: one thread, and one real ComfyUI for the tests that ask for it."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)  # two OpenMP threads on a busy two-core machine are several times slower than one


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
