"""Calls that would block the event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a thread of its own, and return its result.

    In the loop's default executor, the call would wait for other work of the program.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="moltin-jobs")
    call = functools.partial(function, *args, **kwargs)
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, call)
    finally:
        executor.shutdown(wait=False)
