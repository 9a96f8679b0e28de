"""Shared by the tests of the nodes."""

import pytest

from tests.support.newer_host import newer_host


@pytest.fixture
def pack(monkeypatch, tmp_path):
    """`nodes.export` and `fitdiff_core.pipeline`, as a newer host would import them."""
    with newer_host(monkeypatch, tmp_path) as modules:
        yield modules
