"""Network in memory, below aiohttp's connector: connections that are slow, break or are refused.

Each connection has random numbers of its own. So what happens to one does not depend on the order
in which others are used.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import itertools
import os
import random
import socket
from collections.abc import Callable
from typing import Any, Protocol

import attrs


@attrs.frozen
class Weather:
    """State of the network. Shares are from 0 to 1, times in seconds."""

    latency: float = 0.0
    """Time that each message takes."""
    jitter: float = 0.0
    """Most time that a message takes in addition."""
    handshake: float = 0.0
    """Most time that a connection takes in addition."""
    refused: float = 0.0
    """Share of connections that are refused or never made."""
    resets: float = 0.0
    """Share of messages that reset the connection instead, on either way."""
    truncated: float = 0.0
    """Share of responses that end early."""
    drips: float = 0.0
    """Share of responses that arrive in small parts."""
    stalls: float = 0.0
    """Share of messages that take seconds, or never arrive."""


class Observer(Protocol):
    """Object that sees what passes between clients and the service."""

    def on_sent(self, connection: Connection, data: bytes) -> None:
        """Handle bytes that a client has written."""

    def on_arrived(self, connection: Connection, data: bytes) -> None:
        """Handle bytes that have reached the server."""

    def on_received(self, connection: Connection, data: bytes) -> None:
        """Handle bytes that have reached the client."""

    def on_closed(self, connection: Connection) -> None:
        """Handle a connection that the client has closed or lost."""


class Network:
    """Listeners and connections of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: object) -> None:
        self.weather: dict[int, Weather] = {}
        """Weather on the way to each port, calm by default."""
        self.observers: dict[int, Observer] = {}
        """Observer of each port."""
        self.connections: set[Connection] = set()
        """Connections that the client has neither closed nor lost."""
        self.faults: collections.Counter[str] = collections.Counter()
        """Number of faults of each sort so far."""
        self.loop = loop
        self._seed = seed
        self._listeners: dict[int, Callable[[], asyncio.Protocol]] = {}
        self._ports = itertools.count(1000)
        self._numbers = itertools.count(1)
        self._connecting: dict[socket.socket, tuple[int, float]] = {}

    def listen(self, factory: Callable[[], asyncio.Protocol]) -> Listener:
        """Accept connections to a new port."""
        port = next(self._ports)
        self._listeners[port] = factory
        return Listener(self._listeners, port)

    async def connect(self, sock: socket.socket, port: int) -> None:
        """Wait for the handshake of a connection, which `open` then makes."""
        weather = self.weather.get(port, Weather())
        chance = random.Random(f"connect {self._seed} {next(self._numbers)}")
        started_at = self.loop.time()
        await asyncio.sleep(2 * weather.latency + chance.random() * weather.handshake)
        if chance.random() < weather.refused:
            self.faults["connection refused"] += 1
            if chance.random() < 0.2:
                await asyncio.Event().wait()
            raise _os_error(errno.ECONNREFUSED)
        if port not in self._listeners:
            raise _os_error(errno.ECONNREFUSED)
        self._connecting[sock] = (port, started_at)

    def open(
        self, sock: socket.socket, factory: Callable[[], asyncio.Protocol]
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Open a connection after its handshake."""
        port, started_at = self._connecting.pop(sock)
        listener = self._listeners.get(port)
        if listener is None:
            raise _os_error(errno.ECONNRESET)
        protocol = factory()
        connection = Connection(self, port, next(self._numbers), self._seed, started_at)
        self.connections.add(connection)
        connection.client.start(protocol)
        self.loop.call_soon(connection.server.start, listener())
        return connection.client, protocol


class Listener:
    """Server that `asyncio.AbstractEventLoop.create_server` returns."""

    def __init__(self, listeners: dict[int, Any], port: int) -> None:
        self._listeners = listeners
        self.port = port
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        """Return the address."""
        return "127.0.0.1", self.port

    def close(self) -> None:
        """Refuse further connections."""
        self._listeners.pop(self.port, None)

    async def wait_closed(self) -> None:
        """Return, since it is closed at once."""


class Connection:
    """Two transports, and the way between them."""

    def __init__(
        self, network: Network, port: int, number: int, seed: object, started_at: float
    ) -> None:
        self.started_at = started_at
        """Moment at which the handshake began."""
        self.network = network
        self.port = port
        self.number = number
        self.random = random.Random(f"connection {seed} {number}")
        self.observer = network.observers.get(port)
        self.client = MemoryTransport(self, is_client=True)
        self.server = MemoryTransport(self, is_client=False)
        self.client.peer, self.server.peer = self.server, self.client
        self.note: Any = None
        """What the observer notes about the connection."""

    @property
    def weather(self) -> Weather:
        """Weather on the way."""
        return self.network.weather.get(self.port, Weather())


class MemoryTransport(asyncio.Transport):
    """One end of a connection."""

    peer: MemoryTransport

    def __init__(self, connection: Connection, *, is_client: bool) -> None:
        super().__init__({"peername": ("127.0.0.1", connection.port)})
        self._connection = connection
        self._is_client = is_client
        self._loop = connection.network.loop
        self._protocol: asyncio.Protocol | None = None
        self._closing = False
        self._lost = False
        self._way: collections.deque[bytes | Exception | None] = collections.deque()
        """What is on the way to the peer: bytes, a reset or the end (``None``)."""
        self._last_arrival = 0.0
        self._paused = False
        self._inbox: collections.deque[bytes | Exception | None] = collections.deque()

    def start(self, protocol: asyncio.Protocol) -> None:
        """Connect the protocol."""
        self._protocol = protocol
        protocol.connection_made(self)
        self._read_inbox()

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        assert self._protocol is not None
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol."""
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def is_closing(self) -> bool:
        """Return whether this end is closed, or about to be."""
        return self._closing

    def is_reading(self) -> bool:
        """Return whether bytes are passed on."""
        return not self._paused

    def pause_reading(self) -> None:
        """Keep arriving bytes."""
        self._paused = True

    def resume_reading(self) -> None:
        """Pass on the bytes that were kept."""
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._read_inbox)

    def get_write_buffer_size(self) -> int:
        """Return 0: the network takes everything at once."""
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if self._closing or not data:
            return
        connection = self._connection
        content = bytes(data)
        if self._is_client and connection.observer is not None:
            connection.observer.on_sent(connection, content)
        self._send(content)

    def writelines(self, list_of_data: Any) -> None:
        """Send bytes as one message."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Return that only both ways can be closed."""
        return False

    def close(self) -> None:
        """Close the connection. What a client has sent arrives all the same, or is lost."""
        if self._closing:
            return
        self._closing = True
        if self._is_client and self._connection.random.random() < 0.5:
            self._way = collections.deque()
            self._last_arrival = 0.0
        self._put(None)
        self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        """Reset the connection."""
        self.close()

    def _send(self, content: bytes) -> None:
        """Put bytes on the way, or a fault in their place."""
        connection = self._connection
        weather, chance = connection.weather, connection.random
        faults = connection.network.faults
        if weather.resets and chance.random() < weather.resets:
            faults["reset"] += 1
            if not self._is_client:
                self._put(content[: chance.randrange(len(content))])
            self._put(_os_error(errno.ECONNRESET))
            return
        delay = 0.0
        if weather.stalls and chance.random() < weather.stalls:
            faults["stall"] += 1
            delay = chance.choice([0.5, 3.0, 15.0, 1e6])
        if not self._is_client:
            if weather.truncated and chance.random() < weather.truncated:
                faults["truncated"] += 1
                self._put(content[: chance.randrange(len(content))])
                self._put(None)
                return
            if weather.drips and chance.random() < weather.drips:
                faults["drip"] += 1
                size = max(1, len(content) // chance.randint(2, 12))
                pause = chance.choice([0.001, 0.25, 1.5])
                for start in range(0, len(content), size):
                    self._put(content[start : start + size], delay=pause)
                return
        self._put(content, delay=delay)

    def _put(self, item: bytes | Exception | None, delay: float = 0.0) -> None:
        if item == b"":
            return
        connection = self._connection
        weather = connection.weather
        seconds = weather.latency + delay
        if weather.jitter:
            seconds += connection.random.random() * weather.jitter
        now = self._loop.time()
        base = max(now, self._last_arrival) if delay else now
        self._last_arrival = max(base + seconds, self._last_arrival)
        way = self._way
        way.append(item)
        self._loop.call_at(self._last_arrival, self._arrive, way)

    def _arrive(self, way: collections.deque[bytes | Exception | None]) -> None:
        if way is not self._way:  # lost when this end was closed
            return
        connection, item = self._connection, way.popleft()
        observer = connection.observer
        if observer is not None and isinstance(item, bytes) and not self.peer.is_closing():
            if self._is_client:
                observer.on_arrived(connection, item)
            else:
                observer.on_received(connection, item)
        self.peer.receive(item)

    def receive(self, item: bytes | Exception | None) -> None:
        """Take what has arrived: bytes, a reset or the end."""
        self._inbox.append(item)
        self._read_inbox()

    def _read_inbox(self) -> None:
        while self._inbox and not self._paused and self._protocol is not None:
            item = self._inbox.popleft()
            if self._closing:
                continue
            if isinstance(item, bytes):
                self._protocol.data_received(item)
            elif isinstance(item, Exception):
                self._closing = True
                self._put(item)  # a reset ends both ways
                self._loop.call_soon(self._lose, item)
            elif not self._protocol.eof_received():
                self.close()

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        connection = self._connection
        if self._is_client:
            connection.network.connections.discard(connection)
            if connection.observer is not None:
                connection.observer.on_closed(connection)
        if self._protocol is not None:
            with contextlib.suppress(ConnectionError):
                self._protocol.connection_lost(error)
        self._protocol = None


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
