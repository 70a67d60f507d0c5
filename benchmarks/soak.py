"""Resident memory during many lookups and waits, some of whose responses are faults.

The memory must not grow.
"""

import asyncio
import gc
import itertools
import logging
from collections.abc import Iterable

from benchmarks.measure import resident_bytes, run_concurrently
from benchmarks.server import run_server
from benchmarks.table import print_table
from moltin_jobs import JobsSession, Polling, Retry

STEPS = 10
CONCURRENCY = 64
IDS = [f"job-{number}" for number in range(500)]
FAULT_INTERVAL = 10
RETRY = Retry(max_attempts=8, initial_interval=0.001)
POLLING = Polling(initial_interval=0.05, max_outage=None)


async def wait_for_all(session: JobsSession, count: int, numbers: Iterable[int]) -> None:
    await session.wait_for_jobs([f"job-{number}" for number in itertools.islice(numbers, count)])


async def measure_memory(url: str, operation: str, step: int) -> list[float]:
    """Return the resident memory in MiB after each step of so many operations."""
    numbers = itertools.count()
    sizes = []
    async with JobsSession(
        "a-bearer-token", base_url=url, rate_limit=100_000, retry=RETRY, polling=POLLING
    ) as session:
        for _ in range(STEPS):
            if operation == "lookups":
                ids = itertools.islice(itertools.cycle(IDS), step)
                await run_concurrently(session.get_job, ids, CONCURRENCY)
            else:
                await wait_for_all(session, step, numbers)
            gc.collect()
            sizes.append(resident_bytes() / 2**20)
    return sizes


def run(*, full: bool) -> None:
    logging.getLogger("moltin_jobs").setLevel(logging.ERROR)
    divisor = 1 if full else 10
    rows = []
    for operation, step, pending_polls in (("lookups", 20_000, 0), ("waits", 2_000, 2)):
        with run_server(pending_polls, FAULT_INTERVAL) as url:
            sizes = asyncio.run(measure_memory(url, operation, step // divisor))
        cells = (f"{size:.1f}" for size in sizes)
        rows.append((f"{step // divisor * STEPS:,} {operation}", *cells))
    percents = (f"{100 * number // STEPS} %" for number in range(1, STEPS + 1))
    title = f"Resident memory in MiB, while every {FAULT_INTERVAL}th response is a fault:"
    print_table(title, ("after this part of", *percents), rows)
