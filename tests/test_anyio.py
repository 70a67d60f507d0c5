"""Calls in cancel scopes of anyio, which deliver a cancellation again in each pass of the loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from moltin_jobs import JobsSession
from moltin_jobs.testing import Simulator
from tests.file_host import names_in
from tests.sessions import assert_idle

Call = Callable[[JobsSession, Path], Awaitable[object]]
CALLS: dict[str, Call] = {
    "get_job": lambda session, _: session.get_job("a"),
    "get_jobs": lambda session, _: session.get_jobs(["a", "a", "b"]),
    "wait_for_job": lambda session, _: session.wait_for_job("a"),
    "wait_for_jobs": lambda session, _: session.wait_for_jobs(["a", "a", "b"]),
    "watch_job": lambda session, _: anext(session.watch_job("a")),
    "list_jobs": lambda session, _: session.list_jobs(),
    "download": lambda session, path: session.download("a", path),
    "export_orders": lambda session, path: session.export_orders(destination=path),
}


@pytest.mark.parametrize("poll_by", ["id", "list"])
@pytest.mark.parametrize("name", CALLS)
async def test_call_in_a_scope_that_is_cancelled_ends_at_once_and_leaves_nothing(
    moltin_simulator: Simulator, tmp_path: Path, name: str, poll_by: Any
) -> None:
    moltin_simulator.add_faults("hang", repeat=True)
    session = JobsSession(moltin_simulator.token, base_url=moltin_simulator.url, poll_by=poll_by)
    async with session:
        cpu_started_at, started_at = time.thread_time(), time.monotonic()
        with anyio.move_on_after(0.2) as scope:
            await CALLS[name](session, tmp_path / "orders.csv")
        assert scope.cancelled_caught
        assert time.monotonic() - started_at < 2
        assert time.thread_time() - cpu_started_at < 0.15, "it spins while it is cancelled"
        await asyncio.sleep(0.01)  # the poll of a watch ends by itself
        if name != "watch_job":
            assert_idle(session)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert names_in(tmp_path) == []
