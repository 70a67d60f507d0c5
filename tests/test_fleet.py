"""Many processes that share a store's limit, over a real Redis."""

import asyncio
import collections
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest

from moltin_jobs.testing.simulator import Simulator
from tests.redis_server import MISSING, RedisServer

pytestmark = [pytest.mark.fleet, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

README = (Path(__file__).parent.parent / "README.md").read_text()


def most_in_a_second(moments: Sequence[float]) -> int:
    return max(sum(start <= at < start + 1 for at in moments) for start in moments)


async def test_three_processes_keep_to_one_limit_whatever_befalls_redis() -> None:
    """FLEET_SECONDS=30 for longer; for a sixth of it, Redis is away."""
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
        back = loop.time()
        outcomes = [json.loads(told) for told, _ in await asyncio.gather(*ends)]
    assert outcomes == [{"success": 30}] * processes
    moments = [request.at for request in simulator.requests]
    whole = most_in_a_second(moments)
    shared = max(
        most_in_a_second([at for at in moments if at < killed]),
        most_in_a_second([at for at in moments if at > back + 3]),
    )
    busy = sum(killed - 2 <= at < killed for at in moments) / 2
    print(f"most in a second: {shared} over Redis, {whole} in all; {busy} a second")  # noqa: T201 (pytest -s shows it)
    assert shared <= rate
    assert whole <= rate + processes
    assert busy >= 0.8 * rate / 1.2, "or the limit was kept by doing little"


async def test_the_readmes_fleet_survives_the_death_of_a_worker(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(# fleet\.py(?s:.*?))^```", README, re.MULTILINE)
    (tmp_path / "fleet.py").write_text(example)
    expected = {}
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        environment = os.environ | {"REDIS_URL": redis.url}
        simulators = {
            f"S{number}": await stack.enter_async_context(Simulator(rate_limit=100))
            for number in range(4)
        }
        for store, simulator in simulators.items():
            environment |= {
                f"{store}_BASE_URL": simulator.url,
                f"{store}_CLIENT_ID": simulator.client_id,
                f"{store}_CLIENT_SECRET": simulator.client_secret,
            }
            for number in range(500):
                fails = number % 10 == 0
                statuses = ["pending", "failed" if fails else "success"]
                job_id = simulator.add_job(f"{store}-{number}", statuses, error="No results")
                failed = f"job {job_id} failed: No results. It will not change: create a new job."
                expected[f"{store} {job_id}"] = failed if fails else "success"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, tmp_path / "fleet.py"),
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n".join(expected).encode())
        process.stdin.close()
        told = []
        async for line in process.stdout:
            told.append(line.decode().rstrip("\n").split(" ", 2))
            if len(told) == len(expected) // 3:
                worker, _ = _workers(process.pid)
                worker.kill()
        assert await process.wait() == 0
    assert len(told) == 2000
    assert {f"{store} {job_id}": outcome for store, job_id, outcome in told} == expected
    for simulator in simulators.values():
        assert collections.Counter(one.status for one in simulator.requests).keys() == {200}
        assert most_in_a_second([request.at for request in simulator.requests]) <= 90


def _workers(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
