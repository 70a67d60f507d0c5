"""One of the processes of the part `shared`: acquire as fast as a limiter permits.

Its arguments are the contender, the URL of Redis and the number of concurrent waiters. It prints an
empty line when it is ready, reads the start and the end on the monotonic clock, and prints the
moments of its acquires as JSON.
"""

import asyncio
import contextlib
import importlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from benchmarks.measure import OURS
from moltin_jobs.redis_limiter import SPACING, RedisLimiter

RATE_LIMIT, PROCESSES = 40, 3

Acquire = Callable[[], Awaitable[object]]
Contender = Callable[[str], AbstractAsyncContextManager[Acquire]]


@contextlib.asynccontextmanager
async def ours(url: str) -> AsyncIterator[Acquire]:
    async with RedisLimiter(url, "a", rate_limit=RATE_LIMIT, processes=PROCESSES) as limiter:
        yield limiter.acquire


@contextlib.asynccontextmanager
async def throttled(url: str) -> AsyncIterator[Acquire]:
    from throttled.asyncio import RedisStore, Throttled, per_sec

    throttle = Throttled(
        "a", using="gcra", quota=per_sec(RATE_LIMIT), store=RedisStore(url), timeout=60
    )
    yield throttle.limit


@contextlib.asynccontextmanager
async def limits(url: str) -> AsyncIterator[Acquire]:
    from limits import RateLimitItemPerSecond
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(RedisStorage(f"async+{url}", implementation="redispy"))
    item = RateLimitItemPerSecond(RATE_LIMIT)

    async def acquire() -> None:
        while not await limiter.hit(item, "a"):  # it cannot wait: sleep until the window moves
            stats = await limiter.get_window_stats(item, "a")
            await asyncio.sleep(max(stats.reset_time - time.time(), 0.001))

    yield acquire


@contextlib.asynccontextmanager
async def pyrate(url: str) -> AsyncIterator[Acquire]:
    from pyrate_limiter import Duration, Limiter, Rate, RedisBucket
    from redis.asyncio import Redis

    async with Redis.from_url(url) as redis:
        bucket: Any = RedisBucket.init([Rate(RATE_LIMIT, Duration.SECOND)], redis, "a")
        limiter = Limiter(await bucket)
        yield lambda: limiter.try_acquire_async("a")


CONTENDERS: dict[str, tuple[str, float, Contender]] = {
    "moltin_jobs": (f"`RedisLimiter` ({OURS})", RATE_LIMIT / SPACING, ours),
    "throttled": ("throttled-py, its own GCRA", RATE_LIMIT, throttled),
    "limits": ("limits, moving window", RATE_LIMIT, limits),
    "pyrate_limiter": ("pyrate-limiter", RATE_LIMIT, pyrate),
}
"""Name of the package, and then: label, own rate in acquires a second, and how to use it."""


async def acquire_until(end: float, contender: Contender, url: str, waiters: int) -> list[float]:
    """Return the moments at which slots were acquired."""
    moments = []

    async def wait_in_a_loop(acquire: Acquire) -> None:
        while True:
            await acquire()
            moments.append(time.monotonic())

    async with contender(url) as acquire:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(end - time.monotonic()):
                await asyncio.gather(*(wait_in_a_loop(acquire) for _ in range(waiters)))
    return moments


def main(name: str, url: str, waiters: str) -> None:
    importlib.import_module(name)
    print(flush=True)
    start, end = map(float, sys.stdin.readline().split())
    time.sleep(max(0.0, start - time.monotonic()))
    _, _, contender = CONTENDERS[name]
    print(json.dumps(asyncio.run(acquire_until(end, contender, url, int(waiters)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
