"""Waits and downloads that show their progress: live on a terminal, else as lines."""

import asyncio
import collections
import contextlib
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import attrs
from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .._polling.watch import JobWatch
from ..errors import ConfigurationError, JobFailedError, MoltinJobsError, single_line
from ..kinds import ORDERS, JobKind
from ..models import Job, JobState
from ..session import JobsSession
from .exit_codes import Outcome
from .messages import label
from .output import Output, reason_of

REFRESH_SECONDS = 1 / 8
"""Seconds between two updates of the display."""
_MAX_RATE_SPAN_SECONDS = 5
"""Longest span over which the displayed requests per second are averaged."""
_RESERVED_LINES = 4
"""Lines for the title, the header, "… and N more", and the cursor."""
_STYLES = {JobState.SUCCEEDED: "green", JobState.FAILED: "red", JobState.CANCELLED: "yellow"}


@attrs.define(eq=False)
class Wait:
    """A wait for one job, with the status that is shown for it."""

    job_id: str
    kind: JobKind = attrs.field(default=ORDERS, kw_only=True)
    watch: JobWatch | None = None
    """``None`` until the wait has started, and for an invalid id."""
    outcome: Outcome | None = None
    status: tuple[str, str] = attrs.field(default=("…", ""), init=False)
    """Status of the job, or a label for the error of the last poll, and its style."""
    changed_at: float = attrs.field(factory=lambda: asyncio.get_running_loop().time())
    """Moment of the last change of the status."""

    @property
    def is_retrying(self) -> bool:
        """Whether the last poll failed and will be retried."""
        return self.outcome is None and bool(self.watch and self.watch.consecutive_failures)

    def update(self, now: float) -> bool:
        """Read the watch, and return whether the status has changed."""
        watch, status = self.watch, self.status
        error = watch.last_error if watch and self.is_retrying else self.outcome
        if isinstance(error, MoltinJobsError) and not isinstance(error, JobFailedError):
            status = label(error), "yellow" if self.is_retrying else "red"
        elif watch and watch.job:
            status = single_line(watch.job.status), _STYLES.get(watch.job.state, "")
        if status == self.status:
            return False
        self.status, self.changed_at = status, now
        return True

    def details(self, now: float) -> str:
        """Return when the next retry is due, or why the job has failed."""
        if self.watch is None or not self.is_retrying:
            return reason_of(self.outcome)
        due = self.watch.next_poll_at
        moment = "" if due is None else f" in {max(due - now, 0.0):.0f} s"
        return f"x{self.watch.consecutive_failures}, retrying{moment}"


class WaitTable:
    """Table that shows the state of waits at the moment of rendering."""

    def __init__(self, waits: Sequence[Wait], clock: Callable[[], float]) -> None:
        self._waits = waits
        self._clock = clock
        self._started_at = clock()
        self._samples: collections.deque[tuple[float, int]] = collections.deque()
        self._requests_per_second = 0.0

    def add_sample(self, requests: int) -> None:
        """Update the rate of requests. ``requests`` is the number of all requests sent so far."""
        now, samples = self._clock(), self._samples
        samples.append((now, requests))
        # Whole seconds: the rate limit lets requests out in bursts, one a second, and a span of
        # 1.2 s may contain two of them.
        span = min(max(int(now - self._started_at), 1), _MAX_RATE_SPAN_SECONDS)
        while samples[0][0] < now - span:
            samples.popleft()
        self._requests_per_second = (requests - samples[0][1]) / span

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        now, waits = self._clock(), self._waits
        ended = sum(wait.outcome is not None for wait in waits)
        retrying = sum(wait.is_retrying for wait in waits)
        yield _line(
            f"{ended} of {len(waits)} jobs ended, {format_duration(now - self._started_at)}, "
            f"{self._requests_per_second:.1f} requests/s"
            + (f", {retrying} retrying" if retrying else "")
        )
        room = max(console.height - _RESERVED_LINES, 1)
        if len(waits) > room:  # those in progress come first
            waits = sorted(waits, key=lambda wait: wait.outcome is not None)[:room]
        table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("job")  # the only column that may shrink
        for name in ("status", "time", "polls"):
            table.add_column(name, no_wrap=True)
        table.add_column(ratio=1, no_wrap=True)  # gets the width that the others leave
        for wait in waits:
            duration = "" if wait.outcome else format_duration(now - wait.changed_at)
            polls = str(wait.watch.polls if wait.watch else 0)
            details = _line(wait.details(now), "dim")
            job_id = _line(single_line(wait.job_id))
            table.add_row(job_id, Text(*wait.status), duration, polls, details)
        yield table
        if len(waits) < len(self._waits):
            yield _line(f"… and {len(self._waits) - len(waits)} more")


def format_duration(seconds: float) -> str:
    """Return seconds with one decimal, or ``H:MM:SS`` from one minute on."""
    return f"{seconds:.1f} s" if seconds < 60 else str(datetime.timedelta(seconds=int(seconds)))


def _line(text: str, style: str = "") -> Text:
    # Never wrap: the number of rows assumes one line each.
    return Text(text, style, no_wrap=True, overflow="ellipsis")


async def outcome_of(result: Awaitable[Job | Path]) -> Outcome:
    """Return the result or the error."""
    try:
        return await result
    except MoltinJobsError as error:
        return error


async def wait_for_outcomes(
    session: JobsSession,
    waits: Sequence[Wait],
    output: Output,
    report: Callable[[str, Outcome], object] = lambda _job_id, _outcome: None,
    *,
    timeout: float | None = None,
) -> list[Outcome]:
    """Wait for jobs at the same time, and return the outcomes in order.

    Args:
        session: an open session.
        waits: one for each job. They show the progress.
        output: output for the progress.
        report: called with each id and outcome as soon as it is known.
        timeout: seconds for each wait.
    """

    by_id = {wait.job_id: wait for wait in waits}
    jobs = [Job(id=wait.job_id, kind=wait.kind.name, status="") for wait in waits]
    async with (
        session.as_completed(jobs, timeout=timeout) as outcomes,
        _display(session, waits, output) as update,
    ):
        for watch in outcomes.watches:
            by_id[watch.job_id].watch = watch
        async for job, outcome in outcomes:
            wait = by_id[job.id]
            wait.outcome = outcome
            update(wait)
            report(job.id, outcome)
    return [wait.outcome for wait in waits if wait.outcome is not None]


@contextlib.asynccontextmanager
async def _display(
    session: JobsSession, waits: Sequence[Wait], output: Output
) -> AsyncIterator[Callable[[Wait], None]]:
    """Show a live table if there is a terminal, else a line for each change.

    Gives a function that updates a wait immediately.
    """
    clock = asyncio.get_running_loop().time
    started_at, table = clock(), WaitTable(waits, clock)
    live = Live(table, console=output.console, auto_refresh=False, redirect_stdout=False)

    def update(wait: Wait) -> None:
        if wait.update(clock()) and not output.is_quiet and not output.is_live:
            status = wait.status[0] + (", retrying" if wait.is_retrying else "")
            output.print_note(f"{clock() - started_at:7.1f} s  {wait.job_id}  {status}")

    async def refresh() -> None:
        while True:
            table.add_sample(session.stats().requests)
            for wait in waits:
                update(wait)
            if output.is_live:
                live.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    output.is_live = output.has_terminal
    refreshing = asyncio.create_task(refresh())
    try:
        with live if output.is_live else contextlib.nullcontext():
            yield update
    finally:
        output.is_live = False
        refreshing.cancel()
        await asyncio.wait([refreshing])


async def save_file(
    session: JobsSession,
    job_id: str,
    path: Path,
    output: Output,
    *,
    kind: JobKind = ORDERS,
    file_index: int | None = None,
    timeout: float | None = None,
) -> Path:
    """Save the file of a job, with a progress bar if there is a terminal."""
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), DownloadColumn(), TimeElapsedColumn())
    bars = Progress(*columns, console=output.console)
    bar = bars.add_task(single_line(path.name), total=None)

    def show(received: int, length: int | None) -> None:
        bars.update(bar, completed=received, total=length)

    with bars if output.has_terminal else contextlib.nullcontext():
        try:
            return await session.download(
                job_id, path, kind=kind, file_index=file_index, progress=show, timeout=timeout
            )
        except MoltinJobsError:  # JobTimeoutError is also an OSError
            raise
        except OSError as error:
            file = f"The file of {kind.label} {job_id}"
            reason = f"{path}: {error.strerror}. {file} is still available."
            raise ConfigurationError(reason) from None
