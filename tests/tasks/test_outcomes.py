"""Concurrent calls whose outcomes are given as each call ends, in virtual time."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from moltin_jobs import SessionClosedError
from moltin_jobs._tasks.operations import Operations
from moltin_jobs._tasks.outcomes import Call, Outcomes, gather

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("task_factory")]


def now() -> float:
    return asyncio.get_running_loop().time()


def other_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {task for task in [asyncio.current_task()] if task is not None}


def succeed(seconds: float) -> Call[float]:
    async def call() -> float:
        await asyncio.sleep(seconds)
        return seconds

    return call


def fail(seconds: float, error: BaseException | None = None) -> Call[float]:
    async def call() -> float:
        await asyncio.sleep(seconds)
        raise LookupError(seconds) if error is None else error

    return call


def end_slowly(seconds: float) -> Call[float]:
    """Take ``seconds`` to end after a cancellation."""

    async def call() -> float:
        try:
            await asyncio.sleep(99)
        finally:
            await asyncio.sleep(seconds)
        raise AssertionError

    return call


def fail_late(seconds: float) -> Call[float]:
    async def call() -> float:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(99)
        return await fail(seconds)()

    return call


def outcomes_of(operations: Operations, *calls: Call[float]) -> Outcomes[int, float, LookupError]:
    """Return outcomes of calls that are named by their number."""
    return Outcomes(operations, enumerate(calls), LookupError)


class TestOutcomes:
    async def test_outcomes_are_given_as_the_calls_end(self, operations: Operations) -> None:
        seen = []
        async with outcomes_of(operations, succeed(3), fail(1), succeed(2)) as outcomes:
            async for number, outcome in outcomes:
                seen.append((now(), number, repr(outcome)))
        assert seen == [(1, 1, "LookupError(1)"), (2, 2, "2"), (3, 0, "3")]

    async def test_items_are_given_unchanged_once_for_each_call(
        self, operations: Operations
    ) -> None:
        item = ["not hashable"]
        calls = [(item, succeed(1)), (item, succeed(2))]
        async with Outcomes(operations, calls, LookupError) as outcomes:
            assert [given is item async for given, _ in outcomes] == [True, True]

    async def test_calls_that_ended_before_the_iteration_are_given(
        self, operations: Operations
    ) -> None:
        async with outcomes_of(operations, succeed(2), succeed(1)) as outcomes:
            await asyncio.sleep(5)
            assert [number async for number, _ in outcomes] == [1, 0]
        assert now() == 5

    async def test_iteration_over_no_calls_ends_at_once(self, operations: Operations) -> None:
        async with outcomes_of(operations) as outcomes:
            assert [one async for one in outcomes] == []

    async def test_break_ends_the_other_calls(self, operations: Operations) -> None:
        async with outcomes_of(operations, succeed(1), end_slowly(3), succeed(99)) as outcomes:
            async for _ in outcomes:
                break
            assert len(other_tasks()) == 2
        assert now() == 4
        assert other_tasks() == set()

    async def test_exception_in_the_block_ends_the_other_calls(
        self, operations: Operations
    ) -> None:
        async def raise_after_the_first() -> None:
            async with outcomes_of(operations, succeed(1), succeed(99)) as outcomes:
                async for _ in outcomes:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await raise_after_the_first()
        assert now() == 1
        assert other_tasks() == set()

    @pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
    async def test_other_exception_is_raised_after_all_calls_have_ended(
        self, operations: Operations, error: type[BaseException]
    ) -> None:
        calls = fail(1, error()), end_slowly(3), succeed(0)
        async with outcomes_of(operations, *calls) as outcomes:
            assert await anext(outcomes) == (2, 0)
            with pytest.raises(error):
                await anext(outcomes)
            assert now() == 4
            assert other_tasks() == set()
            with pytest.raises(StopAsyncIteration):
                await anext(outcomes)

    async def test_session_closed_error_is_raised(self, operations: Operations) -> None:
        calls = [(0, fail(1, SessionClosedError())), (1, succeed(9))]
        async with Outcomes(operations, calls, Exception) as outcomes:
            with pytest.raises(SessionClosedError):
                await anext(outcomes)
        assert now() == 1

    async def test_closing_ends_the_iteration(self, operations: Operations) -> None:
        async with outcomes_of(operations, succeed(5)) as outcomes:
            asyncio.get_running_loop().call_later(2, operations.close)
            with pytest.raises(SessionClosedError):
                await anext(outcomes)
        assert now() == 2
        assert other_tasks() == set()

    async def test_block_in_a_closed_session_starts_nothing(self, operations: Operations) -> None:
        operations.close()
        with pytest.raises(SessionClosedError):
            async with outcomes_of(operations, succeed(1)):
                raise AssertionError
        assert other_tasks() == set()

    async def test_call_that_cannot_be_started_ends_those_before_it(
        self, operations: Operations
    ) -> None:
        def cannot_start() -> Coroutine[Any, Any, float]:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            async with outcomes_of(operations, succeed(9), cannot_start):
                raise AssertionError
        assert other_tasks() == set()
        assert now() == 0

    async def test_iteration_outside_the_block_is_an_error(self, operations: Operations) -> None:
        outcomes = outcomes_of(operations, succeed(1))
        with pytest.raises(RuntimeError, match="inside their 'async with' block"):
            await anext(outcomes)
        async with outcomes:
            pass
        with pytest.raises(RuntimeError, match="inside their 'async with' block"):
            await anext(outcomes)

    async def test_second_block_is_an_error(self, operations: Operations) -> None:
        outcomes = outcomes_of(operations, succeed(1))
        async with outcomes:
            with pytest.raises(RuntimeError, match="have been used before"):
                await outcomes.__aenter__()
            assert await anext(outcomes) == (0, 1)

    async def test_iteration_by_two_tasks_is_an_error(self, operations: Operations) -> None:
        async with outcomes_of(operations, succeed(1)) as outcomes:
            first = asyncio.ensure_future(anext(outcomes))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await anext(outcomes)
            assert await first == (0, 1)

    async def test_cancelled_iteration_step_loses_no_outcome(self, operations: Operations) -> None:
        async with outcomes_of(operations, succeed(2)) as outcomes:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(outcomes), 1)
            assert await anext(outcomes) == (0, 2)
        assert now() == 2

    async def test_iteration_by_a_task_that_outlives_the_block_is_an_error(
        self, operations: Operations
    ) -> None:
        async with outcomes_of(operations, succeed(9)) as outcomes:
            step = asyncio.ensure_future(anext(outcomes))
            await asyncio.sleep(1)
        with pytest.raises(RuntimeError, match="inside their 'async with' block"):
            await asyncio.wait_for(step, 1)
        assert now() == 1

    async def test_iteration_cancelled_while_the_calls_end_leaves_them_to_the_block(
        self, operations: Operations
    ) -> None:
        async with outcomes_of(operations, fail(1, ZeroDivisionError()), end_slowly(5)) as outcomes:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(outcomes), 2)
            assert now() == 2
        assert now() == 6
        assert other_tasks() == set()


class TestGather:
    @pytest.mark.parametrize("return_exceptions", [False, True])
    async def test_gather_without_failures_returns_results_in_order(
        self, operations: Operations, return_exceptions: bool
    ) -> None:
        calls = [succeed(seconds) for seconds in (3, 1, 2)]
        results = await gather(operations, calls, return_exceptions=return_exceptions)
        assert results == [3, 1, 2]
        assert now() == 3

    @pytest.mark.parametrize("return_exceptions", [False, True])
    async def test_gather_of_nothing_returns_an_empty_list(
        self, operations: Operations, return_exceptions: bool
    ) -> None:
        assert await gather(operations, [], return_exceptions=return_exceptions) == []

    async def test_gather_returning_exceptions_waits_for_all(self, operations: Operations) -> None:
        calls = [fail(1), succeed(3), fail(2)]
        outcomes = await gather(operations, calls, return_exceptions=True)
        assert [repr(outcome) for outcome in outcomes] == ["LookupError(1)", "3", "LookupError(2)"]
        assert now() == 3

    async def test_gather_raises_the_first_error_after_all_others_have_ended(
        self, operations: Operations
    ) -> None:
        calls = [succeed(1), end_slowly(5), fail(2), succeed(9)]
        with pytest.raises(LookupError, match="2"):
            await gather(operations, calls, return_exceptions=False)
        assert now() == 7
        assert other_tasks() == set()

    async def test_gather_whose_error_was_caught_leaves_the_task_uncancelled(
        self, operations: Operations
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        async with asyncio.timeout(10):  # before Python 3.13, a TaskGroup would make it raise
            with pytest.raises(LookupError):
                await gather(operations, [fail(1), succeed(5)], return_exceptions=False)
            await asyncio.sleep(1)
        assert task.cancelling() == 0

    @pytest.mark.parametrize("return_exceptions", [False, True])
    async def test_gather_that_is_cancelled_ends_when_all_calls_have_ended(
        self, operations: Operations, return_exceptions: bool
    ) -> None:
        calls = [end_slowly(3), succeed(9), succeed(1)]
        gathering = gather(operations, calls, return_exceptions=return_exceptions)
        task = asyncio.create_task(gathering)
        await asyncio.sleep(2)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert now() == 5
        assert other_tasks() == set()

    @pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
    async def test_gather_cancelled_together_with_a_failure_is_cancelled(
        self, operations: Operations, is_first: bool
    ) -> None:
        failed = asyncio.get_running_loop().create_future()

        async def fail_on_signal() -> None:
            await failed

        calls: list[Call[Any]] = [fail_on_signal, succeed(9)]
        task = asyncio.create_task(gather(operations, calls, return_exceptions=False))
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

    async def test_gather_cancelled_while_it_ends_after_a_failure_is_cancelled(
        self, operations: Operations
    ) -> None:
        gathering = gather(operations, [fail(1), end_slowly(5)], return_exceptions=False)
        task = asyncio.create_task(gathering)
        await asyncio.sleep(2)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert now() == 6
        assert other_tasks() == set()

    @pytest.mark.parametrize("ending", [end_slowly, fail_late])
    async def test_gather_cancelled_twice_leaves_nothing(
        self, operations: Operations, ending: Callable[[float], Call[float]]
    ) -> None:
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda *record: reported.append(record))
        task = asyncio.create_task(gather(operations, [ending(5), fail(1)], return_exceptions=True))
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

    async def test_gather_of_a_call_that_cancels_itself_is_cancelled(
        self, operations: Operations
    ) -> None:
        calls = [fail(1, asyncio.CancelledError()), succeed(3)]
        task = asyncio.create_task(gather(operations, calls, return_exceptions=False))
        await asyncio.wait([task])
        assert task.cancelled()
