"""One wait for one job: when to poll, which failures to retry, and when to give up."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from typing import Self

import attrs

from .._tasks.operations import Deadline
from ..errors import (
    APIError,
    JobFailedError,
    JobNotFoundError,
    JobTimeoutError,
    MoltinJobsError,
    SessionClosedError,
    failure_of,
    raise_unchained,
    single_line,
)
from ..models import Job, JobState
from ..settings import Polling
from .intervals import polling_interval
from .retry import requested_interval
from .sources import IdSource, Poll, Snapshot

_MIN_FAILURES = 3
"""Polls in a row that must fail before an outage ends the wait."""
_MAX_FINAL_POLL_LEAD = 1.0
"""Longest time in seconds between the start of the final poll and the deadline."""

_log = logging.getLogger("moltin_jobs.polling")


@attrs.define(eq=False, repr=False)
class JobWatch(AsyncIterator[Job]):
    """A wait for one job.

    Iterate over it to get the job at each change of ``status``, the terminal one last, or await
    `wait`. The timeout counts from its creation.

    Cancelling an iteration step keeps its poll in flight for the next one. `aclose`, or leaving the
    watch as a context manager, cancels that poll. After an exception the iteration has ended.
    """

    job_id: str
    _source: IdSource
    _polling: Polling
    _timeout: float = math.inf
    _heartbeat: float = math.inf
    _started_at: float = attrs.Factory(
        lambda watch: watch._source.operations.get_loop().time(),  # noqa: SLF001
        takes_self=True,
    )
    job: Job | None = None
    """The job as last seen, or ``None``."""
    polls: int = attrs.field(default=0, init=False)
    """Number of polls, the one in flight included."""
    failed_polls: int = attrs.field(default=0, init=False)
    """Number of polls that failed."""
    consecutive_failures: int = attrs.field(default=0, init=False)
    """Number of polls that failed since the last one that succeeded."""
    last_error: MoltinJobsError | None = attrs.field(default=None, init=False)
    """Last error of a poll that was retried, or ``None``."""
    next_poll_at: float | None = attrs.field(init=False)
    """Moment of the next poll on the loop's clock. ``None`` while a poll is in flight, and when
    the job has ended."""
    _deadline: float = attrs.field(init=False)
    _final_poll_at: float = attrs.field(init=False)
    _interval_number: int = attrs.field(default=0, init=False)
    _interval: float = attrs.field(default=0.0, init=False)
    _outage_since: float = attrs.field(default=math.inf, init=False)
    _heartbeat_at: float = attrs.field(default=math.inf, init=False)
    _snapshot: Snapshot | None = attrs.field(default=None, init=False)
    _poll_task: asyncio.Task[None] | None = attrs.field(default=None, init=False)
    _yielded_status: str = attrs.field(default="", init=False)
    _active: bool = attrs.field(default=False, init=False)
    _ended: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.next_poll_at = self._started_at
        self._deadline = self._started_at + self._timeout
        self._final_poll_at = self._deadline - min(self._timeout / 10, _MAX_FINAL_POLL_LEAD)

    async def wait(self) -> Job:
        """Wait until the job has ended, and return it if it has succeeded.

        Raises what `JobsSession.wait_for_job` raises.
        """
        clock = asyncio.get_running_loop().time
        self._start()
        try:
            with self._operation():
                while self.job is None or not self.job.is_terminal:
                    if self._poll_task is not None:
                        await self._await_poll_task(self._poll_task, None)
                        continue
                    due = self.next_poll_at
                    if (
                        due is not None
                        and due > clock()
                        and await self._source.sleep_until(self.job_id, due)
                    ):
                        self.next_poll_at = clock()
                    await self._poll()
            self.next_poll_at = None
            failure = await self._fetch_failure(self.job)
        except SessionClosedError as error:
            # The frames of the request would be kept by every wait that the session has ended.
            raise error.with_traceback(None)  # noqa: B904 (the same exception)
        finally:
            self._stop()
        if failure is not None:
            raise failure
        return self.job

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Job:
        if self._ended:
            raise StopAsyncIteration
        self._start()
        try:
            with self._operation():
                job = await self._next()
        except Exception:
            self._ended = True
            raise
        finally:
            self._stop()
        self._yielded_status = job.status
        self._heartbeat_at = asyncio.get_running_loop().time() + self._heartbeat
        if job.is_terminal:
            self._ended, self.next_poll_at = True, None
        return job

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the iteration, and cancel the poll in flight."""
        self._check_not_in_use()
        self._ended = True
        task, self._poll_task = self._poll_task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _check_not_in_use(self) -> None:
        if self._active:
            raise RuntimeError("this JobWatch is in use by another task: create one for each task")

    def _start(self) -> None:
        self._check_not_in_use()
        self._active = True
        self._source.add(self.job_id)

    def _stop(self) -> None:
        self._active = False
        self._source.remove(self.job_id)

    async def _fetch_failure(self, job: Job) -> JobFailedError | None:
        """Return the exception for a failed job, with its problems, or ``None`` for any other."""
        source, advice = self._source, self._source.kind.failure_advice or None
        if job.state is not JobState.FAILED or not source.kind.problem_message:
            return failure_of(job, advice=advice)
        unexplained = JobFailedError(job, None, advice=advice)
        try:
            # The failure is certain: it is raised even if the deadline passes.
            with Deadline(source.operations, self._deadline, make_error=lambda: unexplained):
                problems = await source.fetch_problems(self.job_id)
        except (JobFailedError, SessionClosedError):
            raise
        except Exception as error:  # noqa: BLE001 (an auth callable may raise anything)
            message = "the request for the problems has failed: %s"
            name = type(error).__name__
            # The text of a foreign exception may contain a secret.
            reason = str(error) if isinstance(error, MoltinJobsError) else name
            self._log_poll(logging.WARNING, {"error": name}, message, reason)
            return unexplained
        return JobFailedError(job, problems, advice=advice)

    def _operation(self) -> Deadline:
        return Deadline(self._source.operations, self._deadline, make_error=self._timeout_error)

    async def _next(self) -> Job:
        """Return the job when its status has changed, or when a heartbeat is due."""
        clock, source = asyncio.get_running_loop().time, self._source
        heartbeat_at = self._heartbeat_at  # infinite before the first item
        while True:
            if self._poll_task is not None:
                timeout = None if heartbeat_at == math.inf else heartbeat_at - clock()
                if not await self._await_poll_task(self._poll_task, timeout):
                    break
            if self.job is not None and self.job.status != self._yielded_status:
                break
            due = self.next_poll_at
            if due is not None and due > clock():
                if await source.sleep_until(self.job_id, min(due, heartbeat_at)):
                    self.next_poll_at = clock()
                elif heartbeat_at < due:
                    break
            self._poll_task = source.operations.create_task(self._run_poll_task())
        assert self.job is not None, "there was a response"  # noqa: S101
        return self.job

    async def _run_poll_task(self) -> None:
        # `__anext__` may be cancelled and leave this poll in flight, so it needs the deadline too.
        with self._operation():
            await self._poll()

    async def _await_poll_task(self, task: asyncio.Task[None], timeout: float | None) -> bool:
        """Return whether the poll in flight has ended. Raises its exception.

        Neither cancellation nor the timeout stops the poll.
        """
        await asyncio.wait([task], timeout=timeout)
        if not task.done():
            return False
        self._poll_task = None
        task.result()
        return True

    async def _poll(self) -> None:
        """Poll once, and plan the next poll, or raise the reason why the wait has ended."""
        now = asyncio.get_running_loop().time()
        if now >= self._deadline:
            raise self._timeout_error()
        self.polls += 1
        self._source.polls += 1
        due, self.next_poll_at = self.next_poll_at, None
        is_final = due is not None and due >= self._final_poll_at
        fresh_after, join_after = now - self._interval / 2, -math.inf
        if is_final:
            # Accept a final poll that started slightly earlier, so that waits with the same timeout
            # share it.
            fresh_after = self._final_poll_at - (self._deadline - self._final_poll_at) / 10
            join_after = fresh_after
        try:
            # Do not bind the awaitable: the suspended coroutine would keep it between polls.
            snapshot = await self._source.fetch(
                Poll(self.job_id, self._snapshot, fresh_after, is_final, join_after)
            )
        except MoltinJobsError as error:
            if not self._on_failure(error):
                raise
            if is_final:
                raise_unchained(self._timeout_error())
        except BaseException:
            self.next_poll_at = due  # it was cancelled: repeat it if the wait continues
            raise
        else:
            self._on_success(snapshot)
            if is_final and not snapshot.job.is_terminal:
                raise self._timeout_error()

    def _on_success(self, snapshot: Snapshot) -> None:
        """Store the result of a poll, and plan the next one."""
        previous, job = self.job, snapshot.job
        self._snapshot = snapshot
        self.job = job
        self.consecutive_failures = 0
        if previous is not None and job is not previous and job.state is not previous.state:
            self._interval_number = 0
        interval = self._source.interval(job, self._polling, self._interval_number)
        self._plan(snapshot.received_at, interval)
        if _log.isEnabledFor(logging.DEBUG):
            extra: dict[str, object] = {"job_status": job.status}
            if not job.is_terminal:
                extra["retry_in"] = self._interval
            status = single_line(job.status)
            label, message = self._source.kind.label, "%s %s: %s (poll %d)"
            self._log_poll(logging.DEBUG, extra, message, label, job.id, status, self.polls)

    def _on_failure(self, error: MoltinJobsError) -> bool:
        """Plan the next poll, or return False if the wait has to end."""
        now = asyncio.get_running_loop().time()
        if isinstance(error, JobNotFoundError):
            error.job = self.job
        if not self.consecutive_failures:
            self._outage_since = now
        self.consecutive_failures += 1
        self.failed_polls += 1
        self._source.failed_polls += 1
        extra = {"consecutive_failures": self.consecutive_failures, "error": type(error).__name__}
        max_outage = self._polling.max_outage
        is_from_gateway = isinstance(error, APIError) and error.from_gateway
        # A gateway's 403 or 404 says nothing about a job that was seen before.
        if not (error.retryable or (is_from_gateway and self.job is not None)) or (
            max_outage is not None
            and self.consecutive_failures >= _MIN_FAILURES
            and now - self._outage_since >= max_outage
        ):
            message = "poll %d failed, giving up: %s"
            self._log_poll(logging.DEBUG, extra, message, self.polls, error)
            return False
        # Drop the traceback: its frames refer to this watch, which would create a cycle.
        self.last_error = error.with_traceback(None)
        interval = polling_interval(self._polling, self._interval_number)
        self._plan(now, max(interval, requested_interval(error)))
        extra["retry_in"] = self._interval
        limit = ""
        if max_outage is not None and max_outage < self._timeout:  # otherwise it is never reached
            limit = f" (giving up after {max_outage:g} s of failures)"
        level = logging.WARNING if self.consecutive_failures == 1 else logging.DEBUG
        message = "poll %d failed, retrying in %.1f s%s: %s"
        self._log_poll(level, extra, message, self.polls, self._interval, limit, error)
        return True

    def _plan(self, received_at: float, interval: float) -> None:
        self._interval = interval
        self._interval_number += 1
        due = received_at + interval
        if due >= self._final_poll_at:
            due = max(self._final_poll_at, asyncio.get_running_loop().time())
        self.next_poll_at = due

    def _timeout_error(self) -> JobTimeoutError:
        return JobTimeoutError(
            self.job_id,
            timeout=self._timeout,
            kind=self._source.kind.name,
            job=self.job,
            polls=self.polls,
            last_error=self.last_error,
            queued=self._source.find_queued(self.job_id),
        )

    def _log_poll(self, level: int, extra: dict[str, object], message: str, *args: object) -> None:
        kind = self._source.kind.name
        extra |= {"job_id": self.job_id, "job_kind": kind, "attempt": self.polls}
        _log.log(level, message, *args, extra=extra)
