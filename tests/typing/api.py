"""Each line here is a promise to a user's own type checker."""

import asyncio
import datetime
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import assert_type

import aiohttp

from moltin_jobs import (
    APIError,
    ClientCredentials,
    Job,
    JobFailedError,
    JobNotFoundError,
    JobsSession,
    JobState,
    JobTimeoutError,
    Limiter,
    MoltinJobsError,
    Polling,
    Retry,
    wait_for_job,
)


class Budget:
    """Anything with ``acquire`` is a limiter; it need not inherit."""

    async def acquire(self) -> None:
        await asyncio.sleep(0)


async def vault() -> str:
    return "token"


async def sessions(http: aiohttp.ClientSession) -> None:
    limiter: Limiter = Budget()
    JobsSession("token", rate_limit=limiter, http=http, headers={"X-Team": "orders"})
    JobsSession(vault, rate_limit=None, retry=Retry(max_tries=1), polling=Polling(outage=None))
    JobsSession(ClientCredentials("id", "secret"))
    assert_type(JobsSession.from_env(rate_limit=5), JobsSession)
    JobsSession(5)  # type: ignore[arg-type]
    JobsSession("token", rate_limit=2.5)  # type: ignore[arg-type]
    async with JobsSession("token") as session:
        assert_type(session, JobsSession)


async def lookups(session: JobsSession) -> None:
    assert_type(await session.get_job("a"), Job)
    assert_type(await session.get_job(uuid.uuid4()), Job)
    assert_type(await session.get_jobs(["a"]), list[Job])
    assert_type(await session.get_jobs(["a"], return_exceptions=False), list[Job])
    assert_type(await session.get_jobs(["a"], return_exceptions=True), list[Job | Exception])


async def waits(session: JobsSession) -> None:
    assert_type(await session.wait_for_job("a", timeout=60, polling=Polling()), Job)
    assert_type(await wait_for_job(session, "a", timeout=None), Job)
    assert_type(await session.wait_for_jobs(job_id for job_id in ("a", "b")), list[Job])
    outcomes = await session.wait_for_jobs(["a"], return_exceptions=True)
    assert_type(outcomes, list[Job | Exception])
    changes = session.watch_job("a")
    assert_type(changes, AsyncGenerator[Job, None])
    async for job in changes:
        assert_type(job, Job)
    await session.wait_for_job("a", 60)  # type: ignore[call-arg]


async def exports(session: JobsSession, job: Job) -> None:
    assert_type(await session.create_job(filter="gt(created_at,2018-09-01)"), Job)
    assert_type(await session.list_jobs(), list[Job])
    assert_type(await session.get_job_file("a"), str)
    assert_type(await session.download(job, "a.csv", progress=print, max_bytes=1 << 30), Path)
    assert_type(await session.download(uuid.uuid4(), Path("a.csv")), Path)
    assert_type(await session.export_orders(destination="a.csv", timeout=60), Job)
    JobsSession("token", poll_with="auto")
    JobsSession("token", poll_with="lists")  # type: ignore[arg-type]


def fields(job: Job) -> None:
    assert_type(job.id, str)
    assert_type(job.status, str)
    assert_type(job.state, JobState)
    assert_type(job.is_terminal, bool)
    assert_type(job.error, str | None)
    assert_type(job.created_at, datetime.datetime | None)
    assert_type(job.file_url, str | None)
    job.status = "success"  # type: ignore[misc]


def errors(error: MoltinJobsError) -> None:
    assert_type(error.temporary, bool)
    match error:
        case JobFailedError():
            assert_type(error.job, Job)
            assert_type(error.error, str | None)
        case JobTimeoutError():
            assert_type(error.job, Job | None)
            assert_type(error.last_error, MoltinJobsError | None)
        case JobNotFoundError():
            assert_type(error.job_id, str)
        case APIError():
            assert_type(error.status, int)
            assert_type(error.request_id, str | None)
            assert_type(error.retry_after, float | None)
        case _:
            pass
