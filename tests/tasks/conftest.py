"""Fixtures of the tests of operations, alarms, single flight and concurrent outcomes."""

import asyncio
import sys
from typing import Any

import pytest

from moltin_jobs._tasks.operations import Operations


@pytest.fixture
def operations() -> Operations:
    return Operations()


@pytest.fixture(params=["lazy", "eager"] if sys.version_info >= (3, 12) else ["lazy"])
async def task_factory(request: pytest.FixtureRequest) -> None:
    """Run the test with asyncio's default tasks, and from Python 3.12 on with eager tasks too."""
    if request.param == "eager":
        factory: Any = asyncio.eager_task_factory  # type: ignore[attr-defined,unused-ignore]
        asyncio.get_running_loop().set_task_factory(factory)
