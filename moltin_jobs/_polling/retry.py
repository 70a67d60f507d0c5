"""Retries of a request that failed with a retryable error."""

from __future__ import annotations

import asyncio
import collections
import logging
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .._tasks.operations import Operation, Operations
from ..errors import APIError, JobNotFoundError, MoltinJobsError, RateLimitError
from ..settings import MAX_RETRY_AFTER, Retry
from .intervals import retry_interval

T = TypeVar("T")

RECENT_SECONDS = 10.0
"""Seconds for which the service may respond 404 for what it has just created."""

_MAX_REMEMBERED = 100_000
"""Largest number of jobs remembered. A job is kept although it is no longer recent. If it were
forgotten and added again, it would count as recent again."""

_log = logging.getLogger("moltin_jobs.polling")


class RecentJobs:
    """Jobs that were created, or that have succeeded, in the last ten seconds.

    The service is eventually consistent: it may still respond 404 for such a job, or for its file.
    """

    def __init__(self) -> None:
        self._since: collections.OrderedDict[str, float] = collections.OrderedDict()

    def add(self, job_id: str, now: float) -> None:
        """Add a job, unless it was added before."""
        if self._since.setdefault(job_id, now) == now and len(self._since) > _MAX_REMEMBERED:
            self._since.popitem(last=False)

    def contains(self, job_id: str, now: float) -> bool:
        """Return whether the job was added in the last ten seconds."""
        return now - self._since.get(job_id, -math.inf) < RECENT_SECONDS


class Retrier:
    """Repeat calls within the `Retry` of one session."""

    def __init__(self, operations: Operations, retry: Retry) -> None:
        self._operations = operations
        self._retry = retry

    async def run(
        self,
        function: Callable[..., Awaitable[T]],
        *arguments: object,
        error: MoltinJobsError | None = None,
    ) -> T:
        """Await ``function(*arguments)`` until it succeeds, and return its result.

        If ``error`` is given, the first attempt has failed with it already.

        Raises:
            MoltinJobsError: the last attempt failed.
        """
        attempt = 1
        while True:
            if error is None:
                try:
                    return await function(*arguments)
                except MoltinJobsError as caught:
                    error = caught
            if not self._may_retry(error, attempt):
                raise error
            interval = max(retry_interval(self._retry, attempt - 1), requested_interval(error))
            _log_retry(error, attempt, interval)
            with Operation(self._operations):
                await self._operations.sleep_until(asyncio.get_running_loop().time() + interval)
            error = None
            attempt += 1

    def _may_retry(self, error: MoltinJobsError, attempt: int) -> bool:
        if isinstance(error, RateLimitError) and (error.retry_after or 0.0) > MAX_RETRY_AFTER:
            return False
        # A 404 is retryable for a few seconds only, so its retries need no other limit.
        is_last = attempt >= self._retry.max_attempts and not isinstance(error, JobNotFoundError)
        return error.retryable and not is_last


def requested_interval(error: MoltinJobsError) -> float:
    """Return the shortest interval in seconds that the service asks for, or 0."""
    if not isinstance(error, APIError) or isinstance(error, RateLimitError):
        return 0.0  # the cooldown after a 429 delays every request of the session
    return min(error.retry_after or 0.0, MAX_RETRY_AFTER)


def _log_retry(error: MoltinJobsError, attempt: int, interval: float) -> None:
    extra = {"attempt": attempt, "error": type(error).__name__, "retry_in": interval}
    if error.job_id is not None:
        extra["job_id"] = error.job_id
    _log.warning("attempt %d failed, retrying in %.1f s: %s", attempt, interval, error, extra=extra)
