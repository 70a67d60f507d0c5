"""Worlds: everything that happens in one run, drawn from a seed.

A world is drawn part by part, each part with random numbers of its own. So a world without one of
its features, or with some of its actors only, is otherwise the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection
from typing import Any

import attrs

from moltin_jobs import Polling, Retry

from .network import Weather

FEATURES = (
    "bursts",  # of 429
    "calls",  # auth callables and rate limiters that fail or hang
    "cancellations",
    "clock",  # jumps of the wall clock
    "closing",  # sessions that are closed in the middle
    "deadlines",  # timeouts close to the end of a job
    "disk",  # slow threads
    "errors",  # of the service, and of the gateway before it
    "files",  # compressed, truncated or expired
    "handshakes",  # slow ones
    "latency",
    "outage",  # of the service, for ever
    "redis",  # a rate limiter that sessions share
    "redis trouble",
    "stubborn",  # auth callables and rate limiters that ignore a cancellation
    "tokens",  # that live seconds
    "weather",  # resets, drips, truncation, stalls and refused connections
)
HARMLESS = {"cancellations", "closing", "deadlines", "handshakes", "latency"}
"""Features with which nothing goes wrong."""
BIG_JOB = "job-big"
"""Job with a file that was compressed to a thousandth."""
KINDS = ("order", "pxm", "release:c1", "subscription", "subscription-import", "inventory-import")
KIND_WEIGHTS = (6, 2, 1, 1, 1, 1)
WITH_FILES = ("order", "pxm", "release:c1")
ORDER_OPERATIONS = ("create", "export", "publish", "queue")
OPERATIONS: dict[str, int] = {
    "lookup": 3,
    "lookups": 1,
    "wait": 10,
    "waits": 3,
    "watch": 5,
    "outcomes": 4,
    "list": 1,
    "queue": 1,
    "create": 2,
    "export": 4,
    "publish": 1,
    "download": 4,
    "file": 4,
    "problems": 1,
    "cancel": 1,
    "address": 1,
    "busy": 1,
}
"""Operations with their weights."""

Options = dict[str, Any]


@attrs.frozen
class JobPlan:
    """A job, which the service has from some moment on."""

    id: str
    kind: str
    at: float
    duration: float
    fails: bool
    expires_at: float
    """Moment at which the service forgets it."""


@attrs.frozen
class ActorPlan:
    """One call, by one task of its own."""

    number: int
    session: int
    at: float
    operation: str
    options: Options
    cancellations: tuple[float, ...] = ()
    """Moments after the start at which the task is cancelled."""
    passes: int = 0
    """Passes through the event loop between each such moment and the cancellation."""


@attrs.frozen
class SessionPlan:
    """A session: its options, and when it is closed."""

    options: Options
    auth: str
    limiter: str
    close_at: float
    close_is_cancelled: bool
    level: int
    """Level of the log records."""

    @property
    def turns_cancellations(self) -> bool:
        """Whether a middleware of its HTTP session turns cancellations into exceptions."""
        return self.is_stubborn and "http_session" in self.options

    @property
    def is_slow(self) -> bool:
        """Whether its own rate limit delays even a few requests, or some that were cancelled."""
        return self.limiter in ("1", "3")

    @property
    def is_stubborn(self) -> bool:
        """Whether its callables ignore cancellations."""
        return self.limiter == "stubborn" or self.auth.startswith("stubborn")


@attrs.frozen
class Disturbance:
    """What happens to the service or the network at one moment."""

    at: float
    name: str
    options: Options

    @property
    def faults(self) -> list[str]:
        """Names of the faults that it brings."""
        match self.name:
            case "burst":
                return ["429"] * self.options["count"]
            case "errors" | "token errors":
                return [f"{self.name}: {one}" for one in self.options["faults"]]
            case "redis":
                return [f"redis {self.options['name']}"]
        return [self.name]


@attrs.frozen
class World:
    """Everything that happens in one run."""

    seed: int
    features: frozenset[str]
    sessions: tuple[SessionPlan, ...]
    jobs: tuple[JobPlan, ...]
    actors: tuple[ActorPlan, ...]
    disturbances: tuple[Disturbance, ...]
    weather: Weather
    redis_latency: float
    """Seconds that a message to Redis takes."""
    service: Options
    """Options of the simulator."""
    horizon: float
    """Moment at which the last session is closed."""

    @property
    def is_calm(self) -> bool:
        """Whether nothing goes wrong but what the actors do."""
        return self.features <= HARMLESS


class Draw:
    """Random choices of one part of a world."""

    def __init__(self, seed: object, part: str, *, is_coarse: bool) -> None:
        self.random = random.Random(f"{seed} {part}")
        self._is_coarse = is_coarse

    def chance(self, share: float) -> bool:
        """Return True in this share of the cases."""
        return self.random.random() < share

    def seconds(self, low: float, high: float) -> float:
        """Return a length of time. In coarse worlds it is a multiple of a quarter of a second, so
        that many things happen at the same moment."""
        value = self.random.uniform(low, high)
        return max(low, round(value * 4) / 4) if self._is_coarse else value

    def short(self, high: float) -> float:
        """Return a length of time that is rather short than long."""
        return self.seconds(0, high * self.random.random() ** 2)


def draw_world(
    seed: int,
    *,
    without: Collection[str] = (),
    actors: Collection[int] | None = None,
    horizon: float | None = None,
) -> World:
    """Draw a world, without some of its features, and with some of its actors only."""
    draw = Draw(seed, "features", is_coarse=False)
    is_coarse = draw.chance(0.5)
    share = draw.random.choice([0.1, 0.25, 0.5])
    features = frozenset(name for name in FEATURES if draw.chance(share)) - frozenset(without)
    if draw.chance(0.25):
        features &= HARMLESS | {"outage"}
    if "redis" not in features:
        features -= {"redis trouble"}
    length = draw.random.choice([10.0, 30.0, 60.0, 120.0])
    if "outage" in features:
        length += 200.0  # longer than each wait tolerates
    length = horizon or length

    def part(name: str) -> Draw:
        return Draw(seed, name, is_coarse=is_coarse)

    jobs = draw_jobs(part("jobs"), features, length)
    count = part("session count").random.choice([1, 1, 2, 3])
    sessions = tuple(
        draw_session(part(f"session {number}"), features, length) for number in range(count)
    )
    all_actors = draw_actors(part, features, sessions, jobs, length)
    return World(
        seed=seed,
        features=features,
        sessions=sessions,
        jobs=jobs,
        actors=tuple(one for one in all_actors if actors is None or one.number in actors),
        disturbances=draw_disturbances(part, features, length),
        weather=draw_weather(part("weather"), features),
        redis_latency=part("redis latency").random.choice([0.0, 0.02, 0.05]),
        service={
            "rate_limit": part("limit").random.choice([25, 25, None]),
            "token_lifetime": 5.0 if "tokens" in features else 3600.0,
            "dialect": part("dialect").random.choice(["current", "older"]),
            "not_found": part("404").random.choice(["bare", "list"]),
            "creation_seconds": part("creation").seconds(0.5, 20.0),
        },
        horizon=length,
    )


def draw_jobs(draw: Draw, features: frozenset[str], length: float) -> tuple[JobPlan, ...]:
    """Draw the jobs."""
    jobs = []
    if "files" in features and draw.chance(0.3):
        jobs.append(JobPlan(BIG_JOB, "order", 0.0, 0.0, False, math.inf))
    for number in range(draw.random.randint(2, 10)):
        kind = draw.random.choices(KINDS, KIND_WEIGHTS)[0]
        at = draw.seconds(0, length / 2) if draw.chance(0.2) else 0.0
        duration = draw.random.choice([0.0, draw.short(length / 2), draw.short(10.0)])
        jobs.append(
            JobPlan(
                id=f"job-{number}",
                kind=kind,
                at=at,
                duration=math.inf if draw.chance(0.05) else duration,
                fails=draw.chance(0.2),
                expires_at=draw.seconds(at, length) if draw.chance(0.05) else math.inf,
            )
        )
    return tuple(jobs)


def draw_session(draw: Draw, features: frozenset[str], length: float) -> SessionPlan:
    """Draw a session."""
    limiters = ["none", "1", "3", "8", "20", "20"]
    if "calls" in features:
        limiters = ["fails", "hangs", "20"]
    if "stubborn" in features:
        limiters = ["stubborn", "20"]
    if "redis" in features:
        limiters = ["redis"]
    auths = ["token", "credentials", "credentials", "callable"]
    if "tokens" in features:
        auths = ["credentials"]
    elif "stubborn" in features:
        auths = ["stubborn callable", "token"]
    elif "calls" in features:
        auths = ["callable that fails", "callable that hangs", "credentials"]
    options: Options = {
        "request_timeout": draw.random.choice([0.5, 2.0, 10.0]),
        "retry": draw_retry(draw),
        "polling": draw_polling(draw),
        "poll_by": draw.random.choice(["id", "list"]),
    }
    if draw.chance(0.1):
        options["http_session"] = "own"
    close_at = length
    if "closing" in features and draw.chance(0.7):
        close_at = draw.seconds(0, length)
    return SessionPlan(
        options,
        auth=draw.random.choice(auths),
        limiter=draw.random.choice(limiters),
        close_at=close_at,
        close_is_cancelled="closing" in features and draw.chance(0.4),
        level=draw.random.choice([10, 20]),
    )


def draw_retry(draw: Draw) -> Retry:
    """Draw the retries of a session."""
    return Retry(
        max_attempts=draw.random.choice([1, 2, 4]),
        initial_interval=draw.random.choice([0.25, 0.5]),
        max_interval=draw.random.choice([0.5, 8.0]),
    )


def draw_polling(draw: Draw) -> Polling:
    """Draw intervals."""
    initial = draw.random.choice([0.25, 0.5, 2.0])
    return Polling(
        initial_interval=initial,
        multiplier=draw.random.choice([1.0, 1.2, 2.0]),
        max_interval=draw.random.choice([initial, 5.0, 20.0]),
        jitter=draw.random.choice([0.0, 0.0, 0.2]),
        max_outage=draw.random.choice([None, 5.0, 20.0]),
    )


def draw_weather(draw: Draw, features: frozenset[str]) -> Weather:
    """Draw the state of the network."""
    latency = jitter = handshake = 0.0
    if "latency" in features:
        latency = draw.random.choice([0.01, 0.05, 0.125, 0.25])
        jitter = draw.random.choice([0.0, 0.02, 0.2])
    if "handshakes" in features:
        handshake = draw.random.choice([0.1, 0.5, 0.9])
    if "redis" in features:
        latency, jitter, handshake = min(latency, 0.02), min(jitter, 0.02), 0.0
    shares: dict[str, float] = {}
    if "weather" in features:
        names = ("refused", "resets", "truncated", "drips", "stalls")
        for name in names:
            shares[name] = draw.random.choice([0.0, 0.02, 0.1, 0.3])
    return Weather(latency, jitter, handshake, **shares)


def draw_disturbances(
    part: Callable[[str], Draw], features: frozenset[str], length: float
) -> tuple[Disturbance, ...]:
    """Draw what happens to the service."""
    disturbances: list[Disturbance] = []

    def add(feature: str, name: str, most: int, options: Callable[[Draw], Options]) -> None:
        if feature not in features:
            return
        draw = part(name)
        for _ in range(draw.random.randint(1, most)):
            at = draw.seconds(0, length * (0.3 if feature == "outage" else 0.8))
            disturbances.append(Disturbance(at, name, options(draw)))

    add("bursts", "burst", 3, draw_burst)
    add("errors", "errors", 6, draw_errors)
    add("errors", "latency", 2, lambda draw: {"seconds": draw.short(3.0)})
    add("tokens", "token errors", 2, draw_token_errors)
    add("tokens", "revoke", 3, lambda _: {})
    add("clock", "clock", 3, lambda draw: {"seconds": draw.random.uniform(-7200, 7200)})
    add("outage", "outage", 1, lambda _: {})
    add("redis trouble", "redis", 3, draw_redis_trouble)
    return tuple(disturbances)


def draw_burst(draw: Draw) -> Options:
    """Draw a burst of 429."""
    return {
        "count": draw.random.randint(1, 6),
        "retry_after": draw.random.choice([None, None, "0", "2", "7", "date"]),
    }


def draw_errors(draw: Draw) -> Options:
    """Draw failures of the service."""
    names = ["reset", "lost", "hang", "truncate", "garbage", "html", 500, 503, 401, 404, 403]
    return {
        "faults": [
            draw.random.choice([*names, "gateway 404", "gateway 503", "503 with Retry-After"])
            for _ in range(draw.random.randint(1, 4))
        ],
        "path": draw.random.choice([None, None, "/v2/jobs"]),
    }


def draw_token_errors(draw: Draw) -> Options:
    """Draw failures of token requests."""
    return {"faults": [draw.random.choice([500, 401, "hang", "reset", "lost", "garbage"])]}


def draw_redis_trouble(draw: Draw) -> Options:
    """Draw a state of Redis that lasts a while."""
    names = ["slow", "away", "hangs", "refuses writes", "steps back"]
    return {"name": draw.random.choice(names), "seconds": draw.seconds(0.5, 10.0)}


def draw_actors(
    part: Callable[[str], Draw],
    features: frozenset[str],
    sessions: tuple[SessionPlan, ...],
    jobs: tuple[JobPlan, ...],
    length: float,
) -> list[ActorPlan]:
    """Draw the actors."""
    count = part("actors").random.choice([2, 5, 10, 20, 40])
    ends = expected_ends(jobs)
    is_crowd = part("crowd").chance(0.3)  # all ask for the same job
    actors = []
    for number in range(count):
        draw = part(f"actor {number}")
        operation = draw.random.choices([*OPERATIONS], [*OPERATIONS.values()])[0]
        fitting = jobs
        if operation in ("download", "file", "address"):
            fitting = tuple(job for job in jobs if job.kind in WITH_FILES) or jobs
        job = draw.random.choice(fitting)
        if is_crowd:
            job = fitting[-1]
        if operation == "file" and jobs[0].id == BIG_JOB and draw.chance(0.3):
            job = jobs[0]
        at = 0.0 if draw.chance(0.3) else draw.seconds(0, length * 0.8)
        timeouts = [None, draw.short(length), draw.seconds(0.25, 3.0), draw.seconds(8.0, 20.0)]
        timeout = draw.random.choice(timeouts)
        left = ends[job.id] - at
        if "deadlines" in features and 0 < left < math.inf:
            timeout = left + draw.random.choice([0.25, 0.5, 1.0, draw.seconds(-0.5, 1.5), 1.2])
        timeout = None if timeout is None else max(timeout, 0.25)
        options = draw_options(draw, job, jobs) | {"timeout": timeout}
        cancellations: tuple[float, ...] = ()
        if "cancellations" in features and draw.chance(0.6):
            cancellations = draw_cancellations(draw, timeout, length)
        actors.append(
            ActorPlan(
                number=number,
                session=draw.random.randrange(len(sessions)),
                at=at,
                operation=operation,
                options=options,
                cancellations=cancellations,
                passes=draw.random.choice([0, 0, 1, 2, 3, 5, 8]),
            )
        )
    return actors


def expected_ends(jobs: tuple[JobPlan, ...]) -> dict[str, float]:
    """Return the moment at which each job ends. The jobs of one kind run one after the other."""
    ends: dict[str, float] = {}
    free_at: dict[str, float] = {}
    for job in sorted(jobs, key=lambda job: job.at):
        start = max(job.at, free_at.get(job.kind, 0.0))
        ends[job.id] = free_at[job.kind] = start + job.duration
    return ends


def draw_options(draw: Draw, job: JobPlan, jobs: tuple[JobPlan, ...]) -> Options:
    """Draw the options of a call."""
    return {
        "job": job,
        "jobs": [job, *draw.random.choices(jobs, k=draw.random.randint(0, 6))],
        "polling": draw_polling(draw) if draw.chance(0.2) else None,
        "heartbeat": draw.random.choice([None, 0.5, 3.0]),
        "leave_after": draw.random.choice([None, None, 1, 2]),
        "return_exceptions": draw.chance(0.7),
        "in_block": draw.chance(0.6),
        "step_timeout": draw.random.choice([None, None, 0.25, 1.0]),
        "allow_duplicate": draw.chance(0.2),
        "destination": draw.chance(0.7),
        "max_bytes": draw.random.choice([None, None, 10, 1_000_000]),
        "callback": draw.random.choice(["none", "none", "async", "fails", "slow"]),
        "reader": draw.random.choice(["chunks", "rows", "all"]),
        "pause": draw.random.choice([0.0, 0.0, 0.25, 5.0]),
    }


def draw_cancellations(draw: Draw, timeout: float | None, length: float) -> tuple[float, ...]:
    """Draw the moments after its start at which a call is cancelled."""
    first = timeout if timeout is not None and draw.chance(0.3) else draw.short(length / 2)
    if not draw.chance(0.3):
        return (first,)
    return (first, first + draw.random.choice([0.0, 0.0, 0.25, 2.0]))
