"""Downloads and exports."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from .._api.failures import MAY_EXIST
from .._http.downloads import ProgressCallback
from .._http.partial_file import check_destination
from ..errors import (
    ConfigurationError,
    JobNotFoundError,
    JobTimeoutError,
    MoltinJobsError,
    single_line,
)
from ..models import Job, JobState
from ..session import JobsSession
from .options import CommandContext
from .output import Outcome, Output
from .progress import wait_for_outcomes
from .table import WaitProgress


async def save_file(
    session: JobsSession, job_id: str, path: Path, output: Output, timeout: float | None = None
) -> MoltinJobsError | None:
    """Save the file of a job and print where, or return the error."""
    try:
        with _progress_bar(path, output) as progress:
            await session.download(job_id, path, progress=progress, timeout=timeout)
    except MoltinJobsError as error:  # JobTimeoutError is also an OSError, so catch this first
        return error
    except OSError as error:
        return ConfigurationError(f"{path}: {error.strerror}. Job {job_id} keeps its file.")
    output.print_saved(job_id, path)
    return None


async def export_file(
    context: CommandContext, path: Path, order_filter: str | None, timeout: float | None
) -> int:
    """Create an export, wait for it, save its file, and return the exit code."""
    try:
        await check_destination(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}. Nothing was sent.") from None
    job_id, output = None, context.output
    try:
        async with context.session() as session, asyncio.timeout(timeout):
            job_id = (await session.create_job(filter=order_filter)).id
            outcome = await _wait_and_save(session, job_id, path, output)
    except TimeoutError:
        what, advice = ("exported", None) if job_id else ("created", MAY_EXIST)
        outcome = JobTimeoutError(
            job_id, timeout=timeout or 0.0, unfinished=f"was not {what}", advice=advice
        )
        if job_id is None:
            raise outcome from None
    except asyncio.CancelledError:
        advice = f"To continue: {_resume(context, job_id, path)}" if job_id else MAY_EXIST
        output.print_note(f"interrupted. {advice}")
        raise
    if outcome is None:
        return 0
    code = output.print_outcome(job_id, outcome)
    if not isinstance(outcome, Job | JobNotFoundError):
        output.print_note(f"to continue: {_resume(context, job_id, path)}")
    return code


async def _wait_and_save(
    session: JobsSession, job_id: str, path: Path, output: Output
) -> Outcome | None:
    """Return the outcome of the wait if the job has not succeeded, or the error of the download."""
    (outcome,) = await wait_for_outcomes(session, [WaitProgress(job_id)], output)
    succeeded = isinstance(outcome, Job) and outcome.state is JobState.SUCCEEDED
    return await save_file(session, job_id, path, output) if succeeded else outcome


def _resume(context: CommandContext, job_id: str, path: Path) -> str:
    download = context.command("download", job_id, str(path))
    return f"{context.command('wait', job_id)} && {download}"


@contextlib.contextmanager
def _progress_bar(path: Path, output: Output) -> Iterator[ProgressCallback | None]:
    """Show a progress bar, if there is a terminal, and return what updates it."""
    if not output.has_terminal:
        yield None
        return
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.console) as bars:
        bar = bars.add_task(single_line(path.name), total=None)
        yield lambda received, length: bars.update(bar, completed=received, total=length)
