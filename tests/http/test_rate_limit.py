"""The rate limit and the pause, in virtual time and without any network."""

import asyncio
import itertools
import logging

import pytest

from moltin_jobs import ConfigurationError
from moltin_jobs._http.rate_limit import Pacer

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def send(pacer: Pacer, travel: float = 0.0) -> float:
    """Do as the transport does; return when the request was granted."""
    async with pacer.turn():
        await pacer.pause_over()
        granted = await pacer.grant()
    await asyncio.sleep(travel)
    pacer.settle()
    return granted


async def send_many(pacer: Pacer, count: int, travel: float = 0.0) -> list[float]:
    return await asyncio.gather(*(send(pacer, travel) for _ in range(count)))


def most_in_a_second(times: list[float]) -> int:
    ordered = sorted(times)
    return max(sum(1 for t in ordered if start <= t < start + 1) for start in ordered)


@pytest.mark.parametrize("rate_limit", [0, -1, True, 2.5, "20", [20]], ids=repr)
def test_nonsense_is_refused(rate_limit: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^rate_limit must be .* not "):
        Pacer(rate_limit)  # type: ignore[arg-type]  # the point of it


async def test_no_second_sees_more_than_the_rate() -> None:
    granted = await send_many(Pacer(40), 130)
    assert granted == pytest.approx([0] * 40 + [1.001] * 40 + [2.002] * 40 + [3.003] * 10)


async def test_a_slot_is_held_until_a_second_after_the_answer() -> None:
    granted = await send_many(Pacer(2), 5, travel=0.5)
    assert granted == pytest.approx([0, 0, 1.501, 1.501, 3.002])


async def test_no_limit_grants_all_at_once() -> None:
    assert await send_many(Pacer(None), 1000) == [0.0] * 1000


async def test_a_limiter_of_the_callers_is_asked_once_for_each_send() -> None:
    class Turnstile:
        asked = 0

        async def acquire(self) -> None:
            self.asked += 1
            await asyncio.sleep(0.1)

    limiter = Turnstile()
    granted = await send_many(Pacer(limiter), 5)
    assert granted == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert limiter.asked == 5


async def test_first_come_first_served_but_for_token_requests() -> None:
    pacer = Pacer(1)
    order: list[str] = []

    async def ordinary(name: str) -> None:
        await send(pacer)
        order.append(name)

    async def token() -> None:
        await pacer.grant()
        order.append("token")
        pacer.settle()

    async with asyncio.TaskGroup() as group:
        for name in "abcd":
            group.create_task(ordinary(name))
        await asyncio.sleep(0.5)  # a was sent, b is next in the grant, c and d stand in line
        group.create_task(token())
    assert order == ["a", "b", "token", "c", "d"]


async def test_who_holds_the_turn_can_have_a_token_requested() -> None:
    pacer = Pacer(1)
    async with pacer.turn():
        await pacer.grant()
        pacer.settle()
        await pacer.grant()
    assert now() == pytest.approx(1.001)


async def test_a_cancelled_caller_costs_at_most_its_slot() -> None:
    pacer = Pacer(2)
    tasks = [asyncio.create_task(send(pacer)) for _ in range(100)]
    await asyncio.sleep(0.5)
    for task in tasks[2:90]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    times = [result for result in done if isinstance(result, float)]
    assert len(times) == 12
    assert most_in_a_second(times) == 2
    assert max(times) <= 6.01


class TestAtOnce:
    async def test_without_a_limit_always(self) -> None:
        pacer = Pacer(None)
        assert [pacer.grant_nowait(now()) for _ in range(3)] == [True] * 3

    async def test_while_there_are_slots(self) -> None:
        pacer = Pacer(2)
        assert [pacer.grant_nowait(now()) for _ in range(3)] == [True, True, False]
        pacer.settle()
        await asyncio.sleep(1)
        assert not pacer.grant_nowait(now())
        await asyncio.sleep(0.002)
        assert pacer.grant_nowait(now())
        assert not pacer.grant_nowait(now())

    async def test_never_by_a_limiter_that_has_to_be_awaited(self) -> None:
        class Turnstile:
            async def acquire(self) -> None:
                raise AssertionError

        assert not Pacer(Turnstile()).grant_nowait(now())

    async def test_not_before_whoever_stands_in_line(self) -> None:
        pacer = Pacer(None)
        async with pacer.turn():
            assert not pacer.grant_nowait(now())
        assert pacer.grant_nowait(now())

    async def test_not_before_a_token_request(self) -> None:
        pacer = Pacer(1)
        await send(pacer)
        request = asyncio.create_task(pacer.grant())
        await asyncio.sleep(0.5)
        assert not pacer.grant_nowait(now())
        await request

    async def test_not_in_a_pause_nor_in_the_second_after_it(self) -> None:
        pacer = Pacer(None)
        pacer.pause(now(), 10)
        await pacer.pause_over()
        assert not pacer.grant_nowait(now())
        await asyncio.sleep(0.9)
        assert not pacer.grant_nowait(now())
        await asyncio.sleep(0.2)
        assert pacer.grant_nowait(now())


class TestPause:
    async def test_nothing_is_granted_and_then_not_everything_at_once(self) -> None:
        pacer = Pacer(None)
        pacer.pause(now(), None)
        granted = await send_many(pacer, 50)
        first = granted[0]
        assert 1 <= first <= 1.2
        gaps = [later - sooner for sooner, later in itertools.pairwise(granted[:20])]
        assert gaps == pytest.approx([0.05] * 19, abs=0.002)
        assert granted[21:] == pytest.approx([first + 1] * 29, abs=0.06)

    async def test_fifty_at_once_are_one_storm(self, caplog: pytest.LogCaptureFixture) -> None:
        pacer = Pacer(None)
        sent_at = await pacer.grant()
        await asyncio.sleep(0.1)
        for _ in range(50):
            pacer.pause(sent_at, None)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert 1 <= vars(record)["wait"] <= 1.2
        seconds = vars(record)["wait"]
        assert record.getMessage() == f"rate limit met (429): nothing is sent for {seconds:.1f} s"
        await pacer.pause_over()
        assert now() == pytest.approx(0.1 + seconds)

    async def test_storms_in_a_row_take_longer_steps(self) -> None:
        pacer = Pacer(None)
        for step in (1, 2, 4, 8, 16, 30, 30):
            sent_at = await pacer.grant()
            start = now()
            pacer.pause(sent_at, None)
            await pacer.pause_over()
            assert step <= now() - start <= step * 1.2

    async def test_an_answer_to_a_later_request_ends_the_row(self) -> None:
        pacer = Pacer(None)
        pacer.pause(await pacer.grant(), None)
        pacer.pause(await pacer.grant(), None)
        sent_at = await pacer.grant()
        pacer.answered(sent_at)
        pacer.pause(sent_at, None)
        start = now()
        await pacer.pause_over()
        assert 1 <= now() - start <= 1.2

    async def test_an_answer_to_an_earlier_request_does_not(self) -> None:
        pacer = Pacer(None)
        early = await pacer.grant()
        pacer.pause(early, None)
        pacer.answered(early)
        sent_at = await pacer.grant()
        start = now()
        pacer.pause(sent_at, None)
        await pacer.pause_over()
        assert 2 <= now() - start <= 2.4

    async def test_a_longer_wish_in_the_same_storm_prolongs_the_pause(self) -> None:
        pacer = Pacer(None)
        sent_at = await pacer.grant()
        pacer.pause(sent_at, None)
        pacer.pause(sent_at, 7)
        pacer.pause(sent_at, 2)
        await pacer.pause_over()
        assert now() == 7

    async def test_late_news_of_the_same_storm_without_a_wish_changes_nothing(self) -> None:
        pacer = Pacer(None)
        sent_at = await pacer.grant()
        pacer.pause(sent_at, None)
        await asyncio.sleep(0.9)
        pacer.pause(sent_at, None)
        await pacer.pause_over()
        assert 1 <= now() <= 1.2

    @pytest.mark.parametrize("storms", [1, 2])
    async def test_no_wish_is_obeyed_for_more_than_two_minutes(self, storms: int) -> None:
        pacer = Pacer(None)
        sent_at = await pacer.grant()
        for _ in range(storms):
            pacer.pause(sent_at, 1e9)
        await pacer.pause_over()
        assert now() == 120

    async def test_a_pause_reaches_whoever_already_waits_for_a_slot(self) -> None:
        pacer = Pacer(1)
        await send(pacer)
        waiting = asyncio.create_task(send(pacer))
        await asyncio.sleep(0.5)
        pacer.pause(now(), 10)
        assert 10.5 <= await waiting <= 12.5

    async def test_a_limiter_that_wants_to_know_is_told(self) -> None:
        class Budget:
            told: list[float] = []  # noqa: RUF012 (of the one there is)

            async def acquire(self) -> None: ...

            async def pause(self, seconds: float) -> None:
                self.told.append(seconds)

        pacer = Pacer(Budget())
        await pacer.share_pause()
        assert Budget.told == []
        pacer.pause(await pacer.grant(), 7)
        await asyncio.sleep(1)
        await pacer.share_pause()
        (seconds,) = Budget.told
        assert 6 <= seconds <= 7.4
        assert await send(pacer) == pytest.approx(1 + seconds)
        await pacer.share_pause()
        assert len(Budget.told) == 1

    async def test_one_whose_pause_is_something_else_is_not(self) -> None:
        class Music:
            async def acquire(self) -> None: ...

            def pause(self) -> None:
                raise AssertionError

        pacer = Pacer(Music())
        pacer.pause(await pacer.grant(), None)
        await pacer.share_pause()

    @pytest.mark.parametrize("rate_limit", [None, 1])
    async def test_others_are_not(self, rate_limit: int | None) -> None:
        pacer = Pacer(rate_limit)
        pacer.pause(await pacer.grant(), None)
        await pacer.share_pause()
        assert now() == 0

    async def test_cancelled_in_a_pause_gives_the_slot_back(self) -> None:
        pacer = Pacer(1)
        pacer.pause(now(), 10)
        waiting = asyncio.create_task(pacer.grant())
        await asyncio.sleep(5)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert 10 <= await send(pacer) <= 12
