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
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import attrs
import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .auth import ClientCredentials
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

_STYLES = {
    JobState.PENDING: "dim",
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
}
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

Outcome = Job | MoltinJobsError


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
    if as_json:
        say(_document(job_id, outcome))
    elif isinstance(outcome, Job):
        told = outcome.error or outcome.file_url
        say("\t".join([job_id, one_line(outcome.status)] + ([one_line(told)] if told else [])))
    if not isinstance(outcome, Job):
        say(f"error: {outcome}", err=True)


@attrs.define
class _Row:
    job_id: str
    way: list[Job] = attrs.field(factory=list)
    ended: Outcome | None = None
    ended_at: float = 0.0


class _Board:
    """What is seen of many waits: a live table on a terminal, else a line at each change."""

    def __init__(self, job_ids: list[str], *, quiet: bool) -> None:
        self.rows = {job_id: _Row(job_id) for job_id in job_ids}
        self._quiet = quiet
        self._console = Console(stderr=True)
        # Lines of the log would cross the table.
        self._live = (
            self._console.is_terminal
            and not self._console.is_dumb_terminal
            and not logging.getLogger("moltin_jobs").isEnabledFor(logging.WARNING)
        )
        self._started = time.monotonic()

    def changed(self, job_id: str, job: Job) -> None:
        self.rows[job_id].way.append(job)
        self._line(job_id, job.status)

    def ended(self, job_id: str, outcome: Outcome) -> None:
        row = self.rows[job_id]
        row.ended, row.ended_at = outcome, time.monotonic()
        if not isinstance(outcome, Job):
            self._line(job_id, type(outcome).__name__)

    def running(self) -> list[str]:
        return [row.job_id for row in self.rows.values() if row.ended is None]

    def say(self, line: str, *, err: bool = False) -> None:
        """Print a line of the results, above the table where both are on the terminal."""
        if self._live and not self._quiet and (err or sys.stdout.isatty()):
            self._console.print(Text(line), soft_wrap=True)
        else:
            click.echo(line, err=err)

    def _line(self, job_id: str, status: str) -> None:
        if not (self._quiet or self._live):
            seconds = time.monotonic() - self._started
            click.echo(f"{seconds:7.1f} s  {job_id}  {one_line(status)}", err=True)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        if self._quiet or not self._live:
            yield
            return
        with Live(
            console=self._console,
            get_renderable=self.table,
            refresh_per_second=8,
            redirect_stdout=False,
        ):
            yield

    def table(self) -> Table:
        running = len(self.running())
        title = f"{len(self.rows) - running} of {len(self.rows)} jobs ended"
        table = Table("job", "way", "time", title=title, title_justify="left", box=None)
        for row in self.rows.values():
            end = row.ended_at if row.ended is not None else time.monotonic()
            table.add_row(row.job_id, _way(row), f"{end - self._started:.1f} s")
        return table

    def result(self) -> Table:
        table = Table("job", "ended as", "after", "error", box=None)
        for row in self.rows.values():
            job = row.way[-1]
            seconds = f"{row.ended_at - self._started:.1f} s"
            status = Text(one_line(job.status), _STYLES.get(job.state, ""))
            table.add_row(row.job_id, status, seconds, one_line(job.error or ""))
        return table


def _way(row: _Row) -> Text:
    text = Text(" → ").join(
        Text(one_line(job.status), _STYLES.get(job.state, "")) for job in row.way
    )
    if isinstance(row.ended, MoltinJobsError):
        text.append(f" {type(row.ended).__name__}", "red")
    elif row.ended is not None and row.ended.error:
        text.append(f" ({one_line(row.ended.error)})", "dim")
    return text


async def _follow(
    session: JobsSession,
    board: _Board,
    timeout: float | None,
    report: Callable[[str, Outcome], None],
) -> int:
    """Wait for every job of the board at once; return the exit code."""
    # Every id and the timeout are checked before anything is sent.
    watches = {job_id: session.watch_job(job_id, timeout=timeout) for job_id in board.rows}

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
                tasks = [group.create_task(follow(job_id)) for job_id in board.rows]
            return max(task.result() for task in tasks)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # a reader of stdout that went away
    except asyncio.CancelledError:
        click.echo(f"interrupted; not ended yet: {' '.join(board.running())}", err=True)
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


def _ids(job_ids: tuple[str, ...]) -> list[str]:
    """The ids given, each once; ``-`` stands for those on standard input, one a word."""
    words = [
        word
        for given in job_ids
        for word in (sys.stdin.read().split() if given == "-" else [given])
    ]
    if not words:
        raise click.UsageError("no job id was given")
    return list(dict.fromkeys(words))


def _session(base_url: str | None) -> JobsSession:
    return JobsSession.from_env(**({"base_url": base_url} if base_url else {}))


_job_ids = click.argument("job_ids", nargs=-1, required=True, metavar="ID…")
_base_url = click.option("--base-url", help="The API's address.  [env: EPCC_API_BASE_URL]")
_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@click.group()
@click.version_option(package_name="moltin-jobs")
@click.option("-v", "--verbose", count=True, help="Log to stderr; twice for every poll.")
def commands(verbose: int) -> None:
    """Look up and wait for the Jobs of Elastic Path Commerce.

    The credentials come from the environment: EPCC_CLIENT_ID with EPCC_CLIENT_SECRET, or
    EPCC_ACCESS_TOKEN. Exit codes: 0 all succeeded, 1 a job failed, 2 usage or configuration,
    3 timed out, 4 authentication, 5 not found, 6 network or service, 130 interrupted.
    """
    level = (logging.ERROR, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("asyncio").setLevel(logging.WARNING)


@commands.command()
@_job_ids
@_base_url
@_as_json
def get(job_ids: tuple[str, ...], base_url: str | None, as_json: bool) -> None:
    """Look jobs up once: id, status, and the error or the file.

    Example: moltin-jobs get 974c9db4-38da-4dbf-90c2-33eed5f3e77c
    """
    ids = _ids(job_ids)

    async def main() -> int:
        async with _session(base_url) as session:
            outcomes = await session.get_jobs(ids, return_exceptions=True)
        code = 0
        for job_id, outcome in zip(ids, outcomes, strict=True):
            if not isinstance(outcome, Outcome):
                raise outcome
            _report(job_id, outcome, as_json, click.echo)
            code = max(code, _exit_code(outcome))
        return code

    _run(main())


@commands.command()
@_job_ids
@click.option("--timeout", type=float, help="Seconds to wait for each job at most.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@_base_url
@_as_json
def wait(
    job_ids: tuple[str, ...],
    timeout: float | None,
    quiet: bool,
    base_url: str | None,
    as_json: bool,
) -> None:
    """Wait until jobs have ended; each is reported as it does.

    "-" reads ids from standard input. Example: moltin-jobs wait --timeout 600 - < ids.txt
    """
    ids = _ids(job_ids)

    async def main() -> int:
        async with _session(base_url) as session:
            board = _Board(ids, quiet=quiet)
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
            ids = _fill(simulator, pace=20.0)
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
def demo() -> None:
    """Watch a dozen jobs run on a simulated service: some ten seconds, no account needed."""

    async def main() -> int:
        async with Simulator() as simulator:
            board = _Board(_fill(simulator), quiet=False)
            credentials = ClientCredentials(simulator.client_id, simulator.client_secret)
            async with JobsSession(
                credentials, base_url=simulator.url, polling=_DEMO_POLLING
            ) as session:
                await _follow(session, board, None, lambda _job_id, _outcome: None)
            requests = len(simulator.requests)
        click.echo(f"\n{len(board.rows)} jobs waited for at once, in {requests} requests:\n")
        Console().print(board.result())
        return 0

    _run(main())
