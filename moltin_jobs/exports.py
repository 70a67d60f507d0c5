"""Exports: create a job, wait for it, and download its file, under one deadline."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._api import endpoints
from ._api.failures import MAY_EXIST, no_file_error
from ._api.parsing import parse_created_job, parse_file_url, parse_job
from ._http.downloads import EXPIRED_STATUSES, Destination, Transfer
from ._http.partial_file import check_destination
from ._http.transport import Transport
from ._polling.retry import Retrier
from ._polling.sources import IdSource
from ._polling.watch import JobWatch
from ._tasks.operations import Deadline
from ._tasks.semaphore import Semaphore
from .errors import APIError, JobNotFoundError, JobTimeoutError, MoltinJobsError
from .models import Job, JobState
from .settings import Polling

_DOWNLOAD_AGAIN = "Download it again, or use a longer timeout."
_FILE_REMAINS = "Its file remains available: call download()."


class Exports:
    """Exports of one session. All timeouts are in seconds, ``math.inf`` for none."""

    def __init__(
        self, transport: Transport, retrier: Retrier, source: IdSource, polling: Polling
    ) -> None:
        self._transport = transport
        # Downloads may occupy half of the connections.
        self._download_permits = Semaphore(max(transport.connection_limit // 2, 1))
        self._retrier = retrier
        self._source = source
        self._polling = polling

    async def create(self, job_type: str, order_filter: str | None) -> Job:
        """Create a job, in one attempt."""
        request = endpoints.create_job(job_type, order_filter)
        response = await self._transport.send(request)
        job = parse_created_job(response, request)
        self._source.created.add(job.id, response.received_at)
        if job.state is JobState.SUCCEEDED:
            self._source.succeeded.add(job.id, response.received_at)
        return job

    async def request_file_url(self, job_id: str, *, has_connection: bool = False) -> str:
        """Return the address of the file of a job, in one attempt."""
        request = endpoints.get_file(job_id)
        response = await self._transport.send(request, has_connection=has_connection)
        try:
            return parse_file_url(response, request)
        except JobNotFoundError as error:
            if error.from_gateway:
                raise
        # An unknown job gives the same response as a job without a file: find out which.
        lookup = endpoints.get_job(job_id)
        found = await self._transport.send(lookup, has_connection=has_connection)
        try:
            job = parse_job(found, lookup)
        except JobNotFoundError as error:
            error.retryable = self._source.is_recent(job_id, response.received_at)
            raise
        if job.state is JobState.SUCCEEDED:
            self._source.succeeded.add(job_id, response.received_at)
        no_file = no_file_error(response, request, job)
        no_file.retryable = self._source.succeeded.contains(job_id, response.received_at)
        raise no_file

    async def download(self, job_id: str, destination: Destination, timeout: float) -> Path:
        """Save the file of a job, and return its path."""
        started_at = self._transport.operations.get_loop().time()
        with self._deadline(
            started_at, timeout, "was not downloaded", _DOWNLOAD_AGAIN, job_id=job_id
        ):
            await check_destination(destination.path)
            await self._retrier.run(self._save, job_id, destination)
        return destination.path

    async def export_orders(
        self, order_filter: str | None, destination: Destination | None, timeout: float
    ) -> Job:
        """Create an export, wait for it, and save its file if there is a destination."""
        started_at = self._transport.operations.get_loop().time()
        with self._deadline(started_at, timeout, "was not confirmed", MAY_EXIST, job_id=None):
            if destination is not None:
                await check_destination(destination.path)
            job = await self._retrier.run(self.create, "order_export", order_filter)
        with _add_note(f"The job of this export is {job.id}.", destination):
            job = await JobWatch(
                job.id, self._source, self._polling, timeout, started_at=started_at, job=job
            ).wait()
        if destination is not None:
            with (
                _add_note(f"Job {job.id} has succeeded. {_FILE_REMAINS}", destination),
                self._deadline(
                    started_at, timeout, "was not saved", _FILE_REMAINS, job_id=job.id, job=job
                ),
            ):
                await self._retrier.run(self._save, job.id, destination)
        return job

    def _deadline(
        self, started_at: float, timeout: float, outcome: str, advice: str, **known: Any
    ) -> Deadline:
        """Raise `JobTimeoutError` if the block takes longer than ``timeout``."""
        return Deadline(
            self._transport.operations,
            started_at + timeout,
            make_error=lambda: JobTimeoutError(
                timeout=timeout, outcome=outcome, advice=advice, **known
            ),
        )

    async def _save(self, job_id: str, destination: Destination) -> None:
        # The permit first: an address that is requested earlier may expire in the queue.
        async with self._download_permits, self._transport.connections:
            is_second_address = False
            while True:
                address = await self.request_file_url(job_id, has_connection=True)
                request = endpoints.get_file(job_id)
                transfer = Transfer(
                    self._transport.operations, request=request, transport=self._transport
                )
                try:
                    return await transfer.save(address, destination)
                except APIError as error:
                    if is_second_address or error.status not in EXPIRED_STATUSES:
                        raise
                is_second_address = True


@contextlib.contextmanager
def _add_note(text: str, destination: Destination | None) -> Iterator[None]:
    """Add a note to the exceptions of the library and of the disk.

    An exception of an auth callable gets none, since other calls may raise the same object.
    """
    try:
        yield
    except JobTimeoutError:  # its message names the job
        raise
    except MoltinJobsError as error:
        error.add_note(text)
        raise
    except OSError as error:
        if destination is not None and error.filename == str(destination.path):
            error.add_note(text)
        raise
