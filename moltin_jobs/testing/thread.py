"""Event loops in other threads, for callers that have none."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
M = TypeVar("M", bound=AbstractAsyncContextManager[Any])
T = TypeVar("T")


class HomeLoop:
    """Event loop to which an object belongs, and the thread in which it runs."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id: int | None = None

    def attach(self) -> None:
        """Make the running event loop the home loop."""
        self._loop, self._thread_id = asyncio.get_running_loop(), threading.get_ident()

    def detach(self) -> None:
        """Forget the event loop, which is about to end."""
        self._loop = self._thread_id = None

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the thread of the event loop and return its result."""
        if self._loop is None or self._thread_id == threading.get_ident():
            return function(*args, **kwargs)

        async def call() -> T:
            return function(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()


@contextlib.contextmanager
def open_in_thread(manager: M) -> Iterator[M]:
    """Keep an async context manager open on an event loop in a thread of its own."""
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    loop = runner.get_loop()

    def run_loop() -> None:
        with runner:  # its exit cancels the tasks that are left
            loop.run_forever()

    # A daemon thread: a notebook that never leaves the context can still exit.
    thread = threading.Thread(target=run_loop, name="moltin-simulator", daemon=True)
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
