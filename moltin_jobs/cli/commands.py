"""Commands of the command line. Progress goes to stderr, results to stdout."""

import asyncio
import errno
import os
from pathlib import Path

import click

from .. import __version__
from . import demo as demos
from . import options
from .files import export_file, save_file
from .options import CommandContext, session_command
from .output import EXIT_CODES, Output, exit_code
from .progress import outcome_of, wait_for_outcomes
from .runner import run
from .table import WaitProgress

_HELP = f"""Look up, wait for and export with the jobs of Elastic Path Commerce.

Credentials come from the environment: EPCC_CLIENT_ID and EPCC_CLIENT_SECRET, or EPCC_ACCESS_TOKEN.
Exit codes: {", ".join(f"{code} {meaning}" for code, (meaning, _) in EXIT_CODES.items())}. The
highest, if several apply.
Example: moltin-jobs wait ID
"""


@click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def commands() -> None:
    """Group of all commands."""


@commands.command()
@options.job_ids_argument
@session_command
async def get(context: CommandContext, job_ids: list[str]) -> int:
    """Look up jobs once: id, status, and the error or the file.

    The output is in the order of the ids. "-" reads ids from stdin.

    Example: moltin-jobs get --json - < ids.txt
    """
    async with context.session() as session:  # closing the session ends remaining lookups
        lookups = [asyncio.ensure_future(outcome_of(session.get_job(job_id))) for job_id in job_ids]
        return max(
            [
                context.output.print_outcome(job_id, await lookup)
                for job_id, lookup in zip(job_ids, lookups, strict=True)
            ]
        )


@commands.command()
@options.job_ids_argument
@options.timeout_option(help="Limit for each wait. Default: none.")
@session_command
async def wait(context: CommandContext, job_ids: list[str], timeout: float | None) -> int:
    """Wait until jobs have ended. Each is printed when it has.

    "-" reads ids from stdin.

    Example: moltin-jobs wait --timeout 600 - < ids.txt
    """
    output = context.output
    waits = [WaitProgress(job_id) for job_id in job_ids]
    async with context.session() as session:
        try:
            outcomes = await wait_for_outcomes(
                session, waits, output, output.print_outcome, timeout=timeout
            )
        except asyncio.CancelledError:
            left = " ".join(wait.job_id for wait in waits if wait.outcome is None)
            output.print_note(f"interrupted. Jobs that have not ended: {left}")
            raise
    return max(map(exit_code, outcomes))


@commands.command()
@click.option("--type", "job_type", metavar="TYPE", default="order_export", show_default=True)
@options.filter_option
@session_command
async def create(context: CommandContext, job_type: str, order_filter: str | None) -> int:
    """Create a job, and print its id and status.

    Example: moltin-jobs create --filter 'gt(created_at,2018-09-01)'
    """
    async with context.session() as session:
        job = await session.create_job(job_type, filter=order_filter)
    context.output.print_job(job.id, job)
    return 0


@commands.command("list")
@session_command
async def list_(context: CommandContext) -> int:
    """List all jobs of the store, each as `get` prints it.

    Example: moltin-jobs list --json
    """
    async with context.session() as session:
        for job in await session.list_jobs():
            context.output.print_job(job.id, job)
    return 0


@commands.command()
@click.argument("job_id", metavar="ID")
@options.file_argument
@options.timeout_option(help="Limit for the download. Default: none.")
@session_command
async def download(context: CommandContext, job_id: str, path: Path, timeout: float | None) -> int:
    """Save the file of a job that has succeeded.

    FILE appears, or is replaced, when the download is complete.

    Example: moltin-jobs download ID orders.csv
    """
    async with context.session() as session:
        try:
            error = await save_file(session, job_id, path, context.output, timeout)
        except asyncio.CancelledError:
            retry = context.command("download", job_id, str(path))
            context.output.print_note(f"interrupted. Nothing was saved. To try again: {retry}")
            raise
    return 0 if error is None else context.output.print_outcome(job_id, error)


@commands.command()
@options.file_argument
@options.filter_option
@options.timeout_option(help="Limit for all of it. Default: none.")
@session_command
async def export(
    context: CommandContext, path: Path, order_filter: str | None, timeout: float | None
) -> int:
    """Export orders: create a job, wait for it, and save its file.

    Example: moltin-jobs export --timeout 3600 orders.csv
    """
    return await export_file(context, path, order_filter, timeout)


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
