"""The calls of the service: what each asks, what its answer means, and when to try again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from .._http.transport import Transport
from .._polling.intervals import LONGEST_PAUSE, Retry
from .._tasks.operations import Scope, Scopes, closed
from ..errors import MoltinJobsError, RateLimitError, one_line
from ..models import Job, JobState
from .parsing import (
    MAX_LIST_BODY,
    Listing,
    decode_created,
    decode_file,
    decode_job,
    decode_list,
)

T = TypeVar("T")

_log = logging.getLogger("moltin_jobs")
_MOST_SPELLINGS = 100


class Calls:
    """What one session asks of the service; each call is one request."""

    def __init__(self, transport: Transport, scopes: Scopes, retry: Retry) -> None:
        self._transport = transport
        self._scopes = scopes
        self._retry = retry
        self._unknown_spellings: set[str] = set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, unless the session is closed meanwhile."""
        with Scope(self._scopes):
            return await asyncio.sleep(seconds)
        raise closed()

    async def retried(self, call: Callable[[], Awaitable[T]], job_id: str | None) -> T:
        """Call, again within `Retry` where the cause of a failure may pass."""
        waits: Iterator[float] | None = None
        attempt = 0
        while True:
            attempt += 1
            try:
                return await call()
            except MoltinJobsError as error:
                if not error.temporary or _asks_too_long(error):
                    raise
                waits = waits or self._retry.intervals()
                wait = next(waits, None)
                if wait is None:
                    raise
                extra = {"job_id": job_id, "attempt": attempt, "wait": wait}
                _log.warning("trying again in %.1f s: %s", wait, error, extra=extra)
            await self.sleep(wait)

    def asking(self, job_id: str) -> Callable[[], Awaitable[Job]]:
        """The call for one job."""
        request = self._transport.request(f"/v2/jobs/{job_id}", f"job {job_id}")

        async def ask() -> Job:
            return self._noted(decode_job(await self._transport.send(request), job_id))

        return ask

    def asking_file(self, job_id: str) -> Callable[[], Awaitable[str]]:
        """The call for the address of a job's file."""
        path, about = f"/v2/jobs/{job_id}/file", f"the file of job {job_id}"
        request = self._transport.request(path, about)

        async def ask() -> str:
            answer = await self._transport.send(request)
            # A job without a file and one that is unknown get the same answer: look which it is.
            job = await self.asking(job_id)() if answer.status == 404 else None
            return decode_file(answer, job_id, job)

        return ask

    def creating(self, document: dict[str, str]) -> Callable[[], Awaitable[Job]]:
        """The call that creates a job."""
        request = self._transport.request(
            "/v2/jobs", "the creation of a job", method="POST", json={"data": document}
        )

        async def create() -> Job:
            return self._noted(decode_created(await self._transport.send(request)))

        return create

    async def ask_list(self) -> Listing:
        """The call for all jobs."""
        request = self._transport.request("/v2/jobs", "the list of jobs", max_body=MAX_LIST_BODY)
        listing = decode_list(await self._transport.send(request))
        for job in listing.jobs:
            self._noted(job)
        return listing

    def _noted(self, job: Job) -> Job:
        if job.state is JobState.UNKNOWN:
            self._warn_of_spelling(job)
        return job

    def _warn_of_spelling(self, job: Job) -> None:
        known = self._unknown_spellings
        spelling = one_line(job.status)
        if spelling not in known and len(known) < _MOST_SPELLINGS:
            known.add(spelling)
            _log.warning(
                "job %s: status %r is not documented; it is taken for one that may still change",
                job.id,
                spelling,
                extra={"job_id": job.id, "job_status": spelling},
            )


def _asks_too_long(error: MoltinJobsError) -> bool:
    return isinstance(error, RateLimitError) and (error.retry_after or 0) > LONGEST_PAUSE
