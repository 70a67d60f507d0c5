"""Fixtures of the tests of the command line."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from moltin_jobs import JobsSession, Polling, Retry
from moltin_jobs.testing import Simulator

TERMINAL_VARIABLES = (
    "COLUMNS",
    "FORCE_COLOR",
    "LINES",
    "NO_COLOR",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
)


PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A simulated store in another thread, and the variables that lead to it."""
    with Simulator.in_thread(creation_seconds=0.2) as simulator:
        for name, value in simulator.environment.items():
            monkeypatch.setenv(name, value)
        yield simulator


@pytest.fixture(autouse=True)
def _no_terminal_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TERMINAL_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _no_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands poll, retry and show progress at once, since all runs in real time."""
    from_env = JobsSession.from_env

    def from_env_with_short_intervals(**options: Any) -> JobsSession:
        return from_env(
            retry=Retry(max_attempts=2, initial_interval=0.01),
            polling=Polling(initial_interval=0.01, max_interval=0.02, max_outage=0.05),
            **options,
        )

    monkeypatch.setattr(JobsSession, "from_env", from_env_with_short_intervals)
    monkeypatch.setattr("moltin_jobs.cli.progress.REFRESH_SECONDS", 0.001)


@pytest.fixture(autouse=True)
def _event_loop_is_kept() -> Iterator[None]:
    """Put back the event loop of the main thread, which asyncio.run replaces by none."""
    try:
        loop = asyncio.get_event_loop()
    except RuntimeError:  # there is none
        loop = None
    yield
    asyncio.set_event_loop(loop)
