"""The recipe with Dask: many processes share the limits of several stores over a real Redis."""

import asyncio
import collections
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest

from moltin_jobs.testing import Simulator
from tests.docs.examples import named_block
from tests.redis_server import MISSING, RedisServer

pytestmark = [pytest.mark.fleet, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

STORES = 4
JOBS_OF_A_STORE = 500


async def test_fleet_recipe_prints_each_outcome_once_when_a_worker_is_killed(
    tmp_path: Path,
) -> None:
    (tmp_path / "fleet.py").write_text(named_block("docs/recipes.md", "fleet.py"))
    expected: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        environment = os.environ | {"REDIS_URL": redis.url}
        simulators = []
        for number in range(STORES):
            store = f"S{number}"
            simulator = await stack.enter_async_context(Simulator(rate_limit=100))
            simulators.append(simulator)
            environment |= {
                f"{store}_BASE_URL": simulator.url,
                f"{store}_CLIENT_ID": simulator.client_id,
                f"{store}_CLIENT_SECRET": simulator.client_secret,
            }
            expected |= add_jobs_of_store(simulator, store)
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
        printed = []
        async for line in process.stdout:
            printed.append(line.decode().rstrip("\n").split(" ", 2))
            if len(printed) == len(expected) // 3:
                worker, _ = workers_of(process.pid)
                worker.kill()
        assert await process.wait() == 0
    assert len(printed) == STORES * JOBS_OF_A_STORE
    assert {f"{store} {job_id}": outcome for store, job_id, outcome in printed} == expected
    for simulator in simulators:
        statuses = collections.Counter(request.status for request in simulator.requests)
        assert statuses.keys() == {200}
        assert most_in_a_second([request.at for request in simulator.requests]) <= 90


def add_jobs_of_store(simulator: Simulator, store: str) -> dict[str, str]:
    """Add the jobs, every tenth of which fails; return the expected outcome of each line."""
    expected = {}
    for number in range(JOBS_OF_A_STORE):
        job_id = f"{store}-{number}"
        fails = number % 10 == 0
        statuses = ["pending", "failed" if fails else "success"]
        simulator.add_job(job_id, statuses, error="Out of memory")
        failure = f"job {job_id} failed: Out of memory. Create a new job to try again."
        expected[f"{store} {job_id}"] = failure if fails else "success"
    return expected


def most_in_a_second(moments: Sequence[float]) -> int:
    return max(sum(start <= at < start + 1 for at in moments) for start in moments)


def workers_of(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
