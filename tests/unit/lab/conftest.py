"""Shared by the tests of the lab."""

import pytest

from tests.support.tiny_training import write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of prepared training data of a tiny size. Nothing writes to it."""
    return write_data(tmp_path_factory.mktemp("data"))
