"""The rate limit: permission for each attempt, and what the server sees of it."""

import asyncio
import bisect
import functools
import re
import socket
from typing import Any

import aiohttp
import aiohttp.abc
import pytest

from moltin_jobs import ClientCredentials, ConfigurationError, JobsSession
from moltin_jobs._http.rate_limit import Throttle
from moltin_jobs.testing import RecordedRequest, Simulator
from tests.sessions import assert_idle

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def send(throttle: Throttle, response_time: float = 0.0) -> float:
    """Send a request as the transport does, and return the moment at which it was permitted."""
    async with throttle.head_of_queue:
        await throttle.cooldown.wait()
        sent_at = await throttle.acquire()
    await asyncio.sleep(response_time)
    throttle.release(now())
    return sent_at


async def send_many(throttle: Throttle, count: int, response_time: float = 0.0) -> list[float]:
    return await asyncio.gather(*(send(throttle, response_time) for _ in range(count)))


def max_in_one_second(times: list[float]) -> int:
    ordered = sorted(times)
    return max(bisect.bisect_left(ordered, at + 1) - start for start, at in enumerate(ordered))


def arrivals(requests: list[RecordedRequest]) -> list[float]:
    return [request.at for request in requests]


class SlowLimiter:
    """Limiter that takes 100 ms for each request."""

    def __init__(self) -> None:
        self.acquired = 0

    async def acquire(self) -> None:
        self.acquired += 1
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("rate_limit", [0, -1, True, 2.5, "20", [20]], ids=repr)
def test_invalid_rate_limit_is_rejected(rate_limit: object) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^rate_limit must be an int of at least 1, None, or an object with "
        rf"'async def acquire\(\)', not {re.escape(repr(rate_limit))}$",
    ):
        Throttle(rate_limit)  # type: ignore[arg-type]


async def test_no_second_has_more_requests_than_the_limit() -> None:
    sent_at = await send_many(Throttle(40), 130)
    assert sent_at == pytest.approx([0] * 40 + [1.001] * 40 + [2.002] * 40 + [3.003] * 10)


async def test_slot_is_held_until_a_second_after_the_response() -> None:
    sent_at = await send_many(Throttle(2), 5, response_time=0.5)
    assert sent_at == pytest.approx([0, 0, 1.501, 1.501, 3.002])


async def test_no_limit_permits_all_requests_at_once() -> None:
    assert await send_many(Throttle(None), 1000) == [0.0] * 1000


async def test_custom_limiter_is_acquired_once_for_each_request() -> None:
    limiter = SlowLimiter()
    sent_at = await send_many(Throttle(limiter), 5)
    assert sent_at == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert limiter.acquired == 5


async def test_requests_are_permitted_in_order_but_token_requests_first() -> None:
    throttle = Throttle(1)
    order: list[str] = []

    async def send_ordinary(name: str, *, needs_token: bool = False) -> None:
        async with throttle.head_of_queue:
            if needs_token:  # its own slot comes before that of any other request
                await throttle.acquire()
                throttle.release(now())
                order.append("token")
            await throttle.acquire()
            throttle.release(now())
        order.append(name)

    await asyncio.gather(
        *(send_ordinary(name, needs_token=name == "b") for name in "abcd"),
    )
    assert order == ["a", "token", "b", "c", "d"]


async def test_counts_of_queued_and_held_follow_each_request() -> None:
    throttle = Throttle(1)
    requests = asyncio.gather(*(send(throttle, 0.5) for _ in range(3)))
    await asyncio.sleep(0.1)
    assert (throttle.queued, throttle.held) == (2, 1)
    await asyncio.sleep(0.5)
    assert (throttle.queued, throttle.held) == (2, 0)
    await requests
    assert (throttle.queued, throttle.held) == (0, 0)


async def test_cancelled_requests_cost_at_most_their_slots() -> None:
    throttle = Throttle(2)
    tasks = [asyncio.create_task(send(throttle)) for _ in range(100)]
    await asyncio.sleep(0.5)
    for task in tasks[2:90]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    times = [outcome for outcome in outcomes if isinstance(outcome, float)]
    assert len(times) == 12
    assert max_in_one_second(times) == 2
    assert max(times) <= 6.01
    assert (throttle.queued, throttle.held) == (0, 0)


async def test_request_cancelled_while_all_slots_are_held_costs_none() -> None:
    throttle = Throttle(1)
    assert throttle.try_acquire(now())
    waiting = asyncio.create_task(send(throttle))
    await asyncio.sleep(5)
    waiting.cancel()
    await asyncio.wait([waiting])
    throttle.release(now())
    assert await send(throttle) == pytest.approx(6.001)


class TestTryAcquire:
    async def test_without_limit_always_permits(self) -> None:
        throttle = Throttle(None)
        assert [throttle.try_acquire(now()) for _ in range(3)] == [True] * 3

    async def test_permits_while_slots_are_free(self) -> None:
        throttle = Throttle(2)
        assert [throttle.try_acquire(now()) for _ in range(3)] == [True, True, False]
        throttle.release(now())
        await asyncio.sleep(1)
        assert not throttle.try_acquire(now())
        await asyncio.sleep(0.002)
        assert [throttle.try_acquire(now()) for _ in range(2)] == [True, False]

    async def test_with_custom_limiter_never_permits(self) -> None:
        limiter = SlowLimiter()
        assert not Throttle(limiter).try_acquire(now())
        assert limiter.acquired == 0

    async def test_with_custom_limiter_that_is_falsy_never_permits(self) -> None:
        class EmptyLimiter(SlowLimiter):
            def __len__(self) -> int:
                return 0

        assert not Throttle(EmptyLimiter()).try_acquire(now())

    async def test_while_a_request_is_queued_does_not_permit(self) -> None:
        throttle = Throttle(None)
        async with throttle.head_of_queue:
            assert not throttle.try_acquire(now())
        assert throttle.try_acquire(now())

    async def test_in_cooldown_and_the_second_after_it_does_not_permit(self) -> None:
        throttle = Throttle(None)
        throttle.cooldown.on_429(now(), 10)
        await throttle.cooldown.wait()
        assert not throttle.try_acquire(now())
        await asyncio.sleep(0.9)
        assert not throttle.try_acquire(now())
        await asyncio.sleep(0.2)
        assert throttle.try_acquire(now())


class TestCooldown:
    async def test_cooldown_delays_request_that_already_waits_for_a_slot(self) -> None:
        throttle = Throttle(1)
        await send(throttle)
        waiting = asyncio.create_task(send(throttle))
        await asyncio.sleep(0.5)
        throttle.cooldown.on_429(now(), 10)
        assert 10.5 <= await waiting <= 12.5

    async def test_request_cancelled_in_cooldown_gives_its_slot_back(self) -> None:
        throttle = Throttle(1)
        throttle.cooldown.on_429(now(), 10)
        waiting = asyncio.create_task(throttle.acquire())
        await asyncio.sleep(5)
        assert throttle.held == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        assert throttle.held == 0
        assert 10 <= await send(throttle) <= 12

    async def test_pausable_limiter_is_paused_for_the_rest_of_the_cooldown(self) -> None:
        pauses: list[float] = []

        class PausableLimiter:
            async def acquire(self) -> None: ...

            async def pause(self, seconds: float) -> None:
                pauses.append(seconds)

        throttle = Throttle(PausableLimiter())
        await throttle.share_cooldown()
        assert pauses == []
        throttle.cooldown.on_429(await throttle.acquire(), 7)
        await asyncio.sleep(1)
        await throttle.share_cooldown()
        (seconds,) = pauses
        assert 6 <= seconds <= 7.4
        assert await send(throttle) == pytest.approx(1 + seconds, abs=0.01)
        await throttle.share_cooldown()
        assert len(pauses) == 1

    async def test_pausable_limiter_is_paused_for_a_rest_below_a_second(self) -> None:
        limiter: Any = SlowLimiter()
        pauses: list[float] = []
        limiter.pause = pauses.append
        throttle = Throttle(limiter)
        throttle.cooldown.on_429(now(), None)
        await asyncio.sleep(0.5)
        await throttle.share_cooldown()
        (seconds,) = pauses
        assert 0.5 <= seconds <= 0.7

    @pytest.mark.parametrize("kind", ["partial", "object", "not async"])
    async def test_limiter_whose_pause_is_any_callable_is_paused(self, kind: str) -> None:
        pauses: list[float] = []

        class Pause:
            async def __call__(self, seconds: float) -> None:
                await asyncio.sleep(0)
                pauses.append(seconds)

        limiter: Any = SlowLimiter()
        limiter.pause = {
            "partial": functools.partial(Pause.__call__, Pause()),
            "object": Pause(),
            "not async": pauses.append,
        }[kind]
        throttle = Throttle(limiter)
        throttle.cooldown.on_429(await throttle.acquire(), 7)
        await throttle.share_cooldown()
        (seconds,) = pauses
        assert 7 <= seconds <= 8.4

    async def test_limiter_without_a_pause_is_not_paused(self) -> None:
        throttle = Throttle(SlowLimiter())
        throttle.cooldown.on_429(await throttle.acquire(), None)
        await throttle.share_cooldown()
        assert now() == pytest.approx(0.1)

    @pytest.mark.parametrize("rate_limit", [None, 1])
    async def test_cooldown_without_limiter_is_shared_with_none(
        self, rate_limit: int | None
    ) -> None:
        throttle = Throttle(rate_limit)
        throttle.cooldown.on_429(await throttle.acquire(), None)
        await throttle.share_cooldown()
        assert now() == 0


class SlowResolver(aiohttp.abc.AbstractResolver):
    """Resolver that takes longer for the first connections than for later ones."""

    def __init__(self) -> None:
        self._delay = 0.9

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        self._delay = max(self._delay - 0.02, 0.0)
        await asyncio.sleep(self._delay)
        return [
            {
                "hostname": host,
                "host": "127.0.0.1",
                "port": port,
                "family": family,
                "proto": 0,
                "flags": 0,
            }
        ]

    async def close(self) -> None:
        pass


class TestAtTheServer:
    async def test_no_second_has_more_requests_than_the_limit_though_connecting_is_slow(
        self,
    ) -> None:
        connector = aiohttp.TCPConnector(resolver=SlowResolver(), use_dns_cache=False)
        async with (
            Simulator(rate_limit=40) as simulator,
            aiohttp.ClientSession(connector=connector) as http_session,
            JobsSession(
                ClientCredentials(simulator.client_id, simulator.client_secret),
                base_url=simulator.url.replace("127.0.0.1", "localhost"),
                rate_limit=40,
                http_session=http_session,
            ) as session,
        ):
            await session.get_jobs([simulator.add_job(statuses=["pending"]) for _ in range(130)])
            assert_idle(session)
        assert len(simulator.requests) == 131
        assert max_in_one_second(arrivals(simulator.requests)) <= 40

    async def test_limit_includes_resends_retries_and_token_requests(self) -> None:
        async with (
            Simulator(rate_limit=5) as simulator,
            JobsSession(
                ClientCredentials(simulator.client_id, simulator.client_secret),
                base_url=simulator.url,
                rate_limit=5,
            ) as session,
        ):
            job_ids = [simulator.add_job(statuses=["pending"]) for _ in range(30)]
            await session.get_jobs(job_ids[:5])
            simulator.add_faults(*["reset"] * 10)
            simulator.revoke_tokens()
            await session.get_jobs(job_ids)
            assert session.stats().requests == len(simulator.requests)
        assert len(simulator.requests) >= 46
        assert 429 not in [request.status for request in simulator.requests]
        assert max_in_one_second(arrivals(simulator.requests)) <= 5

    async def test_requests_are_sent_in_the_order_of_the_calls(self) -> None:
        async with (
            Simulator() as simulator,
            JobsSession(simulator.token, base_url=simulator.url, rate_limit=10) as session,
        ):
            job_ids = [simulator.add_job(statuses=["pending"]) for _ in range(150)]
            await session.get_jobs(job_ids)
        arrived = [request.job_id for request in simulator.requests]
        distances = [abs(arrived.index(job_id) - place) for place, job_id in enumerate(job_ids)]
        assert max(distances) <= 10
