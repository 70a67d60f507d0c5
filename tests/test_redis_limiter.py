"""`RedisLimiter` with a real Redis, which is killed, stopped, delayed and broken."""

import asyncio
import contextlib
import itertools
import logging
import runpy
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

import moltin_jobs.redis_limiter
from moltin_jobs import ConfigurationError, JobsSession
from moltin_jobs.redis_limiter import RedisLimiter
from moltin_jobs.testing.simulator import Fault, Simulator
from tests.distant_redis import move_away
from tests.redis_server import MISSING, RedisServer

UNREACHABLE = "redis://127.0.0.1:1"  # connecting to port 1 is refused at once
needs_redis = pytest.mark.skipif(bool(MISSING), reason=MISSING)

# A command after which Redis answers reads and refuses writes, the command that ends this, and a
# part of the message.
REFUSALS = [
    ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "read only replica"),
    ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "not allowed when used memory"),
]

CreateLimiter = Callable[..., RedisLimiter]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
async def create_limiter(redis: RedisServer) -> AsyncIterator[CreateLimiter]:
    """Create limiters that share one Redis, each as if in a process of its own."""
    async with contextlib.AsyncExitStack() as stack:

        def create(
            rate_limit: int = 100, processes: int = 3, store: str = "a", url: str = redis.url
        ) -> RedisLimiter:
            limiter = RedisLimiter(url, store, rate_limit=rate_limit, processes=processes)
            stack.push_async_callback(limiter.close)
            return limiter

        yield create


async def acquire_times(limiter: RedisLimiter, count: int) -> list[float]:
    times = []
    for _ in range(count):
        await limiter.acquire()
        times.append(time.monotonic())
    return times


async def acquire_until(limiter: RedisLimiter, end: float, times: list[float]) -> None:
    while time.monotonic() < end:
        await limiter.acquire()
        times.append(time.monotonic())


async def seconds_for(limiter: RedisLimiter, count: int) -> float:
    start = time.monotonic()
    return (await acquire_times(limiter, count))[-1] - start


def about(seconds: float) -> Any:
    """``seconds``, and as much more as a busy machine explains."""
    return pytest.approx(seconds + 0.35, abs=0.4)


def most_in_a_second(times: Sequence[float]) -> int:
    return max(sum(start <= at < start + 1 for at in times) for start in times)


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "moltin_jobs.redis" and record.levelno == level
    ]


async def command(redis: RedisServer, *arguments: str) -> Any:
    client: Any
    async with Redis.from_url(redis.url, decode_responses=True) as client:
        return await client.execute_command(*arguments)


async def step_clock_back(redis: RedisServer, seconds: int) -> None:
    """Move all times in Redis into the future, as if its clock had stepped back."""
    (key,) = await command(redis, "KEYS", "*")
    fields = await command(redis, "HGETALL", key)
    for field, value in fields.items():
        if float(value) > 1e15:  # microseconds since 1970
            fields[field] = str(int(value) + seconds * 10**6)
    await command(redis, "HSET", key, *itertools.chain(*fields.items()))


@pytest.mark.parametrize("url", ["", "redis", "http://h", "redis://h:x", None, 5], ids=repr)
def test_redis_limiter_invalid_url_raises_configuration_error(url: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisLimiter(url, "a", rate_limit=20, processes=1)
    assert str(caught.value) == "url must be the address of a Redis, for example redis://HOST:6379"


@pytest.mark.parametrize("query", ["timeout=5", "socket_timeout=soon"])
def test_redis_limiter_invalid_url_option_error_hides_password(query: str) -> None:
    with pytest.raises(ConfigurationError, match="url must be the address of a Redis") as caught:
        RedisLimiter(f"redis://:PASSWORD@h?{query}", "a", rate_limit=20, processes=1)
    assert "PASSWORD" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("store", ""), ("store", 5), ("rate_limit", 0), ("rate_limit", None), ("processes", 1.5)],
)
def test_redis_limiter_invalid_argument_error_names_it(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"store": "a", "rate_limit": 20, "processes": 1} | {name: value}
    with pytest.raises(ConfigurationError, match=f"^{name} must be .*, not {value!r}$"):
        RedisLimiter(UNREACHABLE, **arguments)


def test_redis_limiter_without_redis_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ModuleNotFoundError, match=r"redis.*: pip install 'moltin-jobs\[redis\]'"):
        runpy.run_path(moltin_jobs.redis_limiter.__file__, run_name="moltin_jobs.again")


@needs_redis
class TestSlots:
    async def test_acquire_in_two_processes_alternates_evenly_spaced(
        self, create_limiter: CreateLimiter
    ) -> None:
        start = time.monotonic()
        times = await asyncio.gather(
            acquire_times(create_limiter(), 20), acquire_times(create_limiter(), 20)
        )
        assert max(map(max, times)) - start == about(39 * 0.012)
        order = [process for _, process in sorted((at, n) for n in (0, 1) for at in times[n])]
        assert all(abs(sum(order[:n]) - n / 2) <= 4 for n in range(41))

    async def test_acquire_for_another_store_does_not_wait(
        self, create_limiter: CreateLimiter
    ) -> None:
        limiters = create_limiter(rate_limit=1), create_limiter(rate_limit=1, store="b")
        start = time.monotonic()
        await asyncio.gather(*(limiter.acquire() for limiter in limiters))
        assert time.monotonic() - start < 0.5

    async def test_acquire_with_redis_nearby_sends_one_command_per_slot(
        self, redis: RedisServer, create_limiter: CreateLimiter
    ) -> None:
        await acquire_times(create_limiter(), 100)
        (calls,) = redis.info("commandstats", r"cmdstat_eval:calls=(\d+)")
        assert int(calls) <= 102

    async def test_acquire_with_redis_50_ms_away_reaches_nine_tenths_of_the_rate(
        self, redis: RedisServer, create_limiter: CreateLimiter
    ) -> None:
        async with move_away(redis.url, 0.05) as url:
            limiter = create_limiter(url=url)
            times = await acquire_times(limiter, 180)
            await limiter.close()
        # The fastest second, since a busy machine may stall the others.
        assert 0.9 * 100 / 1.2 <= most_in_a_second(times) <= 100

    async def test_acquire_at_different_distances_starves_no_process(
        self, redis: RedisServer, create_limiter: CreateLimiter
    ) -> None:
        async with move_away(redis.url, 0.05) as url:
            limiters = create_limiter(), create_limiter(url=url)
            near: list[float] = []
            far: list[float] = []
            end = time.monotonic() + 2
            await asyncio.gather(
                acquire_until(limiters[0], end, near), acquire_until(limiters[1], end, far)
            )
            await limiters[1].close()
        assert min(len(near), len(far)) >= 20
        assert most_in_a_second(near + far) <= 100


@needs_redis
class TestAbandonedReservations:
    async def test_acquire_cancelled_during_wait_leaves_reservation_to_next_caller(
        self, create_limiter: CreateLimiter
    ) -> None:
        limiter = create_limiter(rate_limit=2)
        await limiter.acquire()
        start = time.monotonic()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(limiter.acquire(), 0.1)
        await limiter.acquire()
        assert time.monotonic() - start == about(0.6)

    async def test_acquire_cancelled_before_response_leaves_reservation_to_next_caller(
        self, redis: RedisServer, create_limiter: CreateLimiter
    ) -> None:
        async with move_away(redis.url, 0.06) as url:
            limiter = create_limiter(rate_limit=2, url=url)
            await limiter.acquire()
            start = time.monotonic()
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(limiter.acquire(), 0.015)
            await limiter.acquire()
            assert time.monotonic() - start == about(0.6)
            await limiter.close()

    async def test_acquire_long_after_unused_reservation_makes_a_new_one(
        self, create_limiter: CreateLimiter
    ) -> None:
        limiter = create_limiter(rate_limit=4)  # a slot each 0.3 s
        await limiter.acquire()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(limiter.acquire(), 0.1)
        await asyncio.sleep(0.7)
        # The first of these would be too many if it used the reservation of 0.5 s ago.
        assert await seconds_for(limiter, 3) == about(0.6)

    @pytest.mark.fleet
    async def test_acquire_while_most_callers_give_up_reaches_nine_tenths_of_the_rate(
        self, create_limiter: CreateLimiter
    ) -> None:
        limiter, other = create_limiter(rate_limit=200), create_limiter(rate_limit=200)
        end = time.monotonic() + 2
        times: list[float] = []

        async def call() -> None:
            while time.monotonic() < end:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(limiter.acquire(), 0.1)
                    times.append(time.monotonic())

        await asyncio.gather(*(call() for _ in range(100)))
        print(f"{len(times) / 2:.0f} acquires a second of {200 / 1.2:.0f}")  # noqa: T201
        assert 0.9 * 200 / 1.2 <= most_in_a_second(times) <= 200
        for lone in limiter, other:
            assert await seconds_for(lone, 1) == about(0)


@needs_redis
class TestClose:
    async def test_acquire_and_pause_after_close_raise_without_connecting(
        self, redis: RedisServer, create_limiter: CreateLimiter
    ) -> None:
        limiter = create_limiter()
        await limiter.acquire()
        await limiter.close()
        with pytest.raises(RuntimeError, match="the RedisLimiter is closed"):
            await limiter.acquire()
        with pytest.raises(RuntimeError, match="the RedisLimiter is closed"):
            await limiter.pause(1)
        assert redis.info("clients", r"connected_clients:(\d+)") == ["1"]  # the one that asks

    async def test_close_during_wait_raises_at_once_in_all_callers(
        self, create_limiter: CreateLimiter
    ) -> None:
        limiter = create_limiter(rate_limit=1)
        await limiter.acquire()
        callers = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
        await asyncio.sleep(0.2)
        start = time.monotonic()
        await limiter.close()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert [repr(result) for result in results] == [
            "RuntimeError('the RedisLimiter is closed: create a new one.')"
        ] * 3
        assert time.monotonic() - start < 0.5

    async def test_close_before_response_raises_at_once(
        self, redis: RedisServer, create_limiter: CreateLimiter
    ) -> None:
        limiter = create_limiter()
        redis.hang()
        caller = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0.1)
        await limiter.close()
        with pytest.raises(RuntimeError, match="the RedisLimiter is closed"):
            await caller
        redis.resume()


@needs_redis
class TestPause:
    async def test_pause_reaches_other_processes_and_longest_counts(
        self, create_limiter: CreateLimiter
    ) -> None:
        one, other = create_limiter(rate_limit=300), create_limiter(rate_limit=300)
        start = time.monotonic()
        waiting = asyncio.create_task(acquire_times(other, 300))  # takes a second without a pause
        await asyncio.sleep(0.1)
        await asyncio.gather(one.pause(1.1), other.pause(0.1), other.pause(0.2))
        times = [at - start for at in await waiting]
        gap, end = max((late - early, late) for early, late in itertools.pairwise(times))
        assert 0.9 <= gap <= 1.9
        assert end < 2.9
        assert most_in_a_second(times) <= 300

    async def test_pause_during_long_wait_cancels_the_reservation(
        self, create_limiter: CreateLimiter
    ) -> None:
        one, other = create_limiter(rate_limit=2), create_limiter(rate_limit=2)
        await one.acquire()
        start = time.monotonic()
        waiting = asyncio.create_task(other.acquire())  # its slot is 0.6 s ahead
        await asyncio.sleep(0.1)
        await one.pause(0.8)
        await waiting
        assert time.monotonic() - start == about(0.9)

    async def test_429_in_one_session_pauses_another_session(
        self, create_limiter: CreateLimiter
    ) -> None:
        async with (
            Simulator(rate_limit=None) as simulator,
            JobsSession(
                "simulator-token", base_url=simulator.url, rate_limit=create_limiter()
            ) as first,
            JobsSession(
                "simulator-token", base_url=simulator.url, rate_limit=create_limiter()
            ) as second,
        ):
            simulator.add_job("a", ["success"])
            await second.get_job("a")
            simulator.add_faults(Fault(429, {"Retry-After": "1"}))
            limited = asyncio.create_task(first.get_job("a"))
            while len(simulator.requests) < 2:  # noqa: ASYNC110 (the simulator has no event for it)
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            await second.get_job("a")
            await limited
        before, after = [request.at for request in simulator.requests[1:3]]
        assert 1 <= after - before <= 6


class TestUnavailable:
    async def test_acquire_without_redis_keeps_to_own_share_and_warns_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with RedisLimiter(UNREACHABLE, "a", rate_limit=100, processes=3) as limiter:
            assert await seconds_for(limiter, 20) == about(20 * 0.036)
            await limiter.pause(5)
            assert await seconds_for(limiter, 1) == about(0.036)
        (message,) = messages(caplog, logging.WARNING)
        assert message.startswith(
            "store a: Redis is unavailable, limiting this process to its own share of "
            "27.8 requests a second: "
        )

    @needs_redis
    async def test_acquire_after_redis_restarts_shares_the_limit_again(
        self, redis: RedisServer, create_limiter: CreateLimiter, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "moltin_jobs.redis")
        limiter = create_limiter()
        await acquire_times(limiter, 5)
        redis.kill()
        await acquire_times(limiter, 3)  # some may have been reserved before
        assert await seconds_for(limiter, 5) == about(5 * 0.036)
        redis.start()
        await asyncio.sleep(0.2)
        await limiter.acquire()
        # The other processes may not know yet.
        assert await seconds_for(limiter, 20) == about(20 * 0.036)
        await asyncio.sleep(1.1)
        assert await seconds_for(limiter, 50) < 50 * 0.03
        losses = len(messages(caplog, logging.WARNING))  # a busy machine may lose it twice
        assert 1 <= losses <= 2
        assert messages(caplog, logging.INFO) == ["store a: Redis is available again"] * losses

    @needs_redis
    async def test_acquire_while_redis_hangs_waits_a_quarter_second_once(
        self, redis: RedisServer, create_limiter: CreateLimiter, caplog: pytest.LogCaptureFixture
    ) -> None:
        limiter = create_limiter()
        await limiter.acquire()
        redis.hang()
        assert await seconds_for(limiter, 20) == about(0.25 + 20 * 0.036)
        (message,) = messages(caplog, logging.WARNING)
        assert message.endswith("requests a second: no response within 0.25 s")
        redis.resume()

    @needs_redis
    async def test_acquire_when_only_connecting_takes_long_uses_redis_without_warning(
        self, redis: RedisServer, create_limiter: CreateLimiter, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with move_away(redis.url, 0.11) as url:  # connecting takes two round trips more
            limiter = create_limiter(url=url)
            await limiter.acquire()
            await command(redis, "CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(0.2)
            await limiter.acquire()  # connects again
            await limiter.close()
        assert messages(caplog, logging.WARNING) == []
        (calls,) = redis.info("commandstats", r"cmdstat_eval:calls=(\d+)")
        assert calls == "2"

    @needs_redis
    async def test_acquire_with_late_responses_that_url_permits_keeps_to_own_share(
        self, redis: RedisServer, create_limiter: CreateLimiter, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with move_away(redis.url, 0.3) as url:
            limiter = create_limiter(url=f"{url}?socket_timeout=5")
            await limiter.acquire()
            await limiter.close()
        (message,) = messages(caplog, logging.WARNING)
        assert message.endswith("requests a second: no response within 0.25 s")

    @needs_redis
    async def test_acquire_on_connection_closed_by_redis_reconnects_silently(
        self, redis: RedisServer, create_limiter: CreateLimiter, caplog: pytest.LogCaptureFixture
    ) -> None:
        limiter = create_limiter()
        await limiter.acquire()
        await command(redis, "CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0.1)
        await limiter.acquire()
        assert messages(caplog, logging.WARNING) == []

    @needs_redis
    @pytest.mark.parametrize("refusal", REFUSALS, ids=["replica", "out-of-memory"])
    async def test_acquire_while_redis_refuses_writes_keeps_to_own_share_and_warns_once(
        self,
        redis: RedisServer,
        create_limiter: CreateLimiter,
        caplog: pytest.LogCaptureFixture,
        refusal: tuple[str, str, str],
    ) -> None:
        cause, repair, reason = refusal
        caplog.set_level(logging.INFO, "moltin_jobs.redis")
        limiter = create_limiter(processes=10)  # a slot each 0.12 s
        await command(redis, *cause.split())
        assert await seconds_for(limiter, 12) == about(12 * 0.12)
        (message,) = messages(caplog, logging.WARNING)
        assert reason in message
        assert messages(caplog, logging.INFO) == []
        await command(redis, *repair.split())
        await acquire_times(limiter, 6)
        losses = len(messages(caplog, logging.WARNING))  # a busy machine may lose it twice
        assert 1 <= losses <= 2
        assert messages(caplog, logging.INFO) == ["store a: Redis is available again"] * losses

    @needs_redis
    async def test_acquire_after_redis_clock_steps_back_uses_own_share_then_redis(
        self, redis: RedisServer, create_limiter: CreateLimiter, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "moltin_jobs.redis")
        rate, processes = 100, 3
        limiters = [create_limiter(rate, processes) for _ in range(processes)]
        start = time.monotonic()
        times: list[float] = []
        acquiring = asyncio.gather(
            *(acquire_until(limiter, start + 2.5, times) for limiter in limiters)
        )
        await asyncio.sleep(0.5)
        await step_clock_back(redis, 30)
        await acquiring
        warnings = messages(caplog, logging.WARNING)
        assert len(warnings) == processes
        assert all(text.endswith("requests a second: its clock stepped back") for text in warnings)
        assert max(late - early for early, late in itertools.pairwise(sorted(times))) < 0.5
        assert most_in_a_second(times) <= rate + processes
        assert set(messages(caplog, logging.INFO)) == {"store a: Redis is available again"}
        assert await seconds_for(create_limiter(rate, processes), 1) == about(0)

    @needs_redis
    @pytest.mark.parametrize("seconds", [0.4, 0.7, None])
    async def test_acquire_in_many_processes_when_redis_fails_keeps_the_limit(
        self, redis: RedisServer, create_limiter: CreateLimiter, seconds: float | None
    ) -> None:
        rate, processes = 40, 10
        times: list[float] = []
        limiters = [create_limiter(rate, processes) for _ in range(processes)]
        end = time.monotonic() + 3
        acquiring = asyncio.gather(*(acquire_until(limiter, end, times) for limiter in limiters))
        await asyncio.sleep(0.7)
        if seconds is None:
            redis.kill()
        else:
            redis.hang()
            await asyncio.sleep(seconds)
            redis.resume()
        await acquiring
        assert most_in_a_second(times) <= rate + processes
        assert len(times) > 2 * rate


@needs_redis
async def test_redis_limiter_with_different_rate_limits_warns_once_each(
    create_limiter: CreateLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    limiters = create_limiter(rate_limit=100), create_limiter(rate_limit=50)
    for _ in range(3):
        await asyncio.gather(*(limiter.acquire() for limiter in limiters))
    assert sorted(messages(caplog, logging.WARNING)) == [
        f"store a: rate_limit is {own} here and {other} in another limiter. Give all limiters of a "
        "store the same rate_limit"
        for own, other in ((100, 50), (50, 100))
    ]
