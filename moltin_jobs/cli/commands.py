"""The command line: progress goes to stderr, results to stdout, the outcome is the exit code.

0 all succeeded, 1 a job failed, 2 usage or configuration, 3 timed out, 4 authentication,
5 not found, 6 network or service, 130 interrupted; the highest, if several apply.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import functools
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

from .._http.partial_file import check
from ..errors import (
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
from ..models import Job, JobState
from ..session import JobsSession
from ..settings import check_seconds
from . import demo
from .progress import Board, Outcome, counted, follow

_log = logging.getLogger("moltin_jobs")
_EXIT_CODES: list[tuple[tuple[type[MoltinJobsError], ...], int]] = [
    ((JobFailedError,), 1),
    ((ConfigurationError, InvalidJobIdError), 2),
    ((JobTimeoutError,), 3),
    ((AuthenticationError, PermissionDeniedError), 4),
    ((JobNotFoundError,), 5),
]


def _exit_code(outcome: Outcome) -> int:
    # Where a file was not found, it may be for the job's failure.
    job = outcome.job if isinstance(outcome, JobNotFoundError) else outcome
    if isinstance(job, Job) and job.state in (JobState.FAILED, JobState.CANCELLED):
        return 1
    if isinstance(outcome, Job):
        return 0
    return next((code for kinds, code in _EXIT_CODES if isinstance(outcome, kinds)), 6)


def _document(job_id: str, outcome: Outcome) -> str:
    """One line of JSON: the job, or the id and what went wrong."""
    if isinstance(outcome, Job):
        fields = attrs.asdict(outcome) | {"state": outcome.state}
        return json.dumps(fields, default=datetime.datetime.isoformat)
    return json.dumps({"id": job_id, "exception": type(outcome).__name__, "message": str(outcome)})


class _ToConsole(logging.Handler):
    """The log, on the console that the live table is on; the same trouble of many waits, once."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self.console = console
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        trouble = getattr(record, "error", None)
        if trouble is not None and self.level > logging.DEBUG:
            if trouble in self._told:
                return
            self._told.add(trouble)
        self.console.print(Text(self.format(record)), soft_wrap=True)


@attrs.frozen
class _Asked:
    """What every command is told that asks the service."""

    console: Console
    base_url: str | None
    as_json: bool
    quiet: bool

    def session(self, **settings: Any) -> JobsSession:
        if self.base_url:
            settings["base_url"] = self.base_url
        return JobsSession.from_env(**settings)

    def report(self, job_id: str, outcome: Outcome, say: Callable[..., None] = click.echo) -> int:
        """Tell the outcome on stdout, and an error on stderr besides; return the exit code."""
        if self.as_json:
            say(_document(job_id, outcome))
        elif isinstance(outcome, Job):
            told = outcome.error or outcome.file_url
            say("\t".join([job_id, one_line(outcome.status)] + ([one_line(told)] if told else [])))
        if not isinstance(outcome, Job):
            text = str(outcome)
            named = (f"job {job_id}", f"Job {job_id}", repr(job_id))
            if not any(name in text for name in named):  # an error of a token, say
                text = f"job {job_id}: {text}"
            say(f"error: {text}", err=True)
        return _exit_code(outcome)

    def saved(self, job_id: str, file: Path) -> int:
        """Tell where the file of a job is."""
        document = json.dumps({"id": job_id, "saved_as": str(file)})
        click.echo(document if self.as_json else f"{job_id}\t{file}")
        return 0


def _run(main: Coroutine[Any, Any, int]) -> None:
    try:
        code = asyncio.run(main)
    except KeyboardInterrupt:
        code = 130
    except MoltinJobsError as error:
        click.echo(f"error: {error}", err=True)
        code = _exit_code(error)
    sys.exit(code)


def _asks(command: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., None]:
    """Make a command of what asks the service, with the options that all such have."""

    @functools.wraps(command)
    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress, no warnings; errors only.")
    @click.option("-v", "--verbose", is_flag=True, help="Log every request and poll to stderr.")
    @click.option("--base-url", help="The API's address.  [env: EPCC_API_BASE_URL]")
    @click.pass_obj
    def asking(
        log: _ToConsole,
        /,
        *,
        base_url: str | None,
        as_json: bool,
        quiet: bool,
        verbose: bool,
        **arguments: Any,
    ) -> None:
        if quiet and verbose:
            raise click.UsageError("--quiet and --verbose exclude each other")
        if quiet or verbose:
            log.setLevel(logging.ERROR if quiet else logging.DEBUG)
        _run(command(_Asked(log.console, base_url, as_json, quiet), **arguments))

    return asking


def _ids(context: click.Context, _argument: click.Parameter, given: tuple[str, ...]) -> list[str]:
    """The ids given, each once; ``-`` stands for those on standard input, one a word."""
    if context.resilient_parsing:  # a shell asks for completions
        return []
    try:
        words = [w for one in given for w in (_read_words() if one == "-" else [one])]
    except KeyboardInterrupt:
        raise click.exceptions.Exit(130) from None
    if not words:
        raise click.UsageError("no job id was given")
    return list(dict.fromkeys(words))


def _read_words() -> list[str]:
    text = sys.stdin.buffer.read() if sys.stdin else b""  # there is none if it was closed
    return text.decode(errors="replace").split()


def _place(_context: click.Context, _argument: click.Parameter, given: Path) -> Path:
    if str(given) == "-":
        raise click.BadParameter("give a name, not -: a file appears once it is whole.")
    return given


_job_ids = click.argument("job_ids", nargs=-1, required=True, metavar="ID…", callback=_ids)
_filter = click.option("--filter", "filter_", help="Which orders, in the service's own words.")
_file = click.argument(
    "file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), callback=_place
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="moltin-jobs")
@click.pass_context
def commands(context: click.Context) -> None:
    """Look up, wait for and export by the Jobs of Elastic Path Commerce.

    Credentials come from the environment: EPCC_CLIENT_ID with EPCC_CLIENT_SECRET, or
    EPCC_ACCESS_TOKEN. Exit codes: 0 all succeeded, 1 a job failed, 2 usage or configuration,
    3 timed out, 4 authentication, 5 not found, 6 network or service, 130 interrupted.
    Example: moltin-jobs wait ID
    """
    context.obj = log = _ToConsole(Console(stderr=True))
    log.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    _log.addHandler(log)
    _log.setLevel(logging.DEBUG)  # the board goes by it; what is printed is the handler's affair
    context.call_on_close(lambda: _log.removeHandler(log))


@commands.command()
@_job_ids
@_asks
async def get(asked: _Asked, *, job_ids: list[str]) -> int:
    """Look jobs up once: id, status, and the error or the file.

    "-" reads ids from standard input.

    Example: moltin-jobs get --json - < ids.txt
    """
    async with asked.session() as session:

        async def outcome(job_id: str) -> Outcome:
            try:
                return await session.get_job(job_id)
            except MoltinJobsError as error:
                return error

        outcomes = await asyncio.gather(*map(outcome, job_ids))
    return max(map(asked.report, job_ids, outcomes))


@commands.command()
@_job_ids
@click.option("--timeout", type=float, help="Seconds for each job at most; else no limit.")
@_asks
async def wait(asked: _Asked, *, job_ids: list[str], timeout: float | None) -> int:
    """Wait until jobs have ended; each is reported as it does.

    "-" reads ids from standard input.

    Example: moltin-jobs wait --timeout 600 - < ids.txt
    """
    board = Board(asked.console, job_ids, quiet=asked.quiet)
    async with counted(board) as http, asked.session(http=http) as session:
        report = functools.partial(asked.report, say=board.say)
        outcomes = await follow(session, board, timeout, report)
    return max(map(_exit_code, outcomes))


@commands.command()
@click.option("--type", "job_type", default="order_export", show_default=True)
@_filter
@_asks
async def create(asked: _Asked, *, job_type: str, filter_: str | None) -> int:
    """Create a job, and print its id and status.

    Example: moltin-jobs create --filter 'gt(created_at,2018-09-01)'
    """
    async with asked.session() as session:
        job = await session.create_job(job_type, filter=filter_)
    asked.report(job.id, job)
    return 0


@commands.command("list")
@_asks
async def list_(asked: _Asked) -> int:
    """List the store's jobs, each as `get` tells it.

    Example: moltin-jobs list --json
    """
    async with asked.session() as session:
        for job in await session.list_jobs():
            asked.report(job.id, job)
    return 0


@commands.command()
@click.argument("job_id", metavar="ID")
@_file
@_asks
async def download(asked: _Asked, *, job_id: str, file: Path) -> int:
    """Save the file of a job that has succeeded.

    It appears under its name once it is whole, in place of one that is there.

    Example: moltin-jobs download ID orders.csv
    """
    async with asked.session() as session:
        try:
            await _save(session, job_id, file, asked)
        except MoltinJobsError as error:
            return asked.report(job_id, error)
    return asked.saved(job_id, file)


@commands.command()
@_file
@_filter
@click.option("--timeout", type=float, help="Seconds for the job at most; else no limit.")
@_asks
async def export(asked: _Asked, *, file: Path, filter_: str | None, timeout: float | None) -> int:
    """Export orders: create the job, wait for it, save its file.

    Example: moltin-jobs export --timeout 3600 orders.csv
    """
    if timeout is not None:
        check_seconds("timeout", timeout)
    await _check(file)
    board = Board(asked.console, quiet=asked.quiet)
    async with counted(board) as http, asked.session(http=http) as session:
        job = await session.create_job(filter=filter_)
        board.add(job.id)
        then = f"go on by: moltin-jobs wait {job.id} && {_downloading(job.id)}"
        try:
            (outcome,) = await follow(session, board, timeout, lambda _id, _outcome: None)
        except asyncio.CancelledError:
            board.say(then, err=True)
            raise
        if not isinstance(outcome, Job) or outcome.state is not JobState.SUCCEEDED:
            code = asked.report(job.id, outcome, board.say)
            if isinstance(outcome, MoltinJobsError) and outcome.temporary:
                board.say(then, err=True)
            return code
        try:
            await _save(session, job.id, file, asked)
        except MoltinJobsError as error:
            return asked.report(job.id, error)
    return asked.saved(job.id, file)


def _downloading(job_id: str) -> str:
    return f"moltin-jobs download {job_id} FILE"


async def _check(file: Path) -> None:
    try:
        await check(file)
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}. Nothing was asked for.") from None


async def _save(session: JobsSession, job_id: str, file: Path, asked: _Asked) -> None:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    bars = Progress(*columns, console=asked.console)
    bar = bars.add_task(file.name, total=None)

    def progress(received: int, length: int | None) -> None:
        bars.update(bar, completed=received, total=length)

    try:
        with bars if asked.console.is_terminal and not asked.quiet else contextlib.nullcontext():
            await session.download(job_id, file, progress=progress)
    except OSError as error:
        raise ConfigurationError(
            f"{file}: {error.strerror}. Job {job_id} keeps its file: {_downloading(job_id)}"
        ) from None
    except asyncio.CancelledError:
        click.echo(f"interrupted; nothing was saved. Again: {_downloading(job_id)}", err=True)
        raise


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
        raise click.BadParameter(
            f"{port}: {os.strerror(error.errno)}. Give another, or 0 for a free one.",
            param_hint="--port",
        ) from None


@commands.command("demo")
@click.pass_obj
def demo_(log: _ToConsole) -> None:
    """Watch a dozen jobs run on a simulated service.

    It takes some ten seconds, and no account.

    Example: moltin-jobs demo
    """
    _run(demo.demo(log.console))
