"""Types of the public API, as the type checker of a user sees them.

mypy and pyright check this file. It is never run. Each ``type: ignore`` marks a wrong use that
both have to report.
"""

import asyncio
import datetime
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, assert_type

import aiohttp

from moltin_jobs import (
    APIError,
    Auth,
    AuthenticationError,
    ClientCredentials,
    ConfigurationError,
    InvalidJobIdError,
    InvalidResponseError,
    Job,
    JobCancelledError,
    JobFailedError,
    JobFile,
    JobId,
    JobNotFoundError,
    JobOutcomes,
    JobsSession,
    JobState,
    JobTimeoutError,
    JobWatch,
    MoltinJobsError,
    NoResultsError,
    PausableRateLimiter,
    PermissionDeniedError,
    Polling,
    ProgressCallback,
    QueuedJob,
    RateLimiter,
    RateLimitError,
    Retry,
    ServerError,
    SessionClosedError,
    SessionOptions,
    SessionStats,
    TransportError,
    __version__,
    wait_for_job,
)


def use(*_: object) -> None:
    """Use a variable that would be unused otherwise."""


class Limiter:
    """A rate limiter needs no base class."""

    async def acquire(self) -> None:
        await asyncio.sleep(0)


class PausableLimiter(Limiter):
    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class BlockingLimiter:
    def acquire(self) -> None:
        pass


class MistypedLimiter:
    async def acquire(self) -> float:
        return 0.0

    async def pause(self, seconds: str) -> None:
        pass


async def fetch_token() -> str:
    return "token"


def fetch_token_blocking() -> str:
    return "token"


async def make_sessions(http: aiohttp.ClientSession) -> None:
    use(__version__.split("."))
    JobsSession("token", http_session=http, headers={"X-Team": "orders"})
    JobsSession(fetch_token, rate_limit=None, retry=Retry(max_attempts=1))
    JobsSession(ClientCredentials("id", "secret"), polling=Polling(max_outage=None))
    JobsSession("token", poll_by="list")
    JobsSession("token", request_timeout=5)

    JobsSession()  # type: ignore[call-arg]
    JobsSession(5)  # type: ignore[arg-type]
    JobsSession(fetch_token_blocking)  # type: ignore[arg-type]
    JobsSession("token", "https://api.moltin.com")  # type: ignore[call-arg]
    JobsSession("token", rate_limit=2.5)  # type: ignore[arg-type]
    JobsSession("token", request_timeout=None)  # type: ignore[arg-type]
    JobsSession("token", poll_by="auto")  # type: ignore[arg-type]
    JobsSession("token", polling={"max_interval": 5})  # type: ignore[arg-type]
    JobsSession("token", headers=["X-Team"])  # type: ignore[arg-type]
    JobsSession("token", http=http)  # type: ignore[call-arg]

    async with JobsSession("token") as session:
        assert_type(session, JobsSession)
        assert_type(session.stats(), SessionStats)
        assert_type(session.stats().waits, int)
        assert_type(await session.close(), None)


def make_sessions_from_environment(options: SessionOptions) -> None:
    assert_type(JobsSession.from_env(), JobsSession)
    assert_type(JobsSession.from_env(rate_limit=5, poll_by="list", auth="token"), JobsSession)
    assert_type(JobsSession.from_env(**options), JobsSession)

    JobsSession.from_env(rate_limits=5)  # type: ignore[call-arg]
    JobsSession.from_env(rate_limit="5")  # type: ignore[arg-type]
    JobsSession.from_env(poll_by="auto")  # type: ignore[arg-type]
    JobsSession.from_env("token")  # type: ignore[call-arg]

    team_options: SessionOptions = {"headers": {"X-Team": "orders"}, "retry": Retry()}
    assert_type(JobsSession.from_env(**team_options), JobsSession)
    wrong: SessionOptions = {"max_tries": 4}  # type: ignore[typeddict-unknown-key]
    use(wrong)


class StoreSession(JobsSession):
    """A subclass keeps its type."""


async def use_subclass() -> None:
    assert_type(StoreSession.from_env(), StoreSession)
    async with StoreSession("token") as session:
        assert_type(session, StoreSession)


def check_aliases(auth: Auth, job_id: JobId, progress: ProgressCallback) -> None:
    assert_type(auth, str | ClientCredentials | Callable[[], Awaitable[str]])
    assert_type(job_id, str | uuid.UUID)
    assert_type(progress, Callable[[int, int | None], object])


def check_protocols() -> None:
    limiter: RateLimiter = Limiter()
    pausable: PausableRateLimiter = PausableLimiter()
    JobsSession("token", rate_limit=limiter)
    JobsSession("token", rate_limit=pausable)
    limiter = pausable

    wrong: RateLimiter = BlockingLimiter()  # type: ignore[assignment]
    wrong_pausable: PausableRateLimiter = Limiter()  # type: ignore[assignment]
    wrong_seconds: PausableRateLimiter = MistypedLimiter()  # type: ignore[assignment]
    JobsSession("token", rate_limit=BlockingLimiter())  # type: ignore[arg-type]
    use(limiter, wrong, wrong_pausable, wrong_seconds)


async def look_up(session: JobsSession, job: Job) -> None:
    assert_type(await session.get_job("a"), Job)
    assert_type(await session.get_job(uuid.uuid4()), Job)
    assert_type(await session.get_job(job), Job)
    assert_type(await session.get_jobs(["a", uuid.uuid4(), job]), list[Job])
    assert_type(await session.get_jobs(["a"], return_exceptions=False), list[Job])
    assert_type(await session.get_jobs(["a"], return_exceptions=True), list[Job | Exception])

    await session.get_job(7)  # type: ignore[arg-type]
    await session.get_job(None)  # type: ignore[arg-type]
    await session.get_jobs(uuid.uuid4())  # type: ignore[call-overload]
    await session.get_jobs(job)  # type: ignore[call-overload]
    await session.get_jobs(["a"], True)  # type: ignore[call-overload]


async def wait(session: JobsSession, job: Job) -> None:
    assert_type(await session.wait_for_job("a", timeout=60, polling=Polling()), Job)
    assert_type(await session.wait_for_job(job), Job)
    assert_type(await wait_for_job(session, "a", timeout=None), Job)
    assert_type(await wait_for_job(session, job, polling=None), Job)
    assert_type(await session.wait_for_jobs(job_id for job_id in ("a", "b")), list[Job])
    outcomes = await session.wait_for_jobs(["a"], timeout=60, return_exceptions=True)
    assert_type(outcomes, list[Job | Exception])

    await session.wait_for_job("a", 60)  # type: ignore[arg-type, call-arg]
    await session.wait_for_job("a", timeout="60")  # type: ignore[arg-type]
    await session.wait_for_job("a", timeout=datetime.timedelta(1))  # type: ignore[arg-type]
    await wait_for_job("a", session)  # type: ignore[arg-type]
    await wait_for_job(session)  # type: ignore[call-arg]
    await wait_for_job(session, "a", heartbeat=15)  # type: ignore[call-arg]


async def wait_as_completed(session: JobsSession, job: Job) -> None:
    async with session.as_completed(["a", "b"], timeout=60, polling=Polling()) as outcomes:
        async for job_id, outcome in outcomes:
            assert_type(job_id, str)
            assert_type(outcome, Job | MoltinJobsError)
        assert_type(outcomes, JobOutcomes[str])
        assert_type(outcomes.watches, list[JobWatch])
    async with session.as_completed([job], kind="pxm") as of_jobs:
        assert_type(await anext(of_jobs), tuple[Job, Job | MoltinJobsError])

    session.as_completed([7])  # type: ignore[type-var]
    session.as_completed(["a"], 60)  # type: ignore[arg-type, call-arg]
    await session.as_completed(["a"])  # type: ignore[misc]


async def watch(session: JobsSession) -> None:
    watch = session.watch_job("a", timeout=60, polling=Polling(jitter=0), heartbeat=15)
    assert_type(watch, JobWatch)
    async for job in watch:
        assert_type(job, Job)
    iterator: AsyncIterator[Job] = watch
    assert_type(await anext(iterator), Job)
    assert_type(await watch.wait(), Job)
    async with watch as entered:
        assert_type(entered, JobWatch)
    assert_type(await watch.aclose(), None)
    assert_type(watch.job_id, str)
    assert_type(watch.job, Job | None)
    assert_type(watch.polls, int)
    assert_type(watch.failed_polls, int)
    assert_type(watch.consecutive_failures, int)
    assert_type(watch.last_error, MoltinJobsError | None)
    assert_type(watch.next_poll_at, float | None)

    await session.watch_job("a")  # type: ignore[misc]
    list(session.watch_job("a"))  # type: ignore[call-overload]


async def export(session: JobsSession, job: Job, path: os.PathLike[str]) -> None:
    def show_progress(received: int, length: int | None) -> None:
        use(received, length)

    def show_length(length: int) -> None:
        use(length)

    assert_type(await session.create_job(filter="gt(created_at,2018-09-01)"), Job)
    assert_type(await session.create_job("order_export"), Job)
    assert_type(await session.list_jobs(), list[Job])
    assert_type(await session.get_queue(), list[QueuedJob])
    assert_type(await session.get_file_url("a"), str)
    assert_type(await session.download(job, "a.csv", progress=use, max_bytes=1 << 30), Path)
    assert_type(await session.download(uuid.uuid4(), Path("a.csv"), timeout=60), Path)
    assert_type(await session.download("a", path, progress=show_progress), Path)
    assert_type(await session.export_orders(), Job)
    assert_type(await session.export_orders(filter="a", destination="a.csv", timeout=60), Job)

    async with session.open_file(job, kind="pxm", file_index=0, max_bytes=1 << 30) as file:
        assert_type(file, JobFile)
        assert_type(file.length, int | None)
        assert_type(file.content_type, str | None)
        async for chunk in file:
            assert_type(chunk, bytes)
        assert_type(await file.read(), bytes)
        async for row in file.rows():
            assert_type(row, dict[str | Any, str | Any])
            use(row["id"].strip())

    await session.open_file("a")  # type: ignore[misc]
    await session.create_job("order_export", "gt(a,b)")  # type: ignore[call-arg]
    await session.export_orders("gt(a,b)")  # type: ignore[call-arg]
    await session.download("a")  # type: ignore[call-arg]
    await session.download("a", b"a.csv")  # type: ignore[arg-type]
    await session.download("a", "a.csv", progress=show_length)  # type: ignore[arg-type]
    await session.download("a", "a.csv", max_bytes=1.5)  # type: ignore[arg-type]


def read_job(job: Job) -> None:
    assert_type(job.id, str)
    assert_type(job.type, str | None)
    assert_type(job.job_type, str | None)
    assert_type(job.status, str)
    assert_type(job.state, JobState)
    assert_type(job.is_terminal, bool)
    assert_type(job.error, str | None)
    assert_type(job.created_at, datetime.datetime | None)
    assert_type(job.updated_at, datetime.datetime | None)
    assert_type(job.self_url, str | None)
    assert_type(job.file_url, str | None)
    assert_type(job.to_dict(), dict[str, Any])
    Job(id="a", status="pending", file_urls=())

    Job(id="a")  # type: ignore[call-arg]
    Job("a", "pending")  # type: ignore[call-arg]
    job.status = "success"  # type: ignore[misc]
    job.state = JobState.FAILED  # type: ignore[misc]


def read_queued_job(queued: QueuedJob) -> None:
    assert_type(queued.job, Job)
    assert_type(queued.position, int)
    assert_type(queued.expected_start, datetime.datetime | None)
    assert_type(queued.expected_end, datetime.datetime | None)
    assert_type(queued.earliest_end, datetime.datetime | None)
    assert_type(queued.latest_end, datetime.datetime | None)
    queued.position = 1  # type: ignore[misc]


def use_settings(polling: Polling, retry: Retry) -> None:
    assert_type(polling.initial_interval, float)
    assert_type(polling.max_outage, float | None)
    assert_type(retry.max_attempts, int)

    Polling(0.5)  # type: ignore[call-arg]
    Polling(initial=0.5)  # type: ignore[call-arg]
    Polling(multiplier=None)  # type: ignore[arg-type]
    Retry(max_attempts=1.5)  # type: ignore[arg-type]
    polling.jitter = 0.5  # type: ignore[misc]


def handle_error(error: MoltinJobsError) -> None:
    assert_type(error.retryable, bool)
    assert_type(error.job_id, str | None)
    match error:
        case NoResultsError():
            assert_type(error.job, Job)
        case JobFailedError():
            assert_type(error.job, Job)
            assert_type(error.error, str | None)
        case JobTimeoutError():
            assert_type(error.timeout, float)
            assert_type(error.job, Job | None)
            assert_type(error.polls, int)
            assert_type(error.last_error, MoltinJobsError | None)
            assert_type(error.queued, QueuedJob | None)
        case InvalidResponseError():
            assert_type(error.status, int)
            assert_type(error.body, bytes)
        case JobNotFoundError():
            assert_type(error.job, Job | None)
        case APIError():
            assert_type(error.status, int)
            assert_type(error.errors, tuple[dict[str, Any], ...])
            assert_type(error.request_id, str | None)
            assert_type(error.retry_after, float | None)
            assert_type(error.from_gateway, bool)
        case TransportError() | SessionClosedError():
            use(error)
        case _:
            use(error.code)  # type: ignore[attr-defined]


def use_errors_as_builtins() -> None:
    configuration: type[ValueError] = ConfigurationError
    job_id: type[ValueError] = InvalidJobIdError
    timeout: type[TimeoutError] = JobTimeoutError
    closed: type[RuntimeError] = SessionClosedError
    cancelled: type[JobFailedError] = JobCancelledError
    responses: tuple[type[APIError], ...] = (
        AuthenticationError,
        JobNotFoundError,
        PermissionDeniedError,
        RateLimitError,
        ServerError,
    )
    use(configuration, job_id, timeout, closed, cancelled, responses)
