"""A store that runs jobs one at a time, without a network. Its requests take no time."""

import asyncio
import datetime
import math
import random
from collections.abc import Callable

from moltin_jobs import Job
from moltin_jobs._polling.sources import ListSnapshot, Snapshot

FINISHED_JOBS = 50
"""Jobs that have run before the first wait. A list names those of a week."""
CLOCK_ERROR = 30.0
_EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

LENGTHS: dict[str, Callable[[random.Random], float]] = {
    "60 s each": lambda _: 60.0,
    "log-uniform, 1 to 100 s": lambda generator: math.exp(generator.uniform(0, math.log(100))),
    "lognormal, median 60 s": lambda generator: 60 * math.exp(generator.gauss(0, 0.6)),
}


class Store:
    """Jobs that are all created at the start, and their ends on the event loop's clock.

    Args:
        lengths: a key of `LENGTHS`.
        jobs: number of jobs.
        overtaking: whether jobs run in another order than that of their creation.
        clock_error: seconds by which the clock that dates creations and responses is fast,
            compared with the clock that dates the ends of jobs.
    """

    def __init__(
        self,
        lengths: str,
        jobs: int,
        *,
        seed: int,
        overtaking: bool = False,
        clock_error: float = 0.0,
    ) -> None:
        generator = random.Random(seed)
        self._clock_error = clock_error
        run_times = [LENGTHS[lengths](generator) for _ in range(FINISHED_JOBS + jobs)]
        self._finished = self._finish(run_times[:FINISHED_JOBS])
        self.ids = [f"job-{number:04}" for number in range(jobs)]
        order = [*self.ids]
        if overtaking:
            order.sort(key=lambda job_id: int(job_id[4:]) + generator.uniform(0, 5))
        self.starts: dict[str, float] = {}
        self.ends: dict[str, float] = {}
        moment = 0.0
        for job_id, run_time in zip(order, run_times[FINISHED_JOBS:], strict=True):
            self.starts[job_id], moment = moment, moment + run_time
            self.ends[job_id] = moment
        self._jobs = {job_id: self._make_job(job_id, "pending") for job_id in self.ids}
        self.lists = 0
        self.polls_by_id = 0

    def _finish(self, run_times: list[float]) -> list[Job]:
        """Return jobs that have run one after the other until now."""
        jobs, moment = [], -sum(run_times)
        for number, run_time in enumerate(run_times):
            moment += run_time
            job = Job(
                id=f"finished-{number}",
                status="success",
                created_at=self._date(-2 * sum(run_times) + number),
                updated_at=self._date(moment - self._clock_error),
            )
            jobs.append(job)
        return jobs

    def _make_job(self, job_id: str, status: str, updated_at: float | None = None) -> Job:
        updated = None if updated_at is None else self._date(updated_at - self._clock_error)
        number = self.ids.index(job_id)
        return Job(
            id=job_id, status=status, created_at=self._date(number / 1e6), updated_at=updated
        )

    def _date(self, seconds: float) -> datetime.datetime:
        return _EPOCH + datetime.timedelta(seconds=seconds + self._clock_error)

    def _get_job(self, job_id: str) -> Job:
        job, now = self._jobs[job_id], _now()
        if job.status == "pending" and now >= self.starts[job_id]:
            job = self._jobs[job_id] = self._make_job(job_id, "started", self.starts[job_id])
        if job.status == "started" and now >= self.ends[job_id]:
            job = self._jobs[job_id] = self._make_job(job_id, "success", self.ends[job_id])
        return job

    async def fetch_job(self, job_id: str, _: Snapshot | None = None) -> Snapshot:
        self.polls_by_id += 1
        return Snapshot(self._get_job(job_id), _now())

    async def fetch_list(self) -> ListSnapshot:
        self.lists += 1
        now = _now()
        jobs = [*self._finished, *map(self._get_job, self.ids)]
        return ListSnapshot(jobs, now, 0, self.lists, self._date(now))


def _now() -> float:
    return asyncio.get_running_loop().time()
