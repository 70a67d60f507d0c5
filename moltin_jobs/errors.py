"""Every error that this library raises of its own.

MoltinJobsError                         .temporary
├── ConfigurationError(ValueError)
├── InvalidJobIdError(ValueError)
├── JobFailedError                      .job .error
│   └── JobCancelledError
├── JobTimeoutError(TimeoutError)       .job_id .timeout .job .polls .last_error
├── TransportError
├── InvalidResponseError                .status .body
└── APIError                            .status .errors .request_id .retry_after
    ├── AuthenticationError   401
    ├── PermissionDeniedError 403
    ├── JobNotFoundError      404       .job_id .job
    ├── RateLimitError        429
    └── ServerError           5xx

Two kinds are not in the tree: ``RuntimeError`` for a session that is closed or used from
another event loop, ``TypeError`` for an argument that a type checker would have refused.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self, TypeVar

from .models import Job

E = TypeVar("E", bound=Exception)

MAY_EXIST = "The job may exist all the same: look with list_jobs() before you create it again."
_TEXT_LIMIT = 500
_SHOWN_LIMIT = 100


def one_line(text: str) -> str:
    """Foreign text as it may stand in a message: one line, bounded, nothing unprintable."""
    line = " ".join(text[:_TEXT_LIMIT].split()) + ("…" if len(text) > _TEXT_LIMIT else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def shown(value: object) -> str:
    """A caller's wrong argument as it may stand in a message."""
    try:
        return one_line(repr(value[:_SHOWN_LIMIT] if isinstance(value, str) else value))
    except Exception:  # noqa: BLE001 (a foreign repr may raise anything)
        return f"a {type(value).__name__}"


def copied(error: Exception) -> Exception:
    """One object raised in several tasks would mix their tracebacks, so each gets its own.

    Not of a caller's own error, which may not copy.
    """
    return copy.copy(error) if isinstance(error, MoltinJobsError) else error


def doubtful(error: E) -> E:
    """``error``, of a request that creates a job, saying that it may have been carried out."""
    error.args = (f"{error} {MAY_EXIST}",)
    if isinstance(error, MoltinJobsError):
        error.temporary = False
    return error


class MoltinJobsError(Exception):
    """Any error of this library: its message is one line, and it pickles and copies."""

    temporary: bool = False
    """Whether doing the same again later could succeed."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By itself an exception would be made again by its constructor from its message, which
        # is not what the constructors here take.
        return self._restore, (self.args, self.__dict__)

    @classmethod
    def _restore(cls, args: tuple[Any, ...], facts: dict[str, Any]) -> Self:
        error = cls.__new__(cls)
        error.args = args
        error.__dict__.update(facts)
        return error


class ConfigurationError(MoltinJobsError, ValueError):
    """A setting that cannot work; the message names it. Nothing was sent."""


class InvalidJobIdError(MoltinJobsError, ValueError):
    """Not the id of a job; nothing was sent."""

    def __init__(self, job_id: object) -> None:
        super().__init__(
            f"{shown(job_id)} is not a job id: give a uuid.UUID, or a str of 1 to 128 ASCII "
            f"letters, digits, '-' and '_'. Nothing was sent."
        )


class JobFailedError(MoltinJobsError):
    """The job ended, and failed."""

    def __init__(self, job: Job) -> None:
        super().__init__(self._message(job))
        self.job = job
        self.error = job.error
        """The reason that the service gave, or ``None``."""

    @staticmethod
    def _message(job: Job) -> str:
        reason = one_line(job.error or "") or "the service gave no reason"
        return f"job {job.id} failed: {reason}. It will not change: create a new job."


class JobCancelledError(JobFailedError):
    """The job was cancelled on the service's side."""

    @staticmethod
    def _message(job: Job) -> str:
        reason = f": {one_line(job.error)}" if job.error else ""
        return f"job {job.id} was cancelled{reason}. It will not change: create a new job."


class JobTimeoutError(MoltinJobsError, TimeoutError):
    """The time given to a wait ran out; the job itself may still be running."""

    temporary = True

    def __init__(
        self,
        job_id: str | None,
        *,
        timeout: float,
        job: Job | None,
        polls: int,
        last_error: MoltinJobsError | None,
        undone: str = "did not end",
        advice: str | None = None,
    ) -> None:
        seen = "never seen" if job is None else f"last seen {one_line(job.status)!r}"
        if polls:
            seen += " in 1 poll" if polls == 1 else f" in {polls} polls"
        trouble = "" if last_error is None else f" (last trouble: {last_error})"
        about = "the job of this export" if job_id is None else f"job {job_id}"
        again = "wait for it again, or with a longer timeout."
        advice = advice or (f"It may still be running: {again}" if job else again.capitalize())
        super().__init__(f"{about} {undone} within {timeout:g} s: {seen}{trouble}. {advice}")
        self.job_id = job_id
        """``None`` if the time of an export was over before its job had one."""
        self.timeout = timeout
        """In seconds, as given to the wait."""
        self.job = job
        """The job as last seen, or ``None`` if no poll was answered."""
        self.polls = polls
        self.last_error = last_error
        """The last error that the wait lived through, or ``None``."""


class TransportError(MoltinJobsError):
    """No whole answer came: DNS, connection, TLS, a garbled or cut answer, or an attempt's time.

    ``temporary`` unless the peer's certificate could not be verified.
    """

    def __init__(self, about: str, problem: str, advice: str, *, temporary: bool = True) -> None:
        super().__init__(f"{about}: {problem}. {advice}")
        self.temporary = temporary


class InvalidResponseError(MoltinJobsError):
    """An answer that says success and cannot be read."""

    temporary = True

    def __init__(self, about: str, problem: str, *, status: int, body: bytes) -> None:
        super().__init__(
            f"{about}: the service answered {status}, but {problem}. Try again; if it stays so, "
            f"see whether base_url and every proxy on the way lead to the service."
        )
        self.status = status
        self.body = body[:200]
        """The first 200 bytes of the answer; always empty for a token request."""


class APIError(MoltinJobsError):
    """The service answered with a status other than success. ``temporary`` for 408, 429, 5xx."""

    advice = "The service refuses this request: it makes no sense to repeat it as it is."

    def __init__(
        self,
        status: int,
        about: str,
        *,
        errors: Sequence[dict[str, Any]] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
        advice: str | None = None,
    ) -> None:
        told = [errors[0].get(key) for key in ("title", "detail")] if errors else []
        parts = [f"{about}: the service answered {status}"]
        parts += [one_line(text) for text in told if isinstance(text, str) and text.strip()]
        if request_id is not None:
            parts[-1] += f" (request id {one_line(request_id)})"
        super().__init__(f"{': '.join(parts).rstrip('.')}. {advice or self.advice}")
        self.status = status
        self.errors = tuple(errors)
        """The service's own error objects as sent; always empty for a token request."""
        self.request_id = request_id
        """What to give to the vendor's support."""
        self.retry_after = retry_after
        """Seconds that the service asked to be left alone for, or ``None``."""
        self.temporary = status in (408, 429) or 500 <= status <= 599


class AuthenticationError(APIError):
    """The token, or the credentials that should give one, were refused."""

    advice = (
        "Give a token that is not expired (they live one hour), or credentials that are valid "
        "for this base_url: with a client id and secret, tokens are renewed by themselves."
    )


class PermissionDeniedError(APIError):
    """The token is valid, and may not do this."""

    advice = "The token lacks the right: use one from a client_credentials key of this store."


class JobNotFoundError(APIError):
    """There is no such job, or none any more: a job expires a week after its creation.

    Or, asked for its file, it has none, and ``job`` tells what it is.
    """

    advice = "Check the id and the store; jobs expire a week after they were created."

    def __init__(
        self,
        job_id: str,
        *,
        errors: Sequence[dict[str, Any]] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(
            404,
            f"job {job_id}",
            errors=errors,
            request_id=request_id,
            retry_after=retry_after,
            advice=advice,
        )
        self.job_id = job_id
        self.job: Job | None = None
        """The job as last seen by the wait that met this, or that has no file, or ``None``."""


class RateLimitError(APIError):
    """The store's requests for this second are used up, by this session or by others."""

    advice = (
        "The session pauses by itself; if it recurs, others use the store's limit too: send less "
        "at once (rate_limit), or ask the vendor for more."
    )


class ServerError(APIError):
    """The service failed."""

    advice = "Try again later; if it stays so, report the request id to the service's support."
