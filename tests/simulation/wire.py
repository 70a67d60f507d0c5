"""Requests as they pass through the network, and the rules that hold for them."""

from __future__ import annotations

import bisect
import email.utils
import itertools
import json
import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator

import attrs

from .network import Connection

SESSION_HEADER = "X-Session"
NO_SESSION = -1
"""Session of a request without that header."""
TOKEN_PATH = "/oauth/access_token"
_HEAD = re.compile(rb"(GET|POST) (\S+) HTTP/1.1\r\n")
_HEADERS = re.compile(
    rb"^(X-Session|Authorization|Retry-After|Connection|Content-Length): ([^\r]*)\r$", re.MULTILINE
)
_STATUS = re.compile(rb"HTTP/1.1 (\d{3}) ")
TOLERANCE = 1e-6


@attrs.define(eq=False)
class WireRequest:
    """A request and its response. Times are on the loop's clock.

    Each number is the position among the requests, the responses and their ends, since many of
    them happen at the same moment.
    """

    session: int
    method: str
    target: str
    token: str
    started_at: float
    """Moment at which the request was sent, or its handshake began."""
    sent_at: float
    number: int
    is_last: bool = False
    """Whether the client closes the connection after the response."""
    arrived_at: float | None = None
    status: int | None = None
    responded_at: float = math.inf
    """Moment at which the client had the headers of the response."""
    response_number: int = 0
    retry_after: float | None = None
    end_number: int | None = None
    """Number of the end: the response is complete, or the connection is closed or lost."""
    completed_at: float | None = None
    issued: str | None = None
    """``Authorization`` header with the token of the response."""
    closed_at: float | None = None
    """Moment at which the client closed or lost the connection, if the response was not complete
    before that moment."""

    def was_noticed(self, interruptions: Collection[float]) -> bool:
        """Return whether the client must have noticed the headers of the response.

        ``interruptions`` are moments at which a call of the session was interrupted.
        """
        if self.closed_at is None or self.closed_at > self.responded_at:
            return True
        is_regular_end = self.is_last and self.completed_at is not None
        return is_regular_end and self.closed_at not in interruptions


@attrs.define
class Exchange:
    """The last request on a connection, and what has arrived of its response."""

    request: WireRequest
    received: bytearray = attrs.field(factory=bytearray)


class Wire:
    """Record of the requests to the service, in the order in which they were sent."""

    def __init__(self, clock: Callable[[], float], log: Callable[[str], None]) -> None:
        self.requests: list[WireRequest] = []
        self._clock = clock
        self._log = log
        self._numbers = itertools.count(1)

    def on_sent(self, connection: Connection, data: bytes) -> None:
        """Record a request whose headers a client writes."""
        match = _HEAD.match(data)
        if match is None:
            return
        headers = dict(_HEADERS.findall(data))
        request = WireRequest(
            session=int(headers.get(SESSION_HEADER.encode(), NO_SESSION)),
            method=match[1].decode(),
            target=match[2].decode(),
            token=headers.get(b"Authorization", b"").decode(),
            started_at=connection.started_at if connection.note is None else self._clock(),
            sent_at=self._clock(),
            number=next(self._numbers),
            is_last=headers.get(b"Connection") == b"close",
        )
        connection.note = Exchange(request)
        self.requests.append(request)
        self._log(f"session {request.session} sends {request.method} {request.target}")

    def on_arrived(self, connection: Connection, data: bytes) -> None:
        """Record that a request has begun to arrive."""
        if connection.note is not None and connection.note.request.arrived_at is None:
            connection.note.request.arrived_at = self._clock()

    def on_received(self, connection: Connection, data: bytes) -> None:
        """Record a response whose headers are complete, and its end."""
        exchange: Exchange | None = connection.note
        if exchange is None or exchange.request.completed_at is not None:
            return
        request, received = exchange.request, exchange.received
        received += data
        head, separator, body = received.partition(b"\r\n\r\n")
        match = _STATUS.match(head)
        if match is None or not separator:
            return
        headers = dict(_HEADERS.findall(head + b"\r\n"))
        if request.status is None:
            request.status, request.responded_at = int(match[1]), self._clock()
            request.response_number = next(self._numbers)
            request.retry_after = _seconds(headers.get(b"Retry-After"))
            self._log(f"session {request.session} gets {request.status} for {request.target}")
        if len(body) >= int(headers.get(b"Content-Length", 1 << 60)):
            request.completed_at = self._clock()
            request.end_number = next(self._numbers)
            if request.target == TOKEN_PATH and request.status == 200:
                request.issued = _issued_token(bytes(body))

    def on_closed(self, connection: Connection) -> None:
        """Record the end of a connection, unless it was used for a response before."""
        if connection.note is None:
            return
        request, now = connection.note.request, self._clock()
        if request.completed_at in (None, now):
            request.closed_at = now
        if request.end_number is None:
            request.end_number = next(self._numbers)


def _issued_token(body: bytes) -> str | None:
    try:
        return f"Bearer {json.loads(body)['access_token']}"
    except (ValueError, KeyError, TypeError):  # a fault
        return None


def _seconds(value: bytes | None) -> float | None:
    if value is None:
        return None
    if value.isdigit():
        return float(value)
    moment = email.utils.parsedate_to_datetime(value.decode())
    return max(0.0, moment.timestamp() - time.time())


def check_rate(requests: Iterable[WireRequest], limit: int) -> str | None:
    """Check that no second at the server has more requests than the limit.

    A request that arrives after the client has given it up counts at the moment of that: the
    client cannot know better.
    """
    arrivals = sorted(
        one.arrived_at if one.closed_at is None else min(one.arrived_at, one.closed_at)
        for one in requests
        if one.arrived_at is not None
    )
    for first, last in zip(arrivals, arrivals[limit:], strict=False):
        if last - first < 1 - TOLERANCE:
            return f"more than {limit} requests in the second from {first:.6f}"
    return None


def find_cooldowns(
    requests: Iterable[WireRequest], interruptions: Collection[float] = ()
) -> Iterator[tuple[float, float]]:
    """Give the beginning and the least end of each cooldown of one session."""
    started_at = -1.0
    bursts = 0
    responses = [one for one in requests if one.status is not None]
    for response in sorted(responses, key=lambda one: one.response_number):
        if response.status != 429:
            if response.started_at > started_at:
                bursts = 0
        elif not response.was_noticed(interruptions):
            started_at, bursts = response.responded_at, 0  # perhaps
        else:
            length = min(response.retry_after or 0.0, 120.0)
            if response.started_at > started_at:  # otherwise it belongs to the same burst
                started_at = response.responded_at
                bursts += 1
                length = max(min(2.0 ** (bursts - 1), 30.0), length)
            yield response.responded_at, response.responded_at + length


def check_cooldowns(
    requests: Iterable[WireRequest], cooldowns: Iterable[tuple[float, float]]
) -> str | None:
    """Check that no request starts in a cooldown, each of which has a beginning and an end."""
    starts = sorted(request.started_at for request in requests)
    for begin, end in cooldowns:
        index = bisect.bisect_right(starts, begin + TOLERANCE)
        if index < len(starts) and starts[index] < end - TOLERANCE:
            return f"a request starts at {starts[index]:.6f}, in the cooldown from {begin:.6f}"
    return None


def check_refreshes(
    requests: list[WireRequest], lifetime: float, interruptions: Collection[float] = ()
) -> str | None:
    """Check that one session refreshes its token once at a time, and only for a reason."""
    in_progress: WireRequest | None = None
    token = ""
    obtained_at = fresh_until = -1.0
    for request, is_start in events_of(requests):
        moment = request.sent_at
        if request.target != TOKEN_PATH:
            if not is_start and request.status == 401 and request.token == token:
                fresh_until = -1.0
        elif not is_start:
            in_progress = None
            end = request.completed_at
            is_noticed = end != request.closed_at and end not in interruptions
            if request.issued is not None and end is not None and is_noticed:
                token, obtained_at = request.issued, end
                fresh_until = obtained_at + lifetime - min(60.0, lifetime * 0.2)
        elif in_progress is not None:
            return f"two refreshes at once at {moment:.6f}"
        elif moment < fresh_until - TOLERANCE:
            return f"needless refresh at {moment:.6f}: the token is of {obtained_at:.6f}"
        else:
            in_progress = request
    return None


def events_of(requests: Iterable[WireRequest]) -> Iterator[tuple[WireRequest, bool]]:
    """Give the start and the end of each request, in their order.

    The response to a request with a token counts from its headers.
    """
    events: list[tuple[int, WireRequest, bool]] = []
    for request in requests:
        events.append((request.number, request, True))
        end = request.end_number if request.target == TOKEN_PATH else request.response_number
        if end:
            events.append((end, request, False))
    for _, request, is_start in sorted(events, key=lambda event: event[0]):
        yield request, is_start
