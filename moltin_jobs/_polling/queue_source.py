"""Source of polls for order exports, which the service runs one at a time in the order of creation.

One wait of the session polls for all. The other waits sleep until the queue has moved.
"""

from __future__ import annotations

import asyncio
import math

from .._tasks.operations import Operations, Sleep
from ..models import Job, JobState, QueuedJob
from ..queueing import RECENT_RUNS, JobQueue
from ..settings import Polling
from .intervals import add_jitter, polling_interval, random_up_to
from .sources import (
    FetchJob,
    FetchList,
    ListSnapshot,
    ListSource,
    Poll,
    Snapshot,
    key_of,
)

LONG_INTERVAL = 60.0
"""Interval in seconds while no end is expected, unless ``max_interval`` is longer."""
PAUSE_OF_LEADER = 1.0
"""Seconds after which another job leads, if the wait of the leader stops before its end."""


class QueueSource(ListSource):
    """Poll the job that runs by its id, and request a list when it has ended.

    The first job of the queue that has a wait leads. While it runs, it is polled by id: not before
    the shortest of the last fifty run times has passed since its start, and then at half the
    intervals of `Polling` if there are other waits. A leader behind jobs without a wait is polled
    by list. The other jobs are polled at long intervals, and whenever a list shows a change.
    """

    def __init__(self, operations: Operations, fetch_job: FetchJob, fetch_list: FetchList) -> None:
        super().__init__(operations, fetch_job, fetch_list)
        self._sleeps: dict[str, list[Sleep]] = {}
        """Sleeps of the waits for each job, by its key."""
        self._queue: dict[str, JobState] = {}
        """States of the jobs in the queue of the last list, by their keys, in their order."""
        self._first: str | None = None
        """Key of the first job of the queue, which need not have a wait."""
        self._first_seen_at = -math.inf
        """Last moment at which the first job had not ended."""
        self._first_started_after = -math.inf
        """Moment at which the first job had not started: the one before it had not ended."""
        self._shortest_run = 0.0
        self._leader: str | None = None
        self.alarm_number = 0
        self._ended_at = -math.inf
        """Moment of the last poll by id that showed an end. An older list may not show it."""

    def add(self, job_id: str) -> None:
        """Register a wait."""
        super().add(job_id)
        key = key_of(job_id)
        self._sleeps.setdefault(key, [])
        if self._leader is None and key in self._queue:
            self._choose_leader()

    def remove(self, job_id: str) -> None:
        """Remove a wait that has ended. If its job has led, another one leads.

        A job that has not ended may have a watch that has just yielded, and leads again soon.
        """
        super().remove(job_id)
        key = key_of(job_id)
        if job_id not in self.waits:
            self._sleeps.pop(key, None)
            if key == self._leader and key in self._queue:
                self._leader = None
                self.operations.alarms.set(self, _now() + PAUSE_OF_LEADER)
            elif key == self._leader:
                self._choose_leader()

    def find_queued(self, job_id: str) -> QueuedJob | None:
        """Return the position of a job in the last list, or ``None`` without a useful list."""
        if self.latest is None or self.is_fallback():
            return None
        return self.latest.find_queued(job_id)

    def interval(self, job: Job, polling: Polling, number: int) -> float:
        """Return the interval until the next poll, which is long while no end is expected."""
        interval = polling_interval(polling, number)
        key, is_running = key_of(job.id), job.state is JobState.RUNNING
        if key not in self._queue:
            return interval
        longest = max(polling.max_interval, LONG_INTERVAL)
        if key == self._leader:
            left = self._first_started_after + self._shortest_run - _now()
            if left > interval and self._queue.get(self._first or "") is JobState.RUNNING:
                return min(left, longest) - random_up_to(interval / 2)
        elif self._rests(job):
            return add_jitter(longest, polling)
        return interval / 2 if is_running and len(self.waits) > 1 else interval

    def sleep_until(self, job_id: str, when: float) -> Sleep:
        """Return the sleep of a wait, which ends early when its job has changed or leads."""
        sleep = super().sleep_until(job_id, when)
        key = key_of(job_id)
        others = self._sleeps.get(key, ())
        self._sleeps[key] = [sleep, *(other for other in others if not other.done())]
        return sleep

    async def fetch(self, poll: Poll) -> Snapshot:
        """Return the job from a list, or from a request by its id if it runs."""
        previous = poll.previous
        if previous is not None and not self.is_fallback():
            newer = self._find_newer(poll.job_id, previous)
            if newer is not None and (newer.job.is_terminal or not poll.is_final):
                return newer
            if previous.job.state is JobState.RUNNING:
                return await self.fetch_by_id(poll)
            if self._rests(previous.job) and not poll.is_final:
                poll.fresh_after = min(poll.fresh_after, _now() - LONG_INTERVAL / 2)
        poll.fresh_after = max(poll.fresh_after, self._ended_at)
        poll.join_after = max(poll.join_after, self._ended_at)
        return await super().fetch(poll)

    def _find_newer(self, job_id: str, previous: Snapshot) -> Snapshot | None:
        """Return the job of a list that was received since ``previous``, however long ago.

        A job that runs or leads needs a recent list, unless this one shows a change.
        """
        latest = self.latest
        if latest is None or latest.received_at <= previous.received_at:
            return None
        job = latest.find(job_id)
        if job is None:
            return None
        is_changed = job.state is not previous.job.state
        return Snapshot(job, latest.received_at) if is_changed or self._rests(job) else None

    def _rests(self, job: Job) -> bool:
        """Return whether the wait for a job in the queue leaves the polls to the leader."""
        key = key_of(job.id)
        return key in self._queue and key != self._leader and job.state is not JobState.RUNNING

    async def fetch_by_id(self, poll: Poll) -> Snapshot:
        """Request the job by its id, and wake other waits for it if it has ended."""
        snapshot = await super().fetch_by_id(poll)
        key = key_of(poll.job_id)
        if snapshot.job.is_terminal:
            self._ended_at = _now()
            self._queue.pop(key, None)
            self._wake(key)
        elif key == self._first:
            self._first_seen_at = snapshot.received_at
        return snapshot

    def on_list(self, latest: ListSnapshot) -> None:
        """Wake the waits for jobs that have changed, and for the leader if it is another one."""
        before, queue = self._queue, JobQueue.from_list(latest.jobs)
        self._queue = {key_of(job.id): job.state for job in queue.jobs}
        first = next(iter(self._queue), None)
        if first != self._first:
            self._first, self._first_started_after = first, self._first_seen_at
        self._first_seen_at = latest.received_at
        # A further run may be shorter than the shortest of a few.
        self._shortest_run = min(queue.runs, default=0.0) * len(queue.runs) / RECENT_RUNS
        for key, state in before.items():
            if self._queue.get(key) is not state:
                self._wake(key)
        self._choose_leader()

    def on_fallback(self) -> None:
        """Wake all waits, to poll by id."""
        self._queue, self._leader = {}, None
        for key in [*self._sleeps]:
            self._wake(key)

    def on_alarm(self) -> None:
        """Let another job lead, if the wait of the leader has not continued."""
        self._choose_leader()

    def _choose_leader(self) -> None:
        """Let the first job of the queue lead that has a wait."""
        before = self._leader
        self._leader = next((key for key in self._queue if key in self._sleeps), None)
        if self._leader is not None and self._leader != before:
            self._wake(self._leader)

    def _wake(self, key: str) -> None:
        for sleep in self._sleeps.get(key, ()):
            sleep.wake()


def _now() -> float:
    return asyncio.get_running_loop().time()
