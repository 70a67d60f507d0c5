"""Pytest fixtures: a simulated Jobs API, and a session that uses it.

A project turns them on in its ``conftest.py``::

    pytest_plugins = ["moltin_jobs.testing.plugin"]

The fixtures are for async tests and need ``pytest-asyncio``, in its strict or auto mode. The
simulator responds only while the event loop of the test runs. Use `Simulator.in_thread` in a
synchronous test.
"""

from collections.abc import AsyncIterator

import pytest

from ..session import JobsSession
from .simulator import Simulator

try:
    import pytest_asyncio
except ModuleNotFoundError:
    message = (
        "moltin_jobs.testing.plugin: pytest-asyncio is not installed. "
        "Run: pip install 'moltin-jobs[testing]'"
    )
    raise pytest.UsageError(message) from None

__all__ = ["moltin_environment", "moltin_session", "moltin_simulator"]


@pytest_asyncio.fixture
async def moltin_simulator() -> AsyncIterator[Simulator]:
    """A simulated Jobs API on 127.0.0.1, open for one test."""
    async with Simulator() as simulator:
        yield simulator


@pytest_asyncio.fixture
async def moltin_session(moltin_simulator: Simulator) -> AsyncIterator[JobsSession]:
    """A session with the default settings that uses ``moltin_simulator``."""
    async with JobsSession(moltin_simulator.token, base_url=moltin_simulator.url) as session:
        yield session


@pytest.fixture
def moltin_environment(
    moltin_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Environment variables of ``moltin_simulator``, set for one test.

    `JobsSession.from_env` and the command line use the simulator. ``EPCC_ACCESS_TOKEN`` is removed,
    so that the test cannot see a real token.
    """
    monkeypatch.delenv("EPCC_ACCESS_TOKEN", raising=False)
    for name, value in moltin_simulator.environment.items():
        monkeypatch.setenv(name, value)
    return moltin_simulator.environment
