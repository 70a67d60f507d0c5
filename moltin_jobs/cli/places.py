"""Places of jobs in the job queue, as text."""

import datetime
from collections.abc import Iterable

import attrs

from ..errors import ordinal
from ..models import Job, JobState
from ..queueing import estimate_queue
from .times import format_estimate


@attrs.frozen
class Place:
    """Place of a job in the job queue."""

    position: int
    is_running: bool
    seconds_left: float | None = None
    """Estimate of the time until the job ends, or ``None`` if it is not known."""

    @property
    def text(self) -> str:
        """The place and the time left."""
        return self.texts[0]

    @property
    def texts(self) -> tuple[str, str, str]:
        """The same in three lengths, the longest first. The shortest is the position alone."""
        number = ordinal(self.position)
        long, short = f"{number} in the queue", number
        if self.is_running:
            long = short = "running"
        if self.seconds_left is None or self.seconds_left <= 0:  # it takes longer than expected
            return long, short, number
        time = format_estimate(self.seconds_left)
        return f"{long}, done in {time}", f"{short}, {time}", number


def find_places(jobs: Iterable[Job]) -> dict[str, Place]:
    """Return the places of the order jobs that have not ended, by id and in order.

    Args:
        jobs: all order jobs of a store, as they are now.
    """
    # The local clock is good enough. It affects only for how long the first job has run already, so
    # a wrong clock changes the time left by one run at most.
    now = datetime.datetime.now(datetime.UTC)
    queue = estimate_queue(jobs, now)
    if queue and queue[0].expected_start is not None:
        now = max(now, queue[0].expected_start)  # it is later if the local clock is slow
    places = {}
    for queued in queue:
        end = queued.expected_end
        left = None if end is None else (end - now).total_seconds()
        is_running = queued.job.state is JobState.RUNNING
        places[queued.job.id] = Place(queued.position, is_running, left)
    return places
