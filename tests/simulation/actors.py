"""Actors of a world: each makes one call of a session, and checks how it ends."""

from __future__ import annotations

import asyncio
import math
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from moltin_jobs import (
    Job,
    JobsSession,
    JobTimeoutError,
    JobWatch,
    MoltinJobsError,
    Polling,
    ServerError,
    TransportError,
)

from .context import Context
from .secrets_check import find_secret
from .user_code import UserError
from .worlds import ActorPlan, SessionPlan

WITH_TIMEOUT = ("wait", "waits", "outcomes", "export", "publish", "download")
MAY_LEAVE = ("outcomes", "watch", "file")
"""Operations that may end before what they have begun."""
Operation = Callable[..., Awaitable[object]]
"""Coroutine function that takes the actor, its session and the options of its plan."""


@attrs.define(eq=False)
class Actor:
    """A call in progress, or its result."""

    plan: ActorPlan
    context: Context
    session: JobsSession
    started_at: float = 0.0
    ended_at: float | None = None
    cancelled_at: float | None = None
    cancellations: int = 0
    outcome: str = "result"
    """Name of the class of the exception, if one was raised."""
    message: str = ""
    """Message of the exception, with its notes."""
    result: object = None
    wait_in_progress: JobWatch | None = None
    creation_key: str | None = None
    """Filter, or id of the catalog, by which the service records what this call has created."""
    path: Path | None = None
    """File that this call saves."""
    open_watch_ends_at: float = -math.inf
    """Moment at which everything of a watch that was left open has ended."""

    def __str__(self) -> str:
        return f"actor {self.plan.number} ({self.plan.operation})"

    @property
    def session_plan(self) -> SessionPlan:
        """Plan of the session."""
        return self.context.world.sessions[self.plan.session]

    @property
    def polling(self) -> Polling:
        """Intervals of a wait."""
        own: Polling | None = self.plan.options["polling"]
        return own or self.session_plan.options["polling"]

    async def act(self, operation: Operation) -> None:
        """Make the call."""
        task = asyncio.current_task()
        assert task is not None
        context = self.context
        self.started_at = context.now()
        context.log(f"{self} starts")
        error = await self._call(operation)
        self.ended_at = context.now()
        if error is not None or self.plan.operation in MAY_LEAVE:
            context.interrupt(self.plan.session)
        if error is not None:
            self.outcome = type(error).__name__
            self.message = " ".join([str(error), *getattr(error, "__notes__", [])])
            context.check_raised(error, str(self))
        context.log(f"{self} ends: {self.outcome}")
        if task.cancelling() != self.cancellations:
            context.violate(
                f"{self}: cancelling() is {task.cancelling()} after {self.cancellations} "
                f"cancellations"
            )
        self._check_cancellation(error)
        self._check_deadline(error)
        is_expected = "max_bytes" in str(error) or not context.is_undisturbed(self.plan.session)
        if isinstance(error, TransportError | ServerError) and not is_expected:
            context.violate(f"{self} fails although nothing is wrong: {error}")

    async def _call(self, operation: Operation) -> BaseException | None:
        """Return the exception of the call."""
        try:
            self.result = await operation(self, self.session, **self.plan.options)
        except asyncio.CancelledError as error:
            if not self.cancellations:
                self.context.violate(f"{self}: CancelledError without a cancellation")
            return error
        except Exception as error:  # noqa: BLE001 (it is checked)
            if not isinstance(error, MoltinJobsError | UserError):
                self.context.violate(f"{self}: {traceback.format_exc(limit=-4)}")
            return error
        if find_secret(repr(self.result)):
            self.context.violate(f"{self}: the result shows a secret")
        return None

    def cancel(self, task: asyncio.Task[None], passes: int) -> None:
        """Cancel the task, after some passes through the event loop."""
        if passes:
            asyncio.get_running_loop().call_soon(self.cancel, task, passes - 1)
        elif not task.done() and task.cancel():
            self.cancelled_at = self.cancelled_at or self.context.now()
            self.cancellations += 1
            self.context.interrupt(self.plan.session)

    def _check_cancellation(self, error: BaseException | None) -> None:
        """Check that a cancellation has ended the call at once."""
        if self.cancelled_at is None:
            return
        is_turned = self.session_plan.turns_cancellations and isinstance(error, UserError)
        if not isinstance(error, asyncio.CancelledError) and not is_turned:
            self.context.violate(f"{self} was cancelled and has ended as if it was not")
        late = self.context.now() - self.cancelled_at
        if late > self.context.slack(self.plan.session):
            self.context.violate(f"{self} has ended {late:.6f} s after its cancellation")

    def _check_deadline(self, error: BaseException | None) -> None:
        """Check that the call has ended by its deadline, and not long before by a timeout."""
        timeout = self.plan.options["timeout"]
        if self.plan.operation not in WITH_TIMEOUT or timeout is None:
            return
        late = self.context.now() - self.started_at - timeout
        if late > self.context.slack(self.plan.session):
            self.context.violate(f"{self} has ended {late:.6f} s after its deadline")
        if isinstance(error, JobTimeoutError) and -late > 1.1 * final_poll_lead(timeout) + 1e-6:
            self.context.violate(f"{self} times out {-late:.6f} s early")


def final_poll_lead(timeout: float) -> float:
    """Return the time from the final poll of a wait to its deadline. It may be a tenth longer."""
    return min(timeout / 10, 1.0)


def check_outcome(actor: Actor, outcome: Job | BaseException) -> None:
    """Check an outcome that was returned in a list."""
    if isinstance(outcome, BaseException):
        actor.context.check_raised(outcome, str(actor))
        if not isinstance(outcome, MoltinJobsError | UserError):
            actor.context.violate(f"{actor}: {outcome!r}")
