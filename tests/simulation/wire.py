"""Requests as they pass through the network, and the rules that hold for them."""

from __future__ import annotations

import bisect
import email.utils
import itertools
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator

import attrs

from .network import Connection

SESSION_HEADER = "X-Session"
TOKEN_PATH = "/oauth/access_token"
_HEAD = re.compile(rb"(GET|POST) (\S+) HTTP/1.1\r\n")
_HEADERS = re.compile(rb"^(X-Session|Authorization|Retry-After): ([^\r]*)\r$", re.MULTILINE)
_STATUS = re.compile(rb"HTTP/1.1 (\d{3}) ")
TOLERANCE = 1e-6


@attrs.define(eq=False)
class WireRequest:
    """A request and its response. Times are on the loop's clock."""

    session: int
    method: str
    target: str
    token: str
    started_at: float
    """Moment at which the request was sent, or its handshake began."""
    sent_at: float
    arrived_at: float | None = None
    responded_at: float = math.inf
    """Moment at which the client had the headers of the response."""
    status: int | None = None
    number: int = 0
    """Position among all requests and responses."""
    response_number: int = 0
    retry_after: float | None = None
    ended_at: float | None = None
    """Moment at which the client closed or lost the connection, if no response came before. A
    response of that moment may not have been noticed."""


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
            session=int(headers.get(b"X-Session", b"-1")),
            method=match[1].decode(),
            target=match[2].decode(),
            token=headers.get(b"Authorization", b"").decode(),
            started_at=connection.started_at if connection.note is None else self._clock(),
            sent_at=self._clock(),
            number=next(self._numbers),
        )
        connection.note = [request, b""]
        self.requests.append(request)
        self._log(f"session {request.session} sends {request.method} {request.target}")

    def on_arrived(self, connection: Connection, data: bytes) -> None:
        """Record that a request has begun to arrive."""
        if connection.note is not None and connection.note[0].arrived_at is None:
            request = connection.note[0]
            request.arrived_at = self._clock()

    def on_received(self, connection: Connection, data: bytes) -> None:
        """Record a response whose headers are complete."""
        if connection.note is None or connection.note[0].status is not None:
            return
        request, head = connection.note
        connection.note[1] = head = head + data
        match = _STATUS.match(head)
        if match is None or b"\r\n\r\n" not in head:
            return
        headers = dict(_HEADERS.findall(head.partition(b"\r\n\r\n")[0] + b"\r\n"))
        request.status, request.responded_at = int(match[1]), self._clock()
        request.response_number = next(self._numbers)
        request.retry_after = _seconds(headers.get(b"Retry-After"))
        self._log(f"session {request.session} gets {request.status} for {request.target}")

    def on_closed(self, connection: Connection) -> None:
        """Record the end of a connection, unless it was used for a response before."""
        if connection.note is not None:
            request, now = connection.note[0], self._clock()
            if request.status is None or request.responded_at == now:
                request.ended_at = now


def _seconds(value: bytes | None) -> float | None:
    if value is None:
        return None
    if value.isdigit():
        return float(value)
    moment = email.utils.parsedate_to_datetime(value.decode())
    return max(0.0, moment.timestamp() - time.time())


def check_rate(requests: Iterable[WireRequest], limit: int) -> str | None:
    """Check that no second at the server has more requests than the limit."""
    arrivals = sorted(one.arrived_at for one in requests if one.arrived_at is not None)
    for first, last in zip(arrivals, arrivals[limit:], strict=False):
        if last - first < 1 - TOLERANCE:
            return f"more than {limit} requests in the second from {first:.6f}"
    return None


def find_cooldowns(requests: Iterable[WireRequest]) -> Iterator[tuple[float, float]]:
    """Give the beginning and the least end of each cooldown of one session."""
    started_at = -1.0
    responses = [one for one in requests if one.status == 429 and one.ended_at is None]
    for response in sorted(responses, key=lambda one: one.response_number):
        length = min(response.retry_after or 0.0, 120.0)
        if response.started_at > started_at:  # otherwise it belongs to the same burst
            started_at = response.responded_at
            length = max(1.0, length)
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


def check_refreshes(requests: list[WireRequest], lifetime: float) -> str | None:
    """Check that one session refreshes its token once at a time, and only for a reason."""
    busy_until = obtained_at = fresh_until = -1.0
    seen: set[str] = set()
    newest = ""
    rejected = False  # whether the newest token was rejected
    last = None
    events = [(one.number, True, one) for one in requests]
    events += [(one.response_number, False, one) for one in requests if one.status is not None]
    for _, is_sent, request in sorted(events, key=lambda event: event[0]):
        if request.target != TOKEN_PATH:
            if is_sent and request.token not in seen:
                seen.add(request.token)
                newest = request.token
                rejected = False
                if last is not None:
                    obtained_at = last.responded_at
                    fresh_until = obtained_at + lifetime - min(60.0, lifetime * 0.2)
            elif not is_sent and request.status == 401 and request.token == newest:
                rejected = True
        elif is_sent:
            moment = request.sent_at
            if moment < busy_until - TOLERANCE:
                return f"two refreshes at once at {moment:.6f}"
            busy_until = request.ended_at or (request.responded_at if request.status else moment)
            if moment < fresh_until - TOLERANCE and not rejected:
                return f"needless refresh at {moment:.6f}: the token is of {obtained_at:.6f}"
        elif request.status == 200:
            last = request
    return None
