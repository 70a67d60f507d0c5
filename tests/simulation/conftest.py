"""Fixtures of the tests of the simulation."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these tests out of the coverage, which would double their time."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("no_cover")


@pytest.fixture(autouse=True)
def _blocking_calls(no_blocking_calls: BlockBuster) -> Iterator[None]:
    """Allow blocking calls: here, the loop itself runs the calls of threads."""
    no_blocking_calls.deactivate()
    yield
    no_blocking_calls.activate()
    no_blocking_calls.functions["threading.Lock.acquire"].deactivate()
