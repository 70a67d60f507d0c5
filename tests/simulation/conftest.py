"""Fixtures of the tests of the simulation."""

import pytest


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> None:
    """Replace the fixture of all tests: here, the loop itself runs the calls of threads."""
