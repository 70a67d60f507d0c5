"""Check of the outcomes of waits, against what the service knows."""

from __future__ import annotations

from typing import Any

from moltin_jobs import (
    Job,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobState,
    JobTimeoutError,
    MoltinJobsError,
    SessionClosedError,
)

from .actors import Actor, final_poll_lead
from .worlds import HARMLESS, JobPlan

_SILENT = HARMLESS | {"clock", "disk", "files"}
"""Features with which each request gets a response, unless the service is away."""
_SENT = _SILENT | {"bursts", "errors", "outage"}
"""Features with which each request is sent for which the session has a token."""
_MOMENT = 1e-6
_LIST_OUTAGE = 75.0
"""Seconds of outage that lists may add to those that a wait tolerates: more than two intervals of
the slowest list, each with the longest pause after failures."""


def check_wait(actor: Actor, job: JobPlan, outcome: Any) -> None:
    """Check the outcome of a wait. Errors of the user's own code say nothing about the job."""
    if not isinstance(outcome, Job | MoltinJobsError):
        return
    _check_result(actor, job, outcome)
    if isinstance(outcome, Job | JobFailedError):
        _check_not_early(actor, job, outcome)
    elif isinstance(outcome, JobTimeoutError):
        _check_final_poll(actor, job)
    elif isinstance(outcome, SessionClosedError):
        _check_outage(actor)
    if actor.context.is_undisturbed(actor.plan.session):
        _check_moment(actor, job, outcome)


def _check_result(actor: Actor, job: JobPlan, outcome: Job | MoltinJobsError) -> None:
    """Check that the outcome is possible for the job, at this moment."""
    context = actor.context
    fails = job.fails and job.kind in ("order", "pxm", "subscription-import", "inventory-import")
    if isinstance(outcome, Job):
        if outcome.id != job.id or outcome.state is not JobState.SUCCEEDED or fails:
            context.violate(f"{actor}: {outcome!r} for {job.id}")
    elif isinstance(outcome, JobCancelledError):
        if job.kind != "pxm":
            context.violate(f"{actor}: {outcome!r}")
    elif isinstance(outcome, JobFailedError):
        if not fails:
            context.violate(f"{actor}: {outcome!r} for {job.id}, which does not fail")
    elif isinstance(outcome, JobNotFoundError):
        is_there = job.at < actor.started_at and context.now() < job.expires_at - _MOMENT
        if context.world.is_calm and is_there:
            context.violate(f"{actor}: {outcome!r} for {job.id}, which is there")


def _check_not_early(actor: Actor, job: JobPlan, outcome: Job | JobFailedError) -> None:
    """Check that a wait has not ended before its job."""
    context = actor.context
    end = context.end_of(job.id)
    if context.now() < min(end, job.expires_at) - _MOMENT:
        context.violate(f"{actor}: {outcome!r} for {job.id}, which ends at {end:.6f}")


def _check_final_poll(actor: Actor, job: JobPlan) -> None:
    """Check that a wait which has ended before its deadline has polled shortly before."""
    context, plan = actor.context, actor.session_plan
    if not context.world.features <= _SENT or not context.is_simulated:
        return
    if not _has_token(actor) or plan.options["request_timeout"] <= context.round_trip:
        return
    if context.now() >= actor.started_at + actor.plan.options["timeout"] - _MOMENT:
        return
    earliest = _final_poll_at(actor)
    is_polled = any(
        request.session == actor.plan.session
        and request.target.endswith(job.id)
        and request.started_at >= earliest
        for request in context.wire.requests
    )
    if not is_polled:
        context.violate(f"{actor}: JobTimeoutError for {job.id} without a final poll")


def _has_token(actor: Actor) -> bool:
    """Return whether the session of a wait has a token, which it need not refresh."""
    context = actor.context
    if actor.session_plan.auth == "token":
        return True
    return "errors" not in context.world.features and any(
        request.session == actor.plan.session and request.token for request in context.wire.requests
    )


def _final_poll_at(actor: Actor) -> float:
    """Return the first moment at which the final poll of a wait may start."""
    timeout = actor.plan.options["timeout"]
    return float(actor.started_at + timeout - 1.1 * final_poll_lead(timeout) - _MOMENT)


def _check_outage(actor: Actor) -> None:
    """Check that an outage of the service has not kept a wait until its session was closed."""
    context, plan, polling = actor.context, actor.session_plan, actor.polling
    since = context.outage_since
    harmless = _SILENT | {"outage", "tokens"}
    if since is None or polling.max_outage is None or not context.world.features <= harmless:
        return
    # A poll before the outage, some that are late, and the last one each take this long.
    step = polling.max_interval * (1 + polling.jitter) + context.round_trip + 1.0
    most = polling.max_outage + 4 * step
    if plan.options["poll_by"] == "list":
        most += _LIST_OUTAGE
    seconds = context.now() - max(since, actor.started_at)
    if seconds > most and not plan.is_slow:
        context.violate(f"{actor}: an outage of {seconds:.3f} s has not ended the wait")


def _check_problems(actor: Actor, job: JobPlan, outcome: JobFailedError) -> None:
    """Check that a failure has its reasons, unless there was no time to request them."""
    context = actor.context
    has_time = actor.plan.options["timeout"] is None
    has_time &= context.now() < actor.session_plan.close_at
    if has_time and job.kind != "order" and not outcome.problems:
        context.violate(f"{actor}: {outcome!r} without its problems")


def _check_moment(actor: Actor, job: JobPlan, outcome: Job | MoltinJobsError) -> None:
    """Check that a wait has noticed the end of its job, and in time."""
    context, round_trip = actor.context, actor.context.round_trip
    end = context.end_of(job.id)
    if isinstance(outcome, JobFailedError) and not isinstance(outcome, JobCancelledError):
        _check_problems(actor, job, outcome)
    if isinstance(outcome, JobTimeoutError):
        lead = final_poll_lead(actor.plan.options["timeout"])
        if end < _final_poll_at(actor) and lead > 2 * round_trip:
            context.violate(f"{actor}: {outcome!r}, although {job.id} has ended at {end:.6f}")
    elif isinstance(outcome, Job | JobFailedError | SessionClosedError) and (
        actor.plan.operation in ("wait", "outcomes")
    ):
        longest = actor.polling.max_interval * (1 + actor.polling.jitter)
        most = longest + 4 * round_trip + 0.01
        if actor.session_plan.options["poll_by"] == "list":
            # A list may be just before the end, and the poll by id that it leads to may be late.
            most = 2 * longest + 8 * round_trip + 3
        late = context.now() - max(end, actor.started_at)
        if late > most:
            context.violate(f"{actor}: it notices the end of {job.id} {late:.3f} s late")
