"""State of a run that all of its parts share: its world, what has happened, and what was found."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import attrs

from . import secrets_check
from .loop import SimulatedLoop, VirtualThreads
from .service import Service
from .wire import Wire
from .worlds import World

MAX_CHECKED_ERRORS = 60
STUBBORN_SECONDS = 0.5
"""Seconds that a callable of `user_code` may go on after a cancellation which it ignores."""


@attrs.define(eq=False)
class Context:
    """Shared state of a run."""

    world: World
    loop: Any
    directory: Path
    """Directory of all files."""
    service: Service = attrs.field(init=False)
    wire: Wire = attrs.field(init=False)
    violations: list[str] = attrs.field(factory=list)
    trace: list[str] = attrs.field(factory=list)
    interruptions: dict[int, set[float]] = attrs.field(
        factory=lambda: collections.defaultdict(set), init=False
    )
    """For each session, the moments at which a call was interrupted or has ended."""
    logged_ids: set[str] = attrs.field(factory=set, init=False)
    """Ids of the jobs that log records name, those of the level DEBUG apart."""
    _started_at: float = attrs.field(init=False)
    _checked_errors: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._started_at = self.loop.time()
        self.service = Service(self.world)
        self.wire = Wire(self.now, self.log)

    @property
    def is_simulated(self) -> bool:
        """Whether the network is in memory, so that requests are known."""
        return isinstance(self.loop, SimulatedLoop)

    @property
    def disk_seconds(self) -> float:
        """Seconds that the calls in threads may delay the end of a call."""
        if not isinstance(self.loop, VirtualThreads):
            return 0.5  # the clock is real
        return 12.0 if "disk" in self.world.features else 0.0

    @property
    def round_trip(self) -> float:
        """Longest time of a request and its response on a new connection, in good weather."""
        weather = self.world.weather
        return 4 * weather.latency + 2 * weather.jitter + weather.handshake

    def slack(self, session: int) -> float:
        """Return the seconds after a deadline or a cancellation in which a call may end."""
        seconds = 1e-6 + self.disk_seconds
        return seconds + STUBBORN_SECONDS if self.world.sessions[session].is_stubborn else seconds

    def now(self) -> float:
        """Return the time since the start."""
        return float(self.loop.time() - self._started_at)

    def end_of(self, job_id: str) -> float:
        """Return the moment at which a job ends or was cancelled."""
        return self.service.simulator.end_of(job_id) - self._started_at

    @property
    def outage_since(self) -> float | None:
        """Moment at which an outage of the service has begun."""
        since = self.service.outage_since
        return None if since is None else since - self._started_at

    def log(self, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.now():.6f} {text}")

    def violate(self, text: str) -> None:
        """Report a violation."""
        text = f"{self.now():.6f} {text}"
        self.violations.append(text)
        self.log(f"VIOLATION {text}")

    def interrupt(self, session: int) -> None:
        """Note that a call of a session is interrupted now, or ends."""
        self.interruptions[session].add(self.now())

    def is_undisturbed(self, session: int) -> bool:
        """Return whether the requests of a session are neither delayed nor refused."""
        plan = self.world.sessions[session]
        if not self.world.is_calm or plan.auth == "callable" or not self.is_simulated:
            return False
        if plan.options["request_timeout"] <= 2 * self.round_trip or plan.is_slow:
            return False
        recent = 0
        for request in reversed(self.wire.requests):
            if request.session == session:
                if request.status == 429:
                    return False
                recent += request.started_at > self.now() - 4
        return plan.limiter == "none" or recent < int(plan.limiter)

    def check_raised(self, error: BaseException, what: str) -> None:
        """Check an exception that a call has raised."""
        self._checked_errors += 1
        if self._checked_errors > MAX_CHECKED_ERRORS:
            return
        finding = secrets_check.check_error(error)
        if finding is not None:
            self.violate(f"{what}: {finding}")
