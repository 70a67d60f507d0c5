"""Position of each job in the job queue, and estimates of its end, computed from one list."""

from __future__ import annotations

import collections
import datetime
import math
from collections.abc import Iterable, Iterator, Sequence

import attrs

from .models import Job, JobState, QueuedJob

RECENT_RUNS = 50
"""Finished jobs whose run times are used, the last ones created."""
_MAX_LIFETIME = datetime.timedelta(weeks=1)
"""Lifetime of a job. An end that is later than this is not credible."""
_MIN_LONGER_RUNS = 3
"""Runs longer than the running job so far that are needed to predict its end."""
_TAIL = 0.1
"""Probability that the first job ends before its range. The same for after it."""
_DEVIATIONS = 1.5
"""Half the width of the range of any other job, in standard deviations of the logarithm. More than
the 1.28 of a tail of 0.1, since the deviation of a few skewed run times is underestimated."""
_PRIOR_RUNS = 3
_PRIOR_DEVIATION = 0.8
"""The variance of run times, with few of them, is that of so many runs more, with this deviation
relative to the mean."""
_EARLIEST = datetime.datetime.min.replace(tzinfo=datetime.UTC)
_LATEST = datetime.datetime.max.replace(tzinfo=datetime.UTC)
_WAITING_STATES = (JobState.PENDING, JobState.CANCELLING)
_STARTED_STATES = (JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED)


@attrs.frozen
class JobQueue:
    """Jobs of a store that have not ended, in the order in which the service runs them.

    The service runs one job at a time, in the order of creation.
    """

    jobs: Sequence[Job]
    runs: Sequence[float]
    """Recent run times in seconds."""
    started_at: datetime.datetime | None
    """Start of the first job if it is running, by the service's clock, or ``None``."""

    @classmethod
    def from_list(cls, jobs: Iterable[Job]) -> JobQueue:
        """Return the queue that a list shows."""
        by_creation = sorted(jobs, key=lambda job: job.created_at or _LATEST)
        ordered = [(job, job.state) for job in by_creation]
        runs, started_at = _measure_runs(ordered)
        return cls(_select_queue(ordered), runs, started_at)


def estimate_queue(jobs: Iterable[Job], now: datetime.datetime) -> list[QueuedJob]:
    """Return the jobs of a store that have not ended, with estimates of their times.

    The jobs are in the order in which the service runs them. The estimates use the mean and the
    variance of the last fifty run times. The ranges include the uncertainty of the mean. The sum of
    the runs before an end is taken as lognormal, and the time left for the running job as that of
    the recent runs that took longer than it has so far.

    An undocumented status may mean that a job has ended. Such a job is left out if a later one has
    started.

    Args:
        jobs: the list of order jobs, those of every ``job_type``.
        now: time of the list, by the service's clock.
    """
    queue = JobQueue.from_list(jobs)
    if not queue.runs:
        return [QueuedJob(job=job, position=number) for number, job in enumerate(queue.jobs, 1)]
    start = now if queue.started_at is None else queue.started_at
    now = max(now, start)  # the local clock, without that of the service, may be late
    ends = _estimate_ends(queue.runs, (now - start).total_seconds(), len(queue.jobs))
    estimated = []
    pairs = zip(queue.jobs, ends, strict=True)
    for number, (job, (expected, earliest, latest)) in enumerate(pairs, 1):
        end = _add(now, expected)
        estimated.append(
            QueuedJob(
                job=job,
                position=number,
                expected_start=start,
                expected_end=end,
                earliest_end=_add(now, earliest),
                latest_end=_add(now, latest),
            )
        )
        start = end
    return estimated


def _measure_runs(
    ordered: Sequence[tuple[Job, JobState]],
) -> tuple[Sequence[float], datetime.datetime | None]:
    """Return recent run times in seconds, and the start of the first job that is running.

    A job starts when it is created, or when the job before it ends if that is later.
    """
    runs = collections.deque[float](maxlen=RECENT_RUNS)
    running_since = None
    idle_since = _EARLIEST
    for job, state in ordered:
        created_at, ended_at = job.created_at, job.updated_at
        if created_at is None:  # these are the last
            break
        if state is JobState.RUNNING and running_since is None:
            running_since = max(created_at, idle_since)
        if ended_at is None or not job.is_terminal:
            continue
        if not datetime.timedelta() < ended_at - created_at <= _MAX_LIFETIME:
            continue
        started_at = max(created_at, idle_since)
        # A job may have been cancelled before its start, or early in its run.
        if ended_at > started_at and state is not JobState.CANCELLED:
            runs.append((ended_at - started_at).total_seconds())
        idle_since = max(idle_since, ended_at)
    return runs, running_since


def _select_queue(ordered: Sequence[tuple[Job, JobState]]) -> list[Job]:
    """Return the jobs that have not ended: those that are running, then the others."""
    running: list[Job] = []
    waiting: list[Job] = []
    has_later_start = False
    for job, state in reversed(ordered):
        if state is JobState.RUNNING:
            running.append(job)
        elif state in _WAITING_STATES or (state is JobState.UNKNOWN and not has_later_start):
            waiting.append(job)
        has_later_start |= state in _STARTED_STATES and job.created_at is not None
    return [*reversed(running), *reversed(waiting)]


def _estimate_ends(
    runs: Sequence[float], elapsed: float, count: int
) -> Iterator[tuple[float, float, float]]:
    """Yield the expected, earliest and latest end of each job, in seconds from now.

    The first job has run for ``elapsed`` seconds.
    """
    # With fewer runs that took longer, the job may be a new kind of work. Then assume that it may
    # need a whole further run.
    left = [run - elapsed for run in runs if run > elapsed]
    left = sorted(left if len(left) >= _MIN_LONGER_RUNS else [*left, *runs])
    expected, earliest, latest = (_quantile(left, share) for share in (0.5, _TAIL, 1 - _TAIL))
    mean_left, variance_left = _moments(left)
    mean, variance = _moments(runs)
    for number in range(count):
        if number:
            total = mean_left + number * mean
            # The error of the mean is the same in each run, so it grows with their number.
            uncertainty = variance_left + (number + number**2 / len(runs)) * variance
            ratio = 1 + uncertainty / total**2
            median = total / math.sqrt(ratio)
            factor = math.exp(_DEVIATIONS * math.sqrt(math.log(ratio)))
            expected = max(expected, median)  # no job ends before the one in front of it
            earliest = max(earliest, median / factor)
            latest = max(latest, median * factor)
        yield expected, earliest, latest


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and the variance including the prior."""
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    prior = _PRIOR_RUNS * (_PRIOR_DEVIATION * mean) ** 2
    return mean, (squares + prior) / (len(values) - 1 + _PRIOR_RUNS)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile. Beyond both ends of the sample it is extrapolated."""
    rank = share * (len(ordered) + 1) - 1
    if rank < 0:
        return ordered[0] * (1 + rank)
    if rank >= len(ordered) - 1:
        return ordered[-1] * (2 + rank - len(ordered))
    below = int(rank)
    return ordered[below] + (rank - below) * (ordered[below + 1] - ordered[below])


def _add(moment: datetime.datetime, seconds: float) -> datetime.datetime:
    try:
        return moment + datetime.timedelta(seconds=seconds)
    except OverflowError:
        return _LATEST
