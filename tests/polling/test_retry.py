"""Retries of a request, in virtual time."""

import asyncio
import logging
from collections.abc import Callable

import attrs
import pytest

from moltin_jobs import (
    ConfigurationError,
    InvalidResponseError,
    MoltinJobsError,
    PermissionDeniedError,
    RateLimitError,
    Retry,
    ServerError,
    SessionClosedError,
    TransportError,
)
from moltin_jobs._polling.retry import RecentJobs, Retrier, requested_interval
from moltin_jobs._tasks.operations import Deadline, Operations

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("task_factory")]

UNAVAILABLE = ServerError(503, "job a", job_id="a")


def now() -> float:
    return asyncio.get_running_loop().time()


@attrs.define
class Attempts:
    """Fail with each of the errors, then return."""

    errors: list[Exception]
    started_at: list[float] = attrs.field(factory=list)

    async def __call__(self, *arguments: object) -> object:
        self.started_at.append(now())
        if self.errors:
            raise self.errors.pop(0)
        return arguments

    @property
    def intervals(self) -> list[float]:
        pairs = zip(self.started_at, self.started_at[1:], strict=False)
        return [later - earlier for earlier, later in pairs]


@pytest.fixture
def operations() -> Operations:
    return Operations()


@pytest.fixture
def retrier(operations: Operations) -> Retrier:
    return Retrier(operations, Retry(max_attempts=3, initial_interval=2, max_interval=100))


async def test_call_that_succeeds_is_made_once_with_its_arguments(
    retrier: Retrier, operations: Operations
) -> None:
    attempts = Attempts([])
    assert await retrier.run(attempts, "a", 5) == ("a", 5)
    assert attempts.started_at == [0]
    assert not operations.running


@pytest.mark.parametrize(
    "error",
    [
        UNAVAILABLE,
        RateLimitError(429, "job a"),
        RateLimitError(429, "job a", retry_after=120),
        TransportError("job a", "no route", "Wait."),
        InvalidResponseError("job a", "not JSON", status=200),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_retryable_error_is_followed_by_another_attempt(
    retrier: Retrier, error: MoltinJobsError
) -> None:
    attempts = Attempts([error, error])
    await retrier.run(attempts)
    first, second = attempts.intervals
    assert 1 <= first <= 2
    assert 2 <= second <= 4


async def test_last_attempt_raises_its_error(retrier: Retrier, operations: Operations) -> None:
    errors = [ServerError(500, f"attempt {number}") for number in range(5)]
    attempts = Attempts(list[Exception](errors))
    with pytest.raises(ServerError) as caught:
        await retrier.run(attempts)
    assert caught.value is errors[2]
    assert caught.value.__context__ is None
    assert len(attempts.started_at) == 3
    assert not operations.running


async def test_max_attempts_of_one_means_no_retry(operations: Operations) -> None:
    attempts = Attempts([UNAVAILABLE])
    with pytest.raises(ServerError):
        await Retrier(operations, Retry(max_attempts=1)).run(attempts)
    assert attempts.started_at == [0]


@pytest.mark.parametrize(
    "error",
    [
        PermissionDeniedError(403, "job a"),
        ConfigurationError("auth must be a token"),
        SessionClosedError(),
        RateLimitError(429, "job a", retry_after=120.5),
        LookupError("of an auth callable"),
        TimeoutError("of an auth callable"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_other_error_is_raised_at_once(retrier: Retrier, error: Exception) -> None:
    attempts = Attempts([error])
    with pytest.raises(type(error)) as caught:
        await retrier.run(attempts)
    assert caught.value is error
    assert attempts.started_at == [0]


@pytest.mark.parametrize(
    ("retry_after", "interval"),
    [(None, 2), (0, 2), (0.5, 2), (30, 30), (120, 120), (121, 120), (1e9, 120)],
)
async def test_retry_after_of_a_503_is_the_shortest_interval_up_to_two_minutes(
    retrier: Retrier, retry_after: float | None, interval: float
) -> None:
    attempts = Attempts([ServerError(503, "job a", retry_after=retry_after)])
    await retrier.run(attempts)
    assert interval / 2 <= attempts.intervals[0] <= interval
    if interval > 2:
        assert attempts.intervals == [interval]


async def test_retry_after_of_a_429_is_left_to_the_cooldown(retrier: Retrier) -> None:
    attempts = Attempts([RateLimitError(429, "job a", retry_after=100)])
    await retrier.run(attempts)
    assert attempts.intervals[0] <= 2


@pytest.mark.parametrize(("deadline", "started_at"), [(20, [0]), (50, [0]), (51, [0, 50])])
async def test_deadline_between_two_attempts_ends_the_retries(
    retrier: Retrier, operations: Operations, deadline: float, started_at: list[float]
) -> None:
    attempts = Attempts([ServerError(503, "job a", retry_after=50)] * 2)
    with (
        pytest.raises(LookupError) as caught,
        Deadline(operations, deadline, make_error=LookupError),
    ):
        await retrier.run(attempts)
    assert caught.value.__context__ is None
    assert now() == deadline
    assert attempts.started_at == started_at
    assert not operations.running


def close(operations: Operations, _: asyncio.Task[object]) -> None:
    operations.close()


def cancel(_: Operations, task: asyncio.Task[object]) -> None:
    task.cancel()


@pytest.mark.parametrize(
    ("end", "expected"), [(close, SessionClosedError), (cancel, asyncio.CancelledError)]
)
async def test_call_that_is_ended_between_two_attempts_leaves_nothing(
    retrier: Retrier,
    operations: Operations,
    end: Callable[[Operations, asyncio.Task[object]], None],
    expected: type[BaseException],
) -> None:
    attempts = Attempts([ServerError(503, "job a", retry_after=50)])
    task = asyncio.create_task(retrier.run(attempts))
    asyncio.get_running_loop().call_at(10, end, operations, task)
    with pytest.raises(expected):
        await task
    assert now() == 10
    assert not operations.running
    assert attempts.started_at == [0]


async def test_each_retry_is_logged_with_its_attempt_and_interval(
    retrier: Retrier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "moltin_jobs")
    attempts = Attempts([UNAVAILABLE, UNAVAILABLE])
    await retrier.run(attempts)
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "moltin_jobs.polling",
            "WARNING",
            f"attempt {number} failed, retrying in {interval:.1f} s: {UNAVAILABLE}",
        )
        for number, interval in enumerate(attempts.intervals, 1)
    ]
    for number, (record, interval) in enumerate(
        zip(caplog.records, attempts.intervals, strict=True), 1
    ):
        fields = vars(record)
        assert (fields["job_id"], fields["attempt"], fields["error"]) == (
            "a",
            number,
            "ServerError",
        )
        assert fields["retry_in"] == pytest.approx(interval, abs=1e-5)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (TransportError("job a", "no response", "Try again later."), 0),
        (RateLimitError(429, "job a", retry_after=5.0), 0),
        (ServerError(503, "job a"), 0),
        (ServerError(503, "job a", retry_after=5.0), 5),
        (ServerError(503, "job a", retry_after=900.0), 120),
    ],
    ids=["transport", "rate-limit", "none", "short", "long"],
)
def test_requested_interval_is_that_of_a_response_other_than_429(
    error: MoltinJobsError, seconds: float
) -> None:
    assert requested_interval(error) == seconds


def test_recent_jobs_are_forgotten_after_ten_seconds_and_stay_known() -> None:
    jobs = RecentJobs()
    jobs.add("a", 0)
    assert jobs.contains("a", 9.9)
    assert not jobs.contains("a", 10)
    jobs.add("a", 20)
    assert not jobs.contains("a", 21), "it is not new"
    assert not jobs.contains("b", 0)


def test_recent_jobs_take_bounded_memory() -> None:
    jobs = RecentJobs()
    for number in range(100_001):
        jobs.add(f"job-{number}", 0)
    assert not jobs.contains("job-0", 0)
    assert jobs.contains("job-100000", 0)
