"""Interruption of a coroutine at each of its awaits, to show that none leaves anything behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class InterruptAt:
    """Await a coroutine, and interrupt it when it is suspended for the ``number``-th time, from 0.

    Args:
        coroutine: what to await.
        number: the suspension at which ``interrupt`` is called.
        interrupt: by default, cancels the task one pass of the loop later.
        repeat: whether ``interrupt`` is called at all later suspensions too.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        number: int,
        interrupt: Callable[[], object] | None = None,
        *,
        repeat: bool = False,
    ) -> None:
        self.was_reached = False
        """Whether there were so many suspensions."""
        self._coroutine = coroutine
        self._number = number
        self._interrupt = cancel_soon if interrupt is None else interrupt
        self._repeat = repeat

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._coroutine.__await__()
        suspensions = 0
        thrown: BaseException | None = None
        while True:
            try:
                future = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration as end:
                return end.value
            if suspensions == self._number or (self._repeat and self.was_reached):
                self.was_reached = True
                self._interrupt()
            suspensions += 1
            thrown = None
            try:
                yield future
            except BaseException as error:  # noqa: BLE001 (it belongs to the coroutine)
                thrown = error


def cancel_now() -> None:
    """Cancel the current task at its present suspension."""
    _current_task().cancel()


def cancel_soon() -> None:
    """Cancel the current task one pass of the loop later."""
    asyncio.get_running_loop().call_soon(_current_task().cancel)


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task
