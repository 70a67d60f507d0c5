"""Calls in threads of their own."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from moltin_jobs._tasks.threads import run_in_thread


async def test_result_and_arguments_are_passed_on() -> None:
    def describe(number: int, unit: str) -> str:
        assert threading.current_thread().name == "moltin-jobs_0"
        return f"{number} {unit}"

    assert await run_in_thread(describe, 5, "s") == "5 s"


async def test_exception_of_the_function_is_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await run_in_thread(int, "five")


async def test_busy_default_executor_does_not_delay_the_call() -> None:
    released = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    blocked = loop.run_in_executor(None, released.wait)
    try:
        assert await asyncio.wait_for(run_in_thread(int, "5"), 5) == 5
    finally:
        released.set()  # otherwise the loop could not close
    await blocked


async def test_cancelled_caller_does_not_wait_for_the_function() -> None:
    released = threading.Event()
    started_at = time.monotonic()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run_in_thread(released.wait, 30), 0.05)
    assert time.monotonic() - started_at < 5
    released.set()
