"""Commands that create a job."""

import asyncio
from pathlib import Path

import click

from .._api.endpoints import MAY_EXIST, RELEASE_MAY_EXIST
from .._http.partial_file import check_destination
from ..errors import (
    ConfigurationError,
    JobFailedError,
    JobNotFoundError,
    JobTimeoutError,
    MoltinJobsError,
    NoResultsError,
)
from ..kinds import catalog_releases
from ..models import Job
from ..session import JobsSession
from . import options
from .files import save_file
from .output import STDOUT, Output
from .progress import outcome_of, wait_for_outcomes
from .runner import session_command
from .table import Wait


@click.command()
@click.option("--type", "job_type", metavar="TYPE", default="order_export", show_default=True)
@options.filter_option
@session_command
async def create(
    session: JobsSession, output: Output, job_type: str, order_filter: str | None
) -> int:
    """Create an order job, and print its id and status.

    Example: moltin-jobs create --filter 'gt(created_at,2018-09-01)'
    """
    job = await session.create_job(job_type, filter=order_filter)
    output.print_outcome(job.id, job)
    return 0


@click.command()
@options.file_argument
@options.filter_option
@click.option("--empty-ok", is_flag=True, help="Exit with 0 if no order matches.")
@options.timeout_option("all of it")
@session_command
async def export(
    session: JobsSession,
    output: Output,
    path: Path,
    *,
    order_filter: str | None,
    empty_ok: bool,
    timeout: float | None,
) -> int:
    """Export orders: create a job, wait for it, and save its file.

    "-" writes the file to stdout.

    Example: moltin-jobs export --timeout 1h orders.csv
    """
    output.reserve_stdout(path)
    if path != STDOUT:
        try:
            await check_destination(path)
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}. Nothing was sent.") from None
    may_exist = output.reword(MAY_EXIST)
    output.advice_on_interrupt = lambda: may_exist
    started_at = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(timeout):
            job_id = (await session.create_job(filter=order_filter)).id
    except TimeoutError:
        raise JobTimeoutError(
            None, timeout=timeout or 0.0, outcome="was not confirmed", advice=MAY_EXIST
        ) from None
    resume = output.command("download", job_id, str(path), wait=True)
    output.advice_on_interrupt = lambda: f"To continue: {resume}"
    outcome = await save_file(
        session, job_id, path, output, timeout=timeout, started_at=started_at, wait=True
    )
    code = _print_outcome(output, job_id, outcome, resume)
    if empty_ok and isinstance(outcome, NoResultsError):
        output.print_hint("no order matched: no file was written")
        return 0
    return code


@click.command()
@click.argument("catalog_id")
@click.option("--full-delta", is_flag=True, help="Put all products into the file of the release.")
@options.timeout_option("all of it")
@session_command
async def publish(
    session: JobsSession,
    output: Output,
    catalog_id: str,
    full_delta: bool,
    timeout: float | None,
) -> int:
    """Publish a catalog: create a release, and wait for it.

    Example: moltin-jobs publish --timeout 10m CATALOG_ID
    """
    kind = catalog_releases(catalog_id)
    may_exist = output.reword(RELEASE_MAY_EXIST)
    release_id = resume = ""
    output.advice_on_interrupt = lambda: f"To continue: {resume}" if resume else may_exist

    # Called between the creation and the session's own wait, which then polls once.
    async def show_progress(release: Job) -> None:
        nonlocal release_id, resume
        release_id, resume = release.id, output.command("wait", release.id, kind=kind)
        (outcome,) = await wait_for_outcomes(session, [Wait(release.id, kind=kind)], output)
        if isinstance(outcome, MoltinJobsError):
            raise outcome

    outcome = await outcome_of(
        session.publish_catalog(
            catalog_id, export_full_delta=full_delta, timeout=timeout, on_created=show_progress
        )
    )
    if isinstance(outcome, MoltinJobsError) and not release_id:
        raise outcome
    return _print_outcome(output, release_id, outcome, resume)


def _print_outcome(
    output: Output, job_id: str, outcome: Job | Path | MoltinJobsError, resume: str
) -> int:
    """Print the outcome, and how to continue unless the job has ended. Return the exit code."""
    code = output.print_outcome(job_id, outcome)
    if not isinstance(outcome, Job | Path | JobFailedError | JobNotFoundError):
        output.print_note(f"to continue: {resume}")
    return code
