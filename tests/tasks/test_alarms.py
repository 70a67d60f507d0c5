"""Alarms in virtual time."""

import asyncio
import random
import tracemalloc
from typing import Any

import attrs
import pytest

from moltin_jobs._tasks.alarms import Alarms

pytestmark = pytest.mark.looptime


@attrs.define(eq=False)
class Target:
    """Record when its alarm rings."""

    name: str = ""
    alarm_number: int = attrs.field(default=0, init=False)
    rang_at: list[float] = attrs.field(factory=list, init=False)

    def on_alarm(self) -> None:
        self.rang_at.append(asyncio.get_running_loop().time())


class Repeating(Target):
    """Set its alarm again each time that it rings."""

    def __init__(self, alarms: Alarms, interval: float) -> None:
        super().__init__()
        self.alarms = alarms
        self.interval = interval

    def on_alarm(self) -> None:
        super().on_alarm()
        assert len(self.rang_at) < 100
        self.alarms.set(self, self.rang_at[-1] + self.interval)


class Broken(Target):
    def on_alarm(self) -> None:
        raise LookupError("broken target")


class Counting(Target):
    """Count how often the alarm numbers of all instances are read."""

    reads = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "alarm_number":
            Counting.reads += 1
        return super().__getattribute__(name)


async def test_alarms_set_in_random_order_ring_in_the_order_of_their_moments() -> None:
    alarms, targets = Alarms(), [Target() for _ in range(100)]
    moments = random.sample(range(1, 1000), 100)
    for target, moment in zip(targets, moments, strict=True):
        alarms.set(target, moment)
    await asyncio.sleep(1000)
    assert [target.rang_at for target in targets] == [[moment] for moment in moments]


async def test_alarms_of_one_moment_ring_in_the_order_in_which_they_were_set() -> None:
    order: list[int] = []

    class Numbered(Target):
        def on_alarm(self) -> None:
            order.append(int(self.name))

    alarms = Alarms()
    for number in range(100):
        alarms.set(Numbered(str(number)), 5)
    await asyncio.sleep(9)
    assert order == list(range(100))


async def test_alarm_in_the_past_rings_in_the_next_pass_of_the_loop() -> None:
    alarms, target = Alarms(), Target()
    await asyncio.sleep(5)
    alarms.set(target, 2)
    assert target.rang_at == []
    await asyncio.sleep(0.001)
    assert target.rang_at == [5]


async def test_alarm_that_is_set_again_rings_at_the_new_moment_only() -> None:
    alarms, earlier, later = Alarms(), Target(), Target()
    for target in (earlier, later):
        alarms.set(target, 5)
    alarms.set(earlier, 3)
    alarms.set(later, 8)
    await asyncio.sleep(20)
    assert (earlier.rang_at, later.rang_at) == ([3], [8])


async def test_alarm_that_is_cleared_never_rings() -> None:
    alarms, cleared, other = Alarms(), Target(), Target()
    alarms.set(cleared, 1)
    alarms.set(other, 2)
    alarms.clear(cleared)
    alarms.clear(cleared)
    await asyncio.sleep(10)
    assert (cleared.rang_at, other.rang_at) == ([], [2])


async def test_alarms_left_when_many_were_cleared_ring_at_their_moments() -> None:
    alarms, targets = Alarms(), [Target() for _ in range(1000)]
    moments = random.sample(range(1, 10_000), len(targets))
    for target, moment in zip(targets, moments, strict=True):
        alarms.set(target, moment)
    for target in targets[100:]:
        alarms.clear(target)
    await asyncio.sleep(10_000)
    expected = [[moment] for moment in moments[:100]] + [[]] * 900
    assert [target.rang_at for target in targets] == expected


async def test_alarm_that_has_rung_is_not_set_and_can_be_set_again() -> None:
    alarms, target = Alarms(), Target()
    alarms.set(target, 1)
    await asyncio.sleep(2)
    assert not target.alarm_number
    alarms.clear(target)
    alarms.set(target, 3)
    assert target.alarm_number
    await asyncio.sleep(2)
    assert target.rang_at == [1, 3]


async def test_stopped_alarms_do_not_ring() -> None:
    alarms, target = Alarms(), Target()
    alarms.stop()
    alarms.set(target, 1)
    alarms.stop()
    await asyncio.sleep(5)
    assert target.rang_at == []


async def test_target_that_sets_its_alarm_while_it_rings_keeps_its_interval() -> None:
    alarms = Alarms()
    slow, fast, later = Repeating(alarms, 3), Repeating(alarms, 2), Target()
    for target in (slow, fast):
        alarms.set(target, target.interval)
    alarms.set(later, 7)
    await asyncio.sleep(12.5)
    alarms.stop()
    assert slow.rang_at == [3, 6, 9, 12]
    assert fast.rang_at == [2, 4, 6, 8, 10, 12]
    assert later.rang_at == [7]


async def test_target_that_raises_does_not_stop_the_others() -> None:
    alarms, at_once, later = Alarms(), Target(), Target()
    reported: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    alarms.set(Broken(), 1)
    alarms.set(at_once, 1)
    alarms.set(later, 2)
    await asyncio.sleep(5)
    assert [type(error) for error in reported] == [LookupError]
    assert len(at_once.rang_at) == len(later.rang_at) == 1


@pytest.mark.parametrize("is_cleared", [False, True], ids=["replaced", "cleared"])
async def test_many_alarms_of_one_target_take_constant_memory(is_cleared: bool) -> None:
    alarms, target, other = Alarms(), Target(), Target()
    for _ in range(10_000):
        alarms.set(Target(), 1)
    await asyncio.sleep(2)  # these have rung
    alarms.set(other, 3600)
    tracemalloc.start()
    try:
        for number in range(10_000):
            alarms.set(target, 3600 + number)
            if is_cleared:
                alarms.clear(target)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 100_000
    await asyncio.sleep(20_000)
    assert other.rang_at == [3600]
    assert target.rang_at == ([] if is_cleared else [13_599])


async def test_work_for_each_alarm_does_not_depend_on_the_number_of_others() -> None:
    alarms, target = Alarms(), Counting()
    Counting.reads = 0
    for moment in (1, 3600):
        for _ in range(1000):
            alarms.set(Counting(), moment)
    await asyncio.sleep(2)  # the first thousand have rung
    for _ in range(1000):
        alarms.set(target, 1800)
        alarms.clear(target)
    assert Counting.reads < 20_000
