"""Redis in memory: the commands that `RedisLimiter` needs. Its script runs in real Lua."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from lupa import lua51


class RedisServer:
    """State of a Redis, on the wall clock, which may be set back."""

    def __init__(self) -> None:
        self.refuses_writes = False
        self.clock_offset = 0.0
        self.pauses: list[tuple[float, float]] = []
        """When each pause began, by the wall clock, and its seconds."""
        self._hashes: dict[str, dict[str, str]] = {}
        self._lua = lua51.LuaRuntime(unpack_returned_tuples=True)
        self._lua.globals().redis = self._lua.table(
            call=self._call, error_reply=lambda text: self._lua.table(err=text)
        )
        self._scripts: dict[str, Any] = {}

    def connect(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return RedisConnection(self)

    def execute(self, command: list[str]) -> bytes:
        """Return the reply to a command."""
        if command[0].upper() != "EVAL":
            return b"+OK\r\n" if command[0].upper() == "CLIENT" else b"-ERR unknown command\r\n"
        if self.refuses_writes:
            return b"-READONLY You can't write against a read only replica.\r\n"
        script, keys, arguments = command[1], command[3:4], command[4:]
        if arguments[2] != "0":
            self.pauses.append((time.time(), int(arguments[2]) / 1e6))
        run = self._scripts.get(script)
        if run is None:
            self._scripts[script] = run = self._lua.eval(f"function(KEYS, ARGV) {script} end")
        table = self._lua.table_from
        return _encode(run(table(keys), table(arguments)))

    def _call(self, name: str, *arguments: Any) -> Any:
        if name == "TIME":
            microseconds = int((time.time() + self.clock_offset) * 1e6)
            return self._lua.table(*map(str, divmod(microseconds, 1_000_000)))
        fields = self._hashes.setdefault(arguments[0], {})
        if name == "HMGET":
            return self._lua.table_from([fields.get(key, False) for key in arguments[1:]])
        if name == "HSET":
            pairs = iter(arguments[1:])
            for key, value in zip(pairs, pairs, strict=True):
                fields[key] = value if isinstance(value, str) else format(value, ".17g")
        return 1


class RedisConnection(asyncio.Protocol):
    """Connection that replies to commands."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Reply to the commands that are complete."""
        self._received += data
        for command in self._commands():
            self._transport.write(self._server.execute(command))

    def _commands(self) -> Iterator[list[str]]:
        while self._received:
            try:
                head, _, rest = self._received.partition(b"\r\n")
                words = []
                for _ in range(int(head[1:])):
                    length, _, rest = rest.partition(b"\r\n")
                    size = int(length[1:])
                    if len(rest) < size + 2:
                        return
                    words.append(rest[:size].decode())
                    rest = rest[size + 2 :]
            except ValueError:
                return  # the rest is on the way
            self._received = rest
            yield words


def _encode(value: Any) -> bytes:
    if isinstance(value, int | float):
        return b":%d\r\n" % int(value)
    error = value["err"]
    if error is not None:
        return b"-%s\r\n" % error.encode()
    items = [_encode(value[index]) for index in range(1, len(value) + 1)]
    return b"*%d\r\n" % len(items) + b"".join(items)
