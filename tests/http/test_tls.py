"""TLS that fails, in real time: a handshake is work for the processor, which no clock shows."""

import asyncio
import datetime
import ssl
from typing import Any

import aiohttp
import pytest
import trustme

from moltin_jobs import JobsSession, Retry, TransportError
from tests.raw_server import RawServer, http, job, send

ANSWER = send(http(job("success")))


def server_context(ca: trustme.CA, name: str, **terms: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name, **terms).configure_cert(context)
    return context


def trusting(ca: trustme.CA) -> aiohttp.ClientSession:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


async def failed_lookup(url: str, http: aiohttp.ClientSession | None = None) -> TransportError:
    once = Retry(max_tries=1)
    async with JobsSession("the-bearer-token", base_url=url, http=http, retry=once) as session:
        with pytest.raises(TransportError) as caught:
            await session.get_job("a")
    return caught.value


async def test_an_unknown_authority_ends_a_wait_at_once_and_sees_no_token() -> None:
    async with RawServer([ANSWER], server_context(trustme.CA(), "127.0.0.1")) as server:
        async with JobsSession("the-bearer-token", base_url=server.url) as session:
            with pytest.raises(TransportError, match="certificate") as caught:
                await session.wait_for_job("a")
        assert server.requests == []
    assert not caught.value.temporary


@pytest.mark.parametrize(
    ("name", "terms", "told"),
    [
        ("127.0.0.1", {"not_after": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)}, "expired"),
        ("other.example", {}, "mismatch"),
    ],
    ids=["expired", "of another host"],
)
async def test_a_certificate_that_does_not_fit(name: str, terms: Any, told: str) -> None:
    ca = trustme.CA()
    async with (
        RawServer([ANSWER], server_context(ca, name, **terms)) as server,
        trusting(ca) as http,
    ):
        error = await failed_lookup(server.url, http)
        assert server.requests == []
    assert not error.temporary
    assert told in str(error)


async def test_no_tls_at_all() -> None:
    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(status="400 Plain HTTP only"))
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        error = await failed_lookup(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert error.temporary


async def test_a_private_authority_that_the_callers_session_trusts() -> None:
    ca = trustme.CA()
    async with (
        RawServer([ANSWER], server_context(ca, "127.0.0.1")) as server,
        trusting(ca) as http,
        JobsSession("the-bearer-token", base_url=server.url, http=http) as session,
    ):
        assert (await session.get_job("a")).status == "success"
