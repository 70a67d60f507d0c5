"""Jobs of the simulator.

Nothing runs in the background. The status of a job is computed whenever a response shows the job.
Under a virtual clock a week passes at once.
"""

import asyncio
import math
import random
import uuid
from collections.abc import Sequence

import attrs
from aiohttp import web
from attrs.validators import ge, optional

JOB_LIFETIME = 7 * 24 * 3600.0


@attrs.define
class SimulatedJob:
    """A simulated job. Its status comes from a list (one status for each response), or from
    the time that has passed.

    Its times are on the event loop's clock, and set when it is added to a `JobTable`.
    """

    statuses: Sequence[str] | None = None
    duration: float | None = attrs.field(default=None, validator=optional(ge(0)))
    error: str | None = None
    file: bytes | None = None
    id: str | None = None
    job_type: str = "order_export"
    created_at: float = attrs.field(default=0.0, init=False)
    starts_at: float = attrs.field(default=0.0, init=False)
    ends_at: float = attrs.field(default=0.0, init=False)
    polls: int = attrs.field(default=0, init=False)
    """Number of responses that contained the job."""

    def __attrs_post_init__(self) -> None:
        if self.statuses is not None and (isinstance(self.statuses, str) or not self.statuses):
            raise ValueError(f"statuses must be a non-empty list, not {self.statuses!r}")
        if self.statuses is not None and self.duration is not None:
            raise ValueError("statuses and duration cannot be combined")

    def get_status_and_time(self, names: Sequence[str]) -> tuple[str, float | None]:
        """Return the status, and the time of its last change (``None`` before the first).

        The names are those of a job that is pending, running, succeeded or failed.
        """
        now = loop_time()
        if self.statuses is not None:
            step = min(self.polls, len(self.statuses) - 1)
            return self.statuses[step], now if step else None
        pending, running, succeeded, failed = names
        if now < self.starts_at:
            return pending, None
        if now < self.ends_at:
            return running, self.starts_at
        return succeeded if self.error is None else failed, self.ends_at

    @property
    def has_expired(self) -> bool:
        """Whether the service has removed the job."""
        return loop_time() - self.created_at > JOB_LIFETIME

    def get_file(self) -> bytes:
        """Return the content of the exported file."""
        if self.file is not None:
            return self.file
        rows = [f"{self.id}-{number},EUR,{number * 100}" for number in range(1, 201)]
        return "\r\n".join(["order_id,currency,amount", *rows, ""]).encode()


class JobTable:
    """All jobs. Those without scripted statuses run one at a time, in the order of creation."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._jobs: dict[str, SimulatedJob] = {}
        self._queue_ends_at = -math.inf

    def add(self, job: SimulatedJob) -> str:
        """Create a job, by default with a new id, and return its id."""
        job.id = job.id or str(random_uuid(self._random))
        if job.id in self._jobs:
            raise ValueError(f"job_id: there is already a job {job.id!r}. Use a different id.")
        job.created_at = job.starts_at = job.ends_at = loop_time()
        if job.statuses is None:
            duration = 60 ** self._random.random() if job.duration is None else job.duration
            job.starts_at = max(job.created_at, self._queue_ends_at)
            job.ends_at = self._queue_ends_at = job.starts_at + duration
        self._jobs[job.id] = job
        return job.id

    def remove(self, job_id: str) -> None:
        """Remove a job."""
        if self._jobs.pop(job_id, None) is None:
            raise ValueError(f"job_id: there is no job {job_id!r}")

    def find(self, job_id: str) -> SimulatedJob:
        """Return a job, unless it has expired."""
        job = self._jobs.get(job_id)
        if job is None or job.has_expired:
            raise web.HTTPNotFound
        return job

    def find_all(self) -> list[SimulatedJob]:
        """Return the jobs that have not expired, in the order of creation."""
        return [job for job in self._jobs.values() if not job.has_expired]


def random_uuid(rng: random.Random) -> uuid.UUID:
    """Return a UUID that depends only on the seed."""
    return uuid.UUID(int=rng.getrandbits(128), version=4)


def loop_time() -> float:
    """Return the time on the clock of the running event loop."""
    return asyncio.get_running_loop().time()
