"""Waits for many jobs, whose progress is printed or shown in a table."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from rich.live import Live

from .._tasks.outcomes import gather_outcomes
from ..errors import MoltinJobsError, single_line
from ..models import Job
from ..session import JobsSession
from .messages import label
from .output import Outcome, Output
from .table import WaitProgress, WaitTable

_REFRESHES_PER_SECOND = 8


class ProgressLines:
    """Lines that show what has changed, for a log."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._started_at = asyncio.get_running_loop().time()
        self._errors: dict[str, MoltinJobsError] = {}
        self._texts: dict[str, str] = {}

    def print_changes(self, wait: WaitProgress) -> None:
        """Print what has changed since the last call for this wait, unless a table shows it."""
        if self._output.is_quiet or self._output.is_live:
            return
        watch, job_id = wait.watch, wait.job_id
        error = watch.last_error if watch else None
        if error is not None and error is not self._errors.get(job_id):
            self._errors[job_id] = error
            self._print(job_id, f"{label(error)}, retrying")
        if isinstance(wait.outcome, MoltinJobsError):
            self._print(job_id, label(wait.outcome))
        elif watch and watch.job and not watch.consecutive_failures:
            self._print(job_id, single_line(watch.job.status))

    def _print(self, job_id: str, text: str) -> None:
        if self._texts.get(job_id) != text:
            self._texts[job_id] = text
            seconds = asyncio.get_running_loop().time() - self._started_at
            self._output.print_note(f"{seconds:7.1f} s  {job_id}  {text}")


async def outcome_of(result: Awaitable[Job]) -> Outcome:
    """Return the job, or the error."""
    try:
        return await result
    except MoltinJobsError as error:
        return error


async def wait_for_outcomes(
    session: JobsSession,
    waits: Sequence[WaitProgress],
    output: Output,
    report: Callable[[str, Outcome], object] = lambda _job_id, _outcome: None,
    *,
    timeout: float | None = None,
) -> list[Outcome]:
    """Wait for jobs at the same time, and return the outcomes in order.

    Args:
        session: an open session.
        waits: one for each job. They show the progress.
        output: output for the progress.
        report: called with each id and outcome as soon as it is known.
        timeout: seconds for each wait.
    """
    clock = asyncio.get_running_loop().time
    lines = ProgressLines(output)

    async def follow(wait: WaitProgress) -> Job:
        wait.watch = session.watch_job(wait.job_id, timeout=timeout)
        async with wait.watch:
            async for job in wait.watch:  # noqa: B007 (the last one is returned)
                wait.changed_at = clock()
                lines.print_changes(wait)
        return job

    async def wait_for_one(wait: WaitProgress) -> Outcome:
        wait.outcome = await outcome_of(follow(wait))
        wait.changed_at = clock()
        lines.print_changes(wait)
        report(wait.job_id, wait.outcome)
        return wait.outcome

    async with _display(waits, lines, session, output):
        return await gather_outcomes(map(wait_for_one, waits), return_exceptions=False)


@contextlib.asynccontextmanager
async def _display(
    waits: Sequence[WaitProgress], lines: ProgressLines, session: JobsSession, output: Output
) -> AsyncIterator[None]:
    """Show a table if there is a terminal, and what changes without an event."""
    table = WaitTable(waits, asyncio.get_running_loop().time)

    async def refresh() -> None:
        while True:
            table.add_sample(session.stats().requests)
            for wait in waits:
                if wait.outcome is None:
                    lines.print_changes(wait)
            await asyncio.sleep(1 / _REFRESHES_PER_SECOND)

    live = Live(
        table,
        console=output.console,
        refresh_per_second=_REFRESHES_PER_SECOND,
        redirect_stdout=False,
    )
    output.is_live = output.has_terminal
    refreshing = asyncio.create_task(refresh())
    try:
        with live if output.is_live else contextlib.nullcontext():
            yield
    finally:
        output.is_live = False
        refreshing.cancel()
        await asyncio.wait([refreshing])
