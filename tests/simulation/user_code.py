"""Callables that a user passes to the client, which fail, hang or ignore a cancellation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import aiohttp

from moltin_jobs import Job

from .secrets_check import TOKEN


class UserError(Exception):
    """Exception of such a callable."""


class TokenCallable:
    """Auth callable of a user, which may fail or hang."""

    def __init__(self, name: str, chance: random.Random, violate: Callable[[str], None]) -> None:
        self._name = name
        self._random = chance
        self._violate = violate
        self._running = 0

    async def __call__(self) -> str:
        """Return the token."""
        self._running += 1
        if self._running > 1:
            self._violate("two calls of an auth callable at once")
        try:
            await asyncio.sleep(self._random.choice([0.0, 0.0, 0.25]))
            if self._name.endswith("fails") and self._random.random() < 0.3:
                raise UserError
            if self._name.endswith("hangs") and self._random.random() < 0.3:
                await asyncio.Event().wait()
            if self._name.startswith("stubborn") and self._random.random() < 0.5:
                await ignore_cancellation(self._random)
            return TOKEN
        finally:
            self._running -= 1


class UserLimiter:
    """Rate limiter of a user, which may fail or hang."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self._name = name
        self._random = chance

    async def acquire(self) -> None:
        """Wait for a moment."""
        await self._misbehave()
        await asyncio.sleep(self._random.choice([0.0, 0.25]))

    async def pause(self, seconds: float) -> None:
        """Note a pause."""
        await self._misbehave()

    async def _misbehave(self) -> None:
        if self._random.random() < 0.1:
            if self._name == "fails":
                raise UserError
            if self._name == "stubborn":
                await ignore_cancellation(self._random)
            else:
                await asyncio.Event().wait()


class StubbornMiddleware:
    """Middleware of a user's HTTP session, which may turn a cancellation into an exception."""

    def __init__(self, chance: random.Random) -> None:
        self._random = chance

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request."""
        try:
            return await handler(request)
        except asyncio.CancelledError:
            if self._random.random() < 0.5:
                raise UserError from None
            raise


async def ignore_cancellation(chance: random.Random) -> None:
    """Hang for a while, and turn a cancellation into an exception or into nothing."""
    try:
        await asyncio.sleep(5.0)
    except asyncio.CancelledError:
        if chance.random() < 0.5:
            raise UserError from None


def make_callback(name: str) -> Callable[[Job], Awaitable[None] | None] | None:
    """Return an ``on_created``."""

    async def slow(job: Job) -> None:
        await asyncio.sleep(1.0)

    async def quick(job: Job) -> None:
        pass

    def fails(job: Job) -> None:
        raise UserError

    return {"none": None, "async": quick, "fails": fails, "slow": slow}[name]
