"""The session: its public methods, and its lookups."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Self, TypedDict, Unpack, overload

from ._api import endpoints
from ._api.content import LARGE_BODY
from ._api.parsing import parse_job, parse_job_list
from ._http import ClientSession
from ._http.addresses import parse_base_url
from ._http.downloads import Destination, ProgressCallback
from ._http.transport import Transport
from ._polling.content_log import ContentLog
from ._polling.retry import Retrier
from ._polling.sources import IdSource, ListSnapshot, ListSource, Snapshot
from ._polling.watch import JobWatch
from ._tasks.operations import Operation, Operations
from ._tasks.outcomes import gather_outcomes
from ._tasks.threads import run_in_thread
from .auth import Auth, auth_from_env
from .errors import InvalidJobIdError, JobNotFoundError, MoltinJobsError, describe
from .exports import Exports
from .models import Job, JobState, SessionStats
from .settings import (
    Polling,
    RateLimiter,
    Retry,
    check_count,
    check_instance,
    check_seconds,
    check_text,
    is_job_id,
    require,
)

JobId = str | uuid.UUID
"""Id of a job: a UUID, or 1 to 128 ASCII letters, digits, ``-`` or ``_``."""
PollBy = Literal["id", "list"]
_NOTED_STATES = (JobState.SUCCEEDED, JobState.UNKNOWN)


class SessionOptions(TypedDict, total=False):
    """Options of `JobsSession`, for `JobsSession.from_env`."""

    auth: Auth
    base_url: str
    rate_limit: int | RateLimiter | None
    request_timeout: float
    retry: Retry
    polling: Polling
    poll_by: PollBy
    http_session: ClientSession | None
    headers: Mapping[str, str] | None


class JobsSession:
    """Client for the jobs of one store, with one rate limit and one token.

    A session belongs to the event loop in which it is used first. Open it with ``async with``, or
    use it and call `close` at the end.

    Args:
        auth: a bearer token, `ClientCredentials`, or an async callable that returns a token. The
            callable is called when there is no token and after a 401. It may take
            ``request_timeout`` seconds. Its own exceptions are passed on. Tokens live one hour.
        base_url: https, or http to a loopback address. Default: ``https://api.moltin.com``.
        rate_limit: requests in any one second, retries and token requests included. An int of at
            least 1, ``None`` for no limit, or a `RateLimiter`. Default: 20. The service documents
            25 for a development store and 100 for a production store.
        request_timeout: seconds for one attempt, headers and body. Time queued for the rate limit
            or a connection does not count. A download may take this long for the response headers,
            and again for each KiB. Default: 10.
        retry: retries of everything but polls.
        polling: intervals of the polls of a wait.
        poll_by: ``"id"``, or ``"list"`` to serve all waits by one list of jobs. Jobs missing
            from the list are polled by id. If the list is too large or fails, all jobs
            are polled by id.
        http_session: an ``aiohttp.ClientSession`` for all requests, downloads included. It is never
            closed. Its cookie jar also stores cookies of file hosts.
        headers: headers to add to each request of the API. The hosts of files do not get them.

    Raises:
        ConfigurationError: a setting is invalid.
    """

    def __init__(
        self,
        auth: Auth,
        *,
        base_url: str = "https://api.moltin.com",
        rate_limit: int | RateLimiter | None = 20,
        request_timeout: float = 10.0,
        retry: Retry = Retry(),  # noqa: B008 (it is immutable)
        polling: Polling = Polling(),  # noqa: B008 (it is immutable)
        poll_by: PollBy = "id",
        http_session: ClientSession | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        check_seconds("request_timeout", request_timeout)
        require(poll_by in ("id", "list"), "poll_by", "'id' or 'list'", poll_by)
        self._polling = check_instance("polling", polling, Polling)
        self._operations = operations = Operations()
        self._transport = Transport(
            auth,
            base_url=base_url,
            operations=operations,
            rate_limit=rate_limit,
            request_timeout=request_timeout,
            http_session=http_session,
            headers=headers,
        )
        self._content_log = ContentLog()
        self._retrier = Retrier(operations, check_instance("retry", retry, Retry))
        if poll_by == "id":
            self._source = IdSource(operations, self._fetch_job)
        else:
            self._source = ListSource(operations, self._fetch_job, self._fetch_list)
        self._exports = Exports(self._transport, self._retrier, self._source, polling)

    @classmethod
    def from_env(cls, **options: Unpack[SessionOptions]) -> Self:
        """Create a session from environment variables.

        ``EPCC_CLIENT_ID`` and ``EPCC_CLIENT_SECRET``, or else ``EPCC_ACCESS_TOKEN``, give the
        credentials. ``EPCC_API_BASE_URL`` gives the base URL. The options are those of
        `JobsSession`, and have precedence.

        Raises:
            ConfigurationError: a variable is missing or invalid. The message names it.
        """
        if "auth" not in options:
            options["auth"] = auth_from_env()
        base_url = os.environ.get("EPCC_API_BASE_URL")
        if base_url and "base_url" not in options:
            parse_base_url(base_url, "EPCC_API_BASE_URL")
            options["base_url"] = base_url
        return cls(**options)

    def __repr__(self) -> str:
        if not hasattr(self, "_exports"):  # a debugger shows the locals of __init__
            return "<JobsSession incomplete>"
        state = "closed" if self._operations.closed else "open"
        waits = sum(self._source.waits.values())
        return f"<JobsSession {self._transport.base_url} {state} waits={waits}>"

    async def __aenter__(self) -> Self:
        self._operations.get_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Make every call in progress raise `SessionClosedError`, and return when all have ended.

        Closing twice does no harm. The user's ``http_session`` remains open.

        Raises:
            RuntimeError: the session belongs to another event loop. Nothing was changed.
        """
        self._operations.close()
        try:
            await self._operations.wait_until_idle()
        finally:
            await self._transport.close()

    def stats(self) -> SessionStats:
        """Return a snapshot of the session's activity."""
        transport, operations = self._transport, self._operations
        return SessionStats(
            waits=sum(self._source.waits.values()),
            requests_in_flight=transport.in_flight,
            requests_queued=transport.queued,
            slots_held=transport.throttle.held,
            tasks=sum(not task.done() for task in operations.tasks),
            connections=transport.connections.taken,
            requests=transport.requests,
            polls=self._source.polls,
            failed_polls=self._source.failed_polls,
            cooldowns=transport.throttle.cooldown.count,
        )

    async def get_job(self, job: Job | JobId) -> Job:
        """Look up a job. A failure that is retryable is retried within `Retry`.

        A job that has failed is returned like any other.

        Raises:
            InvalidJobIdError: the id is invalid. Nothing was sent.
            JobNotFoundError: there is no such job, or it has expired.
            MoltinJobsError: the request failed. See the list of exceptions.
        """
        job_id = _checked_id(job)
        try:
            # Call directly: Retrier.run would make each lookup 1 % slower.
            return (await self._fetch_job(job_id)).job
        except MoltinJobsError as error:
            first_error = error
        return (await self._retrier.run(self._fetch_job, job_id, error=first_error)).job

    @overload
    async def get_jobs(
        self, jobs: Iterable[Job | JobId], *, return_exceptions: Literal[False] = False
    ) -> list[Job]: ...
    @overload
    async def get_jobs(
        self, jobs: Iterable[Job | JobId], *, return_exceptions: Literal[True]
    ) -> list[Job | Exception]: ...
    async def get_jobs(
        self, jobs: Iterable[Job | JobId], *, return_exceptions: bool = False
    ) -> list[Job] | list[Job | Exception]:
        """Look up many jobs concurrently, and return them in the order of ``jobs``.

        The first exception is raised after the other lookups were cancelled and have ended. With
        ``return_exceptions``, the exceptions are returned in the list instead.
        """
        items = _checked_items(jobs, return_exceptions)
        with Operation(self._operations):
            lookups = map(self.get_job, items)
            return await gather_outcomes(lookups, return_exceptions=return_exceptions)

    async def wait_for_job(
        self, job: Job | JobId, *, timeout: float | None = None, polling: Polling | None = None
    ) -> Job:
        """Wait until a job has ended, and return it if it has succeeded.

        Args:
            job: the job or its id.
            timeout: seconds after which `JobTimeoutError` is raised, even if a request, a token
                callable or a rate limiter hangs.
            polling: intervals to use instead of the session's.

        Raises:
            JobFailedError: the job has failed.
            JobCancelledError: the job was cancelled.
            JobTimeoutError: the timeout has passed.
            MoltinJobsError: a poll failed with an error that is not retryable, or polls failed for
                ``Polling.max_outage`` seconds.
        """
        return await self.watch_job(job, timeout=timeout, polling=polling).wait()

    @overload
    async def wait_for_jobs(
        self,
        jobs: Iterable[Job | JobId],
        *,
        timeout: float | None = None,
        polling: Polling | None = None,
        return_exceptions: Literal[False] = False,
    ) -> list[Job]: ...
    @overload
    async def wait_for_jobs(
        self,
        jobs: Iterable[Job | JobId],
        *,
        timeout: float | None = None,
        polling: Polling | None = None,
        return_exceptions: Literal[True],
    ) -> list[Job | Exception]: ...
    async def wait_for_jobs(
        self,
        jobs: Iterable[Job | JobId],
        *,
        timeout: float | None = None,
        polling: Polling | None = None,
        return_exceptions: bool = False,
    ) -> list[Job] | list[Job | Exception]:
        """Wait for many jobs concurrently, and return them in the order of ``jobs``.

        ``timeout`` holds for each wait. See `get_jobs` for ``return_exceptions``.
        """
        items = _checked_items(jobs, return_exceptions)
        _checked_timeout(timeout)
        self._checked_polling(polling)
        with Operation(self._operations):
            waits = (self.wait_for_job(one, timeout=timeout, polling=polling) for one in items)
            return await gather_outcomes(waits, return_exceptions=return_exceptions)

    def watch_job(
        self,
        job: Job | JobId,
        *,
        timeout: float | None = None,
        polling: Polling | None = None,
        heartbeat: float | None = None,
    ) -> JobWatch:
        """Return an async iterator that yields the job at each change of ``status``.

        The last item is the terminal job, whether it has succeeded or not. Iterating raises what
        `wait_for_job` raises, except `JobFailedError`.

        Args:
            job: the job or its id.
            timeout: seconds from now after which `JobTimeoutError` is raised.
            polling: intervals to use instead of the session's.
            heartbeat: seconds after which the last seen job is yielded again.
        """
        return JobWatch(
            _checked_id(job),
            self._source,
            self._checked_polling(polling),
            _checked_timeout(timeout),
            _checked_timeout(heartbeat, "heartbeat"),
        )

    async def create_job(
        self,
        job_type: str = "order_export",
        *,
        filter: str | None = None,  # noqa: A002 (the service's name)
    ) -> Job:
        """Create a job.

        The request is repeated within `Retry` only if the job certainly was not created: there was
        no connection, or the response was a 401 or 429. Otherwise the exception states that the
        job may exist, and is not ``retryable``.

        Args:
            job_type: task of the job. The default exports orders.
            filter: orders to export, in the service's filter syntax, for example
                ``gt(created_at,2018-09-01):lt(created_at,2018-10-01)``.
        """
        check_text("job_type", job_type)
        _check_filter(filter)
        return await self._retrier.run(self._exports.create, job_type, filter)

    async def list_jobs(self) -> list[Job]:
        """Return all jobs of the store.

        A job that cannot be read is logged as a WARNING. Jobs expire one week after their
        creation. The service documents no paging. The response may be up to 16 MiB.
        """
        return (await self._retrier.run(self._fetch_list)).jobs

    async def get_file_url(self, job: Job | JobId) -> str:
        """Return the address of the file of a job that has succeeded.

        Anybody who has the address can download the file.

        Raises:
            JobNotFoundError: there is no such job, or it has no file. In the second case, its
                ``job`` is set.
            MoltinJobsError: the request failed.
        """
        return await self._retrier.run(self._exports.request_file_url, _checked_id(job))

    async def download(
        self,
        job: Job | JobId,
        destination: str | os.PathLike[str],
        *,
        progress: ProgressCallback | None = None,
        max_bytes: int | None = None,
        timeout: float | None = None,
    ) -> Path:
        """Save the file of a job that has succeeded, and return its path.

        The destination is replaced when the file is complete. Until then, and after an exception,
        it is unchanged. The host of the file gets no token, cookies or headers of the session.

        Args:
            job: the job or its id.
            destination: path of the file to write.
            progress: called with the number of bytes saved so far, and the length of the file or
                ``None``.
            max_bytes: largest size of the file in bytes, after decompression. Default: no limit.
            timeout: seconds after which `JobTimeoutError` is raised.

        Raises:
            JobNotFoundError: there is no such job, or it has no file. In the second case, its
                ``job`` is set.
            TransportError: the file could not be received, or is larger than ``max_bytes``.
            JobTimeoutError: the timeout has passed.
            OSError: the file could not be written.
            MoltinJobsError: a request failed.
        """
        job_id = _checked_id(job)
        if max_bytes is not None:
            check_count("max_bytes", max_bytes)
        target = Destination(Path(destination), progress, max_bytes)
        return await self._exports.download(job_id, target, _checked_timeout(timeout))

    async def export_orders(
        self,
        *,
        filter: str | None = None,  # noqa: A002 (the service's name)
        destination: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
        progress: ProgressCallback | None = None,
    ) -> Job:
        """Create a job that exports orders, wait for it, and save its file.

        Args:
            filter: orders to export, see `create_job`.
            destination: path of the file to write, or ``None`` to download nothing.
            timeout: seconds for all of it, after which `JobTimeoutError` is raised.
            progress: see `download`.

        Raises:
            OSError: the file cannot be written. The path is checked before the job is created.
            MoltinJobsError: what `create_job`, `wait_for_job` and `download` raise. A note names
                the job.
        """
        _check_filter(filter)
        target = None if destination is None else Destination(Path(destination), progress)
        return await self._exports.export_orders(filter, target, _checked_timeout(timeout))

    def _checked_polling(self, polling: Polling | None) -> Polling:
        return self._polling if polling is None else check_instance("polling", polling, Polling)

    async def _fetch_job(self, job_id: str, previous: Snapshot | None = None) -> Snapshot:
        request = endpoints.get_job(job_id)
        response = await self._transport.send(request)
        if previous is not None and response.body == previous.body and response.status == 200:
            return Snapshot(previous.job, response.received_at, previous.body)
        try:
            job = parse_job(response, request)
        except JobNotFoundError as error:
            error.retryable = self._source.created.contains(job_id, response.received_at)
            raise
        if job.state in _NOTED_STATES:
            self._note_state(job, job_id, response.received_at)
        return Snapshot(job, response.received_at, response.body)

    async def _fetch_list(self) -> ListSnapshot:
        request = endpoints.list_jobs()
        response = await self._transport.send(request)
        if len(response.body) > LARGE_BODY:
            with Operation(self._operations):
                job_list = await run_in_thread(parse_job_list, response, request)
        else:
            job_list = parse_job_list(response, request)
        for job in job_list.jobs:
            if job.state in _NOTED_STATES:
                self._note_state(job, job.id, response.received_at)
        for problem in job_list.problems:
            self._content_log.log_problem(problem)
        # The body is bound to no local, which a traceback may show: it may repeat the token.
        size, fingerprint = len(response.body), hash(response.body)
        return ListSnapshot(job_list.jobs, response.received_at, size, fingerprint)

    def _note_state(self, job: Job, job_id: str, now: float) -> None:
        if job.state is JobState.UNKNOWN:
            self._content_log.log_unknown_status(job)
        else:
            self._source.succeeded.add(job_id, now)


async def wait_for_job(
    session: JobsSession,
    job: Job | JobId,
    *,
    timeout: float | None = None,
    polling: Polling | None = None,
) -> Job:
    """Wait until a job has ended. The same as `JobsSession.wait_for_job`."""
    return await session.wait_for_job(job, timeout=timeout, polling=polling)


def _checked_id(job: object) -> str:
    if isinstance(job, Job):
        job = job.id
    elif isinstance(job, uuid.UUID):
        job = str(job)
    if not is_job_id(job):
        raise InvalidJobIdError(job)
    return job


def _checked_items(jobs: Iterable[Job | JobId], return_exceptions: bool) -> list[Job | JobId]:
    """Return the jobs. An invalid id is an error at once, unless exceptions are returned."""
    if isinstance(jobs, (str, uuid.UUID, Job)):
        raise TypeError(f"expected an iterable of jobs or ids, not {describe(jobs)}")
    items = list(jobs)
    if not return_exceptions:
        for item in items:
            _checked_id(item)
    return items


def _checked_timeout(seconds: float | None, name: str = "timeout") -> float:
    """Return the seconds, infinite for ``None``."""
    if seconds is None:
        return math.inf
    check_seconds(name, seconds)
    return seconds


def _check_filter(value: object) -> None:
    if value is not None:
        check_text("filter", value)
