"""Lists, cancellations and files of all kinds of job, in virtual time."""

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from moltin_jobs import (
    APIError,
    ConfigurationError,
    InvalidResponseError,
    Job,
    JobCancelledError,
    JobNotFoundError,
    JobsSession,
    JobState,
    MoltinJobsError,
    ServerError,
    SessionClosedError,
    TransportError,
    kinds,
)
from moltin_jobs.testing import Fault, Simulator
from tests.file_host import names_in
from tests.raw_server import RawServer, Script, respond
from tests.service_paths import PATHS
from tests.sessions import assert_idle, session_with

pytestmark = pytest.mark.looptime

PAGED = ["pxm", "subscription", "subscription-import", "inventory-import"]
MAY_BE_CANCELLED = "The job may have been cancelled: look it up before you try again."
HEADER = b"EP-Inventories-Multi-Location: true\r\n"


@pytest.fixture
async def session(simulator: Simulator) -> AsyncIterator[JobsSession]:
    async with session_with(simulator) as session:
        yield session


def add_jobs(simulator: Simulator, kind: str, count: int) -> list[str]:
    return [simulator.add_job(kind=kind, duration=0) for _ in range(count)]


def page_of(ids: list[str], total: Any = None, links: Any = None) -> bytes:
    """Return a page of PXM jobs."""
    data = [{"id": one, "attributes": {"status": "success"}} for one in ids]
    document: dict[str, Any] = {"data": data, "links": links}
    if total is not None:
        document["meta"] = {"results": {"total": total}}
    return json.dumps(document).encode()


def release(address: str | None) -> dict[str, Any]:
    """Return the document of a published release."""
    links = {"delta": {"links": {"related": address}}}
    return {"id": "a", "meta": {"release_status": "PUBLISHED"}, "relationships": links}


async def listed(*pages: bytes) -> tuple[list[str], int]:
    """List PXM jobs, and return their ids and the number of requests."""
    async with RawServer([respond(page) for page in pages]) as server:
        async with session_with(server) as session:
            jobs = await session.list_jobs(kind="pxm")
    return [job.id for job in jobs], len(server.requests)


def numbers(start: int, end: int) -> list[str]:
    return [f"job-{number}" for number in range(start, end)]


class TestListJobs:
    @pytest.mark.parametrize(("kind", "path"), PATHS.items())
    async def test_list_of_each_kind_is_returned(
        self, simulator: Simulator, session: JobsSession, kind: str, path: str
    ) -> None:
        ids = add_jobs(simulator, kind, 3)
        for other in PATHS:
            if other != kind:
                simulator.add_job(kind=other, duration=0)
        jobs = await session.list_jobs(kind=kind)
        assert [(job.id, job.kind) for job in jobs] == [(job_id, kind) for job_id in ids]
        assert {request.path for request in simulator.requests} == {path}

    async def test_list_without_a_kind_is_that_of_order_jobs(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a")
        simulator.add_job("b", kind="pxm")
        assert [job.id for job in await session.list_jobs()] == ["a"]
        assert simulator.requests[0].query == ""

    @pytest.mark.parametrize(("kind", "requests"), [("pxm", 3), ("subscription", 4)])
    async def test_list_of_250_jobs_is_complete_although_links_end_early(
        self, simulator: Simulator, session: JobsSession, kind: str, requests: int
    ) -> None:
        ids = add_jobs(simulator, kind, 250)
        assert [job.id for job in await session.list_jobs(kind=kind)] == ids
        assert len(simulator.requests) == requests

    @pytest.mark.parametrize("kind", PAGED)
    async def test_empty_list_costs_one_request(
        self, simulator: Simulator, session: JobsSession, kind: str
    ) -> None:
        assert await session.list_jobs(kind=kind) == []
        assert len(simulator.requests) == 1

    @pytest.mark.parametrize("links", [None, {"next": None}, {"next": "https://evil.example/x"}, 5])
    async def test_links_are_not_used(self, links: Any) -> None:
        pages = [page_of(numbers(0, 100), 120, links), page_of(numbers(100, 120), 120, links)]
        assert await listed(*pages) == (numbers(0, 120), 2)

    @pytest.mark.parametrize("total", [0, 1, 99, -5])
    async def test_total_that_is_too_small_ends_no_list(self, total: int) -> None:
        pages = [page_of(numbers(0, 100), total), page_of(numbers(100, 120), total)]
        assert await listed(*pages, page_of([], total)) == (numbers(0, 120), 3)

    @pytest.mark.parametrize("total", [None, "2", True, 1e3, [], 1000])
    async def test_total_that_is_no_number_or_too_large_ends_no_list_early(
        self, total: Any
    ) -> None:
        pages = [page_of(numbers(0, 2), total), page_of([], total)]
        assert await listed(*pages) == (numbers(0, 2), 2)

    async def test_page_that_repeats_ends_the_list(self) -> None:
        page = page_of(numbers(0, 3), 1)
        assert await listed(page, page) == (numbers(0, 3), 2)

    async def test_pages_that_overlap_give_each_job_once(self) -> None:
        pages = [page_of(numbers(0, 100)), page_of(numbers(95, 150)), page_of([])]
        assert await listed(*pages) == (numbers(0, 150), 3)

    async def test_page_of_unreadable_jobs_does_not_end_the_list(self) -> None:
        unreadable = json.dumps({"data": [{"id": "x"}, 5]}).encode()
        pages = [page_of(["a"]), unreadable, page_of(["b"]), page_of([])]
        assert await listed(*pages) == (["a", "b"], 4)

    async def test_unreadable_jobs_count_for_the_offset(self) -> None:
        first = json.dumps({"data": [{"id": "x"}, 5, None]}).encode()
        async with RawServer([respond(first), respond(page_of([]))]) as server:
            async with session_with(server) as session:
                assert await session.list_jobs(kind="pxm") == []
        assert b"offset%5D=3 HTTP" in server.requests[1].replace(b"offset]", b"offset%5D")

    async def test_number_of_pages_is_bounded(self, caplog: pytest.LogCaptureFixture) -> None:
        pages = [page_of(numbers(100 * page, 100 * page + 100)) for page in range(150)]
        ids, requests = await listed(*pages)
        assert (len(ids), requests) == (10_100, 101)
        assert caplog.messages == [
            "the list of pxm jobs: the items from number 10101 on are left out, after 101 pages"
        ]

    async def test_offsets_are_those_of_the_items_received(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        add_jobs(simulator, "pxm", 110)
        await session.list_jobs(kind="pxm")
        queries = [
            request.query.replace("%5B", "[").replace("%5D", "]") for request in simulator.requests
        ]
        assert queries == [f"page[limit]=100&page[offset]={offset}" for offset in (0, 100)]

    async def test_each_page_is_retried(self, simulator: Simulator, session: JobsSession) -> None:
        ids = add_jobs(simulator, "pxm", 150)
        simulator.add_faults(500, "reset", "html", path="/pcm/jobs")
        assert [job.id for job in await session.list_jobs(kind="pxm")] == ids

    async def test_large_page_is_read(self) -> None:
        padding = {"padding": "x" * 3_000_000}
        assert await listed(page_of(["a"], 1, padding)) == (["a"], 1)

    async def test_list_of_releases_has_the_published_ones(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        ids = add_jobs(simulator, "release:c", 4)
        simulator.add_job(kind="release:c", duration=math.inf)
        simulator.add_job(kind="release:other", duration=0)
        jobs = await session.list_jobs(kind=kinds.catalog_releases("c"))
        assert [job.id for job in jobs] == ids[-3:]

    @pytest.mark.parametrize("body", [b'{"data": {}}', b"[]", b'{"data": null}', b"<html>"])
    async def test_body_that_is_no_list_is_an_error(self, body: bytes) -> None:
        async with RawServer([respond(body)] * 4) as server, session_with(server) as session:
            with pytest.raises(InvalidResponseError, match=r"^the list of subscription jobs: "):
                await session.list_jobs(kind="subscription")


class TestCancelJob:
    async def test_pending_job_is_cancelled(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job(kind="pxm", duration=math.inf)
        simulator.add_job("a", kind="pxm", duration=1)
        job = await session.cancel_job("a", kind="pxm")
        assert (job.id, job.kind, job.state) == ("a", "pxm", JobState.CANCELLED)
        [request] = simulator.requests
        assert (request.method, request.path) == ("POST", "/pcm/jobs/a/cancel")
        with pytest.raises(JobCancelledError):
            await session.wait_for_job(job)

    async def test_request_has_an_empty_object(self) -> None:
        body = json.dumps({"data": {"id": "a", "attributes": {"status": "cancelled"}}}).encode()
        async with RawServer([respond(body)]) as server, session_with(server) as session:
            await session.cancel_job("a", kind="pxm")
        assert server.bodies == [b"{}"]
        assert b"Content-Type: application/json\r\n" in server.requests[0]

    async def test_job_that_is_not_pending_is_an_error(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", kind="pxm", duration=math.inf)
        with pytest.raises(APIError) as caught:
            await session.cancel_job(Job(id="a", kind="pxm", status="pending"))
        error = caught.value
        assert (type(error), error.status, error.retryable, error.job_id) == (
            APIError,
            422,
            False,
            "a",
        )
        assert str(error) == (
            "the cancellation of pxm job a: the service responded with status 422: "
            "Failed Validation: the job is not pending but started. The service rejects this "
            "request: change it before you send it again."
        )
        assert len(simulator.requests) == 1

    async def test_unknown_job_is_an_error(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        with pytest.raises(
            JobNotFoundError, match="For a job of another kind, pass its kind: order"
        ):
            await session.cancel_job("a", kind="pxm")
        assert len(simulator.requests) == 1

    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            ("lost", TransportError),
            ("truncate", TransportError),
            ("hang", TransportError),
            (500, ServerError),
            (503, ServerError),
            ("html", InvalidResponseError),
        ],
    )
    async def test_request_that_may_have_taken_effect_is_not_repeated(
        self,
        simulator: Simulator,
        session: JobsSession,
        fault: Any,
        expected: type[MoltinJobsError],
    ) -> None:
        simulator.add_job("a", ["pending"], kind="pxm")
        simulator.add_faults(fault, job_id="a")
        with pytest.raises(expected) as caught:
            await session.cancel_job("a", kind="pxm")
        assert str(caught.value).endswith(MAY_BE_CANCELLED)
        assert caught.value.retryable is False
        assert len(simulator.requests) == 1
        assert_idle(session)

    async def test_closing_during_the_request_is_uncertain(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", ["pending"], kind="pxm")
        simulator.add_faults("hang", job_id="a")
        call = asyncio.create_task(session.cancel_job("a", kind="pxm"))
        await asyncio.sleep(1)
        await session.close()
        with pytest.raises(SessionClosedError, match="may have been cancelled"):
            await call

    @pytest.mark.parametrize("fault", [401, 429])
    async def test_request_without_effect_is_repeated(
        self, simulator: Simulator, fault: int
    ) -> None:
        async def auth() -> str:
            return simulator.token

        simulator.add_job("a", ["pending", "pending"], kind="pxm")
        simulator.add_faults(fault, job_id="a")
        async with JobsSession(auth, base_url=simulator.url) as session:
            job = await session.cancel_job("a", kind="pxm")
        assert (job.state, len(simulator.requests)) == (JobState.CANCELLED, 2)


class TestFiles:
    async def test_only_file_of_a_pxm_job_is_downloaded(
        self, simulator: Simulator, session: JobsSession, tmp_path: Path
    ) -> None:
        simulator.add_job("a", kind="pxm", duration=0, file=b"sku\r\n1\r\n")
        job = await session.wait_for_job("a", kind="pxm")
        for number, index in enumerate((None, 0)):
            path = await session.download(job, tmp_path / f"{number}.csv", file_index=index)
            assert path.read_bytes() == b"sku\r\n1\r\n"
            assert await session.get_file_url(job, file_index=index) == job.file_url

    async def test_each_file_of_a_pxm_job_is_downloaded_by_its_index(
        self, simulator: Simulator, session: JobsSession, tmp_path: Path
    ) -> None:
        simulator.add_job("a", kind="pxm", duration=0, file=[b"one", b"two", b"three"])
        job = await session.wait_for_job("a", kind="pxm")
        assert (job.file_url, len(job.file_urls)) == (None, 3)
        for index, content in enumerate((b"one", b"two", b"three")):
            path = await session.download("a", tmp_path / "f", kind="pxm", file_index=index)
            assert path.read_bytes() == content
            url = await session.get_file_url("a", kind="pxm", file_index=index)
            assert url == job.file_urls[index]

    @pytest.mark.parametrize(
        ("count", "index", "expected"),
        [
            (3, None, "file_index must be from 0 to 2, not None: pxm job a has 3 files"),
            (3, 3, "file_index must be from 0 to 2, not 3: pxm job a has 3 files"),
            (1, 1, "file_index must be 0, not 1: pxm job a has 1 file"),
        ],
    )
    async def test_index_that_is_missing_or_too_large_is_an_error(
        self, simulator: Simulator, count: int, index: int | None, expected: str, tmp_path: Path
    ) -> None:
        simulator.add_job("a", kind="pxm", duration=0, file=[b"x"] * count)
        async with session_with(simulator) as session:
            for call in file_calls(session, tmp_path, "a", kind="pxm", file_index=index):
                with pytest.raises(ConfigurationError) as caught:
                    await call()
                assert str(caught.value) == expected
        assert names_in(tmp_path) == []

    @pytest.mark.parametrize("index", [-1, True, 0.0, "0"])
    @pytest.mark.parametrize("kind", ["order", "pxm", "release:c"])
    async def test_index_that_is_none_is_rejected_before_a_request(
        self, simulator: Simulator, tmp_path: Path, kind: str, index: Any
    ) -> None:
        async with session_with(simulator) as session:
            for call in file_calls(session, tmp_path, "a", kind=kind, file_index=index):
                with pytest.raises(ConfigurationError, match="file_index must be"):
                    await call()
        assert simulator.requests == []

    async def test_order_job_has_one_file(self, simulator: Simulator, tmp_path: Path) -> None:
        simulator.add_job("a", duration=0, file=b"orders")
        async with session_with(simulator) as session:
            with pytest.raises(ConfigurationError) as caught:
                await session.download("a", tmp_path / "f", file_index=1)
            assert str(caught.value) == "file_index must be 0, not 1: job a has 1 file"
            assert simulator.requests == []
            path = await session.download("a", tmp_path / "f", file_index=0)
            assert path.read_bytes() == b"orders"

    async def test_release_is_downloaded_from_a_fresh_address(
        self, simulator: Simulator, session: JobsSession, tmp_path: Path
    ) -> None:
        simulator.add_job("a", kind="release:c", duration=0, file=b"{}")
        job = await session.wait_for_job("a", kind="release:c")
        await asyncio.sleep(2 * 3600)  # the address of the job has expired
        path = await session.download(job, tmp_path / "delta.json")
        assert path.read_bytes() == b"{}"
        assert await session.get_file_url(job) != job.file_url
        assert {request.path for request in simulator.requests} == {"/pcm/catalogs/c/releases/a"}

    async def test_address_that_expires_before_the_download_is_requested_again(
        self, simulator: Simulator, session: JobsSession, tmp_path: Path
    ) -> None:
        simulator.add_job("a", kind="release:c", duration=0, file=b"{}")
        expired = (await session.get_job("a", kind="release:c")).file_url
        await asyncio.sleep(2 * 3600)
        simulator.add_faults(Fault(body=json.dumps({"data": release(expired)}).encode()))
        path = await session.download("a", tmp_path / "delta.json", kind="release:c")
        assert (path.read_bytes(), len(simulator.requests)) == (b"{}", 3)

    async def test_rejected_address_is_in_no_message_and_no_log(
        self,
        simulator: Simulator,
        session: JobsSession,
        caplog: pytest.LogCaptureFixture,
        tmp_path: Path,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        simulator.add_job("a", kind="release:c", duration=0)
        body = json.dumps({"data": release(f"{simulator.files_url}/a/delta?signature=wrong")})
        simulator.add_faults(Fault(body=body.encode()), repeat=True)
        with pytest.raises(APIError) as caught:
            await session.download("a", tmp_path / "delta.json", kind="release:c")
        assert caught.value.status == 403
        assert str(caught.value).startswith("the file of release job a: 127.0.0.1:")
        texts = [str(caught.value), repr(caught.value), repr(vars(caught.value)), caplog.text]
        assert not any("signature=" in text for text in texts)

    @pytest.mark.parametrize(
        ("kind", "statuses", "expected"),
        [
            ("pxm", ["success"], "The job exists with status success, but has no file."),
            ("pxm", ["failed"], "The job exists with status failed, but has no file."),
            (
                "release:c",
                ["IN_PROGRESS"],
                "The job exists with status IN_PROGRESS and has no file yet. Wait for it first.",
            ),
        ],
    )
    async def test_job_without_a_file_is_an_error_with_the_job(
        self, simulator: Simulator, tmp_path: Path, kind: str, statuses: list[str], expected: str
    ) -> None:
        simulator.add_job("a", statuses, kind=kind)
        async with session_with(simulator) as session:
            for call in file_calls(session, tmp_path, "a", kind=kind):
                sent = len(simulator.requests)
                with pytest.raises(JobNotFoundError) as caught:
                    await call()
                error = caught.value
                assert str(error).endswith(expected)
                assert str(error).startswith(f"the file of {kind.partition(':')[0]} job a: ")
                assert error.job is not None
                assert (error.job.status, error.job.kind) == (statuses[0], kind)
                assert (error.retryable, len(simulator.requests) - sent) == (False, 1)
        assert names_in(tmp_path) == []

    @pytest.mark.parametrize("kind", ["pxm", "release:c"])
    async def test_file_of_an_unknown_job_is_an_error_without_a_job(
        self, simulator: Simulator, tmp_path: Path, kind: str
    ) -> None:
        async with session_with(simulator) as session:
            for call in file_calls(session, tmp_path, "a", kind=kind):
                with pytest.raises(JobNotFoundError, match="pass its kind: order") as caught:
                    await call()
                assert caught.value.job is None

    async def test_download_within_a_timeout_names_the_kind(
        self, simulator: Simulator, session: JobsSession, tmp_path: Path
    ) -> None:
        simulator.add_job("a", kind="pxm", duration=0, file=b"x")
        simulator.add_faults("hang", job_id="a")
        with pytest.raises(TimeoutError, match=r"^pxm job a was not downloaded within 5 s"):
            await session.download("a", tmp_path / "f", kind="pxm", timeout=5)


def file_calls(
    session: JobsSession, folder: Path, job: Any, **options: Any
) -> list[Callable[[], Any]]:
    """Return the calls that need the file of a job."""
    return [
        lambda: session.get_file_url(job, **options),
        lambda: session.download(job, folder / "f", **options),
    ]


class TestHeaderOfAKind:
    def scripts(self) -> list[Script]:
        """Respond to the calls of one kind: a lookup, a list and its end, and problems."""
        data = {
            "id": "a",
            "status": "failed",
            "attributes": {"status": "failed"},
            "meta": {"release_status": "FAILED"},
        }
        one, some, none = (json.dumps({"data": part}).encode() for part in (data, [data], []))
        return [respond(one), respond(some), respond(none), respond(none)]

    @pytest.mark.parametrize("kind", PATHS)
    @pytest.mark.parametrize("headers", [None, {"X-Store": "1"}])
    async def test_header_of_inventories_is_sent_with_their_requests_only(
        self, kind: str, headers: dict[str, str] | None
    ) -> None:
        async with RawServer(self.scripts()) as server:
            async with session_with(server, headers=headers) as session:
                await session.get_job("a", kind=kind)
                await session.list_jobs(kind=kind)
                if kind in {"pxm", "subscription-import", "inventory-import"}:
                    await session.get_job_problems("a", kind=kind)
        assert len(server.requests) >= 2
        assert {HEADER in head for head in server.requests} == {kind == "inventory-import"}
        assert {b"X-Store: 1\r\n" in head for head in server.requests} == {headers is not None}
        assert all(b"Authorization: Bearer simulator-token" in head for head in server.requests)

    async def test_header_of_the_user_in_another_case_is_replaced(self) -> None:
        async with RawServer(self.scripts()) as server:
            headers = {"ep-inventories-multi-location": "false"}
            async with session_with(server, headers=headers) as session:
                await session.get_job("a", kind="inventory-import")
        [head] = server.requests
        assert HEADER in head
        assert head.lower().count(b"multi-location") == 1

    async def test_wait_for_an_inventory_import_sends_the_header_each_time(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        statuses = ["pending", "started", "success"]
        simulator.add_job("a", statuses, kind="inventory-import")  # it checks the header
        await session.wait_for_job("a", kind="inventory-import")
        assert [request.status for request in simulator.requests] == [200] * 3
