"""Event loop in a thread of its own, for callers that have none."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

M = TypeVar("M", bound=AbstractAsyncContextManager[Any])


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
