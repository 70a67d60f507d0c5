"""Celery tasks that export orders. No worker is held while the service runs the job.

For the pools ``prefork`` and ``solo``, which run one task at a time in each process.
"""

import asyncio
import functools
import os

from celery import Celery, Task, chain
from celery.result import AsyncResult
from celery.signals import worker_process_shutdown

from moltin_jobs import JobsSession, MoltinJobsError, NoResultsError

POLL_SECONDS = 30
MAX_POLLS = 720  # six hours

app = Celery("exports", broker=os.environ.get("CELERY_BROKER_URL"))
runner = asyncio.Runner()  # the session of a process needs one event loop for all of its tasks


@functools.cache
def get_session() -> JobsSession:
    """Return the session of this process."""
    return JobsSession.from_env()


@worker_process_shutdown.connect
def close_session(**_: object) -> None:
    """Close the session of this process."""
    runner.run(get_session().close())
    runner.close()


def export_orders(filter: str, destination: str) -> AsyncResult:  # noqa: A002
    """Start an export. The result is the path of the file, or ``None`` if no order matches."""
    # For some seconds, the service may respond 404 for a job that another process has created.
    save = save_export.s(destination).set(countdown=POLL_SECONDS)
    return chain(create_export.s(filter), save).delay()


@app.task
def create_export(filter: str) -> str:  # noqa: A002 (the service's name)
    """Create the job, and return its id, which the broker then keeps."""
    return runner.run(get_session().create_job(filter=filter)).id


@app.task(bind=True, max_retries=MAX_POLLS, acks_late=True, reject_on_worker_lost=True)
def save_export(self: Task, job_id: str, destination: str) -> str | None:
    """Poll the job once. If it has not ended, poll it again later, in any worker."""
    try:
        if runner.run(save_if_ended(job_id, destination)):
            return destination
    except NoResultsError:
        return None
    except MoltinJobsError as error:
        if not error.retryable:
            raise
        raise self.retry(exc=error, countdown=POLL_SECONDS) from None
    raise self.retry(countdown=POLL_SECONDS)


async def save_if_ended(job_id: str, destination: str) -> bool:
    """Save the file if the job has succeeded. Return whether the job has ended."""
    session = get_session()
    job = await session.get_job(job_id)
    if job.is_terminal:
        await session.wait_for_job(job)  # raises an error if the job has failed
        await session.download(job, destination)
    return job.is_terminal
