"""Live table of waits."""

import asyncio
import collections
from collections.abc import Callable, Collection, Iterator, Sequence

import attrs
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from .._polling.watch import JobWatch
from ..errors import JobFailedError, MoltinJobsError, single_line
from ..kinds import ORDERS, JobKind
from ..models import Job, JobState
from .exit_codes import Outcome
from .messages import label
from .output import reason_of
from .places import Place
from .times import duration_of, format_duration

_MAX_RATE_SPAN_SECONDS = 5
"""Longest span over which the displayed requests per second are averaged."""
_RESERVED_LINES = 4
"""Lines for the title, the header, "… and N more", and the cursor."""
_MIN_WIDTH_FOR_POLLS = 70
"""Columns from which a UUID, its status and its time leave room for the number of polls."""
_MIN_ID_WIDTH = 20
"""Columns of an id that an estimate of its end leaves."""
_MIN_STATUS_WIDTH = len("IN_PROGRESS")
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
    started_at: float = attrs.field(
        default=attrs.Factory(lambda wait: wait.changed_at, takes_self=True), init=False
    )

    @property
    def job(self) -> Job | None:
        """The job as the last poll has shown it."""
        return self.watch.job if self.watch else None

    @property
    def is_retrying(self) -> bool:
        """Whether the last poll failed and will be retried."""
        return self.outcome is None and bool(self.watch and self.watch.consecutive_failures)

    @property
    def is_open(self) -> bool:
        """Whether the last poll has shown that the job has not ended."""
        is_seen = self.job is not None and not self.job.is_terminal
        return self.outcome is None and is_seen and not self.is_retrying

    def update(self, now: float) -> bool:
        """Read the watch, and return whether the status has changed."""
        watch, job, status = self.watch, self.job, self.status
        error = watch.last_error if watch and self.is_retrying else self.outcome
        if isinstance(error, MoltinJobsError) and not isinstance(error, JobFailedError):
            status = label(error), "yellow" if self.is_retrying else "red"
        elif job:
            status = single_line(job.status), _STYLES.get(job.state, "")
        if status == self.status:
            return False
        self.status, self.changed_at = status, now
        return True

    def seconds(self, now: float) -> float:
        """Return the time since the last change of the status. After the end, the job's duration.

        If that is not known, it is the duration of the wait.
        """
        if self.outcome is None:
            return now - self.changed_at
        duration = duration_of(self.job) if self.job else None
        return self.changed_at - self.started_at if duration is None else duration

    def details(self, now: float) -> str:
        """Return when the next retry is due, or why the job has failed."""
        if self.watch is None or not self.is_retrying:
            return reason_of(self.outcome)
        due = self.watch.next_poll_at
        moment = "" if due is None else f" in {max(due - now, 0.0):.0f} s"
        return f"x{self.watch.consecutive_failures}, retrying{moment}"


class WaitTable:
    """Table that shows the state of waits at the moment of rendering.

    Args:
        waits: one for each row.
        clock: returns the time in seconds.
        hint: last line. Empty for none.
    """

    def __init__(self, waits: Sequence[Wait], clock: Callable[[], float], hint: str = "") -> None:
        self.hint = hint
        self._waits = waits
        self._clock = clock
        self._started_at = clock()
        self._samples: collections.deque[tuple[float, int]] = collections.deque()
        self._requests_per_second = 0.0
        self._places: dict[str, Place] = {}
        self._places_at = 0.0

    def set_places(self, places: dict[str, Place]) -> None:
        """Show the places of jobs in the job queue, as they are now.

        Until the next call, those behind a job of the table that ends move up, and the time left
        counts down.
        """
        self._places, self._places_at = places, self._clock()

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
        room = max(console.height - _RESERVED_LINES - bool(self.hint), 1)
        if len(waits) > room:  # those in progress come first
            waits = sorted(waits, key=lambda wait: wait.outcome is not None)[:room]
        yield self._make_table(waits, now, options.max_width)
        if len(waits) < len(self._waits):
            yield _line(f"… and {len(self._waits) - len(waits)} more")
        if self.hint:
            yield _line(self.hint, "dim")

    def _make_table(self, waits: Sequence[Wait], now: float, width: int) -> Table:
        is_wide = width >= _MIN_WIDTH_FOR_POLLS
        # A status that is not documented may be long.
        max_status_width = max(width // 6, _MIN_STATUS_WIDTH)
        rows = [["job", "status", "time", "polls"]]
        for wait in waits:
            status, time = wait.status[0], format_duration(wait.seconds(now))
            polls = str(wait.watch.polls if wait.watch else 0)
            rows.append([single_line(wait.job_id), status, time, polls])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        widths[1] = min(widths[1], max_status_width)
        gap = 1 + is_wide
        room = width - sum(widths[1 : 3 + is_wide]) - gap * (3 + is_wide)
        estimates = self._estimates(waits, now)
        length, estimate_width = _choose_length(estimates.values(), room, widths[0])

        table = Table(box=None, expand=True, pad_edge=False, padding=(0, gap, 0, 0))
        table.add_column("job")  # the only column that may shrink
        table.add_column("status", no_wrap=True, max_width=max_status_width)
        for name in rows[0][2 : 3 + is_wide]:
            table.add_column(name, no_wrap=True)
        # It gets the width that the others leave, or more if there are estimates.
        table.add_column(ratio=1, no_wrap=True, width=estimate_width or None)
        for wait, row in zip(waits, rows[1:], strict=True):
            cells = [_line(text) for text in row[: 3 + is_wide]]
            cells[1] = _line(*wait.status)
            texts = estimates.get(wait.job_id)
            details = texts[length] if texts else wait.details(now)
            table.add_row(*cells, _line(details, "dim"))
        return table

    def _estimates(self, waits: Sequence[Wait], now: float) -> dict[str, tuple[str, str, str]]:
        """Return the place of each job that is in progress, in three lengths, by its id."""
        if not self._places:
            return {}
        ended = {wait.job.id for wait in self._waits if wait.job and wait.job.is_terminal}
        queue = [job_id for job_id in self._places if job_id not in ended]
        positions = {job_id: number for number, job_id in enumerate(queue, 1)}
        estimates = {}
        for wait in waits:
            job = wait.job
            if job is None or not wait.is_open or job.id not in positions:
                continue
            place = self._places[job.id]
            left = place.seconds_left
            estimates[wait.job_id] = Place(
                positions[job.id],
                place.is_running or job.state is JobState.RUNNING,
                None if left is None else left - (now - self._places_at),
            ).texts
        return estimates


def _choose_length(
    estimates: Collection[tuple[str, str, str]], room: int, id_width: int
) -> tuple[int, int]:
    """Return which of the three lengths leaves room for the ids, and its width.

    Args:
        estimates: each estimate in three lengths.
        room: columns for an id and an estimate.
        id_width: columns of the longest id.
    """
    if not estimates:
        return 0, 0
    widths = [max(map(len, texts)) for texts in zip(*estimates, strict=True)]
    # The longest one must not shorten an id. The shortest one is used if no other fits.
    for length, min_width in enumerate((id_width, min(id_width, _MIN_ID_WIDTH))):
        if room - widths[length] >= min_width:
            return length, widths[length]
    return 2, widths[2]


def _line(text: str, style: str = "") -> Text:
    # Never wrap: the number of rows assumes one line each.
    return Text(text, style, no_wrap=True, overflow="ellipsis")
