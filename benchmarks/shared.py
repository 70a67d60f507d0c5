"""One limit for several processes over Redis: who keeps it, how fairly, and at what cost.

Run with three arguments it is one of these processes: it acquires, and tells when.
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

from benchmarks.measure import OURS, if_installed, interleaved, show_ratios
from benchmarks.table import show
from moltin_jobs._http.rate_limit import Pacer
from moltin_jobs.redis_limiter import RedisLimiter
from tests.redis_server import MISSING, RedisServer

RATE, PROCESSES = 40, 3
ACQUIRES = 500
UNMET = 1_000_000

Acquire = Callable[[], Awaitable[object]]
Contender = Callable[[str], AbstractAsyncContextManager[Acquire]]


@contextlib.asynccontextmanager
async def ours(url: str) -> AsyncIterator[Acquire]:
    async with RedisLimiter(url, "a", rate_limit=RATE, processes=PROCESSES) as limiter:
        yield limiter.acquire


@contextlib.asynccontextmanager
async def throttled(url: str) -> AsyncIterator[Acquire]:
    from throttled.asyncio import RedisStore, Throttled, per_sec

    throttle = Throttled("a", using="gcra", quota=per_sec(RATE), store=RedisStore(url), timeout=60)
    yield throttle.limit


@contextlib.asynccontextmanager
async def limits(url: str) -> AsyncIterator[Acquire]:
    from limits import RateLimitItemPerSecond
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(RedisStorage(f"async+{url}", implementation="redispy"))
    item = RateLimitItemPerSecond(RATE)

    async def acquire() -> None:
        while not await limiter.hit(item, "a"):  # it only says no: ask when there is room
            stats = await limiter.get_window_stats(item, "a")
            await asyncio.sleep(max(stats.reset_time - time.time(), 0.001))

    yield acquire


@contextlib.asynccontextmanager
async def pyrate(url: str) -> AsyncIterator[Acquire]:
    from pyrate_limiter import Duration, Limiter, Rate, RedisBucket
    from redis.asyncio import Redis

    async with Redis.from_url(url) as redis:
        making: Any = RedisBucket.init([Rate(RATE, Duration.SECOND)], redis, "a")
        limiter = Limiter(await making)
        yield lambda: limiter.try_acquire_async("a")


CONTENDERS: dict[str, tuple[str, Contender]] = {
    "moltin_jobs": (f"`RedisLimiter` ({OURS})", ours),
    "throttled": ("throttled-py, GCRA, as it stands", throttled),
    "limits": ("limits, moving window", limits),
    "pyrate_limiter": ("pyrate-limiter", pyrate),
}


async def take(contender: Contender, url: str, seconds: float) -> list[float]:
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


def commands(server: RedisServer) -> int:
    return sum(map(int, server.info("commandstats", r"cmdstat_(?:evalsha|eval|pttl):calls=(\d+)")))


def compared(name: str, label: str, seconds: float) -> tuple[object, ...]:
    with RedisServer() as server:
        command = [sys.executable, "-m", "benchmarks.shared", name, server.url, str(seconds)]
        fleet = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 (ourselves)
            for _ in range(PROCESSES)
        ]
        taken = [json.loads(process.communicate()[0]) for process in fleet]
        asked = commands(server)
    moments = [moment for one in taken for moment in one]
    shares = sorted(len(one) for one in taken)
    return (
        label,
        most_in_a_second(moments),
        f"{len(moments) / seconds:.1f}",
        " / ".join(map(str, shares)),
        f"{asked / len(moments):.1f}",
    )


async def cost(url: str, rounds: int) -> dict[str, list[float]]:
    pacer = Pacer(UNMET)

    async def in_process() -> None:
        for _ in range(ACQUIRES):
            await pacer.grant()
            pacer.settle()

    async with RedisLimiter(url, "cost", rate_limit=UNMET, processes=1) as limiter:

        async def shared() -> None:
            for _ in range(ACQUIRES):
                await limiter.acquire()

        return await interleaved({"in-process": in_process, "over Redis": shared}, rounds)


def run(*, full: bool) -> None:
    if MISSING:
        print(f"skipped shared: {MISSING}\n")
        return
    seconds = 30.0 if full else 5.0
    rows = []
    for name, (label, _) in CONTENDERS.items():
        with if_installed(name):
            importlib.import_module(name)
            rows.append(compared(name, label, seconds))
    show(
        f"{RATE} a second, acquired by {PROCESSES} processes as they are let, {seconds:g} s:",
        ("limiter", "most in any one second", "a second", "by each", "commands an acquire"),
        rows,
    )
    with RedisServer() as server:
        spent = asyncio.run(cost(server.url, 30 if full else 10))
    show_ratios(
        f"{ACQUIRES} acquires that meet no limit:", "acquire", spent, "in-process", ACQUIRES
    )


if __name__ == "__main__":
    _, contender = CONTENDERS[sys.argv[1]]
    print(json.dumps(asyncio.run(take(contender, sys.argv[2], float(sys.argv[3])))))
