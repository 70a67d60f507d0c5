"""The session: its public methods."""

from __future__ import annotations

import functools
import math
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, TypeVar, Unpack, overload

from . import kinds
from ._api import endpoints
from ._http import ClientSession
from ._http.addresses import parse_base_url
from ._http.downloads import Destination, ProgressCallback
from ._http.job_file import JobFile
from ._http.transport import Transport
from ._polling.content_log import ContentLog
from ._polling.outcomes import JobOutcomes
from ._polling.retry import Retrier
from ._polling.watch import JobWatch
from ._tasks.operations import Operations
from ._tasks.outcomes import gather
from .auth import Auth, auth_from_env
from .errors import ConfigurationError, InvalidJobIdError, MoltinJobsError, describe
from .exports import Exports, OnCreated
from .job_requests import JobRequests, check_file_index
from .kinds import ORDERS, JobKind, catalog_releases
from .models import Job, JobProblem, QueuedJob, SessionStats, is_job_id
from .settings import (
    Polling,
    RateLimiter,
    Retry,
    check_count,
    check_index,
    check_instance,
    check_seconds,
    check_text,
    require,
)

JobId = str | uuid.UUID
"""Id of a job: a UUID, or 1 to 128 ASCII letters, digits, ``-`` or ``_``."""
Item = TypeVar("Item", bound=Job | JobId)
PollBy = Literal["id", "list"]
Kind = JobKind | str | None
"""A kind of job or its name. ``None`` means the kind of the `Job`, or order jobs for an id."""


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
        poll_by: ``"id"``, or ``"list"`` to serve all waits for jobs of one kind by one list.
            Releases, jobs missing from the list and the order job that runs are polled by id. If
            the list is too large or fails, all jobs of the kind are polled by id.
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
        self._poll_by = poll_by
        limit = rate_limit if isinstance(rate_limit, int) else math.inf
        # Polled by id. Intervals below a second are short on purpose: a second is expected then.
        self._max_waits = limit * max(polling.max_interval, 1.0)
        self._requests: dict[str, JobRequests] = {}  # by the name of the kind
        self._orders = self._requests_of(ORDERS)
        self._exports = Exports(self._transport, self._retrier, polling)

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
        waits = self.stats().waits
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
        """Return a snapshot of the session's activity. Call it on the session's event loop."""
        transport, operations = self._transport, self._operations
        sources = [requests.source for requests in self._requests.values()]
        return SessionStats(
            waits=sum(sum(source.waits.values()) for source in sources),
            requests_in_flight=transport.in_flight,
            requests_queued=transport.queued,
            slots_held=transport.throttle.held,
            tasks=sum(not task.done() for task in operations.tasks),
            connections=transport.connections.taken,
            requests=transport.requests,
            polls=sum(source.polls for source in sources),
            failed_polls=sum(source.failed_polls for source in sources),
            cooldowns=transport.throttle.cooldown.count,
        )

    async def get_job(self, job: Job | JobId, *, kind: Kind = None) -> Job:
        """Look up a job. A failure that is retryable is retried within `Retry`.

        A job that has failed is returned like any other.

        Args:
            job: the job or its id.
            kind: kind of the job, or its name, see `moltin_jobs.kinds`. Default: the kind of the
                `Job`, or order jobs for an id.

        Raises:
            InvalidJobIdError: the id is invalid. Nothing was sent.
            JobNotFoundError: there is no such job, or it has expired.
            MoltinJobsError: the request failed. See the list of exceptions.
        """
        requests, job_id = self._resolve(job, kind)
        try:
            # Call directly: Retrier.run would make each lookup 1 % slower.
            return (await requests.fetch_job(job_id)).job
        except MoltinJobsError as error:
            first_error = error
        return (await self._retrier.run(requests.fetch_job, job_id, error=first_error)).job

    @overload
    async def get_jobs(
        self,
        jobs: Iterable[Job | JobId],
        *,
        kind: Kind = None,
        return_exceptions: Literal[False] = False,
    ) -> list[Job]: ...
    @overload
    async def get_jobs(
        self, jobs: Iterable[Job | JobId], *, kind: Kind = None, return_exceptions: Literal[True]
    ) -> list[Job | Exception]: ...
    async def get_jobs(
        self, jobs: Iterable[Job | JobId], *, kind: Kind = None, return_exceptions: bool = False
    ) -> list[Job] | list[Job | Exception]:
        """Look up many jobs concurrently, and return them in the order of ``jobs``.

        ``kind`` holds for each job. Without it, `Job` objects of several kinds can be mixed.

        The first exception is raised after the other lookups were cancelled and have ended. With
        ``return_exceptions``, the exceptions are returned in the list instead.
        """
        items = self._checked_items(jobs, kind, return_exceptions)
        lookups = [functools.partial(self.get_job, item, kind=kind) for item in items]
        return await gather(self._operations, lookups, return_exceptions=return_exceptions)

    async def wait_for_job(
        self,
        job: Job | JobId,
        *,
        kind: Kind = None,
        timeout: float | None = None,
        polling: Polling | None = None,
    ) -> Job:
        """Wait until a job has ended, and return it if it has succeeded.

        Args:
            job: the job or its id.
            kind: kind of the job, see `get_job`.
            timeout: seconds after which `JobTimeoutError` is raised, even if a request, a token
                callable or a rate limiter hangs.
            polling: intervals to use instead of the session's.

        Raises:
            JobFailedError: the job has failed. For a kind of job with a request for the problems,
                their first page is requested once.
            JobCancelledError: the job was cancelled.
            JobTimeoutError: the timeout has passed.
            MoltinJobsError: a poll failed with an error that is not retryable, or polls failed for
                ``Polling.max_outage`` seconds.
        """
        return await self.watch_job(job, kind=kind, timeout=timeout, polling=polling).wait()

    @overload
    async def wait_for_jobs(
        self,
        jobs: Iterable[Job | JobId],
        *,
        kind: Kind = None,
        timeout: float | None = None,
        polling: Polling | None = None,
        return_exceptions: Literal[False] = False,
    ) -> list[Job]: ...
    @overload
    async def wait_for_jobs(
        self,
        jobs: Iterable[Job | JobId],
        *,
        kind: Kind = None,
        timeout: float | None = None,
        polling: Polling | None = None,
        return_exceptions: Literal[True],
    ) -> list[Job | Exception]: ...
    async def wait_for_jobs(
        self,
        jobs: Iterable[Job | JobId],
        *,
        kind: Kind = None,
        timeout: float | None = None,
        polling: Polling | None = None,
        return_exceptions: bool = False,
    ) -> list[Job] | list[Job | Exception]:
        """Wait for many jobs concurrently, and return them in the order of ``jobs``.

        ``timeout`` holds for each wait. See `get_jobs` for ``kind`` and ``return_exceptions``.
        """
        items = self._checked_items(jobs, kind, return_exceptions)
        _checked_timeout(timeout)
        self._checked_polling(polling)
        options: dict[str, Any] = {"kind": kind, "timeout": timeout, "polling": polling}
        waits = [functools.partial(self.wait_for_job, item, **options) for item in items]
        return await gather(self._operations, waits, return_exceptions=return_exceptions)

    def as_completed(
        self,
        jobs: Iterable[Item],
        *,
        kind: Kind = None,
        timeout: float | None = None,
        polling: Polling | None = None,
    ) -> JobOutcomes[Item]:
        """Wait for many jobs concurrently, and give the outcome of each wait as it ends.

        Use it in ``async with``, and iterate over it inside the block::

            async with session.as_completed(job_ids, timeout=600) as outcomes:
                async for job_id, outcome in outcomes:
                    ...

        Each element of ``jobs`` is given once, unchanged, with a `Job` that has succeeded, or with
        the `MoltinJobsError` that `wait_for_job` would raise. Any other exception, such as that of
        an auth callable, is raised after the other waits were cancelled and have ended. Leaving
        the block cancels the waits that have not ended. ``outcomes.watches`` is the list of the
        waits, as `JobWatch` objects.

        Args:
            jobs: jobs or their ids.
            kind: kind of all jobs. Without it, `Job` objects of several kinds can be mixed.
            timeout: seconds from now after which the outcome of a wait is a `JobTimeoutError`.
            polling: intervals to use instead of the session's.

        Raises:
            ConfigurationError: a setting is invalid.
            SessionClosedError: the session was closed.
        """
        items = self._checked_items(jobs, kind, return_exceptions=True)
        _checked_timeout(timeout)
        self._checked_polling(polling)
        watch_job = functools.partial(self.watch_job, kind=kind, timeout=timeout, polling=polling)
        return JobOutcomes(self._operations, items, watch_job)

    def watch_job(
        self,
        job: Job | JobId,
        *,
        kind: Kind = None,
        timeout: float | None = None,
        polling: Polling | None = None,
        heartbeat: float | None = None,
    ) -> JobWatch:
        """Return an async iterator that yields the job at each change of ``status``.

        The last item is the terminal job, whether it has succeeded or not. Iterating raises what
        `wait_for_job` raises, except `JobFailedError`.

        Args:
            job: the job or its id.
            kind: kind of the job, see `get_job`.
            timeout: seconds from now after which `JobTimeoutError` is raised.
            polling: intervals to use instead of the session's.
            heartbeat: seconds after which the last seen job is yielded again.
        """
        requests, job_id = self._resolve(job, kind)
        return JobWatch(
            job_id,
            requests.source,
            self._checked_polling(polling),
            _checked_timeout(timeout),
            _checked_timeout(heartbeat, "heartbeat"),
        )

    async def create_job(
        self,
        job_type: str = "order_export",
        *,
        filter: str | None = None,  # noqa: A002 (the service's name)
        allow_duplicate: bool = False,
    ) -> Job:
        """Create an order job.

        The request is repeated within `Retry` only if the job certainly was not created: there was
        no connection, or the response was a 401 or 429. Otherwise the exception states that the
        job may exist, and is not ``retryable``. ``allow_duplicate`` changes this.

        Args:
            job_type: task of the job. The default exports orders.
            filter: orders to export, in the service's filter syntax, for example
                ``gt(created_at,2018-09-01):lt(created_at,2018-10-01)``.
            allow_duplicate: whether to repeat the request within `Retry` after any failure that is
                retryable. The service may then run the job twice. For an export, which only reads,
                this costs time in the job queue but no data.
        """
        check_text("job_type", job_type)
        _check_filter(filter)
        check_instance("allow_duplicate", allow_duplicate, bool)
        creation = endpoints.create_job(job_type, filter, allow_duplicate=allow_duplicate)
        return await self._retrier.run(self._orders.create, creation)

    async def list_jobs(self, *, kind: Kind = None) -> list[Job]:
        """Return all jobs of one kind. Default: order jobs.

        A job that cannot be read is logged as a WARNING. Order jobs expire one week after their
        creation. The list of the releases of a catalog contains published ones only. Both lists
        are one response of up to 16 MiB. Other lists have pages of a hundred jobs. At most 101
        pages are requested.
        """
        return await self._requests_of(kinds.kind_of(None, kind)).list_jobs(self._retrier)

    async def get_queue(self) -> list[QueuedJob]:
        """Return the order jobs that have not ended, in the order in which the service runs them.

        One list is requested, within `Retry`. The service runs the jobs of a store one at a time,
        in the order of their creation. The times are estimates from the last fifty runs, and
        ``None`` if no job has finished yet. They are by the service's clock: the ``Date`` of the
        response, or else the local clock.

        A job with an undocumented status is left out if a later job has started.
        """
        return await self._orders.get_queue(self._retrier)

    async def get_job_problems(self, job: Job | JobId, *, kind: Kind = None) -> list[JobProblem]:
        """Return the problems of a job, for example the rows of an import that cannot be read.

        A job that has succeeded may have problems too. At most 101 pages of a hundred problems are
        requested. For an order job the list contains its ``error``, if there is one.

        Raises:
            ConfigurationError: the service has no request for the problems of this kind of job.
            JobNotFoundError: there is no such job.
            MoltinJobsError: the request failed.
        """
        requests, job_id = self._resolve(job, kind)
        row = requests.kind
        reason = "the service has no request for the problems of other jobs"
        kinds.require_support(row, lambda row: row.problem_message or "error" in row.fields, reason)
        if not row.problem_message:
            error = (await self.get_job(job_id, kind=row)).error
            return [] if error is None else [JobProblem(error)]
        return await requests.list_problems(job_id, self._retrier)

    async def cancel_job(self, job: Job | JobId, *, kind: Kind = None) -> Job:
        """Cancel a job that is pending, and return it. Only PXM jobs can be cancelled.

        The request is repeated within `Retry` only if it certainly had no effect.

        Raises:
            ConfigurationError: the service cannot cancel a job of this kind. Nothing was sent.
            APIError: the service rejected the request, for example since the job is not pending.
            MoltinJobsError: the request failed.
        """
        requests, job_id = self._resolve(job, kind)
        reason = "the service cannot cancel other jobs"
        kinds.require_support(requests.kind, lambda row: row.can_cancel, reason)
        return await self._retrier.run(requests.cancel, job_id)

    async def publish_catalog(
        self,
        catalog_id: JobId,
        *,
        export_full_delta: bool = False,
        timeout: float | None = None,
        on_created: OnCreated | None = None,
    ) -> Job:
        """Publish a catalog: create a release, and wait until it is published.

        The service keeps three releases of a catalog, and a new one removes the oldest. The
        creation is therefore repeated only if it certainly had no effect.

        Args:
            catalog_id: id of the catalog.
            export_full_delta: whether the file of the release contains all products, instead of
                the changes since the last release.
            timeout: seconds for all of it, after which `JobTimeoutError` is raised.
            on_created: called with the release before it is first polled. May be a coroutine
                function. Its exceptions are passed on.

        Raises:
            JobFailedError: the release has failed. The service gives no reason.
            MoltinJobsError: what `create_job` and `wait_for_job` raise. As in `export_orders`, a
                note names the release.
        """
        requests = self._requests_of(catalog_releases(catalog_id))
        check_instance("export_full_delta", export_full_delta, bool)
        return await self._exports.create_and_wait(
            requests,
            endpoints.create_release(requests.kind, export_full_delta),
            _checked_timeout(timeout),
            subject="the release of this publication",
            on_created=on_created,
        )

    async def get_file_url(
        self, job: Job | JobId, *, kind: Kind = None, file_index: int | None = None
    ) -> str:
        """Return the address of a file of a job that has succeeded.

        Treat it as a secret: it may be signed. The address of the file of a release is valid for an
        hour. See `download` for ``file_index``.

        Raises:
            ConfigurationError: jobs of this kind have no files, or ``file_index`` is wrong.
            JobNotFoundError: there is no such job, or it has no file. In the second case, its
                ``job`` is set.
            MoltinJobsError: the request failed.
        """
        requests, job_id = self._resolve_file(job, kind, file_index)
        return await self._retrier.run(requests.fetch_file_url, job_id, file_index)

    async def download(
        self,
        job: Job | JobId,
        destination: str | os.PathLike[str],
        *,
        kind: Kind = None,
        file_index: int | None = None,
        progress: ProgressCallback | None = None,
        max_bytes: int | None = None,
        timeout: float | None = None,
    ) -> Path:
        """Save a file of a job that has succeeded, and return its path.

        The destination is replaced when the file is complete. Until then, and after an exception,
        it is unchanged. The host of the file gets no token, cookies or headers of the session.

        Args:
            job: the job or its id.
            destination: path of the file to write.
            kind: kind of the job, see `get_job`.
            file_index: number of the file, from 0. Required for a job with more than one.
            progress: called with the number of bytes saved so far, and the length of the file or
                ``None``.
            max_bytes: largest size of the file in bytes, after decompression. Default: no limit.
            timeout: seconds after which `JobTimeoutError` is raised.

        Raises:
            ConfigurationError: jobs of this kind have no files, or ``file_index`` is wrong.
            JobNotFoundError: there is no such job, or it has no file. In the second case, its
                ``job`` is set.
            TransportError: the file could not be received, or is larger than ``max_bytes``.
            JobTimeoutError: the timeout has passed.
            OSError: the file could not be written.
            MoltinJobsError: a request failed.
        """
        requests, job_id = self._resolve_file(job, kind, file_index)
        _check_max_bytes(max_bytes)
        target = Destination(Path(destination), progress, max_bytes)
        seconds = _checked_timeout(timeout)
        return await self._exports.download(requests, job_id, file_index, target, seconds)

    def open_file(
        self,
        job: Job | JobId,
        *,
        kind: Kind = None,
        file_index: int | None = None,
        max_bytes: int | None = None,
    ) -> JobFile:
        """Return a file of a job that has succeeded, to be read without a disk.

        Use it as ``async with session.open_file(job) as file``. Entering the block connects to the
        host of the file, within `Retry`. The block holds a connection. `close` does not wait for
        the block: the next read in it raises `SessionClosedError`.

        Args:
            job: the job or its id.
            kind: kind of the job, see `get_job`.
            file_index: number of the file, from 0. Required for a job with more than one.
            max_bytes: largest size of the file in bytes, after decompression. Default: no limit.

        Raises:
            ConfigurationError: jobs of this kind have no files, or ``file_index`` is wrong. For a
                PXM job, the index is checked on entering the block.
            MoltinJobsError: on entering the block, what `download` raises before it saves.
        """
        requests, job_id = self._resolve_file(job, kind, file_index)
        _check_max_bytes(max_bytes)
        return self._exports.open_file(requests, job_id, file_index, max_bytes)

    async def export_orders(
        self,
        *,
        filter: str | None = None,  # noqa: A002 (the service's name)
        destination: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
        progress: ProgressCallback | None = None,
        on_created: OnCreated | None = None,
    ) -> Job:
        """Create a job that exports orders, wait for it, and save its file.

        Args:
            filter: orders to export, see `create_job`.
            destination: path of the file to write, or ``None`` to download nothing.
            timeout: seconds for all of it, after which `JobTimeoutError` is raised.
            progress: see `download`.
            on_created: called with the job before it is first polled. May be a coroutine function.
                Its exceptions are passed on.

        Raises:
            OSError: the file cannot be written. The path is checked before the job is created.
            MoltinJobsError: what `create_job`, `wait_for_job` and `download` raise.

        The id of the job is logged at INFO. Every exception that is raised after the creation has
        a note that names the job, a cancellation included. An exception of an auth callable has
        none, since other calls may raise the same object. Nor has one of a rate limiter during a
        request that several waits share.
        """
        _check_filter(filter)
        target = None if destination is None else Destination(Path(destination), progress)
        return await self._exports.create_and_wait(
            self._orders,
            endpoints.create_job("order_export", filter),
            _checked_timeout(timeout),
            subject="the job of this export",
            destination=target,
            on_created=on_created,
        )

    def _checked_polling(self, polling: Polling | None) -> Polling:
        return self._polling if polling is None else check_instance("polling", polling, Polling)

    def _requests_of(self, kind: JobKind) -> JobRequests:
        requests = self._requests.get(kind.name)
        if requests is None:
            requests = JobRequests(
                kind,
                self._transport,
                self._content_log,
                by_list=self._poll_by == "list",
                max_waits=self._max_waits,
            )
            self._requests[kind.name] = requests
        return requests

    def _resolve(self, job: object, kind: Kind) -> tuple[JobRequests, str]:
        """Return the requests for the kind of a job, and its id."""
        job_id = job.id if isinstance(job, Job) else job
        if isinstance(job_id, uuid.UUID):
            job_id = str(job_id)
        is_order = kind is None and not isinstance(job, Job)
        resolved = ORDERS if is_order else kinds.kind_of(job, kind)
        if not is_job_id(job_id):
            raise InvalidJobIdError(job_id)
        requests = self._orders if is_order else self._requests_of(resolved)
        if job_id in requests.kind.aliases:
            raise ConfigurationError(f"{job_id!r} is not the id of a release: pass the id itself")
        return requests, job_id

    def _resolve_file(
        self, job: object, kind: Kind, file_index: int | None
    ) -> tuple[JobRequests, str]:
        """Resolve a job whose file is wanted, and check that it may have this file."""
        requests, job_id = self._resolve(job, kind)
        row = requests.kind
        reason = "other jobs have no files"
        kinds.require_support(row, lambda row: "file_urls" in row.fields, reason)
        if file_index is not None:
            check_index("file_index", file_index)
        if row.has_file_endpoint:
            check_file_index(file_index, 1, f"{row.label} {job_id}")
        return requests, job_id

    def _checked_items(
        self, jobs: Iterable[Item], kind: Kind, return_exceptions: bool
    ) -> list[Item]:
        """Return the jobs. An invalid one is an error at once, unless exceptions are returned."""
        if isinstance(jobs, (str, uuid.UUID, Job)):
            raise TypeError(f"expected an iterable of jobs or ids, not {describe(jobs)}")
        items = list(jobs)
        kinds.kind_of(None, kind)
        if not return_exceptions:
            for item in items:
                self._resolve(item, kind)
        return items


async def wait_for_job(
    session: JobsSession,
    job: Job | JobId,
    *,
    kind: Kind = None,
    timeout: float | None = None,
    polling: Polling | None = None,
) -> Job:
    """Wait until a job has ended. The same as `JobsSession.wait_for_job`."""
    return await session.wait_for_job(job, kind=kind, timeout=timeout, polling=polling)


def _checked_timeout(seconds: float | None, name: str = "timeout") -> float:
    """Return the seconds, infinite for ``None``."""
    if seconds is None:
        return math.inf
    check_seconds(name, seconds)
    return seconds


def _check_max_bytes(value: object) -> None:
    if value is not None:
        check_count("max_bytes", value)


def _check_filter(value: object) -> None:
    if value is not None:
        check_text("filter", value)
