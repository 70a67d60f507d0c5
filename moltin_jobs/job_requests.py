"""Requests about the jobs of one kind, with what a session remembers of these jobs."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, TypeVarTuple

import attrs

from ._api import endpoints
from ._api.content import LARGE_BODY
from ._api.endpoints import Request, Response
from ._api.failures import no_file_error, problem_of, service_time
from ._api.parsing import (
    Page,
    parse_created_job,
    parse_file_url,
    parse_job,
    parse_job_list,
    parse_problems,
)
from ._http.transport import Transport
from ._polling.content_log import ContentLog
from ._polling.queue_source import QueueSource
from ._polling.retry import Retrier
from ._polling.sources import IdSource, ListSnapshot, ListSource, Snapshot
from ._tasks.operations import Operation
from ._tasks.threads import run_in_thread
from .errors import APIError, ConfigurationError, JobNotFoundError, single_line
from .kinds import ORDERS, JobKind
from .models import Job, JobProblem, JobState, QueuedJob
from .queueing import estimate_queue

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")

MAX_PAGES = 101
"""Most pages to request of one list. Some services allow no offset above 10,000."""
_RECORDED_STATES = (JobState.SUCCEEDED, JobState.UNKNOWN)
_RECORDS_IN_A_ROW = 10_000
"""Jobs of a list that are recorded before other callbacks of the event loop run. They take some
10 ms."""

_log = logging.getLogger("moltin_jobs.http")


@attrs.define
class _ListPage:
    """A list of jobs, or one page of it, and what a session records of it."""

    page: Page[Job]
    snapshot: ListSnapshot
    succeeded: list[str]
    """Ids of the jobs that have succeeded."""
    unknown: list[Job]
    """One job with each undocumented status."""


class JobRequests:
    """Requests about the jobs of one kind in one session. Each ``fetch`` method is one attempt."""

    def __init__(
        self,
        kind: JobKind,
        transport: Transport,
        content_log: ContentLog,
        *,
        by_list: bool,
        max_waits: float,
    ) -> None:
        self.kind = kind
        self._transport = transport
        self._content_log = content_log
        operations = transport.operations
        fetch_problems = self.fetch_first_problems
        self.source: IdSource
        if by_list and kind is ORDERS:
            self.source = QueueSource(operations, self.fetch_job, self._fetch_list)
        elif by_list and kind.lists_open_jobs:
            self.source = ListSource(
                operations, self.fetch_job, self._fetch_list, kind, fetch_problems
            )
        else:
            self.source = IdSource(
                operations, self.fetch_job, kind, fetch_problems, max_waits=max_waits
            )

    async def fetch_job(self, job_id: str, previous: Snapshot | None = None) -> Snapshot:
        """Request a job. If the response is that of ``previous``, return the same `Job` object."""
        request = endpoints.get_job(job_id, self.kind)
        response = await self._transport.send(request)
        if previous is not None and response.body == previous.body and response.status == 200:
            return Snapshot(previous.job, response.received_at, previous.body)
        try:
            job = parse_job(response, request)
        except JobNotFoundError as error:
            error.retryable = self.source.created.contains(job_id, response.received_at)
            raise
        if job.state in _RECORDED_STATES:
            self._record_state(job, job_id, response.received_at)
        return Snapshot(job, response.received_at, response.body)

    async def create(self, request: Request) -> Job:
        """Create a job, in one attempt."""
        response = await self._transport.send(request)
        job = parse_created_job(response, request)
        extra = {"job_id": job.id, "job_kind": job.kind, "job_status": job.status}
        _log.info("created %s %s", self.kind.label, single_line(job.id), extra=extra)
        self.source.created.add(job.id, response.received_at)
        if job.state in _RECORDED_STATES:
            self._record_state(job, job.id, response.received_at)
        return job

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job, in one attempt."""
        request = endpoints.cancel_job(job_id, self.kind)
        return parse_job(await self._transport.send(request), request)

    async def list_jobs(self, retrier: Retrier) -> list[Job]:
        """Return all jobs."""

        async def fetch_page(offset: int) -> Page[Job]:
            return (await self._fetch_page(offset)).page

        return await self._fetch_pages(fetch_page, retrier, endpoints.list_jobs(self.kind))

    async def get_queue(self, retrier: Retrier) -> list[QueuedJob]:
        """Return the jobs that have not ended, in the order in which the service runs them."""
        latest = (await retrier.run(self._fetch_page, 0)).snapshot
        return await self._compute(latest.size, estimate_queue, latest.jobs, latest.now)

    async def list_problems(self, job_id: str, retrier: Retrier) -> list[JobProblem]:
        """Return all problems of a job."""

        fetch_page = functools.partial(self._fetch_problems, job_id)
        first_page = endpoints.list_problems(job_id, self.kind)
        return await self._fetch_pages(fetch_page, retrier, first_page)

    async def fetch_first_problems(self, job_id: str) -> list[JobProblem]:
        """Request the first page of the problems of a job."""
        return (await self._fetch_problems(job_id, 0)).items

    async def fetch_file_url(
        self, job_id: str, file_index: int | None, *, has_connection: bool = False
    ) -> str:
        """Request the address of a file of a job."""
        request = endpoints.get_file(job_id, self.kind)
        response = await self._transport.send(request, has_connection=has_connection)
        if not self.kind.has_file_endpoint:
            job = self._parse_job_of_file(response, request, response.received_at)
            if not job.file_urls:
                raise no_file_error(response, request, job)
            check_file_index(file_index, len(job.file_urls), f"{self.kind.label} {job_id}")
            return job.file_urls[file_index or 0]
        try:
            return parse_file_url(response, request)
        except JobNotFoundError as error:
            if error.from_gateway:
                raise
        # An unknown job gives the same response as a job without a file: find out which.
        lookup = endpoints.get_job(job_id, self.kind)
        found = await self._transport.send(lookup, has_connection=has_connection)
        job = self._parse_job_of_file(found, lookup, response.received_at)
        no_file = no_file_error(response, request, job)
        no_file.retryable = self.source.succeeded.contains(job_id, response.received_at)
        raise no_file

    def _parse_job_of_file(self, response: Response, request: Request, now: float) -> Job:
        """Return the job whose file was requested at ``now``."""
        job_id = request.job_id
        assert job_id is not None, "the request is about a job"  # noqa: S101
        try:
            job = parse_job(response, request)
        except JobNotFoundError as error:
            error.retryable = self.source.is_recent(job_id, now)
            raise
        if job.state in _RECORDED_STATES:
            self._record_state(job, job_id, now)
        return job

    async def _fetch_list(self) -> ListSnapshot:
        """Request all jobs, or the first page of them, for the waits."""
        return (await self._fetch_page(0, tuple(self.source.waits))).snapshot

    async def _fetch_page(self, offset: int, waits: Sequence[str] | None = None) -> _ListPage:
        """Return a page of the jobs, prepared for the waits for these ids."""
        request = endpoints.list_jobs(self.kind, offset)
        response = await self._transport.send(request)
        size = len(response.body)
        result = await self._compute(size, _read_page, response, request, waits)
        for job in result.unknown:
            self._content_log.log_unknown_status(job)
        for problem in result.page.unreadable:
            self._content_log.log_problem(request.description, problem)
        with Operation(self._transport.operations):
            for number, job_id in enumerate(result.succeeded, 1):
                self.source.succeeded.add(job_id, response.received_at)
                if number % _RECORDS_IN_A_ROW == 0:
                    await asyncio.sleep(0)
        return result

    async def _fetch_problems(self, job_id: str, offset: int) -> Page[JobProblem]:
        request = endpoints.list_problems(job_id, self.kind, offset)
        try:
            response = await self._transport.send(request)
            return await self._compute(len(response.body), parse_problems, response, request)
        except APIError as error:
            problem = problem_of(error)
            if problem is None or offset:
                raise
        return Page([problem], [""], length=1, total=1)

    async def _compute(
        self, size: int, function: Callable[[*Arguments], T], *arguments: *Arguments
    ) -> T:
        """Call a function, in a thread if the response is large."""
        if size <= LARGE_BODY:
            return function(*arguments)
        with Operation(self._transport.operations):
            return await run_in_thread(function, *arguments)

    async def _fetch_pages(
        self,
        fetch_page: Callable[[int], Awaitable[Page[T]]],
        retrier: Retrier,
        first_page: Request,
    ) -> list[T]:
        """Return the items of all pages. The services' links to the next page are not reliable."""
        items: list[T] = []
        previous: list[T] = []
        ids: set[str] = set()
        offset = 0
        for _ in range(MAX_PAGES):
            page = await retrier.run(fetch_page, offset)
            if not self.kind.is_paged:
                return page.items
            # Pages overlap if items are added meanwhile. Items without an id count as new.
            pairs = zip(page.ids, page.items, strict=True)
            new = [item for key, item in pairs if not key or key not in ids]
            # The same page again, unless the items are equal problems and there are more of them.
            if new and new == previous and offset >= (page.total or 0):
                return items
            previous = new
            items += new
            ids.update(page.ids)
            offset += page.length
            # A total below the number received is wrong.
            if offset == page.total or not page.length or (page.ids and not new):
                return items
        message = "%s: the items from number %d on are left out, after %d pages"
        extra = {"job_kind": self.kind.name}
        if first_page.job_id is not None:
            extra["job_id"] = first_page.job_id
        _log.warning(message, first_page.description, offset + 1, MAX_PAGES, extra=extra)
        return items

    def _record_state(self, job: Job, job_id: str, now: float) -> None:
        """Log an undocumented status, or remember that the job has succeeded."""
        if job.state is JobState.UNKNOWN:
            self._content_log.log_unknown_status(job)
        else:
            self.source.succeeded.add(job_id, now)


def _read_page(response: Response, request: Request, waits: Sequence[str] | None) -> _ListPage:
    """Parse a list, in a thread if it is large."""
    page = parse_job_list(response, request)
    succeeded: list[str] = []
    unknown: dict[str, Job] = {}
    for job in page.items:
        state = job.state
        if state is JobState.SUCCEEDED:
            succeeded.append(job.id)
        elif state is JobState.UNKNOWN:
            unknown.setdefault(job.status, job)
    # The body is bound to no local, which a traceback may show: it may repeat the token.
    snapshot = ListSnapshot(
        page.items,
        response.received_at,
        len(response.body),
        hash(response.body),
        service_time(response),
    )
    if waits is not None:
        snapshot.prepare(waits)
    return _ListPage(page, snapshot, succeeded, list(unknown.values()))


def check_file_index(file_index: int | None, count: int, subject: str) -> None:
    """Require an index that is below ``count``, or ``None`` if there is one file."""
    if (file_index is None and count > 1) or (file_index or 0) >= count:
        files = "1 file" if count == 1 else f"{count} files"
        expected = "0" if count == 1 else f"from 0 to {count - 1}"
        raise ConfigurationError(
            f"file_index must be {expected}, not {file_index}: {subject} has {files}"
        )
