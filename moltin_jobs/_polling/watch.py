"""One wait for one job: when to poll, which failures to retry, and when to give up."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import attrs

from .._tasks.operations import DeadlineReached, Operations
from ..errors import (
    JobNotFoundError,
    JobTimeoutError,
    MoltinJobsError,
    SessionClosedError,
    failure_of,
    single_line,
)
from ..models import Job
from ..settings import Polling
from .intervals import polling_intervals
from .retry import retry_after
from .sources import Poll, Snapshot, Source

_MIN_FAILURES = 3
"""Polls in a row that must fail before an outage ends the wait."""
_MAX_MARGIN = 1.0

_log = logging.getLogger("moltin_jobs.polling")


@attrs.define(eq=False)
class PollContext:
    """Parts that all waits of a session share."""

    operations: Operations
    source: Source
    polls: int = 0
    failed_polls: int = 0


class JobWatch(AsyncIterator[Job]):
    """A wait for one job.

    Iterate over it to get the job at each change of ``status``, the terminal one last, or await
    `wait`. The timeout counts from its creation.

    Cancelling an iteration step keeps its poll in flight for the next one. As a context manager,
    or with `aclose`, that poll is cancelled at the end. After an exception the iteration has ended.
    """

    __slots__ = (
        "_active",
        "_context",
        "_deadline",
        "_ended",
        "_final_poll_at",
        "_flight",
        "_heartbeat",
        "_heartbeat_at",
        "_interval",
        "_interval_number",
        "_intervals",
        "_outage_since",
        "_snapshot",
        "_timeout",
        "_yielded_status",
        "consecutive_failures",
        "failed_polls",
        "job",
        "job_id",
        "last_error",
        "next_poll_at",
        "polls",
    )

    def __init__(
        self,
        job_id: str,
        context: PollContext,
        polling: Polling,
        *,
        timeout: float | None = None,
        heartbeat: float | None = None,
        started_at: float | None = None,
    ) -> None:
        now = context.operations.check().time()
        self.job_id = job_id
        self.job: Job | None = None
        """The job as last seen, or ``None``."""
        self.polls = 0
        """Number of polls, the one in flight included."""
        self.failed_polls = 0
        """Number of polls that failed."""
        self.consecutive_failures = 0
        """Number of polls that failed since the last one that succeeded."""
        self.last_error: MoltinJobsError | None = None
        """Last error of a poll that was retried, or ``None``."""
        self.next_poll_at: float | None = now
        """Moment of the next poll on the loop's clock. ``None`` while a poll is in flight, and when
        the job has ended."""
        self._context = context
        self._intervals = polling_intervals(polling)
        self._interval_number = 0
        self._interval = 0.0
        self._timeout = timeout
        self._deadline = self._final_poll_at = math.inf
        if timeout is not None:
            self._deadline = (now if started_at is None else started_at) + timeout
            self._final_poll_at = self._deadline - min(timeout / 10, _MAX_MARGIN)
        self._outage_since = math.inf
        self._heartbeat = math.inf if heartbeat is None else heartbeat
        self._heartbeat_at = math.inf
        self._snapshot: Snapshot | None = None
        self._flight: asyncio.Task[None] | None = None
        self._yielded_status = ""
        self._active = False
        self._ended = False

    async def wait(self) -> Job:
        """Wait until the job has ended, and return it if it has succeeded.

        Raises what `JobsSession.wait_for_job` raises.
        """
        loop = self._start()
        try:
            while self.job is None or not self.job.is_terminal:
                if self._flight is not None:
                    await self._finish_flight(self._flight, None)
                    continue
                if self.next_poll_at is not None and self.next_poll_at > loop.time():
                    await self._context.operations.sleep_until(self.next_poll_at)
                await self._poll()
        finally:
            self._stop()
        self.next_poll_at = None
        if (failure := failure_of(self.job)) is not None:
            raise failure
        return self.job

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Job:
        if self._ended:
            raise StopAsyncIteration
        loop = self._start()
        try:
            job = await self._next()
        except Exception:
            self._ended = True
            raise
        finally:
            self._stop()
        self._yielded_status = job.status
        self._heartbeat_at = loop.time() + self._heartbeat
        if job.is_terminal:
            self._ended, self.next_poll_at = True, None
        return job

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the iteration, and cancel the poll in flight."""
        self._check_unused()
        self._ended = True
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.cancel()
            await asyncio.wait([flight])

    def _check_unused(self) -> None:
        if self._active:
            raise RuntimeError("this JobWatch is in use by another task: create one for each task")

    def _start(self) -> asyncio.AbstractEventLoop:
        self._check_unused()
        try:
            loop = self._context.operations.begin_wait()
        except SessionClosedError:
            self._ended = True
            raise
        self._active = True
        self._context.source.add(self.job_id)
        return loop

    def _stop(self) -> None:
        self._active = False
        self._context.source.remove(self.job_id)
        self._context.operations.end_wait()

    async def _next(self) -> Job:
        """Return the job when its status has changed, or when a heartbeat is due."""
        loop, operations = asyncio.get_running_loop(), self._context.operations
        heartbeat_at = self._heartbeat_at  # infinite before the first item
        while True:
            if self._flight is not None:
                timeout = None if heartbeat_at == math.inf else heartbeat_at - loop.time()
                if not await self._finish_flight(self._flight, timeout):
                    break
            if self.job is not None and self.job.status != self._yielded_status:
                break
            due = self.next_poll_at
            if due is not None and due > loop.time():
                await operations.sleep_until(min(due, heartbeat_at))
                if heartbeat_at < due:
                    break
            self._flight = operations.create_task(self._poll())
        assert self.job is not None, "there was a response"  # noqa: S101
        return self.job

    async def _finish_flight(self, flight: asyncio.Task[None], timeout: float | None) -> bool:
        """Return whether the poll in flight has ended. Raises its exception.

        Neither cancellation nor the timeout stops the poll.
        """
        await asyncio.wait([flight], timeout=timeout)
        if not flight.done():
            return False
        self._flight = None
        flight.result()
        return True

    async def _poll(self) -> None:
        """Poll once, and plan the next poll, or raise the reason why the wait has ended."""
        now = asyncio.get_running_loop().time()
        if now >= self._deadline:
            raise self._timeout_error()
        self.polls += 1
        self._context.polls += 1
        due, self.next_poll_at = self.next_poll_at, None
        is_final = due is not None and due >= self._final_poll_at
        fresh_after = now - self._interval / 2
        if is_final:
            # Accept a final poll that started slightly earlier, so that waits with the same timeout
            # share it.
            fresh_after = self._final_poll_at - (self._deadline - self._final_poll_at) / 10
        failure: Exception | None = None
        try:
            # Do not bind the awaitable: the suspended coroutine would keep it between polls.
            snapshot = await self._context.source.fetch(
                Poll(self.job_id, self._snapshot, self._deadline, fresh_after, is_final)
            )
        except DeadlineReached:
            failure = self._timeout_error()
        except MoltinJobsError as error:
            failure = self._on_failure(error)
        except BaseException:
            self.next_poll_at = due  # it was cancelled: repeat it if the wait continues
            raise
        else:
            self._on_success(snapshot)
            if is_final and not snapshot.job.is_terminal:
                raise self._timeout_error()
            return
        # Not above: it would keep the frames of the request as its context.
        if failure is None and is_final:
            failure = self._timeout_error()
        if failure is not None:
            raise failure

    def _on_success(self, snapshot: Snapshot) -> None:
        """Plan the next poll."""
        previous, job = self.job, snapshot.job
        self._snapshot = snapshot
        self.job = job
        self.consecutive_failures = 0
        if (
            previous is not None
            and job.status != previous.status
            and job.state is not previous.state
        ):
            self._interval_number = 0
        self._plan(snapshot.received_at, 0.0)
        if _log.isEnabledFor(logging.DEBUG):
            self._log_success(job)

    def _on_failure(self, error: MoltinJobsError) -> MoltinJobsError | None:
        """Plan the next poll, or return the error if the wait has to end."""
        now = asyncio.get_running_loop().time()
        if isinstance(error, JobNotFoundError):
            error.job = self.job
        if not self.consecutive_failures:
            self._outage_since = now
        self.consecutive_failures += 1
        self.failed_polls += 1
        self._context.failed_polls += 1
        is_over = (
            self.consecutive_failures >= _MIN_FAILURES
            and now - self._outage_since >= self._intervals.max_outage
        )
        gives_up = is_over or not error.retryable
        if not gives_up:
            # Drop the traceback: its frames refer to this watch, which would create a cycle.
            self.last_error = error.with_traceback(None)
            self._plan(now, retry_after(error))
        self._log_failure(error, gives_up=gives_up)
        return error if gives_up else None

    def _plan(self, received_at: float, min_interval: float) -> None:
        self._interval = max(self._intervals.interval(self._interval_number), min_interval)
        self._interval_number += 1
        due = received_at + self._interval
        if due >= self._final_poll_at:
            due = max(self._final_poll_at, asyncio.get_running_loop().time())
        self.next_poll_at = due

    def _timeout_error(self) -> JobTimeoutError:
        assert self._timeout is not None, "without a timeout there is no deadline"  # noqa: S101
        return JobTimeoutError(
            self.job_id,
            timeout=self._timeout,
            job=self.job,
            polls=self.polls,
            last_error=self.last_error,
        )

    def _log_success(self, job: Job) -> None:
        extra: dict[str, object] = {
            "job_id": job.id,
            "job_status": job.status,
            "attempt": self.polls,
        }
        if not job.is_terminal:
            extra["retry_in"] = self._interval
        message = "job %s: %s (poll %d)"
        _log.debug(message, job.id, single_line(job.status), self.polls, extra=extra)

    def _log_failure(self, error: MoltinJobsError, *, gives_up: bool) -> None:
        extra: dict[str, object] = {
            "job_id": self.job_id,
            "attempt": self.polls,
            "consecutive_failures": self.consecutive_failures,
            "error": type(error).__name__,
        }
        if gives_up:
            _log.debug("poll %d failed, giving up: %s", self.polls, error, extra=extra)
            return
        extra["retry_in"] = self._interval
        limit = ""
        # A limit beyond the timeout cannot be reached.
        if self._intervals.max_outage < (math.inf if self._timeout is None else self._timeout):
            limit = f" (giving up after {self._intervals.max_outage:g} s of failures)"
        level = logging.WARNING if self.consecutive_failures == 1 else logging.DEBUG
        message = "poll %d failed, retrying in %.1f s%s: %s"
        _log.log(level, message, self.polls, self._interval, limit, error, extra=extra)
