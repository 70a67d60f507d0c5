"""Pytest fixtures: a simulated Jobs API, and a session that uses it.

A project turns them on in its ``conftest.py``::

    pytest_plugins = ["moltin_jobs.testing.plugin"]

``moltin_simulator`` and ``moltin_environment`` work in every test. ``moltin_session`` is for async
tests that pytest-asyncio or anyio's plugin runs.
"""

import inspect
from collections.abc import AsyncIterator, Iterator

import pytest

from ..session import JobsSession
from .simulator import Simulator

try:
    from pytest_asyncio import fixture as asyncio_fixture
    from pytest_asyncio import is_async_test
except ModuleNotFoundError:
    asyncio_fixture = pytest.fixture  # type: ignore[assignment]

    def is_async_test(item: pytest.Item) -> bool:  # type: ignore[misc]
        """Return whether pytest-asyncio, which is not installed, runs a test."""
        return False


__all__ = ["moltin_environment", "moltin_session", "moltin_simulator"]


@pytest.fixture
def moltin_simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A simulated Jobs API on 127.0.0.1, open for one test.

    It runs in a thread of its own. In an async test with the marker of looptime, it runs on the
    test's event loop instead, since both need the same virtual clock.
    """
    if is_async_test(request.node) and has_virtual_clock(request):
        yield request.getfixturevalue("_moltin_simulator_on_loop")
        return
    with Simulator.in_thread() as simulator:
        yield simulator


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


@pytest.fixture
def moltin_session(request: pytest.FixtureRequest) -> JobsSession:
    """A session with the default settings that uses ``moltin_simulator``, for one async test."""
    is_run_by_anyio = "anyio_backend" in request.fixturenames
    if is_async_test(request.node):
        if is_run_by_anyio:
            pytest.fail(
                "moltin_session: two plugins run this async test. With pytest.mark.anyio, "
                "pytest-asyncio must be in strict mode.",
                pytrace=False,
            )
        name = "_moltin_session_of_asyncio"
    elif not inspect.iscoroutinefunction(getattr(request, "function", None)):
        pytest.fail(
            "moltin_session: the test is not async. Make it 'async def', or use moltin_environment "
            "and create the session in the code under test.",
            pytrace=False,
        )
    elif not is_run_by_anyio:
        pytest.fail(
            "moltin_session: no plugin runs this async test. Mark it with pytest.mark.asyncio "
            "(pytest-asyncio) or pytest.mark.anyio (anyio).",
            pytrace=False,
        )
    elif request.getfixturevalue("anyio_backend_name") != "asyncio":
        pytest.fail(
            "moltin_session: it needs asyncio. Define a fixture anyio_backend that returns "
            "'asyncio'.",
            pytrace=False,
        )
    else:
        name = "_moltin_session_of_anyio"
    session: JobsSession = request.getfixturevalue(name)
    return session


@asyncio_fixture
async def _moltin_simulator_on_loop() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@asyncio_fixture
async def _moltin_session_of_asyncio(moltin_simulator: Simulator) -> AsyncIterator[JobsSession]:
    async with make_session(moltin_simulator) as session:
        yield session


@pytest.fixture
async def _moltin_session_of_anyio(moltin_simulator: Simulator) -> AsyncIterator[JobsSession]:
    async with make_session(moltin_simulator) as session:
        yield session


def make_session(simulator: Simulator) -> JobsSession:
    """Make a session with the default settings that uses a simulator."""
    return JobsSession(simulator.token, base_url=simulator.url)


def has_virtual_clock(request: pytest.FixtureRequest) -> bool:
    """Return whether looptime runs a test on a virtual clock."""
    is_marked = request.node.get_closest_marker("looptime") is not None
    return is_marked or bool(request.config.getoption("looptime", None))
