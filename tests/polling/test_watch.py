"""One wait against a scripted fetch, in virtual time."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

import attrs
import pytest

from moltin_jobs import (
    Job,
    JobNotFoundError,
    JobTimeoutError,
    Polling,
    ServerError,
    TransportError,
)
from moltin_jobs._polling.watch import watch

pytestmark = pytest.mark.looptime

EXACT = Polling(initial=1, factor=2, max_interval=8, jitter=0)
DOWN = TransportError("job a", "no route", "Wait.")


@attrs.define
class Service:
    """Answers with what ``script`` says for the moment; keeps when it was asked."""

    script: Callable[[float], str | Exception]
    latency: float = 0.0
    asked: list[float] = attrs.field(factory=list)

    async def fetch(self, _max_age: float, _last: bool) -> tuple[Job, float]:
        now = asyncio.get_running_loop().time()
        self.asked.append(round(now, 6))
        await asyncio.sleep(self.latency)
        answer = self.script(now)
        if isinstance(answer, Exception):
            raise answer
        return Job(id="a", status=answer), asyncio.get_running_loop().time()

    async def wait(self, polling: Polling = EXACT, timeout: float | None = None) -> list[str]:
        async with contextlib.aclosing(
            watch("a", contextlib.nullcontext(self.fetch), asyncio.sleep, polling, timeout)
        ) as changes:
            return [job.status async for job in changes]


def ends_at(moment: float, before: str = "started", after: str = "success") -> Service:
    return Service(lambda now: after if now >= moment else before)


async def test_a_job_that_has_ended_costs_one_request_at_once() -> None:
    service = ends_at(0)
    assert await service.wait() == ["success"]
    assert service.asked == [0]


async def test_intervals_grow_by_the_factor_up_to_the_longest() -> None:
    service = ends_at(30)
    assert await service.wait() == ["started", "success"]
    assert service.asked == [0, 1, 3, 7, 15, 23, 31]


async def test_an_interval_runs_from_the_answer_not_from_the_request() -> None:
    service = ends_at(5)
    service.latency = 0.5
    await service.wait()
    assert service.asked == [0, 1.5, 4, 8.5]


async def test_a_change_of_state_starts_the_intervals_again() -> None:
    states = {0: "pending", 7: "started", 13: "success"}
    service = Service(lambda now: next(s for t, s in reversed(states.items()) if now >= t))
    assert await service.wait() == ["pending", "started", "success"]
    assert service.asked == [0, 1, 3, 7, 8, 10, 14]


async def test_another_spelling_of_the_same_state_is_yielded_and_restarts_nothing() -> None:
    service = Service(
        lambda now: "success" if now >= 20 else "processing" if now >= 7 else "STARTED"
    )
    assert await service.wait() == ["STARTED", "processing", "success"]
    assert service.asked == [0, 1, 3, 7, 15, 23]


@pytest.mark.parametrize("status", ["FAILED", "cancelled", "complete"])
async def test_every_terminal_state_ends_it(status: str) -> None:
    assert await ends_at(1, "cancelling", status).wait() == ["cancelling", status]


async def test_an_unknown_status_is_polled_on() -> None:
    assert await ends_at(3, "dreaming").wait() == ["dreaming", "success"]


class TestDeadline:
    async def test_the_last_poll_is_a_tenth_of_the_timeout_before_the_end(self) -> None:
        service = ends_at(1.3)
        assert await service.wait(timeout=1.8) == ["started", "success"]
        assert service.asked == [0, 1, 1.62]

    async def test_the_last_poll_is_at_most_a_second_before_the_end(self) -> None:
        service = ends_at(98.5)
        assert await service.wait(Polling(initial=97, max_interval=97, jitter=0), 100)
        assert service.asked == [0, 97, 99]

    async def test_it_says_what_was_last_known(self) -> None:
        service = Service(lambda now: DOWN if 3 <= now < 7 else "started")
        with pytest.raises(JobTimeoutError) as caught:
            await service.wait(timeout=10)
        assert service.asked == [0, 1, 3, 7, 9]
        assert asyncio.get_running_loop().time() == 9
        error = caught.value
        assert (error.job_id, error.timeout, error.polls) == ("a", 10, 5)
        assert error.job == Job(id="a", status="started")
        assert error.last_error is DOWN
        assert error.__context__ is None

    async def test_a_fetch_that_hangs_is_ended_at_the_deadline(self) -> None:
        service = Service(lambda _: "started", latency=1e9)
        with pytest.raises(JobTimeoutError) as caught:
            await service.wait(timeout=5)
        assert asyncio.get_running_loop().time() == pytest.approx(5)
        assert (caught.value.job, caught.value.polls, caught.value.last_error) == (None, 1, None)

    async def test_a_poll_due_when_the_last_moment_has_passed_is_sent_at_once(self) -> None:
        service = ends_at(99, before="started")
        service.latency = 9.5
        with pytest.raises(JobTimeoutError):
            await service.wait(timeout=10)
        assert service.asked == [0, 9.5]
        assert asyncio.get_running_loop().time() == pytest.approx(10)

    async def test_time_that_the_consumer_takes_counts(self) -> None:
        service = ends_at(99)
        changes = watch("a", contextlib.nullcontext(service.fetch), asyncio.sleep, EXACT, 10)
        await anext(changes)
        await asyncio.sleep(11)
        with pytest.raises(JobTimeoutError):
            await anext(changes)
        assert service.asked == [0]

    async def test_a_slow_consumer_is_not_made_to_wait_again(self) -> None:
        service = ends_at(99)
        changes = watch("a", contextlib.nullcontext(service.fetch), asyncio.sleep, EXACT, None)
        await anext(changes)
        await asyncio.sleep(0.75)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(anext(changes), 0.5)
        assert service.asked == [0, 1]

    async def test_a_timeout_of_the_fetch_itself_is_not_the_deadline(self) -> None:
        mine = TimeoutError("mine")
        with pytest.raises(TimeoutError) as caught:
            await Service(lambda _: mine).wait(timeout=10)
        assert caught.value is mine

    async def test_a_callers_own_timeout_cancels_as_usual(self) -> None:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(4):
                await ends_at(99).wait(timeout=10)
        assert not isinstance(caught.value, JobTimeoutError)


class TestOutage:
    async def test_passing_causes_are_lived_through_one_request_an_interval(self) -> None:
        service = Service(lambda now: DOWN if 1 <= now < 200 else "success" if now else "started")
        assert await service.wait() == ["started", "success"]
        assert service.asked[:6] == [0, 1, 3, 7, 15, 23]
        assert len(service.asked) == 5 + (207 - 15) // 8

    async def test_it_ends_with_the_last_error_when_the_outage_is_over(self) -> None:
        errors = [ServerError(500, f"job a, number {number}") for number in range(99)]
        left = iter(errors)
        service = Service(lambda now: next(left) if now >= 3 else "started")
        with pytest.raises(ServerError) as caught:
            await service.wait(Polling(initial=1, factor=1, jitter=0, outage=10))
        assert service.asked == [*range(14)]
        assert caught.value is errors[10]

    async def test_it_takes_at_least_three_failures_in_a_row(self) -> None:
        service = Service(lambda _: DOWN)
        with pytest.raises(TransportError):
            await service.wait(Polling(initial=20, factor=1, jitter=0, outage=1))
        assert service.asked == [0, 20, 40]

    async def test_an_answer_between_begins_the_count_anew(self) -> None:
        service = Service(lambda now: "started" if now in (0, 9, 18) else DOWN)
        with pytest.raises(TransportError):
            await service.wait(Polling(initial=1, factor=1, jitter=0, outage=10))
        assert service.asked[-1] == 19 + 10

    async def test_none_means_that_no_outage_is_too_long(self) -> None:
        service = Service(lambda now: DOWN if now < 1e6 else "success")
        polling = Polling(initial=1000, max_interval=1000, factor=1, jitter=0, outage=None)
        assert await service.wait(polling) == ["success"]

    async def test_what_cannot_pass_ends_it_at_once_with_the_job_as_last_seen(self) -> None:
        service = Service(lambda now: JobNotFoundError("a") if now >= 3 else "started")
        with pytest.raises(JobNotFoundError) as caught:
            await service.wait()
        assert service.asked == [0, 1, 3]
        assert caught.value.job == Job(id="a", status="started")

    async def test_not_found_at_first_has_no_job(self) -> None:
        with pytest.raises(JobNotFoundError) as caught:
            await Service(lambda _: JobNotFoundError("a")).wait()
        assert caught.value.job is None


async def test_logs_a_poll_and_the_first_failure_of_a_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "moltin_jobs")
    await Service(lambda now: "success" if now >= 7 else DOWN if now else "started").wait()
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("DEBUG", "job a: started (poll 1)"),
        ("WARNING", f"the wait goes on after poll 2 failed (300 s of this would end it): {DOWN}"),
        ("DEBUG", f"the wait goes on after poll 3 failed (300 s of this would end it): {DOWN}"),
        ("DEBUG", "job a: success (poll 4)"),
    ]
    fields = ("job_id", "attempt", "job_status", "failures")
    assert [tuple(vars(record).get(name) for name in fields) for record in caplog.records] == [
        ("a", 1, "started", None),
        ("a", 2, None, 1),
        ("a", 3, None, 2),
        ("a", 4, "success", None),
    ]


async def test_does_not_tell_of_an_outage_that_the_timeout_forestalls(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(JobTimeoutError):
        await Service(lambda _: DOWN).wait(timeout=5)
    assert caplog.records[0].getMessage() == f"the wait goes on after poll 1 failed: {DOWN}"
