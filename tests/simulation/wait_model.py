"""Model of one wait, written from the contract: when it sends requests, and how it ends.

The model has no event loop and no sockets. Its time is a number that `_Wait.advance` increases. The
session of the wait has `ClientCredentials`, no other call, and no jitter.

If two things fall on the same moment, the deadline of the wait comes first, then the end of a
request timeout, and then a response or the end of a cooldown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

MAX_FINAL_POLL_LEAD = 1.0
MIN_FAILURES = 3
MAX_COOLDOWN = 30.0
MAX_RETRY_AFTER = 120.0
SLOT_SECONDS = 1.001
"""Seconds from a response to the next use of its slot. The client adds a millisecond."""
TERMINAL_STATUSES = ("success", "failed", "cancelled")


@attrs.frozen(repr=False)
class Response:
    """Response to a request for the job, and to the token request that may follow a 401."""

    name: str
    status: int = 200
    job_status: str = ""
    """Status of the job, or an empty string for a body that is no job."""
    retry_after: float | None = None
    from_gateway: bool = False
    latency: float = 0.25
    """Seconds from the request to the response."""
    refresh: Response | None = None
    """Response to the token request after a 401. ``None`` means a token."""

    def __repr__(self) -> str:
        return self.name

    @property
    def is_terminal(self) -> bool:
        """Whether it is a job that has ended."""
        return self.job_status in TERMINAL_STATUSES

    @property
    def is_retryable(self) -> bool:
        """Whether it fails a poll with a retryable error."""
        return self.status in (429, 503) or (self.status == 200 and not self.job_status)

    @property
    def error(self) -> str:
        """Class of the error for a response that fails a poll."""
        return ERRORS[self.status]


ERRORS = {
    200: "InvalidResponseError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "JobNotFoundError",
    429: "RateLimitError",
    503: "ServerError",
}

TOKEN = Response("token")
PENDING = Response("pending", job_status="pending")
RUNNING = Response("running", job_status="started")
SLOW = Response("running, slow", job_status="started", latency=1.0)
SUCCEEDED = Response("succeeded", job_status="success")
LATE = Response("succeeded, slow", job_status="success", latency=1.0)
FAILED = Response("failed", job_status="failed")
CANCELLED = Response("cancelled", job_status="cancelled")
UNREADABLE = Response("unreadable")
UNAVAILABLE = Response("503", 503)
UNAVAILABLE_6 = Response("503, Retry-After 6", 503, retry_after=6.0)
FORBIDDEN = Response("403", 403)
NOT_FOUND = Response("404", 404)
GATEWAY = Response("404 of a gateway", 404, from_gateway=True)
THROTTLED = Response("429", 429)
THROTTLED_5 = Response("429, Retry-After 5", 429, retry_after=5.0)
HANG = Response("hang", latency=math.inf)
UNAUTHORIZED = Response("401", 401)
UNAUTHORIZED_401 = Response("401, refresh 401", 401, refresh=UNAUTHORIZED)
UNAUTHORIZED_429 = Response("401, refresh 429", 401, refresh=THROTTLED)
UNAUTHORIZED_503 = Response("401, refresh 503", 401, refresh=UNAVAILABLE_6)
UNAUTHORIZED_HANG = Response("401, refresh hangs", 401, refresh=HANG)


@attrs.frozen
class Settings:
    """Options of a session and of its wait, in seconds."""

    timeout: float = math.inf
    max_outage: float | None = None
    initial_interval: float = 1.0
    multiplier: float = 2.0
    max_interval: float = 4.0
    request_timeout: float = 2.0
    rate_limit: int | None = None
    token_lifetime: float = 3600.0

    @property
    def final_poll_at(self) -> float:
        """Moment of the final poll, unless another poll is in flight then."""
        return self.timeout - min(self.timeout / 10, MAX_FINAL_POLL_LEAD)

    @property
    def token_use(self) -> float:
        """Seconds for which a token is used before it is refreshed."""
        return self.token_lifetime - min(self.token_lifetime / 5, 60.0)


@attrs.frozen
class Polled:
    """A poll has started. Its requests may be queued."""

    at: float


@attrs.frozen
class PollFailed:
    """A poll has failed."""

    at: float
    error: str
    is_retryable: bool


@attrs.frozen
class Sent:
    """A request was sent, which gets this response."""

    at: float
    path: str
    """``token`` or ``job``."""
    response: Response


@attrs.frozen
class Received:
    """A response has arrived."""

    at: float
    path: str
    response: Response


@attrs.frozen
class Ended:
    """The wait has returned its job, or has raised an error."""

    at: float
    error: str
    """Class of the error, or an empty string."""
    polls: int
    failed_polls: int
    job_status: str
    """Status of the job as last seen, or an empty string."""
    last_error: str
    """Class of the error of the last poll that was retried, or an empty string."""


Event = Polled | PollFailed | Sent | Received | Ended


def predict(settings: Settings, responses: Sequence[Response]) -> list[Event] | None:
    """Return the events of a wait, or ``None`` if it needs more responses than these."""
    wait = _Wait(settings, iter(responses))
    try:
        while True:
            wait.poll()
    except _End as end:
        wait.on_end(end.error)
        return wait.events
    except _NoResponseLeftError:
        return None


def explore(
    settings: Settings, alphabet: Sequence[Response], length: int, then: Response
) -> Iterator[tuple[tuple[Response, ...], list[Event]]]:
    """Yield each sequence of responses to requests for the job, and the events of the wait.

    A sequence ends with the last response that the wait needs. A sequence of ``length`` responses
    is followed by ``then`` until the wait ends.
    """
    prefixes: list[tuple[Response, ...]] = [()]
    while prefixes:
        prefix = prefixes.pop()
        events = predict(settings, prefix)
        if events is None and len(prefix) < length:
            prefixes += [(*prefix, response) for response in alphabet]
            continue
        while events is None:
            prefix += (then,)
            assert len(prefix) < length + 50, "the wait does not end"
            events = predict(settings, prefix)
        yield prefix, events


class _End(Exception):  # noqa: N818 (it may be a success)
    def __init__(self, error: str) -> None:
        self.error = error


class _NoResponseLeftError(Exception):
    pass


class _PollError(Exception):
    def __init__(self, error: str, is_retryable: bool, retry_after: float = 0.0) -> None:
        self.error = error
        self.is_retryable = is_retryable
        self.retry_after = retry_after


class _Wait:
    """State of a wait, and of its session."""

    def __init__(self, settings: Settings, responses: Iterator[Response]) -> None:
        self.settings = settings
        self.responses = responses
        self.events: list[Event] = []
        self.now = 0.0
        # The wait
        self.due = 0.0
        self.polls = self.failed_polls = self.consecutive_failures = 0
        self.failing_since = math.inf
        self.interval_number = 0
        self.job_status = self.last_error = ""
        # The session
        self.has_token = False
        self.token_received_at = -math.inf
        self.refresh: Response | None = None
        self.cooldown_ends_at = 0.0
        self.bursts = 0
        self.slots_released_at: list[float] = []

    def advance(self, moment: float) -> None:
        """Let time pass. The deadline ends the wait, also if it falls on this moment."""
        if moment >= self.settings.timeout:
            self.now = self.settings.timeout
            raise _End("JobTimeoutError")
        self.now = max(self.now, moment)

    def poll(self) -> None:
        """Sleep until the next poll is due, poll, and plan the one after it."""
        self.advance(self.due)
        self.polls += 1
        self.events.append(Polled(self.now))
        is_final = self.due >= self.settings.final_poll_at
        retry_after = 0.0
        try:
            self.on_job(self.request_job())
        except _PollError as error:
            self.on_failure(error)
            retry_after = error.retry_after
        if is_final:
            raise _End("JobTimeoutError")
        self.plan(retry_after)

    def plan(self, retry_after: float) -> None:
        """Plan the next poll. The final poll replaces any that would be later."""
        settings = self.settings
        interval = settings.initial_interval * settings.multiplier**self.interval_number
        self.interval_number += 1
        self.due = self.now + max(min(interval, settings.max_interval), retry_after)
        if self.due >= settings.final_poll_at:
            self.due = max(settings.final_poll_at, self.now)

    def on_job(self, response: Response) -> None:
        """Note the job. A terminal one ends the wait. A change of state restarts the intervals."""
        if self.job_status and self.job_status != response.job_status:
            self.interval_number = 0
        self.job_status = response.job_status
        self.consecutive_failures = 0
        if response.is_terminal:
            errors = {"success": "", "failed": "JobFailedError", "cancelled": "JobCancelledError"}
            raise _End(errors[response.job_status])

    def on_failure(self, error: _PollError) -> None:
        """Count a failed poll. An error that is not retryable, or an outage, ends the wait."""
        self.events.append(PollFailed(self.now, error.error, error.is_retryable))
        self.failed_polls += 1
        self.consecutive_failures += 1
        if self.consecutive_failures == 1:
            self.failing_since = self.now
        max_outage = self.settings.max_outage
        is_outage = (
            max_outage is not None
            and self.consecutive_failures >= MIN_FAILURES
            and self.now - self.failing_since >= max_outage
        )
        if is_outage or not error.is_retryable:
            raise _End(error.error)
        self.last_error = error.error

    def on_end(self, error: str) -> None:
        """Record the end of the wait."""
        counts = (self.polls, self.failed_polls)
        self.events.append(Ended(self.now, error, *counts, self.job_status, self.last_error))

    def request_job(self) -> Response:
        """Send the requests of one poll, and return the job."""
        started_at = self.now
        self.advance(self.cooldown_ends_at)
        if not self.has_token or self.now >= self.token_received_at + self.settings.token_use:
            self.request_token()
        response = self.request("job", self.next_response())
        if response.status == 401:
            # A token received in this poll remains if the refresh fails: the service may reject
            # all new tokens, and each poll would then cause a refresh.
            self.has_token = self.token_received_at >= started_at
            self.refresh = response.refresh
            self.request_token()
            response = self.request("job", self.next_response())
        if not response.job_status:
            raise self.poll_error(response)
        return response

    def request_token(self) -> None:
        """Refresh the token. If that fails, the poll fails."""
        response, self.refresh = self.refresh or TOKEN, None
        self.request("token", response)
        if response is not TOKEN:
            raise self.poll_error(response)
        self.has_token, self.token_received_at = True, self.now

    def next_response(self) -> Response:
        """Return the response to the next request for the job."""
        response = next(self.responses, None)
        if response is None:
            raise _NoResponseLeftError
        return response

    def poll_error(self, response: Response) -> _PollError:
        """Return the error of a poll for a response that is no success."""
        has_seen_job = self.job_status != ""
        is_retryable = response.is_retryable or (response.from_gateway and has_seen_job)
        # After a 429, the cooldown delays the next request, and not the next poll.
        seconds = (response.retry_after or 0.0) if response.status != 429 else 0.0
        return _PollError(response.error, is_retryable, min(seconds, MAX_RETRY_AFTER))

    def request(self, path: str, response: Response) -> Response:
        """Wait for a slot and for the end of a cooldown, send a request, and receive a response."""
        released, limit = self.slots_released_at, self.settings.rate_limit
        if limit is not None and len(released) >= limit:
            self.advance(released[-limit] + SLOT_SECONDS)
        self.advance(self.cooldown_ends_at)
        self.events.append(Sent(self.now, path, response))
        is_received = response.latency < self.settings.request_timeout
        self.advance(self.now + min(response.latency, self.settings.request_timeout))
        released.append(self.now)
        if not is_received:
            raise _PollError("TransportError", is_retryable=True)
        self.events.append(Received(self.now, path, response))
        if response.status == 429:
            self.cool_down(response)
        else:
            self.bursts = 0
        return response

    def cool_down(self, response: Response) -> None:
        """Start a cooldown, twice as long as the last one if no other response came between."""
        seconds = max(min(2.0**self.bursts, MAX_COOLDOWN), response.retry_after or 0.0)
        self.cooldown_ends_at = self.now + min(seconds, MAX_RETRY_AFTER)
        self.bursts += 1
