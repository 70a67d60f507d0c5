"""Many waits in one session, polled by id and by list. In virtual time, over real sockets.

The jobs run one at a time, as in the service. The rate limit is 20 requests a second.
"""

import asyncio
import statistics

import looptime

from benchmarks.table import print_table
from moltin_jobs import JobsSession, Polling
from moltin_jobs.session import PollBy
from moltin_jobs.testing import Simulator

JOB_SECONDS = 1.0
POLLINGS = {
    "`Polling(initial_interval=2, max_interval=2)`": Polling(initial_interval=2, max_interval=2),
    "`Polling()`": Polling(),
}
POLL_BY: tuple[PollBy, ...] = ("id", "list")


async def measure_waits(poll_by: PollBy, polling: Polling, jobs: int) -> tuple[int, list[float]]:
    """Return the number of requests, and each wait's lag in seconds behind the end of its job."""
    loop = asyncio.get_running_loop()
    async with (
        Simulator() as simulator,
        JobsSession(
            simulator.token, base_url=simulator.url, poll_by=poll_by, polling=polling
        ) as session,
    ):
        started_at = loop.time()
        ids = [simulator.add_job(duration=JOB_SECONDS) for _ in range(jobs)]

        async def lag(number: int, job_id: str) -> float:
            await session.wait_for_job(job_id)
            return loop.time() - started_at - (number + 1) * JOB_SECONDS

        lags = await asyncio.gather(*(lag(number, job_id) for number, job_id in enumerate(ids)))
    return len(simulator.requests), lags


def run(*, full: bool) -> None:
    jobs = 1000 if full else 300
    rows = []
    for name, polling in POLLINGS.items():
        for poll_by in POLL_BY:
            with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
                requests, lags = runner.run(measure_waits(poll_by, polling, jobs))
            mean, longest = statistics.fmean(lags), max(lags)
            rows.append(
                (name, f'`"{poll_by}"`', f"{requests:,}", f"{mean:.1f} s", f"{longest:.1f} s")
            )
    print_table(
        f"{jobs:,} waits at 20 requests a second, for jobs of {JOB_SECONDS:g} s that run one at a "
        "time:",
        ("polling", "`poll_by`", "requests", "mean lag", "longest lag"),
        rows,
    )
