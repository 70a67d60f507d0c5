"""Connections that cannot be made: the message, and whether a retry may succeed."""

import asyncio
import socket
from typing import Any

import aiohttp
import aiohttp.abc
import pytest

from moltin_jobs import JobsSession, Retry, TransportError
from tests.raw_server import RawServer, Script, hang, http, job, reset_after, respond, send
from tests.sessions import assert_idle, lookup_error

pytestmark = pytest.mark.looptime


class FakeResolver(aiohttp.abc.AbstractResolver):
    """Resolver that knows no name."""

    def __init__(self, error: OSError) -> None:
        self._error = error

    async def resolve(self, *_: Any, **__: Any) -> Any:
        raise self._error

    async def close(self) -> None:
        pass


@pytest.fixture
async def closed_address() -> str:
    """Return the address of a server that does not listen any more."""
    async with RawServer([]) as server:
        return server.url.removeprefix("http://")


async def test_refused_connection_is_retryable_and_names_the_host(closed_address: str) -> None:
    error = await lookup_error(f"http://{closed_address}")
    assert (type(error), error.retryable, error.job_id) == (TransportError, True, "a")
    assert str(error).startswith(f"job a: cannot connect to {closed_address} (")
    assert str(error).endswith("). Check base_url and the network.")


async def test_refused_connection_over_ipv6_names_the_host_in_brackets() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        try:
            listener.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        address = f"[::1]:{listener.getsockname()[1]}"
        error = await lookup_error(f"http://{address}")
    assert f"cannot connect to {address} (" in str(error)


@pytest.mark.parametrize(
    "failure",
    [OSError(None, "Name or service not known"), OSError("Name or service not known")],
    ids=["with errno", "text only"],
)
async def test_unknown_host_is_retryable_and_named(failure: OSError) -> None:
    connector = aiohttp.TCPConnector(resolver=FakeResolver(failure))
    async with aiohttp.ClientSession(connector=connector) as http_session:
        error = await lookup_error("https://nowhere.example", http_session=http_session)
    assert (type(error), error.retryable) == (TransportError, True)
    expected = "cannot connect to nowhere.example:443 (Name or service not known)"
    assert expected in str(error)


async def test_connection_without_answer_takes_request_timeout() -> None:
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):  # the backlog is full: the next SYN gets no answer
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        error = await lookup_error(f"http://{address}", request_timeout=3)
    assert (type(error), error.retryable) == (TransportError, True)
    assert str(error) == (
        f"job a: no complete response from {address} within 3 s. Try again later, or use a longer "
        f"request_timeout."
    )
    assert 3 <= asyncio.get_running_loop().time() < 3.1


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            send(http(job()[:9], length=99), close=True),
            "the response of {} is truncated, or cannot be decoded (ClientPayloadError)",
        ),
        (send(b"nonsense\r\n\r\n"), "the response of {} is not valid HTTP (ClientResponseError)"),
        (
            send(b"", close=True),
            "the connection to {} was lost before the response was complete "
            "(ServerDisconnectedError)",
        ),
        (
            reset_after(b""),
            "the connection to {} was lost before the response was complete (ClientOSError)",
        ),
    ],
    ids=["truncated", "not HTTP", "closed", "reset"],
)
async def test_incomplete_response_is_retryable_and_gives_the_reason(
    script: Script, reason: str
) -> None:
    async with RawServer([script] * 2) as server:
        error = await lookup_error(server.url)
    assert (type(error), error.retryable) == (TransportError, True)
    expected = reason.format(server.url.removeprefix("http://"))
    assert str(error) == f"job a: {expected}. Try again later."


class TestProxy:
    async def test_proxy_that_refuses_connection_is_named(self, closed_address: str) -> None:
        async with aiohttp.ClientSession(proxy=f"http://{closed_address}") as http_session:
            error = await lookup_error("https://api.example", http_session=http_session)
        assert (type(error), error.retryable) == (TransportError, True)
        assert f"cannot connect to the proxy {closed_address} (" in str(error)
        assert str(error).endswith("). Check the proxy and the network.")

    async def test_proxy_whose_name_cannot_be_resolved_is_named(self) -> None:
        async with aiohttp.ClientSession(proxy="http://proxy.invalid:3128") as http_session:
            error = await lookup_error("https://api.example", http_session=http_session)
        assert "cannot connect to the proxy proxy.invalid:3128 (" in str(error)
        assert str(error).endswith("). Check the proxy and the network.")

    @pytest.mark.parametrize(
        ("status", "retryable"), [("407", False), ("403", True), ("502", True)]
    )
    async def test_proxy_that_rejects_connect_is_named_with_its_status(
        self, status: str, retryable: bool
    ) -> None:
        refusal = respond(b"<html>", f"{status} written by the proxy", "X-A: written, too\r\n")
        async with (
            RawServer([refusal]) as proxy,
            aiohttp.ClientSession(
                proxy=proxy.url.replace("//", "//user:the-password@")
            ) as http_session,
        ):
            error = await lookup_error("https://api.example", http_session=http_session)
        assert (type(error), error.retryable) == (TransportError, retryable)
        address = proxy.url.removeprefix("http://")
        assert str(error) == (
            f"job a: the proxy {address} responded with status {status}. Check the proxy and its "
            f"credentials."
        )
        assert b"Bearer" not in proxy.requests[0]


class TestCreation:
    """A creation is repeated only if the request certainly did not reach the service."""

    MAY_EXIST = "The job may have been created: check list_jobs() before you create it again."

    @staticmethod
    async def create(url: str, http_session: aiohttp.ClientSession | None = None) -> Any:
        async with JobsSession(
            "the-bearer-token", base_url=url, http_session=http_session, retry=Retry(max_attempts=2)
        ) as session:
            try:
                return await session.create_job()
            finally:
                assert_idle(session)

    @pytest.mark.parametrize(
        "script",
        [reset_after(b""), send(b"", close=True), hang, send(b"nonsense\r\n\r\n")],
        ids=["reset", "closed", "no response", "not HTTP"],
    )
    async def test_creation_without_response_is_not_repeated(self, script: Script) -> None:
        async with RawServer([script, respond(job(), "201 Created")]) as server:
            with pytest.raises(TransportError) as caught:
                await self.create(server.url)
        assert len(server.requests) == 1
        assert not caught.value.retryable
        assert str(caught.value).startswith("the creation of a job: ")
        assert str(caught.value).endswith(self.MAY_EXIST)

    async def test_creation_without_connection_is_repeated(self, closed_address: str) -> None:
        started_at = asyncio.get_running_loop().time()
        with pytest.raises(TransportError) as caught:
            await self.create(f"http://{closed_address}")
        assert caught.value.retryable
        assert self.MAY_EXIST not in str(caught.value)
        assert asyncio.get_running_loop().time() - started_at >= 0.25  # the interval of the retry

    @pytest.mark.parametrize(("status", "requests"), [("407", 1), ("502", 2)])
    async def test_creation_that_proxy_rejects_is_not_uncertain(
        self, status: str, requests: int
    ) -> None:
        async with (
            RawServer(
                [respond(status=f"{status} No", headers="Connection: close\r\n")] * 2
            ) as proxy,
            aiohttp.ClientSession(proxy=proxy.url) as http_session,
        ):
            with pytest.raises(TransportError) as caught:
                await self.create("https://api.example", http_session)
        assert self.MAY_EXIST not in str(caught.value)
        assert len(proxy.requests) == requests
