"""Code of the user that misbehaves ends no call of others, and no cancellation is lost in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from moltin_jobs import Job, JobsSession, JobTimeoutError, RateLimitError, Retry
from moltin_jobs._tasks.user_code import run_user_code
from moltin_jobs.testing import Simulator

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def fail_in_group() -> None:
    """Catch the failure of a task group. Before Python 3.13, its task then counts as cancelled."""

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise OSError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
    except* OSError:
        pass


class GroupLimiter:
    """Rate limiter that uses a task group."""

    async def acquire(self) -> None:
        await fail_in_group()


async def test_task_group_in_a_limiter_ends_no_call(simulator: Simulator) -> None:
    simulator.add_job("a", ["pending"])
    async with JobsSession(
        simulator.token, base_url=simulator.url, rate_limit=GroupLimiter()
    ) as session:
        assert (await session.get_job("a")).id == "a"


async def test_task_group_in_an_auth_callable_ends_no_call(simulator: Simulator) -> None:
    async def auth() -> str:
        await fail_in_group()
        return simulator.token

    simulator.add_job("a", ["pending"])
    async with JobsSession(auth, base_url=simulator.url) as session:
        assert (await session.get_job("a")).id == "a"


async def test_task_group_in_on_created_hides_no_timeout(simulator: Simulator) -> None:
    async def on_created(_: Job) -> None:
        await fail_in_group()
        await asyncio.sleep(50)

    async with JobsSession(simulator.token, base_url=simulator.url) as session:
        with pytest.raises(JobTimeoutError):
            await session.export_orders(timeout=0.5, on_created=on_created)


async def test_auth_callable_that_turns_a_cancellation_is_called_again_for_others(
    simulator: Simulator,
) -> None:
    called_at = []

    async def auth() -> str:
        called_at.append(now())
        try:
            await asyncio.sleep(3)
        except asyncio.CancelledError:
            raise ValueError("turned") from None
        return simulator.token

    simulator.add_job("a", ["pending"])
    async with JobsSession(auth, base_url=simulator.url) as session:
        wait, lookup = await asyncio.gather(
            session.wait_for_job("a", timeout=1), session.get_job("a"), return_exceptions=True
        )
    assert isinstance(wait, JobTimeoutError)
    assert not isinstance(lookup, BaseException)
    assert called_at == [0, 1]


async def test_limiter_that_ignores_a_cancellation_during_a_cooldown_ends_at_once(
    simulator: Simulator,
) -> None:
    class Limiter:
        calls = 0

        async def acquire(self) -> None:
            self.calls += 1
            if self.calls > 1:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(50)

    simulator.add_job("a", ["pending"])
    simulator.add_faults(429)
    simulator.latency = 0.5
    async with JobsSession(
        simulator.token, base_url=simulator.url, rate_limit=Limiter(), retry=Retry(max_attempts=1)
    ) as session:
        first = asyncio.ensure_future(session.get_job("a"))
        second = asyncio.ensure_future(session.get_job("a"))
        with pytest.raises(RateLimitError):
            await first
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert now() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("end", ["result", "exception", "cancellation"])
async def test_cancellation_ends_the_call_whatever_the_code_does(end: str) -> None:
    async def code() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            if end == "exception":
                raise ValueError from None
            if end == "cancellation":
                raise

    call = asyncio.ensure_future(run_user_code(code()))
    await asyncio.sleep(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert now() == 1


async def result() -> int:
    return 7


def make_future() -> Awaitable[int]:
    future = asyncio.get_running_loop().create_future()
    future.set_result(7)
    return future


@pytest.mark.parametrize("make", [result, make_future])
async def test_result_of_any_awaitable_is_returned(make: Callable[[], Awaitable[int]]) -> None:
    assert await run_user_code(make()) == 7
