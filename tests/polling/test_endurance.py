"""Whole sessions: what a wait lives through, and what it leaves behind."""

import asyncio
import contextlib
import gc
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from moltin_jobs import (
    ClientCredentials,
    Job,
    JobFailedError,
    JobsSession,
    JobTimeoutError,
    Polling,
    RateLimitError,
    ServerError,
    SessionClosedError,
    TransportError,
)
from moltin_jobs.testing.simulator import RecordedRequest, Simulator
from tests.interruption import InterruptAt
from tests.sessions import HangingLimiter, assert_idle

from .conftest import OpenSession

Use = Callable[[JobsSession], Coroutine[Any, Any, None]]

CHAOS_WAITS = int(os.environ.get("CHAOS_WAITS", "100"))


def now() -> float:
    return asyncio.get_running_loop().time()


def credentials(simulator: Simulator) -> ClientCredentials:
    return ClientCredentials(simulator.client_id, simulator.client_secret)


def other_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {task for task in [asyncio.current_task()] if task is not None}


@pytest.mark.looptime
class TestLongWaits:
    async def requests_of_an_hour(self, *, has_faults: bool) -> list[RecordedRequest]:
        random.seed(7)
        async with (
            Simulator(token_lifetime=1500) as simulator,
            JobsSession(
                credentials(simulator), base_url=simulator.url, polling=Polling(max_outage=600)
            ) as session,
        ):
            simulator.add_job("a", duration=3600)
            wait = asyncio.create_task(session.wait_for_job("a"))
            if has_faults:
                await asyncio.sleep(600)
                simulator.add_faults(429)
                await asyncio.sleep(300)
                simulator.add_faults(*[503] * 15)  # at an interval of 20 s: five minutes
                await asyncio.sleep(900)
                simulator.add_faults(429, 429)
                await asyncio.sleep(600)
                simulator.add_faults(429)
            assert (await wait).status == "success"
            assert_idle(session)
        return simulator.requests

    async def test_wait_of_an_hour_survives_faults_and_expired_tokens(self) -> None:
        undisturbed = await self.requests_of_an_hour(has_faults=False)
        requests = await self.requests_of_an_hour(has_faults=True)
        statuses = [request.status for request in requests if request.job_id]
        assert statuses.count(503) == 15
        assert statuses.count(429) == 4
        assert 401 not in statuses
        assert sum(request.job_id is None for request in requests) == 3
        assert len(statuses) == pytest.approx(len([r for r in undisturbed if r.job_id]), rel=0.05)

    async def test_queue_longer_than_the_life_of_a_token_is_served(self) -> None:
        async with (
            Simulator(token_lifetime=6, latency=0.05) as simulator,
            JobsSession(credentials(simulator), base_url=simulator.url) as session,
        ):
            statuses = ["pending", "started", "success"]
            job_ids = [simulator.add_job(statuses=statuses) for _ in range(300)]
            jobs = await session.wait_for_jobs(job_ids)
        assert [job.id for job in jobs] == job_ids
        rejected = sum(request.status == 401 for request in simulator.requests)
        assert rejected <= 0.05 * len(simulator.requests)
        assert {request.status for request in simulator.requests} <= {200, 401}

    async def test_rate_limit_of_the_store_slows_the_session_and_ends_no_wait(self) -> None:
        async with (
            Simulator(rate_limit=25) as simulator,
            JobsSession(simulator.token, base_url=simulator.url, rate_limit=None) as session,
        ):
            job_ids = [simulator.add_job(statuses=["pending", "success"]) for _ in range(200)]
            jobs = await session.wait_for_jobs(job_ids)
        assert [job.id for job in jobs] == job_ids

    async def test_wait_that_times_out_in_cooldowns_can_be_repeated(self) -> None:
        async with (
            Simulator(rate_limit=1) as simulator,
            JobsSession(simulator.token, base_url=simulator.url, rate_limit=None) as session,
        ):
            simulator.add_job("a", ["pending", "success"])
            simulator.add_faults(*[429] * 9)
            with pytest.raises(JobTimeoutError) as caught:
                await session.wait_for_job("a", timeout=100)
            assert isinstance(caught.value.last_error, RateLimitError)
            assert (await session.wait_for_job("a")).status == "success"

    @pytest.mark.parametrize("poll_by", ["id", "list"])
    @pytest.mark.parametrize("rate_limit", [20, None])
    async def test_chaos_ends_each_wait_as_its_job(
        self, rate_limit: int | None, poll_by: Any
    ) -> None:
        async with (
            Simulator(rate_limit=None, chaos=0.3) as simulator,
            JobsSession(
                credentials(simulator),
                base_url=simulator.url,
                rate_limit=rate_limit,
                poll_by=poll_by,
                # The 429s among the faults slow the session down. With thousands of waits, each
                # polls every few minutes, and three failures in a row are no outage.
                polling=Polling(max_outage=3600),
            ) as session,
        ):
            to_succeed, to_fail = ["pending", "started", "success"], ["pending", "failed"]
            good = [simulator.add_job(statuses=to_succeed) for _ in range(CHAOS_WAITS * 3 // 4)]
            bad = [simulator.add_job(statuses=to_fail, error="x") for _ in range(CHAOS_WAITS // 4)]
            outcomes = await session.wait_for_jobs(good + bad, return_exceptions=True)
            assert_idle(session)
        assert [job.id for job in outcomes[: len(good)] if isinstance(job, Job)] == good
        errors = [error for error in outcomes[len(good) :] if isinstance(error, JobFailedError)]
        assert [error.job.id for error in errors] == bad
        faults = sum(request.status != 200 for request in simulator.requests)
        assert faults >= 0.2 * len(simulator.requests)

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks need Python 3.12")
    async def test_chaos_with_eager_tasks_ends_each_wait_as_its_job(self) -> None:
        factory: Any = asyncio.eager_task_factory  # type: ignore[attr-defined,unused-ignore]
        asyncio.get_running_loop().set_task_factory(factory)
        await self.test_chaos_ends_each_wait_as_its_job(20, "id")


@pytest.mark.looptime
class TestSteps:
    async def test_cancelled_step_keeps_its_position_in_the_queue_for_the_rate_limit(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        session = open_session(rate_limit=1)
        for job_id in ("first", "watched", "last"):
            simulator.add_job(job_id, ["pending"])
        watch = session.watch_job("watched")
        lookups = [asyncio.create_task(session.get_job("first")) for _ in range(3)]
        await asyncio.sleep(0)
        job, steps = None, 0
        while job is None:
            step = asyncio.ensure_future(anext(watch))
            await asyncio.wait([step], timeout=0.3)
            steps += 1
            if step.done():
                job = step.result()
            step.cancel()
            await asyncio.wait([step])
            if steps == 1:
                lookups += [asyncio.create_task(session.get_job("last")) for _ in range(3)]
        assert steps > 5
        assert watch.polls == 1
        assert (session.stats().waits, session.stats().tasks) == (0, 0)
        await asyncio.wait(lookups)
        order = [request.job_id for request in simulator.requests]
        assert order == ["first"] * 3 + ["watched"] + ["last"] * 3

    async def test_break_leaves_nothing_behind(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        session = open_session()
        simulator.add_job("a", ["pending", "started"])
        async for job in session.watch_job("a"):
            if job.status == "started":
                break
        assert_idle(session)
        assert [task for task in other_tasks() if "moltin_jobs._" in repr(task)] == []

    async def test_leaving_the_context_cancels_the_request_in_flight(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        session = open_session()
        simulator.add_job("a", ["pending"])
        simulator.add_faults("hang")
        async with session.watch_job("a") as watch:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(watch), 1)
            stats = session.stats()
            assert (stats.tasks, stats.requests_in_flight, stats.connections) == (1, 1, 1)
        assert_idle(session)
        assert now() == pytest.approx(1, abs=0.001)

    @pytest.mark.parametrize("poll_by", ["id", "list"])
    @pytest.mark.parametrize(
        ("rate_limit", "faults", "seconds"),
        [(1, [], 0.5), (None, ["hang"], 0.5), (None, [], 0.75)],
        ids=["queued", "in flight", "between polls"],
    )
    @pytest.mark.parametrize("use", ["wait", "step", "cancelled step"])
    async def test_closing_the_session_ends_the_watch(
        self,
        *,
        simulator: Simulator,
        open_session: OpenSession,
        poll_by: str,
        rate_limit: int | None,
        faults: list[str],
        seconds: float,
        use: str,
    ) -> None:
        polling = Polling(initial_interval=60, max_interval=60)
        session = open_session(poll_by=poll_by, rate_limit=rate_limit, polling=polling)
        for job_id in "ab":
            simulator.add_job(job_id, ["pending"])
        watch = session.watch_job("a", heartbeat=90)
        if rate_limit:
            await session.get_job("b")
        elif not faults:
            await anext(watch)
        simulator.add_faults(*faults)
        running = asyncio.ensure_future(watch.wait() if use == "wait" else anext(watch))
        await asyncio.sleep(seconds)
        if use == "cancelled step":
            running.cancel()
            await asyncio.wait([running])
        closed_at = now()
        await session.close()
        assert now() == pytest.approx(closed_at, abs=0.01)
        assert_idle(session)
        if use != "cancelled step":
            with pytest.raises(SessionClosedError, match="was closed during this call"):
                await running
        with pytest.raises(SessionClosedError):
            await watch.wait()


async def wait_once(session: JobsSession) -> None:
    await session.wait_for_job("a")


async def iterate(session: JobsSession) -> None:
    async with session.watch_job("a", heartbeat=0.1) as watch:
        async for _ in watch:
            pass


async def wait_together(session: JobsSession) -> None:
    await session.wait_for_jobs(["a", "a", "a"])


async def look_up(session: JobsSession) -> None:
    while True:
        with contextlib.suppress(ServerError, TransportError):
            await session.get_jobs(["a", "a"])


FAULTS: dict[str, tuple[Any, ...]] = {
    "no faults": (),
    "failures": (500, "truncate", "reset", "garbage"),
    "rejections": (401, 429, 503, 401),
    "slow responses": ("hang", 503, "html"),
}


@contextlib.asynccontextmanager
async def cancellable_session(faults: str, poll_by: Any) -> AsyncIterator[JobsSession]:
    """Expect that the block is cancelled, and that this leaves nothing behind."""
    async with Simulator(latency=0.01) as simulator:
        session = JobsSession(
            credentials(simulator),
            base_url=simulator.url,
            rate_limit=1,
            request_timeout=5,
            poll_by=poll_by,
        )
        simulator.add_job("a", ["pending", "started", *["processing"] * 99, "success"])
        simulator.add_job("b", ["success"])
        path = "/v2/jobs" if poll_by == "list" else "/v2/jobs/a"
        simulator.add_faults(*FAULTS[faults], path=path)
        other = asyncio.create_task(session.wait_for_job("b"))
        with pytest.raises(asyncio.CancelledError):
            yield session
        assert (await other).status == "success"
        await asyncio.sleep(1.1)
        assert_idle(session)
        sent_at = now()
        await session.get_job("b")
        assert now() - sent_at < 1.1, "the slot of the cancelled request is free again"
        await session.close()
    assert other_tasks() == set()


@pytest.mark.looptime
class TestCancellation:
    @pytest.mark.parametrize("faults", FAULTS)
    @pytest.mark.parametrize(
        ("use", "poll_by", "points"),
        [
            (wait_once, "id", range(50)),
            (wait_once, "list", range(0, 50, 3)),
            (iterate, "id", range(0, 50, 3)),
        ],
        ids=["wait by id", "wait by list", "watch"],
    )
    async def test_wait_cancelled_at_any_await_leaves_nothing(
        self,
        caplog: pytest.LogCaptureFixture,
        faults: str,
        use: Use,
        poll_by: str,
        points: range,
    ) -> None:
        for point in points:
            async with cancellable_session(faults, poll_by) as session:
                await asyncio.ensure_future(InterruptAt(use(session), point))
        gc.collect()
        assert [record for record in caplog.records if record.name == "asyncio"] == []

    @pytest.mark.parametrize("faults", FAULTS)
    @pytest.mark.parametrize("poll_by", ["id", "list"])
    @pytest.mark.parametrize("use", [wait_together, look_up])
    async def test_many_calls_cancelled_at_any_moment_leave_nothing(
        self, caplog: pytest.LogCaptureFixture, faults: str, use: Use, poll_by: str
    ) -> None:
        for number in range(12):
            async with cancellable_session(faults, poll_by) as session:
                task = asyncio.ensure_future(use(session))
                asyncio.get_running_loop().call_later(number * 0.373, task.cancel)
                await task
        gc.collect()
        assert [record for record in caplog.records if record.name == "asyncio"] == []

    async def test_timeout_around_a_wait_raises_timeout_error(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        simulator.add_job("a", ["pending"])
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(5):
                await open_session().wait_for_job("a")
        assert type(caught.value) is TimeoutError

    async def test_task_group_cancels_the_other_waits(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        session = open_session()
        simulator.add_job("a", ["pending"])
        simulator.add_job("b", ["pending", "failed"])

        async def wait_for_both() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(session.wait_for_job("a"))
                group.create_task(session.wait_for_job("b"))

        with pytest.raises(ExceptionGroup) as caught:
            await wait_for_both()
        assert [type(error) for error in caught.value.exceptions] == [JobFailedError]
        assert_idle(session)

    @pytest.mark.parametrize("method", ["get_jobs", "wait_for_jobs"])
    async def test_failure_of_one_job_leaves_the_task_uncancelled(
        self, simulator: Simulator, open_session: OpenSession, method: str
    ) -> None:
        session = open_session()
        simulator.add_job("a", ["pending"])
        simulator.add_faults(403, path="/v2/jobs/b")
        simulator.add_faults("hang", path="/v2/jobs/a")
        task = asyncio.current_task()
        assert task is not None
        async with asyncio.timeout(10):
            with pytest.raises(Exception, match="403"):
                await getattr(session, method)(["a", "b"])
            await asyncio.sleep(1)
        assert task.cancelling() == 0
        assert_idle(session)

    @pytest.mark.parametrize("method", ["get_jobs", "wait_for_jobs"])
    async def test_second_cancellation_leaves_nothing(
        self, simulator: Simulator, open_session: OpenSession, method: str
    ) -> None:
        session = open_session()
        simulator.add_faults("hang", repeat=True)
        task = asyncio.create_task(getattr(session, method)(["a", "b", "c"]))
        await asyncio.sleep(1)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([task])
        await asyncio.sleep(0.001)
        assert task.cancelled()
        assert_idle(session)

    async def test_session_left_by_an_error_ends_its_waits(self) -> None:
        waits: list[asyncio.Task[Job]] = []

        async def leave_by_error() -> None:
            async with (
                Simulator() as simulator,
                JobsSession(simulator.token, base_url=simulator.url) as session,
            ):
                simulator.add_job("a", ["pending"])
                waits.append(asyncio.create_task(session.wait_for_job("a")))
                await asyncio.sleep(3)
                raise LookupError

        with pytest.raises(LookupError):
            await leave_by_error()
        assert waits[0].done()
        with pytest.raises(SessionClosedError, match="was closed"):
            await waits[0]
        assert other_tasks() == set()


class LateLimiter:
    """Limiter that ends its cancellation late, and with an exception."""

    def __init__(self) -> None:
        self.calls = 0

    async def acquire(self) -> None:
        self.calls += 1
        if self.calls > 4:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(1)
                raise LookupError("late") from None


@pytest.mark.looptime
class TestSharedPoll:
    @pytest.mark.parametrize("poll_by", ["id", "list"])
    @pytest.mark.parametrize("times", [1, 2, 3])
    async def test_waits_cancelled_again_while_their_poll_ends_leave_nothing(
        self, poll_by: Any, times: int
    ) -> None:
        reported: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        async with (
            Simulator() as simulator,
            JobsSession(
                simulator.token, base_url=simulator.url, poll_by=poll_by, rate_limit=LateLimiter()
            ) as session,
        ):
            simulator.add_job("a", ["pending"])
            waits = [asyncio.create_task(session.wait_for_job("a")) for _ in range(3)]
            await asyncio.sleep(20)
            for _ in range(times):
                for wait in waits:
                    wait.cancel()
                await asyncio.sleep(0.1)
            await asyncio.wait(waits)
            assert all(wait.cancelled() for wait in waits)
        gc.collect()
        assert reported == []
        assert other_tasks() == set()


@pytest.mark.no_cover  # coverage would multiply its time
class TestManyQueuedWaits:
    @pytest.mark.parametrize("end", ["close", "cancel"])
    @pytest.mark.parametrize(
        ("few", "factor"), [(1_000, 16), pytest.param(5_000, 12, marks=pytest.mark.fleet)]
    )
    async def test_ending_queued_waits_takes_linear_time(
        self, few: int, factor: float, end: str
    ) -> None:
        async def seconds_to_end(count: int) -> float:
            session = JobsSession("token", rate_limit=HangingLimiter())
            job_ids = [f"job-{number}" for number in range(count)]
            waits = [asyncio.create_task(session.wait_for_job(job_id)) for job_id in job_ids]
            await asyncio.sleep(0.1)
            assert session.stats().waits == count
            started_at = time.process_time()
            if end == "cancel":
                for wait in reversed(waits):
                    wait.cancel()
            else:
                await session.close()
            await asyncio.gather(*waits, return_exceptions=True)
            seconds = time.process_time() - started_at
            assert_idle(session)
            await session.close()
            return seconds

        gc.disable()  # a task keeps the frames of its exception, which costs the collector more
        try:
            fast = min([await seconds_to_end(few) for _ in range(3)])
            slow = min([await seconds_to_end(8 * few) for _ in range(2)])
        finally:
            gc.enable()
        print(f"{end}: {few} in {fast:.3f} s, {8 * few} in {slow:.3f} s, factor {slow / fast:.1f}")  # noqa: T201
        assert slow < factor * fast, "8 times as many: quadratic is 64 times as long"

    async def test_closing_leaves_no_cyclic_garbage(self) -> None:
        session = JobsSession("token", rate_limit=HangingLimiter())
        waits = [asyncio.create_task(session.wait_for_job(f"job-{n}")) for n in range(100)]
        await asyncio.sleep(0.1)
        gc.collect()
        gc.disable()  # a collection during the close would hide what it leaves
        try:
            await session.close()
            outcomes = await asyncio.gather(*waits, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {SessionClosedError}
            waits.clear()
            del outcomes
            assert gc.collect() < 100, "fewer objects than waits"
        finally:
            gc.enable()
