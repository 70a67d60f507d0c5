"""Jobs created, listed, and their files saved: over real sockets, in virtual time."""

import asyncio
import gzip
import itertools
import json
import logging
import os
import resource
import signal
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from moltin_jobs import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    InvalidResponseError,
    Job,
    JobFailedError,
    JobNotFoundError,
    JobsSession,
    JobTimeoutError,
    MoltinJobsError,
    PermissionDeniedError,
    Retry,
    ServerError,
    TransportError,
)
from moltin_jobs._http.partial_file import save
from moltin_jobs._http.transport import _file_url
from moltin_jobs.testing.simulator import Fault, Simulator
from tests.raw_server import RawServer, hang, http, job, reset_after, send, unframed

pytestmark = pytest.mark.looptime

MAY_EXIST = "The job may exist all the same: look with list_jobs()"
ONCE = Retry(max_tries=1)
DOCUMENTED_FILTER = "gt(created_at,2018-09-01):lt(created_at,2018-10-01)"
WHOLE = http(b"order_id,currency\r\n1,EUR\r\n")


def session_on(server: Simulator | RawServer, **settings: Any) -> JobsSession:
    return JobsSession("simulator-token", base_url=server.url, **settings)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestCreate:
    @pytest.mark.parametrize("dialect", ["current", "older"])
    async def test_in_both_dialects(self, dialect: Any) -> None:
        async with Simulator(dialect=dialect) as simulator, session_on(simulator) as session:
            made = await session.create_job(filter=DOCUMENTED_FILTER)
            assert (made.job_type, made.status) == (
                "order_export",
                "started" if dialect == "current" else "processing",
            )
            assert (await session.wait_for_job(made.id)).id == made.id

    async def test_what_is_sent(self) -> None:
        async with RawServer([send(http(job(), "202 Accepted"))] * 2) as server:
            async with session_on(server) as session:
                await session.create_job(filter=DOCUMENTED_FILTER)
                await session.create_job("promotion_export")
        first, second = server.requests
        assert first.startswith(b"POST /v2/jobs HTTP/1.1\r\n")
        assert b"Content-Type: application/json\r\n" in first
        assert b"Authorization: Bearer simulator-token\r\n" in first
        document = second.partition(b"POST")[0]  # the first one's body came before the second
        assert json.loads(document)["data"] == {
            "type": "job",
            "job_type": "order_export",
            "filter": DOCUMENTED_FILTER,
        }

    @pytest.mark.parametrize(
        "arguments",
        [{"job_type": ""}, {"job_type": 5}, {"filter": ""}, {"filter": ["a"]}, {"filter": "a\nb"}],
    )
    async def test_what_cannot_be_is_refused(self, arguments: dict[str, Any]) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            with pytest.raises(ConfigurationError, match=next(iter(arguments))):
                await session.create_job(**arguments)
        assert simulator.requests == []

    @pytest.mark.parametrize("fault", [500, 503, 408, "reset", "truncate", "garbage", "html"])
    async def test_nothing_doubtful_is_repeated(self, fault: Any) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.spoil(fault)
            with pytest.raises(MoltinJobsError) as caught:
                await session.create_job()
        assert MAY_EXIST in str(caught.value)
        assert not caught.value.temporary
        assert len(simulator.requests) == 1

    async def test_an_attempt_that_runs_out_of_time_is_not_repeated(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.spoil("hang")
            with pytest.raises(TransportError, match=r"within 10 s.*may exist"):
                await session.create_job()
        assert len(simulator.requests) == 1

    async def test_closing_says_so_too(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.spoil("hang")
            creating = asyncio.create_task(session.create_job())
            await asyncio.sleep(1)
            await session.close()
            with pytest.raises(RuntimeError, match=r"closed while.*may exist"):
                await creating

    @pytest.mark.parametrize("body", [b"{}", b'{"data": []}', b'{"data": [1, 2]}', b"[]", b""])
    async def test_a_success_that_cannot_be_read(self, body: bytes) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.spoil(Fault(202, body=body))
            with pytest.raises(InvalidResponseError, match="may exist"):
                await session.create_job()
        assert len(simulator.requests) == 1

    async def test_what_was_certainly_refused_is_repeated(self) -> None:
        async with Simulator() as simulator:
            simulator.spoil(429, 429)

            async def token() -> str:
                return simulator.token

            async with JobsSession(token, base_url=simulator.url) as session:
                simulator.spoil(401)
                await session.create_job()
        assert [request.status for request in simulator.requests] == [429, 429, 401, 202]

    @pytest.mark.parametrize(("status", "kind"), [(400, APIError), (401, AuthenticationError)])
    async def test_what_was_refused_for_good_is_raised(
        self, status: int, kind: type[APIError]
    ) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.spoil(status)
            with pytest.raises(kind) as caught:
                await session.create_job()
        assert "may exist" not in str(caught.value)
        assert len(simulator.requests) == 1

    async def test_a_refusal_stays_one_however_long_others_take_to_be_told(self) -> None:
        class Slow:
            async def acquire(self) -> None: ...

            async def pause(self, seconds: float) -> None:
                await asyncio.sleep(seconds + 30)

        async with Simulator() as simulator, session_on(simulator, rate_limit=Slow()) as session:
            simulator.spoil(429)
            assert (await session.create_job()).status == "started"

    async def test_a_host_that_is_not_there_is_asked_again(self) -> None:
        async with Simulator() as simulator:
            pass
        async with session_on(simulator, retry=Retry(max_tries=3)) as session:
            before = asyncio.get_running_loop().time()
            with pytest.raises(TransportError, match="could not be reached") as caught:
                await session.create_job()
            assert asyncio.get_running_loop().time() - before > 0.7, "it waited twice"
        assert "may exist" not in str(caught.value)

    async def test_a_token_that_cannot_be_got_leaves_no_doubt(self) -> None:
        async def token() -> str:
            raise ServerError(503, "the vault")

        async with Simulator() as simulator:
            async with JobsSession(token, base_url=simulator.url, retry=ONCE) as session:
                with pytest.raises(ServerError) as caught:
                    await session.create_job()
        assert "may exist" not in str(caught.value)


class TestList:
    async def test_all_that_exist(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            assert await session.list_jobs() == []
            simulator.add_job("a", ["pending", "success"])
            simulator.add_job("b", ["failed"], error="No results")
            jobs = await session.list_jobs()
            assert [(one.id, one.status) for one in jobs] == [("a", "pending"), ("b", "failed")]
            assert jobs[1] == await session.get_job("b")

    async def test_what_cannot_be_read_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        items = [{"id": "a", "status": "pending"}, {"id": "b"}, 5, {"id": "c", "status": "new"}]
        body = json.dumps({"data": items}).encode()
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.spoil(Fault(body=body))
            jobs = await session.list_jobs()
        assert [one.id for one in jobs] == ["a", "c"]
        told = [
            record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
        ]
        assert told[0].startswith("job c: status 'new' is not documented")
        assert told[1:] == [
            "a job of the list cannot be read: number 2: it has no usable id or status",
            "a job of the list cannot be read: number 3: it has no usable id or status",
        ]

    @pytest.mark.parametrize(
        "body", [b"{}", b'{"data": {}}', b"[]", b'{"data": []', b'{"data": [], "data": []}']
    )
    async def test_what_is_no_list(self, body: bytes) -> None:
        async with Simulator() as simulator, session_on(simulator, retry=ONCE) as session:
            simulator.spoil(Fault(body=body))
            with pytest.raises(InvalidResponseError, match=r"^the list of jobs: "):
                await session.list_jobs()

    async def test_it_is_tried_again(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.spoil(503, "reset")
            assert await session.list_jobs() == []

    async def test_a_list_may_be_long_but_not_endless(self) -> None:
        item = job("success", "a" * 128, file="x" * 2000).decode()[len('{"data": ') : -1]
        document = b'{"data": [' + ",".join([item] * 4000).encode() + b"]}"
        assert 2**20 < len(document) < 2**24
        async with Simulator() as simulator, session_on(simulator, retry=ONCE) as session:
            simulator.spoil(Fault(body=document), Fault(body=document + b" " * 2**23))
            assert len(await session.list_jobs()) == 4000
            with pytest.raises(InvalidResponseError, match="longer than 16777216 bytes"):
                await session.list_jobs()


class TestFile:
    @pytest.mark.parametrize("dialect", ["current", "older"])
    async def test_its_address_in_both_shapes(self, dialect: Any) -> None:
        async with Simulator(dialect=dialect) as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=0)
            assert await session.get_job_file("a") == f"{simulator.files_url}/a.csv"

    @pytest.mark.parametrize(
        ("status", "advice"),
        [
            ("pending", "pending: it has no file yet; wait for it first"),
            ("success", "success, but its file is not: create a new job"),
            ("failed", "failed: it will never have a file; create a new job"),
            ("cancelled", "cancelled: it will never have a file; create a new job"),
        ],
    )
    async def test_none_of_a_job_that_is_there(self, status: str, advice: str) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job("a", [status])
            simulator.spoil(404)
            with pytest.raises(JobNotFoundError, match=advice) as caught:
                await session.get_job_file("a")
        assert caught.value.job is not None
        assert caught.value.job.status == status

    async def test_a_refusal_to_tell(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.spoil(403)
            with pytest.raises(PermissionDeniedError, match=r"^the file of job a: "):
                await session.get_job_file("a")
            assert len(simulator.requests) == 1

    async def test_none_of_a_job_that_is_nowhere(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            with pytest.raises(JobNotFoundError, match="Check the id and the store") as caught:
                await session.get_job_file("a")
        assert caught.value.job is None

    @pytest.mark.parametrize(
        "body", [b"{}", b"[]", b"5", b'{"href": ""}', b'{"data": {"href": 5}}', b'{"data": []}']
    )
    async def test_an_answer_that_names_none(self, body: bytes) -> None:
        async with Simulator() as simulator, session_on(simulator, retry=ONCE) as session:
            simulator.spoil(Fault(body=body))
            with pytest.raises(InvalidResponseError, match=r"^the file of job a: "):
                await session.get_job_file("a")


class FileHost:
    """A store that names one file, and the raw host that holds it."""

    def __init__(self, *scripts: Any, address: str = "{}/a.csv?signature=secret") -> None:
        self.files = RawServer(scripts)
        self.api = Simulator()
        self._address = address

    async def __aenter__(self) -> Self:
        await self.files.__aenter__()
        await self.api.__aenter__()
        href = self._address.format(self.files.url)
        fault = Fault(body=json.dumps({"href": href}).encode())
        self.api.spoil(*[fault] * 10)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.files.__aexit__(*_)
        await self.api.__aexit__(*_)


class TestDownload:
    async def test_a_file_is_saved_whole(self, tmp_path: Path) -> None:
        seen: list[tuple[int, int | None]] = []
        content = bytes(range(256)) * 4096
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=0, file=content)
            told = await session.download(
                await session.get_job("a"),
                tmp_path / "orders.csv",
                progress=lambda *both: seen.append(both),
            )
            again = await session.download("a", str(tmp_path / "orders.csv"))
        assert told == again == tmp_path / "orders.csv"
        assert told.read_bytes() == content
        assert left(tmp_path) == ["orders.csv"]
        assert seen[-1] == (len(content), len(content))
        assert all(before < after for before, after in itertools.pairwise(seen))

    async def test_no_token_and_no_header_of_the_callers_goes_along(self, tmp_path: Path) -> None:
        async with FileHost(send(http(b"x"))) as host:
            async with session_on(host.api, headers={"X-Team": "orders"}) as session:
                await session.download("a", tmp_path / "orders.csv")
        (request,) = host.files.requests
        assert request.startswith(b"GET /a.csv?signature=secret HTTP/1.1\r\n")
        assert b"authorization" not in request.lower()
        assert b"X-Team" not in request

    async def test_through_a_session_of_the_callers(self, tmp_path: Path) -> None:
        async with (
            FileHost(send(http(b"x"))) as host,
            aiohttp.ClientSession(
                headers={"Authorization": "Basic abc"}, cookies={"a": "b"}
            ) as own,
        ):
            async with session_on(host.api, http=own) as session:
                await session.download("a", tmp_path / "orders.csv")
            assert not own.closed
            assert own.connector is not None
            assert not own.connector.closed
        assert b"authorization" not in host.files.requests[0].lower()
        assert b"cookie" not in host.files.requests[0].lower()

    async def test_redirects_are_followed(self, tmp_path: Path) -> None:
        away = http(status="302 Found", headers="Location: /b.csv\r\n")
        async with FileHost(send(away), send(http(b"x"))) as host:
            async with session_on(host.api) as session:
                await session.download("a", tmp_path / "orders.csv")
        assert [request.split()[1] for request in host.files.requests] == [
            b"/a.csv?signature=secret",
            b"/b.csv",
        ]

    @pytest.mark.parametrize(
        ("location", "told"),
        [
            ("http://files.example/secret", "http://files.example"),
            ("ftp://files.example/secret", "ftp://files.example"),
            ("http://[/secret", "no address"),
        ],
    )
    async def test_but_not_to_what_is_not_https(
        self, tmp_path: Path, location: str, told: str
    ) -> None:
        away = http(status="302 Found", headers=f"Location: {location}\r\n")
        async with FileHost(send(away)) as host, session_on(host.api) as session:
            with pytest.raises(TransportError, match="not by https") as caught:
                await session.download("a", tmp_path / "orders.csv")
        assert told in str(caught.value)
        assert "secret" not in str(caught.value)
        assert left(tmp_path) == []

    async def test_nor_for_ever(self, tmp_path: Path) -> None:
        away = send(http(status="302 Found", headers="Location: /a\r\n"))
        async with FileHost(*[away] * 20) as host, session_on(host.api, retry=ONCE) as session:
            with pytest.raises(TransportError, match="redirects more than 10 times"):
                await session.download("a", tmp_path / "orders.csv")
        assert len(host.files.requests) == 11

    @pytest.mark.parametrize("status", ["302 Found", "403 Forbidden", "503 Unavailable"])
    async def test_a_host_that_refuses(self, tmp_path: Path, status: str) -> None:
        async with FileHost(send(http(status=status))) as host:
            async with session_on(host.api, retry=ONCE) as session:
                with pytest.raises(APIError, match="ask for the file again") as caught:
                    await session.download("a", tmp_path / "orders.csv")
        assert caught.value.temporary == status.startswith("503")
        assert left(tmp_path) == []

    async def test_a_host_that_is_not_there(self, tmp_path: Path) -> None:
        async with FileHost(address="http://127.0.0.1:1/a.csv") as host:
            async with session_on(host.api, retry=ONCE) as session:
                with pytest.raises(TransportError, match="could not be reached"):
                    await session.download("a", tmp_path / "orders.csv")

    async def test_its_address_is_sent_to_the_letter(self, tmp_path: Path) -> None:
        path = "/a%7Eb.csv?X-Amz-Credential=AK%2F2018%2Feu&sig=%3a%2b"
        away = http(status="302 Found", headers=f"Location: {path}\r\n")
        async with FileHost(send(away), send(http(b"x")), address="{}" + path) as host:
            async with session_on(host.api) as session:
                await session.download("a", tmp_path / "orders.csv")
        assert [request.split()[1] for request in host.files.requests] == [path.encode()] * 2

    @pytest.mark.parametrize("host", [".a..example", "a" * 80 + ".example"])
    async def test_a_host_that_has_no_name(self, tmp_path: Path, host: str) -> None:
        async with FileHost(address=f"https://{host}/a.csv?signature=secret") as files:
            async with session_on(files.api, retry=ONCE) as session:
                with pytest.raises(TransportError) as caught:
                    await session.download("a", tmp_path / "orders.csv")
        assert host in str(caught.value)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        "answer",
        [
            b"\x00\x01 garbage\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ],
    )
    async def test_its_signature_is_told_nobody(
        self, tmp_path: Path, answer: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "moltin_jobs")
        async with FileHost(*[send(answer)] * 4) as host:
            async with session_on(host.api, retry=Retry(max_tries=2)) as session:
                with pytest.raises(TransportError) as caught:
                    await session.download("a", tmp_path / "orders.csv")
        assert "trying again" in caplog.text
        assert "secret" not in str(caught.value) + caplog.text

    def test_plain_http_is_for_a_service_that_is_on_this_machine_too(self) -> None:
        address = "http://127.0.0.1:8000/a.csv"
        assert str(_file_url(address, "the file", loopback=True)) == address
        with pytest.raises(TransportError, match="not by https"):
            _file_url(address, "the file", loopback=False)

    async def test_many_leave_connections_for_the_rest(self, tmp_path: Path) -> None:
        slow = _then_hang(http(b"half", length=99))
        async with FileHost(*[slow] * 5) as host:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=4)) as own:
                async with session_on(host.api, http=own, request_timeout=5) as session:
                    saving = [
                        asyncio.create_task(session.download("a", tmp_path / f"{number}.csv"))
                        for number in range(5)
                    ]
                    await asyncio.sleep(1)
                    host.api.add_job("b", duration=0)
                    host.api._faults.clear()
                    assert (await session.get_job("b")).status == "success"
                    assert len(host.files.requests) == 2
                    for one in saving:
                        one.cancel()
                    await asyncio.gather(*saving, return_exceptions=True)

    async def test_a_host_that_says_nothing(self, tmp_path: Path) -> None:
        async with FileHost(hang, _then_hang(http(b"half", length=99))) as host:
            async with session_on(host.api, retry=ONCE) as session:
                for _ in range(2):
                    with pytest.raises(TransportError, match=r"nothing came from .* within 10 s"):
                        await session.download("a", tmp_path / "orders.csv")
        assert left(tmp_path) == []

    async def test_a_host_that_takes_no_connection(self, tmp_path: Path) -> None:
        async with FileHost(hang, address="https://{}/a.csv?signature=secret") as host:
            address = host.files.url.removeprefix("http://")
            body = json.dumps({"href": f"https://{address}/a.csv?signature=secret"}).encode()
            host.api._faults.clear()
            host.api.spoil(Fault(body=body))
            async with session_on(host.api, retry=ONCE) as session:
                with pytest.raises(TransportError) as caught:  # it waits for the handshake
                    await session.download("a", tmp_path / "orders.csv")
        assert f"nothing came from {address} within 10 s" in str(caught.value)
        assert "secret" not in str(caught.value)

    async def test_a_disk_without_room(self, tmp_path: Path) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 3000  # which waits in a buffer

        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                await save(
                    chunks(), None, tmp_path / "a.csv", about="", progress=None, max_bytes=None
                )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        assert left(tmp_path) == []

    @pytest.mark.parametrize("cut", range(len(WHOLE)))
    async def test_cut_at_any_byte(self, tmp_path: Path, cut: int) -> None:
        (tmp_path / "orders.csv").write_text("of yesterday")
        # What is cut before its body, aiohttp asks for once more by itself.
        cuts = [reset_after(WHOLE[:cut])] * (1 if cut >= WHOLE.index(b"order_id") else 2)
        async with FileHost(*cuts, send(WHOLE)) as host:
            async with session_on(host.api, retry=ONCE) as session:
                with pytest.raises(TransportError):
                    await session.download("a", tmp_path / "orders.csv")
                assert (tmp_path / "orders.csv").read_text() == "of yesterday"
                assert left(tmp_path) == ["orders.csv"]
                await session.download("a", tmp_path / "orders.csv")
        assert (tmp_path / "orders.csv").read_bytes() == b"order_id,currency\r\n1,EUR\r\n"
        assert left(tmp_path) == ["orders.csv"]

    async def test_a_cut_one_is_got_again_by_itself(self, tmp_path: Path) -> None:
        whole = http(b"order_id")
        async with FileHost(send(whole[:-1], close=True), send(whole)) as host:
            async with session_on(host.api) as session:
                await session.download("a", tmp_path / "orders.csv")
        assert (tmp_path / "orders.csv").read_bytes() == b"order_id"

    async def test_fewer_bytes_than_were_told(self, tmp_path: Path) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"half"

        with pytest.raises(TransportError, match="4 of 8 bytes came"):
            await save(
                chunks(), 8, tmp_path / "a.csv", about="the file", progress=None, max_bytes=None
            )
        assert left(tmp_path) == []

    async def test_a_compressed_one(self, tmp_path: Path) -> None:
        packed = gzip.compress(b"order_id" * 1000)
        answer = http(packed, headers="Content-Encoding: gzip\r\n")
        seen: list[Any] = []
        async with FileHost(send(answer)) as host, session_on(host.api) as session:
            await session.download(
                "a", tmp_path / "orders.csv", progress=lambda *both: seen.append(both)
            )
        assert (tmp_path / "orders.csv").read_bytes() == b"order_id" * 1000
        assert seen[-1] == (8000, None)

    @pytest.mark.parametrize("told", [True, False])
    async def test_a_bound_on_its_size(self, tmp_path: Path, told: bool) -> None:
        answer = http(b"x" * 1001) if told else unframed(b"x" * 1001, "Connection: close\r\n")
        async with FileHost(send(answer, close=True)) as host:
            async with session_on(host.api) as session:
                with pytest.raises(TransportError, match="larger than max_bytes=1000") as caught:
                    await session.download("a", tmp_path / "orders.csv", max_bytes=1000)
        assert not caught.value.temporary
        assert left(tmp_path) == []

    async def test_what_just_fits(self, tmp_path: Path) -> None:
        async with FileHost(send(http(b"x" * 1000))) as host, session_on(host.api) as session:
            await session.download("a", tmp_path / "orders.csv", max_bytes=1000)
        assert left(tmp_path) == ["orders.csv"]

    @pytest.mark.parametrize("how", ["cancel", "close"])
    async def test_one_that_is_ended(self, tmp_path: Path, how: str) -> None:
        async with FileHost(_then_hang(http(b"half", length=99))) as host:
            async with session_on(host.api) as session:
                saving = asyncio.create_task(session.download("a", tmp_path / "orders.csv"))
                await asyncio.sleep(1)
                assert len(left(tmp_path)) == 1, "it has begun"
                if how == "cancel":
                    saving.cancel()
                else:
                    await session.close()
                with pytest.raises((asyncio.CancelledError, RuntimeError)):
                    await saving
        assert left(tmp_path) == []

    @pytest.mark.parametrize("times", [1, 3])
    @pytest.mark.parametrize("step", range(1, 7))  # it opens, writes thrice, keeps, discards
    async def test_cancelled_at_any_step_however_often(
        self, tmp_path: Path, step: int, times: int
    ) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x"

        reached, cancelled = asyncio.Event(), threading.Event()
        steps = itertools.count(1)

        class Pool(ThreadPoolExecutor):
            def submit(self, call: Any, /, *arguments: Any, **named: Any) -> Any:
                if next(steps) < step:
                    return super().submit(call, *arguments, **named)
                reached.set()
                return super().submit(lambda: cancelled.wait() and call(*arguments, **named))

        asyncio.get_running_loop().set_default_executor(Pool(1))
        saving = asyncio.create_task(
            save(chunks(), 3, tmp_path / "a.csv", about="", progress=None, max_bytes=None)
        )
        await reached.wait()
        for _ in range(times):
            await asyncio.sleep(0)
            saving.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await saving
        assert left(tmp_path) == (["a.csv"] if step >= 5 else [])

    async def test_a_place_that_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "orders.csv")
        async with FileHost(send(http(b"x"))) as host, session_on(host.api) as session:
            with pytest.raises(OSError, match="Not a regular file"):
                await session.download("a", tmp_path / "orders.csv")
            assert host.api.requests == []
        assert (tmp_path / "orders.csv").is_fifo()

    async def test_what_is_there_is_replaced_with_its_mode(self, tmp_path: Path) -> None:
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "orders.csv").write_text("of yesterday")
        (tmp_path / "kept" / "orders.csv").chmod(0o600)
        (tmp_path / "link.csv").symlink_to(tmp_path / "kept" / "orders.csv")
        async with FileHost(send(http(b"x"))) as host, session_on(host.api) as session:
            await session.download("a", tmp_path / "link.csv")
        assert (tmp_path / "link.csv").is_symlink()
        assert (tmp_path / "kept" / "orders.csv").read_text() == "x"
        assert (tmp_path / "kept" / "orders.csv").stat().st_mode & 0o777 == 0o600
        assert left(tmp_path / "kept") == ["orders.csv"]

    async def test_a_name_as_long_as_any(self, tmp_path: Path) -> None:
        async with FileHost(send(http(b"x"))) as host, session_on(host.api) as session:
            await session.download("a", tmp_path / ("a" * 255))
        assert left(tmp_path) == ["a" * 255]

    @pytest.mark.parametrize("bound", [0, 1.5, "1000"])
    async def test_a_bound_that_cannot_be(self, tmp_path: Path, bound: Any) -> None:
        async with FileHost(send(http(b"x"))) as host, session_on(host.api) as session:
            with pytest.raises(ConfigurationError, match="max_bytes"):
                await session.download("a", tmp_path / "orders.csv", max_bytes=bound)
            assert host.api.requests == []

    async def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        async with FileHost(send(http(b"x"))) as host, session_on(host.api) as session:
            with pytest.raises(FileNotFoundError):
                await session.download("a", tmp_path / "nowhere" / "orders.csv")
            assert host.api.requests == []

    async def test_a_place_that_went_away(self, tmp_path: Path) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"x"

        place = tmp_path / "nowhere" / "a.csv"
        with pytest.raises(FileNotFoundError):
            await save(chunks(), 1, place, about="", progress=None, max_bytes=None)

    async def test_a_folder_in_its_place(self, tmp_path: Path) -> None:
        async with FileHost(send(http(b"x"))) as host, session_on(host.api) as session:
            with pytest.raises(IsADirectoryError) as caught:
                await session.download("a", tmp_path)
        assert caught.value.filename == str(tmp_path)
        assert left(tmp_path) == []

    async def test_a_progress_that_fails_ends_it(self, tmp_path: Path) -> None:
        async with FileHost(send(http(b"x"))) as host, session_on(host.api) as session:
            with pytest.raises(ZeroDivisionError):
                await session.download("a", tmp_path / "orders.csv", progress=lambda *_: 1 / 0)
        assert left(tmp_path) == []


def _then_hang(data: bytes) -> Any:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await hang(writer)

    return script


class TestExport:
    async def test_from_nothing_to_the_file(self, tmp_path: Path) -> None:
        async with Simulator(creation_seconds=600) as simulator, session_on(simulator) as session:
            done = await session.export_orders(
                DOCUMENTED_FILTER, destination=tmp_path / "orders.csv", timeout=900
            )
        assert isinstance(done, Job)
        assert done.status == "success"
        rows = (tmp_path / "orders.csv").read_text().splitlines()
        assert rows[0] == "order_id,currency,amount"
        assert len(rows) == 201

    async def test_without_a_place_the_job_is_enough(self) -> None:
        async with Simulator(creation_seconds=6) as simulator, session_on(simulator) as session:
            done = await session.export_orders()
        assert done.file_url == f"{simulator.files_url}/{done.id}.csv"

    async def test_a_place_that_cannot_be_written_costs_no_job(self, tmp_path: Path) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            with pytest.raises(FileNotFoundError) as caught:
                await session.export_orders(destination=tmp_path / "nowhere" / "orders.csv")
        assert caught.value.filename == str(tmp_path / "nowhere" / "orders.csv")
        assert simulator.requests == []

    async def test_a_place_that_goes_away_is_told_with_the_job(self, tmp_path: Path) -> None:
        place = tmp_path / "exports"
        place.mkdir()
        async with Simulator(creation_seconds=60) as simulator, session_on(simulator) as session:
            export = asyncio.create_task(session.export_orders(destination=place / "orders.csv"))
            await asyncio.sleep(30)
            place.rmdir()
            with pytest.raises(FileNotFoundError) as caught:
                await export
            (listed,) = await session.list_jobs()
        (note,) = caught.value.__notes__
        assert note.startswith(f"Job {listed.id} has succeeded. Its file is still there")

    async def test_a_job_that_fails(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            failed = job("failed", error="No results")
            simulator.spoil(Fault(202, body=failed), Fault(body=failed))
            with pytest.raises(JobFailedError, match="No results"):
                await session.export_orders()

    @pytest.mark.parametrize(
        ("hangs", "told"),
        [
            (0, r"^the job of this export was not created within 5 s: never seen\. .*may exist"),
            (1, r"^job \S+ did not end within 5 s: last seen 'pending'"),
            (
                2,
                r"^job a was not saved within 5 s: last seen 'success'\. .*call download\(\)",
            ),
        ],
    )
    async def test_one_deadline_for_all(self, tmp_path: Path, hangs: int, told: str) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            answers = [Fault(202, body=job("pending")), Fault(body=job("success"))]
            simulator.spoil(*answers[:hangs], "hang")
            before = asyncio.get_running_loop().time()
            with pytest.raises(JobTimeoutError, match=told) as caught:
                await session.export_orders(destination=tmp_path / "orders.csv", timeout=5)
            assert caught.value.job_id == (None if hangs == 0 else "a")
            assert not hasattr(caught.value, "__notes__"), "it says all by itself"
            assert asyncio.get_running_loop().time() - before == pytest.approx(5, abs=0.1)
        assert left(tmp_path) == []

    async def test_an_error_that_names_no_job_is_told_with_it(self) -> None:
        tokens = iter(["simulator-token"])

        async def token() -> str:
            return next(tokens, "expired")

        async with Simulator() as simulator:
            async with JobsSession(token, base_url=simulator.url) as session:
                simulator.spoil(Fault(202, body=job("pending")), 401, 401)
                with pytest.raises(AuthenticationError) as caught:
                    await session.export_orders()
        assert caught.value.__notes__ == ["The job of this export is a."]

    async def test_a_timeout_error_of_somebody_elses_passes(self) -> None:
        async def token() -> str:
            raise TimeoutError("the vault's own")

        async with Simulator() as simulator:
            async with JobsSession(token, base_url=simulator.url) as session:
                with pytest.raises(TimeoutError, match="the vault's own"):
                    await session.export_orders(timeout=5)

    async def test_a_timeout_that_cannot_be(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            with pytest.raises(ConfigurationError, match="timeout"):
                await session.export_orders(timeout=0)
        assert simulator.requests == []
