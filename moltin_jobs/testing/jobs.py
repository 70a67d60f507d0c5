"""Jobs of the simulator.

Nothing runs in the background. The status of a job is computed whenever a response shows the job.
Under a virtual clock a week passes at once.
"""

import asyncio
import collections
import math
import random
import uuid
from collections.abc import Sequence

import attrs

JOB_LIFETIME = 7 * 24 * 3600.0


@attrs.frozen
class JobScript:
    """Course of a job: a status for each poll, or a duration, and its result."""

    statuses: Sequence[str] | None = None
    duration: float | None = None
    error: str | None = None
    file: bytes | None = None

    def __attrs_post_init__(self) -> None:
        if self.statuses is not None and (isinstance(self.statuses, str) or not self.statuses):
            raise ValueError(f"statuses must be a non-empty list, not {self.statuses!r}")
        if self.statuses is not None and self.duration is not None:
            raise ValueError("statuses and duration cannot be combined")
        check_seconds("duration", self.duration)


@attrs.define
class SimulatedJob:
    """A job. Its times are on the event loop's clock."""

    id: str
    job_type: str
    script: JobScript
    created_at: float
    starts_at: float
    ends_at: float
    polls: int = 0
    """Number of responses that contained the job."""

    def get_status(self, now: float, names: Sequence[str]) -> tuple[str, float | None]:
        """Return the status, and the time of its last change (``None`` before the first)."""
        if self.script.statuses is not None:
            step = min(self.polls, len(self.script.statuses) - 1)
            return self.script.statuses[step], now if step else None
        pending, running, succeeded, failed = names
        if now < self.starts_at:
            return pending, None
        if now < self.ends_at:
            return running, self.starts_at
        return succeeded if self.script.error is None else failed, self.ends_at

    def get_file(self) -> bytes:
        """Return the content of the exported file."""
        if self.script.file is not None:
            return self.script.file
        rows = [f"{self.id}-{number},EUR,{number * 100}" for number in range(1, 201)]
        return "\r\n".join(["order_id,currency,amount", *rows, ""]).encode()


class JobTable:
    """All jobs. Those without scripted statuses run one at a time, in the order of creation."""

    def __init__(self, rng: random.Random, creation_seconds: float | None) -> None:
        check_seconds("creation_seconds", creation_seconds)
        self._random = rng
        self._default_script = JobScript(duration=creation_seconds)
        self.next_scripts: collections.deque[JobScript] = collections.deque()
        """Scripts of the next jobs that requests create."""
        self._jobs: dict[str, SimulatedJob] = {}
        self._queue_ends_at = -math.inf

    def add(self, script: JobScript, job_id: str | None, job_type: str) -> SimulatedJob:
        """Create a job, by default with a new id."""
        job_id = job_id or str(random_uuid(self._random))
        if job_id in self._jobs:
            raise ValueError(f"job_id: there is already a job {job_id!r}. Use a different id.")
        now = starts_at = ends_at = loop_time()
        if script.statuses is None:
            duration = 60 ** self._random.random() if script.duration is None else script.duration
            starts_at = max(now, self._queue_ends_at)
            self._queue_ends_at = ends_at = starts_at + duration
        self._jobs[job_id] = SimulatedJob(job_id, job_type, script, now, starts_at, ends_at)
        return self._jobs[job_id]

    def create(self, job_type: str) -> SimulatedJob:
        """Create the job of a request, after the next script if there is one."""
        script = self.next_scripts.popleft() if self.next_scripts else self._default_script
        return self.add(script, None, job_type)

    def remove(self, job_id: str) -> None:
        """Remove a job."""
        if self._jobs.pop(job_id, None) is None:
            raise ValueError(f"job_id: there is no job {job_id!r}")

    def find(self, job_id: str) -> SimulatedJob | None:
        """Return a job, or ``None`` if it does not exist or has expired."""
        job = self._jobs.get(job_id)
        return None if job is None or loop_time() - job.created_at > JOB_LIFETIME else job

    def find_all(self) -> list[SimulatedJob]:
        """Return the jobs that have not expired, in the order of creation."""
        return [job for job in map(self.find, self._jobs) if job is not None]


def check_seconds(name: str, value: float | None) -> None:
    """Raise a ValueError unless the value is a length of time or ``None``."""
    if value is not None and not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a non-negative number of seconds, not {value!r}")


def random_uuid(rng: random.Random) -> uuid.UUID:
    """Return a UUID that depends only on the seed."""
    return uuid.UUID(int=rng.getrandbits(128), version=4)


def loop_time() -> float:
    """Return the time on the clock of the running event loop."""
    return asyncio.get_running_loop().time()
