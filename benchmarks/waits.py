"""What a wait costs: its memory while it rests, and its polls, with and without the network.

Without the network each contender is handed the same body by a coroutine, and decodes it. Memory
is measured in a process for each, since what was once taken is not given back: all waits poll
once, rest while it is measured, and then poll twice more.
"""

import asyncio
import contextlib
import functools
import gc
import importlib
import itertools
import json
import multiprocessing
import statistics
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import backoff

from benchmarks.measure import OURS, if_installed, interleaved, processor, resident, show_ratios
from benchmarks.server import BODY, running
from benchmarks.table import show
from moltin_jobs import JobsSession, Polling
from moltin_jobs._api.parsing import Answer
from moltin_jobs._http.transport import Request

POLLS = 3
MANY_POLLS = 10
WAITS = 100
AT_ONCE = 64
TINY = 1e-6  # seconds from poll to poll, where only processor time counts
ENDED = ("success", "complete", "failed")
AZURE = "azure-core's `AsyncLROPoller`"
HAND_WRITTEN = "hand-written `while: get; sleep`"

Body = Callable[[], Awaitable[bytes]]
Wait = Callable[[str, Body], Awaitable[object]]
Contender = Callable[[float], AbstractAsyncContextManager[Wait]]


@contextlib.asynccontextmanager
async def ours(interval: float) -> AsyncIterator[Wait]:
    """The whole of `wait_for_job`, with the transport's answers handed to it."""
    polling = Polling(initial=interval, factor=1, max_interval=interval)
    async with JobsSession("a-bearer-token", rate_limit=None, polling=polling) as session:
        bodies: dict[str, Body] = {}

        async def send(request: Request) -> Answer:
            body = await bodies[request.about]()
            return Answer(request.url, 200, {}, body, 0.0)

        session._transport.send = send  # type: ignore[method-assign]  # noqa: SLF001 (no network)

        async def wait(job_id: str, body: Body) -> Any:
            bodies[f"job {job_id}"] = body
            await session.wait_for_job(job_id)

        yield wait


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
async def azure_poller(  # noqa: C901 (it asks for eight methods)
    interval: float,
) -> AsyncIterator[Wait]:
    """`AsyncLROPoller` with the base method of polling, but for the request itself."""
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
        return await core.AsyncLROPoller(None, first, lambda answer: answer.job, Method(body))

    yield wait


CONTENDERS: dict[str, Contender] = {
    OURS: ours,
    HAND_WRITTEN: hand_written,
    AZURE: azure_poller,
    "`backoff.on_predicate`, made for each call": backoff_on_predicate,
    "tenacity": tenacity,
}


def answers(job_id: str, polls: int = POLLS) -> Body:
    """Hands out a body that is pending, and at the last poll one that is done."""
    left = itertools.count(1)

    async def body() -> bytes:
        status = "success" if next(left) == polls else "pending"
        return (BODY % (job_id, status, job_id)).encode()

    return body


async def pending_waits(name: str, count: int, *, traced: bool) -> dict[str, float]:
    interval = max(1.0, count * 1.5e-4)  # more than all the polls of one round take
    async with CONTENDERS[name](interval) as wait:
        await asyncio.gather(*(wait(f"warm-{n}", answers(f"warm-{n}")) for n in range(10)))
        bodies = {f"job-{n}": answers(f"job-{n}") for n in range(count)}
        gc.collect()
        if traced:
            tracemalloc.start()
        memory, spent = resident(), processor()
        waits = [asyncio.create_task(_run(wait, *job)) for job in bodies.items()]
        await asyncio.sleep(interval * 0.7)
        each = (resident() - memory) / count
        heap = tracemalloc.get_traced_memory()[0] / count if traced else 0.0
        await asyncio.gather(*waits)
        return {"rss": each, "heap": heap, "poll": (processor() - spent) / count / POLLS}


async def _run(wait: Wait, job_id: str, body: Body) -> None:
    await wait(job_id, body)


async def polls_without_network(rounds: int) -> dict[str, list[float]]:
    """Each batch is a hundred waits of ten polls each."""
    numbers = itertools.count()
    async with contextlib.AsyncExitStack() as stack:

        async def batch(wait: Wait) -> None:
            ids = [f"job-{next(numbers)}" for _ in range(WAITS)]
            bodies = [answers(job_id, MANY_POLLS) for job_id in ids]
            await asyncio.gather(*map(wait, ids, bodies))

        batches = {}
        for name, contender in CONTENDERS.items():
            with if_installed(name):
                wait = await stack.enter_async_context(contender(TINY))
                batches[name] = functools.partial(batch, wait)
        return await interleaved(batches, rounds)


async def polls_over_http(url: str, rounds: int) -> dict[str, list[float]]:
    """Each batch is 64 waits, of as many polls each as the server has each job take."""
    numbers = itertools.count()
    polling = Polling(initial=TINY, factor=1, max_interval=TINY)
    session = JobsSession("a-bearer-token", base_url=url, rate_limit=1_000_000, polling=polling)
    headers = {"Authorization": "Bearer a-bearer-token"}
    async with session, aiohttp.ClientSession(headers=headers) as http:

        async def by_hand(job_id: str) -> Any:
            while True:
                async with http.get(f"{url}/v2/jobs/{job_id}") as response:
                    job = (await response.json())["data"]
                if job["status"] in ENDED:
                    return job
                await asyncio.sleep(TINY)

        async def batch(wait: Callable[[str], Awaitable[Any]]) -> None:
            await asyncio.gather(*(wait(f"job-{next(numbers)}") for _ in range(AT_ONCE)))

        waits = {OURS: session.wait_for_job, HAND_WRITTEN: by_hand}
        batches = {name: functools.partial(batch, wait) for name, wait in waits.items()}
        return await interleaved(batches, rounds)


def child(name: str, count: int, traced: bool, out: Any) -> None:
    out.send(asyncio.run(pending_waits(name, count, traced=traced)))


def in_a_process(name: str, count: int, *, traced: bool = False) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=child, args=(name, count, traced, there))
    process.start()
    there.close()
    figures: dict[str, float] = here.recv()
    process.join()
    return figures


def run(*, full: bool) -> None:
    rounds = 100 if full else 20
    spent = asyncio.run(polls_without_network(rounds))
    title = f"A poll without the network, {rounds} rounds of {WAITS} waits of {MANY_POLLS} polls:"
    show_ratios(title, "a poll of", spent, AZURE if AZURE in spent else HAND_WRITTEN, WAITS * 10)

    contenders = list(spent)

    with running(polls=MANY_POLLS - 1) as url:
        spent = asyncio.run(polls_over_http(url, rounds))
    title = f"A poll over HTTP, {rounds} rounds of {AT_ONCE} waits of {MANY_POLLS} polls:"
    show_ratios(title, "a poll of", spent, HAND_WRITTEN, AT_ONCE * MANY_POLLS)

    rows = []
    by_hand = in_a_process(HAND_WRITTEN, 10_000)["rss"]
    for name in contenders:
        plain, traced = (in_a_process(name, 10_000, traced=traced) for traced in (False, True))
        kib = (f"{figure / 1024:.1f} KiB" for figure in (plain["rss"], traced["heap"]))
        rows.append((name, *kib, f"{plain['rss'] / by_hand:.2f}"))
    show(
        "Memory of a wait that rests, of 10,000 in one session:",
        ("a wait by", "resident", "on the heap", "resident, against the hand-written"),
        rows,
    )

    growth = []
    for count in (1000, 10_000, 100_000):
        runs = [in_a_process(OURS, count) for _ in range(5 if count < 100_000 else 1)]
        figures = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        size, poll = f"{figures['rss'] / 1024:.2f} KiB", f"{figures['poll'] * 1e6:.0f} µs"
        growth.append((f"{count:,}", size, poll))
    show("Growth:", ("waits in one session", "resident, each", "processor time of a poll"), growth)
