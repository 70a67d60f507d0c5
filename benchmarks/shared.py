"""One rate limit for several processes over Redis: accuracy, fairness and cost.

With three arguments (contender, URL, seconds), this module is one of the processes: it acquires
slots as fast as the limiter permits, and prints the moments as JSON.
"""

import asyncio
import contextlib
import importlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from benchmarks.measure import OURS, measure_interleaved, print_ratios, skip_if_missing
from benchmarks.table import print_table
from moltin_jobs._http.rate_limit import Throttle
from moltin_jobs.redis_limiter import RedisLimiter
from tests.redis_server import MISSING, RedisServer

RATE_LIMIT, PROCESSES = 40, 3
ACQUIRES = 500
UNREACHED_RATE_LIMIT = 1_000_000

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


CONTENDERS: dict[str, tuple[str, Contender]] = {
    "moltin_jobs": (f"`RedisLimiter` ({OURS})", ours),
    "throttled": ("throttled-py, its own GCRA", throttled),
    "limits": ("limits, moving window", limits),
    "pyrate_limiter": ("pyrate-limiter", pyrate),
}


async def acquire_for(contender: Contender, url: str, seconds: float) -> list[float]:
    """Return the moments at which slots were acquired."""
    moments = []
    async with contender(url) as acquire:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await acquire()
            moments.append(time.monotonic())
    return moments


def most_in_a_second(moments: Sequence[float]) -> int:
    ordered, first, most = sorted(moments), 0, 0
    for last, moment in enumerate(ordered):
        while ordered[first] <= moment - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def count_commands(server: RedisServer) -> int:
    return sum(map(int, server.info("commandstats", r"cmdstat_(?:evalsha|eval|pttl):calls=(\d+)")))


def measure_contender(name: str, label: str, seconds: float) -> tuple[object, ...]:
    """Return a row of the table."""
    with RedisServer() as server:
        command = [sys.executable, "-m", "benchmarks.shared", name, server.url, str(seconds)]
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 (our own module)
            for _ in range(PROCESSES)
        ]
        moments_by_process = [json.loads(process.communicate()[0]) for process in processes]
        commands = count_commands(server)
    moments = [moment for moments in moments_by_process for moment in moments]
    counts = sorted(map(len, moments_by_process))
    return (
        label,
        most_in_a_second(moments),
        f"{len(moments) / seconds:.1f}",
        " / ".join(map(str, counts)),
        f"{commands / len(moments):.1f}",
    )


async def measure_cost(url: str, rounds: int) -> dict[str, list[float]]:
    throttle = Throttle(UNREACHED_RATE_LIMIT)

    async def acquire_in_process() -> None:
        for _ in range(ACQUIRES):
            throttle.release(await throttle.acquire())

    async with RedisLimiter(url, "cost", rate_limit=UNREACHED_RATE_LIMIT, processes=1) as limiter:

        async def acquire_over_redis() -> None:
            for _ in range(ACQUIRES):
                await limiter.acquire()

        batches = {"in one process": acquire_in_process, "over Redis": acquire_over_redis}
        return await measure_interleaved(batches, rounds)


def run(*, full: bool) -> None:
    if MISSING:
        print(f"skipped shared: {MISSING}\n")
        return
    seconds = 30.0 if full else 5.0
    rows = []
    for name, (label, _) in CONTENDERS.items():
        with skip_if_missing(name):
            importlib.import_module(name)
            rows.append(measure_contender(name, label, seconds))
    title = (
        f"{PROCESSES} processes that acquire as fast as they may for {seconds:g} s, with a rate "
        f"limit of {RATE_LIMIT} a second:"
    )
    columns = (
        "limiter",
        "most in any one second",
        "mean per second",
        "by each process",
        "commands per acquire",
    )
    print_table(title, columns, rows)
    rounds = 30 if full else 10
    with RedisServer() as server:
        cost = asyncio.run(measure_cost(server.url, rounds))
        commands = count_commands(server) / (rounds + 1) / ACQUIRES  # one round is a warm-up
    title = (
        f"{ACQUIRES} acquires in a row below the rate limit ({commands:.2f} commands per acquire: "
        "`RedisLimiter` can reserve several slots with one):"
    )
    print_ratios(title, "limiter", cost, "in one process", ACQUIRES)


if __name__ == "__main__":
    _, contender = CONTENDERS[sys.argv[1]]
    print(json.dumps(asyncio.run(acquire_for(contender, sys.argv[2], float(sys.argv[3])))))
