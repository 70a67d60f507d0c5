"""Commands of the command line. Progress goes to stderr, results to stdout."""

import asyncio
import errno
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from .. import __version__
from ..errors import JobFailedError, single_line
from ..kinds import ORDERS, JobKind, require_support
from ..models import Job, JobState
from ..session import JobsSession
from . import creation, options
from . import demo as demos
from .exit_codes import EXIT_CODES, Outcome, exit_code
from .files import save_file
from .output import Output, write_line
from .places import find_places
from .progress import outcome_of, wait_for_outcomes
from .runner import run, session_command
from .table import Wait

_CODES = [f"{code} {meaning}" for code, (meaning, _) in EXIT_CODES.items() if code <= 6]
_HELP = f"""Work with jobs of Elastic Path Commerce. Credentials: EPCC_CLIENT_ID and
EPCC_CLIENT_SECRET, or EPCC_ACCESS_TOKEN. Exit codes: {", ".join(_CODES)}, 130 interrupted.
The highest counts.
"""


@click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def commands() -> None:
    """Group of all commands."""


for command in (creation.create, creation.export, creation.publish):
    commands.add_command(command)


@commands.command()
@options.job_ids_argument
@options.kind_option
@session_command
async def get(session: JobsSession, output: Output, job_ids: list[str], kind: JobKind) -> int:
    """Look up jobs once: id, status, and the error or the file.

    The output is in the order of the ids. "-" reads ids from stdin.

    Example: moltin-jobs get --json - < ids.txt
    """
    lookups = [session.get_job(job_id, kind=kind) for job_id in job_ids]
    return max(map(exit_code, await _print_outcomes(output, job_ids, lookups)))


async def _print_outcomes(
    output: Output, job_ids: list[str], requests: list[Coroutine[Any, Any, Job]]
) -> list[Outcome]:
    """Run requests at the same time, and print their outcomes in order."""
    # After an exception, closing the session ends the requests that are still running.
    tasks = [asyncio.create_task(outcome_of(request)) for request in requests]
    for job_id, task in zip(job_ids, tasks, strict=True):
        output.print_outcome(job_id, await task)
    return [task.result() for task in tasks]


@commands.command()
@options.all_option
@options.ids_or_all_argument
@click.option("--first", is_flag=True, help="Stop when the first job has ended.")
@options.kind_option
@options.timeout_option("each wait")
@session_command
async def wait(
    session: JobsSession,
    output: Output,
    job_ids: list[str],
    *,
    all_open: bool,
    first: bool,
    kind: JobKind,
    timeout: float | None,
) -> int:
    """Wait until jobs have ended, and print each one as it ends.

    "-" reads ids from stdin.

    Example: moltin-jobs wait --timeout 10m - < ids.txt
    """
    if all_open:
        job_ids = await _list_open_jobs(session, kind)
        if not job_ids:
            output.print_hint(f"all {kind.name} jobs have ended")
            return 0
    waits = [Wait(job_id, kind=kind) for job_id in job_ids]

    def advise() -> str:
        unfinished = [wait.job_id for wait in waits if wait.outcome is None]
        return f"To continue: {output.command('wait', *unfinished, kind=kind)}"

    output.advice_on_interrupt = advise
    outcomes = await wait_for_outcomes(
        session, waits, output, output.print_outcome, timeout=timeout, first=first
    )
    if unfinished := [wait.job_id for wait in waits if wait.outcome is None]:
        command = output.command("wait", *unfinished, kind=kind)
        output.print_hint(f"to wait for the rest: {command}")
    if first:  # an error that came before does not count
        outcomes = [one for one in outcomes if isinstance(one, Job | JobFailedError)] or outcomes
    return max(map(exit_code, outcomes))


async def _list_open_jobs(session: JobsSession, kind: JobKind) -> list[str]:
    reason = "the service lists published releases only"
    require_support(kind, lambda row: row.lists_open_jobs, reason)
    return [job.id for job in await session.list_jobs(kind=kind) if not job.is_terminal]


@commands.command("list")
@options.kind_option
@options.state_option
@click.option("--ids", "only_ids", is_flag=True, help="Print ids only.")
@session_command
async def list_(
    session: JobsSession,
    output: Output,
    kind: JobKind,
    states: tuple[list[JobState], ...],
    only_ids: bool,
) -> int:
    """List jobs of one kind.

    Columns: id, status, creation, duration, and the error or the file. Order jobs that have not
    ended show their place in the job queue instead of a file.

    Of the releases of a catalog, it lists those that are published.

    Example: moltin-jobs list --state pending,running
    """
    if only_ids and output.as_json:
        raise click.UsageError("--ids and --json exclude each other")
    wanted = {state for names in states for state in names} or set(JobState)
    jobs = await session.list_jobs(kind=kind)
    places = find_places(jobs) if kind is ORDERS else {}
    for job in jobs:
        if job.state not in wanted:
            continue
        if only_ids:
            write_line(single_line(job.id))
        else:
            output.print_listed_job(job, places.get(job.id))
    return 0


@commands.command()
@click.argument("job_id", metavar="ID")
@options.kind_option
@session_command
async def problems(session: JobsSession, output: Output, job_id: str, kind: JobKind) -> int:
    """Print why a job has failed, one problem per line.

    Example: moltin-jobs problems --kind pxm ID
    """
    for problem in await session.get_job_problems(job_id, kind=kind):
        output.print_problem(problem)
    return 0


@commands.command()
@options.job_ids_argument
@options.kind_option
@session_command
async def cancel(session: JobsSession, output: Output, job_ids: list[str], kind: JobKind) -> int:
    """Cancel jobs that are pending, and print each one as `get` does.

    Only PXM jobs can be cancelled. "-" reads ids from stdin.

    Example: moltin-jobs cancel --kind pxm ID
    """
    lookup = output.command("get", *job_ids, kind=kind)
    output.advice_on_interrupt = lambda: f"Some jobs may have been cancelled. To check: {lookup}"
    cancellations = [session.cancel_job(job_id, kind=kind) for job_id in job_ids]
    outcomes = await _print_outcomes(output, job_ids, cancellations)
    return max(0 if isinstance(outcome, Job) else exit_code(outcome) for outcome in outcomes)


@commands.command()
@click.argument("job_id", metavar="ID")
@options.file_argument
@options.kind_option
@options.file_index_option
@click.option("--wait", "has_to_wait", is_flag=True, help="Wait for the job first.")
@options.timeout_option("all of it")
@session_command
async def download(
    session: JobsSession,
    output: Output,
    job_id: str,
    path: Path,
    *,
    kind: JobKind,
    file_index: int | None,
    has_to_wait: bool,
    timeout: float | None,
) -> int:
    """Save a file of a job that has succeeded.

    FILE appears, or is replaced, when the download is complete. "-" writes it to stdout.

    Example: moltin-jobs download --wait ID orders.csv
    """
    output.reserve_stdout(path)
    resume = output.command(
        "download", job_id, str(path), kind=kind, file_index=file_index, wait=has_to_wait
    )
    advice = "To continue" if has_to_wait else "Nothing was saved. To try again"
    output.advice_on_interrupt = lambda: f"{advice}: {resume}"
    outcome = await save_file(
        session,
        job_id,
        path,
        output,
        kind=kind,
        file_index=file_index,
        timeout=timeout,
        wait=has_to_wait,
    )
    return output.print_outcome(job_id, outcome)


@commands.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="On the loopback interface. Default: a free one.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=12, show_default=True, help="Order jobs."
)
@click.option(
    "--fail",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Order jobs that fail, from number 5 on.",
)
@click.option(
    "--faults",
    type=options.parse_share,
    metavar="SHARE",
    default="0",
    help="Share of requests that get a random fault, from 0 to 1.",
)
def serve(port: int, jobs: int, fail: int, faults: float) -> None:
    """Serve a simulated store with jobs of all kinds, until interrupted.

    Example: moltin-jobs serve --port 8000
    """
    if fail > jobs:
        message = f"{fail} is more than the number of order jobs. Use at most {jobs}."
        raise click.BadParameter(message, param_hint="--fail")
    output = Output()
    try:
        run(demos.serve(output, port=port, jobs=jobs, fail=fail, faults=faults), output)
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
