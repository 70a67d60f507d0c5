"""Calls of several steps under one deadline: create a job, wait for it, and save its file."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from ._api import endpoints
from ._api.endpoints import Request
from ._http.downloads import Destination
from ._http.file_response import EXPIRED_STATUSES, FileResponse
from ._http.job_file import JobFile
from ._http.partial_file import PartialFile, check_destination
from ._http.transport import Transport
from ._polling.retry import Retrier
from ._polling.watch import JobWatch
from ._tasks.operations import Deadline
from ._tasks.semaphore import Semaphore
from ._tasks.user_code import run_user_code
from .auth import is_shared
from .errors import APIError, JobTimeoutError
from .job_requests import JobRequests
from .models import Job
from .settings import Polling, require

OnCreated = Callable[[Job], object | Awaitable[object]]
"""Called with a job that was just created. May be a coroutine function."""
_DOWNLOAD_AGAIN = "Download it again, or use a longer timeout."
_FILE_REMAINS = "Its file remains available: call download()."


class Exports:
    """Downloads, exports and publications of one session.

    Timeouts are in seconds, ``math.inf`` for none.
    """

    def __init__(self, transport: Transport, retrier: Retrier, polling: Polling) -> None:
        self._transport = transport
        # Downloads may occupy half of the connections.
        self._download_permits = Semaphore(max(transport.connection_limit // 2, 1))
        self._retrier = retrier
        self._polling = polling

    def open_file(
        self, requests: JobRequests, job_id: str, file_index: int | None, max_bytes: int | None
    ) -> JobFile:
        """Return a file of a job. Entering its block connects, within `Retry`."""
        connect = functools.partial(
            self._retrier.run, self._connect, requests, job_id, file_index, max_bytes
        )
        return JobFile(self._transport.operations, connect)

    async def download(
        self,
        requests: JobRequests,
        job_id: str,
        file_index: int | None,
        destination: Destination,
        timeout: float,
    ) -> Path:
        """Save a file of a job, and return its path."""
        kind, started_at = requests.kind.name, self._transport.operations.get_loop().time()
        known = {"job_id": job_id, "kind": kind}
        with self._deadline(started_at, timeout, "was not downloaded", _DOWNLOAD_AGAIN, **known):
            await check_destination(destination.path)
            await self._retrier.run(self._save, requests, job_id, file_index, destination)
        return destination.path

    async def create_and_wait(
        self,
        requests: JobRequests,
        creation: Request,
        timeout: float,
        *,
        subject: str,
        destination: Destination | None = None,
        on_created: OnCreated | None = None,
    ) -> Job:
        """Create a job, wait for it, and save its file if there is a destination.

        ``subject`` is what a timeout before the end of the creation is about.
        """
        is_valid = on_created is None or callable(on_created)
        require(is_valid, "on_created", "a function or coroutine function", on_created)
        started_at = self._transport.operations.get_loop().time()
        advice = creation.uncertain_advice or ""
        with self._deadline(
            started_at, timeout, "was not confirmed", advice, job_id=None, subject=subject
        ):
            if destination is not None:
                await check_destination(destination.path)
            job = await self._retrier.run(requests.create, creation)
        known = {"job_id": job.id, "kind": requests.kind.name, "job": job}
        with _add_note(f"{subject.capitalize()} is {job.id}.", job.id):
            if on_created is not None:
                with self._deadline(started_at, timeout, "did not end", "Wait for it.", **known):
                    result = on_created(job)
                    if inspect.isawaitable(result):
                        await run_user_code(result)
            job = await JobWatch(
                job.id, requests.source, self._polling, timeout, started_at=started_at, job=job
            ).wait()
        if destination is not None:
            known["job"] = job
            with (
                _add_note(
                    f"Job {job.id} has succeeded. To save its file, call download().", job.id
                ),
                self._deadline(started_at, timeout, "was not saved", _FILE_REMAINS, **known),
            ):
                await self._retrier.run(self._save, requests, job.id, None, destination)
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

    async def _save(
        self,
        requests: JobRequests,
        job_id: str,
        file_index: int | None,
        destination: Destination,
    ) -> None:
        """Save a file of a job, in one attempt."""
        connect = functools.partial(
            self._connect, requests, job_id, file_index, destination.max_bytes
        )
        size = 0
        async with (
            JobFile(self._transport.operations, connect) as file,
            PartialFile(destination.path) as partial_file,
        ):
            async for chunk in file:
                await partial_file.write(chunk)
                size += len(chunk)
                if destination.progress is not None:
                    destination.progress(size, file.length)
            await partial_file.commit()

    async def _connect(
        self, requests: JobRequests, job_id: str, file_index: int | None, max_bytes: int | None
    ) -> FileResponse:
        """Request the address of a file and then the file, in one attempt."""
        with contextlib.ExitStack() as cleanup:
            # The permit first: an address that is requested earlier may expire in the queue.
            for semaphore in (self._download_permits, self._transport.connections):
                await semaphore.acquire()
                cleanup.callback(semaphore.release)
            is_second_address = False
            while True:
                address = await requests.fetch_file_url(job_id, file_index, has_connection=True)
                file = FileResponse(
                    self._transport.operations,
                    request=endpoints.get_file(job_id, requests.kind),
                    transport=self._transport,
                    max_bytes=max_bytes,
                    cleanup=cleanup,
                )
                try:
                    await file.connect(address)
                except APIError as error:
                    if is_second_address or error.status not in EXPIRED_STATUSES:
                        raise
                else:
                    file.cleanup = cleanup.pop_all()
                    return file
                is_second_address = True


@contextlib.contextmanager
def _add_note(text: str, job_id: str) -> Iterator[None]:
    """Add a note to the exceptions of the block that do not name the job.

    An exception that several calls may raise gets none: it would name the jobs of others.
    """
    try:
        yield
    except BaseException as error:
        names_job = isinstance(error, JobTimeoutError) and error.job_id == job_id
        if not names_job and not is_shared(error):
            error.add_note(text)
        raise
