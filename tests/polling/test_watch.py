"""Waits for one job against a scripted source, in virtual time."""

import asyncio
import contextlib
import gc
import logging
import math
from collections.abc import Callable
from typing import Any

import pytest

from moltin_jobs import (
    Job,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobTimeoutError,
    JobWatch,
    NoResultsError,
    PermissionDeniedError,
    Polling,
    ServerError,
    SessionClosedError,
    TransportError,
)
from moltin_jobs._polling.sources import IdSource, Poll, Snapshot
from moltin_jobs._tasks.operations import Operation, Operations

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("task_factory")]

EXACT = Polling(initial_interval=1, multiplier=2, max_interval=8, jitter=0)
EVERY_SECOND = Polling(initial_interval=1, multiplier=1, jitter=0)
UNREACHABLE = TransportError("job a", "no route", "Wait.")
FORBIDDEN = PermissionDeniedError(403, "job a")


def now() -> float:
    return asyncio.get_running_loop().time()


class ScriptedSource(IdSource):
    """Source that responds as the script says for the moment of the poll."""

    def __init__(self, script: Callable[[float], str | Exception], latency: float = 0.0) -> None:
        self.operations = Operations()
        super().__init__(self.operations, self.fetch_nothing)
        self.script = script
        self.latency = latency
        self.registered: list[str] = []
        self.received: list[Poll] = []
        self.polled_at: list[float] = []
        self.cancelled = 0

    def add(self, job_id: str) -> None:
        self.registered.append(job_id)

    def remove(self, job_id: str) -> None:
        self.registered.remove(job_id)

    async def fetch_nothing(self, job_id: str, previous: Snapshot | None) -> Snapshot:
        raise NotImplementedError

    async def fetch(self, poll: Poll) -> Snapshot:
        self.received.append(poll)
        self.polled_at.append(round(now(), 6))
        result = self.script(now())
        try:
            with Operation(self.operations):
                await asyncio.sleep(self.latency)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(result, Exception):
            raise result
        return Snapshot(Job(id="a", status=result), now())

    def watch(self, polling: Polling = EXACT, **options: Any) -> JobWatch:
        return JobWatch("a", self, polling, **options)

    async def statuses(self, polling: Polling = EXACT, **options: Any) -> list[str]:
        """Iterate over a watch to its end."""
        return [job.status async for job in self.watch(polling, **options)]


def ends_at(moment: float, first: str = "started", last: str = "success") -> ScriptedSource:
    return ScriptedSource(lambda now: last if now >= moment else first)


def changes_at(changes: dict[float, str | Exception], latency: float = 0.0) -> ScriptedSource:
    return ScriptedSource(
        lambda now: next(
            changes[moment] for moment in sorted(changes, reverse=True) if now >= moment
        ),
        latency,
    )


async def next_within(watch: JobWatch, seconds: float) -> Job | None:
    """Return the next job, or ``None`` if the step was cancelled after so many seconds."""
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(anext(watch), seconds)
    return None


async def raised_by_next(watch: JobWatch) -> BaseException:
    task = asyncio.ensure_future(anext(watch))
    await asyncio.wait([task])
    error = task.exception()
    assert error is not None
    return error


async def finish(watch: JobWatch, use: str) -> None:
    if use == "wait":
        await watch.wait()
    else:
        async for _ in watch:
            pass


class TestSchedule:
    async def test_job_that_has_ended_costs_one_poll_at_once(self) -> None:
        source = ends_at(0)
        assert await source.statuses() == ["success"]
        assert source.polled_at == [0]

    async def test_intervals_grow_by_the_multiplier_up_to_the_longest(self) -> None:
        source = ends_at(30)
        assert await source.statuses() == ["started", "success"]
        assert source.polled_at == [0, 1, 3, 7, 15, 23, 31]

    async def test_intervals_below_a_second_are_kept(self) -> None:
        source = ends_at(0.7)
        await source.statuses(Polling(initial_interval=0.25, multiplier=1, jitter=0))
        assert source.polled_at == [0, 0.25, 0.5, 0.75]

    async def test_wait_polls_at_the_same_moments_as_an_iteration(self) -> None:
        source = ends_at(30)
        assert (await source.watch().wait()).status == "success"
        assert source.polled_at == [0, 1, 3, 7, 15, 23, 31]

    async def test_interval_begins_with_the_response(self) -> None:
        source = ends_at(5)
        source.latency = 0.5
        await source.statuses()
        assert source.polled_at == [0, 1.5, 4, 8.5]

    async def test_change_of_state_starts_the_intervals_again(self) -> None:
        source = changes_at({0: "pending", 7: "started", 13: "success"})
        assert await source.statuses() == ["pending", "started", "success"]
        assert source.polled_at == [0, 1, 3, 7, 8, 10, 14]

    async def test_other_spelling_of_a_state_is_yielded_and_keeps_the_intervals(self) -> None:
        source = changes_at({0: "STARTED", 7: "processing", 20: "success"})
        assert await source.statuses() == ["STARTED", "processing", "success"]
        assert source.polled_at == [0, 1, 3, 7, 15, 23]

    async def test_unknown_status_is_polled_again(self) -> None:
        assert await ends_at(3, "dreaming").statuses() == ["dreaming", "success"]

    async def test_slow_consumer_is_followed_by_a_poll_at_once(self) -> None:
        source = ends_at(99)
        watch = source.watch()
        await anext(watch)
        await asyncio.sleep(0.75)
        assert await next_within(watch, 0.5) is None
        assert source.polled_at == [0, 1]
        assert await next_within(watch, 10) is None
        assert source.polled_at == [0, 1, 3, 7]

    async def test_poll_gets_the_previous_snapshot_and_the_age_that_is_recent_enough(self) -> None:
        source = ends_at(7)
        await source.watch(timeout=60).wait()
        statuses = [poll.previous and poll.previous.job.status for poll in source.received]
        assert statuses == [None, "started", "started", "started"]
        assert [poll.fresh_after for poll in source.received] == [0, 0.5, 2, 5]
        assert {poll.job_id for poll in source.received} == {"a"}
        assert not any(poll.is_final for poll in source.received)


class TestEnd:
    @pytest.mark.parametrize("status", ["FAILED", "cancelled", "canceled", "complete", "published"])
    async def test_iteration_ends_with_any_terminal_status(self, status: str) -> None:
        source = ends_at(1, "cancelling", status)
        watch = source.watch()
        assert [job.status async for job in watch] == ["cancelling", status]
        with pytest.raises(StopAsyncIteration):
            await anext(watch)
        assert source.polled_at == [0, 1]

    @pytest.mark.parametrize(
        ("job", "error"),
        [
            (Job(id="a", status="failed", error="No disk"), JobFailedError),
            (Job(id="a", status="failed", error="No results matched: x"), NoResultsError),
            (Job(id="a", status="cancelled"), JobCancelledError),
        ],
        ids=["failed", "no results", "cancelled"],
    )
    async def test_wait_for_a_job_without_success_raises_its_failure(
        self, job: Job, error: type[JobFailedError]
    ) -> None:
        watch = ends_at(5).watch()
        watch.job = job
        with pytest.raises(JobFailedError) as caught:
            await watch.wait()
        assert type(caught.value) is error
        assert caught.value.job is job

    async def test_wait_after_the_iteration_returns_the_job_without_a_poll(self) -> None:
        source = ends_at(1)
        watch = source.watch()
        jobs = [job async for job in watch]
        assert await watch.wait() is jobs[-1]
        assert await watch.wait() is jobs[-1]
        assert source.polled_at == [0, 1]

    async def test_wait_after_the_iteration_over_a_failed_job_raises_each_time(self) -> None:
        watch = ends_at(1, last="failed").watch()
        assert [job.status async for job in watch] == ["started", "failed"]
        for _ in range(2):
            with pytest.raises(JobFailedError):
                await watch.wait()

    async def test_wait_within_an_iteration_continues_it(self) -> None:
        source = ends_at(7)
        watch = source.watch()
        await anext(watch)
        assert (await watch.wait()).status == "success"
        assert source.polled_at == [0, 1, 3, 7]

    async def test_iteration_after_a_wait_yields_the_last_job_only(self) -> None:
        source = ends_at(1)
        watch = source.watch()
        await watch.wait()
        assert [job.status async for job in watch] == ["success"]
        assert source.polled_at == [0, 1]

    async def test_break_leaves_an_iteration_that_can_continue(self) -> None:
        source = changes_at({0: "pending", 1: "started", 3: "success"})
        watch = source.watch()
        async for job in watch:
            if job.status == "started":
                break
        assert source.registered == []
        assert source.operations.tasks == set()
        assert not source.operations.running
        assert [job.status async for job in watch] == ["success"]

    async def test_watch_is_registered_only_while_a_step_or_a_wait_runs(self) -> None:
        source = ends_at(2)
        watch = source.watch(EVERY_SECOND)
        assert source.registered == []
        step = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        assert source.registered == ["a"]
        await step
        assert source.registered == []
        wait = asyncio.create_task(watch.wait())
        await asyncio.sleep(0.5)
        assert source.registered == ["a"]
        await wait
        assert source.registered == []


class TestConcurrentUse:
    async def test_second_step_at_the_same_time_raises_and_leaves_the_first(self) -> None:
        source = ends_at(1)
        source.latency = 1
        watch = source.watch()
        first = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        uses: list[Callable[[], Any]] = [watch.__anext__, watch.wait, watch.aclose]
        for use in uses:
            with pytest.raises(RuntimeError, match="in use by another task") as caught:
                await use()
            assert not isinstance(caught.value, SessionClosedError)
        assert (await first).status == "started"
        assert (await anext(watch)).status == "success"

    async def test_two_watches_of_one_job_are_independent(self) -> None:
        source = ends_at(3)
        first, second = source.watch(), source.watch(timeout=1)
        waits = [asyncio.create_task(watch.wait()) for watch in (first, second)]
        with pytest.raises(JobTimeoutError):
            await waits[1]
        assert (await waits[0]).status == "success"


class TestCancelledStep:
    async def test_poll_in_flight_is_kept_for_the_next_step(self) -> None:
        source = ends_at(0)
        source.latency = 10
        watch = source.watch()
        for _ in range(38):
            assert await next_within(watch, 0.25) is None
        assert (await anext(watch)).status == "success"
        assert now() == 10
        assert source.polled_at == [0]
        assert source.cancelled == 0
        assert (watch.polls, source.polls) == (1, 1)

    async def test_wait_takes_the_poll_in_flight_and_continues_until_the_end(self) -> None:
        source = changes_at({0: "started", 5: "success"}, latency=2)
        watch = source.watch()
        assert await next_within(watch, 1) is None
        assert (await watch.wait()).status == "success"

    async def test_poll_that_ends_between_two_steps_is_yielded_by_the_next(self) -> None:
        source = changes_at({0: "pending", 0.5: "success"}, latency=2)
        watch = source.watch()
        assert await next_within(watch, 1) is None
        await asyncio.sleep(5)
        assert (await anext(watch)).status == "pending"
        assert (await anext(watch)).status == "success"
        assert source.polled_at == [0, 6]

    async def test_poll_without_a_next_step_ends_by_itself(self) -> None:
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda *record: reported.append(record))
        source = ScriptedSource(lambda _: FORBIDDEN, latency=2)
        watch = source.watch()
        assert await next_within(watch, 1) is None
        assert len(source.operations.tasks) == 1
        assert source.registered == []
        await asyncio.sleep(2)
        assert source.operations.tasks == set()
        assert source.cancelled == 0
        del watch
        gc.collect()
        assert reported == []

    async def test_poll_that_fails_between_two_steps_fails_the_next(self) -> None:
        watch = ScriptedSource(lambda _: FORBIDDEN, latency=2).watch()
        assert await next_within(watch, 1) is None
        await asyncio.sleep(5)
        assert await raised_by_next(watch) is FORBIDDEN
        assert isinstance(await raised_by_next(watch), StopAsyncIteration)

    async def test_step_cancelled_between_two_polls_keeps_the_schedule(self) -> None:
        source = ends_at(7)
        watch = source.watch()
        await anext(watch)
        for _ in range(6):
            assert await next_within(watch, 1) is None
        assert (await anext(watch)).status == "success"
        assert source.polled_at == [0, 1, 3, 7]

    async def test_step_cancelled_as_its_poll_ends_loses_no_result(self) -> None:
        source = ends_at(0)
        source.latency = 3
        watch = source.watch()
        step = asyncio.ensure_future(anext(watch))
        asyncio.get_running_loop().call_at(3, step.cancel)
        await asyncio.wait([step])
        assert step.cancelled()
        assert (await anext(watch)).status == "success"
        assert source.polled_at == [0]

    async def test_wait_takes_the_poll_of_a_cancelled_step(self) -> None:
        source = ends_at(0)
        source.latency = 3
        watch = source.watch()
        assert await next_within(watch, 1) is None
        assert (await watch.wait()).status == "success"
        assert now() == 3
        assert source.polled_at == [0]

    async def test_cancelled_wait_keeps_the_poll_of_a_cancelled_step(self) -> None:
        source = ends_at(0)
        source.latency = 3
        watch = source.watch()
        assert await next_within(watch, 1) is None
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.wait(), 1)
        assert (await anext(watch)).status == "success"
        assert source.polled_at == [0]

    async def test_cancelled_wait_ends_its_poll_and_the_next_one_polls_at_once(self) -> None:
        source = ends_at(0)
        source.latency = 3
        watch = source.watch()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.wait(), 1)
        assert source.cancelled == 1
        assert source.registered == []
        assert watch.next_poll_at == 0
        await asyncio.sleep(5)
        assert (await anext(watch)).status == "success"
        assert source.polled_at == [0, 6]

    async def test_cancelled_last_poll_is_repeated_as_the_last_poll(self) -> None:
        source = ends_at(99)
        watch = source.watch(timeout=10)
        await anext(watch)
        source.latency = 0.5
        wait = asyncio.create_task(watch.wait())
        await asyncio.sleep(9.25)
        wait.cancel()
        await asyncio.wait([wait])
        with pytest.raises(JobTimeoutError):
            await watch.wait()
        assert [poll.is_final for poll in source.received[-3:]] == [False, True, True]
        assert source.polled_at[-2:] == [9, 9.25]

    async def test_cancellation_of_the_watching_task_is_not_absorbed(self) -> None:
        source = ends_at(99)
        task = asyncio.create_task(source.statuses())
        await asyncio.sleep(5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert source.registered == []


class TestClosedWatch:
    async def test_context_manager_cancels_the_poll_in_flight(self) -> None:
        source = ends_at(0)
        source.latency = 10
        async with source.watch() as watch:
            assert await next_within(watch, 1) is None
            assert len(source.operations.tasks) == 1
        assert now() == pytest.approx(1, abs=0.001)
        assert source.cancelled == 1
        assert source.operations.tasks == set()
        assert watch.next_poll_at is not None
        with pytest.raises(StopAsyncIteration):
            await anext(watch)

    async def test_context_manager_left_by_an_error_cancels_the_poll_in_flight(self) -> None:
        source = ends_at(0)
        source.latency = 10

        async def leave_by_error() -> None:
            async with source.watch() as watch:
                await next_within(watch, 1)
                raise LookupError

        with pytest.raises(LookupError):
            await leave_by_error()
        assert source.cancelled == 1

    async def test_aclose_of_a_poll_that_has_not_started_leaves_nothing(self) -> None:
        source = ends_at(0)
        source.latency = 10
        watch = source.watch()
        step = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        step.cancel()
        await asyncio.wait([step])
        await watch.aclose()
        source.operations.close()
        await asyncio.wait_for(source.operations.wait_until_idle(), 1)
        assert source.operations.tasks == set()

    async def test_aclose_of_a_watch_at_rest_ends_the_iteration(self) -> None:
        source = ends_at(99)
        fresh, begun = source.watch(), source.watch()
        await anext(begun)
        for watch in (fresh, begun):
            await watch.aclose()
            await watch.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(watch)
        assert source.polled_at == [0]

    async def test_aclose_after_a_poll_has_failed_raises_nothing(self) -> None:
        source = ScriptedSource(lambda _: FORBIDDEN, latency=2)
        async with source.watch() as watch:
            assert await next_within(watch, 1) is None
            await asyncio.sleep(5)


class TestHeartbeat:
    async def yielded(
        self, source: ScriptedSource, heartbeat: float, until: float
    ) -> list[tuple[float, str]]:
        """Return the moments and statuses of all items until a moment."""
        items: list[tuple[float, str]] = []
        watch = source.watch(heartbeat=heartbeat)
        with contextlib.suppress(TimeoutError, StopAsyncIteration):
            async with asyncio.timeout_at(until):
                while True:
                    status = (await anext(watch)).status
                    items.append((round(now(), 6), status))
        return items

    async def test_last_job_is_yielded_again_after_each_heartbeat_without_a_change(self) -> None:
        source = changes_at({0: "pending", 7: "started", 31: "success"})
        assert await self.yielded(source, 5, 99) == [
            *((moment, "pending") for moment in (0, 5)),
            *((moment, "started") for moment in (7, 12, 17, 22, 27, 32, 37)),
            (38, "success"),
        ]
        assert source.polled_at == [0, 1, 3, 7, 8, 10, 14, 22, 30, 38]

    async def test_nothing_is_yielded_before_the_first_response(self) -> None:
        source = changes_at({0: UNREACHABLE, 10: "success"})
        assert await self.yielded(source, 2, 99) == [(15, "success")]
        source = ends_at(0)
        source.latency = 20
        assert await self.yielded(source, 2, 99) == [(35, "success")]

    async def test_heartbeats_shorter_than_the_latency_throw_no_poll_away(self) -> None:
        source = changes_at({0: "pending", 1: "success"}, latency=10)
        items = await self.yielded(source, 0.25, 99)
        assert items[0] == (10, "pending")
        assert items[-1] == (21, "success")
        assert len(items) == 2 + 43
        assert source.polled_at == [0, 11]
        assert source.cancelled == 0

    async def test_heartbeat_counts_from_the_last_item_for_cancelled_steps(self) -> None:
        watch = ends_at(99).watch(heartbeat=5)
        await anext(watch)
        for _ in range(4):
            assert await next_within(watch, 1.1) is None
        assert (await anext(watch)).status == "started"
        assert now() == 5

    async def test_consumer_slower_than_the_heartbeat_still_sees_the_end(self) -> None:
        source = ends_at(30)
        source.latency = 0.1
        moments = []
        async for job in source.watch(heartbeat=5):
            moments.append((round(now(), 1), job.status))
            await asyncio.sleep(20)
        assert moments == [
            (0.1, "started"),
            (20.1, "started"),
            (40.1, "started"),
            (60.1, "success"),
        ]

    async def test_heartbeat_that_a_clock_cannot_represent_does_not_spin(self) -> None:
        source = ends_at(2, "pending")
        items = await self.yielded(source, 1 / 3, 99)
        assert len(items) == 10
        assert items[-1] == (3, "success")

    async def test_outage_does_not_stop_heartbeats(self) -> None:
        source = changes_at({0: "pending", 1: UNREACHABLE})
        assert await self.yielded(source, 10, 35) == [
            (moment, "pending") for moment in (0, 10, 20, 30)
        ]

    async def test_break_at_a_heartbeat_leaves_the_poll_to_end_by_itself(self) -> None:
        source = ends_at(99)
        watch = source.watch(heartbeat=2)
        await anext(watch)
        source.latency = 5
        await anext(watch)
        assert len(source.operations.tasks) == 1
        assert source.registered == []
        await asyncio.sleep(5)
        assert source.operations.tasks == set()


class TestAttributes:
    async def test_attributes_follow_the_wait(self) -> None:
        source = changes_at({0: "pending", 1: UNREACHABLE, 7: "started", 9: "success"}, latency=0.5)
        watch = source.watch(EVERY_SECOND)
        seen = []

        def see() -> None:
            error = watch.last_error and type(watch.last_error).__name__
            failures = (watch.failed_polls, watch.consecutive_failures, error)
            status = watch.job and watch.job.status
            seen.append((status, watch.polls, *failures, watch.next_poll_at))

        see()
        wait = asyncio.create_task(watch.wait())
        for moment in (0.1, 0.6, 1.6, 2.1, 3.6, 8.5, 99):
            asyncio.get_running_loop().call_at(moment, see)
        await wait
        await asyncio.sleep(99)
        error = "TransportError"
        assert watch.job_id == "a"
        assert seen == [
            (None, 0, 0, 0, None, 0),
            (None, 1, 0, 0, None, None),
            ("pending", 1, 0, 0, None, 1.5),
            ("pending", 2, 0, 0, None, None),
            ("pending", 2, 1, 1, error, 3),
            ("pending", 3, 2, 2, error, 4.5),
            ("started", 6, 4, 0, error, 9),
            ("success", 7, 4, 0, error, None),
        ]
        assert (source.polls, source.failed_polls) == (7, 4)

    async def test_next_poll_at_after_the_end_of_an_iteration_is_none(self) -> None:
        watch = ends_at(1).watch()
        moments = [watch.next_poll_at async for _ in watch]
        assert moments == [1, None]

    async def test_last_error_keeps_no_frames_alive(self) -> None:
        source = changes_at({0: ServerError(503, "job a"), 3: "success"})
        watch = source.watch()
        await watch.wait()
        assert isinstance(watch.last_error, ServerError)
        assert watch.last_error.__traceback__ is None
        assert watch.last_error.__context__ is None


class TestTimeout:
    async def test_last_poll_starts_a_tenth_of_the_timeout_before_the_deadline(self) -> None:
        source = ends_at(1.3)
        assert await source.statuses(timeout=1.8) == ["started", "success"]
        assert source.polled_at == [0, 1, 1.62]
        assert [poll.is_final for poll in source.received] == [False, False, True]

    async def test_last_poll_starts_at_most_a_second_before_the_deadline(self) -> None:
        source = ends_at(98.5)
        polling = Polling(initial_interval=97, max_interval=97, jitter=0)
        assert await source.statuses(polling, timeout=100) == ["started", "success"]
        assert source.polled_at == [0, 97, 99]

    async def test_last_poll_accepts_results_of_its_own_last_moments_only(self) -> None:
        source = ends_at(99)
        with pytest.raises(JobTimeoutError):
            await source.watch(timeout=10).wait()
        assert source.received[-1].is_final
        assert source.received[-1].fresh_after == pytest.approx(8.9)

    @pytest.mark.parametrize("use", ["wait", "iterate"])
    async def test_timeout_error_states_what_was_last_seen(self, use: str) -> None:
        source = changes_at({0: "started", 3: UNREACHABLE, 7: "started"})
        watch = source.watch(timeout=10)
        with pytest.raises(JobTimeoutError) as caught:
            await finish(watch, use)
        assert source.polled_at == [0, 1, 3, 7, 9]
        assert now() == 9
        error = caught.value
        assert (error.job_id, error.timeout, error.polls) == ("a", 10, 5)
        assert error.job == Job(id="a", status="started")
        assert error.last_error is UNREACHABLE
        assert error.__context__ is None

    async def test_last_poll_that_fails_raises_the_timeout_error(self) -> None:
        source = changes_at({0: "started", 9: UNREACHABLE})
        with pytest.raises(JobTimeoutError) as caught:
            await source.watch(timeout=10).wait()
        assert caught.value.last_error is UNREACHABLE
        assert caught.value.__context__ is None
        assert now() == 9

    async def test_last_poll_that_is_forbidden_raises_that_error(self) -> None:
        source = changes_at({0: "started", 9: FORBIDDEN})
        with pytest.raises(PermissionDeniedError):
            await source.watch(timeout=10).wait()

    async def test_poll_that_hangs_ends_at_the_deadline(self) -> None:
        source = ScriptedSource(lambda _: "started", latency=1e9)
        with pytest.raises(JobTimeoutError) as caught:
            await source.watch(timeout=5).wait()
        assert now() == 5
        assert (caught.value.job, caught.value.polls, caught.value.last_error) == (None, 1, None)
        assert caught.value.__context__ is None
        assert source.polled_at == [0]

    @pytest.mark.parametrize("seconds", [1, 99], ids=["cancelled step", "step"])
    async def test_poll_of_a_step_that_hangs_leaves_no_task_after_the_deadline(
        self, seconds: float
    ) -> None:
        source = ScriptedSource(lambda _: "started", latency=1e9)
        watch = source.watch(timeout=5)  # without a block that would end the poll
        with contextlib.suppress(JobTimeoutError):
            await next_within(watch, seconds)
        await asyncio.sleep(5)
        assert source.polled_at == [0]
        assert source.operations.tasks == set()
        assert source.cancelled == 1

    async def test_poll_that_returns_after_the_last_moment_is_followed_by_the_last(self) -> None:
        source = ends_at(99)
        source.latency = 9.5
        with pytest.raises(JobTimeoutError):
            await source.watch(timeout=10).wait()
        assert source.polled_at == [0, 9.5]
        assert now() == 10

    async def test_time_of_the_consumer_counts(self) -> None:
        source = ends_at(99)
        watch = source.watch(timeout=10)
        await anext(watch)
        await asyncio.sleep(11)
        assert isinstance(await raised_by_next(watch), JobTimeoutError)
        assert isinstance(await raised_by_next(watch), StopAsyncIteration)
        assert source.polled_at == [0]

    async def test_timeout_counts_from_the_creation_of_the_watch(self) -> None:
        source = ends_at(99)
        watch = source.watch(timeout=10)
        await asyncio.sleep(7.5)
        with pytest.raises(JobTimeoutError):
            await watch.wait()
        assert source.polled_at == [7.5, 8.5, 9]

    async def test_timeout_counts_from_started_at_if_that_is_given(self) -> None:
        source = ends_at(99)
        await asyncio.sleep(5)
        with pytest.raises(JobTimeoutError):
            await source.watch(timeout=10, started_at=3.0).wait()
        assert source.polled_at == [5, 6, 8, 12]

    async def test_wait_after_the_deadline_raises_without_a_poll(self) -> None:
        source = ends_at(99)
        watch = source.watch(timeout=10)
        for _ in range(2):
            with pytest.raises(JobTimeoutError):
                await watch.wait()
            await asyncio.sleep(5)
        assert source.polled_at == [0, 1, 3, 7, 9]

    async def test_timeout_of_a_foreign_callable_passes_through(self) -> None:
        foreign = TimeoutError("foreign")
        with pytest.raises(TimeoutError) as caught:
            await ScriptedSource(lambda _: foreign).watch(timeout=10).wait()
        assert caught.value is foreign

    @pytest.mark.parametrize("use", ["wait", "iterate"])
    async def test_timeout_around_a_wait_cancels_it(self, use: str) -> None:
        source = ends_at(99)
        watch = source.watch(timeout=10)
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(4):
                await finish(watch, use)
        assert type(caught.value) is TimeoutError
        assert now() == 4


class TestOutage:
    async def test_retryable_failures_are_followed_by_one_poll_an_interval(self) -> None:
        source = changes_at({0: "started", 1: UNREACHABLE, 200: "success"})
        assert await source.statuses() == ["started", "success"]
        assert source.polled_at[:6] == [0, 1, 3, 7, 15, 23]
        assert len(source.polled_at) == 5 + (207 - 15) // 8

    async def test_outage_of_max_outage_seconds_raises_the_last_error(self) -> None:
        errors = [ServerError(500, f"job a, number {number}") for number in range(99)]
        remaining = iter(errors)
        source = ScriptedSource(lambda now: next(remaining) if now >= 3 else "started")
        polling = Polling(initial_interval=1, multiplier=1, jitter=0, max_outage=10)
        with pytest.raises(ServerError) as caught:
            await source.statuses(polling)
        assert source.polled_at == [*range(14)]
        assert caught.value is errors[10]
        assert caught.value.__context__ is None

    @pytest.mark.parametrize("seen", [True, False])
    async def test_404_of_a_gateway_is_a_failed_poll_once_the_job_was_seen(
        self, seen: bool
    ) -> None:
        error = JobNotFoundError(404, "job a", from_gateway=True)
        source = changes_at({0: "started" if seen else error, 1: error, 5: "success"})
        if seen:
            assert await source.statuses() == ["started", "success"]
        else:
            with pytest.raises(JobNotFoundError):
                await source.statuses()
            assert source.polled_at == [0]

    async def test_outage_takes_at_least_three_failures_in_a_row(self) -> None:
        source = ScriptedSource(lambda _: UNREACHABLE)
        polling = Polling(initial_interval=20, multiplier=1, jitter=0, max_outage=1)
        with pytest.raises(TransportError):
            await source.statuses(polling)
        assert source.polled_at == [0, 20, 40]

    async def test_success_between_failures_begins_the_outage_anew(self) -> None:
        source = ScriptedSource(lambda now: "started" if now in (0, 9, 18) else UNREACHABLE)
        polling = Polling(initial_interval=1, multiplier=1, jitter=0, max_outage=10)
        with pytest.raises(TransportError):
            await source.statuses(polling)
        assert source.polled_at[-1] == 19 + 10

    async def test_max_outage_of_none_accepts_any_outage(self) -> None:
        source = changes_at({0: UNREACHABLE, 1e6: "success"})
        polling = Polling(
            initial_interval=1000, max_interval=1000, multiplier=1, jitter=0, max_outage=None
        )
        assert await source.statuses(polling) == ["success"]

    async def test_retry_after_of_a_503_is_the_shortest_next_interval(self) -> None:
        def unavailable(retry_after: float) -> ServerError:
            return ServerError(503, "job a", retry_after=retry_after)

        source = changes_at(
            {
                0: "started",
                1: unavailable(10),
                11: unavailable(0.1),
                15: unavailable(9e9),
                16: "success",
            }
        )
        await source.statuses()
        assert source.polled_at == [0, 1, 11, 15, 135]

    async def test_error_that_is_not_retryable_ends_the_wait_at_once_with_the_last_job(
        self,
    ) -> None:
        source = changes_at({0: "started", 3: JobNotFoundError(404, "job a")})
        watch = source.watch()
        with pytest.raises(JobNotFoundError) as caught:
            await watch.wait()
        assert source.polled_at == [0, 1, 3]
        assert caught.value.job == Job(id="a", status="started")
        assert caught.value.__context__ is None
        assert (watch.failed_polls, watch.last_error, watch.next_poll_at) == (1, None, None)

    async def test_not_found_at_the_first_poll_has_no_job(self) -> None:
        with pytest.raises(JobNotFoundError) as caught:
            await ScriptedSource(lambda _: JobNotFoundError(404, "job a")).watch().wait()
        assert caught.value.job is None

    async def test_iteration_after_an_error_has_ended(self) -> None:
        source = ScriptedSource(lambda _: FORBIDDEN)
        watch = source.watch()
        assert await raised_by_next(watch) is FORBIDDEN
        assert [job async for job in watch] == []
        assert source.polled_at == [0]
        assert source.registered == []

    async def test_wait_after_an_error_polls_again(self) -> None:
        source = changes_at({0: FORBIDDEN, 5: "success"})
        watch = source.watch()
        assert await raised_by_next(watch) is FORBIDDEN
        await asyncio.sleep(6)
        assert (await watch.wait()).status == "success"
        assert source.polled_at == [0, 6]

    async def test_iteration_after_a_failed_wait_polls_again(self) -> None:
        source = changes_at({0: FORBIDDEN, 5: "success"})
        watch = source.watch()
        with pytest.raises(PermissionDeniedError):
            await watch.wait()
        await asyncio.sleep(6)
        assert [job.status async for job in watch] == ["success"]
        assert source.polled_at == [0, 6]


class TestClosedSession:
    @pytest.mark.parametrize(
        ("latency", "use"),
        [
            (0, "wait"),
            (10, "wait"),
            (0, "step"),
            (10, "step"),
            (10, "step again"),
            (10, "wait after step"),
        ],
    )
    async def test_closing_ends_a_running_wait(self, latency: float, use: str) -> None:
        source = ends_at(99)
        watch = source.watch(heartbeat=60)
        if not latency:
            await anext(watch)
        source.latency = latency
        if use in ("step again", "wait after step"):
            await next_within(watch, 1)
        running = asyncio.ensure_future(watch.wait() if "wait" in use else anext(watch))
        await asyncio.sleep(0.5)
        ended_at = now()
        source.operations.close()
        await source.operations.wait_until_idle()
        with pytest.raises(SessionClosedError, match="was closed during this call") as caught:
            await running
        assert caught.value.__context__ is None
        assert now() == ended_at
        assert source.registered == []
        assert source.operations.tasks == set()
        if "wait" not in use:
            assert isinstance(await raised_by_next(watch), StopAsyncIteration)
        with pytest.raises(SessionClosedError):
            await watch.wait()

    async def test_closing_ends_the_poll_of_a_cancelled_step(self) -> None:
        source = ends_at(99)
        source.latency = 10
        watch = source.watch()
        assert await next_within(watch, 1) is None
        source.operations.close()
        await source.operations.wait_until_idle()
        assert now() == pytest.approx(1, abs=0.001)
        assert source.operations.tasks == set()
        assert isinstance(await raised_by_next(watch), SessionClosedError)
        assert isinstance(await raised_by_next(watch), StopAsyncIteration)

    async def test_closing_does_not_wait_for_the_body_of_an_iteration(self) -> None:
        source = ends_at(99)
        watch = source.watch()

        async def close_in_body() -> None:
            async for _ in watch:
                source.operations.close()
                await source.operations.wait_until_idle()

        with pytest.raises(SessionClosedError, match="is closed"):
            await close_in_body()
        assert now() == 0
        assert isinstance(await raised_by_next(watch), StopAsyncIteration)

    async def test_closed_session_creates_no_watch(self) -> None:
        source = ends_at(99)
        source.operations.close()
        with pytest.raises(SessionClosedError):
            source.watch()

    async def test_iteration_that_ended_before_the_closing_stays_ended(self) -> None:
        source = ends_at(0)
        watch = source.watch()
        assert len([job async for job in watch]) == 1
        source.operations.close()
        assert [job async for job in watch] == []


class TestLog:
    async def test_log_has_each_success_and_each_failure_of_an_outage(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "moltin_jobs")
        await changes_at({0: "started", 1: UNREACHABLE, 7: "success"}).statuses()
        messages = [(record.levelname, record.getMessage()) for record in caplog.records]
        limit = "(giving up after 300 s of failures)"
        assert messages == [
            ("DEBUG", "job a: started (poll 1)"),
            ("WARNING", f"poll 2 failed, retrying in 2.0 s {limit}: {UNREACHABLE}"),
            ("DEBUG", f"poll 3 failed, retrying in 4.0 s {limit}: {UNREACHABLE}"),
            ("DEBUG", "job a: success (poll 4)"),
        ]
        assert {record.name for record in caplog.records} == {"moltin_jobs.polling"}
        fields = ("job_id", "attempt", "job_status", "consecutive_failures", "error", "retry_in")
        assert [tuple(vars(record).get(name) for name in fields) for record in caplog.records] == [
            ("a", 1, "started", None, None, 1),
            ("a", 2, None, 1, "TransportError", 2),
            ("a", 3, None, 2, "TransportError", 4),
            ("a", 4, "success", None, None, None),
        ]

    async def test_log_of_a_failure_that_ends_the_wait_announces_no_retry(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "moltin_jobs")
        with pytest.raises(PermissionDeniedError):
            await ScriptedSource(lambda _: FORBIDDEN).watch().wait()
        (record,) = caplog.records
        assert record.levelname == "DEBUG"
        assert record.getMessage() == f"poll 1 failed, giving up: {FORBIDDEN}"
        assert not hasattr(record, "retry_in")

    @pytest.mark.parametrize(
        ("timeout", "max_outage"), [(5, 300), (300, 300), (5, None), (math.inf, None)]
    )
    async def test_log_omits_a_max_outage_that_cannot_be_reached(
        self, caplog: pytest.LogCaptureFixture, timeout: float, max_outage: float | None
    ) -> None:
        polling = Polling(initial_interval=1, jitter=0, max_outage=max_outage)
        source = changes_at({0: UNREACHABLE, 1: "success"})
        await source.watch(polling, timeout=timeout).wait()
        (record,) = caplog.records
        assert record.getMessage() == f"poll 1 failed, retrying in 1.0 s: {UNREACHABLE}"
