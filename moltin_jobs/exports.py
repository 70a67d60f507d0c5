"""Exports: create a job, wait for it, and download its file, under one deadline."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import TypeVar

from ._api import endpoints
from ._api.failures import MAY_EXIST, no_file_error
from ._api.parsing import parse_created_job, parse_file_url
from ._http.downloads import EXPIRED_STATUSES, Destination, Downloads
from ._http.partial_file import check_destination
from ._http.transport import Transport
from ._polling.retry import Retrier
from ._polling.sources import FetchJob
from ._polling.watch import JobWatch, PollContext
from ._tasks.operations import DeadlineReached
from .errors import APIError, JobTimeoutError, MoltinJobsError
from .models import Job
from .settings import Polling

T = TypeVar("T")

_FILE_REMAINS = "Its file remains available: call download()."


class Exports:
    """Exports of one session. All timeouts are in seconds, ``math.inf`` for none."""

    def __init__(
        self,
        transport: Transport,
        retrier: Retrier,
        context: PollContext,
        fetch_job: FetchJob,
    ) -> None:
        self._transport = transport
        self._downloads = Downloads(transport)
        self._retrier = retrier
        self._context = context
        self._fetch_job = fetch_job

    async def create_job(
        self,
        job_type: str,
        filter: str | None,  # noqa: A002 (the service's name)
        deadline: float = math.inf,
    ) -> Job:
        """Create a job. A creation that may have taken effect is not repeated."""
        return await self._retrier.run(self._create, job_type, filter, deadline, deadline=deadline)

    async def get_file_url(self, job_id: str) -> str:
        """Return the address of the file of a job."""
        return await self._retrier.run(self._request_file_url, job_id, math.inf, job_id=job_id)

    async def download(self, job_id: str, destination: Destination, timeout: float) -> Path:
        """Save the file of a job, and return its path."""
        deadline = self._transport.operations.check().time() + timeout
        await check_destination(destination.path)
        timeout_error = JobTimeoutError(
            job_id,
            timeout=timeout,
            unfinished="was not downloaded",
            advice="Download it again, or use a longer timeout.",
        )
        await _raise_on_deadline(self._save(job_id, destination, deadline), timeout_error)
        return destination.path

    async def export_orders(
        self,
        filter: str | None,  # noqa: A002 (the service's name)
        destination: Destination | None,
        timeout: float,
        polling: Polling,
    ) -> Job:
        """Create an export, wait for it, and save its file if there is a destination."""
        started_at = self._transport.operations.check().time()
        deadline = started_at + timeout
        if destination is not None:
            await check_destination(destination.path)
        timeout_error = JobTimeoutError(
            None, timeout=timeout, unfinished="was not created", advice=MAY_EXIST
        )
        job = await _raise_on_deadline(
            self.create_job("order_export", filter, deadline), timeout_error
        )
        with _add_note(f"The job of this export is {job.id}."):
            watch = JobWatch(job.id, self._context, polling, timeout=timeout, started_at=started_at)
            watch.job = job
            job = await watch.wait()
        if destination is not None:
            timeout_error = JobTimeoutError(
                job.id, timeout=timeout, job=job, unfinished="was not saved", advice=_FILE_REMAINS
            )
            with _add_note(f"Job {job.id} has succeeded. {_FILE_REMAINS}"):
                await _raise_on_deadline(self._save(job.id, destination, deadline), timeout_error)
        return job

    async def _create(self, job_type: str, filter: str | None, deadline: float) -> Job:  # noqa: A002
        request = endpoints.create_job(job_type, filter)
        response = await self._transport.send(request, deadline)
        return parse_created_job(response, request)

    async def _request_file_url(self, job_id: str, deadline: float) -> str:
        request = endpoints.get_file(job_id)
        response = await self._transport.send(request, deadline)
        if response.status == 404:
            # An unknown job gives the same response as a job without a file: find out which.
            job = (await self._fetch_job(job_id, None, deadline)).job
            raise no_file_error(response, request, job)
        return parse_file_url(response, request)

    async def _save(self, job_id: str, destination: Destination, deadline: float) -> None:
        await self._retrier.run(
            self._save_once, job_id, destination, deadline, job_id=job_id, deadline=deadline
        )

    async def _save_once(self, job_id: str, destination: Destination, deadline: float) -> None:
        # The permit first: an address that is requested earlier may expire in the queue.
        async with self._downloads.permit(deadline):
            address = await self._request_file_url(job_id, deadline)
            try:
                await self._downloads.save(address, destination, job_id, deadline)
            except APIError as error:
                if error.status not in EXPIRED_STATUSES:
                    raise
            else:
                return
            address = await self._request_file_url(job_id, deadline)
            await self._downloads.save(address, destination, job_id, deadline)


async def _raise_on_deadline(call: Awaitable[T], timeout_error: JobTimeoutError) -> T:
    """Return the result of a call, or raise ``timeout_error`` if its deadline has passed."""
    try:
        return await call
    except DeadlineReached:
        pass
    # Not above: it would keep the frames of the call.
    raise timeout_error


@contextlib.contextmanager
def _add_note(text: str) -> Iterator[None]:
    """Add a note to the exceptions of the block."""
    try:
        yield
    except (MoltinJobsError, OSError) as error:
        if not isinstance(error, JobTimeoutError):  # its message names the job
            error.add_note(text)
        raise
