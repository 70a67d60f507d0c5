"""Cost of a poll with and without network, and memory of a wait between its polls."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp

from benchmarks.costs import Comparison
from benchmarks.instructions import Contender, Operate
from benchmarks.measure import OURS, run_concurrently
from benchmarks.server import run_server
from benchmarks.wait_contenders import (
    AZURE,
    CONTENDERS,
    ENDED,
    HAND_WRITTEN,
    OURS_WITH_TIMEOUT,
    MakeWait,
    make_body,
)
from benchmarks.wait_memory import print_growth, print_memory
from moltin_jobs import JobsSession, Polling

POLLS = 10
CONCURRENCY = 10
INTERVAL = 1e-6  # nothing else is measured than the polls
HEADERS = {"Authorization": "Bearer a-bearer-token"}
NEW_IDS = (f"job-{os.getpid()}-{number}" for number in itertools.count())
"""Ids that the server has not seen. It counts their polls, so contenders do not share an id."""

Wait = Callable[[str], Awaitable[object]]
Client = Callable[[str], AbstractAsyncContextManager[Wait]]
"""Takes the URL of the server."""


@contextlib.asynccontextmanager
async def ours(url: str) -> AsyncIterator[Wait]:
    polling = Polling(initial_interval=INTERVAL, multiplier=1, max_interval=INTERVAL)
    async with JobsSession(
        "a-bearer-token", base_url=url, rate_limit=1_000_000, polling=polling
    ) as session:
        yield session.wait_for_job


@contextlib.asynccontextmanager
async def hand_written(url: str) -> AsyncIterator[Wait]:
    async with aiohttp.ClientSession(headers=HEADERS) as http:

        async def wait(job_id: str) -> Any:
            while True:
                async with http.get(f"{url}/v2/jobs/{job_id}") as response:
                    job = (await response.json())["data"]
                if job["status"] in ENDED:
                    return job
                await asyncio.sleep(INTERVAL)

        yield wait


def without_network(make_wait: MakeWait) -> Client:
    """Wait for jobs whose bodies come from a coroutine."""

    @contextlib.asynccontextmanager
    async def client(_: str) -> AsyncIterator[Wait]:
        wait = make_wait(INTERVAL)
        yield lambda job_id: wait(job_id, make_body(job_id, POLLS))

    return client


def polls(client: Client) -> Contender:
    """Poll in waits for new ids."""

    @contextlib.asynccontextmanager
    async def contender(url: str) -> AsyncIterator[Operate]:
        async with client(url) as wait:
            yield lambda number: run_concurrently(
                wait, itertools.islice(NEW_IDS, number // POLLS), CONCURRENCY
            )

    return contender


OVER_HTTP: dict[str, Contender] = {OURS: polls(ours), HAND_WRITTEN: polls(hand_written)}
WITHOUT_NETWORK: dict[str, Contender] = {
    name: polls(without_network(make_wait)) for name, make_wait in CONTENDERS.items()
}

POLLS_OVER_HTTP = Comparison(
    title=f"Waits of {POLLS} polls over HTTP, {CONCURRENCY} waits at a time",
    operation="poll",
    target="benchmarks.waits:OVER_HTTP",
    baseline=HAND_WRITTEN,
    goals={OURS: 0.95},
    packages=["aiohttp"],
)
POLLS_WITHOUT_NETWORK = Comparison(
    title=f"Waits of {POLLS} polls without network, {CONCURRENCY} waits at a time",
    operation="poll",
    target="benchmarks.waits:WITHOUT_NETWORK",
    baseline=AZURE,
    goals={OURS: 0.65, OURS_WITH_TIMEOUT: 1.05},
    packages=("azure-core", "backoff", "tenacity"),
)


def run(*, full: bool) -> None:
    with run_server(POLLS - 1) as url:
        POLLS_OVER_HTTP.print_costs(url, full=full)
        POLLS_WITHOUT_NETWORK.print_costs(url, full=full)
    print_memory()
    print_growth()
