"""The catalogue of faults: what each gives to the caller of a lookup, and does to a wait."""

import asyncio
import gzip
import itertools
import json
import socket
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import aiohttp
import aiohttp.abc
import pytest

from moltin_jobs import (
    APIError,
    AuthenticationError,
    ClientCredentials,
    InvalidResponseError,
    JobNotFoundError,
    JobsSession,
    MoltinJobsError,
    PermissionDeniedError,
    Polling,
    RateLimitError,
    Retry,
    ServerError,
    TransportError,
)
from tests.raw_server import (
    RawServer,
    Script,
    drip,
    endless,
    hang,
    http,
    job,
    reset_after,
    send,
    unframed,
)

pytestmark = pytest.mark.looptime

ONCE = Retry(max_tries=1)
CHUNKED = "Transfer-Encoding: chunked\r\n"
SPACES = b" " * 65536
GZIP = "Content-Encoding: gzip\r\n"
DEEP = b"[" * 100_000 + b"]" * 100_000


def text(status: str, charset: str) -> bytes:
    return http(job(status), headers=f"Content-Type: application/json; charset={charset}\r\n")


def raw(document: bytes) -> Script:
    return send(http(document))


def moved(status: str, location: str) -> Script:
    return send(http(status=status, headers=f"Location: {location}\r\n"))


def limited(retry_after: str) -> Script:
    return send(http(status="429 Too Many", headers=f"Retry-After: {retry_after}\r\n"))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


GOOD = job()
FIELDS = ("type", "job_type", "error", "timestamps", "links", "link")
NONSENSE: dict[str, Any] = {"number": 5, "list": [["a"]], "object": {"a": {}}, "null": None}

# What a lookup with one try gives: None is the job.
FAULTS: dict[str, tuple[Script, type[MoltinJobsError] | None]] = {
    "reset before the answer": (reset_after(b""), TransportError),
    "reset within the headers": (reset_after(b"HTTP/1.1 200 OK\r\nContent-Le"), TransportError),
    "reset within the body": (reset_after(http(GOOD[:9], length=len(GOOD))), TransportError),
    "closed without answer": (send(b"", close=True), TransportError),
    "closed within the headers": (send(b"HTTP/1.1 200 OK\r\nConte", close=True), TransportError),
    "no answer": (hang, TransportError),
    "truncated by length": (send(http(GOOD[:9], length=len(GOOD)), close=True), TransportError),
    "truncated by chunk": (
        send(unframed(b"ff\r\n" + GOOD[:9], CHUNKED), close=True),
        TransportError,
    ),
    "without the last chunk": (send(unframed(chunk(GOOD), CHUNKED), close=True), TransportError),
    "no chunk size": (send(unframed(b"zz\r\n" + GOOD, CHUNKED), close=True), TransportError),
    "in chunks": (send(unframed(chunk(GOOD[:9]) + chunk(GOOD[9:]) + chunk(b""), CHUNKED)), None),
    "until the end of the connection": (send(unframed(GOOD, ""), close=True), None),
    "length too short": (send(http(GOOD, length=9)), TransportError),
    "length too long": (send(http(GOOD, length=999)), TransportError),
    "length negative": (send(http(GOOD, length=-5)), TransportError),
    "two lengths": (send(http(GOOD, headers="Content-Length: 3\r\n")), TransportError),
    "a second answer appended": (send(http(GOOD) + http(job(job_id="b"))), None),
    "garbage": (send(b"\x00\xff\x00 nothing like HTTP\r\n\r\n"), TransportError),
    "another protocol": (send(b"220 mail.example ESMTP\r\n"), TransportError),
    "64 KiB of a header": (
        send(http(GOOD, headers="X-Long: " + "a" * 65536 + "\r\n")),
        TransportError,
    ),
    "endless headers": (endless(b"HTTP/1.1 200 OK\r\n", b"X-More: abc\r\n" * 99), TransportError),
    "header without a colon": (send(http(GOOD, headers="nonsense\r\n")), TransportError),
    "1xx first": (send(b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + http(GOOD)), None),
    "a storm of 1xx": (endless(b"", b"HTTP/1.1 103 Hints\r\n\r\n" * 99), TransportError),
    "status 0": (send(http(GOOD, status="000 Nothing")), APIError),
    "status 999": (send(http(GOOD, status="999 Beyond")), APIError),
    "status 1000": (send(http(GOOD, status="1000 Beyond")), TransportError),
    "status of letters": (send(http(GOOD, status="OK OK")), TransportError),
    "empty 200": (send(http()), InvalidResponseError),
    "204": (send(b"HTTP/1.1 204 No Content\r\n\r\n"), InvalidResponseError),
    "206 with a part": (send(http(GOOD[:9], status="206 Partial")), InvalidResponseError),
    "301 to the same origin": (moved("301 Moved", "/v2/jobs/b"), APIError),
    "302 to another origin": (moved("302 Found", "https://evil.example/?q=1"), APIError),
    "307 in a loop": (moved("307 Temporary", "/v2/jobs/a"), APIError),
    "308 to nowhere": (send(http(status="308 Permanent")), APIError),
    "304": (send(http(status="304 Not Modified")), APIError),
    "html": (raw(b"<html><body>Sign in</body></html>"), InvalidResponseError),
    "html with 502": (send(http(b"<html>", status="502 Bad Gateway")), ServerError),
    "html with 403": (send(http(b"<html>", status="403 Forbidden")), PermissionDeniedError),
    "an unknown charset": (send(text("pending", "klingon")), None),
    "a wrong charset": (send(text("pending", "utf-16")), None),
    "latin-1": (raw(GOOD.replace(b"pending", b"\xe9")), InvalidResponseError),
    "utf-16": (raw(GOOD.decode().encode("utf-16")), InvalidResponseError),
    "byte order mark": (raw(b"\xef\xbb\xbf" + GOOD), InvalidResponseError),
    "gzip": (send(http(gzip.compress(GOOD), headers=GZIP)), None),
    "bad gzip": (send(http(GOOD, headers=GZIP)), TransportError),
    "gzip cut short": (send(http(gzip.compress(GOOD)[:20], headers=GZIP)), InvalidResponseError),
    "an unknown encoding": (
        send(http(GOOD, headers="Content-Encoding: klingon\r\n")),
        None,
    ),
    "gzip bomb": (
        send(http(gzip.compress(bytes(20_000_000)), headers=GZIP)),
        InvalidResponseError,
    ),
    "deflate bomb": (
        send(http(zlib.compress(bytes(20_000_000)), headers="Content-Encoding: deflate\r\n")),
        InvalidResponseError,
    ),
    "a body that drips": (drip(http(b"", length=99), GOOD), TransportError),
    "headers that drip": (drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 9), TransportError),
    "a body without end": (endless(unframed(b"", ""), SPACES), InvalidResponseError),
    "chunks without end": (endless(unframed(b"", CHUNKED), chunk(SPACES)), InvalidResponseError),
    "over 1 MiB": (raw(b" " * (1 << 20) + GOOD), InvalidResponseError),
    "NaN": (raw(GOOD.replace(b'"pending"', b'"x", "y": NaN')), InvalidResponseError),
    "a key twice": (raw(GOOD.replace(b'"id"', b'"id": "a", "id"')), InvalidResponseError),
    "100,000 levels": (raw(b'{"data": %s}' % DEEP), InvalidResponseError),
    "5,000 digits": (raw(b'{"data": %s}' % (b"9" * 5000)), InvalidResponseError),
    "1e999": (raw(GOOD.replace(b'"pending"', b'"pending", "error": 1e999')), None),
    "lone surrogates": (raw(GOOD.replace(b"pending", rb"\ud800 pending \udfff")), None),
    "not an object": (raw(b'[{"data": {}}]'), InvalidResponseError),
    "null": (raw(b"null"), InvalidResponseError),
    "no data": (raw(b'{"data": null}'), InvalidResponseError),
    "no id": (raw(b'{"data": {"status": "pending"}}'), InvalidResponseError),
    "no status": (raw(b'{"data": {"id": "a"}}'), InvalidResponseError),
    "id a number": (raw(b'{"data": {"id": 5, "status": "pending"}}'), InvalidResponseError),
    "status null": (raw(b'{"data": {"id": "a", "status": null}}'), InvalidResponseError),
    "another job": (raw(job(job_id="b")), InvalidResponseError),
    "400": (send(http(b"{}", status="400 Bad")), APIError),
    "401": (send(http(b"[]", status="401 Unauthorized")), AuthenticationError),
    "404 without a body": (send(http(status="404 Not Found")), JobNotFoundError),
    "404 over 1 MiB": (send(http(bytes(2 << 20), status="404 Not Found")), JobNotFoundError),
    "408": (send(http(status="408 Timeout")), APIError),
    "418": (send(http(status="418 Teapot")), APIError),
    "500 of 100,000 levels": (
        send(http(b'{"errors": [%s]}' % DEEP, status="500 Failure")),
        ServerError,
    ),
    "500 cut short": (send(http(b"{", status="500 No", length=9), close=True), TransportError),
    "599": (send(http(status="599 Odd")), ServerError),
    **{
        f"{field} a {name}": (raw(job(**{field: value})), None)
        for field, (name, value) in itertools.product(FIELDS, NONSENSE.items())
    },
    **{
        f"Retry-After {value[:20]}": (limited(value), RateLimitError)
        for value in (
            "-5", "nan", "inf", "1e9", "1_0", "٣", "9" * 400, "0", "2",
            "Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT",
            "Thu, 99 Xyz 0000 99:99:99 +9999",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
async def test_a_lookup_of_one_try(name: str) -> None:
    script, expected = FAULTS[name]
    # aiohttp sends once more when a connection that it kept dies before the answer.
    async with RawServer([script, script]) as server:
        async with JobsSession("the-bearer-token", base_url=server.url, retry=ONCE) as session:
            if expected is None:
                assert (await session.get_job("a")).id == "a"
                return
            with pytest.raises(MoltinJobsError) as caught:
                await session.get_job("a")
    error = caught.value
    assert type(error) is expected
    assert "job a" in str(error)
    assert "the-bearer-token" not in repr(error)
    assert str(error).isprintable()


@pytest.mark.parametrize("name", FAULTS)
async def test_in_the_middle_of_a_wait(name: str) -> None:
    script, expected = FAULTS[name]

    def scripts() -> Iterator[Script]:
        yield raw(job("pending"))
        yield script
        if name == "reset before the answer" or name.startswith("closed w"):
            yield script  # to aiohttp's own second sending
        yield from itertools.repeat(raw(job("success")))

    polling = Polling(outage=1e6)
    async with RawServer(scripts()) as server:
        async with JobsSession("the-bearer-token", base_url=server.url) as session:
            waiting = session.wait_for_job("a", polling=polling, timeout=1000)
            if expected is None or _passes(name, expected):
                assert (await waiting).status == "success"
            else:
                with pytest.raises(expected) as caught:
                    await waiting
                assert not caught.value.temporary
            assert not session._scopes.running


def _passes(name: str, expected: type[MoltinJobsError]) -> bool:
    passing = (TransportError, InvalidResponseError, RateLimitError, ServerError)
    return issubclass(expected, passing) or name == "408"


async def lookup(url: str, **settings: Any) -> MoltinJobsError:
    async with JobsSession("the-bearer-token", base_url=url, retry=ONCE, **settings) as session:
        with pytest.raises(MoltinJobsError) as caught:
            await session.get_job("a")
    return caught.value


async def test_a_second_answer_appended_does_not_reach_the_next_request() -> None:
    appended = send(http(job()) + http(job("failed")))
    async with RawServer([appended, *[raw(job("success"))] * 3]) as server:
        async with JobsSession("the-bearer-token", base_url=server.url) as session:
            assert [job.status async for job in session.watch_job("a")] == ["pending", "success"]


class TestConnecting:
    async def test_refused(self) -> None:
        async with RawServer([]) as server:
            pass
        error = await lookup(server.url)
        assert (type(error), error.temporary) == (TransportError, True)
        assert "could not be reached" in str(error)
        assert server.url.removeprefix("http://") in str(error)

    async def test_a_proxy_that_refuses_is_told_from_the_host(self) -> None:
        async with RawServer([]) as server:
            pass
        async with aiohttp.ClientSession(proxy=server.url) as http_session:
            async with JobsSession(
                "the-bearer-token", base_url="https://h.example", http=http_session, retry=ONCE
            ) as session:
                with pytest.raises(TransportError) as caught:
                    await session.get_job("a")
        told = f"the proxy {server.url.removeprefix('http://')} could not be reached"
        assert told in str(caught.value)

    async def test_black_holed(self) -> None:
        with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            for filler in (first, second):  # whoever comes next gets no answer to its SYN
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            error = await lookup(f"http://127.0.0.1:{listener.getsockname()[1]}", request_timeout=3)
        assert (type(error), error.temporary) == (TransportError, True)
        assert "within 3 s" in str(error)
        assert 3 <= asyncio.get_running_loop().time() < 3.1

    async def test_a_name_that_is_not_found(self) -> None:
        class NoNames(aiohttp.abc.AbstractResolver):
            async def resolve(self, *_: Any, **__: Any) -> Any:
                raise OSError(None, "Name or service not known")

            async def close(self) -> None:
                pass

        connector = aiohttp.TCPConnector(resolver=NoNames())
        async with aiohttp.ClientSession(connector=connector) as http_session:
            error = await lookup("https://nowhere.example", http=http_session)
        assert (type(error), error.temporary) == (TransportError, True)
        assert "nowhere.example" in str(error)


TOKEN_FAULTS: dict[str, tuple[Script, type[MoltinJobsError], bool]] = {
    "400": (send(http(status="400 Bad")), AuthenticationError, False),
    "401 that repeats the secret": (
        send(http(b'{"errors": [{"title": "the-secret"}]}', status="401 No")),
        AuthenticationError,
        False,
    ),
    "404": (send(http(b'{"title": "the-secret"}', status="404 No")), APIError, False),
    "408": (send(http(status="408 Slow")), APIError, True),
    "429": (send(http(status="429 Too Many")), RateLimitError, True),
    "500": (send(http(b'{"errors": ["the-secret"]}', status="500 No")), ServerError, True),
    "redirect": (moved("302 Found", "https://evil.example/the-secret"), APIError, False),
    "html": (raw(b"<html>the-secret"), InvalidResponseError, True),
    "no token": (raw(b'{"expires_in": 5, "a": "the-secret"}'), InvalidResponseError, True),
    "token with a line break": (
        raw(b'{"access_token": "the-secret\\r\\nX: y"}'),
        InvalidResponseError,
        True,
    ),
    "closed": (send(b"", close=True), TransportError, True),
    "hangs": (hang, TransportError, True),
    "drips": (drip(http(b"", length=99), GOOD), TransportError, True),
}


@pytest.mark.parametrize("name", TOKEN_FAULTS)
async def test_a_fault_of_the_token_endpoint(name: str) -> None:
    script, expected, temporary = TOKEN_FAULTS[name]
    good = [raw(json.dumps({"access_token": "issued"}).encode()), raw(job("success"))]
    auth = ClientCredentials("the-client", "the-secret")
    async with RawServer([script, script, *good]) as server:
        async with JobsSession(auth, base_url=server.url, retry=ONCE) as session:
            with pytest.raises(MoltinJobsError) as caught:
                await session.get_job("a")
            error = caught.value
            assert (type(error), error.temporary) == (expected, temporary)
            assert "the-secret" not in f"{error!r} {vars(error)}"
            assert "token" in str(error)
            if temporary:
                assert (await session.wait_for_job("a")).status == "success"


@pytest.mark.parametrize("status", ["200 OK", "500 Failure"])
async def test_a_bomb_costs_little_memory(status: str) -> None:
    compressor = zlib.compressobj(9, wbits=31)
    zeros = b"".join(compressor.compress(bytes(1_000_000)) for _ in range(300))
    bomb = zeros + compressor.flush()
    assert len(bomb) < 310_000
    async with RawServer([send(http(bomb, status=status, headers=GZIP))]) as server:
        tracemalloc.start()
        try:
            error = await lookup(server.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert isinstance(error, InvalidResponseError if status == "200 OK" else ServerError)
    assert peak < 20_000_000


def test_there_are_as_many_rows_as_promised() -> None:
    assert len(FAULTS) + len(TOKEN_FAULTS) >= 60
