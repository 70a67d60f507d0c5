"""The public face: ids are checked, lookups retried, waits started, and all of it closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from ._api.endpoints import Calls
from ._http.partial_file import Progress, check, save
from ._http.rate_limit import Limiter, Pacer
from ._http.transport import Transport
from ._polling.intervals import Polling, Retry
from ._polling.sources import Looking, Lookups, PollWith
from ._polling.watch import watch
from ._tasks.operations import Scope, Scopes, closed
from .auth import Auth, ClientCredentials
from .errors import (
    MAY_EXIST,
    ConfigurationError,
    InvalidJobIdError,
    JobCancelledError,
    JobFailedError,
    JobTimeoutError,
    shown,
)
from .models import Job, JobState
from .settings import check_count, check_seconds, check_text, instance

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
JobId = str | uuid.UUID

_log = logging.getLogger("moltin_jobs")
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def _checked_id(job_id: object) -> str:
    text = str(job_id) if isinstance(job_id, uuid.UUID) else job_id
    if not isinstance(text, str) or not _JOB_ID.fullmatch(text):
        raise InvalidJobIdError(job_id)
    return text


def _checked_ids(job_ids: Iterable[JobId]) -> list[str]:
    if isinstance(job_ids, (str, uuid.UUID)):
        raise TypeError(f"job_ids must be an iterable of ids, not one id: use [{shown(job_ids)}]")
    return [_checked_id(job_id) for job_id in job_ids]


class JobsSession:
    """Fetches jobs, and waits for them, under one rate limit and with one source of tokens.

    ``auth`` is a bearer token, `ClientCredentials`, or an async callable that returns a token
    (called when none is held and after a 401, by one caller at a time; its own exceptions pass
    through). Documented tokens live one hour.

    ``base_url`` is https, or http to loopback. ``rate_limit``: requests in any one second of
    everything that this session sends, an int from 1, ``None``, or a `Limiter`; the smallest
    limit that the service documents is 25 a second for a store. ``request_timeout``: seconds for
    one attempt, headers and body, not counting any queue. ``poll_with``: what waits ask
    for, each its job by ``"id"``, or one ``"list"`` for all and by id what that does not name, or
    ``"auto"``, the list while it names most of them in at most 1 MiB. ``http``: a session of the
    caller's, used but never closed. ``headers`` are sent with each request.

    A session belongs to the event loop it is first used in; it is opened by ``async with`` or
    the first request. Raises `ConfigurationError` for a setting that cannot work.
    """

    def __init__(
        self,
        auth: Auth,
        *,
        base_url: str = "https://api.moltin.com",
        rate_limit: int | Limiter | None = 20,
        request_timeout: float = 10.0,
        retry: Retry = Retry(),  # noqa: B008 (frozen)
        polling: Polling = Polling(),  # noqa: B008 (frozen)
        poll_with: PollWith = "id",
        http: aiohttp.ClientSession | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        check_seconds("request_timeout", request_timeout)
        self._polling = instance("polling", polling, Polling)
        self._scopes = Scopes(request_timeout)
        self._transport = Transport(
            auth,
            base_url=base_url,
            scopes=self._scopes,
            pacer=Pacer(rate_limit),
            http=http,
            headers=headers,
        )
        self._calls = Calls(self._transport, self._scopes, instance("retry", retry, Retry))
        self._lookups = Lookups(
            _poll_with(poll_with), self._scopes, self._calls.asking, self._calls.ask_list
        )

    @classmethod
    def from_env(cls, **overrides: Any) -> Self:
        """Make a session from the environment; ``overrides`` are the constructor's, and win.

        ``EPCC_API_BASE_URL``, ``EPCC_CLIENT_ID`` and ``EPCC_CLIENT_SECRET`` are the variables of
        the vendor's own command line; without the latter two, ``EPCC_ACCESS_TOKEN`` is a token.
        Raises `ConfigurationError` that names what is missing.
        """
        settings = {"auth": _auth_from_env()} if "auth" not in overrides else {}
        if base_url := os.environ.get("EPCC_API_BASE_URL"):
            settings["base_url"] = base_url
        return cls(**settings | overrides)

    async def __aenter__(self) -> Self:
        self._scopes.check()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every wait and lookup in progress with `RuntimeError`, and return when all ended.

        Closing twice does no harm. An ``http`` session of the caller's stays open.
        """
        try:
            await self._scopes.close()
        finally:
            await self._transport.close()

    async def get_job(self, job_id: JobId) -> Job:
        """Look a job up, again within `Retry` where the cause of a failure may pass.

        A job that failed is returned like any other. Raises `InvalidJobIdError`,
        `JobNotFoundError` and what else the tree holds for one request.
        """
        text = _checked_id(job_id)
        return await self._calls.retried(self._calls.asking(text), text)

    @overload
    async def get_jobs(
        self, job_ids: Iterable[JobId], *, return_exceptions: Literal[False] = False
    ) -> list[Job]: ...
    @overload
    async def get_jobs(
        self, job_ids: Iterable[JobId], *, return_exceptions: Literal[True]
    ) -> list[Job | Exception]: ...
    async def get_jobs(
        self, job_ids: Iterable[JobId], *, return_exceptions: bool = False
    ) -> list[Job] | list[Job | Exception]:
        """Look many jobs up at once; the answers are in the order of ``job_ids``.

        When one fails, the others are cancelled and finished before its error is raised; with
        ``return_exceptions`` the error stands in its place in the list instead.
        """
        return await _all(self.get_job, _checked_ids(job_ids), return_exceptions)

    async def wait_for_job(
        self, job_id: JobId, *, timeout: float | None = None, polling: Polling | None = None
    ) -> Job:
        """Wait until the job has ended, and return it if it succeeded.

        ``timeout``, in seconds, bounds everything; ``polling`` is used instead of the session's.
        Raises `JobFailedError`, `JobCancelledError`, `JobTimeoutError`; at once what cannot pass
        (`JobNotFoundError`, `AuthenticationError`, …); after `Polling.outage` what could have.
        """
        changes = self.watch_job(job_id, timeout=timeout, polling=polling)
        async with contextlib.aclosing(changes):
            async for job in changes:
                last = job
        if last.state is JobState.CANCELLED:
            raise JobCancelledError(last)
        if last.state is JobState.FAILED:
            raise JobFailedError(last)
        return last

    @overload
    async def wait_for_jobs(
        self,
        job_ids: Iterable[JobId],
        *,
        timeout: float | None = None,
        polling: Polling | None = None,
        return_exceptions: Literal[False] = False,
    ) -> list[Job]: ...
    @overload
    async def wait_for_jobs(
        self,
        job_ids: Iterable[JobId],
        *,
        timeout: float | None = None,
        polling: Polling | None = None,
        return_exceptions: Literal[True],
    ) -> list[Job | Exception]: ...
    async def wait_for_jobs(
        self,
        job_ids: Iterable[JobId],
        *,
        timeout: float | None = None,
        polling: Polling | None = None,
        return_exceptions: bool = False,
    ) -> list[Job] | list[Job | Exception]:
        """Wait for many jobs at once, as `get_jobs` looks many up; each has its own ``timeout``."""
        ids = _checked_ids(job_ids)
        _check_wait(timeout, polling)

        async def wait(job_id: str) -> Job:
            return await self.wait_for_job(job_id, timeout=timeout, polling=polling)

        return await _all(wait, ids, return_exceptions)

    def watch_job(
        self, job_id: JobId, *, timeout: float | None = None, polling: Polling | None = None
    ) -> AsyncGenerator[Job]:
        """Yield the job whenever its ``status``, as spelled, has changed, until it has ended.

        A job that failed or was cancelled is yielded like one that succeeded. The time that the
        consumer takes counts against ``timeout``. Raises what `wait_for_job` raises, but for
        `JobFailedError`.
        """
        text = _checked_id(job_id)
        _check_wait(timeout, polling)
        return watch(
            text, Looking(self._lookups, text), self._calls.sleep, polling or self._polling, timeout
        )

    async def create_job(
        self,
        job_type: str = "order_export",
        *,
        filter: str | None = None,  # noqa: A002 (the service's word)
    ) -> Job:
        """Create a job; by default one that exports orders.

        ``filter``, in the service's own words, chooses the orders, for example
        ``gt(created_at,2018-09-01):lt(created_at,2018-10-01)``. Tried again within `Retry` only
        where the job certainly was not created (no connection, 401, 429). Where it may have been,
        the error says so, and is not ``temporary``.
        """
        check_text("job_type", job_type)
        document = {"type": "job", "job_type": job_type}
        if filter is not None:
            check_text("filter", filter)
            document["filter"] = filter
        return await self._calls.retried(self._calls.creating(document), None)

    async def list_jobs(self) -> list[Job]:
        """Every job of the store that the service lists and that can be read.

        One that cannot be read is told by a WARNING in the log. A job expires a week after its
        creation. The service documents no paging; a list is at most 16 MiB.
        """
        listing = await self._calls.retried(self._calls.ask_list, None)
        for problem in listing.problems:
            _log.warning("a job of the list cannot be read: %s", problem)
        return listing.jobs

    async def get_job_file(self, job_id: JobId) -> str:
        """The address of the file of a job that has succeeded: public, so keep it to yourself.

        Raises what `get_job` raises; where only the file is not there (yet), `JobNotFoundError`
        with the job as its ``job``.
        """
        text = _checked_id(job_id)
        return await self._calls.retried(self._calls.asking_file(text), text)

    async def download(
        self,
        job: Job | JobId,
        destination: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        max_bytes: int | None = None,
    ) -> Path:
        """Save the file of a job as ``destination``, whole or not at all, and return its path.

        A file that is there is replaced once the new one is whole.

        It is on another host, which is asked without the token. ``progress(received, length)`` is
        called as bytes come; ``length`` is ``None`` if it is not known. Raises what
        `get_job_file` raises, `TransportError` for a file that stays cut or is larger than
        ``max_bytes``, and ``OSError`` of the disk.
        """
        text = _checked_id(job.id if isinstance(job, Job) else job)
        path = Path(destination)
        if max_bytes is not None:
            check_count("max_bytes", max_bytes)
        about = f"the file of job {text}"
        ask = self._calls.asking_file(text)
        await check(path)

        async def get() -> Path:
            address = await ask()
            with Scope(self._scopes):
                async with self._transport.file(address, about) as (chunks, length):
                    await save(
                        chunks, length, path, about=about, progress=progress, max_bytes=max_bytes
                    )
                return path
            raise closed()

        return await self._calls.retried(get, text)

    async def export_orders(
        self,
        filter: str | None = None,  # noqa: A002 (the service's word)
        *,
        destination: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> Job:
        """Create a job that exports orders, wait for it, and save its file if a place is given.

        ``timeout``, in seconds, bounds all of it. Returns the finished job. Raises what
        `create_job`, `wait_for_job` and `download` raise; ``OSError`` for a place where nothing
        can be saved, before a job is created.
        """
        _check_wait(timeout, None)
        if destination is not None:
            await check(Path(destination))
        loop = asyncio.get_running_loop()
        deadline = math.inf if timeout is None else loop.time() + timeout
        job: Job | None = None

        async def in_time(call: Awaitable[T], undone: str, advice: str) -> T:
            try:
                async with asyncio.timeout_at(deadline) as scope:
                    return await call
            except TimeoutError:
                if timeout is None or not scope.expired():
                    raise
            raise JobTimeoutError(
                job.id if job else None,
                timeout=timeout,
                job=job,
                polls=0,
                last_error=None,
                undone=undone,
                advice=advice,
            )

        job = await in_time(self.create_job(filter=filter), "was not created", MAY_EXIST)
        left = None if timeout is None else max(deadline - loop.time(), 0.001)
        try:
            job = await self.wait_for_job(job.id, timeout=left)
        except JobTimeoutError as error:  # which tells of the time that was left
            assert timeout is not None, "without a timeout no deadline passes"  # noqa: S101 (for mypy)
            raise JobTimeoutError(
                job.id,
                timeout=timeout,
                job=error.job or job,
                polls=error.polls,
                last_error=error.last_error,
            ) from None
        except Exception as error:  # it may tell of a token, say, and not of the job
            error.add_note(f"The job of this export is {job.id}.")
            raise
        if destination is not None:
            saving = self.download(job, destination, progress=progress)
            kept = "Its file is still there: call download()."
            try:
                await in_time(saving, "was not saved", kept)
            except JobTimeoutError:
                raise
            except Exception as error:
                error.add_note(f"Job {job.id} has succeeded. {kept}")
                raise
        return job


async def wait_for_job(
    session: JobsSession,
    job_id: JobId,
    *,
    timeout: float | None = None,
    polling: Polling | None = None,
) -> Job:
    """Wait until the job has ended: `JobsSession.wait_for_job` as a function."""
    return await session.wait_for_job(job_id, timeout=timeout, polling=polling)


async def _all(
    call: Callable[[str], Awaitable[Job]], job_ids: list[str], return_exceptions: bool
) -> list[Any]:
    async def settle(job_id: str) -> Job | Exception:
        try:
            return await call(job_id)
        except Exception as error:
            if not return_exceptions:
                raise
            return error

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(settle(job_id)) for job_id in job_ids]
    except ExceptionGroup as failed:
        first = failed.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise first


def _poll_with(value: PollWith) -> PollWith:
    if value not in ("id", "list", "auto"):
        raise ConfigurationError(f"poll_with must be 'id', 'list' or 'auto', not {shown(value)}")
    return value


def _check_wait(timeout: object, polling: object) -> None:
    if timeout is not None:
        check_seconds("timeout", timeout)
    if polling is not None:
        instance("polling", polling, Polling)


def _auth_from_env() -> str | ClientCredentials:
    client_id = os.environ.get("EPCC_CLIENT_ID")
    client_secret = os.environ.get("EPCC_CLIENT_SECRET")
    token = os.environ.get("EPCC_ACCESS_TOKEN")
    if client_id and client_secret:
        return ClientCredentials(client_id, client_secret)
    if token:
        return token
    if client_id or client_secret:
        missing = "EPCC_CLIENT_SECRET" if client_id else "EPCC_CLIENT_ID"
        raise ConfigurationError(f"the environment variable {missing} is not set")
    raise ConfigurationError(
        "no credentials in the environment: set EPCC_CLIENT_ID and EPCC_CLIENT_SECRET, or "
        "EPCC_ACCESS_TOKEN"
    )
