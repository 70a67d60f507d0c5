"""What a job is: plain frozen data, with the service's dialects of status told apart."""

from __future__ import annotations

import datetime
import enum

import attrs


class JobState(enum.StrEnum):
    """What a job's ``status`` means, whichever dialect it was spelled in.

    >>> Job(id="a", status="complete").state
    <JobState.SUCCEEDED: 'succeeded'>
    """

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """A spelling that no document of the service lists. Not terminal: it may yet change."""


# Current documents, older documents and promotion jobs each spell these their own way.
_STATES = {
    "pending": JobState.PENDING,
    "started": JobState.RUNNING,
    "processing": JobState.RUNNING,
    "success": JobState.SUCCEEDED,
    "complete": JobState.SUCCEEDED,
    "completed": JobState.SUCCEEDED,
    "failed": JobState.FAILED,
    "cancelling": JobState.CANCELLING,
    "cancelled": JobState.CANCELLED,
}
_TERMINAL = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@attrs.frozen(kw_only=True)
class Job:
    """A job as the service last described it.

    ``id`` and ``status`` are always there; whatever else the service left out, or sent in a
    form that cannot be read, is ``None``. Links are data: this library never follows them.
    """

    id: str
    """Opaque: most are UUIDs, but the service's own documents show one that is not."""
    type: str | None = None
    job_type: str | None = None
    """What the job does, for example ``order_export``."""
    status: str
    """Spelled as the service did; ``state`` says what it means."""
    error: str | None = None
    """Why the job failed."""
    created_at: datetime.datetime | None = None
    """In UTC, to the microsecond (the service sends nanoseconds)."""
    updated_at: datetime.datetime | None = None
    """In UTC; ``None`` for a job never updated, which the service dates to the year 1."""
    self_url: str | None = None
    file_url: str | None = None
    """Where the finished file is, once it is."""

    @property
    def state(self) -> JobState:
        """The meaning of ``status``, compared without regard to case."""
        return _STATES.get(self.status.lower(), JobState.UNKNOWN)

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended: succeeded, failed or cancelled."""
        return self.state in _TERMINAL
