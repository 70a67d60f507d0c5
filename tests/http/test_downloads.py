"""Downloads from real servers: what the file host is sent, and what becomes of its response."""
# ruff: noqa: ASYNC240 (the loop has nothing else to do)

import asyncio
import contextlib
import email.utils
import functools
import gzip
import itertools
import logging
import random
import signal
import ssl
import threading
import time
import warnings
import zlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from multidict import CIMultiDict
from opentelemetry.instrumentation.aiohttp_client import (
    AioHttpClientInstrumentor,
    create_trace_config,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import moltin_jobs
from moltin_jobs import (
    APIError,
    JobsSession,
    JobTimeoutError,
    MoltinJobsError,
    PermissionDeniedError,
    Retry,
    ServerError,
    SessionClosedError,
    TransportError,
)
from tests.file_host import (
    FILE_URL_PATH,
    FileHost,
    header_lines,
    join_disk_threads,
    names_in,
    redirect,
    send_and_hang,
)
from tests.interruption import InterruptAt, cancel_now
from tests.raw_server import (
    RawServer,
    Script,
    drip,
    hang,
    http,
    reset_after,
    send,
    send_in_parts,
    unframed,
)
from tests.sessions import ONCE, assert_idle

CSV = b"order_id,currency\r\n1,EUR\r\n"
FILE = send(http(CSV))
gzipped = functools.partial(gzip.compress, mtime=0)  # the same in all workers of pytest-xdist

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # aiohttp 4 has another means
    BASIC_AUTH = aiohttp.BasicAuth("user", "hush")

virtual_time = pytest.mark.looptime


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "orders.csv"


@pytest.fixture
def certificate_authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(certificate_authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate_authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_tls(certificate_authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    certificate_authority.configure_trust(context)
    return context


async def add_credentials(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    request.headers["Authorization"] = "Basic of-the-user"
    return await handler(request)


class TestRequest:
    """The file host gets the address and the necessary headers."""

    def necessary_headers(self, host: FileHost) -> set[str]:
        return {
            f"host: {host.netloc}",
            "accept: */*",
            "accept-encoding: identity",
            f"user-agent: moltin-jobs/{moltin_jobs.__version__}",
        }

    async def test_file_host_gets_no_token_and_no_headers_of_the_session(
        self, destination: Path
    ) -> None:
        async with FileHost(FILE) as host:
            headers = {"X-Team": "orders", "User-Agent": "reports/2", "Cookie": "a=b"}
            async with host.session(headers=headers) as session:
                assert await session.download("a", destination) == destination
        assert header_lines(host.server.requests[0]) == self.necessary_headers(host)
        assert destination.read_bytes() == CSV

    @pytest.mark.filterwarnings("ignore:The 'auth' parameter is deprecated")
    @pytest.mark.parametrize(
        "options",
        [
            {"auth": BASIC_AUTH},
            {"cookies": {"a": "b"}},
            {"headers": {"Authorization": "Basic of-the-user", "Referer": "https://a.example"}},
            {"headers": {"Host": "gateway.example"}},
            {"headers": CIMultiDict([("X-Team", "a"), ("x-team", "b"), ("X-Team", "c")])},
            {"middlewares": [add_credentials]},
            {"skip_auto_headers": ["User-Agent", "Accept", "Accept-Encoding"]},
            {"trust_env": True},
        ],
        ids=["auth", "cookies", "headers", "host", "repeated", "middleware", "skipped", "netrc"],
    )
    async def test_file_host_gets_no_credentials_and_headers_of_the_http_session(
        self,
        destination: Path,
        tmp_path_factory: pytest.TempPathFactory,
        monkeypatch: pytest.MonkeyPatch,
        options: dict[str, Any],
    ) -> None:
        netrc = tmp_path_factory.mktemp("home") / "netrc"
        netrc.write_text("machine 127.0.0.1 login user password hush")
        monkeypatch.setenv("NETRC", str(netrc))
        away = send(http(status="302 Found", headers="Location: /b.csv\r\nSet-Cookie: c=d\r\n"))
        async with FileHost(away, FILE) as host, aiohttp.ClientSession(**options) as http_session:
            async with host.session(http_session=http_session) as session:
                await session.download("a", destination)
            assert not http_session.closed
        assert host.targets == ["/a.csv?signature=hush", "/b.csv"]
        for request in host.server.requests:
            assert header_lines(request) == self.necessary_headers(host)

    @pytest.mark.parametrize(
        ("address", "target"),
        [
            ("{url}/a%7Eb.csv?X-Amz-Credential=AK%2F2018%2Feu&sig=%3a%2b", None),
            ("{url}/a+b.csv?q=a+b%20c&q=%e4", None),
            ("{url}/a;v=1/(b)'c'!*.csv?x=[1]&y={2}|\"3\"^`\\", None),
            ("{url}//a/./b/../c.csv?a=b?c/d", None),
            ("{url}/100%.csv?50%", None),
            ("{url}/a b.csv?x=ä€", "/a%20b.csv?x=%C3%A4%E2%82%AC"),
            ("{url}/a\tb%C3%A4ä.csv", "/a%09b%C3%A4%C3%A4.csv"),
            (" {url}/a.csv\n", "/a.csv"),
        ],
    )
    async def test_address_is_sent_byte_for_byte(
        self, destination: Path, address: str, target: str | None
    ) -> None:
        if target is None:
            target = address.removeprefix("{url}")
        bound = aiohttp.ClientSession(base_url="http://127.0.0.1:9/base/")
        async with FileHost(FILE, FILE, addresses=(address,)) as host, bound as http_session:
            for http_session_or_none in (None, http_session):
                async with host.session(http_session=http_session_or_none) as session:
                    await session.download("a", destination)
        assert host.targets == [target, target]

    @pytest.mark.parametrize(
        ("location", "target"),
        [
            ("/a%7Eb.csv?sig=%3a%2b", "/a%7Eb.csv?sig=%3a%2b"),
            ("{url}/a%7Eb.csv?sig=%3a%2b", "/a%7Eb.csv?sig=%3a%2b"),
            ("b.csv?x=%2f", "/folder/b.csv?x=%2f"),
            ("?x=%2f", "/folder/a.csv?x=%2f"),
        ],
    )
    async def test_address_of_a_redirect_is_sent_byte_for_byte(
        self, destination: Path, location: str, target: str
    ) -> None:
        async with FileHost(redirect(location), FILE, addresses=("{url}/folder/a.csv",)) as host:
            async with host.session() as session:
                await session.download("a", destination)
        assert host.targets == ["/folder/a.csv", target]

    @pytest.mark.parametrize(
        ("address", "reason"),
        [
            (
                "http://files.example/a.csv?hush",
                "refusing to download from http://files.example: only https is allowed",
            ),
            (
                "ftp://127.0.0.1/a.csv?hush",
                "refusing to download from ftp://127.0.0.1: only https is allowed",
            ),
            ("http://[/a.csv?hush", "its address is invalid"),
            ("https://[::1]@/a.csv?hush", "its address is invalid"),
            ("https://.a..example/a.csv?hush", "its address is invalid"),
            (f"https://{'a' * 80}.example/a.csv?hush", "its address is invalid"),
        ],
    )
    @pytest.mark.parametrize("is_redirect", [False, True], ids=["address", "redirect"])
    async def test_invalid_address_is_rejected(
        self, destination: Path, address: str, reason: str, is_redirect: bool
    ) -> None:
        addresses = ("{url}/a.csv",) if is_redirect else (address,)
        async with FileHost(redirect(address), addresses=addresses) as host:
            async with host.session() as session:
                with pytest.raises(TransportError) as caught:
                    await session.download("a", destination)
        assert str(caught.value) == (
            f"the file of job a: {reason}. Report this to the service's support."
        )
        assert (caught.value.retryable, caught.value.job_id) == (False, "a")
        assert names_in(destination.parent) == []


@contextlib.asynccontextmanager
async def run_tunnel_proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """Run a proxy that only tunnels. Gives its URL, and the targets of the tunnels."""
    targets: list[str] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        targets.append(head.split()[1].decode())
        host, _, port = targets[-1].partition(":")
        to_reader, to_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(relay(reader, to_writer), relay(to_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", targets


class TestHttpSession:
    """The settings of the user's HTTP session hold for downloads."""

    async def test_download_goes_through_the_proxy(self, destination: Path) -> None:
        store = "http://127.0.0.1:9"  # nothing listens there
        address = send(http(b'{"href": "http://127.0.0.1:9/a.csv?sig=%3a"}'))
        async with (
            RawServer([address, FILE]) as proxy,
            aiohttp.ClientSession(proxy=proxy.url.replace("//", "//user:hush@")) as http_session,
            JobsSession("token", base_url=store, http_session=http_session) as session,
        ):
            await session.download("a", destination)
        _, request = proxy.requests
        assert request.startswith(b"GET http://127.0.0.1:9/a.csv?sig=%3a HTTP/1.1\r\n")
        names = {line.partition(":")[0] for line in header_lines(request)}
        assert names == {"host", "accept", "accept-encoding", "user-agent", "proxy-authorization"}

    async def test_download_goes_through_a_tunnel_with_the_tls_context(
        self, destination: Path, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
    ) -> None:
        scripts: list[Script] = []
        async with (
            RawServer(iter(scripts), server_tls) as server,
            run_tunnel_proxy() as (proxy, targets),
            aiohttp.ClientSession(
                proxy=proxy, connector=aiohttp.TCPConnector(ssl=client_tls)
            ) as http_session,
            JobsSession("token", base_url=server.url, http_session=http_session) as session,
        ):
            address = http(f'{{"href": "{server.url}/a.csv"}}'.encode())
            scripts += [send(address), FILE]
            await session.download("a", destination)
        assert destination.read_bytes() == CSV
        assert set(targets) == {server.url.removeprefix("https://")}

    async def test_file_host_with_an_unknown_certificate_is_not_trusted(
        self, destination: Path, server_tls: ssl.SSLContext
    ) -> None:
        async with FileHost(FILE, tls=server_tls) as host, host.session() as session:
            with pytest.raises(TransportError, match="certificate") as caught:
                await session.download("a", destination)
        assert host.netloc in str(caught.value)
        assert not caught.value.retryable
        assert host.server.requests == []

    async def test_file_host_with_a_certificate_of_the_tls_context_is_trusted(
        self, destination: Path, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
    ) -> None:
        connector = aiohttp.TCPConnector(ssl=client_tls)
        async with (
            FileHost(FILE, tls=server_tls) as host,
            aiohttp.ClientSession(connector=connector) as http_session,
            host.session(http_session=http_session) as session,
        ):
            await session.download("a", destination)
        assert destination.read_bytes() == CSV

    async def test_larger_header_limit_holds(self, destination: Path) -> None:
        response = send(http(CSV, headers=f"X-Policy: {'a' * 20_000}\r\n"))
        async with (
            FileHost(response, response, response) as host,
            aiohttp.ClientSession(max_field_size=1 << 16) as http_session,
            host.session(http_session=http_session) as session,
        ):
            await session.download("a", destination)
            async with host.session(retry=ONCE) as other:
                with pytest.raises(TransportError, match="not valid HTTP"):
                    await other.download("a", destination)

    async def test_raise_for_status_does_not_change_the_exception(self, destination: Path) -> None:
        async with (
            FileHost(send(http(status="404 Not Found"))) as host,
            aiohttp.ClientSession(raise_for_status=True) as http_session,
            host.session(http_session=http_session) as session,
        ):
            with pytest.raises(APIError, match="status 404"):
                await session.download("a", destination)

    @virtual_time
    async def test_timeout_of_the_http_session_does_not_apply(self, destination: Path) -> None:
        content, timeout = bytes(9 * 1024), aiohttp.ClientTimeout(total=5, sock_read=1)
        async with (
            FileHost(send_in_parts(content, 1024, 2)) as host,
            aiohttp.ClientSession(timeout=timeout) as http_session,
            host.session(http_session=http_session, retry=ONCE) as session,
        ):
            await session.download("a", destination)
        assert destination.read_bytes() == content

    async def test_closed_http_session_is_named(self, destination: Path) -> None:
        async with FileHost() as host:
            async with aiohttp.ClientSession() as http_session:
                session = host.session(http_session=http_session)
            with pytest.raises(SessionClosedError, match="http_session"):
                await session.download("a", destination)

    @pytest.mark.parametrize("is_instrumented", [False, True], ids=["trace config", "instrumented"])
    async def test_file_gets_one_span(self, destination: Path, is_instrumented: bool) -> None:
        spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        instrumentor = AioHttpClientInstrumentor()
        if is_instrumented:
            instrumentor.instrument(tracer_provider=provider)
        try:
            configs = [] if is_instrumented else [create_trace_config(tracer_provider=provider)]
            async with (
                FileHost(FILE) as host,
                aiohttp.ClientSession(trace_configs=configs) as http_session,
                host.session(http_session=http_session) as session,
            ):
                await session.download("a", destination)
        finally:
            if is_instrumented:
                instrumentor.uninstrument()
        addresses = [
            str((span.attributes or {})["http.url"]) for span in spans.get_finished_spans()
        ]
        file_url = f"{host.server.url}/a.csv"
        assert [url.partition("?")[0] for url in addresses] == [
            f"{host.api.url}{FILE_URL_PATH}",
            file_url,
        ]


class TestRedirect:
    async def test_redirect_without_a_target_is_an_error(self, destination: Path) -> None:
        async with FileHost(send(http(status="302 Found"))) as host, host.session() as session:
            with pytest.raises(APIError, match="status 302"):
                await session.download("a", destination)

    async def test_eleventh_redirect_is_an_error(self, destination: Path) -> None:
        async with FileHost(*[redirect("/b.csv")] * 20) as host:
            async with host.session(retry=ONCE) as session:
                with pytest.raises(TransportError, match=r"more than 10 redirects\. Try again"):
                    await session.download("a", destination)
        assert len(host.targets) == 11

    @pytest.mark.parametrize("status", ["300 Choices", "301 Moved", "399 Last"])
    async def test_redirect_of_any_status_is_followed(self, destination: Path, status: str) -> None:
        away = send(http(status=status, headers="Location: /b.csv\r\n"))
        async with FileHost(away, FILE) as host, host.session() as session:
            await session.download("a", destination)
        assert host.targets == ["/a.csv?signature=hush", "/b.csv"]

    @pytest.mark.parametrize("status", ["299 Last", "404 Not Found", "400 Bad Request"])
    async def test_location_of_another_status_is_not_followed(
        self, destination: Path, status: str
    ) -> None:
        response = send(http(status=status, headers="Location: /b.csv\r\n"))
        async with FileHost(response, response) as host, host.session() as session:
            with pytest.raises(APIError, match=f"status {status[:3]}"):
                await session.download("a", destination)
        assert set(host.targets) == {"/a.csv?signature=hush"}


@virtual_time
class TestStatus:
    @pytest.mark.parametrize(
        "status", ["401 Unauthorized", "404 Not Found", "206 Partial Content", "600 Beyond"]
    )
    async def test_error_status_is_raised(self, destination: Path, status: str) -> None:
        async with FileHost(send(http(status=status))) as host, host.session() as session:
            with pytest.raises(
                APIError, match=f"status {status[:3]}. Its address may have"
            ) as caught:
                await session.download("a", destination)
        assert type(caught.value) is APIError
        assert (caught.value.job_id, caught.value.retryable) == ("a", False)
        assert f"the file of job a: {host.netloc} responded" in str(caught.value)
        assert names_in(destination.parent) == []

    @pytest.mark.parametrize("status", ["500 Failed", "503 Unavailable", "599 Last"])
    async def test_server_error_is_retried_then_raised(
        self, destination: Path, status: str
    ) -> None:
        responses = [send(http(status=status))] * 3
        async with FileHost(*responses, FILE, *responses, *responses) as host:
            async with host.session() as session:
                await session.download("a", destination)
                destination.unlink()
                with pytest.raises(ServerError, match=rf"status {status[:3]}\. Try again: nothing"):
                    await session.download("a", destination)
        assert len(host.targets) == 8
        assert names_in(destination.parent) == []

    @pytest.mark.parametrize("status", ["503 Unavailable", "429 Too Many Requests"])
    async def test_retry_after_is_obeyed(self, destination: Path, status: str) -> None:
        busy = send(http(status=status, headers="Retry-After: 30\r\n"))
        async with FileHost(busy, FILE) as host, host.session() as session:
            await session.download("a", destination)
            assert 30 <= asyncio.get_running_loop().time() < 31

    async def test_retry_after_with_a_date_is_obeyed(self, destination: Path) -> None:
        date = email.utils.formatdate(time.time() + 60, usegmt=True)
        busy = send(http(status="503 Unavailable", headers=f"Retry-After: {date}\r\n"))
        async with FileHost(busy, FILE) as host, host.session() as session:
            await session.download("a", destination)
            assert 50 < asyncio.get_running_loop().time() < 61

    @pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "410 Gone"])
    async def test_expired_address_is_replaced_once(self, destination: Path, status: str) -> None:
        expired = send(http(status=status))
        addresses = ("{url}/old.csv", "{url}/new.csv", "{url}/newer.csv")
        async with FileHost(expired, FILE, expired, expired, addresses=addresses) as host:
            async with host.session() as session:
                await session.download("a", destination)
                assert host.targets == ["/old.csv", "/new.csv"]
                with pytest.raises(APIError, match=f"status {status[:3]}") as caught:
                    await session.download("a", destination)
        assert type(caught.value) is APIError
        assert host.address_requests == len(host.targets) == 4

    async def test_denied_request_for_the_address_is_not_repeated(self, destination: Path) -> None:
        async with FileHost() as host, host.session() as session:
            host.api.clear_faults()
            host.api.add_faults(403, path=FILE_URL_PATH)
            with pytest.raises(PermissionDeniedError):
                await session.download("a", destination)
        assert host.address_requests == 1


@virtual_time
class TestConnection:
    async def test_absent_host_is_an_error(self, destination: Path) -> None:
        async with RawServer([]) as absent:
            pass
        async with FileHost(addresses=(f"{absent.url}/a.csv",)) as host:
            async with host.session(retry=ONCE) as session:
                with pytest.raises(TransportError, match="cannot connect to 127") as caught:
                    await session.download("a", destination)
        assert caught.value.retryable

    @pytest.mark.parametrize(
        "script",
        [hang, drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 9)],
        ids=["hangs", "drips"],
    )
    async def test_host_without_complete_headers_is_abandoned(
        self, destination: Path, script: Script
    ) -> None:
        async with FileHost(script) as host, host.session(retry=ONCE) as session:
            with pytest.raises(TransportError) as caught:
                await session.download("a", destination)
            assert 10 <= asyncio.get_running_loop().time() < 10.1
        reason = f"no complete response from {host.netloc} within 10 s"
        assert reason in str(caught.value)

    async def test_host_that_does_not_finish_the_handshake_is_abandoned(
        self, destination: Path
    ) -> None:
        async with RawServer([hang]) as silent:
            address = silent.url.replace("http:", "https:") + "/a.csv?hush"
            async with FileHost(addresses=(address,)) as host:
                async with host.session(retry=ONCE) as session:
                    with pytest.raises(TransportError, match="within 10 s") as caught:
                        await session.download("a", destination)
        assert "hush" not in str(caught.value)

    @pytest.mark.parametrize("cut", range(len(http(CSV))))
    @pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
    async def test_connection_lost_at_any_byte_leaves_the_destination_unchanged(
        self, destination: Path, cut: int, is_reset: bool
    ) -> None:
        response = http(CSV)
        part = response[:cut]
        destination.write_text("yesterday")
        lost = reset_after(part) if is_reset else send(part, close=True)
        # aiohttp itself repeats a request without complete headers.
        resent = 1 if cut >= response.index(CSV) else 2
        async with FileHost(*[lost] * resent, FILE) as host:
            async with host.session(retry=ONCE) as session:
                with pytest.raises(TransportError) as caught:
                    await session.download("a", destination)
                assert caught.value.retryable
                assert destination.read_text() == "yesterday"
                assert names_in(destination.parent) == ["orders.csv"]
                await session.download("a", destination)
        assert destination.read_bytes() == CSV
        assert names_in(destination.parent) == ["orders.csv"]

    async def test_truncated_file_is_received_again_from_the_first_byte(
        self, destination: Path
    ) -> None:
        async with FileHost(send(http(CSV)[:-1], close=True), FILE) as host:
            async with host.session() as session:
                await session.download("a", destination)
        assert destination.read_bytes() == CSV
        assert host.address_requests == 2

    async def test_file_in_chunks_is_saved(self, destination: Path) -> None:
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (CSV[:5], CSV[5:], b""))
        response = unframed(chunks, "Transfer-Encoding: chunked\r\n")
        async with FileHost(send(response)) as host, host.session() as session:
            await session.download("a", destination)
        assert destination.read_bytes() == CSV

    async def test_empty_file_is_saved(self, destination: Path) -> None:
        async with FileHost(send(http())) as host, host.session() as session:
            await session.download("a", destination)
        assert destination.read_bytes() == b""


@virtual_time
class TestLeastSpeed:
    async def test_host_slower_than_a_kibibyte_in_the_request_timeout_is_abandoned(
        self, destination: Path
    ) -> None:
        async with FileHost(send_in_parts(bytes(9 * 1024), 1023, 9.9)) as host:
            async with host.session(retry=ONCE) as session:
                with pytest.raises(TransportError, match="less than 1024 bytes from") as caught:
                    await session.download("a", destination)
                assert 10 <= asyncio.get_running_loop().time() < 10.1
        assert "a longer request_timeout" in str(caught.value)
        assert caught.value.retryable
        assert names_in(destination.parent) == []

    @pytest.mark.parametrize(("size", "seconds"), [(1, 0.0045), (1000, 4.5), (1024, 9.5)])
    async def test_host_with_the_least_speed_is_not_abandoned(
        self, destination: Path, size: int, seconds: float
    ) -> None:
        content = bytes(5 * 1024)
        async with FileHost(send_in_parts(content, size, seconds)) as host:
            async with host.session(retry=ONCE) as session:
                await session.download("a", destination)
        assert destination.read_bytes() == content

    async def test_host_that_stops_in_the_file_is_abandoned(self, destination: Path) -> None:
        half = send_and_hang(http(CSV, length=99))
        async with FileHost(half) as host, host.session(retry=ONCE) as session:
            with pytest.raises(TransportError, match="less than 1024 bytes"):
                await session.download("a", destination)
        assert names_in(destination.parent) == []


async def test_time_of_a_slow_disk_does_not_count(
    destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = ThreadPoolExecutor.submit

    def slow_submit(executor: Any, call: Any, /, *arguments: Any) -> Any:
        def slow_call() -> object:
            time.sleep(0.3)
            return call(*arguments)

        return submit(executor, slow_call)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", slow_submit)
    async with FileHost(*[FILE] * 4) as host:
        async with host.session(request_timeout=0.2) as session:
            await session.download("a", destination)
    assert destination.read_bytes() == CSV


def encoded(coding: str, content: bytes) -> Script:
    return send(http(content, headers=f"Content-Encoding: {coding}\r\n"))


@virtual_time
class TestContentCoding:
    @pytest.mark.parametrize(
        ("coding", "content"),
        [
            ("gzip", gzipped(CSV)),
            ("x-gzip", gzipped(CSV)),
            ("deflate", zlib.compress(CSV)),
            ("aws-chunked,gzip", gzipped(CSV)),
            ("aws-chunked\r\nContent-Encoding: gzip", gzipped(CSV)),
        ],
        ids=["gzip", "x-gzip", "deflate", "aws-chunked", "two headers"],
    )
    @pytest.mark.parametrize("auto_decompress", [False, True])
    async def test_encoded_file_is_decoded(
        self, destination: Path, coding: str, content: bytes, auto_decompress: bool
    ) -> None:
        calls: list[tuple[int, int | None]] = []
        async with (
            FileHost(encoded(coding, content)) as host,
            aiohttp.ClientSession(auto_decompress=auto_decompress) as http_session,
            host.session(http_session=http_session) as session,
        ):
            await session.download("a", destination, progress=lambda *call: calls.append(call))
        assert destination.read_bytes() == CSV
        assert calls == [(len(CSV), None)]

    async def test_large_compressed_file_is_decoded_without_pauses(self, destination: Path) -> None:
        content = bytes(1 << 20)
        async with FileHost(encoded("gzip", gzipped(content))) as host, host.session() as session:
            await session.download("a", destination)
            assert asyncio.get_running_loop().time() < 1
        assert destination.read_bytes() == content

    async def test_end_without_content_is_decoded(self, destination: Path) -> None:
        content = random.randbytes(4096)
        data = gzipped(content)
        start = http(data[:-8], headers="Content-Encoding: gzip\r\n", length=len(data))
        async with FileHost(drip(start, data[-8:])) as host, host.session() as session:
            await session.download("a", destination)
        assert destination.read_bytes() == content

    @pytest.mark.parametrize(
        "coding",
        [
            "br",
            "zstd",
            "gzip, br",
            "\r\nContent-Encoding: ".join([",".join(["gzip"] * 1600)] * 30),
        ],
        ids=["br", "zstd", "two", "48,000"],
    )
    async def test_unsupported_coding_is_an_error(self, destination: Path, coding: str) -> None:
        async with FileHost(encoded(coding, CSV)) as host, host.session() as session:
            with pytest.raises(
                TransportError, match=r"the content encoding '[\w, ]+' is not .+\. Report this"
            ) as caught:
                await session.download("a", destination)
        assert caught.value.retryable is False
        assert names_in(destination.parent) == []

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (gzipped(CSV)[:-1], r": its compressed content is truncated\. Try again: nothing"),
            (b"", r": its compressed content is truncated\. Try again: nothing"),
            (CSV, r": its content cannot be decoded: .+\. Try again: nothing"),
        ],
        ids=["cut", "empty", "not gzip"],
    )
    async def test_damaged_file_with_intact_framing_is_retried_and_not_kept(
        self, destination: Path, content: bytes, reason: str
    ) -> None:
        damaged, whole = encoded("gzip", content), encoded("gzip", gzipped(CSV))
        async with FileHost(damaged, damaged, whole) as host:
            async with host.session(retry=ONCE) as session:
                with pytest.raises(TransportError, match=reason) as caught:
                    await session.download("a", destination)
            assert caught.value.retryable
            assert names_in(destination.parent) == []
            async with host.session() as session:
                await session.download("a", destination)
        assert destination.read_bytes() == CSV


@virtual_time
class TestMaxBytes:
    @pytest.mark.parametrize(
        "response",
        [
            http(b"x" * 1001),
            unframed(b"x" * 1001, "Connection: close\r\n"),
            http(gzipped(b"x" * 1001), headers="Content-Encoding: gzip\r\n"),
        ],
        ids=["of known length", "of unknown length", "compressed"],
    )
    async def test_larger_file_is_rejected(self, destination: Path, response: bytes) -> None:
        async with FileHost(send(response, close=True)) as host, host.session() as session:
            with pytest.raises(TransportError) as caught:
                await session.download("a", destination, max_bytes=1000)
        assert str(caught.value) == (
            "the file of job a: it is larger than max_bytes=1000. Use a larger max_bytes."
        )
        assert caught.value.retryable is False
        assert len(host.targets) == 1
        assert names_in(destination.parent) == []

    async def test_larger_file_in_several_chunks_is_rejected(self, destination: Path) -> None:
        content = gzipped(bytes((1 << 20) + 1))
        async with FileHost(encoded("gzip", content)) as host, host.session() as session:
            with pytest.raises(TransportError, match="it is larger than max_bytes=1048576"):
                await session.download("a", destination, max_bytes=1 << 20)
        assert names_in(destination.parent) == []

    async def test_file_of_known_length_is_rejected_before_it_is_received(
        self, destination: Path
    ) -> None:
        async with FileHost(send_and_hang(http(length=1001))) as host, host.session() as session:
            with pytest.raises(TransportError, match="larger than max_bytes=1000"):
                await session.download("a", destination, max_bytes=1000)
            assert asyncio.get_running_loop().time() < 1

    async def test_file_of_exactly_this_size_is_saved(self, destination: Path) -> None:
        async with FileHost(send(http(b"x" * 1000))) as host, host.session() as session:
            await session.download("a", destination, max_bytes=1000)
        assert names_in(destination.parent) == ["orders.csv"]


class TestProgress:
    async def test_progress_is_called_with_growing_numbers(self, destination: Path) -> None:
        calls: list[tuple[int, int | None]] = []
        content = bytes(range(256)) * 4096
        async with FileHost(send(http(content))) as host, host.session() as session:
            await session.download("a", destination, progress=lambda *call: calls.append(call))
        assert destination.read_bytes() == content
        assert calls[-1] == (len(content), len(content))
        assert all(before < after for before, after in itertools.pairwise(calls))

    async def test_exception_of_the_callback_ends_the_download(self, destination: Path) -> None:
        async with FileHost(FILE) as host, host.session() as session:
            with pytest.raises(ZeroDivisionError):
                await session.download("a", destination, progress=lambda *_: 1 / 0)
            assert_idle(session)
        assert names_in(destination.parent) == []


@virtual_time
@pytest.mark.parametrize(
    "response",
    [
        b"\x00\x01 garbage hush\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: hush\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz hush\r\n",
        http(status="500 hush"),
    ],
    ids=["garbage", "bad length", "bad chunk", "bad status"],
)
async def test_signature_is_in_no_message_and_no_log(
    destination: Path, response: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with FileHost(*[send(response)] * 4) as host:
        async with host.session(retry=Retry(max_attempts=2)) as session:
            with pytest.raises(MoltinJobsError) as caught:
                await session.download("a", destination)
    assert "retrying" in caplog.text
    assert "hush" not in f"{caught.value!r} {vars(caught.value)} {caplog.text}"


@virtual_time
class TestPermits:
    async def test_downloads_take_a_permit_before_they_request_the_address(
        self, tmp_path: Path
    ) -> None:
        slow = send_and_hang(http(b"half", length=99))
        connector = aiohttp.TCPConnector(limit=4)
        async with (
            FileHost(*[slow] * 5) as host,
            aiohttp.ClientSession(connector=connector) as http_session,
            host.session(http_session=http_session, request_timeout=5) as session,
        ):
            downloads = [
                asyncio.create_task(session.download("a", tmp_path / f"{number}.csv"))
                for number in range(5)
            ]
            await asyncio.sleep(1)
            assert len(host.targets) == 2, "half of the connections are left for other requests"
            assert host.address_requests == 2
            assert session.stats().connections == 2
            assert (await session.get_job("a")).status == "success"
            for download in downloads:
                download.cancel()
            await asyncio.wait(downloads)
            assert session.stats().connections == 0

    async def test_download_without_a_free_connection_in_the_users_pool_is_bounded(
        self, tmp_path: Path
    ) -> None:
        connector = aiohttp.TCPConnector(limit_per_host=1)
        async with FileHost(hang) as host, aiohttp.ClientSession(connector=connector) as http:
            taken = asyncio.create_task(http.get(host.server.url))
            await asyncio.sleep(1)
            async with host.session(http_session=http, retry=Retry(max_attempts=1)) as session:
                with pytest.raises(TransportError, match="within 10 s"):
                    await session.download("a", tmp_path / "orders.csv")
            taken.cancel()
            await asyncio.wait([taken])
        assert host.targets == ["/"]

    async def test_downloads_get_their_permits_in_order(self, tmp_path: Path) -> None:
        connector = aiohttp.TCPConnector(limit=1)
        order: list[int] = []
        async with (
            FileHost(*[send_in_parts(CSV, 100, 9)] * 4) as host,
            aiohttp.ClientSession(connector=connector) as http_session,
            host.session(http_session=http_session) as session,
        ):

            async def download(number: int) -> None:
                await asyncio.sleep(number)
                await session.download("a", tmp_path / f"{number}.csv")
                order.append(number)

            await asyncio.gather(*map(download, range(4)))
        assert order == [0, 1, 2, 3]

    async def test_failed_download_gives_its_permit_back(self, destination: Path) -> None:
        connector = aiohttp.TCPConnector(limit=1)
        async with (
            FileHost(send(http(status="404 Not Found")), FILE) as host,
            aiohttp.ClientSession(connector=connector) as http_session,
            host.session(http_session=http_session) as session,
        ):
            with pytest.raises(APIError):
                await session.download("a", destination)
            await session.download("a", destination)
        assert destination.read_bytes() == CSV


@virtual_time
class TestTimeout:
    async def wait_for_timeout(self, host: FileHost, destination: Path, **options: Any) -> None:
        loop = asyncio.get_running_loop()
        async with host.session(**options) as session:
            started_at = loop.time()
            with pytest.raises(JobTimeoutError) as caught:
                await session.download("a", destination, timeout=5)
            assert loop.time() - started_at == pytest.approx(5, abs=0.1)
            assert_idle(session)
        assert str(caught.value) == (
            "job a was not downloaded within 5 s. Download it again, or use a longer timeout."
        )
        assert (caught.value.job_id, caught.value.timeout) == ("a", 5)
        assert caught.value.__context__ is None
        assert names_in(destination.parent) == []

    async def test_timeout_bounds_a_service_that_hangs(self, destination: Path) -> None:
        async with FileHost() as host:
            host.api.clear_faults()
            host.api.add_faults("hang")
            await self.wait_for_timeout(host, destination)

    @pytest.mark.parametrize(
        "script",
        [hang, send_and_hang(http(CSV, length=99)), send_in_parts(bytes(99 * 1024), 1024, 1)],
        ids=["before the headers", "in the file", "slow"],
    )
    async def test_timeout_bounds_a_file_host(self, destination: Path, script: Script) -> None:
        async with FileHost(script) as host:
            await self.wait_for_timeout(host, destination)

    async def test_timeout_bounds_the_interval_before_a_retry(self, destination: Path) -> None:
        busy = send(http(status="503 Unavailable", headers="Retry-After: 60\r\n"))
        async with FileHost(busy) as host:
            await self.wait_for_timeout(host, destination)

    async def test_timeout_bounds_a_token_callable(self, destination: Path) -> None:
        async def never() -> str:
            await asyncio.Event().wait()
            raise AssertionError

        async with FileHost() as host:
            await self.wait_for_timeout(host, destination, auth=never)

    async def test_timeout_bounds_the_wait_for_a_permit(self, destination: Path) -> None:
        async with (
            FileHost(send_in_parts(bytes(99 * 1024), 1024, 1)) as host,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http_session,
            host.session(http_session=http_session) as session,
        ):
            first = asyncio.create_task(session.download("a", destination.with_name("b.csv")))
            await asyncio.sleep(1)
            with pytest.raises(JobTimeoutError):
                await session.download("a", destination, timeout=5)
            assert asyncio.get_running_loop().time() == pytest.approx(6, abs=0.1)
            assert host.address_requests == 1
            first.cancel()
            await asyncio.wait([first])


class TestInterruption:
    """No await of a download leaves a partial file behind when it is interrupted."""

    @pytest.mark.parametrize("repeat", [False, True], ids=["once", "again and again"])
    async def test_cancellation_at_any_await_leaves_nothing_behind(
        self, destination: Path, repeat: bool
    ) -> None:
        async with FileHost(*[encoded("gzip", gzipped(CSV))] * 999) as host:
            async with host.session(rate_limit=None) as session:
                for number in itertools.count():
                    attempt = InterruptAt(
                        session.download("a", destination),
                        number,
                        cancel_now,
                        repeat=repeat,
                    )

                    async def download(attempt: InterruptAt = attempt) -> Any:
                        return await attempt

                    await asyncio.wait([asyncio.create_task(download())])
                    join_disk_threads()
                    assert names_in(destination.parent) in ([], ["orders.csv"])
                    assert_idle(session)
                    if not attempt.was_reached:
                        break
        assert number > 5
        assert destination.read_bytes() == CSV

    async def test_close_at_any_await_leaves_nothing_behind(self, destination: Path) -> None:
        async with FileHost(*[FILE] * 999) as host:
            for number in itertools.count():
                session = host.session()
                closing: list[asyncio.Task[None]] = []

                def close(session: JobsSession = session, tasks: Any = closing) -> None:
                    tasks.append(asyncio.create_task(session.close()))

                attempt = InterruptAt(session.download("a", destination), number, close)
                with contextlib.suppress(SessionClosedError):
                    await attempt
                await session.close()
                await asyncio.gather(*closing)
                assert names_in(destination.parent) in ([], ["orders.csv"])
                if not attempt.was_reached:
                    break
        assert number > 5
        assert destination.read_bytes() == CSV

    def test_sigint_at_any_await_leaves_nothing_behind(self, destination: Path) -> None:
        def interrupt() -> None:
            signal.raise_signal(signal.SIGINT)

        async def download(number: int) -> bool:
            async with FileHost(FILE) as host, host.session() as session:
                attempt = InterruptAt(session.download("a", destination), number, interrupt)
                await attempt
                return attempt.was_reached

        for number in itertools.count():
            try:
                if not asyncio.run(download(number)):
                    break
            except KeyboardInterrupt:
                assert names_in(destination.parent) in ([], ["orders.csv"])
        assert number > 5
        assert destination.read_bytes() == CSV

    @pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
    async def test_busy_default_executor_does_not_delay_a_cancellation(
        self, destination: Path, address: str
    ) -> None:
        release = threading.Event()
        with ThreadPoolExecutor(1) as busy:
            asyncio.get_running_loop().set_default_executor(busy)
            busy.submit(release.wait)  # it also keeps the resolver from its work
            try:
                half = send_and_hang(http(CSV, length=99))
                async with FileHost(half) as host, host.session(retry=ONCE) as session:
                    url = host.server.url.replace("127.0.0.1", address)
                    host.set_addresses(f"{url}/a.csv")
                    download = asyncio.create_task(session.download("a", destination))
                    await asyncio.sleep(0.3)
                    assert session.stats().connections == 1
                    assert host.address_requests == 1
                    download.cancel()
                    done, _ = await asyncio.wait([download], timeout=5)
                    assert done
            finally:
                release.set()
        assert names_in(destination.parent) == []
