"""What the tests of a service want: a store on loopback, and a session on it, as pytest fixtures.

pytest finds them by itself once the package is installed; they are async, for ``pytest-asyncio``.
Under ``looptime`` a wait of ten minutes is tested in milliseconds.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar, cast

import pytest

from ..session import JobsSession
from .simulator import AnyFault, Fault, Request, Simulator

__all__ = ["AnyFault", "Fault", "Request", "Simulator", "moltin_session", "moltin_simulator"]

F = TypeVar("F", bound=Callable[..., Any])

_fixture: Callable[[F], F]
try:
    _fixture = importlib.import_module("pytest_asyncio").fixture
except ModuleNotFoundError:  # pytest imports this file wherever the package is installed
    _fixture = cast("Any", pytest.fixture)


@_fixture
async def moltin_simulator() -> AsyncIterator[Simulator]:
    """A simulated store: script its jobs by `Simulator.add_job`, its faults by `spoil`."""
    async with Simulator() as simulator:
        yield simulator


@_fixture
async def moltin_session(moltin_simulator: Simulator) -> AsyncIterator[JobsSession]:
    """A session on ``moltin_simulator``, with the settings that `JobsSession` has by default."""
    async with JobsSession(moltin_simulator.token, base_url=moltin_simulator.url) as session:
        yield session
