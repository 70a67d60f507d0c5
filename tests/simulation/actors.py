"""Actors of a world: each makes one call of a session, and checks what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import math
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import attrs

from moltin_jobs import (
    Job,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobsSession,
    JobState,
    JobTimeoutError,
    JobWatch,
    MoltinJobsError,
    SessionClosedError,
)

from .service import BIG, content_of_job
from .user_code import UserError
from .worlds import BIG_JOB, ActorPlan, JobPlan

MAX_STEPS = 40
"""Steps of a watch that time out before the actor gives up."""


class Run(Protocol):
    """What an actor needs of the run."""

    directory: Path
    is_calm: bool
    is_stubborn: bool
    """Whether callables of the user ignore cancellations."""
    disk_seconds: float

    def now(self) -> float:
        """Return the time since the start."""

    def violate(self, text: str) -> None:
        """Report a violation."""

    def log(self, text: str) -> None:
        """Add a line to the trace."""

    def check_error(self, error: BaseException, what: str) -> None:
        """Check an exception that a call has raised."""

    def check_wait(self, actor: Actor, job: JobPlan, outcome: Job | MoltinJobsError) -> None:
        """Check that a wait has ended with the end of its job."""


@attrs.define(eq=False)
class Actor:
    """A call in progress, or its result."""

    plan: ActorPlan
    run: Run
    session: JobsSession
    started_at: float = 0.0
    ended_at: float | None = None
    cancelled_at: float | None = None
    cancellations: int = 0
    outcome: str = "result"
    """Name of the class of the exception, if one was raised."""
    watch: JobWatch | None = None
    """Wait in progress of the operation ``wait``."""
    created: str | None = None
    """Filter, or id of the catalog, by which the service records what this call has created."""
    watch_deadline: float = -math.inf
    """Moment at which everything of a watch that was left open has ended."""

    def __str__(self) -> str:
        return f"actor {self.plan.number} ({self.plan.operation})"

    async def act(self) -> None:
        """Make the call."""
        task = asyncio.current_task()
        assert task is not None
        self.started_at = self.run.now()
        self.run.log(f"{self} starts")
        error = await self._call()
        self.ended_at = self.run.now()
        if error is not None:
            self.outcome = type(error).__name__
            self.run.check_error(error, str(self))
        self.run.log(f"{self} ends: {self.outcome}")
        if task.cancelling() != self.cancellations:
            self.run.violate(
                f"{self}: cancelling() is {task.cancelling()} after {self.cancellations} "
                f"cancellations"
            )
        self._check_end()

    async def _call(self) -> BaseException | None:
        """Return the exception of the call."""
        try:
            await OPERATIONS[self.plan.operation](self, self.session, **self.plan.options)
        except asyncio.CancelledError as error:
            if not self.cancellations:
                self.run.violate(f"{self}: CancelledError without a cancellation")
            return error
        except Exception as error:  # noqa: BLE001 (it is checked)
            if not isinstance(error, MoltinJobsError | UserError):
                self.run.violate(f"{self}: {traceback.format_exc(limit=-4)}")
            return error
        if self.cancellations and not self.run.is_stubborn:
            self.run.violate(f"{self} was cancelled and has ended as if it was not")
        return None

    def cancel(self, task: asyncio.Task[None], passes: int) -> None:
        """Cancel the task, after some passes through the event loop."""
        if passes:
            asyncio.get_running_loop().call_soon(self.cancel, task, passes - 1)
        elif not task.done() and task.cancel():
            self.cancelled_at = self.cancelled_at or self.run.now()
            self.cancellations += 1

    def _check_end(self) -> None:
        """Check that the call has ended in time."""
        assert self.ended_at is not None
        if self.run.is_stubborn:
            return
        slack = 1e-6 + self.run.disk_seconds
        if self.cancelled_at is not None and self.ended_at > self.cancelled_at + slack:
            seconds = self.ended_at - self.cancelled_at
            self.run.violate(f"{self} has ended {seconds:.6f} s after its cancellation")
        timeout = self.plan.options["timeout"]
        if self.plan.operation in WITH_TIMEOUT and timeout is not None:
            late = self.ended_at - self.started_at - timeout
            if late > slack:
                self.run.violate(f"{self} has ended {late:.6f} s after its deadline")


def check_wait(actor: Actor, job: JobPlan, outcome: Any) -> None:
    """Check the outcome of a wait against what the service knows."""
    if not isinstance(outcome, Job | MoltinJobsError):
        return
    run = actor.run
    fails = job.fails and job.kind in ("order", "pxm", "subscription-import", "inventory-import")
    if isinstance(outcome, Job):
        if outcome.id != job.id or outcome.state is not JobState.SUCCEEDED or fails:
            run.violate(f"{actor}: {outcome!r} for {job.id}")
    elif isinstance(outcome, JobCancelledError):
        if job.kind != "pxm":
            run.violate(f"{actor}: {outcome!r}")
    elif isinstance(outcome, JobFailedError):
        if not fails:
            run.violate(f"{actor}: {outcome!r} for {job.id}, which does not fail")
    elif isinstance(outcome, JobNotFoundError):
        is_there = job.at < actor.started_at and run.now() < job.expires_at - 1e-6
        if run.is_calm and is_there:
            run.violate(f"{actor}: {outcome!r} for {job.id}, which is there")
    run.check_wait(actor, job, outcome)


async def wait(
    actor: Actor,
    session: JobsSession,
    *,
    job: JobPlan,
    timeout: float | None,
    polling: Any,
    **_: Any,
) -> None:
    """Wait for one job."""
    actor.watch = session.watch_job(job.id, kind=job.kind, timeout=timeout, polling=polling)
    try:
        outcome = await actor.watch.wait()  # as wait_for_job() does
    except MoltinJobsError as error:
        check_wait(actor, job, error)
        raise
    finally:
        actor.watch = None
    check_wait(actor, job, outcome)


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


def check_outcome(actor: Actor, outcome: Job | BaseException) -> None:
    """Check an exception that was returned."""
    if isinstance(outcome, BaseException):
        actor.run.check_error(outcome, str(actor))
        if not isinstance(outcome, MoltinJobsError | UserError):
            actor.run.violate(f"{actor}: {outcome!r}")


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
        actor.watch_deadline = math.inf if timeout is None else actor.run.now() + timeout
    if timeout is not None:
        loop = asyncio.get_running_loop()
        loop.call_later(timeout + 1e-6 + actor.run.disk_seconds, check_tasks, actor, watch)
    async with watch if in_block else contextlib.nullcontext():
        await _follow(actor, watch, heartbeat, **options)


def check_tasks(actor: Actor, watch: JobWatch) -> None:
    """Check that no task of a watch is left after its deadline."""
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if frame is not None and frame.f_locals.get("self") is watch and not actor.run.is_stubborn:
            actor.run.violate(f"{actor}: a task is left after the deadline of the watch")


async def _follow(
    actor: Actor,
    watch: JobWatch,
    heartbeat: float | None,
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
        try:
            async with asyncio.timeout(step_timeout):
                found = await watch.__anext__()
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            if isinstance(error, JobTimeoutError):
                raise
            continue
        if found.status == status and heartbeat is None:
            actor.run.violate(f"{actor}: {status!r} twice in a row")
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
        actor.run.violate(f"{actor}: no outcome for {sorted(left)}")


async def lookup(actor: Actor, session: JobsSession, *, job: JobPlan, **_: Any) -> None:
    """Look up a job."""
    found = await session.get_job(job.id, kind=job.kind)
    if found.id != job.id:
        actor.run.violate(f"{actor}: {found!r} for {job.id}")


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
            actor.run.violate(f"{actor}: {outcome!r} for {job_id}")


async def busy(actor: Actor, session: JobsSession, *, job: JobPlan, **_: Any) -> None:
    """Look up a job many times."""
    for _number in range(250):
        with contextlib.suppress(MoltinJobsError):
            await session.get_job(job.id, kind=job.kind)


async def list_jobs(actor: Actor, session: JobsSession, *, job: JobPlan, **_: Any) -> None:
    """List the jobs of a kind."""
    await session.list_jobs(kind=job.kind)


async def queue(actor: Actor, session: JobsSession, **_: Any) -> None:
    """Get the queue."""
    await session.get_queue()


async def create(actor: Actor, session: JobsSession, *, allow_duplicate: bool, **_: Any) -> None:
    """Create a job."""
    actor.created = f"eq(number,{actor.plan.number})"
    await session.create_job(filter=actor.created, allow_duplicate=allow_duplicate)


def make_callback(name: str) -> Callable[[Job], Awaitable[None] | None] | None:
    """Return an ``on_created``."""

    async def slow(job: Job) -> None:
        await asyncio.sleep(1.0)

    async def quick(job: Job) -> None:
        pass

    def fails(job: Job) -> None:
        raise UserError

    return {"none": None, "async": quick, "fails": fails, "slow": slow}[name]


async def export(
    actor: Actor,
    session: JobsSession,
    *,
    timeout: float | None,
    destination: bool,
    callback: str,
    **_: Any,
) -> None:
    """Export orders."""
    actor.created = f"eq(number,{actor.plan.number})"
    with checked_file(actor) as path:
        job = await session.export_orders(
            filter=actor.created,
            destination=path if destination else None,
            timeout=timeout,
            on_created=make_callback(callback),
        )
        if destination:
            check_content(actor, path.read_bytes(), job.id)


async def publish(
    actor: Actor, session: JobsSession, *, timeout: float | None, callback: str, **_: Any
) -> None:
    """Publish a catalog."""
    actor.created = f"catalog-{actor.plan.number}"
    await session.publish_catalog(
        actor.created, timeout=timeout, on_created=make_callback(callback)
    )


async def download(
    actor: Actor,
    session: JobsSession,
    *,
    job: JobPlan,
    timeout: float | None,
    max_bytes: int | None,
    **_: Any,
) -> None:
    """Download a file."""
    with checked_file(actor) as path:
        await session.download(
            job.id,
            path,
            kind=job.kind,
            file_index=index_of(job),
            timeout=timeout,
            max_bytes=max_bytes,
        )
        check_content(actor, path.read_bytes(), job.id)


def index_of(job: JobPlan) -> int | None:
    """Return the number of the file to read."""
    return 1 if job.kind == "pxm" else None


@contextlib.contextmanager
def checked_file(actor: Actor) -> Any:
    """Give a path whose file is whole or unchanged at the end, with nothing beside it."""
    directory = actor.run.directory / f"{actor.plan.number}"
    directory.mkdir(exist_ok=True)
    path = directory / "file.csv"
    path.write_bytes(b"old")
    try:
        yield path
    except BaseException as error:
        content = path.read_bytes()
        # The last step, in a thread, cannot be interrupted.
        is_interrupted = isinstance(
            error, asyncio.CancelledError | JobTimeoutError | SessionClosedError
        )
        if content != b"old" and not (is_interrupted and actor.run.disk_seconds):
            actor.run.violate(f"{actor} has failed, and {len(content)} bytes are saved")
        raise
    finally:
        others = [one.name for one in directory.iterdir() if one != path]
        if others and not actor.run.disk_seconds:  # else its removal may take a while
            actor.run.violate(f"{actor} leaves {others}")


def check_content(actor: Actor, content: bytes, job_id: str) -> None:
    """Check that a file is whole."""
    if job_id == BIG_JOB:
        if len(content) != BIG:
            actor.run.violate(f"{actor}: {len(content)} bytes of the big file")
        return
    number = "2" if actor.plan.options["job"].kind == "pxm" else "1"
    parts = ["delta", number] if actor.plan.operation != "export" else ["1"]
    if all(content != content_of_job(job_id, part) for part in parts):
        actor.run.violate(f"{actor}: {len(content)} bytes of {job_id} are not its file")


async def read_file(
    actor: Actor,
    session: JobsSession,
    *,
    job: JobPlan,
    reader: str,
    pause: float,
    max_bytes: int | None,
    leave_after: int | None,
    **_: Any,
) -> None:
    """Read a file without a disk."""
    async with session.open_file(
        job.id, kind=job.kind, file_index=index_of(job), max_bytes=max_bytes
    ) as file:
        if reader == "all":
            check_content(actor, await file.read(), job.id)
            return
        items: Any = file.rows() if reader == "rows" else file
        content = b""
        async for number, item in enumerate_items(items):
            if reader == "chunks" and job.id != BIG_JOB:
                content += bytes(item)
            if number == leave_after:
                return
            if pause and number < 5:
                await asyncio.sleep(pause)
        if reader == "chunks" and job.id != BIG_JOB:
            check_content(actor, content, job.id)


async def enumerate_items(items: Any) -> AsyncIterator[tuple[int, Any]]:
    """Number the items from 1."""
    number = 0
    async for item in items:
        number += 1
        yield number, item


async def problems(actor: Actor, session: JobsSession, *, job: JobPlan, **_: Any) -> None:
    """Get the problems of a job."""
    await session.get_job_problems(job.id, kind=job.kind)


async def cancel(actor: Actor, session: JobsSession, *, job: JobPlan, **_: Any) -> None:
    """Cancel a job."""
    await session.cancel_job(job.id, kind=job.kind)


async def address(actor: Actor, session: JobsSession, *, job: JobPlan, **_: Any) -> None:
    """Get the address of a file."""
    await session.get_file_url(job.id, kind=job.kind, file_index=index_of(job))


WITH_TIMEOUT = ("wait", "waits", "outcomes", "export", "publish", "download")
OPERATIONS: dict[str, Callable[..., Awaitable[None]]] = {
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
