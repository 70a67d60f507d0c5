"""Faulty responses: the exception of a lookup, and the effect on a wait."""

import gzip
import itertools
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

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
    respond,
    send,
    unframed,
)
from tests.sessions import ONCE, assert_idle, lookup_error

pytestmark = pytest.mark.looptime

CHUNKED = "Transfer-Encoding: chunked\r\n"
GZIP = "Content-Encoding: gzip\r\n"
DEFLATE = "Content-Encoding: deflate\r\n"
SPACES = b" " * 65536
DEEP = b"[" * 100_000 + b"]" * 100_000


def charset(name: str) -> Script:
    return respond(job(), headers=f"Content-Type: application/json; charset={name}\r\n")


def redirect(status: str, location: str) -> Script:
    return respond(status=status, headers=f"Location: {location}\r\n")


def retry_after(value: str) -> Script:
    return respond(status="429 Too Many Requests", headers=f"Retry-After: {value}\r\n")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


GOOD = job()
OPTIONAL_FIELDS = ("type", "job_type", "error", "timestamps", "links", "link")
WRONG_VALUES: dict[str, Any] = {"number": 5, "list": [["a"]], "object": {"a": {}}, "null": None}

# The exception of a lookup with one attempt. None: the job is returned.
FAULTS: dict[str, tuple[Script, type[MoltinJobsError] | None]] = {
    "reset before the response": (reset_after(b""), TransportError),
    "reset within the headers": (reset_after(b"HTTP/1.1 200 OK\r\nContent-Le"), TransportError),
    "reset within the body": (reset_after(http(GOOD[:9], length=len(GOOD))), TransportError),
    "closed before the response": (send(b"", close=True), TransportError),
    "closed within the headers": (send(b"HTTP/1.1 200 OK\r\nConte", close=True), TransportError),
    "no response": (hang, TransportError),
    "body truncated": (send(http(GOOD[:9], length=len(GOOD)), close=True), TransportError),
    "chunk truncated": (
        send(unframed(b"ff\r\n" + GOOD[:9], CHUNKED), close=True),
        TransportError,
    ),
    "last chunk missing": (send(unframed(chunk(GOOD), CHUNKED), close=True), TransportError),
    "chunk size invalid": (send(unframed(b"zz\r\n" + GOOD, CHUNKED), close=True), TransportError),
    "in chunks": (send(unframed(chunk(GOOD[:9]) + chunk(GOOD[9:]) + chunk(b""), CHUNKED)), None),
    "until the end of the connection": (send(unframed(GOOD, ""), close=True), None),
    "length too short": (send(http(GOOD, length=9)), TransportError),
    "length too long": (send(http(GOOD, length=999)), TransportError),
    "length negative": (send(http(GOOD, length=-5)), TransportError),
    "two lengths": (respond(GOOD, headers="Content-Length: 3\r\n"), TransportError),
    "a second response appended": (send(http(GOOD) + http(job(job_id="b"))), None),
    "garbage": (send(b"\x00\xff\x00 nothing like HTTP\r\n\r\n"), TransportError),
    "another protocol": (send(b"220 mail.example ESMTP\r\n"), TransportError),
    "header of 64 KiB": (respond(GOOD, headers=f"X-Long: {'a' * 65536}\r\n"), TransportError),
    "endless headers": (endless(b"HTTP/1.1 200 OK\r\n", b"X-More: abc\r\n" * 99), TransportError),
    "header without a colon": (respond(GOOD, headers="nonsense\r\n"), TransportError),
    "informational responses first": (
        send(b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + http(GOOD)),
        None,
    ),
    "endless informational responses": (
        endless(b"", b"HTTP/1.1 103 Hints\r\n\r\n" * 99),
        TransportError,
    ),
    "status 0": (respond(GOOD, "000 Nothing"), APIError),
    "status 999": (respond(GOOD, "999 Beyond"), APIError),
    "status 1000": (respond(GOOD, "1000 Beyond"), TransportError),
    "status of letters": (respond(GOOD, "OK OK"), TransportError),
    "200 without a body": (respond(), InvalidResponseError),
    "204": (send(b"HTTP/1.1 204 No Content\r\n\r\n"), InvalidResponseError),
    "206 with a part": (respond(GOOD[:9], "206 Partial"), InvalidResponseError),
    "301 to the same origin": (redirect("301 Moved", "/v2/jobs/b"), APIError),
    "302 to another origin": (redirect("302 Found", "https://evil.example/?q=1"), APIError),
    "307 in a loop": (redirect("307 Temporary", "/v2/jobs/a"), APIError),
    "308 without a location": (respond(status="308 Permanent"), APIError),
    "304": (respond(status="304 Not Modified"), APIError),
    "HTML": (respond(b"<html><body>Sign in</body></html>"), InvalidResponseError),
    "HTML with 502": (respond(b"<html>", "502 Bad Gateway"), ServerError),
    "HTML with 403": (respond(b"<html>", "403 Forbidden"), PermissionDeniedError),
    "charset unknown": (charset("klingon"), None),
    "charset wrong": (charset("utf-16"), None),
    "latin-1": (respond(GOOD.replace(b"pending", b"\xe9")), InvalidResponseError),
    "utf-16": (respond(GOOD.decode().encode("utf-16")), InvalidResponseError),
    "byte order mark": (respond(b"\xef\xbb\xbf" + GOOD), None),
    "gzip": (respond(gzip.compress(GOOD), headers=GZIP), None),
    "gzip invalid": (respond(GOOD, headers=GZIP), TransportError),
    "gzip truncated": (respond(gzip.compress(GOOD)[:20], headers=GZIP), InvalidResponseError),
    "content coding unknown": (respond(GOOD, headers="Content-Encoding: klingon\r\n"), None),
    "gzip bomb": (respond(gzip.compress(bytes(20_000_000)), headers=GZIP), InvalidResponseError),
    "deflate bomb": (
        respond(zlib.compress(bytes(20_000_000)), headers=DEFLATE),
        InvalidResponseError,
    ),
    "body that drips": (drip(http(b"", length=99), GOOD), TransportError),
    "headers that drip": (drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 9), TransportError),
    "endless body": (endless(unframed(b"", ""), SPACES), InvalidResponseError),
    "endless chunks": (endless(unframed(b"", CHUNKED), chunk(SPACES)), InvalidResponseError),
    "body over 1 MiB": (respond(b" " * (1 << 20) + GOOD), InvalidResponseError),
    "NaN in an unread field": (respond(GOOD.replace(b'"type"', b'"x": NaN, "type"')), None),
    "duplicate key": (respond(GOOD.replace(b'"type"', b'"type": 5, "type"')), None),
    "100,000 levels": (respond(b'{"data": %s}' % DEEP), InvalidResponseError),
    "5,000 digits": (respond(b'{"data": %s}' % (b"9" * 5000)), InvalidResponseError),
    "1e999": (respond(GOOD.replace(b'"type"', b'"error": 1e999, "type"')), None),
    "lone surrogates": (respond(GOOD.replace(b"pending", rb"\ud800 pending \udfff")), None),
    "no object": (respond(b'[{"data": {}}]'), InvalidResponseError),
    "null": (respond(b"null"), InvalidResponseError),
    "no data": (respond(b'{"data": null}'), InvalidResponseError),
    "no id": (respond(b'{"data": {"status": "pending"}}'), InvalidResponseError),
    "no status": (respond(b'{"data": {"id": "a"}}'), InvalidResponseError),
    "id a number": (respond(b'{"data": {"id": 5, "status": "pending"}}'), InvalidResponseError),
    "status null": (respond(b'{"data": {"id": "a", "status": null}}'), InvalidResponseError),
    "another job": (respond(job(job_id="b")), InvalidResponseError),
    "400": (respond(b"{}", "400 Bad Request"), APIError),
    "401": (respond(b"[]", "401 Unauthorized"), AuthenticationError),
    "403": (respond(b'{"errors": [{"title": "No"}]}', "403 Forbidden"), PermissionDeniedError),
    "404": (respond(b'{"title": "None", "status": 404}', "404 Not Found"), JobNotFoundError),
    "404 without a body": (respond(status="404 Not Found"), JobNotFoundError),
    "404 over 1 MiB": (respond(bytes(2 << 20), "404 Not Found"), JobNotFoundError),
    "408": (respond(status="408 Timeout"), APIError),
    "418": (respond(status="418 Teapot"), APIError),
    "421": (respond(status="421 Misdirected"), APIError),
    "425": (respond(status="425 Too Early"), APIError),
    "500 of 100,000 levels": (respond(b'{"errors": [%s]}' % DEEP, "500 Failure"), ServerError),
    "500 truncated": (send(http(b"{", status="500 No", length=9), close=True), TransportError),
    "599": (respond(status="599 Odd"), ServerError),
    **{
        f"{field} a {name}": (respond(job(**{field: value})), None)
        for field, (name, value) in itertools.product(OPTIONAL_FIELDS, WRONG_VALUES.items())
    },
    **{
        f"Retry-After {value[:20]}": (retry_after(value), RateLimitError)
        for value in (
            "-5", "nan", "inf", "1e9", "1_0", "٣", "9" * 400, "0", "2",
            "Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT",
            "Thu, 99 Xyz 0000 99:99:99 +9999",
        )
    },
}  # fmt: skip

RESENT_BY_AIOHTTP = (
    "reset before the response",
    "closed before the response",
    "closed within the headers",
)
"""Faults after which aiohttp itself sends a request again, if its connection is not new."""
RETRYABLE_ERRORS = (TransportError, InvalidResponseError, RateLimitError, ServerError)
RETRYABLE_STATUSES = ("408", "421", "425")
OF_A_GATEWAY = ("HTML with 403", "404 without a body", "404 over 1 MiB")
"""Responses that are not the service's, and say nothing about a job that was seen before."""


@pytest.mark.parametrize("name", FAULTS)
async def test_lookup_with_faulty_response_returns_job_or_raises(name: str) -> None:
    script, expected = FAULTS[name]
    async with RawServer([script, script]) as server:
        if expected is None:
            async with JobsSession("the-bearer-token", base_url=server.url, retry=ONCE) as session:
                assert (await session.get_job("a")).id == "a"
            return
        error = await lookup_error(server.url)
    assert type(error) is expected
    assert error.job_id == "a"
    assert "job a" in str(error)
    assert str(error).isprintable()
    assert "the-bearer-token" not in repr(error)


@pytest.mark.parametrize("name", FAULTS)
async def test_wait_with_faulty_response_goes_on_if_it_is_retryable(name: str) -> None:
    script, expected = FAULTS[name]

    def scripts() -> Iterator[Script]:
        yield respond(job("pending"))
        yield script
        if name in RESENT_BY_AIOHTTP:
            yield script
        yield from itertools.repeat(respond(job("success")))

    is_retryable = expected in RETRYABLE_ERRORS or name in (*RETRYABLE_STATUSES, *OF_A_GATEWAY)
    polling = Polling(max_outage=None)
    async with RawServer(scripts()) as server:
        async with JobsSession("the-bearer-token", base_url=server.url) as session:
            wait = session.wait_for_job("a", polling=polling, timeout=1000)
            if expected is None or is_retryable:
                assert (await wait).status == "success"
            else:
                with pytest.raises(expected) as caught:
                    await wait
                assert not caught.value.retryable
                assert caught.value.__context__ is None
            assert_idle(session)


@pytest.mark.parametrize("name", OF_A_GATEWAY)
async def test_first_poll_with_the_response_of_a_gateway_raises_at_once(name: str) -> None:
    script, expected = FAULTS[name]
    assert expected is not None
    async with RawServer([script]) as server:
        async with JobsSession("the-bearer-token", base_url=server.url) as session:
            with pytest.raises(expected, match="a proxy or gateway, not the service, responded"):
                await session.wait_for_job("a")
    assert len(server.requests) == 1


async def test_second_response_appended_does_not_reach_next_request() -> None:
    appended = send(http(job()) + http(job("failed")))
    async with RawServer([appended, *[respond(job("success"))] * 3]) as server:
        async with JobsSession("the-bearer-token", base_url=server.url) as session:
            assert [job.status async for job in session.watch_job("a")] == ["pending", "success"]


PEER_TEXT = "<b>written by the peer</b>"
PEER_TEXTS: dict[str, bytes] = {
    "reason phrase": f"HTTP/1.1 2000 {PEER_TEXT}\r\n\r\n".encode(),
    "first line": f"{PEER_TEXT}\r\n\r\n".encode(),
    "header name": http(headers=f"{PEER_TEXT}: b\r\n"),
    "header without a colon": http(headers=f"{PEER_TEXT}\r\n"),
    "header with a control character": http(headers=f"X-A: \x00{PEER_TEXT}\r\n"),
    "content length": http(headers=f"Content-Length: {PEER_TEXT}\r\n"),
    "chunk size": unframed(f"{PEER_TEXT}\r\n".encode(), CHUNKED),
    "compressed body": http(PEER_TEXT.encode(), headers=GZIP),
}


@pytest.mark.parametrize("name", PEER_TEXTS)
async def test_message_about_invalid_http_shows_no_bytes_of_the_peer(name: str) -> None:
    script = send(PEER_TEXTS[name], close=True)
    async with RawServer([script]) as server:
        error = await lookup_error(server.url)
    assert isinstance(error, TransportError)
    assert PEER_TEXT not in f"{error} {error!r} {vars(error)}"


SECRET_ERROR = json.dumps({"errors": [{"title": "the-secret"}]}).encode()
# The exception of a lookup whose token request fails, and whether it is retryable.
TOKEN_FAULTS: dict[str, tuple[Script, type[MoltinJobsError], bool]] = {
    "400": (respond(status="400 Bad Request"), AuthenticationError, False),
    "401 that repeats the secret": (respond(SECRET_ERROR, "401 No"), AuthenticationError, False),
    "403": (respond(SECRET_ERROR, "403 No"), AuthenticationError, False),
    "404": (respond(b'{"title": "the-secret"}', "404 No"), APIError, False),
    "408": (respond(status="408 Slow"), APIError, True),
    "429": (respond(status="429 Too Many Requests"), RateLimitError, True),
    "500": (respond(b'{"errors": ["the-secret"]}', "500 No"), ServerError, True),
    "redirect": (redirect("302 Found", "https://evil.example/the-secret"), APIError, False),
    "HTML": (respond(b"<html>the-secret"), InvalidResponseError, True),
    "no token": (respond(b'{"expires_in": 5, "a": "the-secret"}'), InvalidResponseError, True),
    "token with a line break": (
        respond(b'{"access_token": "the-secret\\r\\nX: y"}'),
        InvalidResponseError,
        True,
    ),
    "closed before the response": (send(b"", close=True), TransportError, True),
    "no response": (hang, TransportError, True),
    "body that drips": (drip(http(b"", length=99), GOOD), TransportError, True),
}


@pytest.mark.parametrize("name", TOKEN_FAULTS)
async def test_token_request_with_faulty_response_raises(name: str) -> None:
    script, expected, retryable = TOKEN_FAULTS[name]
    good = [respond(json.dumps({"access_token": "issued"}).encode()), respond(job("success"))]
    auth = ClientCredentials("the-client", "the-secret")
    async with RawServer([script, *good]) as server:
        async with JobsSession(auth, base_url=server.url, retry=ONCE) as session:
            with pytest.raises(MoltinJobsError) as caught:
                await session.get_job("a")
            error = caught.value
            assert (type(error), error.retryable) == (expected, retryable)
            assert "the-secret" not in f"{error!r} {vars(error)}"
            assert str(error).startswith("the token request: ")
            assert_idle(session)
            if retryable:
                assert (await session.wait_for_job("a")).status == "success"


@pytest.mark.parametrize("status", ["200 OK", "500 Failure"])
async def test_decompression_bomb_costs_little_memory(status: str) -> None:
    compressor = zlib.compressobj(9, wbits=31)
    zeros = b"".join(compressor.compress(bytes(1_000_000)) for _ in range(300))
    bomb = zeros + compressor.flush()
    assert len(bomb) < 310_000
    async with RawServer([respond(bomb, status, GZIP)]) as server:
        tracemalloc.start()
        try:
            error = await lookup_error(server.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert isinstance(error, InvalidResponseError if status == "200 OK" else ServerError)
    assert peak < 20_000_000


def test_fault_tables_have_at_least_sixty_rows() -> None:
    assert len(FAULTS) + len(TOKEN_FAULTS) >= 60
