"""Thousands of waits in one session: what one costs while it waits, and what a poll costs.

Each contender is measured in a process of its own, since memory that was once taken is not given
back. All waits poll once, rest while memory is measured, and then poll twice more.
"""

import asyncio
import gc
import json
import multiprocessing
import resource
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.server import running
from benchmarks.table import show
from moltin_jobs import JobsSession, Polling

POLLS = 3
REST = 6.0
WINDOW = 100  # requests in flight of the hand-written loop: the client's own bound

Wait = Callable[[str], Awaitable[Any]]


def ours(url: str) -> tuple[AbstractAsyncContextManager[Any], Callable[[Any], Wait]]:
    polling = Polling(initial=REST, factor=1, jitter=0.2)
    session = JobsSession("a-bearer-token", base_url=url, rate_limit=None, polling=polling)
    return session, lambda opened: opened.wait_for_job


def hand_written(url: str) -> tuple[AbstractAsyncContextManager[Any], Callable[[Any], Wait]]:
    """What many services hold: no limit, no retry, no deadline, no check of the answer."""
    session = aiohttp.ClientSession(headers={"Authorization": "Bearer a-bearer-token"})

    def with_session(http: aiohttp.ClientSession) -> Wait:
        window = asyncio.Semaphore(WINDOW)

        async def wait(job_id: str) -> Any:
            while True:
                async with window, http.get(f"{url}/v2/jobs/{job_id}") as response:
                    job = (await response.json())["data"]
                if job["status"] in ("success", "complete", "failed"):
                    return job
                await asyncio.sleep(REST)

        return wait

    return session, with_session


CONTENDERS = {"`JobsSession.wait_for_job`": ours, "hand-written `while: get; sleep`": hand_written}


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measured(name: str, count: int, url: str, *, traced: bool) -> dict[str, float]:
    manager, with_session = CONTENDERS[name](url)
    async with manager as opened:
        wait = with_session(opened)
        await asyncio.gather(*(asyncio.wait_for(_first(wait, f"warm-{n}"), 5) for n in range(100)))
        gc.collect()
        if traced:
            tracemalloc.start()
        memory, spent = resident(), processor()
        waits = [asyncio.create_task(_run(wait, f"job-{number}")) for number in range(count)]
        await asyncio.sleep(REST * 0.7)
        gc.collect()
        each = (resident() - memory) / count
        heap = tracemalloc.get_traced_memory()[0] / count if traced else 0.0
        await asyncio.gather(*waits)
        return {"rss": each, "heap": heap, "poll": (processor() - spent) / count / POLLS}


async def _run(wait: Wait, job_id: str) -> None:
    await wait(job_id)


async def _first(wait: Wait, job_id: str) -> None:
    """Have the connections opened, and whatever is made once."""
    task = asyncio.ensure_future(wait(job_id))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def child(name: str, count: int, traced: bool, out: Any) -> None:
    with running(polls=POLLS - 1) as url:
        out.send(json.dumps(asyncio.run(measured(name, count, url, traced=traced))))


def in_a_process(name: str, count: int, *, traced: bool) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=child, args=(name, count, traced, there))
    process.start()
    there.close()
    figures: dict[str, float] = json.loads(here.recv())
    process.join()
    return figures


def run(*, full: bool) -> None:
    rows = []
    for count in (1000, 10_000, 100_000) if full else (1000, 5000):
        for name in CONTENDERS:
            plain, traced = (in_a_process(name, count, traced=traced) for traced in (False, True))
            kib = (f"{figure / 1024:.1f} KiB" for figure in (plain["rss"], traced["heap"]))
            rows.append((f"{count:,}", name, *kib, f"{plain['poll'] * 1e6:.0f} µs"))
    columns = ("waits", "how", "resident, each", "on the heap, each", "processor time a poll")
    show(f"Waits of {POLLS} polls each, in one session:", columns, rows)
