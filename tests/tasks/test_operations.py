"""Operations, their timeouts and their end, in virtual time."""

import asyncio
import contextlib
import gc
import math
import warnings
import weakref
from collections.abc import Awaitable, Callable

import pytest

from moltin_jobs import SessionClosedError
from moltin_jobs._tasks.operations import Deadline, Operation, Operations, Sleep

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("task_factory")]


def now() -> float:
    return asyncio.get_running_loop().time()


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def run_operation(operations: Operations, seconds: float, timeout: float = math.inf) -> float:
    """Sleep inside an operation. Return the moment of its end."""
    with Operation(operations, now() + timeout):
        await asyncio.sleep(seconds)
    return now()


class TestTimeouts:
    async def test_operation_within_its_timeout_ends_by_itself(
        self, operations: Operations
    ) -> None:
        assert await run_operation(operations, 5, timeout=6) == 5
        assert not operations.running
        await asyncio.sleep(10)

    async def test_operation_beyond_its_timeout_raises_timeout_error(
        self, operations: Operations
    ) -> None:
        with pytest.raises(TimeoutError) as caught:
            await run_operation(operations, 99, timeout=4)
        assert now() == 4
        assert caught.value.__context__ is None
        assert not operations.running
        assert cancelling() == 0

    async def test_operation_whose_end_has_passed_ends_at_its_first_await(
        self, operations: Operations
    ) -> None:
        await asyncio.sleep(5)
        with pytest.raises(TimeoutError):
            await run_operation(operations, 99, timeout=-1)
        assert now() == pytest.approx(5, abs=0.001)

    @pytest.mark.parametrize(
        ("inner", "outer", "expected"),
        [(4, 6, "inner"), (6, 4, "outer"), (4, 4, "outer")],
    )
    async def test_nested_operation_ends_at_the_earlier_moment(
        self, operations: Operations, inner: float, outer: float, expected: str
    ) -> None:
        with (
            pytest.raises(LookupError, match=expected) as caught,
            Deadline(operations, outer, make_error=lambda: LookupError("outer")),
            Deadline(operations, inner, make_error=lambda: LookupError("inner")),
        ):
            await asyncio.sleep(99)
        assert now() == 4
        assert caught.value.__context__ is None
        assert not operations.running
        assert cancelling() == 0

    async def test_many_operations_end_each_at_its_own_moment(self, operations: Operations) -> None:
        async def start_after(delay: float, seconds: float) -> float:
            await asyncio.sleep(delay)
            try:
                return await run_operation(operations, seconds, timeout=10)
            except TimeoutError:
                return -now()

        ended_at = await asyncio.gather(
            start_after(0, 99), start_after(1, 5), start_after(2, 99), start_after(30, 99)
        )
        assert ended_at == pytest.approx([-10, 6, -12, -40], abs=0.001)

    async def test_end_at_while_running_replaces_the_timeout(self, operations: Operations) -> None:
        operation = Operation(operations, ends_at=10)
        asyncio.get_running_loop().call_at(6, operation.end_at, 16)
        with pytest.raises(TimeoutError), operation:
            await asyncio.sleep(99)
        assert now() == 16

    async def test_end_at_infinity_removes_the_alarm(self, operations: Operations) -> None:
        with Operation(operations, ends_at=10) as operation:
            operation.end_at(math.inf)
            await asyncio.sleep(99)

    async def test_end_at_before_the_block_sets_its_timeout(self, operations: Operations) -> None:
        operation = Operation(operations)
        operation.end_at(3)
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError), operation:
            await asyncio.sleep(99)
        assert now() == 3

    async def test_end_at_after_the_block_does_nothing(self, operations: Operations) -> None:
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda *args: reported.append(args))
        with Operation(operations) as operation:
            pass
        operation.end_at(1)
        await asyncio.sleep(5)
        assert reported == []

    async def test_subclass_chooses_the_error_of_its_timeout(self, operations: Operations) -> None:
        class Download(Operation):
            def timeout_error(self) -> Exception:
                return LookupError("slow")

        with pytest.raises(LookupError, match="slow"), Download(operations, ends_at=1):
            await asyncio.sleep(5)

    async def test_error_of_the_block_passes_through(self, operations: Operations) -> None:
        with pytest.raises(LookupError), Operation(operations, 5):
            raise LookupError
        assert not operations.running
        await asyncio.sleep(9)

    async def test_error_raised_while_the_block_ends_has_precedence(
        self, operations: Operations
    ) -> None:
        async def fail_on_cancellation() -> None:
            try:
                await asyncio.sleep(99)
            except asyncio.CancelledError:
                raise LookupError from None

        with pytest.raises(LookupError), Operation(operations, 5):
            await fail_on_cancellation()
        assert cancelling() == 0


class TestCancellation:
    @pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
    async def test_cancellation_by_the_caller_beside_a_closing_has_precedence(
        self, operations: Operations, is_first: bool
    ) -> None:
        task = asyncio.create_task(run_operation(operations, 99))
        await asyncio.sleep(1)
        if is_first:
            task.cancel()
        operations.close()
        if not is_first:
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert task.cancelling() == 1

    async def test_timeout_in_a_task_that_absorbed_a_cancellation_raises_timeout_error(
        self, operations: Operations
    ) -> None:
        async def absorb_then_run() -> int:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(99)
            with pytest.raises(TimeoutError):
                await run_operation(operations, 99, timeout=4)
            return cancelling()

        task = asyncio.create_task(absorb_then_run())
        await asyncio.sleep(1)
        task.cancel()
        assert await task == 1

    async def test_timeout_around_an_operation_is_not_its_own(self, operations: Operations) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3) as outer:
                await run_operation(operations, 99, timeout=5)
        assert outer.expired()
        assert now() == 3


class TestClosing:
    async def test_closing_ends_every_operation_with_the_same_error(
        self, operations: Operations
    ) -> None:
        async def sleep() -> None:
            with Operation(operations):
                await operations.sleep_until(99)

        async def nested() -> None:
            with Operation(operations, 50):
                await run_operation(operations, 99, timeout=60)

        calls = (
            run_operation(operations, 99),
            run_operation(operations, 99, timeout=40),
            nested(),
            sleep(),
        )
        tasks = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(1)
        operations.close()
        operations.close()
        await operations.wait_until_idle()
        errors = [task.exception() for task in tasks]
        assert [type(error) for error in errors] == [SessionClosedError] * 4
        assert {str(error) for error in errors} == {"the JobsSession was closed during this call."}
        assert [error.__context__ for error in errors if error is not None] == [None] * 4
        assert not operations.running
        assert [task.cancelling() for task in tasks] == [0] * 4
        assert now() == 1
        await asyncio.sleep(99)  # an alarm that is left would raise in the loop

    async def test_closing_ends_the_innermost_operation_with_its_own_error(
        self, operations: Operations
    ) -> None:
        class Creation(Operation):
            def closed_error(self) -> SessionClosedError:
                return SessionClosedError("it may exist")

        async def run() -> None:
            with Operation(operations, 50), Creation(operations):
                await asyncio.sleep(99)

        task = asyncio.create_task(run())
        await asyncio.sleep(1)
        operations.close()
        with pytest.raises(SessionClosedError, match="it may exist"):
            await task
        assert task.cancelling() == 0

    async def test_closing_while_the_innermost_operation_ends_ends_the_outer_one(
        self, operations: Operations
    ) -> None:
        async def run() -> None:
            with Operation(operations):
                with pytest.raises(TimeoutError), Operation(operations, 5):
                    await asyncio.sleep(99)
                await asyncio.sleep(99)  # it continues after the timeout

        task = asyncio.create_task(run())
        await asyncio.sleep(1)  # the alarm is set first, so it rings first
        asyncio.get_running_loop().call_at(5, operations.close)
        with pytest.raises(SessionClosedError):
            await task
        assert task.cancelling() == 0
        assert now() == pytest.approx(5, abs=0.001)

    async def test_closing_after_an_inner_operation_ends_the_outer_one(
        self, operations: Operations
    ) -> None:
        async def run() -> None:
            with Operation(operations):
                await run_operation(operations, 1)
                await asyncio.sleep(99)

        asyncio.get_running_loop().call_at(2, operations.close)
        with pytest.raises(SessionClosedError):
            await run()
        assert now() == 2
        assert not operations.running

    async def test_closing_beside_a_timeout_ends_an_operation_once(
        self, operations: Operations
    ) -> None:
        async def run() -> int:
            with pytest.raises((TimeoutError, SessionClosedError)):
                await run_operation(operations, 99, timeout=5)
            return cancelling()

        task = asyncio.create_task(run())
        asyncio.get_running_loop().call_at(5, operations.close)
        assert await task == 0

    @pytest.mark.parametrize(
        "use",
        [
            lambda operations: run_operation(operations, 1),
            lambda operations: operations.sleep_until(5),
            lambda operations: operations.create_task(asyncio.sleep(1)),
        ],
        ids=["operation", "sleep", "task"],
    )
    async def test_closed_operations_accept_nothing_new(
        self, operations: Operations, use: Callable[[Operations], Awaitable[object]]
    ) -> None:
        operations.close()
        with (
            warnings.catch_warnings(record=True) as recorded,
            pytest.raises(SessionClosedError, match=r"^the JobsSession is closed: create a new"),
        ):
            await use(operations)
        gc.collect()
        assert recorded == []

    async def test_wait_until_idle_returns_when_the_last_operation_has_ended(
        self, operations: Operations
    ) -> None:
        async def end_slowly() -> None:
            try:
                await run_operation(operations, 99)
            finally:
                with Operation(unrelated):
                    await asyncio.sleep(3)

        async def clean_up() -> None:
            with contextlib.suppress(SessionClosedError), Operation(operations):
                try:
                    await asyncio.sleep(99)
                finally:
                    await asyncio.sleep(4)

        unrelated = Operations()
        calls = [asyncio.create_task(clean_up()), operations.create_task(end_slowly())]
        await asyncio.sleep(1)
        operations.close()
        first = asyncio.create_task(operations.wait_until_idle())
        await asyncio.sleep(0)
        first.cancel()
        second = asyncio.create_task(operations.wait_until_idle())
        await asyncio.sleep(3.5)
        assert not second.done()
        await second
        assert now() == 5
        assert first.cancelled()
        assert all(task.done() for task in calls)

    async def test_wait_until_idle_of_unused_operations_returns_at_once(
        self, operations: Operations
    ) -> None:
        await operations.wait_until_idle()
        operations.close()
        await operations.wait_until_idle()

    def test_another_event_loop_raises_runtime_error(self, operations: Operations) -> None:
        async def use() -> None:
            operations.get_loop()

        async def close() -> None:
            operations.close()

        async def enter() -> None:
            with Operation(operations):
                raise AssertionError

        asyncio.run(use())
        for function in (use, close, enter):
            with pytest.raises(RuntimeError, match="another event loop") as caught:
                asyncio.run(function())
            assert not isinstance(caught.value, SessionClosedError)
        assert not operations.closed


class TestSleeps:
    async def test_sleep_until_a_moment_ends_at_it(self, operations: Operations) -> None:
        assert await operations.sleep_until(5) is False
        assert now() == 5

    async def test_cancelled_sleep_has_no_alarm(self, operations: Operations) -> None:
        sleep = operations.sleep_until(5)
        assert isinstance(sleep, Sleep)
        assert sleep.alarm_number
        sleep.cancel()
        assert not sleep.alarm_number
        await asyncio.sleep(9)

    async def test_sleep_that_is_woken_ends_early(self, operations: Operations) -> None:
        sleep = operations.sleep_until(5)
        asyncio.get_running_loop().call_later(1, sleep.wake)
        assert await sleep is True
        assert now() == 1
        await asyncio.sleep(10)  # its alarm is gone
        sleep.wake()

    async def test_cancelled_sleep_passes_the_message_on(self, operations: Operations) -> None:
        async def sleep() -> None:
            await operations.sleep_until(5)

        task = asyncio.create_task(sleep())
        await asyncio.sleep(1)
        task.cancel("the reason")
        with pytest.raises(asyncio.CancelledError, match=r"^the reason$"):
            await task

    async def test_sleep_whose_alarm_rings_twice_ends_once(self, operations: Operations) -> None:
        sleep = operations.sleep_until(5)
        assert isinstance(sleep, Sleep)
        asyncio.get_running_loop().call_at(3, sleep.on_alarm)
        await sleep
        assert now() == 3
        await asyncio.sleep(9)


class TestTasks:
    async def test_task_is_counted_until_it_ends(self, operations: Operations) -> None:
        task = operations.create_task(asyncio.sleep(1, "result"))
        assert operations.tasks == {task}
        assert await task == "result"
        assert not operations.tasks

    async def test_task_whose_exception_nobody_retrieves_is_not_reported(
        self, operations: Operations
    ) -> None:
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda *record: reported.append(record))

        async def fail() -> None:
            await asyncio.sleep(1)
            raise LookupError

        operations.create_task(fail())
        await asyncio.sleep(2)
        gc.collect()
        assert reported == []
        assert not operations.tasks

    async def test_task_cancelled_before_it_starts_leaves_nothing(
        self, operations: Operations
    ) -> None:
        with warnings.catch_warnings(record=True) as recorded:
            task = operations.create_task(asyncio.sleep(99))
            task.cancel()
            await asyncio.wait([task])
            gc.collect()
        assert recorded == []
        assert not operations.tasks
        operations.close()
        await asyncio.wait_for(operations.wait_until_idle(), 1)

    async def test_task_that_never_suspends_leaves_nothing(self, operations: Operations) -> None:
        async def return_at_once() -> int:
            return 5

        assert await operations.create_task(return_at_once()) == 5
        await asyncio.sleep(0)  # an eager task ends before it is counted
        assert not operations.tasks

    async def test_task_that_has_ended_is_not_kept_alive(self, operations: Operations) -> None:
        task = asyncio.create_task(run_operation(operations, 1, timeout=50))
        reference = weakref.ref(task)
        await task
        del task
        await asyncio.sleep(0)  # the loop releases its last handle
        gc.collect()
        assert reference() is None
