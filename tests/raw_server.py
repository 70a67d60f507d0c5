"""A server that sends exact bytes, for responses that no HTTP server would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Responds to one request. A connection that it leaves open serves the next request."""


class RawServer:
    """Server on 127.0.0.1 that responds to each request with the next script.

    The order of the requests counts, not the connection on which they arrive. A request for which
    no script is left gets no response: its connection is closed.
    """

    def __init__(self, scripts: Iterable[Script], tls: ssl.SSLContext | None = None) -> None:
        self._scripts = iter(scripts)
        self._tls = tls
        self._handlers: set[asyncio.Task[Any]] = set()
        self.requests: list[bytes] = []
        """Heads of the requests, without their bodies."""
        self.bodies: list[bytes] = []
        self.connections = 0
        """Number of connections so far."""
        self._readers: set[asyncio.StreamReader] = set()
        self.url = ""

    @property
    def open_connections(self) -> int:
        """Number of connections that neither side has closed."""
        return sum(not reader.at_eof() and not reader.exception() for reader in self._readers)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self.connections += 1
        self._readers.add(reader)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
                self.bodies.append(await reader.readexactly(_content_length(head)))
                if (script := next(self._scripts, None)) is None:
                    break
                await script(writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._readers.discard(reader)
            writer.transport.abort()
            # Otherwise asyncio may report a reset by the client.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self._handlers.discard(task)


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def http(
    body: bytes = b"", status: str = "200 OK", headers: str = "", length: int | None = None
) -> bytes:
    """Return a response. Each line of ``headers`` ends with CRLF."""
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{headers}\r\n".encode() + body


def unframed(body: bytes, headers: str) -> bytes:
    """Return a response whose length depends on ``headers`` alone."""
    return f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode() + body


def job(status: str = "pending", job_id: str = "a", **fields: Any) -> bytes:
    """Return the body of a response with a job."""
    return json.dumps({"data": {"id": job_id, "type": "job", "status": status} | fields}).encode()


def send(data: bytes, *, close: bool = False) -> Script:
    """Send ``data``, and then close the connection if ``close`` is set."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return script


def respond(body: bytes = b"", status: str = "200 OK", headers: str = "") -> Script:
    """Send the response that `http` returns."""
    return send(http(body, status, headers))


def delayed(seconds: float, script: Script) -> Script:
    """Run ``script`` after ``seconds``."""

    async def delayed_script(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await script(writer)

    return delayed_script


def reset_after(data: bytes) -> Script:
    """Send ``data``, and then reset the connection instead of closing it."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        # Let the bytes arrive first: the reset would overtake them.
        await asyncio.sleep(0)
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return script


def drip(start: bytes, rest: bytes, seconds: float = 1.0) -> Script:
    """Send ``start``, and then one byte of ``rest`` every ``seconds``."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        for byte in rest:
            await asyncio.sleep(seconds)
            writer.write(bytes([byte]))
            await writer.drain()

    return script


def endless(start: bytes, repeated: bytes) -> Script:
    """Send ``start``, and then ``repeated`` ten times a second until the client disconnects."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.is_closing():
            writer.write(repeated)
            await writer.drain()
            await asyncio.sleep(0.1)  # a virtual clock advances only while the loop is idle

    return script


async def hang(_: asyncio.StreamWriter) -> None:
    """Send no response."""
    await asyncio.Event().wait()


def send_in_parts(data: bytes, size: int, seconds: float = 0.0) -> Script:
    """Send the headers, then ``size`` bytes at a time with a pause before each."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(http(length=len(data)))
        for start in range(0, len(data), size):
            await asyncio.sleep(seconds)
            writer.write(data[start : start + size])
            await writer.drain()

    return script
