"""Waits that get their bodies from a coroutine, so that only the wait itself is measured.

Each contender parses the bodies itself. A contender takes the interval between polls in seconds.
"""

import asyncio
import importlib
import itertools
import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

import backoff

from benchmarks.measure import OURS
from benchmarks.server import BODY
from moltin_jobs import JobWatch, Polling
from moltin_jobs._api import endpoints
from moltin_jobs._api.endpoints import Response
from moltin_jobs._api.parsing import parse_job
from moltin_jobs._polling.sources import IdSource, Snapshot
from moltin_jobs._tasks.operations import Operations

ENDED = ("success", "complete", "failed")
OURS_WITH_TIMEOUT = f"{OURS}, with a timeout"
AZURE = "azure-core's `AsyncLROPoller`"
HAND_WRITTEN = "hand-written `while: get; sleep`"

Body = Callable[[], Awaitable[bytes]]
Wait = Callable[[str, Body], Awaitable[object]]
MakeWait = Callable[[float], Wait]


def make_body(job_id: str, polls: int) -> Body:
    """Return a coroutine function that returns a pending job, and a successful one at the end."""
    numbers = itertools.count(1)

    async def body() -> bytes:
        status = "success" if next(numbers) == polls else "pending"
        return (BODY % (job_id, status, job_id)).encode()

    return body


def ours(interval: float, timeout: float = math.inf) -> Wait:
    """This client's wait, with a source that needs no network."""
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

    return wait


def ours_with_timeout(interval: float) -> Wait:
    return ours(interval, timeout=3600)


def hand_written(interval: float) -> Wait:
    async def wait(_: str, body: Body) -> Any:
        while True:
            job = json.loads(await body())["data"]
            if job["status"] in ENDED:
                return job
            await asyncio.sleep(interval)

    return wait


async def get_job(_: str, body: Body) -> Any:
    return json.loads(await body())["data"]


def is_pending(job: Any) -> bool:
    return job["status"] not in ENDED


def backoff_on_predicate(interval: float) -> Wait:
    repeat = backoff.on_predicate(backoff.constant, is_pending, interval=interval, jitter=None)
    wait: Wait = repeat(get_job)
    return wait


def tenacity_retry(interval: float) -> Wait:
    tenacity = importlib.import_module("tenacity")
    repeat = tenacity.retry(
        wait=tenacity.wait_fixed(interval), retry=tenacity.retry_if_result(is_pending)
    )
    wait: Wait = repeat(get_job)
    return wait


def azure_poller(interval: float) -> Wait:  # noqa: C901 (it needs eight methods)
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

    return wait


CONTENDERS: dict[str, MakeWait] = {
    OURS: ours,
    OURS_WITH_TIMEOUT: ours_with_timeout,
    HAND_WRITTEN: hand_written,
    AZURE: azure_poller,
    "`backoff.on_predicate`": backoff_on_predicate,
    "tenacity": tenacity_retry,
}
