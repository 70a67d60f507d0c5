"""Retries of a request that failed with a retryable error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .._tasks.operations import Operation, Operations
from ..errors import APIError, MoltinJobsError, RateLimitError
from ..settings import MAX_RETRY_AFTER, Retry
from .intervals import retry_intervals

T = TypeVar("T")

_log = logging.getLogger("moltin_jobs.polling")


class Retrier:
    """Repeat calls within the `Retry` of one session."""

    def __init__(self, operations: Operations, retry: Retry) -> None:
        self._operations = operations
        self._max_attempts = retry.max_attempts
        self._intervals = retry_intervals(retry)

    async def run(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """Await ``function(*arguments)`` until it succeeds, and return its result.

        Raises:
            MoltinJobsError: the last attempt failed.
        """
        try:
            return await function(*arguments)
        except MoltinJobsError as error:
            first_error = error
        return await self.retry(first_error, function, *arguments)

    async def retry(
        self, error: MoltinJobsError, function: Callable[..., Awaitable[T]], *arguments: object
    ) -> T:
        """Do as `run` does after a first attempt that failed with ``error``."""
        attempt = 1
        while attempt < self._max_attempts and _may_retry(error):
            interval = max(self._intervals.interval(attempt - 1), retry_after(error))
            _log_retry(error, attempt, interval)
            with Operation(self._operations):
                await self._operations.sleep_until(asyncio.get_running_loop().time() + interval)
            try:
                return await function(*arguments)
            except MoltinJobsError as next_error:
                error = next_error
            attempt += 1
        raise error


def retry_after(error: MoltinJobsError) -> float:
    """Return the shortest interval in seconds that the service asks for, or 0."""
    if not isinstance(error, APIError) or isinstance(error, RateLimitError):
        return 0.0  # the cooldown after a 429 delays every request of the session
    return min(error.retry_after or 0.0, MAX_RETRY_AFTER)


def _may_retry(error: MoltinJobsError) -> bool:
    waits_too_long = isinstance(error, RateLimitError) and (
        (error.retry_after or 0.0) > MAX_RETRY_AFTER
    )
    return error.retryable and not waits_too_long


def _log_retry(error: MoltinJobsError, attempt: int, interval: float) -> None:
    extra = {
        "job_id": error.job_id,
        "attempt": attempt,
        "error": type(error).__name__,
        "retry_in": interval,
    }
    _log.warning("attempt %d failed, retrying in %.1f s: %s", attempt, interval, error, extra=extra)
