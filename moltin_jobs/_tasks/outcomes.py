"""Concurrent calls whose outcomes are given as each call ends."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, Generic, Self, TypeVar

from ..errors import SessionClosedError
from .operations import Operation, Operations

Item = TypeVar("Item")
Result = TypeVar("Result")
Error = TypeVar("Error", bound=Exception)
Call = Callable[[], Coroutine[Any, Any, Result]]


class Outcomes(AsyncIterator[tuple[Item, Result | Error]], Generic[Item, Result, Error]):
    """Calls that run concurrently in an ``async with`` block, and an iterator of their outcomes.

    Iterate over it inside the block. Leaving the block cancels the calls that are still running,
    and waits until they have ended. An exception that is not an outcome is raised by the
    iteration, after the other calls were cancelled and have ended. ``asyncio.TaskGroup`` is not
    used: before Python 3.13 it leaves ``Task.cancelling()`` at 1 when its exception is caught.

    Args:
        operations: those of the session.
        calls: each item with the call for it.
        errors: class of the exceptions that are outcomes. `SessionClosedError` is always raised.
    """

    def __init__(
        self,
        operations: Operations,
        calls: Iterable[tuple[Item, Call[Result]]],
        errors: type[Error] | tuple[()],
    ) -> None:
        self._operations = operations
        self._calls: list[tuple[Item, Call[Result]]] | None = list(calls)
        self._errors = errors
        self._items: dict[asyncio.Task[Result], Item] = {}
        """Items without an outcome yet, by the task of their call."""
        self._ended: collections.deque[asyncio.Task[Result]] = collections.deque()
        self._cancelled: list[asyncio.Task[Result]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._is_open = False

    async def __aenter__(self) -> Self:
        calls, self._calls = self._calls, None
        if calls is None:
            raise RuntimeError("the outcomes have been used before: call as_completed() again")
        self._is_open = True
        try:
            for item, call in calls:
                task = self._operations.create_task(call())
                self._items[task] = item
                task.add_done_callback(self._on_end)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_open = False
        await self._cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Item, Result | Error]:
        with Operation(self._operations):
            await self._wait()
        if not self._is_open:
            raise RuntimeError("iterate over the outcomes inside their 'async with' block")
        if not self._items:
            raise StopAsyncIteration
        task = self._ended.popleft()
        item = self._items.pop(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, self._errors) and not isinstance(error, SessionClosedError):
            return item, error
        if task.cancelled() or error is not None:
            await self._cancel()
        return item, task.result()

    async def _wait(self) -> None:
        """Return when an outcome is there, or none is left."""
        if self._waiter is not None:
            raise RuntimeError("another task is waiting for the next outcome")
        while self._items and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _on_end(self, task: asyncio.Task[Result]) -> None:
        if task in self._items:
            self._ended.append(task)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _cancel(self) -> None:
        """Cancel the calls without an outcome, and return when they have ended."""
        # They are kept: if the iteration is cancelled here, the end of the block waits for them.
        self._cancelled += [task for task in self._items if task.cancel()]
        self._items.clear()
        self._ended.clear()
        self._wake()  # another task may iterate when the block ends
        pending = [task for task in self._cancelled if not task.done()]
        if pending:
            await asyncio.wait(pending)


async def gather(
    operations: Operations, calls: Iterable[Call[Any]], *, return_exceptions: bool
) -> list[Any]:
    """Run calls concurrently, and return their results in order.

    Without ``return_exceptions``, an exception is raised after the other calls were cancelled and
    have ended.
    """
    errors = Exception if return_exceptions else ()
    async with Outcomes(operations, enumerate(calls), errors) as outcomes:
        results = {number: outcome async for number, outcome in outcomes}
    return [results[number] for number in range(len(results))]
