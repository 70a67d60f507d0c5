"""Concurrent calls whose outcomes are collected in order, in virtual time."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from moltin_jobs._tasks.outcomes import gather_outcomes

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("task_factory")]


def now() -> float:
    return asyncio.get_running_loop().time()


def other_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {task for task in [asyncio.current_task()] if task is not None}


async def succeed(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def fail(seconds: float, error: BaseException | None = None) -> float:
    await asyncio.sleep(seconds)
    raise LookupError(seconds) if error is None else error


async def end_slowly(seconds: float) -> float:
    """Take ``seconds`` to end after a cancellation."""
    try:
        await asyncio.sleep(99)
    finally:
        await asyncio.sleep(seconds)
    raise AssertionError


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_gather_without_failures_returns_results_in_order(return_exceptions: bool) -> None:
    calls = [succeed(seconds) for seconds in (3, 1, 2)]
    assert await gather_outcomes(calls, return_exceptions=return_exceptions) == [3, 1, 2]
    assert now() == 3


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_gather_of_nothing_returns_an_empty_list(return_exceptions: bool) -> None:
    assert await gather_outcomes([], return_exceptions=return_exceptions) == []


async def test_gather_returning_exceptions_waits_for_all() -> None:
    outcomes = await gather_outcomes([fail(1), succeed(3), fail(2)], return_exceptions=True)
    assert [repr(outcome) for outcome in outcomes] == ["LookupError(1)", "3", "LookupError(2)"]
    assert now() == 3


async def test_gather_raises_the_first_error_after_all_others_have_ended() -> None:
    with pytest.raises(LookupError, match="2"):
        await gather_outcomes(
            [succeed(1), end_slowly(5), fail(2), succeed(9)], return_exceptions=False
        )
    assert now() == 7
    assert other_tasks() == set()


async def test_gather_whose_error_was_caught_leaves_the_task_uncancelled() -> None:
    task = asyncio.current_task()
    assert task is not None
    async with asyncio.timeout(10):  # before Python 3.13, a TaskGroup would make it raise
        with pytest.raises(LookupError):
            await gather_outcomes([fail(1), succeed(5)], return_exceptions=False)
        await asyncio.sleep(1)
    assert task.cancelling() == 0


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_gather_that_is_cancelled_ends_when_all_calls_have_ended(
    return_exceptions: bool,
) -> None:
    calls = [end_slowly(3), succeed(9), succeed(1)]
    task = asyncio.create_task(gather_outcomes(calls, return_exceptions=return_exceptions))
    await asyncio.sleep(2)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert now() == 5
    assert other_tasks() == set()


@pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
async def test_gather_cancelled_together_with_a_failure_is_cancelled(is_first: bool) -> None:
    failed = asyncio.get_running_loop().create_future()

    async def fail_on_signal() -> None:
        await failed

    task = asyncio.create_task(
        gather_outcomes([fail_on_signal(), succeed(9)], return_exceptions=False)
    )
    await asyncio.sleep(1)
    if is_first:
        task.cancel()
    failed.set_exception(LookupError())
    if not is_first:
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert task.cancelling() == 1
    assert other_tasks() == set()


async def test_gather_cancelled_while_it_ends_after_a_failure_is_cancelled() -> None:
    task = asyncio.create_task(gather_outcomes([fail(1), end_slowly(5)], return_exceptions=False))
    await asyncio.sleep(2)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await asyncio.sleep(5)
    assert other_tasks() == set()


@pytest.mark.parametrize("ending", [lambda: end_slowly(5), lambda: fail_late(5)], ids=["", "fails"])
async def test_gather_cancelled_twice_leaves_nothing(
    ending: Callable[[], Coroutine[Any, Any, float]],
) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda *record: reported.append(record))
    task = asyncio.create_task(gather_outcomes([ending(), fail(1)], return_exceptions=True))
    await asyncio.sleep(2)
    task.cancel()
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert now() == 3
    await asyncio.sleep(10)
    assert other_tasks() == set()
    assert reported == []


async def fail_late(seconds: float) -> float:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(99)
    return await fail(seconds)


async def test_gather_of_a_call_that_cancels_itself_is_cancelled() -> None:
    calls = [fail(1, asyncio.CancelledError()), succeed(3)]
    task = asyncio.create_task(gather_outcomes(calls, return_exceptions=False))
    await asyncio.wait([task])
    assert task.cancelled()
