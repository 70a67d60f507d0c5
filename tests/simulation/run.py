"""One run of a world: it lets everything happen, and checks the invariants."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import hashlib
import logging
import random
import secrets
import shutil
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import attrs

from moltin_jobs import ClientCredentials, JobsSession
from moltin_jobs.redis_limiter import RedisLimiter
from moltin_jobs.testing.simulator import serve

from . import end_check
from .actors import Actor
from .context import Context
from .loop import LOOPS, BusyLoopError, NothingScheduledError, SimulatedLoop, VirtualThreads
from .network import Weather
from .operations import OPERATIONS
from .secrets_check import CLIENT_SECRET, TOKEN, LogCheck
from .service import EPOCH, REDIS_LIMIT
from .user_code import StubbornMiddleware, TokenCallable, UserLimiter
from .wire import SESSION_HEADER
from .worlds import ActorPlan, Disturbance, SessionPlan, World

MAX_CALLBACK = 0.05
"""Longest callback in seconds: of the wall clock, or else of thread time."""
GRACE = 60.0
"""Seconds after the last session was closed in which everything has to end."""
CHECK_INTERVAL = 0.3
"""Seconds between checks during the run."""


@attrs.define
class Report:
    """Result of one run."""

    violations: list[str]
    digest: str
    """Hash of the trace."""
    counts: collections.Counter[str]
    virtual_seconds: float
    trace: list[str] = attrs.field(repr=False)


def run_world(world: World, on: str = "memory") -> Report:
    """Run a world on a loop and network of this name, see `LOOPS`."""
    run = WorldRun(world, LOOPS[on](world.seed))
    run.run()
    repetitions = 0
    while run.slowest[0] > MAX_CALLBACK:  # by the wall clock, or on a busy machine: measure again
        if repetitions == 2:
            text = "a callback took {:.3f} s: {}".format(*run.slowest)
            run.context.violations.append(text)
            break
        repetitions += 1
        loop = LOOPS[on](world.seed)
        loop.clock = time.thread_time
        run = WorldRun(world, loop)
        run.run()
    return run.report()


class WorldRun:
    """Run in progress."""

    def __init__(self, world: World, loop: Any) -> None:
        self.world = world
        self._loop = loop
        self.context = Context(world, loop, Path(tempfile.mkdtemp(prefix="simulation-")))
        self.service = self.context.service
        self.actors: list[Actor] = []
        self.sessions: list[JobsSession] = []
        self.closed: set[int] = set()
        self.slowest = (0.0, "")
        self._references: list[weakref.ref[Any]] = []

    def run(self) -> None:
        """Run the world, and check what is left of it."""
        context = self.context
        random.seed(self.world.seed)
        with self._patched(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                self._loop.run_until_complete(self._main())
            except NothingScheduledError:
                context.violate("all tasks wait, and nothing is scheduled")
            except BusyLoopError:
                context.violate("the event loop is busy for ever")
            finally:
                self._finish()
            if self.world.seed % 10 == 0 or any(one() is not None for one in self._references):
                gc.collect()  # takes as long as a small world
        for number, reference in enumerate(self._references):
            if reference() is not None:
                context.violations.append(f"session {number} is kept in memory")
        context.violations += [f"warning: {one.message}" for one in caught]

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        """Replace clocks and secrets by those of the world, and watch log records."""
        context = self.context
        handler = LogCheck(context.violate, context.log, context.logged_ids)
        logger = logging.getLogger()
        chance = random.Random(f"secrets {self.world.seed}")
        level = logger.level
        handlers, logger.handlers = logger.handlers, [handler]  # those of pytest keep records
        logger.setLevel(min(session.level for session in self.world.sessions))
        try:
            with (
                mock.patch.object(time, "time", self._wall_clock),
                mock.patch.object(secrets, "token_hex", lambda size: chance.randbytes(size).hex()),
                mock.patch.object(secrets, "token_bytes", chance.randbytes),
                mock.patch.object(sys, "unraisablehook", self._on_unraisable),
            ):
                yield
        finally:
            logger.handlers = handlers
            logger.setLevel(level)
            shutil.rmtree(context.directory)

    def _wall_clock(self) -> float:
        return EPOCH + self.context.now() + self.service.clock_offset

    def _on_unraisable(self, unraisable: Any) -> None:
        self.context.violate(f"{unraisable.exc_value!r} in {unraisable.object!r}")

    def _on_exception(self, loop: Any, details: dict[str, Any]) -> None:
        text = f"{details.get('message')} {details.get('exception')!r}"
        self.context.violate(f"asyncio reports: {text}")

    async def _main(self) -> None:
        """Let everything happen."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_exception)
        async with contextlib.AsyncExitStack() as stack:
            await self._start_service(stack)
            for plan in self.world.sessions:
                await self._open_session(plan, stack)
            for disturbance in self.world.disturbances:
                loop.call_later(disturbance.at, self._disturb, disturbance)
            tasks = [loop.create_task(self._act(plan)) for plan in self.world.actors]
            closings = [
                loop.create_task(self._close(number, plan))
                for number, plan in enumerate(self.world.sessions)
            ]
            if isinstance(loop, VirtualThreads):
                self._check_now()
            await asyncio.wait(closings)
            await self._end(tasks)
        end_check.check_network(self.context)
        self.context.log("the end")

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        """Wait for the calls and for the disk."""
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=GRACE)
            for task in pending:
                task.cancel()
        for actor in self.actors:
            if actor.ended_at is None:
                self.context.violate(f"{actor} has not ended")
        await asyncio.sleep(1.0 + 2 * self.context.disk_seconds)
        if left := [path.name for path in self.context.directory.rglob("*.part")]:
            self.context.violate(f"partial files are left: {left}")

    def _check_now(self) -> None:
        """Check now and then that no poll is overdue, and that nothing is left of calls."""
        for actor in self.actors:
            wait = actor.wait_in_progress
            due = None if wait is None else wait.next_poll_at
            if due is not None and due < self._loop.time() - 1e-6:
                self.context.violate(f"{actor}: a poll is overdue since {due:.6f}")
        for number, session in enumerate(self.sessions):
            if number not in self.closed:
                end_check.check_idle(self.context, number, session, self._actors_of(number))
        if len(self.closed) < len(self.sessions):
            self._loop.call_later(CHECK_INTERVAL, self._check_now)

    def _actors_of(self, number: int) -> list[Actor]:
        return [actor for actor in self.actors if actor.plan.session == number]

    def _disturb(self, disturbance: Disturbance) -> None:
        self.context.log(f"{disturbance.name} {disturbance.options}")
        self.service.disturb(disturbance, self._loop)

    async def _start_service(self, stack: contextlib.AsyncExitStack) -> None:
        simulator = self.service.simulator
        simulator.token, simulator.client_secret = TOKEN, CLIENT_SECRET
        await stack.enter_async_context(simulator)
        url = await serve(stack, self.service.files.application(), 0)
        simulator.files_url = f"{url}/files"
        self.service.add_jobs(self._loop)
        if isinstance(self._loop, SimulatedLoop):
            network = self._loop.network
            port = int(simulator.url.rpartition(":")[2])
            network.observers[port] = self.context.wire
            for one in (port, int(url.rpartition(":")[2])):
                network.weather[one] = self.world.weather
            self._loop.slow_threads = "disk" in self.world.features
            if self.service.redis is not None:
                port = network.listen(self.service.redis.connect).port
                self.service.redis_port = port
                network.weather[port] = Weather(latency=self.world.redis_latency)

    async def _open_session(self, plan: SessionPlan, stack: contextlib.AsyncExitStack) -> None:
        number = len(self.sessions)
        options = dict(plan.options)
        if "http_session" in options:
            chance = random.Random(f"middleware {self.world.seed} {number}")
            middlewares = (StubbornMiddleware(chance),) if plan.is_stubborn else ()
            http = aiohttp.ClientSession(middlewares=middlewares)
            stack.push_async_callback(http.close)
            options["http_session"] = http
        session = JobsSession(
            self._make_auth(plan.auth, number),
            base_url=self.service.simulator.url,
            rate_limit=await self._make_limiter(plan.limiter, number, stack),
            headers={SESSION_HEADER: str(number)},
            **options,
        )
        self.sessions.append(session)
        self._references.append(weakref.ref(session))

    def _make_auth(self, name: str, number: int) -> Any:
        if name == "token":
            return TOKEN
        if name == "credentials":
            return ClientCredentials("simulator-client", CLIENT_SECRET)
        chance = random.Random(f"auth {self.world.seed} {number}")
        return TokenCallable(name, chance, self.context.violate)

    async def _make_limiter(self, name: str, number: int, stack: contextlib.AsyncExitStack) -> Any:
        if name == "none":
            return None
        if name.isdigit():
            return int(name)
        if name == "redis" and not self.service.redis_port:  # there is no Redis over sockets
            return REDIS_LIMIT
        if name == "redis":
            url = f"redis://127.0.0.1:{self.service.redis_port}"
            processes = len(self.world.sessions)
            limiter = RedisLimiter(url, "store", rate_limit=REDIS_LIMIT, processes=processes)
            return await stack.enter_async_context(limiter)
        return UserLimiter(name, random.Random(f"limiter {self.world.seed} {number}"))

    async def _act(self, plan: ActorPlan) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(plan.at)
        actor = Actor(plan, self.context, self.sessions[plan.session])
        self.actors.append(actor)
        task = loop.create_task(actor.act(OPERATIONS[plan.operation]))
        for delay in plan.cancellations:
            loop.call_later(delay, actor.cancel, task, plan.passes)
        await asyncio.wait([task])
        actor.session = None  # type: ignore[assignment]
        task.result()

    async def _close(self, number: int, plan: SessionPlan) -> None:
        """Close a session, perhaps in two steps, and check that nothing is left of it."""
        loop, context = asyncio.get_running_loop(), self.context
        await asyncio.sleep(plan.close_at - context.now())
        session = self.sessions[number]
        end_check.check_idle(context, number, session, self._actors_of(number))
        context.log(f"session {number} is closed")
        context.interrupt(number)
        self.closed.add(number)
        task = loop.create_task(session.close())
        if plan.close_is_cancelled:
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await asyncio.sleep(2 * context.disk_seconds)
            end_check.check_connections(context, number, "after a close that was cancelled")
            task = loop.create_task(session.close())
        closed_at = context.now()
        await asyncio.wait([task], timeout=GRACE)
        if not task.done():
            context.violate(f"session {number}: close() does not return")
            task.cancel()
            return
        if task.cancelled():
            context.violate(f"session {number}: close() raises CancelledError")
        else:
            task.result()
        seconds = context.now() - closed_at
        if seconds > context.slack(number):
            context.violate(f"session {number}: close() took {seconds:.6f} s")
        end_check.check_closed(context, number, session)
        end_check.check_connections(context, number, "after close()")
        await asyncio.sleep(context.slack(number))
        for actor in self._actors_of(number):
            if actor.ended_at is None and actor.plan.operation not in ("watch", "file"):  # pauses
                context.violate(f"{actor} goes on after close()")

    def _finish(self) -> None:
        """Close the loop, and check what is left."""
        loop = self._loop
        left = end_check.check_tasks(self.context)
        for task in left:
            task.cancel()
        if left:
            with contextlib.suppress(BaseException):
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        end_check.check_effects(self.context, self.actors)
        if isinstance(loop, SimulatedLoop):
            end_check.check_wire(self.context)
            self.slowest = loop.slowest
        loop.close()
        self.sessions.clear()
        aiohttp.web_app._cached_build_middleware.cache_clear()  # noqa: SLF001 (keeps loops)

    def report(self) -> Report:
        """Return the result."""
        context = self.context
        counts: collections.Counter[str] = collections.Counter()
        counts["worlds"] = 1
        for actor in self.actors:
            counts[f"operation {actor.plan.operation}"] += 1
            counts["cancellations"] += actor.cancellations
            counts[f"outcome {actor.outcome}"] += 1
        counts["requests"] = len(self.service.simulator.requests)
        counts["files"] = self.service.files.served
        for disturbance in self.world.disturbances:
            counts.update(f"fault {name}" for name in disturbance.faults)
        if isinstance(self._loop, SimulatedLoop):
            faults = self._loop.network.faults
            counts.update({f"fault {name}": number for name, number in faults.items()})
        text = "\n".join(context.trace)
        return Report(
            violations=context.violations,
            digest=hashlib.sha256(text.encode()).hexdigest()[:16],
            counts=counts,
            virtual_seconds=context.now(),
            trace=context.trace,
        )
