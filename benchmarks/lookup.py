"""What one lookup of a new id costs, with 64 in flight, beside other ways to do it."""

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

from benchmarks.measure import OURS, if_installed, interleaved, show_ratios
from benchmarks.models import pydantic_job
from benchmarks.server import running
from moltin_jobs import JobsSession

AT_ONCE = 64
BATCH = 250
ROUNDS = 20  # so 5,000 lookups each
BASE = "aiohttp `get` + `json`"
HEADERS = {"Authorization": "Bearer a-bearer-token"}

Lookup = Callable[[str], Awaitable[object]]
Contender = Callable[[str], AbstractAsyncContextManager[Lookup]]


@contextlib.asynccontextmanager
async def ours(url: str) -> AsyncIterator[Lookup]:
    """With a rate limit that is counted, and high enough not to be met."""
    async with JobsSession("a-bearer-token", base_url=url, rate_limit=1_000_000) as session:
        yield session.get_job


def by_aiohttp(take: Callable[[aiohttp.ClientResponse], Awaitable[object]]) -> Contender:
    @contextlib.asynccontextmanager
    async def contender(url: str) -> AsyncIterator[Lookup]:
        async with aiohttp.ClientSession(headers=HEADERS) as http:

            async def lookup(job_id: str) -> object:
                async with http.get(f"{url}/v2/jobs/{job_id}") as response:
                    return await take(response)  # no call more than by its name

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
    """Its usual policies, on its transport over aiohttp."""
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
    async with package.AsyncSession(pool_connections=1, pool_maxsize=AT_ONCE) as http:
        http.headers.update(HEADERS)

        async def lookup(job_id: str) -> Any:
            return (await http.get(f"{url}/v2/jobs/{job_id}")).json()

        yield lookup


class Connection(asyncio.Protocol):
    """One request after another: what HTTP/1.1 takes at the least."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def get(self, path: str, host: str) -> asyncio.Future[bytes]:
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        headers = f"Host: {host}\r\nAuthorization: {HEADERS['Authorization']}\r\n"
        self._transport.write(f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode())
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if found:
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(body) >= length:
                self._received = b""
                self._answer.set_result(body)


@contextlib.asynccontextmanager
async def bare_protocol(url: str) -> AsyncIterator[Lookup]:
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(Connection, host, int(port)))[1] for _ in range(AT_ONCE)
    ]
    idle = opened.copy()

    async def lookup(job_id: str) -> Any:
        connection = idle.pop()
        body = await connection.get(f"/v2/jobs/{job_id}", host)
        idle.append(connection)
        return json.loads(body)

    yield lookup
    for connection in opened:
        connection._transport.close()  # noqa: SLF001 (its own module)


CONTENDERS: dict[str, Contender] = {
    OURS: ours,
    "aiohttp `get` + `read`": by_aiohttp(aiohttp.ClientResponse.read),
    BASE: by_aiohttp(aiohttp.ClientResponse.json),
    "aiohttp + pydantic": aiohttp_pydantic,
    "httpx + pydantic": httpx_pydantic,
    "azure-core's pipeline": azure_core,
    "niquests": niquests,
    "a bare `asyncio.Protocol`, no guards": bare_protocol,
}


async def batch(lookup: Lookup, numbers: Iterator[int]) -> None:
    """The next lookups of one round."""
    await many(lookup, itertools.islice(numbers, BATCH))


async def many(lookup: Lookup, numbers: Iterator[int]) -> None:
    """Look all of them up, so many at once."""

    async def work() -> None:
        for number in numbers:
            await lookup(f"job-{number}")

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def measured(url: str, rounds: int) -> dict[str, list[float]]:
    names = itertools.count()
    async with contextlib.AsyncExitStack() as stack:
        batches = {}
        for name, contender in CONTENDERS.items():
            with if_installed(name):
                lookup = await stack.enter_async_context(contender(url))
                batches[name] = functools.partial(batch, lookup, names)
        return await interleaved(batches, rounds)


def server_seconds(url: str) -> float:
    """Processor time that the server has used."""
    with urllib.request.urlopen(f"{url}/cpu") as answer:  # noqa: S310 (our own)
        return float(answer.read())


def run(*, full: bool) -> None:
    with running() as url:
        used, start = server_seconds(url), time.perf_counter()
        spent = asyncio.run(measured(url, ROUNDS * (5 if full else 1)))
        busy = (server_seconds(url) - used) / (time.perf_counter() - start)
    lookups = len(spent[BASE]) * BATCH
    title = (
        f"{lookups:,} lookups of new ids, {AT_ONCE} in flight "
        f"(the server's process was busy for {busy:.0%} of the time):"
    )
    show_ratios(title, "a lookup by", spent, BASE, BATCH)
