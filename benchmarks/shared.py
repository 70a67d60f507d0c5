"""One rate limit for several processes over Redis: rate, accuracy, fairness and cost."""

import asyncio
import importlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.measure import measure_interleaved, print_ratios, skip_if_missing
from benchmarks.shared_process import CONTENDERS, PROCESSES, RATE_LIMIT
from benchmarks.table import print_table
from moltin_jobs._http.rate_limit import Throttle
from moltin_jobs.redis_limiter import RedisLimiter
from tests.distant_redis import move_away
from tests.redis_server import MISSING, RedisServer

DISTANCES = 0, 20, 50, 110
"""Round trips to Redis in milliseconds."""
WAITERS = 1, 20
"""Callers that wait for a slot at the same time, in each process."""
ACQUIRES = 500
UNREACHED_RATE_LIMIT = 1_000_000


def most_in_a_second(moments: Sequence[float]) -> int:
    ordered, first, most = sorted(moments), 0, 0
    for last, moment in enumerate(ordered):
        while ordered[first] <= moment - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def count_commands(server: RedisServer) -> int:
    return sum(map(int, server.info("commandstats", r"cmdstat_(?:evalsha|eval|pttl):calls=(\d+)")))


async def measure_contender(
    name: str, waiters: int, milliseconds: int, seconds: float
) -> tuple[object, ...]:
    """Return a row of the table."""
    label, own_rate, _ = CONTENDERS[name]
    with RedisServer() as server:
        async with move_away(server.url, milliseconds / 1000) as url:
            command = "-m", "benchmarks.shared_process", name, url, str(waiters)
            processes = [
                await asyncio.create_subprocess_exec(
                    *(sys.executable, *command), stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
                for _ in range(PROCESSES)
            ]
            for process in processes:
                assert process.stdout is not None
                await process.stdout.readline()  # it is ready
            start = time.monotonic() + 0.1
            period = f"{start} {start + seconds}\n".encode()
            outputs = await asyncio.gather(*(process.communicate(period) for process in processes))
        commands = count_commands(server)
    moments_by_process = [json.loads(output) for output, _ in outputs]
    moments = [moment for moments in moments_by_process for moment in moments]
    rate = len(moments) / seconds
    return (
        label,
        waiters,
        milliseconds,
        f"{rate / own_rate:.2f}",
        f"{rate:.1f}",
        most_in_a_second(moments),
        " / ".join(map(str, sorted(map(len, moments_by_process)))),
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
    for name in CONTENDERS:
        with skip_if_missing(name):
            importlib.import_module(name)
            for waiters, milliseconds in itertools.product(WAITERS, DISTANCES):
                rows.append(asyncio.run(measure_contender(name, waiters, milliseconds, seconds)))
    title = (
        f"{PROCESSES} processes that acquire as fast as they may for {seconds:g} s, with a rate "
        f"limit of {RATE_LIMIT} a second and Redis some ms (there and back) away:"
    )
    columns = (
        "limiter",
        "waiters in each process",
        "ms to Redis",
        "share of own rate",
        "mean per second",
        "most in any one second",
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
