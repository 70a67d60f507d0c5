"""Files of jobs, saved or written to stdout, with a progress bar if there is a terminal."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

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

from .._http.downloads import ProgressCallback
from ..errors import ConfigurationError, JobTimeoutError, MoltinJobsError, single_line
from ..kinds import ORDERS, JobKind
from ..session import JobsSession
from .exit_codes import Outcome, exit_code
from .output import STDOUT, Output, write_bytes
from .progress import wait_for_outcomes
from .table import Wait

_MIN_WIDTH_FOR_BAR = 60
"""Columns from which there is room for a bar beside the numbers of a download."""


async def save_file(
    session: JobsSession,
    job_id: str,
    path: Path,
    output: Output,
    *,
    kind: JobKind = ORDERS,
    file_index: int | None = None,
    timeout: float | None = None,
    started_at: float | None = None,
    wait: bool = False,
) -> Outcome:
    """Save the file of a job, or write it to stdout, and return ``path`` or why there is no file.

    Args:
        session: an open session.
        job_id: id of the job.
        path: path of the file to write, or `STDOUT`.
        output: output for the progress.
        kind: kind of the job.
        file_index: number of the file, from 0.
        timeout: seconds for all of it.
        started_at: moment of the loop's clock from which the timeout counts. Default: now.
        wait: whether to wait for the job first.
    """
    waiting = Wait(job_id, kind=kind)
    now = asyncio.get_running_loop().time()
    deadline = None if timeout is None else (started_at or now) + timeout
    try:
        async with asyncio.timeout_at(deadline):
            if wait:
                (outcome,) = await wait_for_outcomes(session, [waiting], output)
                if exit_code(outcome) != 0:
                    return outcome
            if path == STDOUT:
                await _print_file(session, job_id, output, kind=kind, file_index=file_index)
            else:
                await _save_file(session, job_id, path, output, kind=kind, file_index=file_index)
    except MoltinJobsError as error:
        return error
    except TimeoutError:
        has_ended = not wait or bool(waiting.job and waiting.job.is_terminal)
        return JobTimeoutError(
            job_id,
            timeout=timeout or 0.0,
            kind=kind.name,
            job=waiting.job,
            outcome="was not saved" if has_ended else "did not end",
            advice="Use a longer timeout.",
        )
    return path


async def _save_file(
    session: JobsSession,
    job_id: str,
    path: Path,
    output: Output,
    *,
    kind: JobKind,
    file_index: int | None,
) -> None:
    with _progress_bar(single_line(path.name), output, is_visible=output.has_terminal) as show:
        try:
            await session.download(job_id, path, kind=kind, file_index=file_index, progress=show)
        except OSError as error:
            file = f"The file of {kind.label} {job_id}"
            reason = f"{path}: {error.strerror}. {file} is still available."
            raise ConfigurationError(reason) from None


async def _print_file(
    session: JobsSession, job_id: str, output: Output, *, kind: JobKind, file_index: int | None
) -> None:
    is_on_terminal = sys.stdout is not None and sys.stdout.isatty()  # with the bar it would mix
    is_visible = output.has_terminal and not is_on_terminal
    async with session.open_file(job_id, kind=kind, file_index=file_index) as file:
        with _progress_bar(single_line(job_id), output, is_visible=is_visible) as show:
            received = 0
            async for chunk in file:
                write_bytes(chunk)
                received += len(chunk)
                show(received, file.length)


@contextlib.contextmanager
def _progress_bar(name: str, output: Output, *, is_visible: bool) -> Iterator[ProgressCallback]:
    """Give a function that shows the progress of one file, in one line at any width."""
    width = output.console.width
    columns: list[ProgressColumn] = [
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, max_width=width // 5),
        ),
        DownloadColumn(table_column=Column(no_wrap=True)),
        TransferSpeedColumn(Column(no_wrap=True)),
        TimeRemainingColumn(elapsed_when_finished=True),
    ]
    if width >= _MIN_WIDTH_FOR_BAR:
        columns.insert(1, BarColumn(bar_width=None))  # takes the width that the others leave
    bars = Progress(*columns, console=output.console, expand=True)
    bar = bars.add_task(name, total=None)

    def show(received: int, length: int | None) -> None:
        bars.update(bar, completed=received, total=length)

    with bars if is_visible else contextlib.nullcontext():
        yield show
