"""Code of the user that the client awaits: rate limiters, auth callables, callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def run_user_code(awaitable: Awaitable[T]) -> T:
    """Await code of the user, in a task of its own.

    A cancellation of the caller ends this call, even if that code ignores it or raises another
    exception. The caller's `asyncio.Task.cancelling` counts only its own cancellations: before
    Python 3.13, a task group whose tasks fail may leave that count raised.
    """
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"  # noqa: S101
    cancelling = task.cancelling()
    try:
        result = await asyncio.ensure_future(awaitable)
        if task.cancelling() == cancelling:
            return result
        del result  # it may be the token
    except Exception:
        if task.cancelling() == cancelling:
            raise
    raise asyncio.CancelledError
