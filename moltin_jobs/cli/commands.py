"""Commands of the command line. Progress goes to stderr, results to stdout."""

import asyncio
import errno
import os
from pathlib import Path

import click

from .. import __version__
from .._api.endpoints import MAY_EXIST
from .._http.partial_file import check_destination
from ..errors import ConfigurationError, JobNotFoundError, JobTimeoutError
from ..models import Job
from ..session import JobsSession
from . import demo as demos
from . import options
from .exit_codes import EXIT_CODES, Outcome, exit_code
from .output import Output
from .progress import Wait, outcome_of, save_file, wait_for_outcomes
from .runner import run, session_command

_HELP = f"""Look up and wait for jobs of Elastic Path Commerce, and export orders.

Credentials come from the environment: EPCC_CLIENT_ID and EPCC_CLIENT_SECRET, or EPCC_ACCESS_TOKEN.
Exit codes: {", ".join(f"{code} {meaning}" for code, (meaning, _) in EXIT_CODES.items())}. The
highest one counts.
Example: moltin-jobs wait ID
"""


@click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def commands() -> None:
    """Group of all commands."""


@commands.command()
@options.job_ids_argument
@session_command
async def get(session: JobsSession, output: Output, job_ids: list[str]) -> int:
    """Look up jobs once: id, status, and the error or the file.

    The output is in the order of the ids. "-" reads ids from stdin.

    Example: moltin-jobs get --json - < ids.txt
    """
    # After an exception, closing the session ends the lookups that are still running.
    lookups = [asyncio.ensure_future(outcome_of(session.get_job(job_id))) for job_id in job_ids]
    return max(
        [
            output.print_outcome(job_id, await lookup)
            for job_id, lookup in zip(job_ids, lookups, strict=True)
        ]
    )


@commands.command()
@options.job_ids_argument
@options.timeout_option(help="Limit for each wait. Default: none.")
@session_command
async def wait(
    session: JobsSession, output: Output, job_ids: list[str], timeout: float | None
) -> int:
    """Wait until jobs have ended, and print each one as it ends.

    "-" reads ids from stdin.

    Example: moltin-jobs wait --timeout 600 - < ids.txt
    """
    waits = [Wait(job_id) for job_id in job_ids]

    def list_unfinished() -> str:
        unfinished = [wait.job_id for wait in waits if wait.outcome is None]
        return f"Jobs that have not ended: {' '.join(unfinished)}"

    output.advice_on_interrupt = list_unfinished
    outcomes = await wait_for_outcomes(
        session, waits, output, output.print_outcome, timeout=timeout
    )
    return max(map(exit_code, outcomes))


@commands.command()
@click.option("--type", "job_type", metavar="TYPE", default="order_export", show_default=True)
@options.filter_option
@session_command
async def create(
    session: JobsSession, output: Output, job_type: str, order_filter: str | None
) -> int:
    """Create a job, and print its id and status.

    Example: moltin-jobs create --filter 'gt(created_at,2018-09-01)'
    """
    job = await session.create_job(job_type, filter=order_filter)
    output.print_outcome(job.id, job)
    return 0


@commands.command("list")
@session_command
async def list_(session: JobsSession, output: Output) -> int:
    """List all jobs of the store, each as `get` prints it.

    Example: moltin-jobs list --json
    """
    for job in await session.list_jobs():
        output.print_outcome(job.id, job)
    return 0


@commands.command()
@click.argument("job_id", metavar="ID")
@options.file_argument
@options.timeout_option(help="Limit for the download. Default: none.")
@session_command
async def download(
    session: JobsSession, output: Output, job_id: str, path: Path, timeout: float | None
) -> int:
    """Save the file of a job that has succeeded.

    FILE appears, or is replaced, when the download is complete.

    Example: moltin-jobs download ID orders.csv
    """
    retry = output.command("download", job_id, str(path))
    output.advice_on_interrupt = lambda: f"Nothing was saved. To try again: {retry}"
    saving = save_file(session, job_id, path, output, timeout)
    return output.print_outcome(job_id, await outcome_of(saving))


@commands.command()
@options.file_argument
@options.filter_option
@options.timeout_option(help="Limit for all of it. Default: none.")
@session_command
async def export(
    session: JobsSession,
    output: Output,
    path: Path,
    order_filter: str | None,
    timeout: float | None,
) -> int:
    """Export orders: create a job, wait for it, and save its file.

    Example: moltin-jobs export --timeout 3600 orders.csv
    """
    try:
        await check_destination(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}. Nothing was sent.") from None
    job_id = resume = ""
    may_exist = output.reword(MAY_EXIST)
    output.advice_on_interrupt = lambda: f"To continue: {resume}" if resume else may_exist
    try:
        async with asyncio.timeout(timeout):
            job_id = (await session.create_job(filter=order_filter)).id
            download_command = output.command("download", job_id, str(path))
            resume = f"{output.command('wait', job_id)} && {download_command}"
            outcome = await _wait_and_save(session, output, job_id, path)
    except TimeoutError:
        if not job_id:
            raise JobTimeoutError(
                None, timeout=timeout or 0.0, outcome="was not confirmed", advice=MAY_EXIST
            ) from None
        outcome = JobTimeoutError(job_id, timeout=timeout or 0.0, outcome="was not exported")
    code = output.print_outcome(job_id, outcome)
    if not isinstance(outcome, Job | Path | JobNotFoundError):
        output.print_note(f"to continue: {resume}")
    return code


async def _wait_and_save(session: JobsSession, output: Output, job_id: str, path: Path) -> Outcome:
    (outcome,) = await wait_for_outcomes(session, [Wait(job_id)], output)
    if exit_code(outcome) != 0:
        return outcome
    return await outcome_of(save_file(session, job_id, path, output))


@commands.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="On the loopback interface. 0 takes a free one.",
)
def serve(port: int) -> None:
    """Serve a simulated Jobs API with a dozen jobs, until interrupted.

    Example: moltin-jobs serve --port 8000
    """
    output = Output()
    try:
        run(demos.serve(output, port), output)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        reason = os.strerror(error.errno)
        message = f"{port}: {reason}. Give another one, or 0 for a free one."
        raise click.BadParameter(message, param_hint="--port") from None


@commands.command()
def demo() -> None:
    """Watch a dozen jobs on a simulated service.

    It takes about ten seconds, and needs no account.

    Example: moltin-jobs demo
    """
    output = Output()
    run(demos.demo(output), output)
