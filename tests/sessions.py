"""Calls and assertions on sessions that several test modules share."""

import asyncio
from typing import Any

import pytest

from moltin_jobs import JobsSession, MoltinJobsError, Retry
from moltin_jobs.testing import Simulator
from tests.raw_server import RawServer

ONCE = Retry(max_attempts=1)


class HangingLimiter:
    """Rate limiter that never permits a request."""

    async def acquire(self) -> None:
        await asyncio.Event().wait()


def session_with(server: Simulator | RawServer, **options: Any) -> JobsSession:
    """Return a session that uses a server of the tests."""
    return JobsSession(**{"auth": "simulator-token", "base_url": server.url} | options)


async def lookup_error(base_url: str, **options: Any) -> MoltinJobsError:
    """Look up job ``a`` in one attempt, and return the exception."""
    async with JobsSession("the-bearer-token", base_url=base_url, retry=ONCE, **options) as session:
        with pytest.raises(MoltinJobsError) as caught:
            await session.get_job("a")
        assert_idle(session)
    return caught.value


def assert_idle(session: JobsSession) -> None:
    """Assert that no call has left anything behind in ``session``."""
    stats = session.stats()
    left_behind = (
        stats.waits,
        stats.requests_in_flight,
        stats.requests_queued,
        stats.slots_held,
        stats.tasks,
        stats.connections,
    )
    assert left_behind == (0,) * len(left_behind), stats
