"""Scopes: what ends them, and what is left when they have been left; in virtual time."""

import asyncio
import gc
import weakref

import pytest

from moltin_jobs._tasks.operations import Scope, Scopes

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def attempt(scopes: Scopes, seconds: float) -> str:
    """Take so many seconds; say how the scope was left."""
    with Scope(scopes) as scope:
        scope.start(now())
        await asyncio.sleep(seconds)
        return "finished"
    return "expired" if scope.expired else "closed"


async def test_each_ends_when_its_own_time_is_over() -> None:
    scopes = Scopes(10)

    async def ended_after(delay: float, seconds: float) -> tuple[str, float]:
        await asyncio.sleep(delay)
        return await attempt(scopes, seconds), now()

    ended = await asyncio.gather(
        ended_after(0, 99), ended_after(1, 5), ended_after(2, 99), ended_after(30, 99)
    )
    assert [how for how, _ in ended] == ["expired", "finished", "expired", "expired"]
    assert [when for _, when in ended] == pytest.approx([10, 6, 12, 40], abs=0.001)
    assert not scopes.running


async def test_one_that_is_started_again_has_its_whole_time_again() -> None:
    with Scope(Scopes(10)) as scope:
        scope.start(now())
        await asyncio.sleep(6)
        scope.start(now())
        await asyncio.sleep(99)
    assert scope.expired
    assert now() == pytest.approx(16, abs=0.001)


async def test_thousands_take_one_timer() -> None:
    scopes = Scopes(10)
    tasks = [asyncio.create_task(attempt(scopes, 99)) for _ in range(1000)]
    await asyncio.sleep(1)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[0].result() == "expired"
    assert len(scopes._due) == 0


async def test_closing_ends_all_and_waits_for_them() -> None:
    scopes = Scopes(10)
    tasks = [asyncio.create_task(attempt(scopes, 99)) for _ in range(3)]
    await asyncio.sleep(1)
    await scopes.close()
    assert not scopes.running
    assert await asyncio.gather(*tasks) == ["closed"] * 3
    with pytest.raises(RuntimeError, match="closed"):
        await attempt(scopes, 1)
    await asyncio.sleep(99)  # no timer that is left does any harm


async def test_closed_as_its_time_runs_out_it_is_ended_once() -> None:
    scopes = Scopes(10)

    async def run() -> tuple[str, int]:
        how = await attempt(scopes, 99)
        task = asyncio.current_task()
        assert task is not None
        return how, task.cancelling()

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    (scope,) = scopes.running
    scope.expired = True
    scope.end()
    await scopes.close()
    assert await task == ("expired", 0)


async def test_one_within_another_is_left_with_it() -> None:
    scopes = Scopes(10)

    async def run() -> tuple[str, int]:
        with Scope(scopes):
            with Scope(scopes):
                await asyncio.sleep(99)
            return "the inner alone was ended", 0
        task = asyncio.current_task()
        assert task is not None
        return "both", task.cancelling()

    task = asyncio.create_task(run())
    await asyncio.sleep(1)
    await scopes.close()
    assert await task == ("both", 0)


@pytest.mark.parametrize("first", ["caller", "scope"])
async def test_the_callers_own_cancellation_goes_before(first: str) -> None:
    scopes = Scopes(10)
    task = asyncio.create_task(attempt(scopes, 99))
    await asyncio.sleep(1)
    (scope,) = scopes.running
    if first == "caller":
        task.cancel()
    scope.end()
    if first == "scope":
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_task_that_has_ended_is_not_kept() -> None:
    scopes = Scopes(10)
    task = asyncio.create_task(attempt(scopes, 1))
    await task
    kept = weakref.ref(task)
    del task
    await asyncio.sleep(0)  # for the loop to forget it too
    gc.collect()
    assert kept() is None
