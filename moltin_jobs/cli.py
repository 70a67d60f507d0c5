"""The command line: progress goes to stderr, results to stdout, the outcome is the exit code.

0 all succeeded, 1 a job failed, 2 usage or configuration, 3 timed out, 4 authentication,
5 not found, 6 network or service, 130 interrupted; the highest, if several apply.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from . import demo
from .board import Board, Outcome, counted, follow
from .errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidJobIdError,
    JobFailedError,
    JobNotFoundError,
    JobTimeoutError,
    MoltinJobsError,
    PermissionDeniedError,
    one_line,
)
from .files import check
from .models import Job, JobState
from .session import JobsSession

_log = logging.getLogger("moltin_jobs")
_EXIT_CODES: list[tuple[tuple[type[MoltinJobsError], ...], int]] = [
    ((JobFailedError,), 1),
    ((ConfigurationError, InvalidJobIdError), 2),
    ((JobTimeoutError,), 3),
    ((AuthenticationError, PermissionDeniedError), 4),
    ((JobNotFoundError,), 5),
]


def _exit_code(outcome: Outcome) -> int:
    if isinstance(outcome, Job):
        return 1 if outcome.state in (JobState.FAILED, JobState.CANCELLED) else 0
    return next((code for kinds, code in _EXIT_CODES if isinstance(outcome, kinds)), 6)


def _document(job_id: str, outcome: Outcome) -> str:
    """One line of JSON: the job, or the id and what went wrong."""
    if isinstance(outcome, Job):
        fields = attrs.asdict(outcome) | {"state": outcome.state}
        return json.dumps(fields, default=datetime.datetime.isoformat)
    return json.dumps({"id": job_id, "exception": type(outcome).__name__, "message": str(outcome)})


def _report(job_id: str, outcome: Outcome, as_json: bool, say: Callable[..., None]) -> None:
    """Tell the outcome on stdout, and an error on stderr besides."""
    if as_json:
        say(_document(job_id, outcome))
    elif isinstance(outcome, Job):
        told = outcome.error or outcome.file_url
        say("\t".join([job_id, one_line(outcome.status)] + ([one_line(told)] if told else [])))
    if not isinstance(outcome, Job):
        say(f"error: {outcome}", err=True)


class _ToConsole(logging.Handler):
    """The log, on the console that the live table is on."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(Text(self.format(record)), soft_wrap=True)


def _run(main: Coroutine[Any, Any, int]) -> None:
    try:
        code = asyncio.run(main)
    except KeyboardInterrupt:
        code = 130
    except MoltinJobsError as error:
        click.echo(f"error: {error}", err=True)
        code = _exit_code(error)
    sys.exit(code)


def _ids(context: click.Context, _argument: click.Parameter, given: tuple[str, ...]) -> list[str]:
    """The ids given, each once; ``-`` stands for those on standard input, one a word."""
    if context.resilient_parsing:  # a shell asks for completions
        return []
    try:
        words = [w for one in given for w in (sys.stdin.read().split() if one == "-" else [one])]
    except KeyboardInterrupt:
        raise click.exceptions.Exit(130) from None
    if not words:
        raise click.UsageError("no job id was given")
    return list(dict.fromkeys(words))


def _session(base_url: str | None, **settings: Any) -> JobsSession:
    return JobsSession.from_env(**settings, **({"base_url": base_url} if base_url else {}))


_job_ids = click.argument("job_ids", nargs=-1, required=True, metavar="ID…", callback=_ids)
_base_url = click.option("--base-url", help="The API's address.  [env: EPCC_API_BASE_URL]")
_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
_filter = click.option("--filter", "filter_", help="Which orders, in the service's own words.")
_file = click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress, no warnings.")
_verbose = click.option("-v", "--verbose", is_flag=True, help="Log every poll to stderr.")


@click.group()
@click.version_option(package_name="moltin-jobs")
@click.pass_context
def commands(context: click.Context) -> None:
    """Look up, wait for and export by the Jobs of Elastic Path Commerce.

    Credentials come from the environment: EPCC_CLIENT_ID with EPCC_CLIENT_SECRET, or
    EPCC_ACCESS_TOKEN. Exit codes: 0 all succeeded, 1 a job failed, 2 usage or configuration,
    3 timed out, 4 authentication, 5 not found, 6 network or service, 130 interrupted.
    Example: moltin-jobs wait --timeout 600 974c9db4-38da-4dbf-90c2-33eed5f3e77c
    """
    context.obj = console = Console(stderr=True)
    handler = _ToConsole(console)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    _log.addHandler(handler)
    context.call_on_close(lambda: _log.removeHandler(handler))


@commands.command()
@_job_ids
@_base_url
@_as_json
@_verbose
def get(*, job_ids: list[str], base_url: str | None, as_json: bool, verbose: bool) -> None:
    """Look jobs up once: id, status, and the error or the file.

    "-" reads ids from standard input.

    Example: moltin-jobs get --json - < ids.txt
    """
    _log.setLevel(logging.DEBUG if verbose else logging.WARNING)

    async def main() -> int:
        async with _session(base_url) as session:
            outcomes = await session.get_jobs(job_ids, return_exceptions=True)
        code = 0
        for job_id, outcome in zip(job_ids, outcomes, strict=True):
            if not isinstance(outcome, Outcome):
                raise outcome
            _report(job_id, outcome, as_json, click.echo)
            code = max(code, _exit_code(outcome))
        return code

    _run(main())


@commands.command()
@_job_ids
@click.option("--timeout", type=float, help="Seconds for each job at most; else no limit.")
@_quiet
@_base_url
@_as_json
@_verbose
@click.pass_obj
def wait(
    console: Console,
    *,
    job_ids: list[str],
    timeout: float | None,
    quiet: bool,
    base_url: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Wait until jobs have ended; each is reported as it does.

    "-" reads ids from standard input.

    Example: moltin-jobs wait --timeout 600 - < ids.txt
    """
    usual = logging.ERROR if quiet else logging.WARNING
    _log.setLevel(logging.DEBUG if verbose else usual)

    async def main() -> int:
        board = Board(console, job_ids, quiet=quiet)
        async with counted(board) as http, _session(base_url, http=http) as session:
            outcomes = await follow(
                session,
                board,
                timeout,
                lambda job_id, outcome: _report(job_id, outcome, as_json, board.say),
            )
        return max(map(_exit_code, outcomes))

    _run(main())


@commands.command()
@click.option("--type", "job_type", default="order_export", show_default=True)
@_filter
@_base_url
@_as_json
@_verbose
def create(
    *, job_type: str, filter_: str | None, base_url: str | None, as_json: bool, verbose: bool
) -> None:
    """Create a job, and print its id and status.

    Example: moltin-jobs create --filter 'gt(created_at,2018-09-01)'
    """
    _log.setLevel(logging.DEBUG if verbose else logging.WARNING)

    async def main() -> int:
        async with _session(base_url) as session:
            job = await session.create_job(job_type, filter=filter_)
        _report(job.id, job, as_json, click.echo)
        return 0

    _run(main())


@commands.command("list")
@_base_url
@_as_json
@_verbose
def list_(*, base_url: str | None, as_json: bool, verbose: bool) -> None:
    """List the jobs of the store: id, status, and the error or the file.

    Example: moltin-jobs list --json
    """
    _log.setLevel(logging.DEBUG if verbose else logging.WARNING)

    async def main() -> int:
        async with _session(base_url) as session:
            for job in await session.list_jobs():
                _report(job.id, job, as_json, click.echo)
        return 0

    _run(main())


@commands.command()
@click.argument("job_id", metavar="ID")
@_file
@_quiet
@_base_url
@_verbose
@click.pass_obj
def download(
    console: Console, *, job_id: str, file: Path, quiet: bool, base_url: str | None, verbose: bool
) -> None:
    """Save the file of a job that has succeeded.

    It appears under its name once it is whole. Example: moltin-jobs download ID orders.csv
    """
    _log.setLevel(logging.DEBUG if verbose else logging.WARNING)

    async def main() -> int:
        async with _session(base_url) as session:
            await _save(session, job_id, file, console, quiet=quiet)
        click.echo(f"{job_id}\t{file}")
        return 0

    _run(main())


@commands.command()
@_file
@_filter
@click.option("--timeout", type=float, help="Seconds for the job at most; else no limit.")
@_quiet
@_base_url
@_verbose
@click.pass_obj
def export(
    console: Console,
    *,
    file: Path,
    filter_: str | None,
    timeout: float | None,
    quiet: bool,
    base_url: str | None,
    verbose: bool,
) -> None:
    """Export orders: create the job, wait for it, save its file.

    Example: moltin-jobs export --timeout 3600 orders.csv
    """
    _log.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING)

    async def main() -> int:
        await _check(file)
        board = Board(console, quiet=quiet)
        async with counted(board) as http, _session(base_url, http=http) as session:
            job = await session.create_job(filter=filter_)
            board.add(job.id)
            (outcome,) = await follow(session, board, timeout, lambda _id, _outcome: None)
            if code := _exit_code(outcome):
                _report(job.id, outcome, as_json=False, say=board.say)
                return code
            await _save(session, job.id, file, console, quiet=quiet)
        click.echo(f"{job.id}\t{file}")
        return 0

    _run(main())


async def _check(file: Path) -> None:
    try:
        await check(file)
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}. Nothing was asked for.") from None


async def _save(
    session: JobsSession, job_id: str, file: Path, console: Console, *, quiet: bool
) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    bars = Progress(*columns, console=console)
    with bars if console.is_terminal and not quiet else contextlib.nullcontext():
        bar = bars.add_task(file.name, total=None)
        try:
            await session.download(
                job_id,
                file,
                progress=lambda received, length: bars.update(
                    bar, completed=received, total=length
                ),
            )
        except OSError as error:
            raise ConfigurationError(
                f"{file}: {error.strerror}. Job {job_id} keeps its file: "
                f"moltin-jobs download {job_id} FILE"
            ) from None


@commands.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="On loopback; 0 for a free one.",
)
def serve(port: int) -> None:
    """Serve a simulated Jobs API with a dozen jobs, until interrupted.

    Example: moltin-jobs serve --port 8000
    """
    try:
        _run(demo.serve(port))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise click.BadParameter(os.strerror(error.errno), param_hint="--port") from None


@commands.command("demo")
@click.pass_obj
def demo_(console: Console) -> None:
    """Watch a dozen jobs run on a simulated service: some ten seconds, no account needed.

    Example: moltin-jobs demo
    """
    _run(demo.demo(console))
