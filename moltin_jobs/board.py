"""What is seen of many waits: a live table on a terminal, else a line at each change.

Everything that goes to stderr goes through one console, so that no line tears the table.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .errors import MoltinJobsError, one_line
from .models import Job, JobState

if TYPE_CHECKING:
    from rich.console import Console

    from .session import JobsSession

Outcome = Job | MoltinJobsError
"""How a wait ended; a job that failed is a `Job`."""

_STYLES = {
    JobState.PENDING: "dim",
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
}
_RATE_SECONDS = 5.0
_AROUND_ROWS = 4  # the title, the header, the row that tells of more, the cursor's


@attrs.define
class _Row:
    since: float
    """When the state that is shown began to be seen."""
    job: Job | None = None
    polls: int = 0
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

    def sent(self, job_id: str | None) -> None:
        """Count a request: a poll of that job, or another one."""
        self._sent.append(time.monotonic())
        if job_id in self._rows:
            self._rows[job_id].polls += 1

    def changed(self, job_id: str, job: Job) -> None:
        """Show the job's new status."""
        row = self._rows[job_id]
        row.job, row.since = job, time.monotonic()
        self._line(job_id, job.status)

    def ended(self, job_id: str, outcome: Outcome) -> None:
        """Show how the wait ended."""
        row = self._rows[job_id]
        row.outcome, row.since = outcome, time.monotonic()
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
        overall = (
            f"{len(rows) - len(self.running())} of {len(rows)} jobs ended, "
            f"{self._rate(now):.1f} requests a second, {_duration(now - self._started)}"
        )
        table = Table("job", "status", "for", "polls", box=None)
        for job_id, row in rows[:room]:
            held = "" if row.outcome is not None else _duration(now - row.since)
            table.add_row(job_id, _status(row), held, str(row.polls))
        if len(rows) > room:
            table.add_row(f"… and {len(rows) - room} more")
        return Group(Text(overall), table)

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
        seconds = min(max(now - self._started, 1.0), _RATE_SECONDS)
        while self._sent and self._sent[0] < now - seconds:
            self._sent.popleft()
        return len(self._sent) / seconds

    def _line(self, job_id: str, status: str) -> None:
        if not (self._quiet or self._live):
            seconds = time.monotonic() - self._started
            self.say(f"{seconds:7.1f} s  {job_id}  {one_line(status)}", err=True)


def _status(row: _Row, *, error: bool = True) -> Text:
    if isinstance(row.outcome, MoltinJobsError):
        return Text(type(row.outcome).__name__, "red")
    if row.job is None:
        return Text("…", "dim")
    text = Text(one_line(row.job.status), _STYLES.get(row.job.state, ""))
    if error and row.job.error:
        text.append(f" ({one_line(row.job.error)})", "dim")
    return text


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return str(datetime.timedelta(seconds=int(seconds)))


def counted(board: Board) -> aiohttp.ClientSession:
    """A session for HTTP that tells the board of each request as it leaves."""

    async def sent(_session: object, _context: object, request: Any) -> None:
        board.sent(request.url.name if request.method == "GET" else None)

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(sent)
    return aiohttp.ClientSession(trace_configs=[trace], cookie_jar=aiohttp.DummyCookieJar())


async def follow(
    session: JobsSession,
    board: Board,
    timeout: float | None,
    report: Callable[[str, Outcome], None],
) -> list[Outcome]:
    """Wait for every job of the board at once, each told to ``report`` as it ends."""
    # Every id and the timeout are checked before anything is sent.
    watches = {job_id: session.watch_job(job_id, timeout=timeout) for job_id in board.running()}

    async def watched(job_id: str) -> Outcome:
        outcome: Outcome
        try:
            async for job in watches[job_id]:
                board.changed(job_id, job)
                outcome = job
        except MoltinJobsError as error:
            outcome = error
        board.ended(job_id, outcome)
        report(job_id, outcome)
        return outcome

    try:
        with board.shown():
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(watched(job_id)) for job_id in watches]
            return [task.result() for task in tasks]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # a reader of stdout that went away
    except asyncio.CancelledError:
        board.say(f"interrupted; not ended yet: {' '.join(board.running())}", err=True)
        raise
