"""The job queue as a session reports it: get_queue, and the message of a timeout."""

import asyncio
import datetime
import email.utils
import itertools
import json
import random
import statistics
import time
from typing import Any

import pytest

from moltin_jobs import (
    JobsSession,
    JobTimeoutError,
    QueuedJob,
    Retry,
    ServerError,
)
from moltin_jobs._api.endpoints import get_job, list_jobs
from moltin_jobs._http.transport import Transport
from moltin_jobs._tasks.operations import Operations
from moltin_jobs.testing import Fault, Simulator
from tests.raw_server import RawServer, respond
from tests.sessions import ONCE, assert_idle, session_with

pytestmark = pytest.mark.looptime


def list_body(*jobs: dict[str, Any]) -> bytes:
    return json.dumps({"data": jobs}).encode()


def order(job_id: str, status: str, created: float, updated: float | None = None) -> dict[str, Any]:
    """Return the document of a job. Its times are seconds since the epoch."""
    moments = {"created_at": created, "updated_at": updated}
    timestamps = {
        name: datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat()
        for name, moment in moments.items()
        if moment is not None
    }
    return {"id": job_id, "type": "job", "status": status, "timestamps": timestamps}


class TestGetQueue:
    async def test_queue_of_the_store_needs_one_request(self, simulator: Simulator) -> None:
        for job_id, job_type in [("a", "order_export"), ("b", "other"), ("c", "order_export")]:
            simulator.add_job(job_id, duration=10, job_type=job_type)
        simulator.add_job("p", duration=10, kind="pxm")
        async with session_with(simulator) as session:
            await asyncio.sleep(14)
            queue = await session.get_queue()
            assert_idle(session)
        assert [request.path for request in simulator.requests] == ["/v2/jobs"]
        assert [(one.job.id, one.position, one.job.status) for one in queue] == [
            ("b", 1, "started"),
            ("c", 2, "pending"),
        ]

    async def test_times_are_those_of_the_simulated_jobs(self, simulator: Simulator) -> None:
        for job_id in "abcdef":
            simulator.add_job(job_id, duration=10)
        async with session_with(simulator) as session:
            await asyncio.sleep(34)
            queue = await session.get_queue()
            await asyncio.sleep(30)
            ended = {job.id: job.updated_at for job in await session.list_jobs()}
        assert [one.job.id for one in queue] == ["d", "e", "f"]
        assert queue[0].expected_start == ended["c"]
        for queued in queue:
            end = ended[queued.job.id]
            assert end is not None
            assert queued.expected_end is not None
            assert queued.earliest_end is not None
            assert queued.latest_end is not None
            # The Date has whole seconds, and few runs were seen.
            assert abs((queued.expected_end - end).total_seconds()) < 4
            assert queued.earliest_end <= queued.expected_end <= queued.latest_end

    @pytest.mark.parametrize("retry", [ONCE, Retry()], ids=["once", "retry"])
    async def test_failed_list_is_retried_within_retry(
        self, simulator: Simulator, retry: Retry
    ) -> None:
        simulator.add_job("a", duration=10)
        simulator.add_faults(500, path="/v2/jobs")
        async with session_with(simulator, retry=retry) as session:
            if retry is ONCE:
                with pytest.raises(ServerError):
                    await session.get_queue()
            assert [one.job.id for one in await session.get_queue()] == ["a"]
        assert len(simulator.requests) == 2

    async def test_queue_of_a_large_list_is_computed_in_a_thread(
        self, simulator: Simulator
    ) -> None:
        jobs = [order(f"job-{n}", "pending" if n else "success", n, n + 9) for n in range(8000)]
        body = list_body(*jobs)
        assert len(body) > 1 << 20
        simulator.add_faults(Fault(body=body))
        async with session_with(simulator) as session:
            queue = await session.get_queue()
            assert_idle(session)
        assert [one.position for one in queue] == list(range(1, 8000))
        assert queue[-1].expected_end is not None

    @pytest.mark.parametrize("difference", [30, -30])
    async def test_times_are_by_the_clock_of_the_service(self, difference: float) -> None:
        now = int(time.time() + difference)
        jobs = [
            order("a", "success", now - 200, now - 100),
            order("b", "started", now - 200, now - 100),
        ]
        headers = f"Date: {email.utils.formatdate(now, usegmt=True)}\r\nSet-Cookie: a=b\r\n"
        async with RawServer([respond(list_body(*jobs), headers=headers)]) as server:
            async with session_with(server) as session:
                (queued,) = await session.get_queue()
        moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
        assert queued.expected_start == moment - datetime.timedelta(seconds=100)
        assert queued.expected_end is not None
        # It has run as long as the only job before it, so the estimate starts from now.
        assert queued.expected_end - moment == datetime.timedelta(seconds=100)

    @pytest.mark.parametrize("headers", ["", "Date: today\r\n", "Date: \r\n"])
    async def test_times_are_by_the_local_clock_without_a_usable_date(self, headers: str) -> None:
        before = datetime.datetime.now(datetime.UTC)
        jobs = [order("a", "failed", 1e9, 1e9 + 10), order("b", "pending", 1e9)]
        async with RawServer([respond(list_body(*jobs), headers=headers)]) as server:
            async with session_with(server) as session:
                (queued,) = await session.get_queue()
        assert queued.expected_start is not None
        assert before <= queued.expected_start <= datetime.datetime.now(datetime.UTC)

    async def test_response_has_the_date_of_a_list_and_no_other_header(self) -> None:
        date = "Fri, 27 Nov 2026 12:00:00 GMT"
        headers = f"Date: {date}\r\nSet-Cookie: a=secret\r\n"
        script = respond(list_body(), headers=headers)
        operations = Operations()
        async with RawServer([script, script]) as server:
            transport = Transport(
                "TOKEN",
                base_url=server.url,
                operations=operations,
                rate_limit=None,
                request_timeout=10.0,
                http_session=None,
                headers=None,
            )
            try:
                assert dict((await transport.send(list_jobs())).headers) == {"Date": date}
                assert dict((await transport.send(get_job("a"))).headers) == {}
            finally:
                await transport.close()


async def test_simulator_sends_the_date_of_its_clock(simulator: Simulator) -> None:
    simulator.add_job("a", duration=10)
    simulator.add_job("b", duration=10)
    async with session_with(simulator) as session:
        await asyncio.sleep(86_400)
        simulator.add_job("c", duration=10)
        (queued,) = await session.get_queue()
    assert queued.job.created_at is not None
    assert queued.expected_start is not None
    assert abs((queued.expected_start - queued.job.created_at).total_seconds()) < 1


@pytest.mark.no_cover  # coverage would multiply its time
@pytest.mark.parametrize("sigma", [0.5, 0.75, 1.0])
async def test_range_holds_most_ends_of_two_hundred_simulated_jobs(sigma: float) -> None:
    hits: list[bool] = []
    errors: list[float] = []
    for seed in range(5):
        rng = random.Random(seed)
        async with Simulator(rate_limit=None) as simulator:
            runs = [60 * rng.lognormvariate(0, sigma) for _ in range(200)]
            for number, seconds in enumerate(runs):
                simulator.add_job(str(number), duration=seconds)
            async with session_with(simulator) as session:
                queues = []
                for _ in range(19):
                    await asyncio.sleep(sum(runs) / 20)
                    queues.append(await session.get_queue())
                await asyncio.sleep(sum(runs) / 20 + 1)
                ends = {job.id: job.updated_at for job in await session.list_jobs()}
        for queue in queues:
            check_queue(queue, ends, hits, errors)
    assert 0.7 <= statistics.fmean(hits) <= 0.9
    assert statistics.fmean(errors) < sigma / 6


def check_queue(
    queue: list[QueuedJob],
    ends: dict[str, datetime.datetime | None],
    hits: list[bool],
    errors: list[float],
) -> None:
    """Append whether each end was in its range, and the error relative to the queue's length."""
    last_end, now = ends["199"], queue[0].expected_start
    assert last_end is not None
    assert now is not None
    assert [one.job.id for one in queue] == [str(n) for n in range(200 - len(queue), 200)]
    for queued in queue:
        end = ends[queued.job.id]
        assert end is not None
        assert queued.earliest_end is not None
        assert queued.expected_end is not None
        assert queued.latest_end is not None
        hits.append(queued.earliest_end <= end <= queued.latest_end)
        errors.append(abs(queued.expected_end - end) / (last_end - now))
    for before, after in itertools.pairwise(queue):
        assert after.expected_start == before.expected_end


async def timeout_error(session: JobsSession, job_id: str, **options: Any) -> JobTimeoutError:
    with pytest.raises(JobTimeoutError) as caught:
        await session.wait_for_job(job_id, **{"timeout": 60} | options)
    return caught.value


class TestTimeout:
    async def test_timeout_states_the_position_in_the_last_list(self, simulator: Simulator) -> None:
        for job_id in "abcd":
            simulator.add_job(job_id, duration=40)
        async with session_with(simulator, poll_by="list") as session:
            error = await timeout_error(session, "d")
            queue = await session.get_queue()
        assert error.queued is not None
        assert error.queued.position == 3
        assert error.queued.job.id == "d"
        expected_end, end = error.queued.expected_end, queue[-1].expected_end
        assert expected_end is not None
        assert end is not None
        assert abs((expected_end - end).total_seconds()) < 3
        assert str(error) == (
            f"job d did not end within 60 s (last status 'pending', {error.polls} polls, 3rd in "
            f"the queue, expected to end at {expected_end:%Y-%m-%d %H:%M:%S} UTC). "
            "Wait again, or use a longer timeout."
        )
        by_id = [request for request in simulator.requests if request.job_id is not None]
        assert len(by_id) == 1, "the last poll before the deadline"
        assert len(simulator.requests) == error.polls + 2

    async def test_timeout_without_a_finished_job_states_the_position_alone(
        self, simulator: Simulator
    ) -> None:
        simulator.add_job("a", duration=1000)
        simulator.add_job("b", duration=1000)
        async with session_with(simulator, poll_by="list") as session:
            error = await timeout_error(session, "b")
        assert error.queued is not None
        assert error.queued.expected_end is None
        assert f"{error.polls} polls, 2nd in the queue). Wait again" in str(error)

    async def test_timeouts_at_the_same_moment_state_positions_of_one_list(
        self, simulator: Simulator
    ) -> None:
        job_ids = [simulator.add_job(duration=100) for _ in range(30)]
        async with session_with(simulator, poll_by="list", rate_limit=None) as session:
            errors = await session.wait_for_jobs(job_ids, timeout=30, return_exceptions=True)
        queued = [error.queued for error in errors if isinstance(error, JobTimeoutError)]
        assert [one and one.position for one in queued] == list(range(1, 31))

    @pytest.mark.parametrize(
        ("options", "kind"),
        [({}, None), ({"poll_by": "id"}, "order"), ({"poll_by": "list"}, "pxm")],
        ids=["default", "id", "pxm"],
    )
    async def test_timeout_of_another_wait_has_no_position(
        self, simulator: Simulator, options: dict[str, Any], kind: str | None
    ) -> None:
        simulator.add_job("a", duration=1000, kind=kind or "order")
        async with session_with(simulator, **options) as session:
            error = await timeout_error(session, "a", kind=kind)
        assert error.queued is None
        assert "queue" not in str(error)

    async def test_timeout_before_the_first_list_has_no_position(
        self, simulator: Simulator
    ) -> None:
        simulator.add_job("a", duration=1000)
        simulator.add_faults("hang", repeat=True)
        async with session_with(simulator, poll_by="list") as session:
            error = await timeout_error(session, "a", timeout=5)
        assert error.queued is None

    async def test_timeout_while_all_jobs_are_polled_by_id_has_no_position(
        self, simulator: Simulator
    ) -> None:
        simulator.add_job("a", duration=1000)
        async with session_with(simulator, poll_by="list") as session:
            assert (await timeout_error(session, "a", timeout=10)).queued is not None
            simulator.add_faults(403, path="/v2/jobs")
            assert (await timeout_error(session, "a", timeout=10)).queued is None

    async def test_timeout_for_a_job_that_the_list_does_not_name_has_no_position(
        self, simulator: Simulator
    ) -> None:
        simulator.add_job("a", duration=1000)
        simulator.add_job("b", duration=1000)
        listed = list_body(order("b", "pending", 1e9))
        simulator.add_faults(Fault(body=listed), path="/v2/jobs", repeat=True)
        async with session_with(simulator, poll_by="list") as session:
            errors = await session.wait_for_jobs(["a", "b"], timeout=10, return_exceptions=True)
        queued = [error.queued for error in errors if isinstance(error, JobTimeoutError)]
        assert [one and one.job.id for one in queued] == [None, "b"]
