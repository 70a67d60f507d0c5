"""TLS that fails, in real time: a virtual clock would not advance during a handshake."""

import asyncio
import datetime
import re
import ssl
from typing import Any

import aiohttp
import pytest
import trustme

from moltin_jobs import JobsSession, TransportError
from tests.raw_server import RawServer, http, job, respond
from tests.sessions import lookup_error

RESPONSE = respond(job("success"))


def server_context(ca: trustme.CA, host: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host, **options).configure_cert(context)
    return context


def trusting(ca: trustme.CA) -> aiohttp.ClientSession:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


async def test_wait_with_untrusted_certificate_fails_at_once_and_sends_no_token() -> None:
    async with RawServer([RESPONSE], server_context(trustme.CA(), "127.0.0.1")) as server:
        async with JobsSession("the-bearer-token", base_url=server.url) as session:
            with pytest.raises(TransportError) as caught:
                await session.wait_for_job("a")
        assert server.requests == []
    assert not caught.value.retryable
    address = re.escape(server.url.removeprefix("https://"))
    assert re.fullmatch(
        rf"job a: the certificate of {address} could not be verified \([\w -]*issuer[\w ]*\)\. "
        rf"Check base_url, or pass an http_session whose SSL context trusts the certificate\.",
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("host", "options", "reason"),
    [
        (
            "127.0.0.1",
            {"not_after": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)},
            "certificate has expired",
        ),
        ("other.example", {}, "certificate is not valid for '127.0.0.1'"),
    ],
    ids=["expired", "another host"],
)
async def test_lookup_with_wrong_certificate_gives_the_reason(
    host: str, options: Any, reason: str
) -> None:
    ca = trustme.CA()
    async with (
        RawServer([RESPONSE], server_context(ca, host, **options)) as server,
        trusting(ca) as http_session,
    ):
        error = await lookup_error(server.url, http_session=http_session)
        assert server.requests == []
    assert isinstance(error, TransportError)
    assert not error.retryable
    assert f"{reason}). Check base_url, " in str(error)


class StrictSSLObject(ssl.SSLObject):
    """TLS connection whose own check of the certificate always fails."""

    def do_handshake(self) -> None:
        super().do_handshake()
        raise ssl.CertificateError


async def test_lookup_whose_ssl_context_rejects_the_certificate_itself_fails_at_once() -> None:
    ca = trustme.CA()
    context = ssl.create_default_context()
    ca.configure_trust(context)
    context.sslobject_class = StrictSSLObject
    async with (
        RawServer([RESPONSE], server_context(ca, "127.0.0.1")) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http_session,
    ):
        error = await lookup_error(server.url, http_session=http_session)
        assert server.requests == []
    assert isinstance(error, TransportError)
    assert not error.retryable
    assert "could not be verified (unknown reason). Check base_url, " in str(error)


async def test_lookup_with_wrong_fingerprint_sends_no_token() -> None:
    ca = trustme.CA()
    pinned = aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(bytes(32)))
    async with (
        RawServer([RESPONSE], server_context(ca, "127.0.0.1")) as server,
        aiohttp.ClientSession(connector=pinned) as http_session,
    ):
        error = await lookup_error(server.url, http_session=http_session)
        assert server.requests == []
    assert isinstance(error, TransportError)
    assert not error.retryable
    address = server.url.removeprefix("https://")
    assert f"the certificate of {address} does not have the expected fingerprint." in str(error)


async def test_lookup_of_server_without_tls_is_retryable() -> None:
    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(status="400 written by the peer"))
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        error = await lookup_error(f"https://{address}")
    assert isinstance(error, TransportError)
    assert error.retryable
    assert f"cannot connect to {address} (" in str(error)
    assert "written by the peer" not in str(error)


async def test_lookup_with_http_session_that_trusts_private_authority_succeeds() -> None:
    ca = trustme.CA()
    async with (
        RawServer([RESPONSE], server_context(ca, "127.0.0.1")) as server,
        trusting(ca) as http_session,
        JobsSession("the-bearer-token", base_url=server.url, http_session=http_session) as session,
    ):
        assert (await session.get_job("a")).status == "success"
