"""Single flight in virtual time."""

import asyncio
import math
import traceback
from collections.abc import Callable

import attrs
import pytest

from moltin_jobs import ServerError, SessionClosedError
from moltin_jobs._tasks.operations import Operation, Operations
from moltin_jobs._tasks.single_flight import Flight, SingleFlight

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("task_factory")]

ALWAYS, NEVER = -math.inf, math.inf


def now() -> float:
    return asyncio.get_running_loop().time()


@attrs.define
class Calls:
    """Count calls. Each takes ``seconds`` and returns its number, or raises."""

    seconds: float | Callable[[int], float] = 1.0
    error: Callable[[int], BaseException] | None = None
    started_at: list[float] = attrs.field(factory=list)
    cancelled: int = 0

    async def __call__(self) -> int:
        self.started_at.append(now())
        number = len(self.started_at)
        try:
            await asyncio.sleep(self.seconds(number) if callable(self.seconds) else self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error(number)
        return number


async def test_concurrent_callers_share_one_call(operations: Operations) -> None:
    calls = Calls()
    flight = SingleFlight(operations, calls)
    results = await asyncio.gather(*(flight.get(fresh_after=NEVER) for _ in range(50)))
    assert results == [1] * 50
    assert calls.started_at == [0]
    assert not operations.tasks
    assert not operations.running


async def test_last_result_is_returned_while_its_call_started_recently_enough(
    operations: Operations,
) -> None:
    calls = Calls()
    flight = SingleFlight(operations, calls)
    await asyncio.sleep(3)
    assert await flight.get(fresh_after=3) == 1
    await asyncio.sleep(5)
    assert await flight.get(fresh_after=3) == 1
    assert await flight.get(fresh_after=3.1) == 2
    assert calls.started_at == [3, 9]
    assert now() == 10


async def test_call_in_flight_is_joined_however_old_it_is(operations: Operations) -> None:
    calls = Calls(seconds=10)
    flight = SingleFlight(operations, calls)
    first = asyncio.create_task(flight.get(fresh_after=NEVER))
    await asyncio.sleep(9)
    assert await flight.get(fresh_after=9) == 1
    assert await first == 1
    assert now() == 10


async def test_call_in_flight_older_than_join_after_is_not_joined(operations: Operations) -> None:
    calls = Calls(seconds=10)
    flight = SingleFlight(operations, calls)
    first = asyncio.create_task(flight.get(fresh_after=NEVER))
    await asyncio.sleep(4)
    second = asyncio.create_task(flight.get(fresh_after=4, join_after=4))
    await asyncio.sleep(2)
    third = asyncio.create_task(flight.get(fresh_after=6, join_after=4))
    assert [await first, await second, await third] == [1, 2, 2]
    assert calls.started_at == [0, 4]
    assert now() == 14


async def test_result_of_a_call_that_was_overtaken_is_not_kept(operations: Operations) -> None:
    calls = Calls(seconds=lambda number: 5 if number == 1 else 0.5)
    flight = SingleFlight(operations, calls)
    slow = asyncio.create_task(flight.get(fresh_after=NEVER))
    await asyncio.sleep(2)
    assert await flight.get(fresh_after=NEVER, join_after=2) == 2
    assert await slow == 1
    assert now() == 5
    assert await flight.get(fresh_after=ALWAYS) == 2


async def test_call_in_flight_that_was_overtaken_is_joined_by_its_own_waiters_only(
    operations: Operations,
) -> None:
    calls = Calls(seconds=lambda number: 5 if number == 1 else 2)
    flight = SingleFlight(operations, calls)
    slow = asyncio.create_task(flight.get(fresh_after=NEVER))
    await asyncio.sleep(1)
    newer = asyncio.create_task(flight.get(fresh_after=NEVER, join_after=1))
    await asyncio.sleep(1)
    assert await flight.get(fresh_after=NEVER) == 2
    assert [await newer, await slow] == [2, 1]
    assert len(calls.started_at) == 2


async def test_failed_call_fails_each_caller_with_a_copy_of_its_own(operations: Operations) -> None:
    calls = Calls(error=lambda number: ServerError(503, f"request {number}"))
    flight = SingleFlight(operations, calls)
    errors = await asyncio.gather(
        *(flight.get(fresh_after=NEVER) for _ in range(50)), return_exceptions=True
    )
    assert {repr(error) for error in errors} == {repr(ServerError(503, "request 1"))}
    assert len({id(error) for error in errors}) == 50
    assert calls.started_at == [0]


async def test_failed_call_is_not_kept(operations: Operations) -> None:
    calls = Calls(error=lambda number: ServerError(503, f"request {number}"))
    flight = SingleFlight(operations, calls)
    for number in (1, 2):
        with pytest.raises(ServerError, match=f"request {number}"):
            await flight.get(fresh_after=ALWAYS)


async def test_failed_call_after_a_success_keeps_the_last_result(operations: Operations) -> None:
    calls = Calls()
    flight = SingleFlight(operations, calls)
    assert await flight.get(fresh_after=NEVER) == 1
    calls.error = lambda number: ServerError(503, f"request {number}")
    with pytest.raises(ServerError):
        await flight.get(fresh_after=NEVER)
    assert await flight.get(fresh_after=0) == 1


async def test_foreign_error_is_raised_in_all_callers_with_a_short_traceback(
    operations: Operations,
) -> None:
    class UncopyableError(Exception):
        def __reduce__(self) -> str:
            raise TypeError

    flight = SingleFlight(operations, Calls(error=lambda _: UncopyableError()))
    errors = await asyncio.gather(
        *(flight.get(fresh_after=NEVER) for _ in range(50)), return_exceptions=True
    )
    for error in errors:
        assert isinstance(error, UncopyableError)
        assert len(traceback.format_tb(error.__traceback__)) < 10


async def test_foreign_error_leads_each_caller_to_its_origin(operations: Operations) -> None:
    flight = SingleFlight(operations, Calls(error=lambda _: LookupError()))
    errors = await asyncio.gather(
        *(flight.get(fresh_after=NEVER) for _ in range(3)), return_exceptions=True
    )
    for error in errors:
        assert isinstance(error, LookupError)
        frames = traceback.extract_tb(error.__traceback__)
        assert frames[-1].line == "raise self.error(number)"


async def test_end_of_an_earlier_call_leaves_the_call_in_flight_to_its_callers(
    operations: Operations,
) -> None:
    calls = Calls(seconds=10)
    flight = SingleFlight(operations, calls)
    callers = [asyncio.create_task(flight.get(fresh_after=NEVER))]
    await asyncio.sleep(5)
    callers.append(asyncio.create_task(flight.get(fresh_after=NEVER, join_after=5)))
    await asyncio.sleep(6)  # the first call has ended
    callers.append(asyncio.create_task(flight.get(fresh_after=NEVER)))
    assert await asyncio.gather(*callers) == [1, 2, 2]
    assert calls.started_at == [0, 5]


async def test_call_that_no_caller_waits_for_is_cancelled(operations: Operations) -> None:
    calls = Calls(seconds=99)
    flight = SingleFlight(operations, calls)
    callers = [asyncio.create_task(flight.get(fresh_after=NEVER)) for _ in range(3)]
    await asyncio.sleep(1)
    for caller in callers[:2]:
        caller.cancel()
    await asyncio.sleep(1)
    assert calls.cancelled == 0
    callers[2].cancel()
    await asyncio.wait(callers)
    await asyncio.sleep(0)
    assert calls.cancelled == 1
    assert all(caller.cancelled() for caller in callers)
    await asyncio.sleep(0)
    assert not operations.tasks


async def test_caller_after_the_last_one_was_cancelled_starts_a_new_call(
    operations: Operations,
) -> None:
    calls = Calls(seconds=10)
    flight = SingleFlight(operations, calls)
    first = asyncio.create_task(flight.get(fresh_after=NEVER))
    await asyncio.sleep(5)
    first.cancel()
    second = asyncio.create_task(flight.get(fresh_after=NEVER))
    assert await second in (1, 2), "it may join the call before the cancellation is delivered"
    assert first.cancelled()


async def test_callers_cancelled_before_the_call_starts_leave_nothing(
    operations: Operations,
) -> None:
    calls = Calls()
    flight = SingleFlight(operations, calls)
    callers = [asyncio.create_task(flight.get(fresh_after=NEVER)) for _ in range(2)]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    operations.close()
    await asyncio.wait_for(operations.wait_until_idle(), 1)
    assert not operations.tasks


async def test_caller_whose_time_is_over_leaves_the_call_to_the_others(
    operations: Operations,
) -> None:
    calls = Calls(seconds=10)
    flight = SingleFlight(operations, calls)
    patient = asyncio.create_task(flight.get(fresh_after=NEVER))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(4):
            await flight.get(fresh_after=NEVER)
    assert now() == 4
    assert await patient == 1


async def test_closing_ends_all_callers_and_the_call(operations: Operations) -> None:
    async def call() -> int:
        with Operation(operations):
            return await calls()

    async def get() -> int:
        with Operation(operations):
            return await flight.get(fresh_after=NEVER)

    calls = Calls(seconds=99)
    flight = SingleFlight(operations, call)
    callers = [asyncio.create_task(get()) for _ in range(5)]
    await asyncio.sleep(1)
    operations.close()
    await operations.wait_until_idle()
    errors = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(error) for error in errors} == {SessionClosedError}
    assert calls.cancelled == 1
    assert now() == 1


async def test_cancelled_call_cancels_its_callers(operations: Operations) -> None:
    flight = SingleFlight(operations, Calls(error=lambda _: asyncio.CancelledError()))
    callers = [asyncio.create_task(flight.get(fresh_after=NEVER)) for _ in range(3)]
    await asyncio.wait(callers)
    assert all(caller.cancelled() for caller in callers)


async def test_call_that_never_suspends_is_returned(operations: Operations) -> None:
    async def return_at_once() -> int:
        return 7

    flight = SingleFlight(operations, return_at_once)
    assert await asyncio.gather(*(flight.get(fresh_after=NEVER) for _ in range(3))) == [7, 7, 7]
    assert await flight.get(fresh_after=0) == 7


async def test_caller_cancelled_as_the_call_ends_is_cancelled(operations: Operations) -> None:
    ended = asyncio.Event()

    async def wait_for_signal() -> int:
        await ended.wait()
        return 1

    flight = SingleFlight(operations, wait_for_signal)
    callers = [asyncio.create_task(flight.get(fresh_after=NEVER)) for _ in range(3)]
    await asyncio.sleep(1)
    ended.set()
    callers[0].cancel()
    await asyncio.wait(callers)
    assert callers[0].cancelled()
    assert [caller.result() for caller in callers[1:]] == [1, 1]


async def test_flight_that_has_ended_returns_its_result_at_once(operations: Operations) -> None:
    calls = Calls()
    flight = Flight(operations, lambda _: calls())
    for _ in range(2):
        assert await flight.wait() == 1
    assert now() == 1
