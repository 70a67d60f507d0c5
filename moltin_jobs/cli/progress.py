"""Waits and downloads that show their progress: live on a terminal, else as lines."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

from ..errors import ConfigurationError, MoltinJobsError, single_line
from ..kinds import ORDERS, JobKind
from ..models import Job
from ..session import JobsSession
from .exit_codes import Outcome
from .output import Output
from .table import Wait, WaitTable

REFRESH_SECONDS = 1 / 8
"""Seconds between two updates of the display."""
_MIN_WIDTH_FOR_BAR = 60
"""Columns from which there is room for a bar beside the numbers of a download."""


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
) -> list[Outcome]:
    """Wait for jobs at the same time, and return the outcomes in order.

    Args:
        session: an open session.
        waits: one for each job. They show the progress.
        output: output for the progress.
        report: called with each id and outcome as soon as it is known. If it raises an exception,
            the other waits are cancelled.
        timeout: seconds for each wait.
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
    return [wait.outcome for wait in waits if wait.outcome is not None]


class _FirstEndedError(Exception):
    """The first job has ended."""


async def wait_for_first(
    session: JobsSession, waits: Sequence[Wait], output: Output, *, timeout: float | None
) -> tuple[str, Outcome]:
    """Wait until the first of several jobs has ended, and return its id and outcome."""

    def stop(_job_id: str, _outcome: Outcome) -> None:
        raise _FirstEndedError

    with contextlib.suppress(_FirstEndedError):
        await wait_for_outcomes(session, waits, output, stop, timeout=timeout)
    return next((wait.job_id, wait.outcome) for wait in waits if wait.outcome is not None)


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
    refreshing = asyncio.create_task(refresh())
    try:
        with live if output.is_live else contextlib.nullcontext():
            try:
                yield update
            finally:
                table.hint = ""  # the table is drawn once more, and stays
    finally:
        output.is_live = False
        refreshing.cancel()
        await asyncio.wait([refreshing])


def _progress_bars(console: Console) -> Progress:
    """Make a progress display that has one line at any width."""
    name = Column(no_wrap=True, max_width=console.width // 4)
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False, table_column=name),
        DownloadColumn(table_column=Column(no_wrap=True)),
        TransferSpeedColumn(Column(no_wrap=True)),
        TimeRemainingColumn(elapsed_when_finished=True),
    ]
    if console.width >= _MIN_WIDTH_FOR_BAR:
        columns.insert(1, BarColumn(bar_width=None))  # takes the width that the others leave
    return Progress(*columns, console=console, expand=True)


async def save_file(
    session: JobsSession,
    job_id: str,
    path: Path,
    output: Output,
    *,
    kind: JobKind = ORDERS,
    file_index: int | None = None,
    timeout: float | None = None,
) -> Path:
    """Save the file of a job, with a progress bar if there is a terminal."""
    bars = _progress_bars(output.console)
    bar = bars.add_task(single_line(path.name), total=None)

    def show(received: int, length: int | None) -> None:
        bars.update(bar, completed=received, total=length)

    with bars if output.has_terminal else contextlib.nullcontext():
        try:
            return await session.download(
                job_id, path, kind=kind, file_index=file_index, progress=show, timeout=timeout
            )
        except MoltinJobsError:  # JobTimeoutError is also an OSError
            raise
        except OSError as error:
            file = f"The file of {kind.label} {job_id}"
            reason = f"{path}: {error.strerror}. {file} is still available."
            raise ConfigurationError(reason) from None
