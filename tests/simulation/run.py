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

from moltin_jobs import (
    ClientCredentials,
    Job,
    JobFailedError,
    JobsSession,
    JobTimeoutError,
    MoltinJobsError,
    SessionClosedError,
)
from moltin_jobs.redis_limiter import RedisLimiter
from moltin_jobs.testing.simulator import serve

from . import secrets_check
from .actors import Actor
from .loop import LOOPS, BusyLoopError, NothingScheduledError, SimulatedLoop, VirtualThreads
from .network import Connection, Weather
from .secrets_check import CLIENT_SECRET, TOKEN, LogCheck
from .service import Service
from .user_code import TokenCallable, UserLimiter
from .wire import (
    SESSION_HEADER,
    Wire,
    WireRequest,
    check_cooldowns,
    check_rate,
    check_refreshes,
    find_cooldowns,
)
from .worlds import HARMLESS, Disturbance, JobPlan, SessionPlan, World

EPOCH = 1_790_000_000.0
MAX_CALLBACK = 0.05
"""Longest callback in seconds of thread time."""
GRACE = 60.0
"""Seconds after the last session was closed in which everything has to end."""
REDIS_LIMIT = 20
MAX_CHECKED_ERRORS = 60


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
            run.violations.append("a callback took {:.3f} s: {}".format(*run.slowest))
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
        self._started_at = loop.time()
        self.violations: list[str] = []
        self.trace: list[str] = []
        self.is_calm = world.is_calm
        self.is_stubborn = "stubborn" in world.features
        self.disk_seconds = 12.0 if "disk" in world.features else 0.0
        if not isinstance(loop, VirtualThreads):
            self.disk_seconds = 0.5  # the clock is real
        self.service = Service(world)
        self.wire = Wire(self.now, self.log)
        self.actors: list[Actor] = []
        self.sessions: list[JobsSession] = []
        self.closed: set[int] = set()
        self.checked_errors = 0
        self.slowest = (0.0, "")
        self._references: list[weakref.ref[Any]] = []

    def run(self) -> None:
        """Run the world, and check what is left of it."""
        loop = self._loop
        random.seed(self.world.seed)
        with self._patched(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                loop.run_until_complete(self._main())
            except NothingScheduledError:
                self.violate("all tasks wait, and nothing is scheduled")
            except BusyLoopError:
                self.violate("the event loop is busy for ever")
            finally:
                self._finish()
            if self.world.seed % 10 == 0 or any(one() is not None for one in self._references):
                gc.collect()  # takes as long as a small world
        self.violations += [f"warning: {one.message}" for one in caught]
        self._check_references()

    def now(self) -> float:
        """Return the time since the start."""
        return float(self._loop.time() - self._started_at)

    def violate(self, text: str) -> None:
        """Report a violation."""
        text = f"{self.now():.6f} {text}"
        self.violations.append(text)
        self.log(f"VIOLATION {text}")

    def log(self, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.now():.6f} {text}")

    def check_error(self, error: BaseException, what: str) -> None:
        """Check an exception that a call has raised."""
        self.checked_errors += 1
        if self.checked_errors > MAX_CHECKED_ERRORS:
            return
        finding = secrets_check.check_error(error)
        if finding is not None:
            self.violate(f"{what}: {finding}")

    def check_wait(self, actor: Actor, job: JobPlan, outcome: Job | MoltinJobsError) -> None:
        """Check that a wait has ended with the end of its job."""
        plan = self.world.sessions[actor.plan.session]
        options = actor.plan.options
        polling = options["polling"] or plan.options["polling"]
        longest = polling.max_interval * (1 + polling.jitter)
        if isinstance(outcome, SessionClosedError):
            self._check_outage(actor, plan, polling.max_outage, longest)
        if isinstance(outcome, JobTimeoutError):
            self._check_final_poll(actor, job)
        if not self._is_undisturbed(actor.plan.session, plan):
            return
        round_trip = self._round_trip
        end = self.service.simulator.end_of(job.id)
        if isinstance(outcome, JobTimeoutError):
            final_poll_at, lead = final_poll(actor)
            if end < final_poll_at - lead / 10 - 1e-6 and lead > 2 * round_trip:
                self.violate(f"{actor}: {outcome!r}, although {job.id} has ended at {end:.6f}")
        elif isinstance(outcome, Job | JobFailedError | SessionClosedError) and (
            actor.plan.operation in ("wait", "outcomes")
        ):
            most = longest + 4 * round_trip + 0.01
            if plan.options["poll_by"] == "list":
                most = 2 * longest + 8 * round_trip + 3
            late = self.now() - max(end, actor.started_at)
            if late > most:
                self.violate(f"{actor}: it notices the end of {job.id} {late:.3f} s late")

    @property
    def _round_trip(self) -> float:
        """Longest time of a request and its response on a new connection, in good weather."""
        weather = self.world.weather
        return 4 * weather.latency + 2 * weather.jitter + weather.handshake

    def _check_final_poll(self, actor: Actor, job: JobPlan) -> None:
        """Check that a wait which has ended before its deadline has polled shortly before."""
        plan = self.world.sessions[actor.plan.session]
        harmless = HARMLESS | {"clock", "disk", "files"}
        if not self.world.features <= harmless or not isinstance(self._loop, SimulatedLoop):
            return
        if plan.auth != "token" or plan.options["request_timeout"] <= self._round_trip:
            return
        if self.now() >= actor.started_at + actor.plan.options["timeout"] - 1e-6:
            return
        final_poll_at, lead = final_poll(actor)
        for request in reversed(self.wire.requests):
            if request.started_at < final_poll_at - lead / 10 - 1e-6:
                self.violate(f"{actor}: JobTimeoutError for {job.id} without a final poll")
                return
            if request.session == actor.plan.session and request.target.endswith(job.id):
                return

    def _check_outage(
        self, actor: Actor, plan: SessionPlan, max_outage: float | None, longest: float
    ) -> None:
        """Check that an outage of the service has not kept a wait for ever."""
        since = self.service.outage_since
        harmless = HARMLESS | {"clock", "disk", "files", "outage", "redis trouble", "tokens"}
        if since is None or max_outage is None or not self.world.features <= harmless:
            return
        most = max_outage + 4 * (longest + self._round_trip + 1.0)
        if plan.options["poll_by"] == "list":
            most += 75.0
        seconds = self.now() - max(since, actor.started_at)
        if seconds > most and plan.limiter not in ("1", "3"):
            self.violate(f"{actor}: an outage of {seconds:.3f} s has not ended the wait")

    def _is_undisturbed(self, number: int, plan: SessionPlan) -> bool:
        """Return whether the requests of a session are neither delayed nor refused."""
        if not self.is_calm or plan.auth == "callable" or not isinstance(self._loop, SimulatedLoop):
            return False
        if plan.options["request_timeout"] <= 2 * self._round_trip:
            return False
        recent = 0
        for request in reversed(self.wire.requests):
            if request.session == number:
                if request.status == 429:
                    return False
                recent += request.started_at > self.now() - 4
        return plan.limiter == "none" or recent < int(plan.limiter)

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        """Replace clocks and secrets by those of the world, and watch log records."""
        handler = LogCheck(self.violate, self.log)
        logger = logging.getLogger()
        chance = random.Random(f"secrets {self.world.seed}")
        level = logger.level
        handlers, logger.handlers = logger.handlers, [handler]  # those of pytest keep records
        logger.setLevel(min(session.level for session in self.world.sessions))
        self.directory = Path(tempfile.mkdtemp(prefix="simulation-"))
        try:
            with (
                mock.patch.object(time, "time", self._wall_clock),
                mock.patch.object(secrets, "token_hex", lambda size: chance.randbytes(size).hex()),
                mock.patch.object(secrets, "token_bytes", chance.randbytes),
            ):
                yield
        finally:
            logger.handlers = handlers
            logger.setLevel(level)
            shutil.rmtree(self.directory)

    def _wall_clock(self) -> float:
        return EPOCH + self.now() + self.service.clock_offset

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
                self._check_polls()
            await asyncio.wait(closings)
            if tasks:
                _, pending = await asyncio.wait(tasks, timeout=GRACE)
                for actor in self.actors:
                    if actor.ended_at is None:
                        self.violate(f"{actor} has not ended")
                for task in pending:
                    task.cancel()
            await asyncio.sleep(1.0 + 2 * self.disk_seconds)
            self._check_network()
            if left := [path.name for path in self.directory.rglob("*.part")]:
                self.violate(f"partial files are left: {left}")
        self.log("the end")

    def _check_polls(self) -> None:
        """Check now and then that no poll is overdue."""
        for actor in self.actors:
            due = None if actor.watch is None else actor.watch.next_poll_at
            if due is not None and due < self._loop.time() - 1e-6:
                self.violate(f"{actor}: a poll is overdue since {due - self._started_at:.6f}")
        if len(self.closed) < len(self.sessions):
            self._loop.call_later(0.3, self._check_polls)

    def _on_exception(self, loop: Any, context: dict[str, Any]) -> None:
        self.violate(f"asyncio reports: {context.get('message')} {context.get('exception')!r}")

    def _disturb(self, disturbance: Disturbance) -> None:
        self.log(f"{disturbance.name} {disturbance.options}")
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
            network.observers[port] = self.wire
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
            http = aiohttp.ClientSession()
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
        return TokenCallable(name, chance, self.violate)

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

    async def _act(self, plan: Any) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(plan.at)
        actor = Actor(plan, self, self.sessions[plan.session])
        self.actors.append(actor)
        task = loop.create_task(actor.act())
        for delay in plan.cancellations:
            loop.call_later(delay, actor.cancel, task, plan.passes)
        await asyncio.wait([task])
        actor.session = None  # type: ignore[assignment]
        task.result()

    async def _close(self, number: int, plan: SessionPlan) -> None:
        """Close a session, perhaps in two steps, and check that nothing is left of it."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(plan.close_at - self.now())
        session = self.sessions[number]
        self._check_idle(number, session)
        self.log(f"session {number} is closed")
        self.closed.add(number)
        task = loop.create_task(session.close())
        if plan.close_is_cancelled:
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await asyncio.sleep(2 * self.disk_seconds)
            self._check_connections(number, "after a close that was cancelled")
            task = loop.create_task(session.close())
        closed_at = self.now()
        await asyncio.wait([task], timeout=GRACE)
        if not task.done():
            self.violate(f"session {number}: close() does not return")
            task.cancel()
            return
        task.result()
        late = self.now() - closed_at - 2 * self.disk_seconds
        if late > 1e-6 and not self.is_stubborn:
            self.violate(f"session {number}: close() took {self.now() - closed_at:.6f} s")
        stats = session.stats()
        left = {
            name: value
            for name, value in attrs.asdict(stats).items()
            if value and name not in ("requests", "polls", "failed_polls", "cooldowns")
        }
        if left:
            self.violate(f"session {number}: {left} after close()")

    def _check_idle(self, number: int, session: JobsSession) -> None:
        """Check that nothing is left of calls that have ended, before the session is closed."""
        actors = [one for one in self.actors if one.plan.session == number]
        stats = session.stats()
        if all(one.ended_at is not None for one in actors):
            if stats.waits:
                self.violate(f"session {number}: {stats.waits} waits of calls that have ended")
            if all(one.watch_deadline < self.now() for one in actors) and (
                stats.tasks or stats.requests_queued or stats.connections or stats.slots_held
            ):
                self.violate(f"session {number}: left after all calls have ended: {stats}")

    def _check_connections(self, number: int, when: str) -> None:
        """Check that a session has no connection, unless they are those of the user."""
        if "http_session" not in self.world.sessions[number].options:
            used = [one for one in self._connections() if one.note is not None]
            if left := [one for one in used if one.note[0].session == number]:
                self.violate(f"session {number}: {len(left)} connections {when}")

    def _check_network(self) -> None:
        """Check that no session has a connection."""
        own = any("http_session" in plan.options for plan in self.world.sessions)
        if not own and (left := self._connections()):
            self.violate(f"{len(left)} connections are left")

    def _connections(self) -> list[Connection]:
        """Return the open connections to the service. Those over sockets are not known."""
        if not isinstance(self._loop, SimulatedLoop):
            return []
        return [one for one in self._loop.network.connections if one.observer is not None]

    def _finish(self) -> None:
        """Close the loop, and check what is left."""
        loop = self._loop
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        for task in left:
            self.violate(f"task left: {task.get_coro()!r}")
            task.cancel()
        if left:
            with contextlib.suppress(BaseException):
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        self.violations += self.service.files.violations
        self._check_creations()
        if isinstance(loop, SimulatedLoop):
            self._check_wire()
            self.slowest = loop.slowest
        loop.close()
        self.sessions.clear()

    def _check_creations(self) -> None:
        """Check that no job was created twice."""
        created = collections.Counter(self.service.simulator.created)
        for actor in self.actors:
            if actor.created is None:
                continue
            count = created[actor.created]
            may_repeat = actor.plan.operation == "create" and actor.plan.options["allow_duplicate"]
            if count > 1 and not may_repeat:
                self.violate(f"{actor}: {count} jobs were created")

    def _check_wire(self) -> None:
        """Check the rules that hold for the requests on the network."""
        by_session: dict[int, list[WireRequest]] = {}
        for request in self.wire.requests:
            by_session.setdefault(request.session, []).append(request)
        findings: list[str | None] = []
        for number, requests in by_session.items():
            plan = self.world.sessions[number]
            own = f"session {number}"
            if plan.limiter.isdigit():
                findings.append(prefix(own, check_rate(requests, int(plan.limiter))))
            findings.append(prefix(own, check_cooldowns(requests, find_cooldowns(requests))))
            if plan.auth == "credentials":
                lifetime = self.world.service["token_lifetime"]
                findings.append(prefix(own, check_refreshes(requests, lifetime)))
        if self.service.redis is not None:
            troubles = {"redis trouble", "clock", "weather", "closing", "cancellations"}
            if troubles & self.world.features:  # a process may keep to its own share
                limit = 2 * REDIS_LIMIT + len(by_session)
                findings.append(check_rate(self.wire.requests, limit))
            else:
                findings.append(check_rate(self.wire.requests, REDIS_LIMIT))
                # A command that is sent one round trip before a slot reports the pause. The
                # cooldown itself ends earlier: the pause may have had to connect first.
                margin = self.world.redis_latency + 0.015
                pauses = [
                    (begin - EPOCH + margin, begin - EPOCH + seconds - 0.5)
                    for begin, seconds in self.service.redis.pauses
                ]
                findings.append(prefix("store", check_cooldowns(self.wire.requests, pauses)))
        for finding in findings:
            if finding is not None:
                self.violate(finding)

    def _check_references(self) -> None:
        """Check that the sessions are gone."""
        for number, reference in enumerate(self._references):
            if reference() is not None:
                self.violations.append(f"session {number} is kept in memory")

    def report(self) -> Report:
        """Return the result."""
        counts: collections.Counter[str] = collections.Counter()
        counts["worlds"] = 1
        for actor in self.actors:
            counts[f"operation {actor.plan.operation}"] += 1
            if actor.cancellations:
                counts["cancellations"] += actor.cancellations
            counts[f"outcome {actor.outcome}"] += 1
        counts["requests"] = len(self.service.simulator.requests)
        counts["files"] = self.service.files.served
        for disturbance in self.world.disturbances:
            counts[f"fault {disturbance.name}"] += 1
        loop = self._loop
        if isinstance(loop, SimulatedLoop):
            counts.update({f"fault {name}": n for name, n in loop.network.faults.items()})
        text = "\n".join(self.trace)
        return Report(
            violations=self.violations,
            digest=hashlib.sha256(text.encode()).hexdigest()[:16],
            counts=counts,
            virtual_seconds=self.now(),
            trace=self.trace,
        )


def final_poll(actor: Actor) -> tuple[float, float]:
    """Return the moment of the final poll of a wait, and the time from it to the deadline."""
    timeout = actor.plan.options["timeout"]
    lead = min(timeout / 10, 1.0)
    return actor.started_at + timeout - lead, lead


def prefix(name: str, finding: str | None) -> str | None:
    """Put a name before a finding."""
    return None if finding is None else f"{name}: {finding}"
