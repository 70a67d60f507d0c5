"""Live table of waits, for a terminal."""

import asyncio
import collections
import datetime
from collections.abc import Callable, Iterator, Sequence

import attrs
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from .._polling.watch import JobWatch
from ..errors import MoltinJobsError, single_line
from ..models import JobState
from .messages import label
from .output import Outcome

_RATE_SECONDS = 5
_RESERVED_LINES = 4
"""Lines for the title, the header, the number of rows without room, and the cursor."""
_GAP = "  "
_MIN_ID_WIDTH = 4
_STYLES = {
    JobState.PENDING: "dim",
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
}


@attrs.define(eq=False)
class WaitProgress:
    """Progress of one wait."""

    job_id: str
    watch: JobWatch | None = None
    """``None`` until the wait has started, and for an invalid id."""
    outcome: Outcome | None = None
    changed_at: float = attrs.field(factory=lambda: asyncio.get_running_loop().time())
    """Moment of the last change of the job's status, or of the end of the wait."""

    @property
    def is_retrying(self) -> bool:
        """Whether the last poll failed and will be retried."""
        return self.outcome is None and bool(self.watch and self.watch.consecutive_failures)

    @property
    def status(self) -> tuple[str, str]:
        """Status, or a label for the error that ended the wait, and its style."""
        if isinstance(self.outcome, MoltinJobsError):
            return label(self.outcome), "red"
        job = self.watch.job if self.watch else None
        return (single_line(job.status), _STYLES.get(job.state, "")) if job else ("…", "dim")


class WaitTable:
    """Table of waits that shows their state at the moment when it is rendered."""

    def __init__(self, waits: Sequence[WaitProgress], clock: Callable[[], float]) -> None:
        self._waits = waits
        self._clock = clock
        self._started_at = clock()
        self._samples: collections.deque[tuple[float, int]] = collections.deque()
        self._requests_per_second = 0.0

    def add_sample(self, requests: int) -> None:
        """Update the rate of requests. ``requests`` counts all that were sent."""
        now, samples = self._clock(), self._samples
        samples.append((now, requests))
        # Whole seconds: in any other span, bursts of one second would look like a higher rate.
        span = min(max(int(now - self._started_at), 1), _RATE_SECONDS)
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
        yield from _rows(waits, now, options.max_width)
        if len(waits) < len(self._waits):
            yield _line(f"… and {len(self._waits) - len(waits)} more")


def format_duration(seconds: float) -> str:
    """Return seconds with one digit, and from one minute on hours, minutes and seconds."""
    return f"{seconds:.1f} s" if seconds < 60 else str(datetime.timedelta(seconds=int(seconds)))


def _rows(waits: Sequence[WaitProgress], now: float, max_width: int) -> Iterator[Text]:
    """Yield the header and a line for each wait, within the width of the terminal."""
    rows = [[_line(name, "bold") for name in ("job", "status", "for", "polls")]]
    for wait in waits:
        duration = "" if wait.outcome else format_duration(now - wait.changed_at)
        polls = str(wait.watch.polls if wait.watch else 0)
        job_id = single_line(wait.job_id)
        rows.append([_line(job_id), _status(wait, now), _line(duration), _line(polls)])
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    # The status and the duration keep their width. The id shrinks, and the details get the rest.
    min_status_width = max([len("status"), *(_line(*wait.status).cell_len for wait in waits)])
    room = max_width - widths[2] - widths[3] - 3 * len(_GAP)
    widths[0] = min(widths[0], max(room - min_status_width, _MIN_ID_WIDTH))
    widths[1] = min(widths[1], max(room - widths[0], min_status_width))
    for row in rows:
        for cell, width in zip(row, widths, strict=True):
            cell.truncate(width, overflow="ellipsis", pad=True)
        yield _line(_GAP).join(row)


def _status(wait: WaitProgress, now: float) -> Text:
    """Return the status, with the reason of a failure or the last error of an outage."""
    text, watch = _line("").append(*wait.status), wait.watch
    if watch and watch.job and watch.job.error and not isinstance(wait.outcome, MoltinJobsError):
        text.append(f" ({single_line(watch.job.error)})", "dim")
    if wait.is_retrying and watch and watch.last_error:
        failures = f"{label(watch.last_error)} x{watch.consecutive_failures}, retrying"
        if watch.next_poll_at is not None:
            failures += f" in {max(watch.next_poll_at - now, 0.0):.0f} s"
        text = text.append("; ") if watch.job else _line("")
        text.append(failures, "yellow")
    return text


def _line(text: str, style: str = "") -> Text:
    # Never wrap: the number of rows assumes one line each.
    return Text(text, style, no_wrap=True, overflow="ellipsis")
