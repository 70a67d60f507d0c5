"""Calls that would block the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")


async def run_in_thread(function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Call a function in a thread of its own, and return its result.

    In the loop's default executor, the call would wait for other work of the program.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="moltin-jobs")
    result = asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
    executor.shutdown(wait=False)  # the thread ends after the call
    return await result
