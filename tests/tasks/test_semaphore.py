"""Semaphore with a fair queue."""

import asyncio
import gc
import random
import time

import pytest

from moltin_jobs._tasks.semaphore import Semaphore


async def hold(semaphore: Semaphore, name: str, log: list[str], passes: int = 3) -> None:
    await semaphore.acquire()
    log.append(name)
    try:
        for _ in range(passes):
            await asyncio.sleep(0)
    finally:
        semaphore.release()


async def test_semaphore_never_gives_more_permits_than_it_has() -> None:
    semaphore, most = Semaphore(3), 0

    async def use() -> None:
        nonlocal most
        await semaphore.acquire()
        most = max(most, semaphore.taken)
        await asyncio.sleep(0)
        semaphore.release()

    await asyncio.gather(*(use() for _ in range(20)))
    assert most == 3
    assert (semaphore.taken, semaphore.waiting) == (0, 0)


async def test_semaphore_serves_waiters_in_the_order_of_their_calls() -> None:
    semaphore, log = Semaphore(2), list[str]()
    names = [str(number) for number in range(20)]
    await asyncio.gather(*(hold(semaphore, name, log) for name in names))
    assert log == names


async def test_try_acquire_with_free_permits_takes_them() -> None:
    semaphore = Semaphore(2)
    assert [semaphore.try_acquire() for _ in range(3)] == [True, True, False]
    semaphore.release()
    assert semaphore.taken == 1
    assert semaphore.try_acquire()


async def test_try_acquire_while_waiters_are_queued_takes_nothing() -> None:
    semaphore, log = Semaphore(1), list[str]()
    await semaphore.acquire()
    waiter = asyncio.create_task(hold(semaphore, "waiter", log))
    await asyncio.sleep(0)
    semaphore.release()
    assert not semaphore.try_acquire()
    await waiter
    assert semaphore.try_acquire()


async def test_cancelled_waiters_are_skipped_and_take_nothing() -> None:
    semaphore, log = Semaphore(1), list[str]()
    await semaphore.acquire()
    tasks = {name: asyncio.create_task(hold(semaphore, name, log)) for name in "abcd"}
    await asyncio.sleep(0)
    assert semaphore.waiting == 4
    for name in "ac":
        tasks[name].cancel()
    await asyncio.sleep(0)
    assert semaphore.waiting == 2
    semaphore.release()
    await asyncio.wait(tasks.values())
    assert log == ["b", "d"]
    assert (semaphore.taken, semaphore.waiting) == (0, 0)


async def test_permit_that_arrives_with_a_cancellation_goes_to_the_next_waiter() -> None:
    semaphore, log = Semaphore(1), list[str]()
    await semaphore.acquire()
    first, second = (asyncio.create_task(hold(semaphore, name, log)) for name in "ab")
    await asyncio.sleep(0)
    semaphore.release()
    first.cancel()
    await asyncio.wait([first, second])
    assert first.cancelled()
    assert log == ["b"]
    assert (semaphore.taken, semaphore.waiting) == (0, 0)


async def test_all_waiters_cancelled_leaves_all_permits_free() -> None:
    semaphore = Semaphore(1)
    await semaphore.acquire()
    tasks = [asyncio.create_task(semaphore.acquire()) for _ in range(5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    semaphore.release()
    assert (semaphore.taken, semaphore.waiting) == (0, 0)
    assert semaphore.try_acquire()


@pytest.mark.parametrize("seed", range(20))
async def test_random_cancellations_lose_no_permit(seed: int) -> None:
    rng, semaphore, log = random.Random(seed), Semaphore(3), list[str]()
    tasks = [
        asyncio.create_task(hold(semaphore, str(number), log, rng.randrange(4)))
        for number in range(100)
    ]
    while not all(task.done() for task in tasks):
        rng.choice(tasks).cancel()
        await asyncio.sleep(0)
        assert 0 <= semaphore.taken <= 3
    assert (semaphore.taken, semaphore.waiting) == (0, 0)
    assert log == sorted(log, key=int)


async def test_cancelling_queued_waiters_takes_linear_time() -> None:
    async def cancel_seconds(count: int) -> float:
        semaphore = Semaphore(1)
        await semaphore.acquire()
        tasks = [asyncio.create_task(semaphore.acquire()) for _ in range(count)]
        await asyncio.sleep(0)
        started_at = time.process_time()
        for task in reversed(tasks):  # a search from the front would find the last one last
            task.cancel()
        await asyncio.wait(tasks)
        semaphore.release()
        return time.process_time() - started_at

    gc.disable()  # it would take part of the time, and be proportional to all objects alive
    try:
        # The shortest of three runs: a busy machine makes single ones several times as long.
        few = min([await cancel_seconds(2_000) for _ in range(3)])
        many = min([await cancel_seconds(16_000) for _ in range(3)])
    finally:
        gc.enable()
    assert many < 24 * few, "8 times as many: linear is 8 times as long, quadratic 64 times"
