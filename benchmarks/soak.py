"""Memory over many lookups and waits, with faults among the answers: it must not grow."""

import asyncio
import gc
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable

from benchmarks.lookup import many
from benchmarks.measure import resident
from benchmarks.server import running
from benchmarks.table import show
from moltin_jobs import Job, JobsSession, Polling, Retry

STEPS = 10
SPOIL = 10  # every tenth answer
RETRY = Retry(max_tries=8, initial=0.001)
POLLING = Polling(initial=0.05, outage=None)

Call = Callable[[str], Awaitable[Job]]


async def waits(session: JobsSession, count: int, numbers: Iterable[int]) -> None:
    ids = [f"job-{number}" for number in itertools.islice(numbers, count)]
    await session.wait_for_jobs(ids)


async def measured(url: str, step: int, kind: str) -> list[float]:
    numbers = itertools.count()
    found = []
    async with JobsSession(
        "a-bearer-token", base_url=url, rate_limit=100_000, retry=RETRY, polling=POLLING
    ) as session:
        for _ in range(STEPS):
            if kind == "lookups":
                await many(session.get_job, (number % 500 for number in range(step)))
            else:
                await waits(session, step, numbers)
            gc.collect()
            found.append(resident() / 2**20)
    return found


def run(*, full: bool) -> None:
    logging.getLogger("moltin_jobs").setLevel(logging.ERROR)
    part = 1 if full else 10
    rows = []
    for kind, step, polls in (("lookups", 20_000, 0), ("waits", 2_000, 2)):
        with running(polls=polls, spoil=SPOIL) as url:
            sizes = asyncio.run(measured(url, step // part, kind))
        each = (f"{size:.1f}" for size in sizes)
        rows.append((f"{step // part * STEPS:,} {kind}", *each))
    columns = ("after each tenth of", *(str(number) for number in range(1, STEPS + 1)))
    show(f"MiB resident, while every {SPOIL}th answer is spoiled:", columns, rows)
