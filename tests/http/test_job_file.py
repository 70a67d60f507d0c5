"""Files that are read without a disk, from real servers."""

import asyncio
import contextlib
import csv
import functools
import gc
import gzip
import io
import itertools
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from moltin_jobs import (
    APIError,
    ConfigurationError,
    JobFile,
    JobNotFoundError,
    JobsSession,
    MoltinJobsError,
    Retry,
    ServerError,
    SessionClosedError,
    TransportError,
)
from moltin_jobs._http.file_response import FileResponse
from moltin_jobs.testing import Simulator
from tests.file_host import FileHost, redirect, send_and_hang
from tests.interruption import InterruptAt, cancel_now
from tests.raw_server import Script, hang, http, send, send_in_parts, unframed
from tests.sessions import assert_idle
from tests.test_secrets import texts_of

TOKEN = "simulator-token"
CSV = b'id,note\r\n1,"a\r\nb"\r\n2,c\r\n'
ROWS = [{"id": "1", "note": "a\r\nb"}, {"id": "2", "note": "c"}]
FILE = send(http(CSV))
SHORT = send(http(CSV)[:-4], close=True)
GZIP = "Content-Encoding: gzip\r\n"
KIBIBYTE = 1024
gzipped = functools.partial(gzip.compress, mtime=0)

virtual_time = pytest.mark.looptime

Reading = Callable[[JobFile], Awaitable[object]]


async def read_chunks(file: JobFile) -> list[bytes]:
    return [chunk async for chunk in file]


async def read_rows(file: JobFile) -> list[dict[Any, Any]]:
    return [row async for row in file.rows()]


READINGS: list[Reading] = [read_chunks, JobFile.read, read_rows]
each_reading = pytest.mark.parametrize("reading", READINGS, ids=["chunks", "read", "rows"])


@contextlib.asynccontextmanager
async def count_turns() -> AsyncIterator[Iterator[int]]:
    """Count how often other tasks can run in the block. The count is the next item."""
    turns = itertools.count()

    async def take_turns() -> None:
        while True:
            await asyncio.sleep(0)
            next(turns)

    counting = asyncio.create_task(take_turns())
    yield turns
    counting.cancel()


async def wait_for_disconnection(host: FileHost) -> None:
    async with asyncio.timeout(5):
        while host.server.open_connections:  # noqa: ASYNC110 (the server has no event for it)
            await asyncio.sleep(0.01)


class TestContent:
    async def test_rows_of_one_chunk_let_other_tasks_run(self) -> None:
        async with FileHost(send(http(b"a\n" * 50_001))) as host, host.session() as session:
            async with session.open_file("a") as file:
                rows = file.rows()
                await anext(rows)
                async with count_turns() as turns:
                    assert len([row async for row in rows]) == 49_999
        assert next(turns) >= 49

    @pytest.mark.parametrize(
        "header",
        [",".join(map(str, range(10_000))), "," * 9999],
        ids=["distinct names", "empty names"],
    )
    async def test_short_rows_under_a_wide_header_let_other_tasks_run(self, header: str) -> None:
        content = f"{header}\n".encode() + b"1\n" * 101
        async with FileHost(send(http(content))) as host, host.session() as session:
            async with session.open_file("a") as file:
                rows = file.rows()
                await anext(rows)
                async with count_turns() as turns:
                    assert len([row async for row in rows]) == 100
        assert next(turns) >= 49

    async def test_chunks_are_the_bytes_of_the_file(self) -> None:
        content = random.randbytes(3 << 20)
        async with FileHost(send(http(content))) as host, host.session() as session:
            async with session.open_file("a") as file:
                assert file.length == len(content)
                chunks = await read_chunks(file)
        assert b"".join(chunks) == content
        assert max(map(len, chunks)) <= 1 << 18

    async def test_read_returns_the_remaining_bytes(self) -> None:
        content = random.randbytes(1 << 20)
        async with FileHost(send(http(content))) as host, host.session() as session:
            async with session.open_file("a") as file:
                first = await anext(file)
                assert 0 < len(first) < len(content)
                assert first + await file.read() == content
                for _ in range(9):
                    assert await file.read() == b""
                    assert await read_chunks(file) == []

    @pytest.mark.parametrize(
        ("reading", "expected"),
        [(read_chunks, []), (JobFile.read, b""), (read_rows, [])],
        ids=["chunks", "read", "rows"],
    )
    async def test_empty_file_has_no_chunks_and_no_rows(
        self, reading: Reading, expected: object
    ) -> None:
        async with FileHost(send(http())) as host, host.session() as session:
            async with session.open_file("a") as file:
                assert file.length == 0
                assert await reading(file) == expected

    async def test_rows_are_those_of_a_csv_file(self) -> None:
        async with FileHost(FILE) as host, host.session() as session:
            async with session.open_file("a") as file:
                rows = file.rows()
                assert [row async for row in rows] == ROWS
                assert await anext(rows, None) is None

    @pytest.mark.parametrize("size", [1025, 1031, 65537])
    async def test_rows_of_a_file_that_arrives_in_parts_are_equal(self, size: int) -> None:
        lines = [f'{number},"é\n{number}",x\r\n' for number in range(5000)]
        text = "id,note,\ufeff€\r\n" + "".join(lines)
        script = send_in_parts(b"\xef\xbb\xbf" + text.encode(), size)
        async with FileHost(script) as host, host.session() as session:
            async with session.open_file("a") as file:
                rows = await read_rows(file)
        assert rows == list(csv.DictReader(io.StringIO(text, newline="")))

    async def test_compressed_file_is_decoded_in_chunks(self) -> None:
        content = b"id\n" + b"1\n" * (1 << 20)
        response = send(http(gzipped(content), headers=GZIP))
        async with FileHost(response) as host, host.session() as session:
            async with session.open_file("a") as file:
                assert file.length is None
                async with count_turns() as turns:
                    chunks = await read_chunks(file)
        assert b"".join(chunks) == content
        assert max(map(len, chunks)) <= 1 << 18
        assert next(turns) >= len(chunks) - 2, "other tasks run between two chunks"

    @each_reading
    async def test_empty_members_of_gzip_let_other_tasks_run(self, reading: Reading) -> None:
        content = gzipped(b"") * 10_000 + gzipped(CSV)
        async with FileHost(send(http(content, headers=GZIP))) as host, host.session() as session:
            async with session.open_file("a") as file, count_turns() as turns:
                await reading(file)
        assert next(turns) >= 10_000

    async def test_file_of_unknown_length_is_read(self) -> None:
        response = send(unframed(CSV, "Connection: close\r\n"), close=True)
        async with FileHost(response) as host, host.session() as session:
            async with session.open_file("a") as file:
                assert file.length is None
                assert await file.read() == CSV

    @pytest.mark.parametrize(
        ("headers", "content_type"),
        [
            ("", None),
            ("Content-Type: \r\n", None),
            ("Content-Type: text/csv\r\n", "text/csv"),
            ("Content-Type: Text/CSV ; charset=utf-8\r\n", "text/csv"),
        ],
    )
    async def test_content_type_has_no_parameters(
        self, headers: str, content_type: str | None
    ) -> None:
        response = send(http(CSV, headers=headers))
        async with FileHost(response) as host, host.session() as session:
            async with session.open_file("a") as file:
                assert file.content_type == content_type
            assert (file.content_type, file.length) == (content_type, len(CSV))


class TestJob:
    async def test_file_of_each_kind_is_opened(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        files = [b"first", b"second"]
        moltin_simulator.add_job(
            "b", ["success"], kind="pxm", job_type="product-export", file=files
        )
        moltin_simulator.add_job("c", ["PUBLISHED"], kind="release:d")
        async with moltin_session.open_file("a") as orders:
            assert len(await read_rows(orders)) == 200
        export = await moltin_session.get_job("b", kind="pxm")
        for index, content in enumerate(files):
            async with moltin_session.open_file(export, file_index=index) as file:
                assert await file.read() == content
        async with moltin_session.open_file("c", kind="release:d") as delta:
            assert delta.content_type == "application/json"
            assert await delta.read()

    async def test_file_that_cannot_exist_is_an_error(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        with pytest.raises(ConfigurationError, match="have no files"):
            moltin_session.open_file("a", kind="subscription")
        with pytest.raises(ConfigurationError, match="file_index must be 0, not 1"):
            moltin_session.open_file("a", file_index=1)
        with pytest.raises(ConfigurationError, match="max_bytes"):
            moltin_session.open_file("a", max_bytes=0)
        assert moltin_simulator.requests == []
        with pytest.raises(JobNotFoundError):
            await moltin_session.open_file("a").__aenter__()
        moltin_simulator.add_job("b", ["success"], kind="pxm", file=[b"1", b"2"])
        with pytest.raises(ConfigurationError, match="from 0 to 1, not None"):
            await moltin_session.open_file("b", kind="pxm").__aenter__()
        assert_idle(moltin_session)


@virtual_time
class TestConnecting:
    async def test_runtime_error_of_a_middleware_is_passed_on(self) -> None:
        attempts = []

        async def fail(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            if request.url.path.startswith("/v2/"):
                return await handler(request)
            attempts.append(request.url.path)
            raise RuntimeError("a fault of the middleware")

        async with (
            FileHost(FILE) as host,
            aiohttp.ClientSession(middlewares=(fail,)) as http_session,
            host.session(http_session=http_session) as session,
        ):
            with pytest.raises(RuntimeError, match="a fault of the middleware"):
                async with session.open_file("a"):
                    pytest.fail("it cannot connect")
            assert_idle(session)
        assert len(attempts) == 1

    async def test_connecting_is_retried(self) -> None:
        busy = send(http(status="503 Unavailable"))
        lost = send(b"HTTP/1.1 200", close=True)
        async with FileHost(busy, lost, lost, redirect("/b.csv"), FILE) as host:
            async with host.session() as session:
                async with session.open_file("a") as file:
                    assert await file.read() == CSV
        assert len(host.targets) == 5

    async def test_failed_connecting_is_an_error_of_the_last_attempt(self) -> None:
        async with FileHost(*[send(http(status="503 Unavailable"))] * 9) as host:
            async with host.session() as session:
                file = session.open_file("a")
                with pytest.raises(ServerError, match="status 503"):
                    await file.__aenter__()
                assert_idle(session)
                with pytest.raises(RuntimeError, match="is not open"):
                    await anext(file)
        assert len(host.targets) == 4

    @pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "410 Gone"])
    async def test_expired_address_is_replaced_once(self, status: str) -> None:
        expired = send(http(status=status))
        async with FileHost(expired, FILE, expired, expired) as host, host.session() as session:
            async with session.open_file("a") as file:
                assert await file.read() == CSV
            with pytest.raises(APIError, match=f"status {status[:3]}"):
                await session.open_file("a").__aenter__()
            assert_idle(session)
        assert host.address_requests == len(host.targets) == 4

    async def test_unsupported_coding_is_an_error_of_connecting(self) -> None:
        response = http(CSV, headers="Content-Encoding: br\r\n", length=99)
        async with FileHost(send_and_hang(response)) as host, host.session() as session:
            with pytest.raises(TransportError, match="content encoding 'br' is not supported"):
                await session.open_file("a").__aenter__()
            assert_idle(session)
            await asyncio.sleep(1)
            assert host.server.open_connections == 0


@virtual_time
class TestReading:
    @each_reading
    @pytest.mark.parametrize(
        "script",
        [
            SHORT,
            send(http(gzipped(CSV)[:-1], headers=GZIP)),
            send(http(CSV, headers=GZIP)),
            send_and_hang(http(CSV, length=99)),
        ],
        ids=["short", "short gzip", "no gzip", "hangs"],
    )
    async def test_incomplete_file_raises_and_is_not_retried(
        self, reading: Reading, script: Script
    ) -> None:
        async with FileHost(script, FILE) as host, host.session() as session:
            with pytest.raises(TransportError) as caught:
                async with session.open_file("a") as file:
                    await reading(file)
            assert caught.value.retryable
            assert caught.value.job_id == "a"
            assert_idle(session)
        assert len(host.targets) == 1

    @each_reading
    async def test_file_cannot_be_read_after_an_exception(self, reading: Reading) -> None:
        async with FileHost(SHORT) as host, host.session() as session:
            async with session.open_file("a") as file:
                with pytest.raises(TransportError):
                    await reading(file)
                assert session.stats().connections == 0
                for again in READINGS:
                    with pytest.raises(RuntimeError, match="has failed"):
                        await again(file)

    @each_reading
    async def test_file_cannot_be_read_after_a_cancellation(self, reading: Reading) -> None:
        async with FileHost(send_and_hang(http(CSV, length=99))) as host:
            async with host.session() as session:
                async with session.open_file("a") as file:
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(reading(file), 5)
                    assert session.stats().connections == 0
                    with pytest.raises(RuntimeError, match="was cancelled"):
                        await reading(file)

    async def test_rows_do_not_end_after_a_cancellation(self) -> None:
        async with FileHost(send_and_hang(http(CSV, length=99))) as host:
            async with host.session() as session, session.open_file("a") as file:
                rows = file.rows()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(rows), 5)
                with pytest.raises(RuntimeError, match="was cancelled"):
                    await anext(rows)

    async def test_larger_file_of_known_length_is_rejected_on_opening(self) -> None:
        async with FileHost(send_and_hang(http(length=1001))) as host, host.session() as session:
            file = session.open_file("a", max_bytes=1000)
            with pytest.raises(TransportError, match="larger than max_bytes=1000") as caught:
                await file.__aenter__()
            assert_idle(session)
            await asyncio.sleep(1)
            assert host.server.open_connections == 0
        assert not caught.value.retryable
        assert len(host.targets) == 1

    @each_reading
    @pytest.mark.parametrize(
        "response",
        [
            unframed(b"x" * 1001, "Connection: close\r\n"),
            http(gzipped(b"x" * 1001), headers=GZIP),
        ],
        ids=["of unknown length", "compressed"],
    )
    async def test_larger_file_is_rejected(self, reading: Reading, response: bytes) -> None:
        async with FileHost(send(response, close=True)) as host, host.session() as session:
            async with session.open_file("a", max_bytes=1000) as file:
                with pytest.raises(TransportError, match="larger than max_bytes=1000") as caught:
                    await reading(file)
                assert_idle(session)
        assert not caught.value.retryable

    async def test_file_of_exactly_this_size_is_read(self) -> None:
        async with FileHost(FILE) as host, host.session() as session:
            async with session.open_file("a", max_bytes=len(CSV)) as file:
                assert await file.read() == CSV

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"a\n1\n\xff\n", "the byte at offset 4 is not valid UTF-8"),
            (b"a\n1\n" + b"x" * 200_000, "line 3: field larger than field limit (131072)"),
        ],
        ids=["utf-8", "field"],
    )
    async def test_invalid_csv_names_the_job_and_not_the_content(
        self, content: bytes, reason: str
    ) -> None:
        async with FileHost(send(http(content))) as host, host.session() as session:
            async with session.open_file("a") as file:
                with pytest.raises(TransportError) as caught:
                    await read_rows(file)
                assert session.stats().connections == 0
        error = caught.value
        assert str(error) == (
            f"the file of job a: it cannot be read as CSV: {reason}. Read its bytes instead."
        )
        assert (error.retryable, error.job_id) == (False, "a")
        assert error.__context__ is None


@virtual_time
class TestLeastSpeed:
    @pytest.mark.parametrize("size", [1, 1000, 1024])
    async def test_host_with_the_least_speed_is_not_abandoned(self, size: int) -> None:
        content = bytes(5 * KIBIBYTE)
        async with FileHost(send_in_parts(content, size, 9.5 * size / 2048)) as host:
            async with host.session() as session, session.open_file("a") as file:
                assert await file.read() == content

    async def test_slower_host_is_abandoned(self) -> None:
        loop = asyncio.get_running_loop()
        async with FileHost(send_in_parts(bytes(9 * KIBIBYTE), 1023, 9.9)) as host:
            async with host.session() as session, session.open_file("a") as file:
                started_at = loop.time()
                with pytest.raises(TransportError, match="less than 1024 bytes from"):
                    await file.read()
                assert loop.time() - started_at == pytest.approx(10, abs=0.1)

    @pytest.mark.parametrize("is_before", [True, False], ids=["before", "between"])
    async def test_time_between_reads_does_not_count(self, is_before: bool) -> None:
        content = random.randbytes(4 << 20)  # more than the buffers of the connection hold
        received = b""
        async with FileHost(send(http(content))) as host, host.session() as session:
            async with session.open_file("a") as file:
                if is_before:
                    await asyncio.sleep(3600)
                async for chunk in file:
                    received += chunk
                    await asyncio.sleep(60)
        assert received == content


class TestMisuse:
    @each_reading
    async def test_file_outside_its_block_is_an_error(self, reading: Reading) -> None:
        async with FileHost(FILE) as host, host.session() as session:
            file = session.open_file("a")
            with pytest.raises(RuntimeError, match=r"use 'async with session\.open_file"):
                await reading(file)
            assert (file.length, file.content_type) == (None, None)
            assert host.targets == []
            async with file:
                pass
            with pytest.raises(RuntimeError, match="block has ended"):
                await reading(file)

    async def test_file_that_was_not_opened_can_be_left(self) -> None:
        async with FileHost() as host, host.session() as session:
            file = session.open_file("a")
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_exit(file)
            with pytest.raises(RuntimeError, match="block has ended"):
                await file.read()
            with pytest.raises(RuntimeError, match="was opened before"):
                await file.__aenter__()

    async def test_rows_after_the_block_are_an_error(self) -> None:
        async with FileHost(FILE) as host, host.session() as session:
            async with session.open_file("a") as file:
                rows = file.rows()
                assert await anext(rows) == ROWS[0]
            with pytest.raises(RuntimeError, match="block has ended"):
                await anext(rows)

    async def test_file_is_opened_once(self) -> None:
        async with FileHost(FILE) as host, host.session() as session:
            file = session.open_file("a")
            opening = [asyncio.create_task(file.__aenter__()) for _ in range(2)]
            results = await asyncio.gather(*opening, return_exceptions=True)
            assert results[0] is file
            assert "was opened before" in str(results[1])
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_exit(file)
                with pytest.raises(RuntimeError, match="was opened before"):
                    await file.__aenter__()
                assert await file.read() == CSV
            with pytest.raises(RuntimeError, match="was opened before"):
                await file.__aenter__()
            assert_idle(session)

    @each_reading
    async def test_two_readers_at_the_same_time_are_an_error(self, reading: Reading) -> None:
        async with FileHost(send_in_parts(CSV, 1000, 0.1)) as host, host.session() as session:
            async with session.open_file("a") as file:
                first = asyncio.create_task(file.read())
                await asyncio.sleep(0)
                with pytest.raises(RuntimeError, match="in use by another task"):
                    await reading(file)
                assert await first == CSV

    async def test_chunks_beside_rows_are_an_error(self) -> None:
        async with FileHost(FILE, FILE) as host, host.session() as session:
            async with session.open_file("a") as file:
                rows = file.rows()
                assert await anext(rows) == ROWS[0]
                for reading in READINGS:
                    with pytest.raises(RuntimeError, match="already being read"):
                        await reading(file)
                assert await anext(rows) == ROWS[1]
            async with session.open_file("a") as file:
                assert await anext(file) == CSV
                with pytest.raises(RuntimeError, match="already being read"):
                    await read_rows(file)
                assert await file.read() == b""


@pytest.fixture(params=["own", "of the user"])
async def http_session(
    request: pytest.FixtureRequest,
) -> AsyncIterator[aiohttp.ClientSession | None]:
    if request.param == "own":
        yield None
    else:
        async with aiohttp.ClientSession() as session:
            yield session


class TestLeaving:
    async def test_open_file_holds_a_connection(self) -> None:
        async with FileHost(FILE, FILE) as host, host.session() as session:
            async with session.open_file("a") as file:
                assert session.stats().connections == 1
                assert await file.read() == CSV
            assert_idle(session)
            assert host.server.connections == 1
            async with session.open_file("a") as file:
                assert await file.read() == CSV
        assert host.server.connections == 1, "the connection of a whole file is used again"

    @virtual_time
    async def test_file_that_was_left_is_not_kept_by_the_session(self) -> None:
        def count_responses() -> int:
            gc.collect()
            return sum(type(candidate) is FileResponse for candidate in gc.get_objects())

        async def read(session: JobsSession) -> bytes:
            async with session.open_file("a") as file:
                return await file.read()

        before = count_responses()
        async with FileHost(FILE) as host, host.session() as session:
            assert await read(session) == CSV
            await asyncio.sleep(60)  # the alarms of its timeouts keep it until then
            assert count_responses() == before

    @pytest.mark.parametrize("is_rows", [False, True], ids=["chunks", "rows"])
    @pytest.mark.parametrize("end", ["break", "exception", "cancellation", "unread"])
    async def test_leaving_a_block_leaves_nothing_behind(
        self, end: str, is_rows: bool, http_session: aiohttp.ClientSession | None
    ) -> None:
        async def use(file: JobFile) -> None:
            async with file:
                if end == "unread":
                    return
                async for _ in file.rows() if is_rows else file:
                    if end == "break":
                        break
                    if end == "exception":
                        raise ZeroDivisionError
                    await asyncio.sleep(60)

        content = b"id\r\n" + b"1\r\n" * KIBIBYTE
        async with FileHost(send_and_hang(http(content, length=9999))) as host:
            async with host.session(http_session=http_session) as session:
                using = asyncio.create_task(use(session.open_file("a")))
                if end == "cancellation":
                    await asyncio.sleep(0.3)
                    assert session.stats().connections == 1
                    using.cancel()
                await asyncio.wait([using])
                assert_idle(session)
                await wait_for_disconnection(host)

    async def test_files_take_the_permits_of_downloads(self) -> None:
        connector = aiohttp.TCPConnector(limit=4)
        async with (
            FileHost(*[FILE] * 3) as host,
            aiohttp.ClientSession(connector=connector) as http_session,
            host.session(http_session=http_session) as session,
        ):
            async with session.open_file("a"):
                async with session.open_file("a") as second:
                    third = asyncio.create_task(session.open_file("a").__aenter__())
                    await asyncio.sleep(0.1)
                    assert (len(host.targets), host.address_requests) == (2, 2)
                    assert (await session.get_job("a")).status == "success"
                    assert await second.read() == CSV
                assert await (await third).read() == CSV
                await third.result().__aexit__(None, None, None)
            assert_idle(session)

    async def test_cancellation_at_any_await_leaves_nothing_behind(self) -> None:
        async def use(session: JobsSession) -> list[dict[Any, Any]]:
            async with session.open_file("a") as file:
                return await read_rows(file)

        script = send_in_parts(CSV + b"3,d\r\n" * KIBIBYTE, 1100)
        async with FileHost(*[script] * 999) as host, host.session(rate_limit=None) as session:
            for number in itertools.count():
                attempt = InterruptAt(use(session), number, cancel_now)

                async def run(attempt: InterruptAt = attempt) -> Any:
                    return await attempt

                running = asyncio.create_task(run())
                await asyncio.wait([running])
                assert_idle(session)
                if not attempt.was_reached:
                    break
        assert number > 5
        assert len(running.result()) == 2 + KIBIBYTE


class TestClose:
    @each_reading
    @pytest.mark.parametrize("is_started", [False, True], ids=["unread", "read in part"])
    async def test_close_does_not_wait_for_the_block_and_leaves_no_connection(
        self, reading: Reading, is_started: bool, http_session: aiohttp.ClientSession | None
    ) -> None:
        async with FileHost(send_and_hang(http(bytes(9999), length=99999))) as host:
            session = host.session(http_session=http_session)
            async with session.open_file("a") as file:
                if is_started:
                    await anext(file)
                async with asyncio.timeout(5):
                    await session.close()
                assert_idle(session)
                await wait_for_disconnection(host)
                for _ in range(2):
                    with pytest.raises(SessionClosedError):
                        await reading(file)

    async def test_next_row_after_close_raises(self) -> None:
        async with FileHost(FILE) as host:
            session = host.session()
            async with session.open_file("a") as file:
                rows = file.rows()
                assert await anext(rows) == ROWS[0]
                await session.close()
                with pytest.raises(SessionClosedError):
                    await anext(rows)

    @each_reading
    async def test_close_ends_a_read_in_progress(
        self, reading: Reading, http_session: aiohttp.ClientSession | None
    ) -> None:
        async with FileHost(send_and_hang(http(CSV, length=99))) as host:
            session = host.session(http_session=http_session)
            async with session.open_file("a") as file:
                read = asyncio.ensure_future(reading(file))
                await asyncio.sleep(0.1)
                await session.close()
                with pytest.raises(SessionClosedError, match="during this call"):
                    await read
                assert_idle(session)
                with pytest.raises(SessionClosedError):
                    await reading(file)

    async def test_closed_session_opens_no_file(self) -> None:
        async with FileHost() as host:
            session = host.session()
            file = session.open_file("a")
            await session.close()
            with pytest.raises(SessionClosedError):
                await file.__aenter__()
        assert host.api.requests == []

    async def test_close_ends_the_wait_for_a_permit(self) -> None:
        connector = aiohttp.TCPConnector(limit=1)
        async with (
            FileHost(FILE) as host,
            aiohttp.ClientSession(connector=connector) as http_session,
        ):
            session = host.session(http_session=http_session)
            async with session.open_file("a"):
                waiting = asyncio.create_task(session.open_file("a").__aenter__())
                await asyncio.sleep(0.1)
                await session.close()
                with pytest.raises(SessionClosedError):
                    await waiting
            assert_idle(session)

    async def test_close_at_any_await_leaves_nothing_behind(self) -> None:
        content = bytes(5 * KIBIBYTE)

        async def use(session: JobsSession) -> bytes:
            async with session.open_file("a") as file:
                return await file.read()

        async with FileHost(*[send_in_parts(content, 1100)] * 999) as host:
            for number in itertools.count():
                session = host.session()
                closing: list[asyncio.Task[None]] = []

                def close(session: JobsSession = session, tasks: Any = closing) -> None:
                    tasks.append(asyncio.create_task(session.close()))

                attempt = InterruptAt(use(session), number, close)
                with contextlib.suppress(SessionClosedError):
                    assert await attempt == content
                await session.close()
                await asyncio.gather(*closing)
                assert_idle(session)
                if not attempt.was_reached:
                    break
        assert number > 5

    @each_reading
    @pytest.mark.parametrize("pause", [0, 0.1])
    async def test_http_session_that_the_user_closed_is_named(
        self, reading: Reading, pause: float
    ) -> None:
        async with FileHost(send_and_hang(http(CSV, length=99))) as host:
            async with aiohttp.ClientSession() as http_session:
                session = host.session(http_session=http_session)
                async with session.open_file("a") as file:
                    await http_session.close()
                    await asyncio.sleep(pause)
                    with pytest.raises(SessionClosedError, match="http_session"):
                        await reading(file)
                assert_idle(session)


class TestSecrets:
    @virtual_time
    @each_reading
    @pytest.mark.parametrize(
        "script",
        [
            SHORT,
            hang,
            send(http(b"\xff", headers="Content-Type: \xff\r\n")),
            send(http(status="404 Not Found")),
        ],
        ids=["short", "hangs", "not csv", "status"],
    )
    async def test_token_and_signature_are_in_no_text(
        self, reading: Reading, script: Script, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        shown: list[str] = []
        kept: list[str] = []
        async with FileHost(*[script] * 2) as host:
            async with host.session(TOKEN, retry=Retry(max_attempts=2)) as session:
                file = session.open_file("a")
                try:
                    async with file:
                        shown += [repr(file), f"{vars(file)}"]
                        await reading(file)
                        await session.close()
                        await reading(file)
                except MoltinJobsError as error:
                    shown += [repr(error), f"{vars(error)}"]
                    kept += texts_of(error)
        shown += [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
        assert [text for text in [*shown, *kept] if TOKEN in text] == []
        assert [text for text in shown if "signature" in text or "hush" in text] == []
        assert len(kept) > 5
