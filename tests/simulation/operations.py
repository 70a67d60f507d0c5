"""Operations of the actors that are about jobs: waits, lookups, lists and creations."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any

from moltin_jobs import (
    Job,
    JobProblem,
    JobsSession,
    JobTimeoutError,
    JobWatch,
    MoltinJobsError,
    QueuedJob,
)

from .actors import Actor, Operation, check_outcome
from .file_operations import address, download, export, read_file
from .user_code import make_callback
from .wait_check import check_wait
from .worlds import JobPlan

MAX_STEPS = 40
"""Steps of a watch that time out before the actor gives up."""


async def wait(
    actor: Actor,
    session: JobsSession,
    *,
    job: JobPlan,
    timeout: float | None,
    polling: Any,
    **_: Any,
) -> Job:
    """Wait for one job."""
    actor.wait_in_progress = session.watch_job(
        job.id, kind=job.kind, timeout=timeout, polling=polling
    )
    try:
        outcome = await actor.wait_in_progress.wait()  # as wait_for_job() does
    except MoltinJobsError as error:
        check_wait(actor, job, error)
        raise
    finally:
        actor.wait_in_progress = None
    check_wait(actor, job, outcome)
    return outcome


async def waits(
    actor: Actor,
    session: JobsSession,
    *,
    jobs: list[JobPlan],
    timeout: float | None,
    polling: Any,
    return_exceptions: bool,
    **_: Any,
) -> None:
    """Wait for several jobs of one kind."""
    kind = jobs[0].kind
    jobs = [job for job in jobs if job.kind == kind]
    results = await session.wait_for_jobs(
        [job.id for job in jobs],
        kind=kind,
        timeout=timeout,
        polling=polling,
        return_exceptions=return_exceptions,  # type: ignore[call-overload]
    )
    for job, outcome in zip(jobs, results, strict=True):
        check_outcome(actor, outcome)
        check_wait(actor, job, outcome)


async def watch(
    actor: Actor,
    session: JobsSession,
    *,
    job: JobPlan,
    timeout: float | None,
    polling: Any,
    heartbeat: float | None,
    in_block: bool,
    **options: Any,
) -> None:
    """Watch a job, perhaps with a timeout for each step."""
    watch = session.watch_job(
        job.id, kind=job.kind, timeout=timeout, polling=polling, heartbeat=heartbeat
    )
    if not in_block:
        actor.open_watch_ends_at = math.inf if timeout is None else actor.context.now() + timeout
    deadline = math.inf
    if timeout is not None:
        seconds = timeout + actor.context.slack(actor.plan.session)
        deadline = actor.started_at + seconds
        asyncio.get_running_loop().call_later(seconds, check_watch_tasks, actor, watch)
    async with watch if in_block else contextlib.nullcontext():
        await _follow(actor, watch, heartbeat, deadline, **options)


def check_watch_tasks(actor: Actor, watch: JobWatch) -> None:
    """Check that no task of a watch is left after its deadline."""
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if frame is not None and frame.f_locals.get("self") is watch:
            actor.context.violate(f"{actor}: a task is left after the deadline of the watch")


async def _follow(
    actor: Actor,
    watch: JobWatch,
    heartbeat: float | None,
    deadline: float,
    *,
    leave_after: int | None,
    step_timeout: float | None,
    pause: float,
    **_: Any,
) -> None:
    steps = seen = 0
    status = ""
    while steps < MAX_STEPS and (leave_after is None or seen < leave_after):
        steps += 1
        begin = actor.context.now()
        try:
            async with asyncio.timeout(step_timeout):
                found = await watch.__anext__()
        except StopAsyncIteration:
            if watch.job is None or not watch.job.is_terminal:
                actor.context.violate(f"{actor} ends without a terminal status")
            return
        except TimeoutError as error:
            if isinstance(error, JobTimeoutError):
                raise
            actor.context.interrupt(actor.plan.session)
            continue
        if actor.context.now() > max(begin, deadline):
            actor.context.violate(f"{actor}: a step has ended after the deadline")
        if found.id != watch.job_id:
            actor.context.violate(f"{actor}: {found!r} for {watch.job_id}")
        if found.status == status and heartbeat is None:
            actor.context.violate(f"{actor}: {status!r} twice in a row")
        status = found.status
        seen += 1
        if pause and not found.is_terminal:
            await asyncio.sleep(pause)


async def outcomes(
    actor: Actor,
    session: JobsSession,
    *,
    jobs: list[JobPlan],
    timeout: float | None,
    polling: Any,
    leave_after: int | None,
    **_: Any,
) -> None:
    """Wait for several jobs, and perhaps leave early."""
    kind = jobs[0].kind
    left = {job.id: job for job in jobs if job.kind == kind}
    async with session.as_completed(
        list(left), kind=kind, timeout=timeout, polling=polling
    ) as results:
        seen = 0
        async for job_id, outcome in results:
            check_outcome(actor, outcome)
            check_wait(actor, left.pop(job_id), outcome)
            seen += 1
            if seen == leave_after:
                return
    if left:
        actor.context.violate(f"{actor}: no outcome for {sorted(left)}")


async def lookup(actor: Actor, session: JobsSession, *, job: JobPlan, **_: Any) -> Job:
    """Look up a job."""
    found = await session.get_job(job.id, kind=job.kind)
    if found.id != job.id:
        actor.context.violate(f"{actor}: {found!r} for {job.id}")
    return found


async def lookups(
    actor: Actor,
    session: JobsSession,
    *,
    jobs: list[JobPlan],
    return_exceptions: bool,
    **_: Any,
) -> None:
    """Look up several jobs."""
    kind = jobs[0].kind
    ids = [job.id for job in jobs if job.kind == kind]
    results = await session.get_jobs(
        ids,
        kind=kind,
        return_exceptions=return_exceptions,  # type: ignore[call-overload]
    )
    for job_id, outcome in zip(ids, results, strict=True):
        check_outcome(actor, outcome)
        if isinstance(outcome, Job) and outcome.id != job_id:
            actor.context.violate(f"{actor}: {outcome!r} for {job_id}")


async def busy(actor: Actor, session: JobsSession, *, job: JobPlan, **_: Any) -> None:
    """Look up a job many times."""
    for _number in range(250):
        with contextlib.suppress(MoltinJobsError):
            await session.get_job(job.id, kind=job.kind)


async def list_jobs(actor: Actor, session: JobsSession, *, job: JobPlan, **_: Any) -> list[Job]:
    """List the jobs of a kind."""
    jobs = await session.list_jobs(kind=job.kind)
    missing = {one.id for one in actor.context.world.jobs if is_listed(actor, one, job.kind)}
    if missing := missing - {one.id for one in jobs}:
        actor.context.violate(f"{actor}: {sorted(missing)} are not in the list")
    return jobs


def is_listed(actor: Actor, job: JobPlan, kind: str) -> bool:
    """Return whether a list, which has just been requested, must contain a job."""
    is_there = job.at < actor.started_at and job.expires_at > actor.context.now()
    return job.kind == kind and is_there and not kind.startswith("release:")


async def queue(actor: Actor, session: JobsSession, **_: Any) -> list[QueuedJob]:
    """Get the queue."""
    return await session.get_queue()


async def create(actor: Actor, session: JobsSession, *, allow_duplicate: bool, **_: Any) -> Job:
    """Create a job."""
    actor.creation_key = f"eq(number,{actor.plan.number})"
    return await session.create_job(filter=actor.creation_key, allow_duplicate=allow_duplicate)


async def publish(
    actor: Actor, session: JobsSession, *, timeout: float | None, callback: str, **_: Any
) -> Job:
    """Publish a catalog."""
    actor.creation_key = f"catalog-{actor.plan.number}"
    return await session.publish_catalog(
        actor.creation_key, timeout=timeout, on_created=make_callback(callback)
    )


async def problems(
    actor: Actor, session: JobsSession, *, job: JobPlan, **_: Any
) -> list[JobProblem]:
    """Get the problems of a job."""
    found = await session.get_job_problems(job.id, kind=job.kind)
    has_problems = job.fails and job.kind in ("subscription-import", "inventory-import")
    if has_problems and not found and actor.context.end_of(job.id) < actor.started_at:
        actor.context.violate(f"{actor}: no problems of {job.id}")
    return found


async def cancel(actor: Actor, session: JobsSession, *, job: JobPlan, **_: Any) -> None:
    """Cancel a job."""
    await session.cancel_job(job.id, kind=job.kind)


OPERATIONS: dict[str, Operation] = {
    "lookup": lookup,
    "lookups": lookups,
    "wait": wait,
    "waits": waits,
    "watch": watch,
    "outcomes": outcomes,
    "list": list_jobs,
    "queue": queue,
    "create": create,
    "export": export,
    "publish": publish,
    "download": download,
    "file": read_file,
    "problems": problems,
    "cancel": cancel,
    "address": address,
    "busy": busy,
}
