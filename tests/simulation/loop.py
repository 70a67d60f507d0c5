"""Event loops with a virtual clock, whose order of events depends on a seed only.

Time passes when nothing is left to do: at once, up to the next callback. Calls to a thread run in
the loop itself, at a moment of the virtual clock.
"""

from __future__ import annotations

import asyncio
import collections
import heapq
import importlib
import random
import selectors
import socket
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import attrs

from .network import Network

MAX_PASSES = 20_000
"""Passes through the loop within `MOMENT` seconds. More are a busy loop."""
MOMENT = 0.001
RESOLUTION = 1e-9


class NothingScheduledError(Exception):
    """All tasks wait, and nothing is scheduled."""


class BusyLoopError(Exception):
    """The loop passes again and again, and hardly any time passes."""


class PassCounter:
    """Counter of the passes through a loop, which notices a busy loop."""

    def __init__(self) -> None:
        self._moment = 0.0
        self._passes = 0

    def count(self, now: float) -> None:
        """Count a pass through the loop."""
        if now >= self._moment + MOMENT:
            self._moment, self._passes = now, 0
        self._passes += 1
        if self._passes > MAX_PASSES:
            self._passes = 0
            raise BusyLoopError


@attrs.define(eq=False)
class ThreadCall:
    """Call that a thread of an executor would run."""

    future: asyncio.Future[Any]
    seconds: float
    is_early: bool
    """Whether it takes effect when it starts, or when it ends."""
    func: Callable[..., Any]
    args: tuple[Any, ...]


class VirtualThreads(asyncio.BaseEventLoop):
    """Loop that runs the calls of executors itself, each after a random time."""

    _scheduled: list[Any]
    _ready: collections.deque[Any]
    _stopping: bool
    _timer_cancelled_count: int
    random: random.Random
    slow_threads = False
    """Whether calls to threads take up to seconds."""
    clock = staticmethod(time.perf_counter)
    """Clock that measures callbacks: this one, or the slow `time.thread_time`."""
    thread_seconds = 0.0
    """Time of calls that a thread would have run."""

    def _init_threads(self, seed: object) -> None:
        self.random = random.Random(f"loop {seed}")
        self._queues: weakref.WeakKeyDictionary[Executor, collections.deque[ThreadCall]]
        self._queues = weakref.WeakKeyDictionary()

    def run_in_executor(  # type: ignore[override]  # the overloads of typeshed say the same
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a call at a virtual moment. An executor runs one call after the other."""
        queue: collections.deque[ThreadCall] = collections.deque()
        if executor is not None:
            queue = self._queues.setdefault(executor, queue)
        seconds = self.random.choice([0.0, 0.001, 0.25, 2.0]) if self.slow_threads else 0.0
        is_early = self.random.random() < 0.5
        call = ThreadCall(self.create_future(), seconds, is_early, func, args)
        queue.append(call)
        if len(queue) == 1:
            self.call_soon(self._start_call, queue)
        return call.future

    def _start_call(self, queue: collections.deque[ThreadCall]) -> None:
        """Start the first call of a queue. One that was cancelled before does not run."""
        call = queue[0]
        if call.future.cancelled():
            self._start_next_call(queue)
        elif call.is_early:
            self.call_later(call.seconds, self._end_call, queue, self._call(call.func, call.args))
        else:
            self.call_later(call.seconds, self._end_call, queue)

    def _end_call(
        self, queue: collections.deque[ThreadCall], result: tuple[Any, Any] | None = None
    ) -> None:
        """End the first call of a queue. Without a result, its function runs now."""
        call = queue[0]
        value, error = self._call(call.func, call.args) if result is None else result
        if not call.future.cancelled() and error is not None:
            call.future.set_exception(error)
        elif not call.future.cancelled():
            call.future.set_result(value)
        self._start_next_call(queue)

    def _start_next_call(self, queue: collections.deque[ThreadCall]) -> None:
        queue.popleft()
        if queue:
            self._start_call(queue)

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Any]:
        started_at = self.clock()
        try:
            return func(*args), None
        except BaseException as error:  # noqa: BLE001 (as a thread does)
            return None, error
        finally:
            self.thread_seconds += self.clock() - started_at


class SimulatedLoop(VirtualThreads):
    """Loop without sockets. Callbacks that are due at the same moment run in random order."""

    def __init__(self, seed: object) -> None:
        super().__init__()
        self._init_threads(seed)
        self._now = 0.0
        self._clock_resolution = RESOLUTION
        self._passes = PassCounter()
        self.slowest: tuple[float, str] = (0.0, "")
        """Longest callback: its seconds, and what it was."""
        self.network = Network(self, seed)

    def time(self) -> float:
        """Return the virtual time."""
        return self._now

    def _run_once(self) -> None:
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        if not self._ready and not self._stopping:
            if not scheduled:
                raise NothingScheduledError
            self._now = max(self._now, scheduled[0]._when)
        self._passes.count(self._now)
        due = []
        while scheduled and scheduled[0]._when < self._now + RESOLUTION:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            due.append(handle)
        if len(due) > 1:
            self.random.shuffle(due)
        self._ready.extend(due)
        for _ in range(len(self._ready)):
            handle = self._ready.popleft()
            if not handle._cancelled:
                self._run_handle(handle)

    def _run_handle(self, handle: asyncio.Handle) -> None:
        in_threads = self.thread_seconds
        started_at = self.clock()
        handle._run()
        seconds = self.clock() - started_at - (self.thread_seconds - in_threads)
        if seconds > self.slowest[0]:
            self.slowest = (seconds, describe(handle) if seconds > 0.01 else "")

    def _write_to_self(self) -> None:
        """Another thread never wakes this loop."""

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        """Return the address itself: there are no names."""
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket, which stands for a connection in memory."""
        await self.network.connect(sock, address[1])

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: Any = None,
        port: Any = None,
        *,
        sock: socket.socket | None = None,
        **_: Any,
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Make a connection in memory."""
        with socket.socket() if sock is None else sock as connected:
            if sock is None:
                await self.network.connect(connected, port)
            return self.network.open(connected, protocol_factory)

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *_: Any, **__: Any
    ) -> Any:
        """Listen in memory."""
        return self.network.listen(protocol_factory)


def describe(handle: asyncio.Handle) -> str:
    """Return what a callback is: for a step of a task, its coroutine."""
    callback: Any = getattr(handle, "_callback", None)
    return repr(getattr(callback, "__self__", callback))


class SocketLoop(VirtualThreads, asyncio.SelectorEventLoop):
    """Loop with real sockets of loopback and a virtual clock."""

    slowest = (0.0, "")

    def __init__(self, seed: object) -> None:
        self._now = 0.0
        self._passes = PassCounter()
        super().__init__(_VirtualSelector(self))
        self._init_threads(seed)
        self._clock_resolution = RESOLUTION

    def time(self) -> float:
        """Return the virtual time."""
        return self._now

    def advance(self, seconds: float | None) -> None:
        """Let time pass up to the next callback."""
        if seconds is None:
            raise NothingScheduledError
        self._now += seconds

    def _run_once(self) -> None:
        self._passes.count(self._now)
        super()._run_once()  # type: ignore[misc]  # not in typeshed


class _VirtualSelector(selectors.DefaultSelector):
    """Selector that lets virtual time pass instead of waiting."""

    def __init__(self, loop: SocketLoop) -> None:
        super().__init__()
        self._loop = weakref.proxy(loop)

    def select(self, timeout: float | None = None) -> list[Any]:
        # Loopback delivers at once, but a new connection may need a moment.
        events = super().select(0) or (super().select(0.0003) if timeout != 0 else [])
        if not events and timeout != 0:
            self._loop.advance(timeout)
        return events


def make_eager_loop(seed: int) -> SimulatedLoop:
    """Return a loop with eager tasks."""
    loop = SimulatedLoop(seed)
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # Python 3.12
    return loop


def make_debug_loop(seed: int) -> SimulatedLoop:
    """Return a loop in debug mode."""
    loop = SimulatedLoop(seed)
    loop.set_debug(True)
    return loop


def make_uvloop(seed: int) -> Any:
    """Return a loop with real sockets and a real clock."""
    return importlib.import_module("uvloop").new_event_loop()


LOOPS: dict[str, Callable[[int], Any]] = {
    "memory": SimulatedLoop,
    "eager": make_eager_loop,
    "debug": make_debug_loop,
    "sockets": SocketLoop,
    "uvloop": make_uvloop,
}
"""Loops by name. All but uvloop have a virtual clock, and all but sockets and uvloop a network in
memory."""
