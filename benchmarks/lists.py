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

NUMBERS_OF_WAITS = (1, 2, 5, 20, 50)
POLLINGS = {
    "`Polling(initial_interval=2, max_interval=2)`": Polling(initial_interval=2, max_interval=2),
    "`Polling()`": Polling(),
}
POLL_BY: tuple[PollBy, ...] = ("id", "list")


def measure_waits(
    poll_by: PollBy, polling: Polling, jobs: int, job_seconds: float
) -> tuple[int, float, float]:
    """Return the number of requests, and the mean and longest lag behind the ends of the jobs."""
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        requests, lags = runner.run(_wait(poll_by, polling, jobs, job_seconds))
    return requests, statistics.fmean(lags), max(lags)


async def _wait(
    poll_by: PollBy, polling: Polling, jobs: int, job_seconds: float
) -> tuple[int, list[float]]:
    loop = asyncio.get_running_loop()
    async with (
        Simulator() as simulator,
        JobsSession(
            simulator.token, base_url=simulator.url, poll_by=poll_by, polling=polling
        ) as session,
    ):
        started_at = loop.time()
        ids = [simulator.add_job(duration=job_seconds) for _ in range(jobs)]

        async def lag(number: int, job_id: str) -> float:
            await session.wait_for_job(job_id)
            return loop.time() - started_at - (number + 1) * job_seconds

        lags = await asyncio.gather(*(lag(number, job_id) for number, job_id in enumerate(ids)))
    return len(simulator.requests), lags


def run(*, full: bool) -> None:
    jobs = 1000 if full else 300
    rows = []
    for name, polling in POLLINGS.items():
        for poll_by in POLL_BY:
            requests, mean, longest = measure_waits(poll_by, polling, jobs, 1.0)
            rows.append(
                (name, f'`"{poll_by}"`', f"{requests:,}", f"{mean:.1f} s", f"{longest:.1f} s")
            )
    print_table(
        f"{jobs:,} waits at 20 requests a second, for jobs of 1 s that run one at a time:",
        ("polling", "`poll_by`", "requests", "mean lag", "longest lag"),
        rows,
    )
    by_number = []
    for number in NUMBERS_OF_WAITS:
        row = [f"{number}"]
        for poll_by in POLL_BY:
            requests, mean, _ = measure_waits(poll_by, Polling(), number, 60.0)
            row += [f"{requests:,}", f"{mean:.1f} s"]
        by_number.append(row)
    print_table(
        "Jobs of 60 s that run one at a time, with `Polling()`, by the number of waits:",
        ("waits", "requests by id", "mean lag", "requests by list", "mean lag"),
        by_number,
    )
