"""Lag behind the ends of jobs, and the requests for it, of three ways to poll. In virtual time.

The jobs run one at a time, and requests take no time. Polls by id, and by a list at blind
intervals, are models. The second is that of the first version of this client. The aimed polls are
those of `poll_by="list"`: the code of this client, without a network.
"""

import asyncio
import functools
import heapq
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import looptime

from benchmarks.store import CLOCK_ERROR, LENGTHS, Store
from benchmarks.table import print_table
from moltin_jobs import JobWatch, Polling
from moltin_jobs._polling.intervals import polling_interval
from moltin_jobs._polling.queue_source import QueueSource
from moltin_jobs._tasks.operations import Operation, Operations

RATE_LIMIT = 20
FAST = Polling(initial_interval=2, max_interval=2)
SLOW = Polling(initial_interval=2, max_interval=20)
JOB_COUNTS = (1, 2, 10, 100)
CONDITIONS: dict[str, dict[str, Any]] = {
    "": {},
    "jobs overtake": {"overtaking": True},
    "clock 30 s fast": {"clock_error": CLOCK_ERROR},
    "clock 30 s slow": {"clock_error": -CLOCK_ERROR},
}
GOALS = {id(FAST): (0.6, 1.0), id(SLOW): (1.0, 0.5)}
"""Largest ratios of the lag and of the lists to those of the blind list, for 1,000 jobs."""
GOAL_WITH_A_CONDITION = 1.05
"""Largest ratio of the lag, and of all requests."""


@attrs.frozen
class Result:
    """Lag of each wait in seconds, and the requests of all."""

    lags: Sequence[float]
    lists: int
    polls_by_id: int

    @property
    def mean_lag(self) -> float:
        return statistics.fmean(self.lags)

    @property
    def requests(self) -> int:
        return self.lists + self.polls_by_id


Wait = Callable[[Store, Polling], Result]
"""Waits for all jobs of a store."""


class Waits:
    """Waits of a model, whose polls a `Polling` plans."""

    def __init__(self, store: Store, polling: Polling) -> None:
        self._store, self._polling = store, polling
        self._due = [(0.0, job_id) for job_id in store.ids]
        self._numbers = dict.fromkeys(store.ids, 0)
        self._states = dict.fromkeys(store.ids, -1)
        self.intervals = dict.fromkeys(store.ids, polling.initial_interval)
        self.lags: list[float] = []

    def polls(self) -> Iterable[tuple[float, str]]:
        """Yield the moment of each poll and its job, until all jobs have ended."""
        while self._due:
            yield heapq.heappop(self._due)

    def handle(self, job_id: str, now: float, received_at: float) -> None:
        """Handle the state of a job at ``received_at``, seen at ``now``."""
        start, end = self._store.starts[job_id], self._store.ends[job_id]
        if received_at >= end:
            self.lags.append(now - end)
            return
        state = int(received_at >= start)
        if state != self._states[job_id]:
            self._numbers[job_id] = 0 if self._states[job_id] >= 0 else self._numbers[job_id]
            self._states[job_id] = state
        interval = polling_interval(self._polling, self._numbers[job_id])
        self._numbers[job_id] += 1
        self.intervals[job_id] = interval
        heapq.heappush(self._due, (max(received_at + interval, now), job_id))


def poll_by_id(store: Store, polling: Polling) -> Result:
    """Poll each job by its id. The polls queue for the rate limit."""
    waits, polls, next_slot_at = Waits(store, polling), 0, 0.0
    for due_at, job_id in waits.polls():
        now = max(due_at, next_slot_at)
        next_slot_at = now + 1 / RATE_LIMIT
        polls += 1
        waits.handle(job_id, now, now)
    return Result(waits.lags, 0, polls)


def poll_by_blind_list(store: Store, polling: Polling) -> Result:
    """Poll each job at its own intervals, by a list that is at most half an interval old.

    Each job is polled by id at least every five minutes.
    """
    generator = random.Random(1)
    waits, lists, polls_by_id, latest = Waits(store, polling), 0, 0, float("-inf")
    verify_at = {job_id: generator.uniform(150, 300) for job_id in store.ids}
    for now, job_id in waits.polls():
        if now >= verify_at[job_id]:
            polls_by_id += 1
            verify_at[job_id] = now + generator.uniform(150, 300)
            waits.handle(job_id, now, now)
            continue
        if latest <= now - waits.intervals[job_id] / 2:
            latest = now
            lists += 1
        waits.handle(job_id, now, latest)
    return Result(waits.lags, lists, polls_by_id)


def aim(store: Store, polling: Polling) -> Result:
    """Wait as a session with ``poll_by="list"`` does."""

    async def wait_for_all() -> list[float]:
        loop, operations = asyncio.get_running_loop(), Operations()
        source = QueueSource(operations, store.fetch_job, store.fetch_list)

        async def wait(job_id: str) -> float:
            with Operation(operations):
                await JobWatch(job_id, source, polling).wait()
            return loop.time() - store.ends[job_id]

        return await asyncio.gather(*map(wait, store.ids))

    # By default, looptime passes through the loop 42 times before each moment.
    new_loop = functools.partial(looptime.new_event_loop, noop_cycles=1)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        lags = runner.run(wait_for_all())
    return Result(lags, store.lists, store.polls_by_id)


WAITS: dict[str, Wait] = {
    "by id": poll_by_id,
    "by a blind list": poll_by_blind_list,
    "aimed": aim,
}


def measure(wait: Wait, lengths: str, jobs: int, polling: Polling, condition: str = "") -> Result:
    """Return the result of all waits. Small stores are repeated, with other lengths."""
    random.seed(1)
    repetitions = max(1, 100 // jobs)
    results = [
        wait(Store(lengths, jobs, seed=seed, **CONDITIONS[condition]), polling)
        for seed in range(repetitions)
    ]
    return Result(
        [lag for result in results for lag in result.lags],
        round(statistics.fmean(result.lists for result in results)),
        round(statistics.fmean(result.polls_by_id for result in results)),
    )


def verdict(blind: Result, aimed: Result, polling: Polling, condition: str) -> str:
    """Return whether the goals for many waits are met."""
    lag = round(aimed.mean_lag / blind.mean_lag, 2)
    if condition:
        cost, goals = aimed.requests / blind.requests, (GOAL_WITH_A_CONDITION,) * 2
    else:
        cost, goals = aimed.lists / blind.lists, GOALS[id(polling)]
    is_met = lag <= goals[0] and round(cost, 2) <= goals[1]
    return f"{goals[0]:g}, {goals[1]:g}: {'yes' if is_met else 'no'}"


def describe(result: Result) -> str:
    return f"{result.mean_lag:.2f} s, {result.lists:,} + {result.polls_by_id:,}"


def print_lags(polling: Polling, counts: Sequence[int], conditions: Iterable[str]) -> None:
    rows = []
    for lengths in LENGTHS:
        for condition in conditions:
            for jobs in counts:
                by_id, blind, aimed = (
                    measure(wait, lengths, jobs, polling, condition) for wait in WAITS.values()
                )
                ratio = f"{aimed.mean_lag / blind.mean_lag:.2f}"
                goal = verdict(blind, aimed, polling, condition) if jobs >= 1000 else ""
                name = f"{lengths}, {condition}" if condition else lengths
                results = map(describe, (by_id, blind, aimed))
                rows.append((name, f"{jobs:,}", *results, ratio, goal))
    title = (
        f"Mean lag, lists + polls by id, with `Polling(initial_interval="
        f"{polling.initial_interval:g}, max_interval={polling.max_interval:g})`, at {RATE_LIMIT} "
        "requests a second. The goals are those for the lag and the lists, or with a condition "
        "for the lag and all requests, against the blind list:"
    )
    columns = ("jobs", "waits", *WAITS, "lag, aimed ÷ blind", "goals")
    print_table(title, columns, rows)


def run(*, full: bool) -> None:
    counts = (*JOB_COUNTS, 1000) if full else JOB_COUNTS
    for polling in (FAST, SLOW):
        print_lags(polling, counts, [""])
    print_lags(FAST, counts[-1:], [name for name in CONDITIONS if name])
