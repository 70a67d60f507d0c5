"""Faults of the simulator, which replace its regular responses."""

import asyncio
import collections
import http
import random
import re
from collections.abc import Mapping
from typing import cast

import attrs
from aiohttp import web

TOKEN_PATH = "/oauth/access_token"  # noqa: S105 (a path)
API_PATH = re.compile(rf"{TOKEN_PATH}|/v2/jobs(/[^/]+(/file)?)?")
STATUSES = frozenset(int(status) for status in http.HTTPStatus)
FAULT_NAMES = ("reset", "lost", "hang", "truncate", "garbage", "html")
BROKEN_RESPONSES = {
    "truncate": b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"data": {"id": "',
    "garbage": b"\x00\x01 no HTTP at all\r\n\r\n",
}


@attrs.frozen
class Fault:
    """A response that is sent exactly as it is given."""

    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""


AnyFault = int | str | Fault
"""A fault: an HTTP status, a name or a `Fault`.

A status is sent with the documented error body. The names are:

- ``"reset"``: the connection is reset, and the request has no effect.
- ``"lost"``: the request takes effect, then the connection is reset instead of a response.
- ``"hang"``: no response is sent until the client disconnects.
- ``"truncate"``: the response ends within its body.
- ``"garbage"``: the response is not HTTP.
- ``"html"``: the response is the HTML page of a proxy, with status 200.
"""

CHAOS_FAULTS: tuple[AnyFault, ...] = ("reset", "truncate", "garbage", "html", 500, 503, 429)


class FaultQueue:
    """Pending faults, keyed by path, job id, or ``None`` for all job requests."""

    def __init__(self, rng: random.Random, chaos: float) -> None:
        if not 0 <= chaos <= 1:
            raise ValueError(f"chaos must be between 0 and 1, not {chaos!r}")
        self._random = rng
        self._chaos = chaos
        self._queues: dict[str | None, collections.deque[AnyFault]] = {}
        self._repeated: dict[str | None, AnyFault] = {}

    def add(
        self, faults: tuple[AnyFault, ...], job_id: str | None, path: str | None, *, repeat: bool
    ) -> None:
        """Add faults after those that are due for the same requests."""
        for fault in faults:
            if isinstance(fault, str) and fault not in FAULT_NAMES:
                raise ValueError(f"a fault must be one of {FAULT_NAMES}, not {fault!r}")
            if isinstance(fault, int) and fault not in STATUSES:
                raise ValueError(f"{fault!r} is not an HTTP status. Use Fault({fault!r}).")
        if path is not None and job_id is not None:
            raise ValueError("job_id and path cannot be combined")
        if path is not None and not API_PATH.fullmatch(path):
            raise ValueError(f"path must be a path of the API like '/v2/jobs', not {path!r}")
        key = job_id if path is None else path
        self._queues.setdefault(key, collections.deque()).extend(faults)
        if repeat and faults:
            self._repeated[key] = faults[-1]

    def clear(self) -> None:
        """Remove all faults except the random ones."""
        self._queues.clear()
        self._repeated.clear()

    def take(self, request: web.Request) -> AnyFault | None:
        """Return the fault for a request, or ``None``."""
        is_token_request = request.path == TOKEN_PATH
        keys = (request.path, request.match_info.get("job_id"), None)
        for key in keys[:1] if is_token_request else keys:
            if queue := self._queues.get(key):
                return queue.popleft()
            if key in self._repeated:
                return self._repeated[key]
        if is_token_request or self._random.random() >= self._chaos:
            return None
        return self._random.choice(CHAOS_FAULTS)


async def break_connection(request: web.Request, fault: str) -> web.Response:
    """Hang, or close the connection of a request as the fault describes."""
    if fault == "hang":
        await asyncio.Event().wait()
    # Not isinstance(): the transports of uvloop are not instances of asyncio.Transport.
    transport = cast("asyncio.Transport", request.transport)
    if fault in BROKEN_RESPONSES:
        transport.write(BROKEN_RESPONSES[fault])
        transport.close()
    else:
        transport.abort()
    return web.Response()  # aiohttp requires one. It is not sent: the connection is closed.
