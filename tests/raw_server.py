"""A server that sends exact bytes, for what no proper server ever sends."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Answers one request; what it leaves open is read on for the next one."""


class RawServer:
    """Answers each request, on whichever connection it comes, by the next of its scripts."""

    def __init__(self, scripts: Iterable[Script], tls: ssl.SSLContext | None = None) -> None:
        self._scripts = iter(scripts)
        self._tls = tls
        self._handlers: set[asyncio.Task[Any]] = set()
        self.requests: list[bytes] = []
        self.url = ""

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
        try:
            while not writer.is_closing():
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                await next(self._scripts)(writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._handlers.discard(task)
            writer.transport.abort()


def http(
    body: bytes = b"", status: str = "200 OK", headers: str = "", length: int | None = None
) -> bytes:
    """One answer; ``headers`` are lines that each end in CRLF."""
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{headers}\r\n".encode() + body


def unframed(body: bytes, headers: str) -> bytes:
    """An answer whose length its own ``headers`` tell, or nobody."""
    return f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode() + body


def job(status: str = "pending", job_id: str = "a", **fields: Any) -> bytes:
    return json.dumps({"data": {"id": job_id, "type": "job", "status": status} | fields}).encode()


def send(data: bytes, *, close: bool = False) -> Script:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return script


def reset_after(data: bytes) -> Script:
    """Send, and then a RST instead of an orderly end."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        # A real moment, for the bytes to arrive before the reset overtakes them.
        await asyncio.sleep(0)
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return script


def drip(start: bytes, rest: bytes, seconds: float = 1.0) -> Script:
    """Send ``start``, then ``rest`` byte by byte."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        for byte in rest:
            await asyncio.sleep(seconds)
            writer.write(bytes([byte]))
            await writer.drain()

    return script


def endless(start: bytes, again: bytes) -> Script:
    """Send ``start``, then ``again`` ten times a second for as long as it is taken."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.is_closing():
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(0.1)  # else a virtual clock would never move

    return script


async def hang(_: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()
