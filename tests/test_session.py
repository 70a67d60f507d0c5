"""Sessions against the simulator, over real sockets and in virtual time."""

import asyncio
import gc
import inspect
import itertools
import typing
import uuid
import warnings
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

from moltin_jobs import (
    APIError,
    ClientCredentials,
    ConfigurationError,
    InvalidJobIdError,
    Job,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobsSession,
    JobState,
    JobTimeoutError,
    MoltinJobsError,
    NoResultsError,
    Polling,
    RateLimitError,
    Retry,
    ServerError,
    SessionClosedError,
    SessionOptions,
    SessionStats,
    TransportError,
    wait_for_job,
)
from moltin_jobs.testing.simulator import Fault, Simulator
from tests.file_host import names_in
from tests.raw_server import job as job_body
from tests.sessions import assert_idle, session_with

pytestmark = pytest.mark.looptime

DOCUMENTED_ID = "974c9db4-38da-4dbf-90c2-33eed5f3e77c"
DOCUMENTED_ERROR = "No results matched the supplied filter"
IDLE = SessionStats(
    waits=0,
    requests_in_flight=0,
    requests_queued=0,
    slots_held=0,
    tasks=0,
    connections=0,
    requests=0,
    polls=0,
    failed_polls=0,
    cooldowns=0,
)

Call = Callable[[JobsSession, Any, Path], Awaitable[Any]]
JOB_CALLS: dict[str, Call] = {
    "get_job": lambda session, job, _: session.get_job(job),
    "get_jobs": lambda session, job, _: session.get_jobs([job]),
    "wait_for_job": lambda session, job, _: session.wait_for_job(job),
    "wait_for_jobs": lambda session, job, _: session.wait_for_jobs([job]),
    "the function wait_for_job": lambda session, job, _: wait_for_job(session, job),
    "watch_job": lambda session, job, _: anext(session.watch_job(job)),
    "get_file_url": lambda session, job, _: session.get_file_url(job),
    "download": lambda session, job, folder: session.download(job, folder / "orders.csv"),
}
OTHER_CALLS: dict[str, Call] = {
    "list_jobs": lambda session, *_: session.list_jobs(),
    "create_job": lambda session, *_: session.create_job(),
    "export_orders": lambda session, *_: session.export_orders(),
}
CALLS = JOB_CALLS | OTHER_CALLS
OPENING: dict[str, Call] = {"async with": lambda session, *_: session.__aenter__()}


def loop_time() -> float:
    return asyncio.get_running_loop().time()


class TestGetJob:
    async def test_lookup_returns_the_whole_job(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job(DOCUMENTED_ID, ["failed"], error=DOCUMENTED_ERROR)
        job = await moltin_session.get_job(uuid.UUID(DOCUMENTED_ID))
        assert (job.id, job.type, job.job_type) == (DOCUMENTED_ID, "job", "order_export")
        assert (job.status, job.error) == ("failed", DOCUMENTED_ERROR)
        assert job.self_url == f"{moltin_simulator.url}/v2/jobs/{DOCUMENTED_ID}"
        assert job.created_at is not None

    async def test_five_hundred_concurrent_lookups_use_a_hundred_connections(self) -> None:
        connections: set[int] = set()

        async def observe(session: JobsSession) -> None:
            while True:
                connections.add(session.stats().connections)
                await asyncio.sleep(0.001)

        async with (
            Simulator(rate_limit=None, latency=0.01) as simulator,
            session_with(simulator, rate_limit=None) as session,
        ):
            ids = [simulator.add_job(f"job-{number}", ["pending"]) for number in range(500)]
            observer = asyncio.create_task(observe(session))
            jobs = await asyncio.gather(*map(session.get_job, ids))
            observer.cancel()
            assert_idle(session)
        assert [job.id for job in jobs] == ids
        assert len(simulator.requests) == 500
        assert max(connections) == 100

    @pytest.mark.parametrize("not_found", ["bare", "list"])
    async def test_unknown_job_is_not_found(self, not_found: Any) -> None:
        async with Simulator(not_found=not_found) as simulator, session_with(simulator) as session:
            with pytest.raises(JobNotFoundError, match="you are requesting does not") as caught:
                await session.get_job("nowhere")
        assert caught.value.job_id == "nowhere"
        assert len(simulator.requests) == 1

    async def test_retryable_failures_are_retried_then_raised(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["pending"])
        moltin_simulator.add_faults(500, "reset", "garbage")
        assert (await moltin_session.get_job("a")).status == "pending"
        moltin_simulator.add_faults(500, 503, 500, 502)
        with pytest.raises(ServerError) as caught:
            await moltin_session.get_job("a")
        assert caught.value.status == 502
        assert len(moltin_simulator.requests) == 8

    async def test_max_attempts_of_one_means_no_retry(self, moltin_simulator: Simulator) -> None:
        moltin_simulator.add_faults(500)
        async with session_with(moltin_simulator, retry=Retry(max_attempts=1)) as session:
            with pytest.raises(ServerError) as caught:
                await session.get_job("a")
        assert caught.value.request_id
        assert len(moltin_simulator.requests) == 1

    async def test_retry_after_beyond_two_minutes_is_raised_at_once(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_faults(Fault(429, {"Retry-After": "121"}))
        with pytest.raises(RateLimitError) as caught:
            await moltin_session.get_job("a")
        assert loop_time() < 1
        assert caught.value.retry_after == 121

    async def test_retry_after_up_to_two_minutes_is_obeyed(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["pending"])
        moltin_simulator.add_faults(Fault(429, {"Retry-After": "60"}))
        await moltin_session.get_job("a")
        first, second = moltin_simulator.requests
        assert 60 <= second.at - first.at <= 72.1

    async def test_redirect_is_not_followed(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_faults(Fault(302, {"Location": "https://evil.example/"}))
        with pytest.raises(APIError, match=r"https://evil\.example/") as caught:
            await moltin_session.get_job("a")
        assert moltin_simulator.url in str(caught.value)
        assert len(moltin_simulator.requests) == 1

    async def test_request_that_hangs_ends_after_the_request_timeout(
        self, moltin_simulator: Simulator
    ) -> None:
        moltin_simulator.add_faults("hang", "hang")
        retry = Retry(max_attempts=2)
        async with session_with(moltin_simulator, request_timeout=2, retry=retry) as session:
            with pytest.raises(TransportError, match="within 2 s"):
                await session.get_job("a")
            # Two attempts, and an interval of 0.25 to 0.5 seconds.
            assert 4.25 <= loop_time() <= 4.6


class TestManyJobs:
    async def test_jobs_are_returned_in_the_given_order(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        ids = [moltin_simulator.add_job(statuses=["success"]) for _ in range(5)]
        many: list[Callable[..., Awaitable[list[Job]]]] = [
            moltin_session.get_jobs,
            moltin_session.wait_for_jobs,
        ]
        for call in many:
            jobs = await call(reversed(ids))
            assert [job.id for job in jobs] == ids[::-1]
            assert await call([]) == []

    @pytest.mark.parametrize("make", [list, tuple, set, iter], ids=lambda make: make.__name__)
    async def test_any_iterable_is_accepted(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        make: Callable[[Iterable[Any]], Iterable[Any]],
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        moltin_simulator.add_job(DOCUMENTED_ID, ["success"])
        jobs = await moltin_session.get_jobs(make(["a", uuid.UUID(DOCUMENTED_ID)]))
        assert {job.id for job in jobs} == {"a", DOCUMENTED_ID}

    async def test_first_error_is_raised_after_the_other_waits_have_ended(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("slow", ["pending"])
        with pytest.raises(JobNotFoundError) as caught:
            await moltin_session.wait_for_jobs(["slow", "nowhere"])
        assert_idle(moltin_session)
        assert caught.value.job_id == "nowhere"
        assert caught.value.__context__ is None

    async def test_return_exceptions_returns_them_in_their_places(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("good", ["success"])
        moltin_simulator.add_job("bad", ["failed"], error="why")
        ids = ["good", "bad", "nowhere"]
        waits = await moltin_session.wait_for_jobs(ids, return_exceptions=True)
        assert list(map(type, waits)) == [Job, JobFailedError, JobNotFoundError]
        lookups = await moltin_session.get_jobs(ids, return_exceptions=True)
        assert list(map(type, lookups)) == [Job, Job, JobNotFoundError]

    @pytest.mark.parametrize("name", ["get_jobs", "wait_for_jobs"])
    async def test_close_returns_when_calls_that_have_just_begun_have_ended(
        self, moltin_session: JobsSession, name: str
    ) -> None:
        calls = asyncio.create_task(getattr(moltin_session, name)(["a", "b", "c"]))
        await asyncio.sleep(0)
        await moltin_session.close()
        await asyncio.sleep(0)
        assert calls.done()
        with pytest.raises(SessionClosedError):
            await calls

    @pytest.mark.parametrize("name", ["get_jobs", "wait_for_jobs"])
    @pytest.mark.parametrize(
        "one",
        ["abc", uuid.UUID(DOCUMENTED_ID), Job(id="abc", status="pending")],
        ids=lambda one: type(one).__name__,
    )
    async def test_one_job_in_place_of_an_iterable_is_rejected(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, name: str, one: Any
    ) -> None:
        with pytest.raises(TypeError, match="expected an iterable of jobs or ids"):
            await getattr(moltin_session, name)(one)
        assert moltin_simulator.requests == []

    @pytest.mark.parametrize("name", ["get_jobs", "wait_for_jobs"])
    async def test_invalid_id_is_rejected_before_anything_is_sent(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, name: str
    ) -> None:
        with pytest.raises(InvalidJobIdError):
            await getattr(moltin_session, name)(["good", ".."])
        assert moltin_simulator.requests == []

    @pytest.mark.parametrize("name", ["get_jobs", "wait_for_jobs"])
    async def test_invalid_id_does_not_affect_the_others_if_exceptions_are_returned(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, name: str
    ) -> None:
        moltin_simulator.add_job("good", ["success"])
        call = getattr(moltin_session, name)
        good, bad = await call(["good", ".."], return_exceptions=True)
        assert (good.id, type(bad)) == ("good", InvalidJobIdError)


class TestOverload:
    async def wait_for(
        self, simulator: Simulator, count: int, *, kind: str = "order", **options: Any
    ) -> None:
        """Wait for jobs that never end, until each was polled."""
        ids = [simulator.add_job(statuses=["pending"], kind=kind) for _ in range(count)]
        async with session_with(simulator, **options) as session:
            waits = session.wait_for_jobs(ids, kind=kind, timeout=5, return_exceptions=True)
            for outcome in await waits:
                assert isinstance(outcome, JobTimeoutError)

    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            (
                "order",
                "more than 8 jobs are polled by id: the rate limit delays their polls beyond the "
                "max_interval of the session's Polling. Use poll_by='list'.",
            ),
            (
                "release:c",
                "more than 8 release jobs are polled by id: the rate limit delays their polls "
                "beyond the max_interval of the session's Polling. Use a longer max_interval, or "
                "a higher rate_limit.",
            ),
        ],
    )
    async def test_more_waits_than_the_rate_limit_serves_are_logged_once(
        self, simulator: Simulator, caplog: pytest.LogCaptureFixture, kind: str, text: str
    ) -> None:
        polling = Polling(max_interval=2)
        await self.wait_for(simulator, 12, kind=kind, rate_limit=4, polling=polling)
        records = [record for record in caplog.records if "polled by id" in record.getMessage()]
        assert [record.getMessage() for record in records] == [text]
        assert (records[0].levelname, vars(records[0])["job_kind"]) == ("WARNING", kind)

    @pytest.mark.parametrize(
        "options",
        [
            {"rate_limit": 4, "polling": Polling(max_interval=3)},
            {"rate_limit": 4, "polling": Polling(max_interval=2), "poll_by": "list"},
            {"rate_limit": None, "polling": Polling(max_interval=2)},
        ],
    )
    async def test_waits_that_can_be_served_are_not_logged(
        self, simulator: Simulator, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
    ) -> None:
        await self.wait_for(simulator, 12, **options)
        assert "polled by id:" not in caplog.text


class TestWaitForJob:
    @pytest.mark.parametrize(
        "statuses",
        [
            ["PENDING", "STARTED", "SUCCESS"],
            ["pending", "processing", "complete"],
            ["pending", "processing", "completed"],
        ],
        ids=str,
    )
    async def test_wait_returns_the_job_in_each_dialect(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, statuses: list[str]
    ) -> None:
        moltin_simulator.add_job("a", statuses)
        job = await moltin_session.wait_for_job("a")
        assert (job.status, job.state) == (statuses[-1], JobState.SUCCEEDED)
        assert len(moltin_simulator.requests) == 3

    @pytest.mark.parametrize(
        ("status", "error", "cls"),
        [
            ("failed", "out of disk", JobFailedError),
            ("failed", DOCUMENTED_ERROR, NoResultsError),
            ("cancelled", None, JobCancelledError),
            ("canceled", None, JobCancelledError),
        ],
    )
    async def test_wait_for_a_job_without_success_raises_after_one_request(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        status: str,
        error: str | None,
        cls: type[JobFailedError],
    ) -> None:
        moltin_simulator.add_faults(Fault(body=job_body(status, error=error)))
        with pytest.raises(cls) as caught:
            await moltin_session.wait_for_job("a")
        assert type(caught.value) is cls
        assert caught.value.error == error
        assert (caught.value.job_id, caught.value.job.id) == ("a", "a")
        assert len(moltin_simulator.requests) == 1

    async def test_function_wait_for_job_passes_its_arguments_on(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["pending", "success"])
        moltin_simulator.add_job("b", ["pending"])
        polling = Polling(initial_interval=1, jitter=0)
        job = await wait_for_job(moltin_session, "a", timeout=60, polling=polling)
        assert job.status == "success"
        first, second = moltin_simulator.requests
        assert second.at - first.at == pytest.approx(1, abs=0.05)
        with pytest.raises(JobTimeoutError, match="within 60 s"):
            await wait_for_job(moltin_session, "b", timeout=60, polling=polling)

    async def test_each_wait_ends_as_its_job_does(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        ids = [moltin_simulator.add_job(duration=20) for _ in range(3)]
        bad = moltin_simulator.add_job(duration=5, error="why")
        *good, failed = await moltin_session.wait_for_jobs([*ids, bad], return_exceptions=True)
        assert [job.id for job in good if isinstance(job, Job)] == ids
        assert isinstance(failed, JobFailedError)
        assert failed.error == "why"

    async def test_poll_by_list_serves_all_waits_by_one_request(
        self, moltin_simulator: Simulator
    ) -> None:
        ids = [moltin_simulator.add_job(statuses=["success"]) for _ in range(10)]
        async with session_with(moltin_simulator, poll_by="list") as session:
            jobs = await session.wait_for_jobs(ids)
        assert [job.id for job in jobs] == ids
        assert [request.path for request in moltin_simulator.requests] == ["/v2/jobs"]

    async def test_watch_yields_each_change_of_the_status(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["pending", "pending", "started", "failed"])
        seen = [job.status async for job in moltin_session.watch_job("a")]
        assert seen == ["pending", "started", "failed"]
        assert len(moltin_simulator.requests) == 4

    async def test_break_out_of_a_watch_leaves_nothing_behind(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["pending", "started"])
        async for job in moltin_session.watch_job("a"):
            if job.status == "started":
                break
        assert_idle(moltin_session)
        assert len(moltin_simulator.requests) == 2

    async def test_watch_repeats_the_job_at_each_heartbeat(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", duration=35)
        items = [
            (job.status, loop_time()) async for job in moltin_session.watch_job("a", heartbeat=15)
        ]
        assert [status for status, _ in items] == ["started", "started", "started", "success"]
        assert [round(at) for _, at in items[:3]] == [0, 15, 30]

    async def test_undocumented_status_is_logged_once_for_each_spelling(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        moltin_simulator.add_job("a", ["dreaming", "dreaming", "Dozing", "success"])
        moltin_simulator.add_job("b", ["dreaming", "success"])
        await moltin_session.wait_for_jobs(["a", "b"])
        logged = [record.__dict__["job_status"] for record in caplog.records]
        assert sorted(logged) == ["Dozing", "dreaming"]

    async def test_at_most_a_hundred_undocumented_statuses_are_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        statuses = [f"odd-{number}" for number in range(150)]
        async with (
            Simulator(rate_limit=None) as simulator,
            session_with(simulator, rate_limit=None) as session,
        ):
            simulator.add_job("a", [*statuses, "success"])
            await session.wait_for_job("a")
        assert len(caplog.records) == 100

    async def test_timeout_bounds_a_service_that_hangs(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_faults("hang", repeat=True)
        with pytest.raises(JobTimeoutError):
            await moltin_session.wait_for_job("a", timeout=0.5)
        assert loop_time() == pytest.approx(0.5, abs=0.05)
        assert_idle(moltin_session)

    async def test_token_that_the_wait_outlives_is_refreshed_before_it_expires(self) -> None:
        # It is refreshed for the first poll after four fifths of its lifetime.
        polling = Polling(initial_interval=5, multiplier=1, jitter=0)
        async with Simulator(token_lifetime=100) as simulator:
            auth = ClientCredentials(simulator.client_id, simulator.client_secret)
            simulator.add_job("a", duration=390)
            async with session_with(simulator, auth=auth, polling=polling) as session:
                await session.wait_for_job("a")
        assert all(request.status == 200 for request in simulator.requests)
        moments = [
            request.at for request in simulator.requests if request.path == "/oauth/access_token"
        ]
        assert len(moments) == 5
        for before, after in itertools.pairwise(moments):
            assert 80 <= after - before <= 86


class TestJobArgument:
    @pytest.mark.parametrize("name", JOB_CALLS)
    async def test_job_is_accepted_in_place_of_its_id(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        tmp_path: Path,
        name: str,
    ) -> None:
        moltin_simulator.add_job("a", duration=0)
        result = await JOB_CALLS[name](moltin_session, Job(id="a", status="pending"), tmp_path)
        expected = Job(id="a", status="success")
        jobs = result if isinstance(result, list) else [result]
        for job in jobs:
            if isinstance(job, Job):
                assert (job.id, job.status) == (expected.id, expected.status)
        assert {request.job_id for request in moltin_simulator.requests} == {"a"}

    @pytest.mark.parametrize("name", JOB_CALLS)
    @pytest.mark.parametrize(
        "job_id",
        ["", ".", "..", "a/b", "a b", "ä", "a" * 129, "a\n", "%2e", "a?b", None, 7, b"abc"],
        ids=repr,
    )
    async def test_invalid_id_is_rejected_and_nothing_sent(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        tmp_path: Path,
        name: str,
        job_id: Any,
    ) -> None:
        with pytest.raises(InvalidJobIdError, match="not a valid job id"):
            await JOB_CALLS[name](moltin_session, job_id, tmp_path)
        job = Job(id=job_id, status="pending")
        with pytest.raises(InvalidJobIdError, match="not a valid job id"):
            await JOB_CALLS[name](moltin_session, job, tmp_path)
        assert moltin_simulator.requests == []

    @pytest.mark.parametrize("job_id", ["-", "_" * 128])
    async def test_unusual_valid_id_is_sent(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, job_id: str
    ) -> None:
        moltin_simulator.add_job(job_id, ["success"])
        assert (await moltin_session.get_job(job_id)).id == job_id


class TestStats:
    async def test_new_session_is_idle(self, moltin_session: JobsSession) -> None:
        assert moltin_session.stats() == IDLE

    async def test_lookup_in_flight_is_counted(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_faults("hang")
        lookup = asyncio.create_task(moltin_session.get_job("a"))
        await asyncio.sleep(1)
        in_flight = attrs.evolve(
            IDLE, requests_in_flight=1, slots_held=1, connections=1, requests=1
        )
        assert moltin_session.stats() == in_flight
        lookup.cancel()
        await asyncio.wait([lookup])
        assert moltin_session.stats() == attrs.evolve(IDLE, requests=1)

    async def test_queued_lookups_are_counted(self, moltin_simulator: Simulator) -> None:
        moltin_simulator.add_faults("hang")
        async with session_with(moltin_simulator, rate_limit=1) as session:
            lookups = [asyncio.create_task(session.get_job("a")) for _ in range(3)]
            await asyncio.sleep(1)
            assert session.stats().requests_queued == 2
            assert session.stats().requests == 1
            for lookup in lookups:
                lookup.cancel()
            await asyncio.wait(lookups)
            assert_idle(session)

    async def test_waits_and_their_polls_are_counted(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        polling = Polling(initial_interval=10, multiplier=1, jitter=0)
        moltin_simulator.add_faults(503)
        ids = [moltin_simulator.add_job(statuses=["pending"]) for _ in range(3)]
        waits = asyncio.create_task(moltin_session.wait_for_jobs(ids, polling=polling))
        await asyncio.sleep(15)
        assert moltin_session.stats() == attrs.evolve(
            IDLE, waits=3, tasks=3, requests=6, polls=6, failed_polls=1
        )
        waits.cancel()
        await asyncio.wait([waits])
        assert_idle(moltin_session)

    async def test_task_of_a_poll_whose_step_was_cancelled_is_counted(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_faults("hang")
        async with moltin_session.watch_job("a") as watch:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(watch), 1)
            assert (moltin_session.stats().tasks, moltin_session.stats().waits) == (1, 0)
        assert_idle(moltin_session)

    async def test_download_counts_as_a_connection(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, tmp_path: Path
    ) -> None:
        seen: list[SessionStats] = []
        moltin_simulator.add_job("a", duration=0)
        await moltin_session.download(
            "a", tmp_path / "orders.csv", progress=lambda *_: seen.append(moltin_session.stats())
        )
        assert seen == [attrs.evolve(IDLE, connections=1, requests=1)]
        assert_idle(moltin_session)

    async def test_cooldown_is_counted(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        moltin_simulator.add_faults(429)
        await moltin_session.get_job("a")
        assert moltin_session.stats() == attrs.evolve(IDLE, requests=2, cooldowns=1)

    async def test_stats_are_a_snapshot(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        stats = moltin_session.stats()
        moltin_simulator.add_job("a", ["success"])
        await moltin_session.get_job("a")
        assert stats == IDLE
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            stats.requests = 1  # type: ignore[misc]

    async def test_closed_session_still_has_stats(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        await moltin_session.get_job("a")
        await moltin_session.close()
        assert moltin_session.stats() == attrs.evolve(IDLE, requests=1)


async def test_repr_shows_the_state_and_no_secret(moltin_simulator: Simulator) -> None:
    moltin_simulator.add_job("a", ["pending"])
    session = session_with(moltin_simulator)
    url = moltin_simulator.url
    assert repr(session) == f"<JobsSession {url} open waits=0>"
    waits = [asyncio.create_task(session.wait_for_job("a")) for _ in range(2)]
    await asyncio.sleep(1)
    assert repr(session) == f"<JobsSession {url} open waits=2>"
    await session.close()
    assert repr(session) == f"<JobsSession {url} closed waits=0>"
    await asyncio.wait(waits)


class TestClose:
    async def test_close_ends_all_waits_and_returns_when_they_have_ended(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        ids = [moltin_simulator.add_job(statuses=["pending"]) for _ in range(50)]
        waits = [asyncio.create_task(moltin_session.wait_for_job(job_id)) for job_id in ids]
        await asyncio.sleep(5)
        await moltin_session.close()
        assert loop_time() < 6
        assert all(wait.done() for wait in waits)
        errors = await asyncio.gather(*waits, return_exceptions=True)
        assert {type(error) for error in errors} == {SessionClosedError}
        assert_idle(moltin_session)

    @pytest.mark.parametrize("name", ["get_jobs", "wait_for_jobs"])
    async def test_close_raises_from_a_call_that_returns_exceptions(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, name: str
    ) -> None:
        moltin_simulator.add_faults("hang", repeat=True)
        call = asyncio.create_task(
            getattr(moltin_session, name)(["a", "b"], return_exceptions=True)
        )
        await asyncio.sleep(1)
        await moltin_session.close()
        with pytest.raises(SessionClosedError, match="closed during this call"):
            await call

    def test_closed_error_is_a_runtime_error_that_is_not_retryable(self) -> None:
        error = SessionClosedError()
        assert isinstance(error, RuntimeError)
        assert isinstance(error, MoltinJobsError)
        assert not error.retryable

    @pytest.mark.parametrize("name", ["get_jobs", "wait_for_jobs"])
    async def test_call_for_many_jobs_of_a_closed_session_leaves_no_warning(
        self, moltin_session: JobsSession, name: str
    ) -> None:
        await moltin_session.close()
        with warnings.catch_warnings(record=True) as recorded:
            with pytest.raises(SessionClosedError):
                await getattr(moltin_session, name)(["a", "b", "c"])
            gc.collect()
        assert recorded == []

    @pytest.mark.parametrize("name", CALLS)
    async def test_close_ends_each_call(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        tmp_path: Path,
        name: str,
    ) -> None:
        moltin_simulator.add_faults("hang", repeat=True)

        async def call() -> None:
            await CALLS[name](moltin_session, "a", tmp_path)

        task = asyncio.create_task(call())
        await asyncio.sleep(1)
        assert moltin_session.stats().requests == 1
        await moltin_session.close()
        assert task.done()
        with pytest.raises(SessionClosedError, match="closed during this call"):
            await task
        assert_idle(moltin_session)

    @pytest.mark.parametrize("name", CALLS | OPENING)
    async def test_call_of_a_closed_session_raises(
        self,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
        tmp_path: Path,
        name: str,
    ) -> None:
        await moltin_session.close()
        with pytest.raises(SessionClosedError, match="is closed: create a new one"):
            await (CALLS | OPENING)[name](moltin_session, "a", tmp_path)
        assert moltin_simulator.requests == []

    async def test_two_concurrent_closes_both_wait_for_the_end(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_faults("hang")
        lookup = asyncio.create_task(moltin_session.get_job("a"))
        await asyncio.sleep(1)
        ended: list[bool] = []

        async def close() -> None:
            await moltin_session.close()
            ended.append(lookup.done())

        await asyncio.gather(close(), close())
        await moltin_session.close()
        assert ended == [True, True]
        with pytest.raises(SessionClosedError):
            await lookup

    async def test_close_within_a_call_of_the_session_does_not_wait_for_itself(
        self, moltin_simulator: Simulator
    ) -> None:
        async def token() -> str:
            await session.close()
            return moltin_simulator.token

        session = session_with(moltin_simulator, auth=token)
        with pytest.raises(SessionClosedError):
            await asyncio.wait_for(session.get_job("a"), 5)

    async def test_close_does_not_wait_for_the_body_of_an_iteration(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["pending", "success"])
        watch = moltin_session.watch_job("a")
        await anext(watch)
        await moltin_session.close()
        with pytest.raises(SessionClosedError):
            await anext(watch)

    async def test_exception_within_the_context_closes_the_session(
        self, moltin_simulator: Simulator
    ) -> None:
        session = session_with(moltin_simulator)

        async def fail() -> None:
            async with session:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        with pytest.raises(SessionClosedError):
            await session.get_job("a")

    async def test_http_session_of_the_user_stays_open(self, moltin_simulator: Simulator) -> None:
        moltin_simulator.add_job("a", ["success"])
        async with aiohttp.ClientSession() as http_session:
            for _ in range(2):
                async with session_with(moltin_simulator, http_session=http_session) as session:
                    assert (await session.wait_for_job("a")).status == "success"
            assert not http_session.closed


class TestAnotherEventLoop:
    async def test_call_from_another_loop_raises_and_changes_nothing(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, tmp_path: Path
    ) -> None:
        moltin_simulator.add_job("a", duration=20)
        wait = asyncio.create_task(moltin_session.wait_for_job("a"))
        await asyncio.sleep(5)
        before = moltin_session.stats()

        async def call_all() -> list[RuntimeError]:
            errors = []
            closing: dict[str, Call] = {"close": lambda session, *_: session.close()}
            for call in (CALLS | OPENING | closing).values():
                with pytest.raises(RuntimeError, match="another event loop") as caught:
                    await call(moltin_session, "a", tmp_path)
                errors.append(caught.value)
            return errors

        with ThreadPoolExecutor(1) as other_thread:
            errors = other_thread.submit(asyncio.run, call_all()).result()
        assert {type(error) for error in errors} == {RuntimeError}
        assert moltin_session.stats() == before
        assert (await wait).status == "success"
        assert names_in(tmp_path) == []

    async def test_call_of_a_closed_session_from_another_loop_raises(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, tmp_path: Path
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        await moltin_session.get_job("a")
        await moltin_session.close()

        async def call_all() -> None:
            for call in CALLS.values():
                with pytest.raises(RuntimeError, match="another event loop"):
                    await call(moltin_session, "a", tmp_path)

        with ThreadPoolExecutor(1) as other_thread:
            other_thread.submit(asyncio.run, call_all()).result()

    async def test_close_of_a_closed_session_from_another_loop_raises(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        await moltin_session.get_job("a")
        await moltin_session.close()
        with ThreadPoolExecutor(1) as other_thread:
            closing = other_thread.submit(asyncio.run, moltin_session.close())
            with pytest.raises(RuntimeError, match="another event loop"):
                closing.result()

    def test_session_belongs_to_the_loop_of_its_first_use(self) -> None:
        session = JobsSession("some-token", base_url="http://127.0.0.1:9")
        asyncio.run(session.__aenter__())
        with pytest.raises(RuntimeError, match="create one for each loop"):
            asyncio.run(session.__aenter__())


class TestOptions:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("base_url", "http://api.moltin.com"),
            ("base_url", "https://user:hush@api.moltin.com"),
            ("base_url", "https://api.moltin.com/v2"),
            ("base_url", None),
            ("request_timeout", 0),
            ("request_timeout", float("nan")),
            ("rate_limit", 0),
            ("rate_limit", True),
            ("rate_limit", 2.5),
            ("retry", 4),
            ("polling", None),
            ("poll_by", "auto"),
            ("http_session", "session"),
            ("headers", {"Authorization": "Basic hush"}),
            ("headers", {"X-A": "b\r\nX-C: hush"}),
            ("headers", {"X A": "b"}),
            ("headers", {"X-Ä": "b"}),
            ("headers", {"": "b"}),
            ("headers", {"hOST": "b"}),
            ("headers", {"X-A": 5}),
            ("headers", ["X-A"]),
            ("auth", "Bearer hush"),
            ("auth", None),
        ],
        ids=repr,
    )
    def test_invalid_option_is_named_and_no_secret_shown(self, option: str, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=rf"^{option}\b") as caught:
            JobsSession(**{"auth": "some-token"} | {option: value})
        assert "hush" not in str(caught.value)
        assert "some-token" not in str(caught.value)

    @pytest.mark.parametrize("path", ["", "/", "/gateway", "/gateway/"])
    async def test_path_of_the_base_url_is_kept(
        self, moltin_simulator: Simulator, path: str
    ) -> None:
        base_url = moltin_simulator.url + path
        async with session_with(moltin_simulator, base_url=base_url) as session:
            with pytest.raises(JobNotFoundError):
                await session.get_job("a")
        (request,) = moltin_simulator.requests
        assert request.path == f"{path.rstrip('/')}/v2/jobs/a"

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("timeout", 0),
            ("timeout", -1),
            ("timeout", float("inf")),
            ("timeout", "60"),
            ("polling", 5),
            ("heartbeat", 0),
        ],
    )
    async def test_invalid_argument_of_a_wait_is_named(
        self, moltin_session: JobsSession, argument: str, value: Any
    ) -> None:
        calls: list[Callable[..., Any]] = [
            lambda **keywords: moltin_session.wait_for_job("a", **keywords),
            lambda **keywords: moltin_session.wait_for_jobs([], **keywords),
            lambda **keywords: moltin_session.watch_job("a", **keywords),
        ]
        for call in calls[2:] if argument == "heartbeat" else calls:
            with pytest.raises(ConfigurationError, match=rf"^{argument} must be"):
                await call(**{argument: value})

    def test_session_options_are_the_parameters_of_the_session(self) -> None:
        parameters = dict(inspect.signature(JobsSession).parameters)
        hints = typing.get_type_hints(JobsSession.__init__) | {"return": None}
        options = typing.get_type_hints(SessionOptions)
        assert list(options) == list(parameters)
        assert options == {name: hints[name] for name in options}
        assert SessionOptions.__required_keys__ == frozenset()


class TestFromEnv:
    async def test_credentials_and_base_url_come_from_the_environment(
        self,
        moltin_simulator: Simulator,
        moltin_environment: dict[str, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert set(moltin_environment) == {
            "EPCC_API_BASE_URL",
            "EPCC_CLIENT_ID",
            "EPCC_CLIENT_SECRET",
        }
        monkeypatch.setenv("EPCC_ACCESS_TOKEN", "not-used")
        moltin_simulator.add_job("a", ["success"])
        async with JobsSession.from_env(rate_limit=5) as session:
            await session.wait_for_job("a")
        paths = [request.path for request in moltin_simulator.requests]
        assert paths == ["/oauth/access_token", "/v2/jobs/a"]

    async def test_token_comes_from_the_environment(
        self, moltin_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EPCC_ACCESS_TOKEN", moltin_simulator.token)
        monkeypatch.setenv("EPCC_CLIENT_ID", "")
        monkeypatch.setenv("EPCC_API_BASE_URL", "")
        moltin_simulator.add_job("a", ["success"])
        async with JobsSession.from_env(base_url=moltin_simulator.url) as session:
            await session.wait_for_job("a")
        assert len(moltin_simulator.requests) == 1

    def test_options_have_precedence_over_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EPCC_API_BASE_URL", "nonsense")
        monkeypatch.setenv("EPCC_ACCESS_TOKEN", "non sense")
        session = JobsSession.from_env(auth="some-token", base_url="https://a.example")
        assert repr(session) == "<JobsSession https://a.example open waits=0>"

    def test_default_base_url_is_that_of_the_service(self) -> None:
        session = JobsSession.from_env(auth="some-token")
        assert repr(session) == "<JobsSession https://api.moltin.com open waits=0>"

    def test_misspelled_option_is_rejected(self) -> None:
        with pytest.raises(TypeError, match="rate_limt"):
            JobsSession.from_env(auth="some-token", rate_limt=5)  # type: ignore[call-arg]

    @pytest.mark.parametrize(
        ("variables", "message"),
        [
            ({}, "EPCC_CLIENT_ID and EPCC_CLIENT_SECRET, or EPCC_ACCESS_TOKEN$"),
            ({"EPCC_CLIENT_ID": "id"}, "variable EPCC_CLIENT_SECRET is not set$"),
            ({"EPCC_CLIENT_SECRET": "hush"}, "variable EPCC_CLIENT_ID is not set$"),
            ({"EPCC_CLIENT_ID": "i\nd", "EPCC_CLIENT_SECRET": "hush"}, "^EPCC_CLIENT_ID must"),
            ({"EPCC_CLIENT_ID": "id", "EPCC_CLIENT_SECRET": "h\nush"}, "^EPCC_CLIENT_SECRET must"),
            ({"EPCC_ACCESS_TOKEN": "Bearer hush"}, "^EPCC_ACCESS_TOKEN must be a bearer token"),
            (
                {"EPCC_ACCESS_TOKEN": "token", "EPCC_API_BASE_URL": "http://a.example"},
                "^EPCC_API_BASE_URL must be https.* not 'http://a.example'$",
            ),
        ],
    )
    def test_missing_or_invalid_variable_is_named_and_no_secret_shown(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigurationError, match=message) as caught:
            JobsSession.from_env()
        assert "ush" not in str(caught.value)
