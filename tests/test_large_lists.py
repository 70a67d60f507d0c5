"""Lists of jobs that take long to parse, on the real clock."""

import asyncio
import contextlib
import gc
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from moltin_jobs import JobsSession, JobTimeoutError, SessionClosedError
from moltin_jobs._api.content import load_json
from moltin_jobs._api.endpoints import Response, list_jobs
from moltin_jobs._tasks.threads import run_in_thread
from moltin_jobs.testing.simulator import Fault, Simulator

ITEMS = 2_000_000
ALL_UNREADABLE = Fault(body=b'{"data": [%s]}' % b",".join([b"{}"] * ITEMS))


@pytest.fixture
async def session(moltin_simulator: Simulator) -> JobsSession:
    """A session whose lists are large, so that they are parsed in a thread."""
    moltin_simulator.add_faults(ALL_UNREADABLE, path="/v2/jobs", repeat=True)
    return JobsSession(moltin_simulator.token, base_url=moltin_simulator.url, poll_by="list")


async def longest_pause_of_the_loop(stop: asyncio.Event) -> float:
    longest, last = 0.0, time.perf_counter()
    while not stop.is_set():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


@contextlib.contextmanager
def recorded_callbacks() -> Iterator[list[float]]:
    """Give the processor time of each callback of the event loop, without garbage collections."""
    seconds: list[float] = []
    collected = started_at = 0.0
    thread = threading.get_ident()
    run: Any = asyncio.Handle._run  # noqa: SLF001

    def on_collection(phase: str, _: object) -> None:
        nonlocal collected, started_at
        if threading.get_ident() != thread:
            return
        if phase == "start":
            started_at = time.thread_time()
        else:
            collected += time.thread_time() - started_at

    def run_measured(handle: asyncio.Handle) -> None:
        before = time.thread_time() - collected
        run(handle)
        seconds.append(time.thread_time() - collected - before)

    gc.callbacks.append(on_collection)
    try:
        with mock.patch.object(asyncio.Handle, "_run", run_measured):
            yield seconds
    finally:
        gc.callbacks.remove(on_collection)


@pytest.mark.parametrize("size", [(1 << 20) - 400, (1 << 24) - 400], ids=["1 MiB", "16 MiB"])
async def test_waits_served_by_a_large_list_do_not_block_the_event_loop(
    moltin_simulator: Simulator, size: int
) -> None:
    waiting = [f"job-{number}" for number in range(1000)]
    item = b'{"id": "%s", "status": "success", "filler": "%s"}'
    count = size // 330
    items = [item % (f"job-{number}".encode(), b"-" * 270) for number in range(count)]
    fault = Fault(body=b'{"data": [%s]}' % b",".join(items))
    moltin_simulator.add_faults(fault, path="/v2/jobs", repeat=True)
    longest = []
    for _ in range(3):  # the kernel's work for memory counts too, and varies
        with recorded_callbacks() as seconds:
            async with JobsSession(
                moltin_simulator.token, base_url=moltin_simulator.url, poll_by="list"
            ) as session:
                jobs = await session.wait_for_jobs(waiting)
        assert [job.id for job in jobs] == waiting
        longest.append(max(seconds))
    assert len(moltin_simulator.requests) == 3
    assert min(longest) < 0.05, longest


@pytest.mark.no_cover  # coverage would multiply its time
async def test_parsing_a_large_list_does_not_block_the_event_loop(
    session: JobsSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "moltin_jobs")
    stop = asyncio.Event()
    async with session:
        pauses = asyncio.create_task(longest_pause_of_the_loop(stop))
        started_at = time.perf_counter()
        assert await session.list_jobs() == []
        seconds = time.perf_counter() - started_at
        stop.set()
        assert await pauses < seconds / 4
    messages = [one.getMessage() for one in caplog.records if one.name.startswith("moltin_jobs")]
    assert len(messages) == 101
    assert messages[-1] == f"the list of jobs: {ITEMS - 100} more cannot be read"


async def test_decoding_in_a_thread_lets_the_event_loop_run() -> None:
    passes = 0
    response = Response(200, ALL_UNREADABLE.body)
    decoding = asyncio.create_task(run_in_thread(load_json, response, list_jobs()))
    while not decoding.done():
        await asyncio.sleep(0.001)
        passes += 1
    assert passes > 3, "one or two if the decoder holds the GIL until it has finished"


async def test_timeout_of_a_wait_holds_while_a_large_list_is_parsed(session: JobsSession) -> None:
    async with session:
        started_at = time.monotonic()
        with pytest.raises(JobTimeoutError):
            await session.wait_for_job("a", timeout=0.3)
        assert time.monotonic() - started_at < 1


async def test_close_does_not_wait_until_a_large_list_is_parsed(session: JobsSession) -> None:
    call = asyncio.create_task(session.list_jobs())
    await asyncio.sleep(0.15)
    started_at = time.monotonic()
    await session.close()
    with pytest.raises(SessionClosedError, match="closed during this call"):
        await call
    assert time.monotonic() - started_at < 0.5
