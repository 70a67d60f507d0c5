"""Concurrent calls whose outcomes are collected in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from .operations import retrieve_exception


async def gather_outcomes(
    coroutines: Iterable[Coroutine[Any, Any, Any]], *, return_exceptions: bool
) -> list[Any]:
    """Run coroutines concurrently, and return their results in order.

    Without ``return_exceptions``, an exception is raised after the other coroutines were
    cancelled and have ended. ``asyncio.TaskGroup`` is not used: before Python 3.13 it leaves
    ``Task.cancelling()`` at 1 when its exception is caught.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    return_when = asyncio.ALL_COMPLETED if return_exceptions else asyncio.FIRST_EXCEPTION
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=return_when)
    finally:
        for task in tasks:
            task.add_done_callback(retrieve_exception)
        pending = [task for task in tasks if task.cancel()]  # False for one that has ended
        if pending:
            await asyncio.wait(pending)
    if not return_exceptions:
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
    # Raises CancelledError for a task that was cancelled.
    return [task.result() if (error := task.exception()) is None else error for task in tasks]
