"""Waits that show their progress: live on a terminal, else as lines."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from rich.live import Live

from ..errors import JobFailedError, MoltinJobsError
from ..kinds import ORDERS
from ..models import Job
from ..session import JobsSession
from .exit_codes import Outcome
from .output import Output, in_background
from .places import find_places
from .table import Wait, WaitTable

REFRESH_SECONDS = 1 / 8
"""Seconds between two updates of the display."""
QUEUE_SECONDS = 15.0
"""Seconds between two requests of the job queue."""
LONG_LIST = 2_000
"""Number of jobs whose list has about 1 MiB."""
LONG_LIST_SECONDS = 300.0
"""Seconds until a longer list is requested again."""


async def outcome_of(result: Awaitable[Job | Path]) -> Outcome:
    """Return the result or the error."""
    try:
        return await result
    except MoltinJobsError as error:
        return error


async def wait_for_outcomes(
    session: JobsSession,
    waits: Sequence[Wait],
    output: Output,
    report: Callable[[str, Outcome], object] = lambda _job_id, _outcome: None,
    *,
    timeout: float | None = None,
    first: bool = False,
) -> list[Outcome]:
    """Wait for jobs at the same time, and return the outcomes in order.

    Args:
        session: an open session.
        waits: one for each job. They show the progress.
        output: output for the progress.
        report: called with each id and outcome as soon as it is known.
        timeout: seconds for each wait.
        first: whether to stop when the first job has ended. A wait that fails does not count.
    """
    by_id = {wait.job_id: wait for wait in waits}
    jobs = [Job(id=wait.job_id, kind=wait.kind.name, status="") for wait in waits]
    async with (
        session.as_completed(jobs, timeout=timeout) as outcomes,
        _display(session, waits, output) as update,
    ):
        for watch in outcomes.watches:
            by_id[watch.job_id].watch = watch
        async for job, outcome in outcomes:
            wait = by_id[job.id]
            wait.outcome = outcome
            update(wait)
            report(job.id, outcome)
            if first and isinstance(outcome, Job | JobFailedError):
                break
    return [wait.outcome for wait in waits if wait.outcome is not None]


@contextlib.asynccontextmanager
async def _display(
    session: JobsSession, waits: Sequence[Wait], output: Output
) -> AsyncIterator[Callable[[Wait], None]]:
    """Show a live table if there is a terminal, else a line for each change.

    Gives a function that updates a wait immediately.
    """
    clock = asyncio.get_running_loop().time
    # Only a command that can be continued gives advice. The jobs of the demo end with it.
    can_continue = output.advice_on_interrupt is not None
    jobs = "the job goes" if len(waits) == 1 else "the jobs go"
    table = WaitTable(waits, clock, f"Ctrl-C stops the wait, {jobs} on" if can_continue else "")
    started_at = clock()
    live = Live(table, console=output.console, auto_refresh=False, redirect_stdout=False)

    def update(wait: Wait) -> None:
        if wait.update(clock()) and not output.is_quiet and not output.is_live:
            status = wait.status[0] + (", retrying" if wait.is_retrying else "")
            output.print_note(f"{clock() - started_at:7.1f} s  {wait.job_id}  {status}")

    async def refresh() -> None:
        while True:
            table.add_sample(session.stats().requests)
            for wait in waits:
                update(wait)
            if output.is_live:
                live.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    output.is_live = output.has_terminal
    tasks = [asyncio.create_task(refresh())]
    if output.is_live and any(wait.kind is ORDERS for wait in waits):
        tasks.append(asyncio.create_task(_follow_queue(session, waits, table)))
    try:
        with live if output.is_live else contextlib.nullcontext():
            try:
                yield update
            finally:
                table.hint = ""  # the table is drawn once more, and stays
    finally:
        output.is_live = False
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _follow_queue(session: JobsSession, waits: Sequence[Wait], table: WaitTable) -> None:
    """Show the places of order jobs in the job queue, from one list every 15 s.

    There is no request until a poll has shown a job that has not ended. The waits report failures
    of the service themselves.
    """
    in_background.set(True)
    while True:
        interval = REFRESH_SECONDS
        if any(wait.kind is ORDERS and wait.is_open for wait in waits):
            interval = QUEUE_SECONDS
            try:
                jobs = await session.list_jobs()
            except MoltinJobsError as error:
                if not error.retryable:
                    return
            else:
                table.set_places(find_places(jobs))
                if len(jobs) > LONG_LIST:
                    interval = LONG_LIST_SECONDS
        await asyncio.sleep(interval)
