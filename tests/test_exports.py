"""Creating, listing and exporting jobs, over real sockets and in virtual time."""

import asyncio
import itertools
import json
import logging
import shutil
import socket
from pathlib import Path
from typing import Any

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
    NoResultsError,
    PermissionDeniedError,
    Polling,
    Retry,
    ServerError,
    SessionClosedError,
    TransportError,
)
from moltin_jobs.testing.simulator import Fault, Simulator
from tests.file_host import FileHost, names_in, send_and_hang
from tests.raw_server import RawServer, delayed, hang, http, job, respond, send
from tests.sessions import ONCE, HangingLimiter, assert_idle, session_with

pytestmark = pytest.mark.looptime

MAY_EXIST = "The job may have been created: check list_jobs() before you create it again."
DOCUMENTED_FILTER = "gt(created_at,2018-09-01):lt(created_at,2018-10-01)"
FILE_URL_PATH = "/v2/jobs/a/file"
dialects = pytest.mark.parametrize("dialect", ["current", "older"])


def loop_time() -> float:
    return asyncio.get_running_loop().time()


class TestCreateJob:
    @dialects
    async def test_created_job_is_returned_and_can_be_waited_for(self, dialect: Any) -> None:
        async with Simulator(dialect=dialect) as simulator, session_with(simulator) as session:
            created = await session.create_job(filter=DOCUMENTED_FILTER)
            assert created.job_type == "order_export"
            assert created.status == ("started" if dialect == "current" else "processing")
            assert (await session.wait_for_job(created)).id == created.id

    async def test_request_has_the_documented_content(self) -> None:
        async with RawServer([send(http(job(), "202 Accepted"))] * 2) as server:
            async with session_with(server) as session:
                await session.create_job(filter=DOCUMENTED_FILTER)
                await session.create_job("promotion_export")
        first, _ = server.requests
        assert first.startswith(b"POST /v2/jobs HTTP/1.1\r\n")
        assert b"Content-Type: application/json\r\n" in first
        assert b"Authorization: Bearer simulator-token\r\n" in first
        assert [json.loads(body)["data"] for body in server.bodies] == [
            {"type": "job", "job_type": "order_export", "filter": DOCUMENTED_FILTER},
            {"type": "job", "job_type": "promotion_export"},
        ]

    @pytest.mark.parametrize(
        "arguments",
        [{"job_type": ""}, {"job_type": 5}, {"filter": ""}, {"filter": ["a"]}, {"filter": "a\nb"}],
    )
    async def test_invalid_argument_is_named_and_nothing_sent(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        arguments: dict[str, Any],
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"^{next(iter(arguments))} must be"):
            await moltin_session.create_job(**arguments)
        assert moltin_simulator.requests == []

    @pytest.mark.parametrize(
        "fault", [500, 503, 408, "reset", "lost", "truncate", "garbage", "html", "hang"]
    )
    async def test_creation_that_may_have_taken_effect_is_not_repeated(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, fault: Any
    ) -> None:
        moltin_simulator.add_faults(fault)
        with pytest.raises(MoltinJobsError) as caught:
            await moltin_session.create_job()
        assert str(caught.value).endswith(MAY_EXIST)
        assert not caught.value.retryable
        assert len(moltin_simulator.requests) == 1
        assert len(await moltin_session.list_jobs()) == (1 if fault == "lost" else 0)

    @pytest.mark.parametrize("body", [b"{}", b'{"data": []}', b'{"data": [1, 2]}', b"[]", b""])
    async def test_unreadable_success_states_that_the_job_may_exist(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, body: bytes
    ) -> None:
        moltin_simulator.add_faults(Fault(202, body=body))
        with pytest.raises(InvalidResponseError) as caught:
            await moltin_session.create_job()
        assert str(caught.value).endswith(MAY_EXIST)
        assert not caught.value.retryable
        assert len(moltin_simulator.requests) == 1

    async def test_close_during_a_creation_states_that_the_job_may_exist(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_faults("hang")
        creation = asyncio.create_task(moltin_session.create_job())
        await asyncio.sleep(1)
        await moltin_session.close()
        with pytest.raises(SessionClosedError) as caught:
            await creation
        assert str(caught.value) == f"the JobsSession was closed during this call. {MAY_EXIST}"

    async def test_close_before_a_creation_is_sent_does_not_state_it(
        self, moltin_simulator: Simulator
    ) -> None:
        session = session_with(moltin_simulator, rate_limit=HangingLimiter())
        creation = asyncio.create_task(session.create_job())
        await asyncio.sleep(1)
        await session.close()
        with pytest.raises(SessionClosedError) as caught:
            await creation
        assert MAY_EXIST not in str(caught.value)
        assert moltin_simulator.requests == []

    async def test_creation_that_was_certainly_rejected_is_repeated(
        self, moltin_simulator: Simulator
    ) -> None:
        async def token() -> str:
            return moltin_simulator.token

        moltin_simulator.add_faults(429, 429, 401)
        async with session_with(moltin_simulator, auth=token) as session:
            await session.create_job()
        statuses = [request.status for request in moltin_simulator.requests]
        assert statuses == [429, 429, 401, 202]

    @pytest.mark.parametrize(("status", "cls"), [(400, APIError), (401, AuthenticationError)])
    async def test_creation_that_was_rejected_for_good_is_not_repeated(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        status: int,
        cls: type[APIError],
    ) -> None:
        moltin_simulator.add_faults(status)
        with pytest.raises(cls) as caught:
            await moltin_session.create_job()
        assert MAY_EXIST not in str(caught.value)
        assert len(moltin_simulator.requests) == 1

    async def test_slow_pause_of_a_limiter_does_not_make_a_rejection_uncertain(
        self, moltin_simulator: Simulator
    ) -> None:
        class SlowLimiter:
            async def acquire(self) -> None: ...

            async def pause(self, seconds: float) -> None:
                await asyncio.sleep(seconds + 30)

        moltin_simulator.add_faults(429)
        async with session_with(moltin_simulator, rate_limit=SlowLimiter()) as session:
            assert (await session.create_job()).status == "started"

    async def test_creation_without_a_connection_is_repeated(self) -> None:
        async with Simulator() as absent:
            pass
        async with session_with(absent, retry=Retry(max_attempts=3)) as session:
            started_at = loop_time()
            with pytest.raises(TransportError, match="cannot connect to") as caught:
                await session.create_job()
            # Two intervals, of 0.25 to 0.5 and of 0.5 to 1 second.
            assert 0.75 <= loop_time() - started_at < 1.6
        assert MAY_EXIST not in str(caught.value)
        assert caught.value.retryable

    async def test_late_second_response_to_a_lookup_is_not_taken_for_the_created_job(
        self,
    ) -> None:
        async def respond_twice(writer: asyncio.StreamWriter) -> None:
            writer.write(http(job("success", "a")))
            loop = asyncio.get_running_loop()
            loop.call_later(1, writer.write, http(job("success", "wrong"), "202 Accepted"))

        last = "Connection: close\r\n"  # as servers respond to a request with this header
        created = send(http(job("started", "b"), "202 Accepted", last), close=True)
        async with RawServer([respond_twice, created, created]) as server:
            async with session_with(server) as session:
                assert (await session.get_job("a")).id == "a"
                await asyncio.sleep(2)  # the second response waits on the idle connection
                for _ in range(2):
                    assert (await session.create_job()).id == "b"
        assert server.connections == 3
        assert all(b"Connection: close\r\n" in head for head in server.requests[1:])

    async def test_creation_that_gets_no_connection_in_time_is_repeated(self) -> None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        queued = []
        for _ in range(4):  # they fill the queue of connections that are not accepted
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            queued.append(client)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with JobsSession("token", base_url=url, retry=Retry(max_attempts=2)) as session:
            with pytest.raises(TransportError, match="no complete response") as caught:
                await session.create_job()
        assert "may have been created" not in str(caught.value)
        assert caught.value.retryable
        assert loop_time() > 20  # two attempts
        for one in (*queued, listener):
            one.close()

    async def test_failed_token_request_does_not_make_a_creation_uncertain(
        self, moltin_simulator: Simulator
    ) -> None:
        async def token() -> str:
            raise ServerError(503, "the vault")

        async with session_with(moltin_simulator, auth=token, retry=ONCE) as session:
            with pytest.raises(ServerError) as caught:
                await session.create_job()
        assert MAY_EXIST not in str(caught.value)


class TestEventualConsistency:
    """The service may respond 404 for what it has just created."""

    @pytest.mark.parametrize("poll_by", ["id", "list"])
    async def test_wait_for_a_new_job_survives_404s_for_ten_seconds(
        self, moltin_simulator: Simulator, poll_by: Any
    ) -> None:
        async with session_with(moltin_simulator, poll_by=poll_by) as session:
            moltin_simulator.script_next_job(duration=1)
            created = await session.create_job()
            moltin_simulator.add_faults(404, job_id=created.id, repeat=True)
            moltin_simulator.add_faults(Fault(body=b'{"data": []}'), path="/v2/jobs", repeat=True)
            asyncio.get_running_loop().call_later(8, moltin_simulator.clear_faults)
            watch = session.watch_job(created)
            assert (await watch.wait()).status == "success"
            assert watch.failed_polls > 3

    async def test_lookup_of_a_new_job_is_retried_until_it_is_known(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        created = await moltin_session.create_job()
        moltin_simulator.add_faults(*[404] * 5, job_id=created.id)
        assert (await moltin_session.get_job(created)).id == created.id
        assert len(moltin_simulator.requests) == 7  # six lookups, although Retry allows four

    @pytest.mark.parametrize("call", ["get_job", "wait_for_job"])
    async def test_404_for_a_new_job_is_raised_after_ten_seconds(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, call: str
    ) -> None:
        created = await moltin_session.create_job()
        created_at = loop_time()
        moltin_simulator.add_faults(404, job_id=created.id, repeat=True)
        with pytest.raises(JobNotFoundError) as caught:
            await getattr(moltin_session, call)(created)
        assert 10 <= loop_time() - created_at < 18
        assert not caught.value.retryable

    async def test_404_for_a_job_of_another_session_is_raised_at_once(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        await moltin_session.create_job()
        job_id = moltin_simulator.add_job()
        moltin_simulator.add_faults(404, job_id=job_id)
        with pytest.raises(JobNotFoundError):
            await moltin_session.wait_for_job(job_id)
        assert len(moltin_simulator.requests) == 2

    async def test_export_survives_404s_after_the_creation_and_the_success(
        self, tmp_path: Path
    ) -> None:
        unknown = send(http(b'{"title": "Resource Not Found", "status": 404}', "404 Not Found"))
        done = send(http(job("success", "a")))

        async def locate_file(writer: asyncio.StreamWriter) -> None:
            await send(http(b'{"data": {"href": "%s/a.csv"}}' % server.url.encode()))(writer)

        scripts = [
            send(http(job("started", "a"), "202 Accepted")),
            unknown,
            done,
            unknown,  # the file
            unknown,  # the job, by a server that lags behind
            locate_file,
            send(http(b"orders")),
        ]
        async with RawServer(scripts) as server, session_with(server) as session:
            await session.export_orders(destination=tmp_path / "orders.csv")
        assert (tmp_path / "orders.csv").read_bytes() == b"orders"

    @pytest.mark.parametrize("is_created", [True, False], ids=["created", "succeeded"])
    async def test_file_of_a_new_job_survives_404s_for_the_file_and_the_job(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, is_created: bool
    ) -> None:
        if is_created:
            moltin_simulator.script_next_job(duration=1)
            job_id = (await moltin_session.create_job()).id
            await asyncio.sleep(2)
        else:
            job_id = moltin_simulator.add_job(duration=0)
            await moltin_session.get_job(job_id)
        moltin_simulator.add_faults(404, path=f"/v2/jobs/{job_id}/file")
        moltin_simulator.add_faults(404, path=f"/v2/jobs/{job_id}")
        assert await moltin_session.get_file_url(job_id)

    async def test_file_of_a_job_that_a_list_has_just_shown_is_requested_again(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        await moltin_session.list_jobs()
        moltin_simulator.add_faults(404, path="/v2/jobs/a/file")
        assert await moltin_session.get_file_url("a")

    async def test_file_of_a_job_that_another_session_has_seen_succeed_is_requested_again(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        moltin_simulator.add_faults(404, path="/v2/jobs/a/file")
        assert await moltin_session.get_file_url("a")

    async def test_file_of_a_job_that_succeeded_long_ago_is_missing_at_once(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        for _ in range(3):
            await moltin_session.get_job("a")
            await asyncio.sleep(20)
        moltin_simulator.add_faults(404, path="/v2/jobs/a/file")
        with pytest.raises(JobNotFoundError, match="has no file"):
            await moltin_session.get_file_url("a")

    async def test_404_for_a_job_that_has_just_succeeded_is_raised_at_once(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        await moltin_session.get_job("a")
        moltin_simulator.remove_job("a")
        with pytest.raises(JobNotFoundError):
            await moltin_session.get_job("a")
        assert len(moltin_simulator.requests) == 2

    @pytest.mark.parametrize("poll_by", ["id", "list"])
    async def test_file_of_a_job_that_has_just_succeeded_is_requested_again(
        self, moltin_simulator: Simulator, tmp_path: Path, poll_by: Any
    ) -> None:
        job_id = moltin_simulator.add_job(duration=1, file=b"orders")
        async with session_with(moltin_simulator, poll_by=poll_by) as session:
            await session.wait_for_job(job_id)
            moltin_simulator.add_faults(*[404] * 5, path=f"/v2/jobs/{job_id}/file")
            await session.download(job_id, tmp_path / "orders.csv")
        assert (tmp_path / "orders.csv").read_bytes() == b"orders"

    async def test_file_that_stays_unknown_is_raised_after_ten_seconds(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        job_id = moltin_simulator.add_job(duration=1)
        await moltin_session.wait_for_job(job_id)
        ended_at = loop_time()
        moltin_simulator.add_faults(404, path=f"/v2/jobs/{job_id}/file", repeat=True)
        with pytest.raises(JobNotFoundError, match="has no file"):
            await moltin_session.get_file_url(job_id)
        assert 10 <= loop_time() - ended_at < 18


class TestListJobs:
    async def test_all_jobs_are_returned(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        assert await moltin_session.list_jobs() == []
        moltin_simulator.add_job("a", ["pending", "success"])
        moltin_simulator.add_job("b", ["failed"], error="No results")
        jobs = await moltin_session.list_jobs()
        assert [(job.id, job.status) for job in jobs] == [("a", "pending"), ("b", "failed")]
        assert jobs[1] == await moltin_session.get_job("b")

    async def test_unreadable_items_are_logged_and_left_out(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        items = [{"id": "a", "status": "pending"}, {"id": "b"}, 5, {"id": "c", "status": "new"}]
        moltin_simulator.add_faults(Fault(body=json.dumps({"data": items}).encode()))
        jobs = await moltin_session.list_jobs()
        assert [job.id for job in jobs] == ["a", "c"]
        records = [record for record in caplog.records if record.levelno == logging.WARNING]
        messages = [record.getMessage() for record in records]
        assert messages[0].startswith("job c: status 'new' is not documented")
        assert messages[1:] == [
            "the list of jobs: item 2 cannot be read: it has no usable id or status",
            "the list of jobs: item 3 cannot be read: it has no usable id or status",
        ]

    @pytest.mark.parametrize("body", [b"{}", b'{"data": {}}', b"[]", b'{"data": []', b"5"])
    async def test_response_without_a_list_is_an_error(
        self, moltin_simulator: Simulator, body: bytes
    ) -> None:
        moltin_simulator.add_faults(Fault(body=body))
        async with session_with(moltin_simulator, retry=ONCE) as session:
            with pytest.raises(InvalidResponseError, match=r"^the list of jobs: "):
                await session.list_jobs()

    async def test_failed_request_is_retried(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_faults(503, "reset")
        assert await moltin_session.list_jobs() == []

    async def test_list_may_have_sixteen_mebibytes(self, moltin_simulator: Simulator) -> None:
        item = job("success", "a" * 128, file="x" * 2000).decode()[len('{"data": ') : -1]
        document = b'{"data": [' + ",".join([item] * 4000).encode() + b"]}"
        assert 2**20 < len(document) < 2**24
        largest = document.ljust(2**24)
        moltin_simulator.add_faults(Fault(body=largest), Fault(body=largest + b" "))
        async with session_with(moltin_simulator, retry=ONCE) as session:
            assert len(await session.list_jobs()) == 4000
            with pytest.raises(InvalidResponseError, match="larger than 16777216 bytes"):
                await session.list_jobs()


class TestGetFileUrl:
    @dialects
    async def test_address_of_the_file_is_returned(self, dialect: Any) -> None:
        async with Simulator(dialect=dialect) as simulator, session_with(simulator) as session:
            simulator.add_job("a", duration=0)
            assert await session.get_file_url("a") == f"{simulator.files_url}/a.csv"
            assert await session.get_file_url(await session.get_job("a")) == (
                f"{simulator.files_url}/a.csv"
            )

    @pytest.mark.parametrize(
        ("status", "advice"),
        [
            ("pending", "with status pending and has no file yet. Wait for it first."),
            ("success", "with status success, but has no file. Create a new job."),
            ("failed", "with status failed, but has no file. Create a new job."),
            ("cancelled", "with status cancelled, but has no file. Create a new job."),
        ],
    )
    async def test_job_without_a_file_is_named_with_its_status(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        status: str,
        advice: str,
    ) -> None:
        moltin_simulator.add_job("a", [status])
        moltin_simulator.add_faults(404, path=FILE_URL_PATH, repeat=True)
        with pytest.raises(JobNotFoundError) as caught:
            await moltin_session.get_file_url("a")
        assert str(caught.value).endswith(f"The job exists {advice}")
        assert caught.value.job is not None
        assert caught.value.job.status == status

    async def test_404_of_a_gateway_does_not_state_that_the_file_is_missing(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        job_id = moltin_simulator.add_job(statuses=["success"])
        moltin_simulator.add_faults(Fault(404, body=b"<html>"), path=f"/v2/jobs/{job_id}/file")
        with pytest.raises(JobNotFoundError, match="a proxy or gateway") as caught:
            await moltin_session.get_file_url(job_id)
        assert caught.value.job is None
        assert len(moltin_simulator.requests) == 1

    async def test_unknown_job_is_not_found(self, moltin_session: JobsSession) -> None:
        with pytest.raises(JobNotFoundError, match="Check the id and the store") as caught:
            await moltin_session.get_file_url("a")
        assert caught.value.job is None
        assert caught.value.job_id == "a"

    async def test_denied_request_is_raised_at_once(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_faults(403)
        with pytest.raises(PermissionDeniedError, match=r"^the file of job a: "):
            await moltin_session.get_file_url("a")
        assert len(moltin_simulator.requests) == 1

    @pytest.mark.parametrize(
        "body", [b"{}", b"[]", b"5", b'{"href": ""}', b'{"data": {"href": 5}}', b'{"data": []}']
    )
    async def test_response_without_an_address_is_an_error(
        self, moltin_simulator: Simulator, body: bytes
    ) -> None:
        moltin_simulator.add_faults(Fault(body=body))
        async with session_with(moltin_simulator, retry=ONCE) as session:
            with pytest.raises(InvalidResponseError, match=r"^the file of job a: "):
                await session.get_file_url("a")

    async def test_failed_request_is_retried(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", duration=0)
        moltin_simulator.add_faults(503, "reset", path=FILE_URL_PATH)
        assert await moltin_session.get_file_url("a")


class TestDownload:
    async def test_file_of_a_job_is_saved(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, tmp_path: Path
    ) -> None:
        content = bytes(range(256)) * 4096
        moltin_simulator.add_job("a", duration=0, file=content)
        for item in ("a", await moltin_session.get_job("a")):
            path = await moltin_session.download(item, str(tmp_path / "orders.csv"))
            assert path == tmp_path / "orders.csv"
            assert path.read_bytes() == content
        assert names_in(tmp_path) == ["orders.csv"]

    async def test_invalid_destination_is_reported_before_a_request(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, tmp_path: Path
    ) -> None:
        with pytest.raises(IsADirectoryError) as caught:
            await moltin_session.download("a", tmp_path)
        assert caught.value.filename == str(tmp_path)
        assert moltin_simulator.requests == []

    async def test_job_without_a_file_leaves_nothing_behind(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, tmp_path: Path
    ) -> None:
        moltin_simulator.add_job("a", ["failed"], error="why")
        with pytest.raises(JobNotFoundError, match="status failed \\(why\\), but has no file"):
            await moltin_session.download("a", tmp_path / "orders.csv")
        assert names_in(tmp_path) == []

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("max_bytes", 0),
            ("max_bytes", 1.5),
            ("max_bytes", "1000"),
            ("timeout", 0),
            ("timeout", float("inf")),
        ],
    )
    async def test_invalid_argument_is_named_and_nothing_sent(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        tmp_path: Path,
        argument: str,
        value: Any,
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"^{argument} must be"):
            await moltin_session.download("a", tmp_path / "a.csv", **{argument: value})
        assert moltin_simulator.requests == []


class TestExportOrders:
    async def test_export_saves_the_file_and_returns_the_job(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, tmp_path: Path
    ) -> None:
        calls: list[tuple[int, int | None]] = []
        moltin_simulator.script_next_job(duration=600)
        exported = await moltin_session.export_orders(
            filter=DOCUMENTED_FILTER,
            destination=tmp_path / "orders.csv",
            timeout=900,
            progress=lambda *call: calls.append(call),
        )
        assert isinstance(exported, Job)
        assert exported.status == "success"
        rows = (tmp_path / "orders.csv").read_text().splitlines()
        assert rows[0] == "order_id,currency,amount"
        assert len(rows) == 201
        size = (tmp_path / "orders.csv").stat().st_size
        assert calls == [(size, size)]
        assert names_in(tmp_path) == ["orders.csv"]

    async def test_export_without_a_destination_returns_the_job(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.script_next_job(duration=6)
        exported = await moltin_session.export_orders()
        assert exported.file_url == f"{moltin_simulator.files_url}/{exported.id}.csv"

    async def test_filter_is_a_keyword_argument(self, moltin_session: JobsSession) -> None:
        with pytest.raises(TypeError):
            await moltin_session.export_orders(DOCUMENTED_FILTER)  # type: ignore[call-arg]

    @pytest.mark.parametrize(("argument", "value"), [("filter", ""), ("timeout", 0)])
    async def test_invalid_argument_is_named_and_nothing_sent(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        argument: str,
        value: Any,
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"^{argument} must be"):
            await moltin_session.export_orders(**{argument: value})
        assert moltin_simulator.requests == []

    async def test_invalid_destination_creates_no_job(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, tmp_path: Path
    ) -> None:
        destination = tmp_path / "nowhere" / "orders.csv"
        with pytest.raises(FileNotFoundError) as caught:
            await moltin_session.export_orders(destination=destination)
        assert caught.value.filename == str(destination)
        assert moltin_simulator.requests == []

    async def test_job_that_has_ended_when_it_is_created_is_not_polled(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_faults(Fault(202, body=job("success")))
        assert (await moltin_session.export_orders()).id == "a"
        assert len(moltin_simulator.requests) == 1

    async def test_polling_of_the_session_is_used(self, moltin_simulator: Simulator) -> None:
        polling = Polling(initial_interval=7, multiplier=1, jitter=0)
        moltin_simulator.script_next_job(["pending", "started", "success"])
        async with session_with(moltin_simulator, polling=polling) as session:
            await session.export_orders()
        times = [request.at for request in moltin_simulator.requests[1:]]
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert gaps == [pytest.approx(7, abs=0.1)] * 2

    @pytest.mark.parametrize(
        ("error", "cls"),
        [("out of disk", JobFailedError), ("No results matched the filter", NoResultsError)],
    )
    async def test_failed_job_is_raised_with_a_note(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        error: str,
        cls: type[JobFailedError],
    ) -> None:
        moltin_simulator.script_next_job(["failed"], error=error)
        with pytest.raises(cls, match=error) as caught:
            await moltin_session.export_orders()
        assert type(caught.value) is cls
        assert caught.value.__notes__ == [f"The job of this export is {caught.value.job_id}."]

    async def test_error_of_the_wait_has_a_note_that_names_the_job(
        self, moltin_simulator: Simulator
    ) -> None:
        tokens = iter(["simulator-token"])

        async def token() -> str:
            return next(tokens, "expired")

        moltin_simulator.add_faults(Fault(202, body=job("pending")), 401, 401)
        async with session_with(moltin_simulator, auth=token) as session:
            with pytest.raises(AuthenticationError) as caught:
                await session.export_orders()
        assert caught.value.__notes__ == ["The job of this export is a."]

    async def test_close_during_the_wait_has_a_note_that_names_the_job(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_faults(Fault(202, body=job("pending")))
        moltin_simulator.add_job("a", duration=60)
        export = asyncio.create_task(moltin_session.export_orders())
        await asyncio.sleep(5)
        await moltin_session.close()
        with pytest.raises(SessionClosedError) as caught:
            await export
        assert caught.value.__notes__ == ["The job of this export is a."]

    async def test_error_of_the_download_has_a_note_that_the_file_remains(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, tmp_path: Path
    ) -> None:
        folder = tmp_path / "exports"
        folder.mkdir()
        moltin_simulator.script_next_job(duration=60)
        export = asyncio.create_task(
            moltin_session.export_orders(destination=folder / "orders.csv")
        )
        await asyncio.sleep(30)
        shutil.rmtree(folder)
        with pytest.raises(FileNotFoundError) as caught:
            await export
        assert caught.value.filename == str(folder / "orders.csv")
        (listed,) = await moltin_session.list_jobs()
        assert caught.value.__notes__ == [
            f"Job {listed.id} has succeeded. To save its file, call download()."
        ]

    @pytest.mark.parametrize(
        ("hanging", "message"),
        [
            ("creation", f"the job of this export was not confirmed within 5 s. {MAY_EXIST}"),
            (
                "poll",
                "job a did not end within 5 s (last status 'pending', 1 poll). Wait again, "
                "or use a longer timeout.",
            ),
            (
                "address",
                "job a was not saved within 5 s (last status 'success'). Its file remains "
                "available: call download().",
            ),
            (
                "headers of the file",
                "job a was not saved within 5 s (last status 'success'). Its file remains "
                "available: call download().",
            ),
            (
                "file",
                "job a was not saved within 5 s (last status 'success'). Its file remains "
                "available: call download().",
            ),
        ],
        ids=lambda value: value if " s" not in value else "",
    )
    async def test_timeout_bounds_the_whole_export(
        self, tmp_path: Path, hanging: str, message: str
    ) -> None:
        script = send_and_hang(http(b"half", length=99)) if hanging == "file" else hang
        async with FileHost(script) as host, host.session() as session:
            if hanging == "creation":
                host.api.add_faults("hang", path="/v2/jobs")
            else:
                host.api.add_faults(Fault(202, body=job("pending")), path="/v2/jobs")
            if hanging == "poll":
                host.api.add_faults("hang", job_id="a")
            if hanging == "address":
                host.api.clear_faults()
                host.api.add_faults(Fault(202, body=job("pending")), path="/v2/jobs")
                host.api.add_faults("hang", path=FILE_URL_PATH)
            started_at = loop_time()
            with pytest.raises(JobTimeoutError) as caught:
                await session.export_orders(destination=tmp_path / "orders.csv", timeout=5)
            assert loop_time() - started_at == pytest.approx(5, abs=0.1)
            assert_idle(session)
        assert str(caught.value) == message
        assert caught.value.job_id == (None if hanging == "creation" else "a")
        assert caught.value.timeout == 5
        assert not hasattr(caught.value, "__notes__"), "its message has all that there is to know"
        assert caught.value.__context__ is None
        assert names_in(tmp_path) == []

    async def test_timeout_counts_from_the_start_of_a_slow_creation(self) -> None:
        creation = delayed(4, respond(job(), "202 Accepted"))
        async with RawServer([creation, *[respond(job())] * 99]) as server:
            async with session_with(server) as session:
                started_at = loop_time()
                with pytest.raises(JobTimeoutError) as caught:
                    await session.export_orders(timeout=5)
                assert 4 < loop_time() - started_at <= 5
        assert (caught.value.job_id, caught.value.timeout) == ("a", 5)

    async def test_timeout_error_of_a_token_callable_is_passed_on(
        self, moltin_simulator: Simulator
    ) -> None:
        async def token() -> str:
            raise TimeoutError("of the vault")

        async with session_with(moltin_simulator, auth=token) as session:
            with pytest.raises(TimeoutError, match="of the vault") as caught:
                await session.export_orders(timeout=5)
        assert type(caught.value) is TimeoutError
