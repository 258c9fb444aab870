"""The workshop, made once for a file of tests."""

import pytest

from trust.workshop import Workshop


@pytest.fixture(scope="module")
def workshop(lab, tmp_path_factory):
    """Projects in the states from which each command is tried."""
    return Workshop(lab, tmp_path_factory.mktemp("workshop"))
