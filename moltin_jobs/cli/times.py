"""Moments and durations as text."""

import datetime

from ..models import Job


def duration_of(job: Job) -> float | None:
    """Return the seconds that an ended job has taken, or ``None`` if they are not known.

    They begin when the job was started, or created if its service does not report the start. They
    end when the job ended, or was last updated if its service does not report the end.
    """
    began, ended = job.started_at or job.created_at, job.ended_at or job.updated_at
    if not job.is_terminal or began is None or ended is None or ended < began:
        return None
    return (ended - began).total_seconds()


def format_moment(moment: datetime.datetime) -> str:
    """Return a moment in UTC in ISO 8601, to the second."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def format_duration(seconds: float) -> str:
    """Return seconds with one decimal, or ``H:MM:SS`` from one minute on."""
    return f"{seconds:.1f} s" if seconds < 60 else format_clock(seconds)


def format_clock(seconds: float) -> str:
    """Return seconds as ``H:MM:SS``, without days."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def format_estimate(seconds: float) -> str:
    """Return seconds in words, rounded: ``about 40 s``, ``about 4 min`` or ``about 2 h``."""
    if seconds < 10:
        return f"about {max(round(seconds), 1)} s"
    if seconds < 90:
        return f"about {round(seconds / 5) * 5} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {round(seconds / 3600)} h"
