"""What is seen of many waits: a live table on a terminal, else a line at each change.

Everything that goes to stderr goes through one console, so that no line tears the table. What the
waits live through is learned from the fields of the log.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import datetime
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import aiohttp
import attrs
import click
from rich.console import Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from ..errors import ConfigurationError, JobTimeoutError, MoltinJobsError, one_line
from ..models import Job, JobState

if TYPE_CHECKING:
    from rich.console import Console

    from ..session import JobsSession

Outcome = Job | MoltinJobsError
"""How a wait ended; a job that failed is a `Job`."""

_log = logging.getLogger("moltin_jobs")
_STYLES = {
    JobState.PENDING: "dim",
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
}
_RATE_SECONDS = 5
_AROUND_ROWS = 4  # the title, the header, the row that tells of more, the cursor's


@attrs.define
class _Row:
    since: float
    """When the state that is shown began to be seen."""
    job: Job | None = None
    polls: int = 0
    trouble: str | None = None
    """What the last polls met, if they failed."""
    outcome: Outcome | None = None


class Board:
    """The waits for ``job_ids``, as they go."""

    def __init__(
        self, console: Console, job_ids: Iterable[str] = (), *, quiet: bool = False
    ) -> None:
        self._console = console
        self._quiet = quiet
        self._live = console.is_terminal and not console.is_dumb_terminal and not quiet
        self._started = now = time.monotonic()
        self._rows = {job_id: _Row(now) for job_id in job_ids}
        self._sent: collections.deque[float] = collections.deque()

    def add(self, job_id: str) -> None:
        """Show one more."""
        self._rows[job_id] = _Row(time.monotonic())

    def sent(self) -> None:
        """Count a request."""
        self._sent.append(time.monotonic())

    def heard(self, record: logging.LogRecord) -> None:
        """Show what the log tells of a poll."""
        told = vars(record)
        row = self._rows.get(told.get("job_id", ""))
        if row is None or "attempt" not in told:
            return
        row.polls = told["attempt"]
        before, row.trouble = row.trouble, None
        if "error" not in told:
            if (
                before is not None
                and row.job is not None
                and row.job.status == told.get("job_status")
            ):
                self._line(row.job.id, row.job.status)
        elif "wait" in told:
            row.trouble = f"{told['error']} x{told['failures']}, trying again"
            if before is None:
                self._line(told["job_id"], f"{told['error']}, trying again")

    def changed(self, job_id: str, job: Job) -> None:
        """Show the job's new status."""
        row = self._rows[job_id]
        row.job, row.since = job, time.monotonic()
        self._line(job_id, job.status)

    def ended(self, job_id: str, outcome: Outcome) -> None:
        """Show how the wait ended."""
        row = self._rows[job_id]
        row.outcome, row.since, row.trouble = outcome, time.monotonic(), None
        if isinstance(outcome, JobTimeoutError):
            row.polls = outcome.polls  # the last may hang yet
        if not isinstance(outcome, Job):
            self._line(job_id, type(outcome).__name__)

    def running(self) -> list[str]:
        """The ids of the jobs whose waits have not ended."""
        return [job_id for job_id, row in self._rows.items() if row.outcome is None]

    def say(self, line: str, *, err: bool = False) -> None:
        """Print a line of the results, above the table where both are on the terminal."""
        if err or (self._live and sys.stdout.isatty()):
            self._console.print(Text(line), soft_wrap=True)
        else:
            click.echo(line)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the table on the terminal, if there is one."""
        if not self._live:
            yield
            return
        with Live(
            console=self._console,
            get_renderable=self.table,
            refresh_per_second=8,
            redirect_stdout=False,
        ):
            yield

    def table(self) -> Group:
        """The waits as they stand; those that go on come first where not all have room."""
        now = time.monotonic()
        rows = list(self._rows.items())
        room = max(self._console.height - _AROUND_ROWS, 1)
        if len(rows) > room:
            rows.sort(key=lambda item: item[1].outcome is not None)
        overall = [f"{len(rows) - len(self.running())} of {len(rows)} jobs ended"]
        if troubled := sum(row.trouble is not None for _, row in rows):
            overall += [f"{troubled} in trouble"]
        overall += [f"{self._rate(now):.1f} requests a second", _duration(now - self._started)]
        held_whole = [Column(name, no_wrap=True) for name in ("job", "for", "polls")]
        table = Table(held_whole[0], "status", *held_whole[1:], box=None)
        for job_id, row in rows[:room]:
            held = "" if row.outcome is not None else _duration(now - row.since)
            table.add_row(job_id, _status(row), held, str(row.polls))
        if len(rows) > room:
            table.add_row(f"… and {len(rows) - room} more")
        return Group(_fitted(", ".join(overall)), table)

    def result(self) -> Table:
        """How each wait ended, and when."""
        table = Table("job", "ended as", "after", "error", box=None)
        for job_id, row in self._rows.items():
            told = row.outcome.error if isinstance(row.outcome, Job) else row.outcome
            table.add_row(
                job_id,
                _status(row, error=False),
                _duration(row.since - self._started),
                one_line(str(told or "")),
            )
        return table

    def _rate(self, now: float) -> float:
        # Whole seconds, since over any other span bursts of one a second would look like more.
        seconds = min(max(int(now - self._started), 1), _RATE_SECONDS)
        while self._sent and self._sent[0] < now - seconds:
            self._sent.popleft()
        return len(self._sent) / seconds

    def _line(self, job_id: str, status: str) -> None:
        if not (self._quiet or self._live):
            seconds = time.monotonic() - self._started
            self.say(f"{seconds:7.1f} s  {job_id}  {one_line(status)}", err=True)


def _status(row: _Row, *, error: bool = True) -> Text:
    if isinstance(row.outcome, MoltinJobsError):
        return _fitted(type(row.outcome).__name__, "red")
    text = _fitted("")
    if row.job is not None:
        text.append(one_line(row.job.status), _STYLES.get(row.job.state))
        if error and row.job.error:
            text.append(f" ({one_line(row.job.error)})", "dim")
    if row.trouble is not None:
        text.append(f"; {row.trouble}" if text else row.trouble, "yellow")
    return text or _fitted("…", "dim")


def _fitted(text: str, style: str = "") -> Text:
    """One line, however little room there is: more than were counted would push the table up."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return str(datetime.timedelta(seconds=int(seconds)))


def counted(board: Board) -> aiohttp.ClientSession:
    """A session for HTTP that tells the board of each request as it leaves."""

    async def sent(*_: object) -> None:
        board.sent()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(sent)
    return aiohttp.ClientSession(trace_configs=[trace], cookie_jar=aiohttp.DummyCookieJar())


class _Listener(logging.Handler):
    """Gives the board what is logged."""

    def __init__(self, board: Board) -> None:
        super().__init__(logging.DEBUG)
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        self._board.heard(record)


async def follow(
    session: JobsSession,
    board: Board,
    timeout: float | None,
    report: Callable[[str, Outcome], object],
) -> list[Outcome]:
    """Wait for every job of the board at once, each told to ``report`` as it ends."""

    async def watched(job_id: str) -> Outcome:
        outcome: Outcome
        try:
            async for job in session.watch_job(job_id, timeout=timeout):
                board.changed(job_id, job)
                outcome = job
        except ConfigurationError:  # it is not this job that it tells of
            raise
        except MoltinJobsError as error:
            outcome = error
        board.ended(job_id, outcome)
        report(job_id, outcome)
        return outcome

    listener = _Listener(board)
    _log.addHandler(listener)
    try:
        with board.shown():
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(watched(job_id)) for job_id in board.running()]
            return [task.result() for task in tasks]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # a reader of stdout that went away
    except asyncio.CancelledError:
        board.say(f"interrupted; not ended yet: {' '.join(board.running())}", err=True)
        raise
    finally:
        _log.removeHandler(listener)
