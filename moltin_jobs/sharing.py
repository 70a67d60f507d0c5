"""What the waits of one session share: answers, in flight or just got, and nothing else.

Many waits for one job are served by one request, and, where lists are polled, waits for many jobs
by one list. Nothing that is learned rests on a list being complete or fresh.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import weakref
from collections.abc import Awaitable, Callable
from typing import Generic, Literal, TypeVar

from .decoding import Listing
from .errors import MoltinJobsError, copied
from .models import Job
from .scope import Scope, Scopes, closed

T = TypeVar("T")

PollWith = Literal["id", "list", "auto"]
Fetch = Callable[[float], Awaitable[tuple[Job, float]]]
"""Takes how old an answer may be, in seconds, and gives the job and when it was so."""

_log = logging.getLogger("moltin_jobs")
_UNSURE_SECONDS = 300.0
"""How long a wait trusts lists alone: one that a cache on the way keeps would never change."""
_SHUN_SECONDS = 30.0
_LARGEST_LIST = 1 << 20


class Shared(Generic[T]):
    """The answers to one question, asked by one of those who want to know at a time.

    Who finds another asking waits for that answer; when the one that asks is cancelled, one of
    those who wait asks. So there is no task that could outlive, or be cancelled under, anyone.
    """

    __slots__ = (
        "__weakref__",
        "_answer",
        "_ask",
        "_asked",
        "_asking",
        "_failure",
        "_over",
        "_scopes",
    )

    def __init__(self, scopes: Scopes, ask: Callable[[], Awaitable[T]]) -> None:
        self._scopes = scopes
        self._ask = ask
        self._asked = 0
        self._asking = False
        self._over: asyncio.Event | None = None  # made for whoever waits for the one that asks
        self._answer: tuple[T, float] | None = None
        self._failure: Exception | None = None

    async def get(self, max_age: float) -> tuple[T, float]:
        """The answer and when it came; the one in flight will do, or one that came lately.

        Raises what asking raises, if the answer in flight is that.
        """
        now = asyncio.get_running_loop().time()
        if self._answer is not None and now - self._answer[1] < max_age:
            return self._answer
        asked = self._asked
        while self._asking:
            await self._asking_over()
            if self._asked != asked:
                return self._shared()
        self._asking = True
        try:
            value = await self._ask()
        except Exception as error:
            self._failure = copied(error)
            self._asked += 1
            raise
        else:
            self._answer, self._failure = (value, asyncio.get_running_loop().time()), None
            self._asked += 1
            return self._answer
        finally:
            self._asking = False
            if self._over is not None:
                self._over.set()
                self._over = None

    async def _asking_over(self) -> None:
        self._over = self._over or asyncio.Event()
        with Scope(self._scopes):  # so that the end of the session reaches those who wait
            await self._over.wait()
            return
        raise closed()

    def _shared(self) -> tuple[T, float]:
        if self._failure is not None:
            raise copied(self._failure)
        assert self._answer is not None, "who asks leaves an answer or a failure"  # noqa: S101 (for mypy)
        return self._answer


class Lookups:
    """How the waits of one session look at their jobs."""

    def __init__(
        self,
        poll_with: PollWith,
        scopes: Scopes,
        asking: Callable[[str], Callable[[], Awaitable[Job]]],
        ask_list: Callable[[], Awaitable[Listing]],
    ) -> None:
        self._poll_with = poll_with
        self._scopes = scopes
        self._asking = asking
        self._jobs: weakref.WeakValueDictionary[str, Shared[Job]] = weakref.WeakValueDictionary()
        self._list = Shared(scopes, self._judged)
        self._ask_list = ask_list
        self._shun_until = -math.inf

    def of(self, job_id: str) -> Fetch:
        """What one wait looks at its job with."""
        shared = self._jobs.get(job_id)
        if shared is None:
            shared = self._jobs[job_id] = Shared(self._scopes, self._asking(job_id))
        if self._poll_with == "id":
            return shared.get
        return _ByList(self, job_id, shared).get

    async def find(self, job_id: str, max_age: float) -> tuple[Job, float] | None:
        """The job as a list names it, if lists are of use."""
        alone = self._poll_with == "auto" and len(self._jobs) == 1
        if alone or asyncio.get_running_loop().time() < self._shun_until:
            return None
        try:
            jobs, at = await self._list.get(max_age)
        except MoltinJobsError:
            return None  # asking by the id will tell what is wrong
        job = jobs.get(job_id.lower())
        return None if job is None else (job, at)

    async def _judged(self) -> dict[str, Job]:
        """The jobs of a new list by their ids in lower case."""
        try:
            listing = await self._ask_list()
        except MoltinJobsError as error:
            self._shun(f"failed: {error}")
            raise
        jobs = {job.id.lower(): job for job in listing.jobs}
        if self._poll_with == "auto":
            named = sum(job_id.lower() in jobs for job_id in self._jobs)
            if listing.size > _LARGEST_LIST or named * 2 < len(self._jobs):
                self._shun(f"names {named} of {len(self._jobs)} in {listing.size} bytes")
        return jobs

    def _shun(self, why: str) -> None:
        self._shun_until = asyncio.get_running_loop().time() + _SHUN_SECONDS
        _log.info("jobs are polled by id for %.0f s: the list %s", _SHUN_SECONDS, why)


class _ByList:
    """A wait that looks into lists, and now and then by the id."""

    __slots__ = ("_job_id", "_lookups", "_shared", "_sure_until")

    def __init__(self, lookups: Lookups, job_id: str, shared: Shared[Job]) -> None:
        self._lookups = lookups
        self._job_id = job_id
        self._shared = shared
        self._sure_until: float | None = None

    async def get(self, max_age: float) -> tuple[Job, float]:
        now = asyncio.get_running_loop().time()
        if self._sure_until is None:
            self._sure_until = self._later(now)
        if max_age > 0 and now < self._sure_until:
            found = await self._lookups.find(self._job_id, max_age)
            if found is not None:
                return found
        job, at = await self._shared.get(max_age)
        self._sure_until = self._later(at)
        return job, at

    @staticmethod
    def _later(now: float) -> float:
        return now + random.uniform(0.5, 1) * _UNSURE_SECONDS  # noqa: S311 (lest all look at once)
