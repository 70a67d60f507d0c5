"""Several processes that share one rate limit, over a real Redis."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from moltin_jobs.testing.simulator import Simulator
from tests.redis_server import MISSING, RedisServer

pytestmark = [pytest.mark.fleet, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


def max_per_second(moments: Sequence[float]) -> int:
    return max(sum(start <= at < start + 1 for at in moments) for start in moments)


async def test_shared_limit_of_three_processes_holds_while_redis_is_down() -> None:
    """The test takes FLEET_SECONDS. For a sixth of that time, Redis is down."""
    rate, processes = 40, 3
    seconds = float(os.environ.get("FLEET_SECONDS", "12"))
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        simulator = await stack.enter_async_context(Simulator(rate_limit=None))
        simulator.add_job("first", duration=seconds)  # all that follow end with it
        ends = []
        for number in range(processes):
            ids = [simulator.add_job(f"job-{number}-{n}", duration=0) for n in range(30)]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.fleet", simulator.url, redis.url),
                *(str(rate), str(processes)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            ends.append(asyncio.create_task(process.communicate(" ".join(ids).encode())))
        await asyncio.sleep(seconds / 2)
        killed = loop.time()
        redis.kill()
        await asyncio.sleep(seconds / 6)
        await asyncio.to_thread(redis.start)
        restarted = loop.time()
        outcomes = [json.loads(output) for output, _ in await asyncio.gather(*ends)]
    assert outcomes == [{"success": 30}] * processes
    moments = [request.at for request in simulator.requests]
    whole = max_per_second(moments)
    shared = max(
        max_per_second([at for at in moments if at < killed]),
        max_per_second([at for at in moments if at > restarted + 3]),
    )
    busy = sum(killed - 2 <= at < killed for at in moments) / 2
    print(f"at most {shared} a second over Redis, {whole} in all; {busy} a second when busy")  # noqa: T201
    assert shared <= rate
    assert whole <= rate + processes
    assert busy >= 0.8 * rate / 1.2, "the limit must not hold only because little is sent"
