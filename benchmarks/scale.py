"""Many waits over many sessions in one process: from their start to their end or the close.

The sessions send real requests over loopback, at most 2,000 a second together. Polled by list,
every tenth session gets lists of 16 MiB, which make it poll by id, and the others get lists just
below 1 MiB.
The time of a callback is processor time of the event loop's thread, without garbage collections.
"""

import asyncio
import contextlib
import gc
import multiprocessing
import resource
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import mock

import attrs

from benchmarks.measure import resident_bytes
from benchmarks.server import PENDING_JOBS, list_id, run_server
from benchmarks.table import print_table
from moltin_jobs import JobsSession, Polling
from moltin_jobs._tasks.operations import retrieve_exception
from moltin_jobs.session import PollBy

REQUESTS_PER_SECOND = 2000
USEFUL_LIST = 3_100
"""Jobs of a list just below 1 MiB, the largest that serves all polls."""
LARGE_LIST = 50_000
"""Jobs of a list just below 16 MiB, the largest that is read."""
JOB_IDS = [list_id(number) for number in range(PENDING_JOBS)]
TIMEOUT = 3600.0
POLL_BY: tuple[PollBy, ...] = ("id", "list")
FEW, MANY = 5_000, 80_000


@attrs.define
class LoopMeter:
    """Longest callback of the event loop, and longest garbage collection, since `reset`."""

    callback: float = 0.0
    name: str = ""
    collection: float = 0.0
    collected: float = 0.0
    """Time of all collections in the event loop's thread, which `reset` does not change."""
    _started_at: float = 0.0
    _thread: int = attrs.Factory(threading.get_ident)

    def reset(self) -> None:
        self.callback = self.collection = 0.0

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        run: Any = asyncio.Handle._run  # noqa: SLF001

        def run_measured(handle: asyncio.Handle) -> None:
            started_at, collected = time.thread_time(), self.collected
            run(handle)
            seconds = time.thread_time() - started_at - (self.collected - collected)
            if seconds > self.callback:
                self.callback, self.name = seconds, name_of(handle)

        gc.callbacks.append(self._on_collection)
        with mock.patch.object(asyncio.Handle, "_run", run_measured):
            yield
        gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._started_at = time.thread_time()
            return
        seconds = time.thread_time() - self._started_at
        self.collection = max(self.collection, seconds)
        if threading.get_ident() == self._thread:
            self.collected += seconds


def name_of(handle: asyncio.Handle) -> str:
    """Return the name of a callback, or of the coroutine whose task it continues."""
    callback: Any = handle._callback  # type: ignore[attr-defined]  # noqa: SLF001
    task = getattr(callback, "__self__", None)
    function = task.get_coro() if isinstance(task, asyncio.Task) else callback
    return str(getattr(function, "__qualname__", function))


@attrs.define
class Store:
    """One session with a thousand waits."""

    session: JobsSession
    interval: float
    waits: Sequence[asyncio.Task[Any]] = ()

    async def start(self) -> None:
        """Start half of the waits in one call, and each of the others in its own."""
        half = PENDING_JOBS // 2
        together = self.session.wait_for_jobs(JOB_IDS[:half], timeout=TIMEOUT)
        watches = [self.session.watch_job(job_id, timeout=TIMEOUT) for job_id in JOB_IDS[half:]]
        calls = [together, *(watch.wait() for watch in watches)]
        self.waits = [asyncio.create_task(call) for call in calls]
        while (  # noqa: ASYNC110
            not all(watch.job for watch in watches) or self.session.stats().requests_queued
        ):
            await asyncio.sleep(0.5)

    async def poll(self) -> None:
        await asyncio.sleep(self.interval)

    async def cancel(self) -> None:
        for wait in self.waits:
            wait.cancel()
        await self.end()

    async def close(self) -> None:
        await self.session.close()
        await self.end()

    async def end(self) -> None:
        await asyncio.wait(self.waits)
        for wait in self.waits:
            retrieve_exception(wait)


def open_stores(url: str, poll_by: PollBy, number: int) -> list[Store]:
    interval = 2.0 * number * PENDING_JOBS / REQUESTS_PER_SECOND
    return [
        Store(
            JobsSession(
                "a-bearer-token",
                base_url=f"{url}/{USEFUL_LIST if index % 10 else LARGE_LIST}",
                rate_limit=REQUESTS_PER_SECOND // number,
                request_timeout=60,
                polling=Polling(initial_interval=interval, multiplier=1, max_interval=interval),
                poll_by=poll_by,
            ),
            interval,
        )
        for index in range(number)
    ]


async def measure_phase(
    phase: Callable[[Store], Coroutine[Any, Any, None]], stores: Sequence[Store], meter: LoopMeter
) -> tuple[str, ...]:
    """Run a phase of all stores at once, and return its row of the table."""
    gc.collect()
    meter.reset()
    memory, polls, collected = resident_bytes(), count_polls(stores), meter.collected
    started_at = time.process_time()
    tasks = [asyncio.create_task(phase(store)) for store in stores]
    for task in tasks:
        await task
    seconds = time.process_time() - started_at - (meter.collected - collected)
    longest = meter.callback
    count = count_polls(stores) - polls if phase is Store.poll else len(stores) * PENDING_JOBS
    gc.collect()
    kib = (resident_bytes() - memory) / 1024 / count
    return (
        phase.__name__,
        # Closing and cancelling take too short to be told from the polls of the other sessions.
        f"{seconds / count * 1e6:.0f} µs" if phase in (Store.start, Store.poll, Store.end) else "",
        f"{kib:.1f} KiB" if phase is Store.start else "",
        f"{longest * 1e3:.1f} ms in `{meter.name}`",
        f"{meter.collection * 1e3:.0f} ms",
    )


def count_polls(stores: Sequence[Store]) -> int:
    return sum(store.session.stats().polls for store in stores)


async def measure_stores(url: str, poll_by: PollBy, number: int) -> list[tuple[str, ...]]:
    stores, meter, third = open_stores(url, poll_by, number), LoopMeter(), number // 3
    with meter.installed():
        rows = [await measure_phase(phase, stores, meter) for phase in (Store.start, Store.poll)]
        rows.append(await measure_phase(Store.cancel, stores[:third], meter))
        rows.append(await measure_phase(Store.close, stores[third : 2 * third], meter))
        urllib.request.urlopen(f"{url}/end").close()  # noqa: ASYNC210, S310
        rows.append(await measure_phase(Store.end, stores[2 * third :], meter))
    for store in stores:
        await store.session.close()
    waits = f'{number * PENDING_JOBS:,} with `poll_by="{poll_by}"`'
    return [(waits, *row) for row in rows]


class HangingLimiter:
    async def acquire(self) -> None:
        await asyncio.Event().wait()


async def measure_queued(end: str, number: int) -> tuple[float, float]:
    """Return the processor time in seconds of the end of so many queued waits of one session.

    The second figure is that of the garbage collections meanwhile, which the first leaves out.
    """
    session, meter = JobsSession("a-bearer-token", rate_limit=HangingLimiter()), LoopMeter()
    job_ids = (f"job-{index}" for index in range(number))
    waits = [asyncio.create_task(session.wait_for_job(job_id)) for job_id in job_ids]
    store = Store(session, 0, waits)
    await asyncio.sleep(0.1)
    assert session.stats().requests_queued == number
    gc.collect()
    with meter.installed():
        started_at = time.process_time()
        await (store.close() if end == "close" else store.cancel())
        seconds = time.process_time() - started_at
    await session.close()
    return seconds - meter.collected, meter.collected


def run_in_process(function: Callable[..., Coroutine[Any, Any, Any]], *arguments: object) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(run_coroutine, function, *arguments).result()


def run_coroutine(function: Callable[..., Coroutine[Any, Any, Any]], *arguments: object) -> Any:
    return asyncio.run(function(*arguments))


def run(*, full: bool) -> None:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # a connection is a file
    rows = []
    for poll_by in POLL_BY:
        for number in (10, 100) if full else (10,):
            with run_server() as url:
                rows += run_in_process(measure_stores, url, poll_by, number)
    columns = ("waits", "phase", "processor time", "memory", "longest callback", "collection")
    title = (
        "Waits over sessions with 1,000 each; processor time of a wait, or of a poll, without "
        "garbage collections:"
    )
    print_table(title, columns, rows)
    ends = []
    for end in ("close", "cancel"):
        few, many = (
            min(run_in_process(measure_queued, end, number) for _ in range(3))
            for number in (FEW, MANY)
        )
        cells = (f"{own * 1e3:.0f} ms + {collected * 1e3:.0f} ms" for own, collected in (few, many))
        ratios = f"{many[0] / few[0]:.1f}", f"{sum(many) / sum(few):.1f}"
        ends.append((end, *cells, *ratios))
    print_table(
        "Processor time of the end of queued waits of one session + that of garbage collections:",
        ("end", f"{FEW:,} waits", f"{MANY:,} waits", "ratio", "ratio with collections"),
        ends,
    )
