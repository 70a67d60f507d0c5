"""Headers of requests."""

from collections.abc import Mapping
from types import MappingProxyType

import aiohttp
import pytest

import moltin_jobs
from moltin_jobs import ConfigurationError, JobsSession
from moltin_jobs._http.file_response import strip_headers
from moltin_jobs._http.headers import request_headers
from tests.raw_server import RawServer, job, respond

USER_AGENT = f"moltin-jobs/{moltin_jobs.__version__}"


def test_request_headers_without_user_headers_are_two() -> None:
    assert request_headers({}) == {"Accept": "application/json", "User-Agent": USER_AGENT}


def test_user_headers_are_added_and_extend_the_user_agent() -> None:
    extra = MappingProxyType({"X-A": "1", "x-b": "", "user-agent": "shop/2"})
    headers = request_headers(extra)
    assert headers["User-Agent"] == f"{USER_AGENT} shop/2"
    assert (headers["X-A"], headers["x-b"]) == ("1", "")
    assert len(headers) == 4


@pytest.mark.parametrize(
    "name",
    [
        "Accept",
        "authorization",
        "CONNECTION",
        "Content-Length",
        "Content-Type",
        "Host",
        "Transfer-Encoding",
    ],
)
def test_user_header_that_the_client_sets_is_rejected(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        request_headers({name: "the-value"})
    assert str(caught.value) == f"headers: {name!r} is set by the client and cannot be overridden"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("", "the-value", "'' is not a valid header name"),
        ("X A", "the-value", "'X A' is not a valid header name"),
        ("X:A", "the-value", "'X:A' is not a valid header name"),
        ("X-Ä", "the-value", "'X-Ä' is not a valid header name"),
        ("X\r\nA", "the-value", r"'X\r\nA' is not a valid header name"),
        ("X-A", "the-value\r\nX-B: c", "'X-A' and its value must be printable str"),
        ("X-A", "the-value\x00", "'X-A' and its value must be printable str"),
        ("X-A", b"the-value", "'X-A' and its value must be printable str"),
        (b"X-A", "the-value", "b'X-A' and its value must be printable str"),
    ],
)
def test_invalid_user_header_is_named_and_its_value_hidden(
    name: str, value: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        request_headers({name: value})
    assert str(caught.value) == f"headers: {reason}"


@pytest.mark.parametrize("headers", [5, "X-A: b", [("X-A", "b")]], ids=repr)
def test_user_headers_that_are_no_mapping_are_rejected(headers: Mapping[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        request_headers(headers)
    assert str(caught.value) == f"headers must be a mapping of names to values, not {headers!r}"


@pytest.mark.looptime
@pytest.mark.parametrize("has_http_session", [False, True])
async def test_each_api_request_has_the_user_headers_once(has_http_session: bool) -> None:
    async with (
        RawServer([respond(job(), "201 Created"), respond(job())]) as server,
        aiohttp.ClientSession(headers={"X-A": "of http_session", "Accept": "*/*"}) as http_session,
        JobsSession(
            "the-bearer-token",
            base_url=f"{server.url}/a%20X/",
            http_session=http_session if has_http_session else None,
            headers={"X-A": "of the user", "User-Agent": "shop/2"},
        ) as session,
    ):
        await session.create_job()
        await session.get_job("a")
    creation, lookup = [request.decode().split("\r\n") for request in server.requests]
    assert creation[0] == "POST /a%20X/v2/jobs HTTP/1.1"
    assert lookup[0] == "GET /a%20X/v2/jobs/a HTTP/1.1"
    common = {
        f"Host: {server.url.removeprefix('http://')}",
        "Accept: application/json",
        "Accept-Encoding: gzip, deflate",
        "Authorization: Bearer the-bearer-token",
        f"User-Agent: {USER_AGENT} shop/2",
        "X-A: of the user",
    }
    assert {_known_codings(line) for line in lookup if line} == {lookup[0], *common}
    body = b'{"data": {"type": "job", "job_type": "order_export"}}'
    content = {"Content-Type: application/json", f"Content-Length: {len(body)}"}
    assert {_known_codings(line) for line in creation if line} == {
        creation[0],
        "Connection: close",
        *common,
        *content,
    }
    assert server.bodies == [body, b""]


def _known_codings(line: str) -> str:
    """Drop the codings that aiohttp adds if their decoders are installed."""
    return line.replace(", br", "").replace(", zstd", "")


async def test_strip_headers_leaves_only_what_a_file_host_needs() -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        RawServer([respond(b"x")]) as server,
        aiohttp.ClientSession(
            cookie_jar=jar, cookies={"a": "the-cookie"}, headers={"X-Token": "the-token"}
        ) as http,
    ):
        await http.get(
            server.url,
            headers={"Authorization": "Bearer the-token", "Accept": "*/*", "User-Agent": "x"},
            middlewares=(strip_headers,),
        )
    names = [line.partition(b":")[0] for line in server.requests[0].split(b"\r\n")[1:] if line]
    assert set(names) == {b"Host", b"Accept", b"Accept-Encoding", b"User-Agent"}
    assert b"the-" not in server.requests[0]
