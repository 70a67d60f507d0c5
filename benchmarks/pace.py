"""Polls spent against detection lag: nothing but arithmetic, so it takes no network."""

import heapq
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterator

import backoff

from benchmarks.table import show
from moltin_jobs import Polling

Schedule = Callable[[], Iterator[float]]

JOBS = 3000
RATE = 20
COUNTS = (10, 30, 100, 300, 1000, 3000)
CHOSEN = ("`Polling()`", "fixed 5 s", "exponential, doubling, to 60 s")


def fixed(seconds: float) -> Schedule:
    return lambda: itertools.repeat(seconds)


def exponential() -> Iterator[float]:
    waits = backoff.expo(max_value=60)
    next(waits)
    return waits


def full_jitter() -> Iterator[float]:
    return map(backoff.full_jitter, exponential())


SCHEDULES: dict[str, Schedule] = {
    "`Polling()`": lambda: Polling().intervals(),
    "fixed 2 s": fixed(2),
    "fixed 5 s": fixed(5),
    "fixed 15 s": fixed(15),
    "fixed 30 s": fixed(30),
    "backoff's full jitter, to 60 s": full_jitter,
    "exponential, doubling, to 60 s": exponential,
}


def lengths(count: int) -> list[float]:
    """Log-uniform from a second to an hour."""
    chance = random.Random(1)
    return [math.exp(chance.uniform(0, math.log(3600))) for _ in range(count)]


def wait(schedule: Schedule, length: float) -> tuple[int, float]:
    """The polls that one wait takes, the first at once, and how late it sees the end."""
    now, polls = 0.0, 1
    for interval in schedule():
        if now >= length:
            break
        now += interval
        polls += 1
    return polls, now - length


def waits_by(schedule: Schedule) -> list[tuple[int, float, float]]:
    """Polls, lag and length of each of the jobs."""
    return [(*wait(schedule, length), length) for length in lengths(JOBS)]


def mean_lag_under_a_limit(schedule: Schedule, jobs: int) -> float:
    """Many waits at once, whose polls queue for the requests of one store."""
    due = [(0.0, number, length, schedule()) for number, length in enumerate(lengths(jobs))]
    free_at, lags = 0.0, []
    while due:
        moment, number, length, intervals = heapq.heappop(due)
        sent_at = max(moment, free_at)
        free_at = sent_at + 1 / RATE
        if sent_at >= length:
            lags.append(sent_at - length)
        else:
            heapq.heappush(due, (sent_at + next(intervals), number, length, intervals))
    return statistics.fmean(lags)


def run(*, full: bool) -> None:
    random.seed(2)
    rows = []
    for name, schedule in SCHEDULES.items():
        waits = waits_by(schedule)
        rows.append(
            (
                name,
                f"{statistics.fmean(polls for polls, _, _ in waits):.0f}",
                f"{statistics.median(lag for _, lag, _ in waits):.1f} s",
                f"{statistics.fmean(lag / length for _, lag, length in waits):.2f}",
                f"{max(lag for _, lag, _ in waits):.0f} s",
            )
        )
    title = f"Jobs of log-uniform length from 1 s to 1 h, {JOBS} of them:"
    show(title, ("schedule", "polls", "lag", "lag ÷ length", "worst lag"), rows)

    counts = COUNTS if full else (10, 100, 1000, 3000)
    show(
        f"Mean lag of many such jobs at once, at {RATE} requests a second:",
        ("jobs", *CHOSEN),
        [
            (count, *(f"{mean_lag_under_a_limit(SCHEDULES[name], count):.1f} s" for name in CHOSEN))
            for count in counts
        ],
    )
