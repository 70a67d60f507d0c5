"""Memory of a wait between its polls, and processor time of a poll, with and without network.

Without network, each contender gets the same bodies from a coroutine, and decodes them. Memory is
measured in a process for each contender, since Python does not return all memory that was freed.
All waits poll once, sleep during the measurement, and then poll twice more.
"""

import asyncio
import contextlib
import functools
import gc
import importlib
import itertools
import json
import math
import multiprocessing
import os
import statistics
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import backoff

from benchmarks.instructions import (
    instructions_per_operation,
    is_available,
    print_instructions,
    print_unavailable,
)
from benchmarks.measure import (
    OURS,
    measure_interleaved,
    print_ratios,
    processor_seconds,
    resident_bytes,
    skip_if_missing,
)
from benchmarks.server import BODY, run_server
from benchmarks.table import print_table
from moltin_jobs import JobsSession, JobWatch, Polling
from moltin_jobs._api import endpoints
from moltin_jobs._api.endpoints import Response
from moltin_jobs._api.parsing import parse_job
from moltin_jobs._polling.sources import IdSource, Snapshot
from moltin_jobs._tasks.operations import Operations

POLLS = 3
MANY_POLLS = 10
WAITS = 100
CONCURRENCY = 64
TINY_INTERVAL = 1e-6  # where only processor time is measured
HEADERS = {"Authorization": "Bearer a-bearer-token"}
ENDED = ("success", "complete", "failed")
OURS_WITH_TIMEOUT = f"{OURS}, with a timeout"
AZURE = "azure-core's `AsyncLROPoller`"
HAND_WRITTEN = "hand-written `while: get; sleep`"

Body = Callable[[], Awaitable[bytes]]
Wait = Callable[[str, Body], Awaitable[object]]
WaitOverHttp = Callable[[str], Awaitable[object]]
Contender = Callable[[float], AbstractAsyncContextManager[Wait]]


def ours(timeout: float = math.inf) -> Contender:
    """This client's wait, with a source that needs no network."""

    @contextlib.asynccontextmanager
    async def contender(interval: float) -> AsyncIterator[Wait]:
        polling = Polling(initial_interval=interval, multiplier=1, max_interval=interval)
        bodies: dict[str, Body] = {}

        async def fetch_job(job_id: str, previous: Snapshot | None) -> Snapshot:
            """Get a body without a network, and parse it as a session does."""
            response = Response(200, await bodies[job_id]())
            now = asyncio.get_running_loop().time()
            if previous is not None and response.body == previous.body:
                return Snapshot(previous.job, now, previous.body)
            return Snapshot(parse_job(response, endpoints.get_job(job_id)), now, response.body)

        source = IdSource(Operations(), fetch_job)

        async def wait(job_id: str, body: Body) -> Any:
            bodies[job_id] = body
            return await JobWatch(job_id, source, polling, timeout=timeout).wait()

        yield wait

    return contender


@contextlib.asynccontextmanager
async def hand_written(interval: float) -> AsyncIterator[Wait]:
    async def wait(_: str, body: Body) -> Any:
        while True:
            job = json.loads(await body())["data"]
            if job["status"] in ENDED:
                return job
            await asyncio.sleep(interval)

    yield wait


def pending(job: Any) -> bool:
    return job["status"] not in ENDED


@contextlib.asynccontextmanager
async def backoff_on_predicate(interval: float) -> AsyncIterator[Wait]:
    async def wait(_: str, body: Body) -> Any:
        @backoff.on_predicate(backoff.constant, pending, interval=interval, jitter=None)
        async def poll() -> Any:
            return json.loads(await body())["data"]

        return await poll()

    yield wait


@contextlib.asynccontextmanager
async def tenacity(interval: float) -> AsyncIterator[Wait]:
    package = importlib.import_module("tenacity")

    async def wait(_: str, body: Body) -> Any:
        async def poll() -> Any:
            return json.loads(await body())["data"]

        retrying = package.AsyncRetrying(
            wait=package.wait_fixed(interval), retry=package.retry_if_result(pending)
        )
        return await retrying(poll)

    yield wait


@contextlib.asynccontextmanager
async def azure_poller(  # noqa: C901 (it needs eight methods)
    interval: float,
) -> AsyncIterator[Wait]:
    """`AsyncLROPoller` with its base polling method, except for the request."""
    core = importlib.import_module("azure.core.polling")
    base: Any = importlib.import_module("azure.core.polling.async_base_polling").AsyncLROBasePolling

    class Response:
        status_code = 200
        headers: dict[str, str] = {}  # noqa: RUF012 (never changed)
        request = type("Request", (), {"method": "GET"})

        def __init__(self, body: bytes) -> None:
            self.content = body
            self.job = json.loads(body)["data"]
            self.http_response = self

    class ByStatus:
        def can_poll(self, _: Any) -> bool:
            return True

        def set_initial_status(self, _: Any) -> str:
            return "InProgress"

        def get_polling_url(self) -> str:
            return "/v2/jobs"

        def get_status(self, response: Any) -> str:
            return "Succeeded" if response.job["status"] in ENDED else "InProgress"

        def get_final_get_url(self, _: Any) -> None:
            return None

    class Method(base):  # type: ignore[misc]
        def __init__(self, body: Body) -> None:
            super().__init__(timeout=interval, lro_algorithms=[ByStatus()])
            self.body = body

        async def request_status(self, _: str) -> Response:
            return Response(await self.body())

        async def _sleep(self, delay: float) -> None:
            await asyncio.sleep(delay)

    first = Response((BODY % ("a", "pending", "a")).encode())

    async def wait(_: str, body: Body) -> Any:
        return await core.AsyncLROPoller(None, first, lambda response: response.job, Method(body))

    yield wait


CONTENDERS: dict[str, Contender] = {
    OURS: ours(),
    OURS_WITH_TIMEOUT: ours(timeout=3600),
    HAND_WRITTEN: hand_written,
    AZURE: azure_poller,
    "`backoff.on_predicate`, made for each call": backoff_on_predicate,
    "tenacity": tenacity,
}


def make_body(job_id: str, polls: int = POLLS) -> Body:
    """Return a coroutine function that returns a pending job, and a successful one at the end."""
    numbers = itertools.count(1)

    async def body() -> bytes:
        status = "success" if next(numbers) == polls else "pending"
        return (BODY % (job_id, status, job_id)).encode()

    return body


async def measure_waits(name: str, count: int, *, traced: bool) -> dict[str, float]:
    """Return the bytes of a wait, resident and on the heap, and the seconds of a poll."""
    interval = max(1.0, count * 1.5e-4)  # longer than the polls of all waits take
    async with CONTENDERS[name](interval) as wait:
        warm_up = [f"warm-up-{n}" for n in range(10)]
        await asyncio.gather(*(wait(job_id, make_body(job_id)) for job_id in warm_up))
        bodies = {f"job-{n}": make_body(f"job-{n}") for n in range(count)}
        gc.collect()
        if traced:
            tracemalloc.start()
        memory, start = resident_bytes(), processor_seconds()
        waits = [asyncio.create_task(_run(wait, *job)) for job in bodies.items()]
        await asyncio.sleep(interval * 0.7)
        rss = (resident_bytes() - memory) / count
        heap = tracemalloc.get_traced_memory()[0] / count if traced else 0.0
        await asyncio.gather(*waits)
        return {"rss": rss, "heap": heap, "poll": (processor_seconds() - start) / count / POLLS}


async def _run(wait: Wait, job_id: str, body: Body) -> None:
    await wait(job_id, body)


async def measure_without_network(rounds: int) -> dict[str, list[float]]:
    """Return processor time in seconds. Each batch is a hundred waits of ten polls each."""
    numbers = itertools.count()
    async with contextlib.AsyncExitStack() as stack:

        async def batch(wait: Wait) -> None:
            ids = [f"job-{next(numbers)}" for _ in range(WAITS)]
            bodies = [make_body(job_id, MANY_POLLS) for job_id in ids]
            await asyncio.gather(*map(wait, ids, bodies))

        batches = {}
        for name, contender in CONTENDERS.items():
            with skip_if_missing(name):
                wait = await stack.enter_async_context(contender(TINY_INTERVAL))
                batches[name] = functools.partial(batch, wait)
        return await measure_interleaved(batches, rounds)


@contextlib.asynccontextmanager
async def ours_over_http(url: str) -> AsyncIterator[WaitOverHttp]:
    polling = Polling(initial_interval=TINY_INTERVAL, multiplier=1, max_interval=TINY_INTERVAL)
    async with JobsSession(
        "a-bearer-token", base_url=url, rate_limit=1_000_000, polling=polling
    ) as session:
        yield session.wait_for_job


@contextlib.asynccontextmanager
async def hand_written_over_http(url: str) -> AsyncIterator[WaitOverHttp]:
    async with aiohttp.ClientSession(headers=HEADERS) as http:

        async def wait(job_id: str) -> Any:
            while True:
                async with http.get(f"{url}/v2/jobs/{job_id}") as response:
                    job = (await response.json())["data"]
                if job["status"] in ENDED:
                    return job
                await asyncio.sleep(TINY_INTERVAL)

        yield wait


OVER_HTTP: dict[str, Callable[[str], AbstractAsyncContextManager[WaitOverHttp]]] = {
    OURS: ours_over_http,
    HAND_WRITTEN: hand_written_over_http,
}


async def measure_over_http(url: str, rounds: int) -> dict[str, list[float]]:
    """Return processor time in seconds. Each batch is 64 waits of ten polls each."""
    numbers = itertools.count()
    async with contextlib.AsyncExitStack() as stack:

        async def batch(wait: WaitOverHttp) -> None:
            await asyncio.gather(*(wait(f"job-{next(numbers)}") for _ in range(CONCURRENCY)))

        batches = {}
        for name, contender in OVER_HTTP.items():
            wait = await stack.enter_async_context(contender(url))
            batches[name] = functools.partial(batch, wait)
        return await measure_interleaved(batches, rounds)


async def execute_over_http(name: str, url: str, number: int) -> None:
    """Poll a number of times over HTTP, for the count of instructions."""
    async with OVER_HTTP[name](url) as wait:  # the server counts the polls of each id
        ids = [f"job-{os.getpid()}-{n}" for n in range(number // MANY_POLLS)]
        await asyncio.gather(*map(wait, ids))


async def execute_without_network(name: str, _url: str, number: int) -> None:
    """Poll a number of times without network, for the count of instructions."""
    async with CONTENDERS[name](TINY_INTERVAL) as wait:
        ids = [f"job-{n}" for n in range(number // MANY_POLLS)]
        await asyncio.gather(*(wait(job_id, make_body(job_id, MANY_POLLS)) for job_id in ids))


def run_child(name: str, count: int, traced: bool, connection: Any) -> None:
    connection.send(asyncio.run(measure_waits(name, count, traced=traced)))


def measure_in_process(name: str, count: int, *, traced: bool = False) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_child, args=(name, count, traced, sender))
    process.start()
    sender.close()
    figures: dict[str, float] = receiver.recv()
    process.join()
    return figures


def measure_instructions(url: str) -> None:
    """Print the instructions of a poll, without network and over HTTP."""
    title = f"Instructions of a poll without network, in waits of {MANY_POLLS} polls:"
    if not is_available():
        print_unavailable(title)
        return
    names = [OURS, OURS_WITH_TIMEOUT, HAND_WRITTEN, AZURE]
    target = "benchmarks.waits:execute_without_network"
    counts = {name: instructions_per_operation(target, name, url) for name in names}
    print_instructions(title, "wait", counts, AZURE, {OURS: 0.65, OURS_WITH_TIMEOUT: 1.05})
    title = f"Instructions of a poll over HTTP, in waits of {MANY_POLLS} polls:"
    target = "benchmarks.waits:execute_over_http"
    counts = {name: instructions_per_operation(target, name, url) for name in OVER_HTTP}
    print_instructions(title, "wait", counts, HAND_WRITTEN, {OURS: 0.95})


def run(*, full: bool) -> None:
    rounds = 100 if full else 20
    seconds = asyncio.run(measure_without_network(rounds))
    title = f"A poll without network, {rounds} rounds of {WAITS} waits of {MANY_POLLS} polls:"
    print_ratios(
        title, "wait", seconds, AZURE if AZURE in seconds else HAND_WRITTEN, WAITS * MANY_POLLS
    )
    contenders = list(seconds)

    with run_server(MANY_POLLS - 1) as url:
        measure_instructions(url)
        seconds = asyncio.run(measure_over_http(url, rounds))
    title = f"A poll over HTTP, {rounds} rounds of {CONCURRENCY} waits of {MANY_POLLS} polls:"
    print_ratios(title, "wait", seconds, HAND_WRITTEN, CONCURRENCY * MANY_POLLS)

    rows = []
    hand_written_heap = measure_in_process(HAND_WRITTEN, 10_000, traced=True)["heap"]
    for name in contenders:
        plain, traced = (
            measure_in_process(name, 10_000, traced=traced) for traced in (False, True)
        )
        kib = (f"{figure / 1024:.1f} KiB" for figure in (plain["rss"], traced["heap"]))
        rows.append((name, *kib, f"{traced['heap'] / hand_written_heap:.2f}"))
    print_table(
        "Memory of a wait between its polls, with 10,000 waits in one session:",
        ("wait", "resident", "on the heap", "on the heap, against the hand-written loop"),
        rows,
    )

    growth = []
    for count in (1000, 10_000, 100_000):
        runs = [measure_in_process(OURS, count) for _ in range(5 if count < 100_000 else 1)]
        figures = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        size, poll = f"{figures['rss'] / 1024:.2f} KiB", f"{figures['poll'] * 1e6:.0f} µs"
        growth.append((f"{count:,}", size, poll))
    print_table(
        f"Cost of a wait of {OURS}, by the number of waits:",
        ("waits in one session", "resident memory of a wait", "processor time of a poll"),
        growth,
    )
