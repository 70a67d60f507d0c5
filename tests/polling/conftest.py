"""Fixtures of the polling tests."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Protocol

import pytest

from moltin_jobs import JobsSession
from moltin_jobs.testing.simulator import Simulator
from tests.tasks.conftest import task_factory

__all__ = ["OpenSession", "task_factory"]


class OpenSession(Protocol):
    """Open a session on the simulator, by default without a rate limit."""

    def __call__(self, **options: Any) -> JobsSession: ...


@pytest.fixture
async def open_session(simulator: Simulator) -> AsyncIterator[OpenSession]:
    """Function that opens sessions, which are closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        def open_session(**options: Any) -> JobsSession:
            options = {"rate_limit": None, "base_url": simulator.url} | options
            session = JobsSession(options.pop("auth", simulator.token), **options)
            stack.push_async_callback(session.close)
            return session

        yield open_session
