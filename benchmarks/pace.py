"""Number of polls against detection lag, for several schedules. A simulation without network.

The lag is the time from the end of a job to the poll that detects it.
"""

import functools
import heapq
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterator

import backoff

from benchmarks.table import print_table
from moltin_jobs import Polling
from moltin_jobs._polling.intervals import polling_interval

Schedule = Callable[[], Iterator[float]]
"""Returns the intervals of one wait in seconds."""

JOBS = 3000
RATE_LIMIT = 20
JOB_COUNTS = (10, 30, 100, 300, 1000, 3000)
OURS = "`Polling()`"
COMPARED = (OURS, "fixed 5 s", "exponential, doubling, to 60 s")


def default_polling() -> Iterator[float]:
    return map(functools.partial(polling_interval, Polling()), itertools.count())


def fixed(seconds: float) -> Schedule:
    return lambda: itertools.repeat(seconds)


def exponential() -> Iterator[float]:
    intervals = backoff.expo(max_value=60)
    next(intervals)  # the first value is for the decorators
    return intervals


def full_jitter() -> Iterator[float]:
    return map(backoff.full_jitter, exponential())


SCHEDULES: dict[str, Schedule] = {
    OURS: default_polling,
    "fixed 2 s": fixed(2),
    "fixed 5 s": fixed(5),
    "fixed 15 s": fixed(15),
    "fixed 30 s": fixed(30),
    "backoff's full jitter, to 60 s": full_jitter,
    "exponential, doubling, to 60 s": exponential,
}


def job_durations(count: int) -> list[float]:
    """Return log-uniform durations from a second to an hour."""
    generator = random.Random(1)
    return [math.exp(generator.uniform(0, math.log(3600))) for _ in range(count)]


def simulate_wait(schedule: Schedule, duration: float) -> tuple[int, float]:
    """Return the number of polls of one wait, whose first poll is at 0, and its lag."""
    now, polls = 0.0, 1
    for interval in schedule():
        if now >= duration:
            break
        now += interval
        polls += 1
    return polls, now - duration


def simulate_waits(schedule: Schedule) -> list[tuple[int, float, float]]:
    """Return the number of polls, the lag and the duration of each job."""
    return [(*simulate_wait(schedule, duration), duration) for duration in job_durations(JOBS)]


def mean_lag_under_rate_limit(schedule: Schedule, jobs: int) -> float:
    """Return the mean lag of concurrent waits, whose polls queue for one rate limit."""
    due = [(0.0, number, length, schedule()) for number, length in enumerate(job_durations(jobs))]
    next_slot_at, lags = 0.0, []
    while due:
        due_at, number, duration, intervals = heapq.heappop(due)
        sent_at = max(due_at, next_slot_at)
        next_slot_at = sent_at + 1 / RATE_LIMIT
        if sent_at >= duration:
            lags.append(sent_at - duration)
        else:
            heapq.heappush(due, (sent_at + next(intervals), number, duration, intervals))
    return statistics.fmean(lags)


def run(*, full: bool) -> None:
    random.seed(2)
    rows = []
    for name, schedule in SCHEDULES.items():
        waits = simulate_waits(schedule)
        rows.append(
            (
                name,
                f"{statistics.fmean(polls for polls, _, _ in waits):.0f}",
                f"{statistics.median(lag for _, lag, _ in waits):.1f} s",
                f"{statistics.fmean(lag / duration for _, lag, duration in waits):.2f}",
                f"{max(lag for _, lag, _ in waits):.0f} s",
            )
        )
    print_table(
        f"{JOBS} jobs of log-uniform duration from 1 s to 1 h:",
        ("schedule", "mean polls", "median lag", "mean lag ÷ duration", "longest lag"),
        rows,
    )

    job_counts = JOB_COUNTS if full else (10, 100, 1000, 3000)
    rows_by_count = []
    for count in job_counts:
        lags = [mean_lag_under_rate_limit(SCHEDULES[name], count) for name in COMPARED]
        rows_by_count.append((count, *(f"{lag:.1f} s" for lag in lags)))
    print_table(
        f"Mean lag of concurrent waits, at {RATE_LIMIT} requests a second:",
        ("jobs", *COMPARED),
        rows_by_count,
    )
