"""The command line: progress goes to stderr, results to stdout, the outcome is the exit code.

0 all succeeded, 1 a job failed, 2 usage or configuration, 3 timed out, 4 authentication,
5 not found, 6 network or service, 130 interrupted; the highest, if several apply.
"""

from __future__ import annotations

import asyncio
import datetime
import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import attrs
import click
from rich.console import Console
from rich.text import Text

from .auth import ClientCredentials
from .board import Board, Outcome
from .errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidJobIdError,
    JobNotFoundError,
    JobTimeoutError,
    MoltinJobsError,
    PermissionDeniedError,
    one_line,
)
from .models import Job, JobState
from .schedule import Polling
from .session import JobsSession
from .simulator import Simulator

_log = logging.getLogger("moltin_jobs")
_EXIT_CODES: list[tuple[tuple[type[MoltinJobsError], ...], int]] = [
    ((ConfigurationError, InvalidJobIdError), 2),
    ((JobTimeoutError,), 3),
    ((AuthenticationError, PermissionDeniedError), 4),
    ((JobNotFoundError,), 5),
]
_DEMO_SECONDS = (0.7, 1.2, 0.9, 0.8, 1.3, 1.0, 0.9, 0.8, 1.1, 0.9, 1.0, 0.8)
_DEMO_POLLING = Polling(initial=0.4, factor=1.1, max_interval=0.7)
_DEMO_FAILS = 5
_DOCUMENTED_ERROR = "No results matched the supplied filter"


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


def _counted(board: Board) -> aiohttp.ClientSession:
    """A session for HTTP that tells the board of each request as it leaves."""

    async def sent(_session: object, _context: object, request: Any) -> None:
        board.sent(request.url.name if request.method == "GET" else None)

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(sent)
    return aiohttp.ClientSession(trace_configs=[trace], cookie_jar=aiohttp.DummyCookieJar())


async def _follow(
    session: JobsSession,
    board: Board,
    timeout: float | None,
    report: Callable[[str, Outcome], None],
) -> int:
    """Wait for every job of the board at once; return the exit code."""
    # Every id and the timeout are checked before anything is sent.
    watches = {job_id: session.watch_job(job_id, timeout=timeout) for job_id in board.running()}

    async def follow(job_id: str) -> int:
        outcome: Outcome
        try:
            async for job in watches[job_id]:
                board.changed(job_id, job)
                outcome = job
        except MoltinJobsError as error:
            outcome = error
        board.ended(job_id, outcome)
        report(job_id, outcome)
        return _exit_code(outcome)

    try:
        with board.shown():
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(follow(job_id)) for job_id in watches]
            return max(task.result() for task in tasks)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # a reader of stdout that went away
    except asyncio.CancelledError:
        board.say(f"interrupted; not ended yet: {' '.join(board.running())}", err=True)
        raise


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
_verbose = click.option("-v", "--verbose", is_flag=True, help="Log every poll to stderr.")


@click.group()
@click.version_option(package_name="moltin-jobs")
@click.pass_context
def commands(context: click.Context) -> None:
    """Look up and wait for the Jobs of Elastic Path Commerce.

    The credentials come from the environment: EPCC_CLIENT_ID with EPCC_CLIENT_SECRET, or
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
@click.option("--timeout", type=float, help="Seconds to wait for each job at most.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no warnings.")
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
        async with _counted(board) as http, _session(base_url, http=http) as session:
            return await _follow(
                session,
                board,
                timeout,
                lambda job_id, outcome: _report(job_id, outcome, as_json, board.say),
            )

    _run(main())


def _fill(simulator: Simulator, *, pace: float = 1.0) -> list[str]:
    """A dozen jobs, one of which will fail as the documents show."""
    return [
        simulator.add_job(
            f"order-export-{number:02}",
            duration=seconds * pace,
            error=_DOCUMENTED_ERROR if number == _DEMO_FAILS else None,
        )
        for number, seconds in enumerate(_DEMO_SECONDS, start=1)
    ]


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

    async def main() -> int:
        async with Simulator(port=port) as simulator:
            ids = _fill(simulator, pace=10.0)
            click.echo(f"export EPCC_API_BASE_URL={simulator.url}")
            click.echo(f"export EPCC_CLIENT_ID={simulator.client_id}")
            click.echo(f"export EPCC_CLIENT_SECRET={simulator.client_secret}")
            click.echo(f"serving the jobs {' '.join(ids)}; Ctrl-C ends it", err=True)
            return await asyncio.Event().wait()  # for ever

    try:
        _run(main())
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise click.BadParameter(os.strerror(error.errno), param_hint="--port") from None


@commands.command()
@click.pass_obj
def demo(console: Console) -> None:
    """Watch a dozen jobs run on a simulated service: some ten seconds, no account needed.

    Example: moltin-jobs demo
    """

    async def main() -> int:
        async with Simulator() as simulator:
            board = Board(console, _fill(simulator), quiet=False)
            credentials = ClientCredentials(simulator.client_id, simulator.client_secret)
            async with (
                _counted(board) as http,
                JobsSession(
                    credentials, base_url=simulator.url, polling=_DEMO_POLLING, http=http
                ) as session,
            ):
                await _follow(session, board, None, lambda _job_id, _outcome: None)
            jobs, requests = len(_DEMO_SECONDS), len(simulator.requests)
        click.echo(f"\n{jobs} jobs waited for at once, in {requests} requests:\n")
        Console().print(board.result())
        return 0

    _run(main())
