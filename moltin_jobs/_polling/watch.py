"""One wait for one job: when to look, what to live through, and when to give up.

It knows no HTTP: it is given a ``fetch``, for as long as it lasts, and a ``sleep``. ``fetch`` takes
how old an answer may be and whether it is the last, and gives the job and when that came.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager

from ..errors import JobNotFoundError, JobTimeoutError, MoltinJobsError, one_line
from ..models import Job
from .intervals import Polling
from .sources import Fetch

_log = logging.getLogger("moltin_jobs")
_FAILURES_OF_AN_OUTAGE = 3


class _Outage:
    """A run of polls that failed for passing causes."""

    def __init__(self, longest: float | None, timeout: float | None) -> None:
        longest = math.inf if longest is None else longest
        # What the timeout forestalls is not told of.
        self.longest = math.inf if timeout is not None and timeout <= longest else longest
        self._since = 0.0
        self.failures = 0

    def add(self, error: MoltinJobsError, now: float) -> bool:
        """Count a failed poll; return whether the wait should give up."""
        if not self.failures:
            self._since = now
        self.failures += 1
        over = self.failures >= _FAILURES_OF_AN_OUTAGE and now - self._since >= self.longest
        return over or not error.temporary

    def end(self) -> None:
        self.failures = 0


class _DeadlinePassed(Exception):  # noqa: N818 (it never leaves this module)
    pass


async def _until(deadline: float, poll: Awaitable[tuple[Job, float]]) -> tuple[Job, float]:
    try:
        async with asyncio.timeout_at(deadline) as scope:
            return await poll
    except TimeoutError:
        if scope.expired():
            raise _DeadlinePassed from None
        raise


async def watch(  # noqa: C901 (the whole of a wait, in the order in which it happens)
    job_id: str,
    looking: AbstractContextManager[Fetch],
    sleep: Callable[[float], Awaitable[None]],
    polling: Polling,
    timeout: float | None,
) -> AsyncGenerator[Job]:
    """Yield the job at each change of ``status``, a terminal one last.

    Raises `JobTimeoutError` when ``timeout`` seconds are over, whatever hangs; what ``fetch``
    raises, at once if that is not ``temporary``, else when `Polling.outage` is over.
    """
    loop = asyncio.get_running_loop()
    deadline = math.inf if timeout is None else loop.time() + timeout
    margin = 0.0 if timeout is None else min(timeout / 10, 1.0)
    last_moment = deadline - margin
    seen: Job | None = None
    last_error: MoltinJobsError | None = None
    outage = _Outage(polling.outage, timeout)
    intervals = polling.intervals()
    polls = 0
    final = False
    interval = polling.initial

    with looking as fetch:
        while loop.time() < deadline:
            polls += 1
            max_age = margin / 10 if final else interval / 2
            try:
                # Not by a name: it would keep the poll, which is large, while the wait rests.
                job, answered_at = await (
                    fetch(max_age, final)
                    if timeout is None
                    else _until(deadline, fetch(max_age, final))
                )
            except MoltinJobsError as error:
                answered_at = loop.time()
                if isinstance(error, JobNotFoundError):
                    error.job = seen
                gives_up = outage.add(error, answered_at)
                interval = next(intervals)
                _log_failure(job_id, polls, outage, None if gives_up else interval, error)
                if gives_up:
                    raise
                last_error = error
            except _DeadlinePassed:
                break
            else:
                outage.end()
                before, seen = seen, job
                if before is not None and before.state is not job.state:
                    intervals = polling.intervals()
                interval = next(intervals)
                _log_poll(job, polls, interval)
                if before is None or before.status != job.status:
                    yield job
                if job.is_terminal:
                    return

            if final:
                break
            now = loop.time()
            due = answered_at + interval
            final = due >= last_moment
            await sleep(min(due, max(last_moment, now)) - now)

    assert timeout is not None, "without a timeout no deadline passes"  # noqa: S101 (for mypy)
    raise JobTimeoutError(job_id, timeout=timeout, job=seen, polls=polls, last_error=last_error)


def _log_poll(job: Job, polls: int, interval: float) -> None:
    if _log.isEnabledFor(logging.DEBUG):
        extra: dict[str, object] = {"job_id": job.id, "job_status": job.status, "attempt": polls}
        if not job.is_terminal:
            extra["wait"] = interval
        _log.debug("job %s: %s (poll %d)", job.id, one_line(job.status), polls, extra=extra)


def _log_failure(
    job_id: str, polls: int, outage: _Outage, wait: float | None, error: MoltinJobsError
) -> None:
    extra: dict[str, object] = {"job_id": job_id, "attempt": polls, "failures": outage.failures}
    extra["error"] = type(error).__name__
    if wait is None:
        _log.debug("the wait ends after poll %d failed: %s", polls, error, extra=extra)
        return
    extra["wait"] = wait
    level = logging.WARNING if outage.failures == 1 else logging.DEBUG
    limit = "" if outage.longest == math.inf else f" ({outage.longest:g} s of this would end it)"
    text = "the wait goes on after poll %d failed%s: %s"
    _log.log(level, text, polls, limit, error, extra=extra)
