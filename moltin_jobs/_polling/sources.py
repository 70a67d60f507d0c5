"""Sources of a wait's polls: each job by its id, or one list of jobs for all waits.

Waits of one session share requests. A recent result serves other waits that are due, and a request
in flight serves all waits that join it.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import math
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

import attrs

from .._tasks.operations import Operations, Sleep
from .._tasks.single_flight import SingleFlight
from ..errors import MoltinJobsError, SessionClosedError
from ..kinds import ORDERS, JobKind
from ..models import Job, JobProblem, QueuedJob
from ..queueing import estimate_queue
from ..settings import Polling
from .intervals import polling_interval
from .retry import RecentJobs, requested_interval

FALLBACK_SECONDS = 30.0
"""Seconds for which all jobs are polled by id after a list was of no use."""
UNCHANGED_SECONDS = 300.0
"""Seconds after which an unchanged list is checked by one poll by id. A cache may serve it."""
_MAX_USEFUL_SIZE = 1 << 20
_MAX_FAILURES = 3
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

_log = logging.getLogger("moltin_jobs.polling")


@attrs.define
class Snapshot:
    """Result of one poll."""

    job: Job
    received_at: float
    """Moment of the loop's clock."""
    body: bytes | None = attrs.field(default=None, repr=False)
    """Content of the response, which is not parsed again if the next one is equal."""


@attrs.define
class ListSnapshot:
    """Result of one list request."""

    jobs: list[Job]
    received_at: float
    size: int
    """Size of the content in bytes."""
    fingerprint: int
    """Hash of the content, to notice a change."""
    now: datetime.datetime
    """Moment of the list by the service's clock."""
    _by_id: dict[str, Job] | None = attrs.field(default=None, init=False, repr=False)
    _queued: dict[str, QueuedJob] | None = attrs.field(default=None, init=False, repr=False)

    def prepare(self, job_ids: Iterable[str]) -> None:
        """Prepare `find` in the thread that has parsed the list.

        A list that is too large to be used again keeps only these jobs. They are found, but have
        no position.
        """
        by_id = self._index()
        if self.size > _MAX_USEFUL_SIZE:
            keys = [key for key in map(key_of, job_ids) if key in by_id]
            self._by_id = {key: by_id[key] for key in keys}
            self.jobs.clear()  # here, since it would block the event loop

    def find(self, job_id: str) -> Job | None:
        """Return a job, or ``None`` if the list does not name it."""
        return self._index().get(key_of(job_id))

    def _index(self) -> dict[str, Job]:
        if self._by_id is None:  # only waits need it, not list_jobs()
            self._by_id = {key_of(job.id): job for job in self.jobs}
        return self._by_id

    def find_queued(self, job_id: str) -> QueuedJob | None:
        """Return the position of a job, or ``None`` if it has ended."""
        if self._queued is None:  # once, although many waits may time out at the same moment
            queue = estimate_queue(self.jobs, self.now)
            self._queued = {key_of(queued.job.id): queued for queued in queue}
        return self._queued.get(key_of(job_id))


@attrs.define
class Poll:
    """One poll of a wait: which job, and how recent the result must be."""

    job_id: str
    previous: Snapshot | None
    fresh_after: float
    """The result of a request that started at this moment or later is recent enough."""
    is_final: bool
    """Whether it is the last poll before the deadline."""
    join_after: float = -math.inf
    """A request in flight is joined if it started at this moment or later."""


FetchJob = Callable[[str, Snapshot | None], Coroutine[Any, Any, Snapshot]]
"""Requests a job by its id. Takes the id and the previous result."""
FetchList = Callable[[], Coroutine[Any, Any, ListSnapshot]]
FetchProblems = Callable[[str], Coroutine[Any, Any, Sequence[JobProblem]]]
"""Requests the problems of a failed job. Takes the id. Not used for a kind without this request."""


class IdSource:
    """Poll each job by its id. Waits for the same job share the requests for it.

    All waits of a session for jobs of one kind share the source, and what it knows of these jobs.
    """

    def __init__(
        self,
        operations: Operations,
        fetch_job: FetchJob,
        kind: JobKind = ORDERS,
        fetch_problems: FetchProblems | None = None,
        *,
        max_waits: float = math.inf,
    ) -> None:
        self.operations = operations
        self._max_waits = max_waits
        """Most waits that the rate limit can serve at their intervals. More are logged once."""
        self.kind = kind
        self._fetch_problems = fetch_problems
        self._problem_flights: dict[str, SingleFlight[Sequence[JobProblem]]] = {}
        self.waits: dict[str, int] = {}
        """Number of waits for each job."""
        self.created = RecentJobs()
        """Jobs that this session has just created."""
        self.succeeded = RecentJobs()
        """Jobs that this session has just seen succeed."""
        self.polls = 0
        self.failed_polls = 0
        self._fetch_job = fetch_job
        self._flights: dict[str, SingleFlight[Snapshot]] = {}

    def is_recent(self, job_id: str, now: float) -> bool:
        """Return whether a 404 for a job, or for its file, may be retryable."""
        return self.created.contains(job_id, now) or self.succeeded.contains(job_id, now)

    def add(self, job_id: str) -> None:
        """Register a wait."""
        self.waits[job_id] = self.waits.get(job_id, 0) + 1
        if len(self.waits) > self._max_waits:
            self._log_overload()

    def remove(self, job_id: str) -> None:
        """Remove a wait that has ended."""
        self.waits[job_id] -= 1
        if not self.waits[job_id]:
            del self.waits[job_id]
            self._flights.pop(job_id, None)
            self._problem_flights.pop(job_id, None)

    def _log_overload(self) -> None:
        message = (
            "more than %d %ss are polled by id: the rate limit delays their polls beyond "
            "the max_interval of the session's Polling. %s"
        )
        advice = "Use a longer max_interval, or a higher rate_limit."
        if self.kind.lists_open_jobs:
            advice = "Use poll_by='list'."
        extra = {"job_kind": self.kind.name}
        _log.warning(message, self._max_waits, self.kind.label, advice, extra=extra)
        self._max_waits = math.inf

    def find_queued(self, job_id: str) -> QueuedJob | None:
        """Return the position of a job in the last list, or ``None`` without a useful list."""
        return None

    def interval(self, job: Job, polling: Polling, number: int) -> float:
        """Return the interval until the next poll of ``job``.

        ``number`` counts the polls in the same state, from 0.
        """
        return polling_interval(polling, number)

    def sleep_until(self, job_id: str, when: float) -> Sleep:
        """Return the sleep of a wait, which the source may end early."""
        return self.operations.sleep_until(when)

    def fetch(self, poll: Poll) -> Awaitable[Snapshot]:
        """Request the job, alone or together with other waits for it."""
        job_id = poll.job_id
        if self.waits.get(job_id, 0) <= 1:  # a shared request costs a task
            return self._fetch_job(job_id, poll.previous)
        flight = self._flights.get(job_id)
        if flight is None:
            flight = SingleFlight(self.operations, lambda: self._fetch_job(job_id, None))
            self._flights[job_id] = flight
        return fetch_shared(flight, poll)

    async def fetch_problems(self, job_id: str) -> Sequence[JobProblem]:
        """Request the problems of a failed job, once for all waits for it."""
        fetch = self._fetch_problems
        assert fetch is not None, "problems of jobs of this kind can be requested"  # noqa: S101
        flight = self._problem_flights.get(job_id)
        if flight is None:
            if self.waits[job_id] == 1:
                return await fetch(job_id)
            flight = SingleFlight(self.operations, lambda: fetch(job_id))
            self._problem_flights[job_id] = flight
        return await flight.get(fresh_after=-math.inf)


class ListSource(IdSource):
    """Poll all jobs by one list. Jobs for which the list is of no use are polled by id."""

    def __init__(
        self,
        operations: Operations,
        fetch_job: FetchJob,
        fetch_list: FetchList,
        kind: JobKind = ORDERS,
        fetch_problems: FetchProblems | None = None,
    ) -> None:
        super().__init__(operations, fetch_job, kind, fetch_problems)
        self._fetch_list = fetch_list
        self._single_flight = SingleFlight(operations, self._refresh_list)
        self.latest: ListSnapshot | None = None
        self._latest_requested_at = -math.inf
        self._fingerprint: int | None = None
        self._failures = 0
        self._fallback_until = -math.inf
        self._changed_at = -math.inf

    async def fetch(self, poll: Poll) -> Snapshot:
        """Return the job from a list, or from a request by its id."""
        latest = await self._latest_list(poll)
        job = None if latest is None else latest.find(poll.job_id)
        if latest is None or job is None or (poll.is_final and not job.is_terminal):
            return await self.fetch_by_id(poll)
        if latest.received_at - self._changed_at >= UNCHANGED_SECONDS:
            return await self._verify(poll, job, latest.received_at)
        return Snapshot(job, latest.received_at)

    async def fetch_by_id(self, poll: Poll) -> Snapshot:
        """Request the job by its id."""
        return await super().fetch(poll)

    async def _latest_list(self, poll: Poll) -> ListSnapshot | None:
        """Return a list that is recent enough, or ``None`` while all jobs are polled by id."""
        if self.is_fallback():
            return None
        try:
            latest: ListSnapshot = await fetch_shared(self._single_flight, poll)
        except MoltinJobsError as error:
            is_useless = self.is_fallback() and not requested_interval(error)
            if not is_useless and not poll.is_final:
                raise
            return None  # poll by id now: if that fails too, its error is more specific
        return latest

    def is_fallback(self) -> bool:
        """Return whether all jobs are polled by id for a while."""
        return asyncio.get_running_loop().time() < self._fallback_until

    async def _verify(self, poll: Poll, listed: Job, now: float) -> Snapshot:
        """Poll one job by id, and all of them if the list proves to be outdated."""
        changed_at, self._changed_at = self._changed_at, now  # other waits need not verify it too
        try:
            snapshot = await self.fetch_by_id(poll)
        except BaseException:
            if self._changed_at == now:
                self._changed_at = changed_at
            raise
        if snapshot.job.status != listed.status:
            self._fall_back("is outdated")
        return snapshot

    async def _refresh_list(self) -> ListSnapshot:
        requested_at = asyncio.get_running_loop().time()
        try:
            latest = await self._fetch_list()
        except SessionClosedError:
            raise
        except MoltinJobsError as error:
            self._failures += 1
            # After a retryable error, do not add one request per job to a failing service.
            if not error.retryable or self._failures >= _MAX_FAILURES:
                self._fall_back(f"failed: {error}")
            raise
        self._failures = 0
        if self.latest is not None and requested_at < self._latest_requested_at:
            return self.latest  # a newer list was received while this request was in flight
        self.latest, self._latest_requested_at = latest, requested_at
        if latest.fingerprint != self._fingerprint:
            self._fingerprint, self._changed_at = latest.fingerprint, latest.received_at
        self._check_usefulness(latest)
        if not self.is_fallback():
            self.on_list(latest)
        return latest

    def on_list(self, latest: ListSnapshot) -> None:
        """Handle a new list that is of use."""

    def _check_usefulness(self, latest: ListSnapshot) -> None:
        waits = self.waits
        listed = sum(latest.find(job_id) is not None for job_id in waits)
        if latest.size > _MAX_USEFUL_SIZE:
            self._fall_back(f"has {latest.size} bytes")
        elif listed * 2 < len(waits):
            self._fall_back(f"names {listed} of {len(waits)} jobs")

    def on_fallback(self) -> None:
        """Handle the beginning of polls by id."""

    def _fall_back(self, reason: str) -> None:
        self._fallback_until = asyncio.get_running_loop().time() + FALLBACK_SECONDS
        extra = {"job_kind": self.kind.name}
        _log.info("polling by id for %.0f s: the list %s", FALLBACK_SECONDS, reason, extra=extra)
        self.on_fallback()


def key_of(job_id: str) -> str:
    """Return the key by which a job of a list is found."""
    # Only UUIDs are compared without regard to case: two other ids that differ only in case may be
    # those of different jobs.
    return job_id.lower() if _UUID.fullmatch(job_id) else job_id


def fetch_shared(flight: SingleFlight[Any], poll: Poll) -> Coroutine[Any, Any, Any]:
    """Return the result of a shared request that is recent enough for ``poll``."""
    return flight.get(fresh_after=poll.fresh_after, join_after=poll.join_after)
