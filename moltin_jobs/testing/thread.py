"""Event loop in a thread of its own, for callers that have none."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Generic, NoReturn, TypeVar

M = TypeVar("M", bound=AbstractAsyncContextManager[Any])


class LoopThread(AbstractContextManager[M], Generic[M]):
    """Keep an async context manager open on an event loop in a thread of its own."""

    def __init__(self, manager: M) -> None:
        self._manager = manager
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> M:
        return self._stack.enter_context(open_in_thread(self._manager))

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def __aenter__(self) -> NoReturn:
        raise TypeError(
            "Simulator.in_thread(): it has an event loop of its own. "
            "Use 'with Simulator.in_thread()', or 'async with Simulator()'."
        )

    async def __aexit__(self, *_: object) -> None:
        """Python looks for it before it calls `__aenter__`."""


@contextlib.contextmanager
def open_in_thread(manager: M) -> Iterator[M]:
    """Run an event loop in a thread, and open an async context manager there."""
    loop = asyncio.new_event_loop()
    # A daemon thread: a notebook that never leaves the context can still exit.
    thread = threading.Thread(target=loop.run_forever, name="moltin-simulator", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(manager.__aenter__(), loop).result()
        try:
            yield manager
        finally:
            asyncio.run_coroutine_threadsafe(manager.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
