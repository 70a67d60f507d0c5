"""Cost of a lookup of a new id, with 64 in flight."""

import contextlib
import datetime
import importlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp

from benchmarks.costs import Comparison
from benchmarks.instructions import Contender, Operate
from benchmarks.measure import OURS, run_concurrently
from benchmarks.server import run_server
from moltin_jobs import JobsSession

CONCURRENCY = 64
BASELINE = "aiohttp `get` + `json`"
HEADERS = {"Authorization": "Bearer a-bearer-token"}

Lookup = Callable[[str], Awaitable[object]]
Client = Callable[[str], AbstractAsyncContextManager[Lookup]]
"""Takes the URL of the server."""


@contextlib.asynccontextmanager
async def ours(url: str) -> AsyncIterator[Lookup]:
    """This client, with a rate limit that is counted but never reached."""
    async with JobsSession("a-bearer-token", base_url=url, rate_limit=1_000_000) as session:
        yield session.get_job


def plain_aiohttp(read: Callable[[aiohttp.ClientResponse], Awaitable[object]]) -> Client:
    @contextlib.asynccontextmanager
    async def client(url: str) -> AsyncIterator[Lookup]:
        async with aiohttp.ClientSession(headers=HEADERS) as http:

            async def lookup(job_id: str) -> object:
                async with http.get(f"{url}/v2/jobs/{job_id}") as response:
                    return await read(response)  # as cheap as a call of the method

            yield lookup

    return client


def pydantic_decoder() -> Callable[[bytes], object]:
    """Return a decoder of a body that uses a frozen pydantic model."""
    from pydantic import BaseModel, Field

    class Timestamps(BaseModel):
        created_at: datetime.datetime
        updated_at: datetime.datetime

    class Links(BaseModel):
        self_url: str = Field(alias="self")

    class Link(BaseModel):
        href: str

    class Job(BaseModel, frozen=True):
        id: str
        type: str
        job_type: str
        status: str
        error: str | None = None
        timestamps: Timestamps
        links: Links
        link: Link

    class Envelope(BaseModel):
        data: Job

    return lambda body: Envelope.model_validate_json(body).data


@contextlib.asynccontextmanager
async def aiohttp_pydantic(url: str) -> AsyncIterator[Lookup]:
    decode = pydantic_decoder()
    async with aiohttp.ClientSession(headers=HEADERS) as http:

        async def lookup(job_id: str) -> object:
            async with http.get(f"{url}/v2/jobs/{job_id}") as response:
                return decode(await response.read())

        yield lookup


@contextlib.asynccontextmanager
async def httpx_pydantic(url: str) -> AsyncIterator[Lookup]:
    httpx, decode = importlib.import_module("httpx"), pydantic_decoder()
    async with httpx.AsyncClient(headers=HEADERS) as http:

        async def lookup(job_id: str) -> object:
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


def new_ids(client: Client) -> Contender:
    """Look up ids that the client has not looked up before."""

    @contextlib.asynccontextmanager
    async def contender(url: str) -> AsyncIterator[Operate]:
        ids = (f"job-{number}" for number in itertools.count())
        async with client(url) as lookup:
            yield lambda number: run_concurrently(
                lookup, itertools.islice(ids, number), CONCURRENCY
            )

    return contender


CONTENDERS: dict[str, Contender] = {
    OURS: new_ids(ours),
    BASELINE: new_ids(plain_aiohttp(aiohttp.ClientResponse.json)),
    "aiohttp `get` + `read`": new_ids(plain_aiohttp(aiohttp.ClientResponse.read)),
    "aiohttp + pydantic": new_ids(aiohttp_pydantic),
    "niquests": new_ids(niquests),
    "azure-core's pipeline": new_ids(azure_core),
    "httpx + pydantic": new_ids(httpx_pydantic),
}

LOOKUPS = Comparison(
    title=f"Lookups of new ids over HTTP, {CONCURRENCY} in flight",
    operation="lookup",
    target="benchmarks.lookup:CONTENDERS",
    baseline=BASELINE,
    goals={OURS: 1.00},
    packages=("aiohttp", "azure-core", "httpx", "niquests", "pydantic"),
    slow=["httpx + pydantic"],
)


def run(*, full: bool) -> None:
    with run_server() as url:
        LOOKUPS.print_costs(url, full=full)
