"""A Prefect flow that exports the orders of many days. All of its tasks share one session."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import DEFAULT, NO_CACHE
from prefect.states import Completed, Failed, State

from moltin_jobs import JobsSession, MoltinJobsError, NoResultsError


@task(cache_policy=DEFAULT - "session", persist_result=True)
async def create_export(session: JobsSession, day: date) -> str:
    """Create the job of a day, and return its id, which retries of the flow read again."""
    window = f"ge(created_at,{day}):lt(created_at,{day + timedelta(days=1)})"
    return (await session.create_job(filter=window)).id


@task(cache_policy=NO_CACHE)
async def save_export(session: JobsSession, job_id: str, destination: Path) -> Path | State:
    """Wait for a job, and save its file. If no order matches, end as ``Skipped``."""
    try:
        job = await session.wait_for_job(job_id, timeout=6 * 3600)
    except NoResultsError as error:
        return Completed(name="Skipped", message=str(error))
    return await session.download(job, destination)


@flow(retries=2, retry_delay_seconds=60)
async def export_days(first: date, days: int, folder: Path) -> list[State]:
    """Export each day to a file of its own. The flow fails at the end if a day has failed."""
    async with JobsSession.from_env(poll_by="list") as session:

        async def export(day: date) -> State:
            try:
                job_id = await create_export(session, day)
            except MoltinJobsError as error:  # the other days go on
                return Failed(message=str(error))
            path = folder / f"orders-{day}.csv"
            return await save_export(session, job_id, path, return_state=True)

        return await asyncio.gather(*(export(first + timedelta(days=n)) for n in range(days)))


if __name__ == "__main__":
    today = datetime.now(UTC).date()
    asyncio.run(export_days(today - timedelta(days=7), 7, Path("exports")))
