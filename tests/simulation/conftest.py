"""Fixtures of the tests of the simulation."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these tests out of the coverage, which would double their time."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("no_cover")


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> None:
    """Replace the fixture of all tests: here, the loop itself runs the calls of threads."""
