"""Plain data that the client returns."""

from __future__ import annotations

import copy
import datetime
import enum
import re
import types
from collections.abc import Mapping
from typing import Any, TypeGuard

import attrs

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NO_DETAILS: Mapping[str, Any] = types.MappingProxyType({})


def is_job_id(text: object) -> TypeGuard[str]:
    """Return whether ``text`` can be a part of a path: 1 to 128 ASCII letters, digits, - or _."""
    return isinstance(text, str) and _JOB_ID.fullmatch(text) is not None


def job_label(kind: str) -> str:
    """Return the subject of messages about a job of this kind: ``job`` for an order job."""
    return "job" if kind == "order" else f"{kind.partition(':')[0]} job"


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
    kind: str = "order"
    """Name of the kind of job, see `moltin_jobs.kinds`."""
    type: str | None = None
    """Type of the service's document, for example ``job`` or ``pim-job``."""
    job_type: str | None = None
    """Task of the job, for example ``order_export``."""
    status: str
    """Status in the service's spelling. Use ``state`` for its meaning."""
    error: str | None = None
    """Reason why an order job failed. For other kinds, see `JobsSession.get_job_problems`."""
    created_at: datetime.datetime | None = None
    """In UTC, with microseconds (the service sends nanoseconds)."""
    updated_at: datetime.datetime | None = None
    """In UTC. ``None`` for a job that was never updated (the service sends the year 1)."""
    started_at: datetime.datetime | None = None
    """In UTC. ``None`` for kinds whose service does not report it, such as order jobs."""
    ended_at: datetime.datetime | None = None
    """In UTC. ``None`` for kinds whose service does not report it, such as order jobs."""
    self_url: str | None = None
    """Address of the job in the API."""
    file_urls: tuple[str, ...] = attrs.field(default=(), repr=False)
    """Addresses of the finished files. ``repr`` leaves them out, since they may be signed."""
    details: Mapping[str, Any] = attrs.field(
        default=_NO_DETAILS, eq=False, repr=lambda details: repr(dict(details))
    )
    """Further values that the service reports, as sent. Read-only. The keys depend on the kind. A
    value that is missing is ``None``."""

    @property
    def state(self) -> JobState:
        """Meaning of ``status``, compared without regard to case."""
        return _STATES.get(self.status.lower(), JobState.UNKNOWN)

    @property
    def is_terminal(self) -> bool:
        """Whether the job has succeeded, failed or been cancelled."""
        return self.state in _TERMINAL_STATES

    @property
    def file_url(self) -> str | None:
        """Address of the finished file. ``None`` if there is none, or more than one."""
        return self.file_urls[0] if len(self.file_urls) == 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ``state`` and ``file_url``, ready for JSON.

        Timestamps are in ISO 8601.
        """
        fields = attrs.asdict(self, recurse=False, value_serializer=_to_json)
        return fields | {"file_url": self.file_url, "state": self.state.value}

    # A mappingproxy cannot be pickled or copied.
    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"details": dict(self.details)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, details=types.MappingProxyType(state["details"]))


def _to_json(_: object, __: attrs.Attribute[Any], value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return copy.deepcopy(dict(value))
    return list(value) if isinstance(value, tuple) else value


@attrs.frozen
class JobProblem:
    """A problem of a job, for example a row of an import that cannot be read."""

    message: str
    field: str | None = None
    """Field of the row, if the service names it."""
    line: int | None = None
    """Line of the imported file, from 1, if the service names it."""

    def __str__(self) -> str:
        line = None if self.line is None else f"line {self.line}"
        place = ", ".join(filter(None, (line, self.field)))
        return f"{place}: {self.message}" if place else self.message


# No slots, for the reason given at Job: a queue may contain thousands of jobs.
@attrs.frozen(kw_only=True, slots=False)
class QueuedJob:
    """A job that has not ended, with its position in the job queue.

    The times are estimates in UTC, by the service's clock. They are ``None`` if no recent job of
    the store has finished.
    """

    job: Job
    position: int
    """From 1, for the job that is running or that runs next."""
    expected_start: datetime.datetime | None = None
    """For the job that is running, the moment at which it has started."""
    expected_end: datetime.datetime | None = None
    """The job is as likely to end earlier as later."""
    earliest_end: datetime.datetime | None = None
    """Start of the range in which about 80 % of the jobs end."""
    latest_end: datetime.datetime | None = None
    """End of that range."""


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
    """Tasks that the session runs, for concurrent calls and for polls that are shared."""
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
