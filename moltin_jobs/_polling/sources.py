"""What the waits of one session share: answers, in flight or just got, and nothing else.

Waits for one job are served by one request, and, where lists are polled, waits for many jobs by one
list. Nothing that is learned rests on a list being complete or fresh, and nobody who shares waits
longer than a second for what it could have asked for itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from typing import Generic, Literal, Self, TypeVar

from .._api.parsing import Listing
from .._tasks.operations import Scope, Scopes, closed
from ..errors import MoltinJobsError, copied
from ..models import Job

T = TypeVar("T")

PollWith = Literal["id", "list", "auto"]
Fetch = Callable[[float, bool], Awaitable[tuple[Job, float]]]
"""What a wait looks at its job with. Takes how old an answer may be, in seconds, and whether it is
for the last look before a deadline; gives the job and when that came.
"""

_log = logging.getLogger("moltin_jobs")
_PATIENCE = 1.0
"""Seconds for which another's request may go unanswered before one asks, too."""
_UNSURE_SECONDS = 300.0
"""How long a wait trusts lists alone: one that a cache on the way keeps would never change."""
_SHUN_SECONDS = 30.0
_FAILURES_TO_SHUN = 3
_LARGEST_LIST = 1 << 20


class _Request(Generic[T]):
    """A request in a task of its own, which lasts while anyone waits for it."""

    __slots__ = ("_waiting", "began", "task")

    def __init__(self, task: asyncio.Task[T], began: float) -> None:
        self.task = task
        self.began = began
        self._waiting = 0

    async def __aenter__(self) -> Self:
        self._waiting += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._waiting -= 1
        if not self._waiting and not self.task.done():
            self.began = -math.inf  # nobody may join it now
            self.task.cancel()
            await asyncio.wait([self.task])
        if self.task.done() and not self.task.cancelled():
            self.task.exception()  # so that asyncio does not report what nobody wants any more


class Shared(Generic[T]):
    """The answers to one question, each asked for once, however many want to know."""

    def __init__(self, scopes: Scopes, ask: Callable[[], Awaitable[T]]) -> None:
        self._scopes = scopes
        self._ask = ask
        self._newest: _Request[tuple[T, float]] | None = None
        self._answer: tuple[T, float] | None = None
        self._answer_began = -math.inf

    async def get(self, max_age: float, last: bool) -> tuple[T, float]:
        """The answer and when it came: one that came lately, or the one in flight.

        If it is to be the ``last``, age counts from when it was asked for. Raises what asking
        raises.
        """
        now = asyncio.get_running_loop().time()
        answer = self._answer
        if answer is not None and now - (self._answer_began if last else answer[1]) < max_age:
            return answer
        with Scope(self._scopes):  # so that the end of the session reaches those who wait
            async with self._joined(max_age if last else max(max_age, _PATIENCE)) as request:
                if request.began < now:
                    await asyncio.wait([request.task], timeout=request.began + _PATIENCE - now)
                if request.began >= now or request.task.done():
                    return await self._first(request)
                async with self._joined(_PATIENCE / 2) as another:
                    return await self._first(request, another)
        raise closed()

    def _joined(self, max_age: float) -> _Request[tuple[T, float]]:
        """The request in flight if it is no older, or else a new one."""
        now = asyncio.get_running_loop().time()
        newest = self._newest
        if newest is None or newest.task.done() or now - newest.began > max_age:
            newest = self._newest = _Request(asyncio.create_task(self._asked(now)), now)
        return newest

    async def _asked(self, began: float) -> tuple[T, float]:
        value = await self._ask()
        answer = value, asyncio.get_running_loop().time()
        if began > self._answer_began:  # it may have been overtaken
            self._answer, self._answer_began = answer, began
        return answer

    @staticmethod
    async def _first(*requests: _Request[tuple[T, float]]) -> tuple[T, float]:
        tasks = {request.task for request in requests}
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        task = done.pop()
        if isinstance(error := task.exception(), MoltinJobsError):
            raise copied(error)  # one object raised in several tasks would mix their tracebacks
        return task.result()


class _Question:
    """What is the same for all waits for one job."""

    __slots__ = ("ask", "shared", "waits")

    def __init__(self, ask: Callable[[], Awaitable[Job]]) -> None:
        self.ask = ask
        self.shared: Shared[Job] | None = None
        self.waits = 0


class Lookups:
    """How the waits of one session look at their jobs."""

    def __init__(
        self,
        poll_with: PollWith,
        scopes: Scopes,
        asking: Callable[[str], Callable[[], Awaitable[Job]]],
        ask_list: Callable[[], Awaitable[Listing]],
    ) -> None:
        self.poll_with = poll_with
        self._scopes = scopes
        self._asking = asking
        self._ask_list = ask_list
        self._questions: dict[str, _Question] = {}
        self._list = Shared(scopes, self._judged)
        self._list_failures = 0
        self._shun_until = -math.inf

    def begin(self, job_id: str) -> None:
        """Count one more wait for the job."""
        question = self._questions.get(job_id)
        if question is None:
            question = self._questions[job_id] = _Question(self._asking(job_id))
        question.waits += 1

    def end(self, job_id: str) -> None:
        """Count one less."""
        question = self._questions[job_id]
        question.waits -= 1
        if not question.waits:
            del self._questions[job_id]

    async def by_id(self, job_id: str, max_age: float, last: bool) -> tuple[Job, float]:
        """The job as it is asked for by its id."""
        question = self._questions[job_id]
        if question.waits == 1:  # there is nobody to share with, and a task costs
            return await question.ask(), asyncio.get_running_loop().time()
        if question.shared is None:
            question.shared = Shared(self._scopes, question.ask)
        return await question.shared.get(max_age, last)

    async def by_list(self, job_id: str, max_age: float, last: bool) -> tuple[Job, float] | None:
        """The job as a list names it, if lists are of use."""
        alone = self.poll_with == "auto" and len(self._questions) == 1
        if alone or asyncio.get_running_loop().time() < self._shun_until:
            return None
        try:
            jobs, at = await self._list.get(max_age, last)
        except MoltinJobsError:
            if asyncio.get_running_loop().time() < self._shun_until:
                return None  # asking by the id will tell what is wrong
            raise
        job = jobs.get(job_id.lower())
        return None if job is None else (job, at)

    async def _judged(self) -> dict[str, Job]:
        """The jobs of a new list by their ids in lower case."""
        try:
            listing = await self._ask_list()
        except MoltinJobsError as error:
            self._list_failures += 1
            # For trouble that may pass, no sudden request for each job: the service has enough.
            if not error.temporary or self._list_failures >= _FAILURES_TO_SHUN:
                self._shun(f"failed: {error}")
            raise
        self._list_failures = 0
        jobs = {job.id.lower(): job for job in listing.jobs}
        if self.poll_with == "auto":
            named = sum(job_id.lower() in jobs for job_id in self._questions)
            if listing.size > _LARGEST_LIST or named * 2 < len(self._questions):
                self._shun(f"names {named} of {len(self._questions)} in {listing.size} bytes")
        return jobs

    def _shun(self, why: str) -> None:
        self._shun_until = asyncio.get_running_loop().time() + _SHUN_SECONDS
        _log.info("jobs are polled by id for %.0f s: the list %s", _SHUN_SECONDS, why)


class Looking:
    """How one wait looks at its job, while it lasts; a context manager."""

    __slots__ = ("_job_id", "_lookups", "_sure_until")

    def __init__(self, lookups: Lookups, job_id: str) -> None:
        self._lookups = lookups
        self._job_id = job_id
        self._sure_until = -math.inf

    def __enter__(self) -> Fetch:
        self._lookups.begin(self._job_id)
        if self._lookups.poll_with == "id":
            return self._by_id
        self._sure()
        return self._by_list

    def __exit__(self, *_: object) -> None:
        self._lookups.end(self._job_id)

    def _by_id(self, max_age: float, last: bool) -> Awaitable[tuple[Job, float]]:
        return self._lookups.by_id(self._job_id, max_age, last)

    async def _by_list(self, max_age: float, last: bool) -> tuple[Job, float]:
        """By a list; now and then, and last of all where that shows no end, by the id."""
        if last or asyncio.get_running_loop().time() < self._sure_until:
            found = await self._lookups.by_list(self._job_id, max_age, last)
            if found is not None and (found[0].is_terminal or not last):
                return found
        found = await self._lookups.by_id(self._job_id, max_age, last)
        self._sure()
        return found

    def _sure(self) -> None:
        spread = random.uniform(0.5, 1)  # noqa: S311 (lest all look at once)
        self._sure_until = asyncio.get_running_loop().time() + spread * _UNSURE_SECONDS
