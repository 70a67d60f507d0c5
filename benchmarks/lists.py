"""Many waits in one store, polled by id and by lists: in virtual time, over real sockets.

The jobs run one at a time, as the service runs them, and everything keeps to 20 requests a second.
"""

import asyncio
import statistics
from typing import Any

import looptime

from benchmarks.table import show
from moltin_jobs import JobsSession, Polling
from moltin_jobs.testing.simulator import Simulator

SECONDS = 1.0
POLLINGS = {
    "`Polling(initial=2, max_interval=2)`": Polling(initial=2, max_interval=2),
    "`Polling()`": Polling(),
}


async def waits(poll_with: Any, polling: Polling, jobs: int) -> tuple[int, list[float]]:
    """The requests that were spent, and how late each end was seen."""
    loop = asyncio.get_running_loop()
    async with (
        Simulator() as simulator,
        JobsSession(
            simulator.token, base_url=simulator.url, poll_with=poll_with, polling=polling
        ) as session,
    ):
        begun = loop.time()
        ids = [simulator.add_job(duration=SECONDS) for _ in range(jobs)]

        async def lag(number: int, job_id: str) -> float:
            await session.wait_for_job(job_id)
            return loop.time() - begun - (number + 1) * SECONDS

        lags = await asyncio.gather(*(lag(number, job_id) for number, job_id in enumerate(ids)))
    return len(simulator.requests), lags


def run(*, full: bool) -> None:
    jobs = 1000 if full else 300
    rows = []
    for name, polling in POLLINGS.items():
        means: list[float] = []
        for poll_with in ("id", "list", "auto"):
            with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
                requests, lags = runner.run(waits(poll_with, polling, jobs))
            means.append(statistics.fmean(lags))
            rows.append(
                (
                    name,
                    f'`"{poll_with}"`',
                    f"{requests:,}",
                    f"{means[-1]:.1f} s",
                    f"{means[0] / means[-1]:.1f}",
                    f"{max(lags):.1f} s",
                )
            )
    show(
        f"{jobs:,} waits at 20 requests a second for jobs of {SECONDS:g} s, run one at a time:",
        ("polling", "`poll_with`", "requests", "mean lag", "times less", "worst lag"),
        rows,
    )
