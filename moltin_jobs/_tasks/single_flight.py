"""Single flight: concurrent callers share one call, and its result while that is fresh."""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

from ..errors import MoltinJobsError
from .operations import Operations

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Share the calls of one coroutine function, which takes no arguments."""

    def __init__(
        self, operations: Operations, function: Callable[[], Coroutine[Any, Any, T]]
    ) -> None:
        self._operations = operations
        self._function = function
        self._in_flight: Flight[T] | None = None
        self._latest: Flight[T] | None = None

    async def get(self, *, fresh_after: float, join_after: float = -math.inf) -> T:
        """Return the result of an earlier call, of the call in flight, or of a new one.

        Args:
            fresh_after: the last result is returned if its call started at this moment or later.
            join_after: the call in flight is shared if it started at this moment or later.
        """
        latest, flight = self._latest, self._in_flight
        if latest is not None and latest.started_at >= fresh_after:
            return latest.result()
        if flight is None or not flight.is_joinable or flight.started_at < join_after:
            flight = self._in_flight = Flight(self._operations, self._call)
        return await flight.wait()

    async def _call(self, flight: Flight[T]) -> T:
        try:
            value = await self._function()
        finally:
            if self._in_flight is flight:
                self._in_flight = None
        # Keep the result of the call that started last, even if an earlier call ends after it.
        if self._latest is None or flight.started_at > self._latest.started_at:
            self._latest = flight
        return value


class Flight(Generic[T]):
    """One call, in a task that is cancelled when its last waiter leaves."""

    def __init__(
        self, operations: Operations, call: Callable[[Flight[T]], Coroutine[Any, Any, T]]
    ) -> None:
        self.started_at = operations.get_loop().time()
        self.is_joinable = True  # until the call has ended or its last waiter has left
        self._value: T | None = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._waiters: dict[asyncio.Future[None], None] = {}  # woken in the order of arrival
        self._task = operations.create_task(self.run(call))

    async def run(self, call: Callable[[Flight[T]], Coroutine[Any, Any, T]]) -> None:
        """Await the call, and wake its waiters."""
        try:
            self._value = await call(self)
        except BaseException as error:
            self._error, self._traceback = error, error.__traceback__
            if not isinstance(error, Exception):
                raise
        finally:
            # Not in a done callback, which runs one loop iteration later.
            self.is_joinable = False
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def wait(self) -> T:
        """Return the result when it is there, or raise the error of the call."""
        if self.is_joinable:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters[waiter] = None
            try:
                await waiter
            finally:
                del self._waiters[waiter]
                if not self._waiters and self.is_joinable:
                    self.is_joinable = False
                    self._task.cancel()
        return self.result()

    def result(self) -> T:
        """Return the result of the call that has ended, or raise its error."""
        if self._error is None:
            return self._value  # type: ignore[return-value]  # it has ended without an error
        raise error_for_one_caller(self._error, self._traceback)


def error_for_one_caller(
    error: BaseException, original_traceback: TracebackType | None
) -> BaseException:
    """Return the exception of a shared call, for one of its callers to raise."""
    if isinstance(error, MoltinJobsError):
        return copy.copy(error)
    # An exception of a caller's own code may not be copyable. Without the reset, its traceback
    # would grow by the frames of each caller.
    return error.with_traceback(original_traceback)
