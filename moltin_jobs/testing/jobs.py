"""Jobs of the simulator.

Nothing runs in the background. The status of a job is computed whenever a response shows the job.
Under a virtual clock a week passes at once.
"""

import asyncio
import collections
import itertools
import math
import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from aiohttp import web
from attrs.validators import ge, optional

from .kinds import Kind, State, find_kind

ORDER_LIFETIME = 7 * 24 * 3600.0


@attrs.frozen
class Problem:
    """A reason why a job has failed."""

    message: str
    field: str | None = None
    line: int | None = None


AnyProblem = str | tuple[str, str | None, int | None]
"""A problem: a message, or a message, the name of a field and the number of a line."""


@attrs.define
class SimulatedJob:
    """A simulated job. Its status comes from a list (one status for each response), or from
    the time that has passed.

    Its times are on the event loop's clock, and set when it is added to a `JobTable`.
    """

    statuses: Sequence[str] | None = None
    duration: float | None = attrs.field(default=None, validator=optional(ge(0)))
    error: str | None = None
    files: tuple[bytes, ...] | None = None
    """Content of each file, ``None`` for the default of the kind."""
    id: str | None = None
    kind_name: str = "order"
    job_type: str | None = None
    problems: tuple[Problem, ...] = ()
    details: Mapping[str, Any] = attrs.field(factory=dict)
    created_at: float = attrs.field(default=0.0, init=False)
    starts_at: float = attrs.field(default=0.0, init=False)
    ends_at: float = attrs.field(default=0.0, init=False)
    run_seconds: float = attrs.field(default=0.0, init=False)
    cancelled_at: float | None = attrs.field(default=None, init=False)
    polls: int = attrs.field(default=0, init=False)
    """Number of responses that contained the job."""
    _started_at: float | None = attrs.field(default=None, init=False)  # of a job with statuses
    _ended_at: float | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.statuses is not None and (isinstance(self.statuses, str) or not self.statuses):
            raise ValueError(f"statuses must be a non-empty list, not {self.statuses!r}")
        if self.statuses is not None and self.duration is not None:
            raise ValueError("statuses and duration cannot be combined")

    @property
    def kind(self) -> Kind:
        """The kind of the job."""
        return find_kind(self.kind_name)

    @property
    def catalog_id(self) -> str:
        """Id of the catalog of a release, or an empty string."""
        return self.kind_name.partition(":")[2]

    def get_status_and_time(self, names: Sequence[str]) -> tuple[str, float | None]:
        """Return the status, and the time of its last change (``None`` before the first).

        The names are those of a job that is pending, running, succeeded or failed.
        """
        now = loop_time()
        if self.cancelled_at is not None:
            return "cancelled", self.cancelled_at
        if self.statuses is not None:
            step = min(self.polls, len(self.statuses) - 1)
            return self.statuses[step], now if step else None
        pending, running, succeeded, failed = names
        if now < self.starts_at:
            return pending, None
        if now < self.ends_at:
            return running, self.starts_at
        is_failed = self.error is not None or bool(self.problems)
        return failed if is_failed else succeeded, self.ends_at

    def get_state(self) -> State:
        """Return what the status means."""
        return self.kind.get_state(self.get_status_and_time(self.kind.statuses)[0])

    def get_times(self) -> tuple[float | None, float | None]:
        """Return when the job started and when it ended.

        A job with scripted statuses did so when a response first showed it. A job that has been
        cancelled has not ended: the service documents no time.
        """
        state = self.get_state()
        if state in ("pending", "cancelled"):
            return self._started_at, None
        if self._started_at is None:
            self._started_at = loop_time() if self.statuses is not None else self.starts_at
        if state == "running":
            return self._started_at, None
        if self._ended_at is None:
            self._ended_at = loop_time() if self.statuses is not None else self.ends_at
        return self._started_at, self._ended_at

    def get_problems(self) -> list[Problem]:
        """Return the problems of a job that has ended, the error first."""
        if self.get_state() not in ("succeeded", "failed"):
            return []
        return [*([] if self.error is None else [Problem(self.error)]), *self.problems]

    def get_percentage(self) -> int:
        """Return the share of the run that is done, from 0 to 100, by time or by statuses."""
        state = self.get_state()
        if state == "pending":
            return 0
        if state == "succeeded":
            return 100
        if self.statuses is not None:
            return 100 * min(self.polls, len(self.statuses) - 1) // len(self.statuses)
        if state == "failed":
            return 99
        return int(100 * (loop_time() - self.starts_at) / (self.ends_at - self.starts_at))

    @property
    def has_expired(self) -> bool:
        """Whether the service has removed the job."""
        return self.kind_name == "order" and loop_time() - self.created_at > ORDER_LIFETIME


class JobTable:
    """All jobs. Those of one kind run one at a time, in the order of creation.

    Jobs with scripted statuses do not wait for others. The releases of each catalog are a kind.
    """

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._jobs: dict[str, SimulatedJob] = {}
        self._queue_ends_at = collections.defaultdict[str, float](lambda: -math.inf)

    def add(self, job: SimulatedJob) -> str:
        """Create a job, by default with a new id, and return its id."""
        job.id = job.id or str(random_uuid(self._random))
        if job.id in self._jobs:
            raise ValueError(f"job_id: there is already a job {job.id!r}. Use a different id.")
        job.created_at = job.starts_at = job.ends_at = loop_time()
        if job.statuses is None:
            job.run_seconds = 60 ** self._random.random() if job.duration is None else job.duration
            self._enqueue(job)
        self._jobs[job.id] = job
        return job.id

    def cancel(self, job: SimulatedJob) -> None:
        """Cancel a job that is pending. The jobs behind it move up."""
        job.cancelled_at = loop_time()
        if job.statuses is not None:
            return
        self._queue_ends_at[job.kind_name] = job.starts_at
        behind = itertools.dropwhile(lambda other: other is not job, self._jobs.values())
        for other in itertools.islice(behind, 1, None):
            is_queued = other.statuses is None and other.cancelled_at is None
            if other.kind_name == job.kind_name and is_queued:
                self._enqueue(other)

    def remove(self, job_id: str) -> None:
        """Remove a job."""
        if self._jobs.pop(job_id, None) is None:
            raise ValueError(f"job_id: there is no job {job_id!r}")

    def find(self, job_id: str, kind_name: str | None = None) -> SimulatedJob:
        """Return a job, unless it has expired or is of another kind."""
        job = self._jobs.get(job_id)
        if job is None or job.has_expired or kind_name not in (None, job.kind_name):
            raise web.HTTPNotFound
        return job

    def find_all(self, kind_name: str) -> list[SimulatedJob]:
        """Return the jobs of a kind that have not expired, in the order of creation."""
        jobs = [job for job in self._jobs.values() if job.kind_name == kind_name]
        return [job for job in jobs if not job.has_expired]

    def _enqueue(self, job: SimulatedJob) -> None:
        job.starts_at = max(job.created_at, self._queue_ends_at[job.kind_name])
        job.ends_at = self._queue_ends_at[job.kind_name] = job.starts_at + job.run_seconds


def random_uuid(rng: random.Random) -> uuid.UUID:
    """Return a UUID that depends only on the seed."""
    return uuid.UUID(int=rng.getrandbits(128), version=4)


def loop_time() -> float:
    """Return the time on the clock of the running event loop."""
    return asyncio.get_running_loop().time()
