"""Live table of waits."""

import asyncio
import collections
from collections.abc import Callable, Iterator, Sequence

import attrs
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from .._polling.watch import JobWatch
from ..errors import JobFailedError, MoltinJobsError, single_line
from ..kinds import ORDERS, JobKind
from ..models import JobState
from .exit_codes import Outcome
from .messages import label
from .output import reason_of
from .times import duration_of, format_duration

_MAX_RATE_SPAN_SECONDS = 5
"""Longest span over which the displayed requests per second are averaged."""
_RESERVED_LINES = 4
"""Lines for the title, the header, "… and N more", and the cursor."""
_MIN_WIDTH_FOR_POLLS = 70
"""Columns from which a UUID, its status and its time leave room for the number of polls."""
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

    def seconds(self, now: float) -> float:
        """Return the time since the last change of the status. After the end, the job's duration.

        If that is not known, it is the duration of the wait.
        """
        if self.outcome is None:
            return now - self.changed_at
        job = self.watch.job if self.watch else None
        duration = duration_of(job) if job else None
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
        is_wide = options.max_width >= _MIN_WIDTH_FOR_POLLS
        table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1 + is_wide, 0, 0))
        table.add_column("job")  # the only column that may shrink
        # A status that is not documented may be long.
        status_width = max(options.max_width // 6, _MIN_STATUS_WIDTH)
        table.add_column("status", no_wrap=True, max_width=status_width)
        for name in ("time", "polls") if is_wide else ("time",):
            table.add_column(name, no_wrap=True)
        table.add_column(ratio=1, no_wrap=True)  # gets the width that the others leave
        for wait in waits:
            row = [_line(single_line(wait.job_id)), _line(*wait.status)]
            row.append(_line(format_duration(wait.seconds(now))))
            if is_wide:
                row.append(_line(str(wait.watch.polls if wait.watch else 0)))
            table.add_row(*row, _line(wait.details(now), "dim"))
        yield table
        if len(waits) < len(self._waits):
            yield _line(f"… and {len(self._waits) - len(waits)} more")
        if self.hint:
            yield _line(self.hint, "dim")


def _line(text: str, style: str = "") -> Text:
    # Never wrap: the number of rows assumes one line each.
    return Text(text, style, no_wrap=True, overflow="ellipsis")
