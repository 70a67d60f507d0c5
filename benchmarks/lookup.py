"""Instructions and processor time of a lookup of a new id, with 64 in flight."""

import asyncio
import contextlib
import functools
import importlib
import itertools
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp

from benchmarks.instructions import (
    instructions_per_operation,
    is_available,
    print_instructions,
    print_unavailable,
)
from benchmarks.measure import OURS, measure_interleaved, print_ratios, skip_if_missing
from benchmarks.models import pydantic_job
from benchmarks.server import run_server
from moltin_jobs import JobsSession

CONCURRENCY = 64
BATCH = 250
ROUNDS = 20  # so 5,000 lookups each
BASELINE = "aiohttp `get` + `json`"
HEADERS = {"Authorization": "Bearer a-bearer-token"}

Lookup = Callable[[str], Awaitable[object]]
Contender = Callable[[str], AbstractAsyncContextManager[Lookup]]


@contextlib.asynccontextmanager
async def ours(url: str) -> AsyncIterator[Lookup]:
    """This client, with a rate limit that is counted but never reached."""
    async with JobsSession("a-bearer-token", base_url=url, rate_limit=1_000_000) as session:
        yield session.get_job


def plain_aiohttp(read: Callable[[aiohttp.ClientResponse], Awaitable[object]]) -> Contender:
    @contextlib.asynccontextmanager
    async def contender(url: str) -> AsyncIterator[Lookup]:
        async with aiohttp.ClientSession(headers=HEADERS) as http:

            async def lookup(job_id: str) -> object:
                async with http.get(f"{url}/v2/jobs/{job_id}") as response:
                    return await read(response)  # as cheap as a call of the method

            yield lookup

    return contender


@contextlib.asynccontextmanager
async def aiohttp_pydantic(url: str) -> AsyncIterator[Lookup]:
    decode = pydantic_job()
    async with aiohttp.ClientSession(headers=HEADERS) as http:

        async def lookup(job_id: str) -> Any:
            async with http.get(f"{url}/v2/jobs/{job_id}") as response:
                return decode(await response.read())

        yield lookup


@contextlib.asynccontextmanager
async def httpx_pydantic(url: str) -> AsyncIterator[Lookup]:
    httpx, decode = importlib.import_module("httpx"), pydantic_job()
    async with httpx.AsyncClient(headers=HEADERS) as http:

        async def lookup(job_id: str) -> Any:
            return decode((await http.get(f"{url}/v2/jobs/{job_id}")).content)

        yield lookup


@contextlib.asynccontextmanager
async def azure_core(url: str) -> AsyncIterator[Lookup]:
    """azure-core with its usual policies, and its transport over aiohttp."""
    core = importlib.import_module("azure.core")
    policies = importlib.import_module("azure.core.pipeline.policies")
    rest = importlib.import_module("azure.core.rest")
    client = core.AsyncPipelineClient(
        url,
        policies=[
            policies.RequestIdPolicy(),
            policies.HeadersPolicy(HEADERS),
            policies.UserAgentPolicy("benchmark"),
            policies.AsyncRetryPolicy(),
        ],
    )
    async with client:

        async def lookup(job_id: str) -> Any:
            request = rest.HttpRequest("GET", f"{url}/v2/jobs/{job_id}")
            response = await client.send_request(request)
            return response.json()

        yield lookup


@contextlib.asynccontextmanager
async def niquests(url: str) -> AsyncIterator[Lookup]:
    package = importlib.import_module("niquests")
    async with package.AsyncSession(pool_connections=1, pool_maxsize=CONCURRENCY) as http:
        http.headers.update(HEADERS)

        async def lookup(job_id: str) -> Any:
            return (await http.get(f"{url}/v2/jobs/{job_id}")).json()

        yield lookup


class Connection(asyncio.Protocol):
    """Minimal HTTP/1.1: one request after another."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def get(self, path: str, host: str) -> asyncio.Future[bytes]:
        self._response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        headers = f"Host: {host}\r\nAuthorization: {HEADERS['Authorization']}\r\n"
        self._transport.write(f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode())
        return self._response

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if separator:
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(body) >= length:
                self._received = b""
                self._response.set_result(body)


@contextlib.asynccontextmanager
async def bare_protocol(url: str) -> AsyncIterator[Lookup]:
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(Connection, host, int(port)))[1] for _ in range(CONCURRENCY)
    ]
    idle = connections.copy()

    async def lookup(job_id: str) -> Any:
        connection = idle.pop()
        body = await connection.get(f"/v2/jobs/{job_id}", host)
        idle.append(connection)
        return json.loads(body)

    yield lookup
    for connection in connections:
        connection._transport.close()  # noqa: SLF001 (in the same module)


CONTENDERS: dict[str, Contender] = {
    OURS: ours,
    "aiohttp `get` + `read`": plain_aiohttp(aiohttp.ClientResponse.read),
    BASELINE: plain_aiohttp(aiohttp.ClientResponse.json),
    "aiohttp + pydantic": aiohttp_pydantic,
    "httpx + pydantic": httpx_pydantic,
    "azure-core's pipeline": azure_core,
    "niquests": niquests,
    "a bare `asyncio.Protocol`, without checks": bare_protocol,
}


async def look_up_batch(lookup: Lookup, numbers: Iterator[int]) -> None:
    await look_up_all(lookup, itertools.islice(numbers, BATCH))


async def look_up_all(lookup: Lookup, numbers: Iterator[int]) -> None:
    """Look up the jobs of these numbers, 64 at a time."""

    async def work() -> None:
        for number in numbers:
            await lookup(f"job-{number}")

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


async def execute(name: str, url: str, number: int) -> None:
    """Look up a number of jobs, for the count of instructions."""
    async with CONTENDERS[name](url) as lookup:
        await look_up_all(lookup, iter(range(number)))


async def measure_lookups(url: str, rounds: int) -> dict[str, list[float]]:
    numbers = itertools.count()
    async with contextlib.AsyncExitStack() as stack:
        batches = {}
        for name, contender in CONTENDERS.items():
            with skip_if_missing(name):
                lookup = await stack.enter_async_context(contender(url))
                batches[name] = functools.partial(look_up_batch, lookup, numbers)
        return await measure_interleaved(batches, rounds)


def server_seconds(url: str) -> float:
    """Return the processor time that the server has used."""
    with urllib.request.urlopen(f"{url}/cpu") as response:  # noqa: S310 (our own server)
        return float(response.read())


def measure_instructions() -> None:
    """Print the instructions of a lookup."""
    title = f"Instructions of a lookup of a new id, with {CONCURRENCY} in flight:"
    if not is_available():
        print_unavailable(title)
        return
    with run_server() as url:
        counts = {
            name: instructions_per_operation("benchmarks.lookup:execute", name, url)
            for name in (OURS, BASELINE)
        }
    print_instructions(title, "client", counts, BASELINE, {OURS: 1.0})


def run(*, full: bool) -> None:
    measure_instructions()
    with run_server() as url:
        server_start, start = server_seconds(url), time.perf_counter()
        seconds = asyncio.run(measure_lookups(url, ROUNDS * (5 if full else 1)))
        utilization = (server_seconds(url) - server_start) / (time.perf_counter() - start)
    lookups = len(seconds[BASELINE]) * BATCH
    title = (
        f"{lookups:,} lookups of new ids by each client, with {CONCURRENCY} in flight "
        f"(the server's process used {utilization:.0%} of a core):"
    )
    print_ratios(title, "client", seconds, BASELINE, BATCH)
