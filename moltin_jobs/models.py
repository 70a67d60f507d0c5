"""Plain data that the client returns."""

from __future__ import annotations

import datetime
import enum
from typing import Any

import attrs


class JobState(enum.StrEnum):
    """Meaning of a job's ``status``, independent of its spelling.

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
    """A status that the service does not document. It is not terminal."""


# The service's current documents, its older documents and its SDKs use different spellings.
_SPELLINGS = {
    JobState.PENDING: ("pending",),
    JobState.RUNNING: ("started", "processing", "in_progress"),
    JobState.SUCCEEDED: ("success", "complete", "completed", "published"),
    JobState.FAILED: ("failed",),
    JobState.CANCELLING: ("cancelling",),
    JobState.CANCELLED: ("cancelled", "canceled"),
}
_STATES = {spelling: state for state, spellings in _SPELLINGS.items() for spelling in spellings}
_TERMINAL_STATES = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


# No slots: attrs then fills the dict of the instance directly. With slots, a tenth of the time of a
# lookup would be spent on constructing the job.
@attrs.frozen(kw_only=True, slots=False)
class Job:
    """A job as last reported by the service.

    ``id`` and ``status`` are always set. Any other field is ``None`` if the service left it out
    or sent a value that cannot be read. The client never follows the URLs by itself.
    """

    id: str
    """Opaque. Most ids are UUIDs, but the service documents one that is not."""
    type: str | None = None
    job_type: str | None = None
    """Task of the job, for example ``order_export``."""
    status: str
    """Status in the service's spelling. Use ``state`` for its meaning."""
    error: str | None = None
    """Reason of a failure."""
    created_at: datetime.datetime | None = None
    """In UTC, with microseconds (the service sends nanoseconds)."""
    updated_at: datetime.datetime | None = None
    """In UTC. ``None`` for a job that was never updated (the service sends the year 1)."""
    self_url: str | None = None
    """Address of the job in the API."""
    file_url: str | None = attrs.field(default=None, repr=False)
    """Address of the finished file. It may contain a signature, so ``repr`` leaves it out."""

    @property
    def state(self) -> JobState:
        """Meaning of ``status``, compared without regard to case."""
        return _STATES.get(self.status.lower(), JobState.UNKNOWN)

    @property
    def is_terminal(self) -> bool:
        """Whether the job has succeeded, failed or been cancelled."""
        return self.state in _TERMINAL_STATES

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and ``state``, ready for JSON. Timestamps are in ISO 8601."""
        return attrs.asdict(self, value_serializer=_to_json) | {"state": self.state.value}


def _to_json(_: type, __: attrs.Attribute[Any], value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.datetime) else value


@attrs.frozen(kw_only=True)
class SessionStats:
    """Snapshot of a session's activity."""

    waits: int
    """Waits in progress."""
    requests_in_flight: int
    """Attempts that were sent and have no complete response yet."""
    requests_queued: int
    """Attempts that wait for a connection, the cooldown, a token or a slot of the rate limit."""
    slots_held: int
    """Slots of the rate limit taken by attempts whose response has not begun."""
    tasks: int
    """Tasks that the session runs for polls."""
    connections: int
    """Connections in use. Idle ones are not counted."""
    requests: int
    """Attempts sent since the session was created, token requests included."""
    polls: int
    """Polls since the session was created."""
    failed_polls: int
    """Polls that failed since the session was created."""
    cooldowns: int
    """Cooldowns after a 429 since the session was created."""
