"""Checks at the end of a session, and of a world."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import attrs

from moltin_jobs import Job, JobsSession
from moltin_jobs.redis_limiter import LEAD_MARGIN

from .actors import Actor
from .context import Context
from .file_operations import check_saved_file
from .loop import SimulatedLoop
from .network import Connection
from .service import EPOCH, REDIS_LIMIT
from .wire import (
    NO_SESSION,
    WireRequest,
    check_cooldowns,
    check_rate,
    check_refreshes,
    find_cooldowns,
)

_TOTALS = ("requests", "polls", "failed_polls", "cooldowns")
"""Figures of `SessionStats` that count what has happened."""
_ADVICE = "may have been created"


def check_idle(
    context: Context, number: int, session: JobsSession, actors: Sequence[Actor]
) -> None:
    """Check that nothing is left of the calls of an open session, if all of them have ended."""
    before = context.now() - context.slack(number)
    if any(actor.ended_at is None or actor.ended_at > before for actor in actors):
        return
    stats = session.stats()
    if stats.waits:
        context.violate(f"session {number}: {stats.waits} waits of calls that have ended")
    is_busy = stats.tasks or stats.requests_queued or stats.connections or stats.slots_held
    if is_busy and all(actor.open_watch_ends_at < before for actor in actors):
        context.violate(f"session {number}: left after all calls have ended: {stats}")


def check_closed(context: Context, number: int, session: JobsSession) -> None:
    """Check that nothing is left of a session that was closed."""
    figures = attrs.asdict(session.stats())
    left = {name: value for name, value in figures.items() if value and name not in _TOTALS}
    if left:
        context.violate(f"session {number}: {left} after close()")


def check_connections(context: Context, number: int, when: str) -> None:
    """Check that a session has no connection to the service, unless they are the user's."""
    if "http_session" in context.world.sessions[number].options:
        return
    notes = [one.note for one in open_connections(context)]
    left = [one for one in notes if one is not None and one.request.session == number]
    if left:
        context.violate(f"session {number}: {len(left)} connections {when}")


def check_network(context: Context) -> None:
    """Check that no connection is left."""
    if left := open_connections(context):
        context.violate(f"{len(left)} connections are left")


def open_connections(context: Context) -> list[Connection]:
    """Return the open connections, except those to Redis. Those over sockets are not known."""
    if not isinstance(context.loop, SimulatedLoop):
        return []
    connections = context.loop.network.connections
    return [one for one in connections if one.port != context.service.redis_port]


def check_tasks(context: Context) -> list[asyncio.Task[object]]:
    """Check that no task is left, and return those that are."""
    left = [task for task in asyncio.all_tasks(context.loop) if not task.done()]
    for task in left:
        context.violate(f"task left: {task.get_coro()!r}")
    return left


def check_effects(context: Context, actors: Sequence[Actor]) -> None:
    """Check the jobs that were created and the files that were saved."""
    context.violations += context.service.files.violations
    for actor in actors:
        job_ids = [actor.plan.options["job"].id]
        if actor.creation_key is not None:
            job_ids = context.service.simulator.created.get(actor.creation_key, [])
            _check_creation(actor, job_ids)
        check_saved_file(actor, job_ids)


def _check_creation(actor: Actor, job_ids: Sequence[str]) -> None:
    """Check that a call has created one job, or that its error says what it may have created."""
    context = actor.context
    may_repeat = actor.plan.operation == "create" and actor.plan.options["allow_duplicate"]
    if len(job_ids) > 1 and not may_repeat:
        context.violate(f"{actor}: {len(job_ids)} jobs were created")
    elif isinstance(actor.result, Job) and actor.result.id not in job_ids:
        context.violate(f"{actor}: {actor.result!r}, but {job_ids} were created")
    elif actor.outcome not in ("result", "CancelledError") and job_ids and not may_repeat:
        is_named = job_ids[0] in actor.message or _ADVICE in actor.message
        # An exception of the user's own code names no job if several calls share it, or if it has
        # replaced the end of the creation.
        is_foreign = actor.outcome == "UserError" and (
            job_ids[0] in context.logged_ids or actor.session_plan.turns_cancellations
        )
        if not is_named and not is_foreign:
            context.violate(f"{actor}: {actor.message!r} does not name {job_ids[0]}")


def check_wire(context: Context) -> None:
    """Check the rules that hold for the requests on the network."""
    by_session: dict[int, list[WireRequest]] = {}
    for request in context.wire.requests:
        by_session.setdefault(request.session, []).append(request)
    if by_session.pop(NO_SESSION, None):
        context.violate("a request has no header of its session")
    for number, requests in by_session.items():
        plan = context.world.sessions[number]
        timeout = plan.options["request_timeout"]
        interruptions = context.interruptions[number] | {
            one.started_at + timeout for one in requests
        }
        cooldowns = find_cooldowns(requests, interruptions)
        findings = [check_cooldowns(requests, cooldowns)]
        if plan.limiter.isdigit():
            findings.append(check_rate(requests, int(plan.limiter)))
        if plan.auth == "credentials":
            lifetime = context.world.service["token_lifetime"]
            findings.append(check_refreshes(requests, lifetime, interruptions))
        for finding in filter(None, findings):
            context.violate(f"session {number}: {finding}")
    if context.service.redis is not None:
        for finding in filter(None, _check_redis(context, len(by_session))):
            context.violate(f"store: {finding}")


def _check_redis(context: Context, sessions: int) -> list[str | None]:
    """Check the limit that sessions share, and the pauses that they agree on."""
    requests, service = context.wire.requests, context.service
    assert service.redis is not None
    troubles = {"redis trouble", "clock", "weather"}
    if troubles & context.world.features:  # a process may keep to its own share
        return [check_rate(requests, 2 * REDIS_LIMIT + sessions)]
    limit = REDIS_LIMIT
    if {"closing", "cancellations"} & context.world.features:
        limit += sessions
    # The response to a command may be on its way, with a slot that begins within a round trip of
    # its arrival. The cooldown itself ends earlier than the pause, which may have had to connect.
    margin = 3 * context.world.redis_latency + LEAD_MARGIN + 0.005
    pauses = [
        (begin - EPOCH + margin, begin - EPOCH + seconds - 0.5)
        for begin, seconds in service.redis.pauses
    ]
    return [check_rate(requests, limit), check_cooldowns(requests, pauses)]
