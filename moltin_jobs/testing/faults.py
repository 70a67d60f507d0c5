"""Faults of the simulator, which replace its regular responses."""

import asyncio
import http
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import cast

import attrs
from aiohttp import web

from .kinds import KINDS, TOKEN_PATH

API_PATH = re.compile("|".join([TOKEN_PATH, *(kind.path_pattern for kind in KINDS.values())]))
STATUSES = frozenset(int(status) for status in http.HTTPStatus)
BROKEN_RESPONSES = {
    "reset": b"",
    "lost": b"",
    "truncate": b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"data": {"id": "',
    "garbage": b"\x00\x01 no HTTP at all\r\n\r\n",
}
FAULT_NAMES = (*BROKEN_RESPONSES, "hang", "html")


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

HTML_PAGE = Fault(200, {"Content-Type": "text/html"}, b"<html>Please wait.</html>")
CHAOS_FAULTS: tuple[AnyFault, ...] = ("reset", "truncate", "garbage", "html", 500, 503, 429)


class FaultQueue:
    """Pending faults, keyed by path, job id, or ``None`` for all job requests."""

    def __init__(self) -> None:
        # A request takes the next fault of the first iterator that is not exhausted.
        self._pending: dict[str | None, list[Iterator[AnyFault]]] = {}

    def add(
        self, faults: tuple[AnyFault, ...], job_id: str | None, path: str | None, repeat: bool
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
        repeated = itertools.repeat(faults[-1]) if repeat and faults else ()
        pending = self._pending.setdefault(job_id if path is None else path, [])
        pending.append(itertools.chain(faults, repeated))

    def clear(self) -> None:
        """Remove all faults."""
        self._pending.clear()

    def take(self, path: str, job_id: str | None) -> AnyFault | None:
        """Return the fault for a request, or ``None``."""
        for key in (path,) if path == TOKEN_PATH else (path, job_id, None):
            for fault in itertools.chain.from_iterable(self._pending.get(key, ())):
                return fault
        return None


async def send_fault(request: web.Request, fault: str | Fault) -> web.Response:
    """Respond to a request with a fault that is not just a status."""
    if fault == "html":
        fault = HTML_PAGE
    if isinstance(fault, Fault):
        return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
    if fault == "hang":
        await asyncio.Event().wait()
    # Not isinstance(): the transports of uvloop are not instances of asyncio.Transport.
    transport = cast("asyncio.Transport", request.transport)
    transport.write(BROKEN_RESPONSES[fault])
    transport.close()
    return web.Response()  # aiohttp requires one. It is not sent: the connection is closed.
