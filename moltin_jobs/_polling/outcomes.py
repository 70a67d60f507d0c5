"""Concurrent waits whose outcomes are given as each wait ends."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import NoReturn, TypeVar

from .._tasks.operations import Operations
from .._tasks.outcomes import Call, Outcomes
from ..errors import MoltinJobsError, SessionClosedError
from ..models import Job
from .watch import JobWatch

Item = TypeVar("Item")


class JobOutcomes(Outcomes[Item, Job, MoltinJobsError]):
    """Waits for many jobs in an ``async with`` block, and an iterator of their outcomes.

    See `JobsSession.as_completed`.
    """

    def __init__(
        self,
        operations: Operations,
        items: Iterable[Item],
        watch_job: Callable[[Item], JobWatch],
    ) -> None:
        self.watches: list[JobWatch] = []
        """The waits, in the order of the items. There is none for an item that is invalid."""
        super().__init__(
            operations, [(item, self._call(item, watch_job)) for item in items], MoltinJobsError
        )

    def _call(self, item: Item, watch_job: Callable[[Item], JobWatch]) -> Call[Job]:
        """Return the call that waits for the job of ``item``, or raises why there is none."""
        try:
            watch = watch_job(item)
        except SessionClosedError:
            raise
        except MoltinJobsError as error:
            return functools.partial(_fail, error.with_traceback(None))
        self.watches.append(watch)
        return watch.wait


async def _fail(error: MoltinJobsError) -> NoReturn:
    raise error
