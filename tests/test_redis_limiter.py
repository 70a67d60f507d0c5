"""One limit for many processes, over a real Redis, which is killed, hung and started again."""

import asyncio
import itertools
import logging
import runpy
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from throttled.asyncio import MemoryStore

import moltin_jobs.redis_limiter
from moltin_jobs import ConfigurationError, JobsSession
from moltin_jobs.redis_limiter import RedisLimiter, _spaced
from moltin_jobs.testing.simulator import Fault, Simulator
from tests.redis_server import MISSING, RedisServer

NOBODY = "redis://127.0.0.1:1"  # port 1 is refused at once
needs_redis = pytest.mark.skipif(bool(MISSING), reason=MISSING)

Make = Callable[..., RedisLimiter]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes limiters that share one Redis, or the same algorithm of the library in memory."""
    made: list[RedisLimiter] = []
    memory = MemoryStore()
    in_redis = request.param == "redis"
    url = request.getfixturevalue("redis").url if in_redis else NOBODY

    def limiter(rate_limit: int = 600, processes: int = 2, store: str = "a") -> RedisLimiter:
        one = RedisLimiter(url, store, rate_limit=rate_limit, processes=processes)
        if not in_redis:
            one._store = memory  # type: ignore[assignment]  # of the same interface
            one._turns = _spaced(rate_limit * 5, 6, one._key, memory)
        made.append(one)
        return one

    yield limiter
    for one in made:
        await one.close()


async def times(limiter: RedisLimiter, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        await limiter.acquire()
        taken.append(time.monotonic())
    return taken


async def seconds_for(limiter: RedisLimiter, count: int) -> float:
    begun = time.monotonic()
    return (await times(limiter, count))[-1] - begun


def about(seconds: float) -> Any:
    """Not less, and no more than a busy machine explains."""
    return pytest.approx(seconds + 0.4, abs=0.402)


def most_in_a_second(moments: Sequence[float]) -> int:
    ordered = sorted(moments)
    return max(sum(start <= t < start + 1 for t in ordered) for start in ordered)


class TestSettings:
    @pytest.mark.parametrize("url", ["", "redis", "http://h", "redis://h:x", None, 5], ids=repr)
    def test_a_url_that_is_none_is_not_told(self, url: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            RedisLimiter(url, "a", rate_limit=20, processes=1)
        assert str(caught.value) == "url must be that of a Redis, as redis://HOST:6379"

    @pytest.mark.parametrize(
        ("name", "value"),
        [("store", ""), ("store", 5), ("rate_limit", 0), ("rate_limit", None), ("processes", 1.5)],
    )
    def test_nonsense_is_named(self, name: str, value: Any) -> None:
        settings: dict[str, Any] = {"store": "a", "rate_limit": 20, "processes": 1} | {name: value}
        with pytest.raises(ConfigurationError, match=f"^{name} must be .*, not {value!r}$"):
            RedisLimiter(NOBODY, **settings)

    @pytest.mark.parametrize("query", ["timeout=5", "socket_timeout=soon"])
    def test_so_is_one_with_what_redis_does_not_know(self, query: str) -> None:
        with pytest.raises(ConfigurationError, match="url must be that of a Redis"):
            RedisLimiter(f"redis://:hush@h?{query}", "a", rate_limit=20, processes=1)

    def test_without_its_package_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "throttled.asyncio", None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'moltin-jobs\[redis\]'"):
            runpy.run_path(moltin_jobs.redis_limiter.__file__, run_name="moltin_jobs.again")


class TestTurns:
    async def test_they_are_evenly_spaced_and_first_come_first_served(self, make: Make) -> None:
        one, other = make(rate_limit=100), make(rate_limit=100)
        begun = time.monotonic()
        taken = await asyncio.gather(times(one, 20), times(other, 20))
        assert max(map(max, taken)) - begun == about(39 * 0.012)
        # Each asks for its next one when it has had its last, so they take turns.
        order = [who for _, who in sorted((at, who) for who in (0, 1) for at in taken[who])]
        assert all(abs(sum(order[:n]) - n / 2) <= 1 for n in range(41))

    async def test_another_store_has_its_own(self, make: Make) -> None:
        one, other = make(rate_limit=1), make(rate_limit=1, store="b")
        begun = time.monotonic()
        await asyncio.gather(one.acquire(), other.acquire())
        assert time.monotonic() - begun < 0.5

    async def test_a_cancelled_caller_costs_at_most_its_turn(self, make: Make) -> None:
        limiter = make(rate_limit=10)
        await limiter.acquire()
        begun = time.monotonic()
        waiting = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0.05)
        waiting.cancel()
        await limiter.acquire()
        assert time.monotonic() - begun == about(0.2)


async def test_a_closed_one_says_so(make: Make) -> None:
    limiter = make()
    await limiter.close()
    with pytest.raises(RuntimeError, match="this RedisLimiter is closed"):
        await limiter.acquire()


@needs_redis
class TestPause:
    async def test_it_reaches_everybody_and_the_longest_counts(self, redis: RedisServer) -> None:
        async with (
            RedisLimiter(redis.url, "a", rate_limit=600, processes=2) as one,
            RedisLimiter(redis.url, "a", rate_limit=600, processes=2) as other,
        ):
            begun = time.monotonic()
            waiting = asyncio.create_task(times(other, 300))
            await asyncio.sleep(0.1)
            await asyncio.gather(one.pause(1.1), other.pause(0.1), other.pause(0.2))
            await waiting
        moments = [moment - begun for moment in waiting.result()]
        gap, after = max((late - soon, late) for soon, late in itertools.pairwise(moments))
        assert 1.1 <= gap <= 1.5
        assert after < 2
        assert most_in_a_second(moments) <= 600

    async def test_a_429_to_one_session_pauses_another(self, redis: RedisServer) -> None:
        def limiter() -> RedisLimiter:
            return RedisLimiter(redis.url, "a", rate_limit=100, processes=2)

        async with (
            Simulator(rate_limit=None) as simulator,
            limiter() as mine,
            limiter() as yours,
            JobsSession("simulator-token", base_url=simulator.url, rate_limit=mine) as first,
            JobsSession("simulator-token", base_url=simulator.url, rate_limit=yours) as second,
        ):
            simulator.add_job("a", ["success"])
            await second.get_job("a")
            simulator.spoil(Fault(429, {"Retry-After": "1"}))
            storm = asyncio.create_task(first.get_job("a"))
            while len(simulator.requests) < 2:  # noqa: ASYNC110 (the simulator has no event for it)
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            await second.get_job("a")
            await storm
        before, after = [request.at for request in simulator.requests[1:3]]
        assert 1 <= after - before <= 6


class TestAway:
    async def test_each_keeps_to_its_share_and_says_so_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with RedisLimiter(NOBODY, "a", rate_limit=100, processes=3) as limiter:
            assert await seconds_for(limiter, 11) == about(11 * 0.036)
            await limiter.pause(5)
            assert await seconds_for(limiter, 1) == about(0.036)
            limiter._retry_at = 0.0  # as after a second
            await limiter.acquire()
            assert limiter._retry_at > 0, "asked again, in vain"
        (record,) = [record for record in caplog.records if record.name == "moltin_jobs"]
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith("store a: Redis is away (")
        assert record.getMessage().endswith("its own share of the limit, 27.8 requests a second")

    @needs_redis
    async def test_killed_and_back(
        self, redis: RedisServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "moltin_jobs")
        async with RedisLimiter(redis.url, "a", rate_limit=100, processes=3) as limiter:
            await times(limiter, 5)
            redis.kill()
            assert await seconds_for(limiter, 5) == about(5 * 0.036)
            redis.start()
            await asyncio.sleep(1)
            # The others may not know yet.
            assert await seconds_for(limiter, 20) == about(20 * 0.036)
            await asyncio.sleep(0.75)
            assert await seconds_for(limiter, 50) < 50 * 0.03
        told = [record.message for record in caplog.records if record.name == "moltin_jobs"]
        assert [one.partition("(")[0].partition(";")[0] for one in told] == [
            "store a: Redis is away ",
            "store a: Redis is back",
        ]

    @needs_redis
    async def test_hung(self, redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
        async with RedisLimiter(redis.url, "a", rate_limit=100, processes=3) as limiter:
            await limiter.acquire()
            redis.hang()
            assert await seconds_for(limiter, 5) == about(0.25 + 5 * 0.036)
            assert "Redis is away (no answer within 0.25 s)" in caplog.text
            redis.go_on()

    @needs_redis
    @pytest.mark.parametrize("seconds", [0.4, 0.7, None])
    async def test_many_together_when_it_stalls_or_dies(
        self, redis: RedisServer, seconds: float | None
    ) -> None:
        rate, processes = 40, 10
        moments: list[float] = []

        async def take(limiter: RedisLimiter) -> None:
            while True:
                await limiter.acquire()
                moments.append(time.monotonic())

        limiters = [
            RedisLimiter(redis.url, "a", rate_limit=rate, processes=processes)
            for _ in range(processes)
        ]
        taking = [asyncio.create_task(take(limiter)) for limiter in limiters]
        await asyncio.sleep(1.5)
        if seconds is None:
            redis.kill()
        else:
            redis.hang()
            await asyncio.sleep(seconds)
            redis.go_on()
        await asyncio.sleep(2.5)
        for one in taking:
            one.cancel()
        await asyncio.gather(*taking, return_exceptions=True)
        for limiter in limiters:
            await limiter.close()
        assert most_in_a_second(moments) <= rate + processes
        assert len(moments) > 2 * rate
