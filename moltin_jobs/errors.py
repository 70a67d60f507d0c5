"""Exceptions of this library.

MoltinJobsError                         .retryable .job_id
├── ConfigurationError(ValueError)
├── InvalidJobIdError(ValueError)
├── SessionClosedError(RuntimeError)
├── JobFailedError                      .job .error .problems
│   ├── JobCancelledError
│   └── NoResultsError
├── JobTimeoutError(TimeoutError)       .timeout .job .polls .last_error .queued
├── TransportError
├── InvalidResponseError                .status .body
└── APIError                            .status .errors .request_id .retry_after .from_gateway
    ├── AuthenticationError   401
    ├── PermissionDeniedError 403
    ├── JobNotFoundError      404       .job
    ├── RateLimitError        429
    └── ServerError           5xx

A session that is used from another event loop raises ``RuntimeError``. An argument that a type
checker would reject may raise ``TypeError``.
"""

from __future__ import annotations

import copyreg
from collections.abc import Sequence
from typing import Any, NoReturn

from .models import Job, JobProblem, JobState, QueuedJob, job_label

_MAX_TEXT_LENGTH = 500
"""Characters of a foreign text that a message quotes."""
_MAX_ARGUMENT_LENGTH = 100
"""Characters of a rejected string that a message quotes."""
_PROBLEMS_OF_A_PAGE = 100
_NO_RESULTS = "no results matched"
"""Start of the service's reason for a `NoResultsError`, in lower case."""
_CHECK_ROUTE_ADVICE = (
    "Try again later. If it happens again, check that base_url and all proxies lead to the service."
)
RETRYABLE_STATUSES = (408, 421, 425, 429)


def single_line(text: str, limit: int = _MAX_TEXT_LENGTH) -> str:
    """Make foreign text safe for a message: one line, bounded, without control characters."""
    line = " ".join(text[:limit].split())
    line += "…" if len(text) > limit else ""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def describe(value: object) -> str:
    """Return the ``repr`` of a rejected argument, made safe for a message."""
    try:
        return single_line(repr(value[:_MAX_ARGUMENT_LENGTH] if isinstance(value, str) else value))
    except Exception:  # noqa: BLE001 (the repr of a foreign object may raise anything)
        return f"a {type(value).__name__}"


def raise_unchained(error: Exception) -> NoReturn:
    """Raise ``error`` without making the exception that is being handled its ``__context__``.

    That exception would keep its frames alive, and they may hold a token. ``from None`` only hides
    it.
    """
    context = error.__context__
    try:
        raise error
    except BaseException:
        error.__context__ = context
        raise
    finally:
        del error  # its traceback leads to this frame, which would make a cycle


class MoltinJobsError(Exception):
    """Base class of all exceptions of this library.

    The message is one line. Instances can be pickled and copied.
    """

    retryable: bool = False
    """Whether repeating the same request later may succeed."""
    job_id: str | None = None
    """Id of the job that the failed request was about, or ``None``."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, unpickling calls the constructor with the message, which the constructors
        # of the subclasses do not accept.
        state = {**vars(self), "args": self.args}
        if "__notes__" in state:
            # Copy the list: a note added to a copy must not appear on the original.
            state["__notes__"] = [*state["__notes__"]]
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined]


class ConfigurationError(MoltinJobsError, ValueError):
    """A setting is invalid. The message names it. Nothing was sent."""


class InvalidJobIdError(MoltinJobsError, ValueError):
    """A job id is invalid. Nothing was sent."""

    def __init__(self, job_id: object) -> None:
        # The address of a file may be signed.
        is_address = isinstance(job_id, str) and "://" in job_id
        text = "an address" if is_address else describe(job_id)
        super().__init__(
            f"{text} is not a valid job id: expected 1 to 128 ASCII letters, digits, "
            f"'-' or '_'. Nothing was sent."
        )


class SessionClosedError(MoltinJobsError, RuntimeError):
    """The session is closed, or was closed during the call."""

    def __init__(self, message: str = "the JobsSession is closed: create a new one.") -> None:
        super().__init__(message)


class JobFailedError(MoltinJobsError):
    """The job has failed."""

    _outcome = "failed"
    _advice = "Create a new job to try again."

    def __init__(
        self, job: Job, problems: Sequence[JobProblem] | None = (), *, advice: str | None = None
    ) -> None:
        text = str(problems[0]) if problems else job.error or ""
        reason = single_line(text).rstrip(".") or "the service gave no reason"
        if problems is None:
            problems, reason = (), "the request for the reason has failed"
        if len(problems) > 1:
            count = len(problems)
            at_least = "at least " if count >= _PROBLEMS_OF_A_PAGE else ""
            reason += f" (the first of {at_least}{count} problems)"
        subject = f"{job_label(job.kind)} {job.id}"
        super().__init__(f"{subject} {self._outcome}: {reason}. {advice or self._advice}")
        self.job_id = job.id
        self.job = job
        self.problems = tuple(problems)
        """First hundred problems that the service reports."""
        self.error = problems[0].message if problems else job.error
        """Reason given by the service, or ``None``. The message of the first problem, if any."""


class JobCancelledError(JobFailedError):
    """The job was cancelled on the service's side."""

    _outcome = "was cancelled"


class NoResultsError(JobFailedError):
    """An order export failed because no order matched its filter."""

    _advice = "Create a new job with another filter."


def failure_of(job: Job, *, advice: str | None = None) -> JobFailedError | None:
    """Return the exception for a job that failed or was cancelled, else ``None``.

    ``advice`` is the last sentence of the message, if it is not that of the class.
    """
    if job.state is JobState.CANCELLED:
        return JobCancelledError(job, advice=advice)
    if job.state is not JobState.FAILED:
        return None
    is_order_export = job.kind == "order" and job.job_type in (None, "order_export")
    if is_order_export and (job.error or "").lower().startswith(_NO_RESULTS):
        return NoResultsError(job)
    return JobFailedError(job, advice=advice)


class JobTimeoutError(MoltinJobsError, TimeoutError):
    """The timeout of a wait, a download or an export has passed. The job may still be running."""

    retryable = True

    def __init__(
        self,
        job_id: str | None,
        *,
        timeout: float,
        kind: str = "order",
        job: Job | None = None,
        polls: int = 0,
        last_error: MoltinJobsError | None = None,
        queued: QueuedJob | None = None,
        outcome: str = "did not end",
        advice: str | None = None,
        subject: str = "the job of this export",
    ) -> None:
        if job_id is not None:
            subject = f"{job_label(kind)} {job_id}"
        details = [] if job is None else [f"last status {single_line(job.status)!r}"]
        if polls:
            no_success = " without success" if job is None and last_error is not None else ""
            details += [f"{polls} poll{'s' if polls > 1 else ''}{no_success}"]
        if queued is not None:
            details += [f"{ordinal(queued.position)} in the queue"]
        if queued is not None and queued.expected_end is not None:
            details += [f"expected to end at {queued.expected_end:%Y-%m-%d %H:%M:%S} UTC"]
        if last_error is not None:
            details += [f"last error: {str(last_error).rstrip('.')}"]
        status = f" ({', '.join(details)})" if details else ""
        advice = advice or "Wait again, or use a longer timeout."
        super().__init__(f"{subject} {outcome} within {timeout:g} s{status}. {advice}")
        self.job_id = job_id
        """``None`` if the timeout of an export passed before its creation was confirmed."""
        if job_id is None:
            self.retryable = False  # a retry may create a second job
        self.timeout = timeout
        """In seconds, as passed by the caller."""
        self.job = job
        """The job as last seen, or ``None``."""
        self.polls = polls
        """Number of polls."""
        self.last_error = last_error
        """Last error of a poll that was retried, or ``None``."""
        self.queued = queued
        """Position of the job in the last list, for a wait for an order job with
        ``poll_by="list"``. ``None`` without a list, or if the job is polled by id."""


def ordinal(number: int) -> str:
    """Return a number like ``3rd``."""
    last_digit = 0 if number % 100 in (11, 12, 13) else number % 10
    return f"{number}" + {1: "st", 2: "nd", 3: "rd"}.get(last_digit, "th")


class TransportError(MoltinJobsError):
    """There was no complete or acceptable response.

    The cause is DNS, the connection, TLS, a garbled or truncated response, the timeout of an
    attempt, or a file that is too large or cannot be decoded. Not ``retryable`` if a retry would
    fail in the same way (bad certificate, file too large) or could create a second job.
    """

    def __init__(
        self,
        description: str,
        reason: str,
        advice: str,
        *,
        retryable: bool = True,
        job_id: str | None = None,
    ) -> None:
        super().__init__(f"{description}: {reason}. {advice}")
        self.retryable = retryable
        self.job_id = job_id


class InvalidResponseError(MoltinJobsError):
    """The response has a successful status, but its content cannot be read."""

    retryable = True

    def __init__(
        self,
        description: str,
        reason: str,
        *,
        status: int,
        body: bytes = b"",
        job_id: str | None = None,
    ) -> None:
        message = f"{description}: invalid response with status {status}: {reason}."
        super().__init__(f"{message} {_CHECK_ROUTE_ADVICE}")
        self.status = status
        self.body = body[:200]
        """First 200 bytes of the response. Always empty for a token request."""
        self.job_id = job_id


class APIError(MoltinJobsError):
    """The service responded with an error status.

    ``retryable`` for the statuses 408, 421, 425, 429 and 5xx, and for the 404 of a job that was
    created, or of a file that was completed, in the last ten seconds.
    """

    advice = "The service rejects this request: change it before you send it again."

    def __init__(
        self,
        status: int,
        description: str,
        *,
        errors: Sequence[dict[str, Any]] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
        job_id: str | None = None,
        advice: str | None = None,
        from_gateway: bool = False,
        sender: str = "the service",
        reason: str | None = None,
    ) -> None:
        if from_gateway:
            sender = "a proxy or gateway, not the service,"
        parts = [f"{description}: {reason or f'{sender} responded with status {status}'}"]
        texts = [errors[0].get(key) for key in ("title", "detail")] if errors else []
        parts += [single_line(text) for text in texts if isinstance(text, str) and text.strip()]
        message = ": ".join(parts).rstrip(".")
        if request_id is not None:
            message += f" (request id {single_line(request_id)})"
        advice = _CHECK_ROUTE_ADVICE if from_gateway else advice or self.advice
        super().__init__(f"{message}. {advice}")
        self.status = status
        self.errors = tuple(errors)
        """The service's error objects, as sent. Always empty for a token request."""
        self.request_id = request_id
        """Id to quote to the service's support, or ``None``."""
        self.retry_after = retry_after
        """``Retry-After`` of the response in seconds, or ``None``."""
        self.from_gateway = from_gateway
        """Whether the response seems to come from a proxy or gateway instead of the service. True
        for a 403 or 404 whose body is not in the service's error format."""
        self.job_id = job_id
        self.retryable = status in RETRYABLE_STATUSES or 500 <= status <= 599


class AuthenticationError(APIError):
    """The service rejected the token, or the credentials for one."""

    advice = (
        "Pass a token that has not expired (tokens live one hour), or the client id and secret "
        "of this base_url: the session then refreshes its token itself."
    )


class PermissionDeniedError(APIError):
    """The token is valid but lacks a permission."""

    advice = (
        "The token lacks a permission: use ClientCredentials of an application key of this store."
    )


class JobNotFoundError(APIError):
    """The job does not exist, has expired or was removed, or has no file."""

    advice = "Check the id and the store. Jobs expire one week after their creation."
    job: Job | None = None
    """The job as last seen, or ``None``."""


class RateLimitError(APIError):
    """The store's rate limit is exhausted, by this session or by other clients."""

    advice = (
        "The session cools down by itself. If it happens again, other clients share the store's "
        "limit: lower rate_limit, or ask the service's support for a higher limit."
    )


class ServerError(APIError):
    """The service failed."""

    advice = "Try again later. If it happens again, report it to the service's support."


API_ERROR_CLASSES: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: JobNotFoundError,
    429: RateLimitError,
} | dict.fromkeys(range(500, 600), ServerError)
"""Exception class by status. Any other status raises `APIError` itself."""
