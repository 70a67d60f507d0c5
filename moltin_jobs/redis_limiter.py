"""One store's rate limit for many processes, by way of Redis: the extra ``moltin-jobs[redis]``.

Turns are reserved in Redis, evenly spaced, in the order in which they are asked for. While Redis
is away, each process keeps to its own share, so that together they still keep to the limit.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

from .errors import ConfigurationError, one_line
from .settings import check_count, check_text

try:
    from redis.exceptions import RedisError
    from throttled.asyncio import (
        MemoryStore,
        RateLimiterType,
        RedisStore,
        Throttled,
        exceptions,
        per_duration,
    )
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"a shared limit needs {missing.name}: pip install 'moltin-jobs[redis]'", name=missing.name
    ) from None

T = TypeVar("T")

_log = logging.getLogger("moltin_jobs")
_SCHEMES = ("redis://", "rediss://", "unix://")
_SECONDS, _TURNS = 6, 5  # a second's turns are spread over 1.2 seconds: see the class
_AHEAD = 1_000_000  # turns that may be reserved: each session asks for its next one only
_ANSWER_SECONDS = 0.25
_LATE_SECONDS = 0.1
_RETRY_SECONDS = 0.5
_PAUSE = """
if redis.call('pttl', KEYS[1]) < tonumber(ARGV[1]) then
    redis.call('set', KEYS[1], 1, 'px', ARGV[1])
end
"""


class RedisLimiter:
    """A ``rate_limit`` for sessions in many processes, which together keep to one limit.

    ``url`` is that of a Redis (``redis://``, ``rediss://`` or ``unix://``). All that are given the
    same ``store``, any name for it, share its ``rate_limit``: requests in any one second, an int
    from 1. ``processes`` is how many there are at most; while Redis is away, each keeps to its
    part of what all have, so that a second may see one more for each of them. That only some of
    them cannot reach it, the others do not know: then it may see the part of these more.

    Nobody tells Redis when a request arrives at the service, so turns are 1.2 times as far apart
    as the limit alone would have them. Then it holds unless a request is on its way 0.2 seconds
    longer than another: a new connection may be that to a service 0.1 seconds away.

    A limiter belongs to one event loop. It is closed by ``async with`` or `close`, after the
    sessions that use it. Raises `ConfigurationError` for a setting that cannot work.
    """

    def __init__(self, url: str, store: str, *, rate_limit: int, processes: int) -> None:
        check_text("store", store)
        check_count("rate_limit", rate_limit)
        check_count("processes", processes)
        turns, seconds = rate_limit * _TURNS, _SECONDS
        self._interval = seconds / turns
        self._own_rate = turns / seconds / processes
        self._name = store
        self._key = f"moltin-jobs:{store}"
        try:
            if not url.startswith(_SCHEMES):
                raise ValueError  # noqa: TRY301 (one way out)
            self._store = RedisStore(url)
            client: Any = self._store._backend.get_client()  # noqa: SLF001 (there is no other way)
            client.connection_pool.make_connection()  # which opens none
        except (ValueError, AttributeError, TypeError):
            # The url is not told, since it may hold a password.
            raise ConfigurationError("url must be that of a Redis, as redis://HOST:6379") from None
        self._client = client
        self._turns = _spaced(turns, seconds, self._key, self._store)
        self._own_turns = _spaced(turns, seconds * processes, self._key, MemoryStore())
        self._away = self._closed = False
        self._retry_at = self._careful_until = -math.inf

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to Redis."""
        self._closed = True
        await self._client.aclose(close_connection_pool=True)

    async def acquire(self) -> None:
        """Return when one more request may be sent, of all that go to the store.

        Raises ``RuntimeError`` once it is closed.
        """
        loop = asyncio.get_running_loop()
        missed = False
        while True:
            if self._closed:
                raise RuntimeError("this RedisLimiter is closed: make a new one")
            wait = await self._reserve()
            due = loop.time() + wait
            await asyncio.sleep(wait)
            paused = await self._answer(lambda: self._client.pttl(f"{self._key}:pause"))
            if paused is not None and paused > 0:
                await asyncio.sleep(paused / 1000)
            elif missed or loop.time() - due <= _LATE_SECONDS:
                return
            else:  # Redis was slow, and others have the turns that are now; once is enough
                missed = True

    async def pause(self, seconds: float) -> None:
        """Have all processes send nothing for so long, unless a longer pause goes on already."""
        key, milliseconds = f"{self._key}:pause", math.ceil(seconds * 1000)
        await self._answer(lambda: self._client.eval(_PAUSE, 1, key, milliseconds))

    async def _reserve(self) -> float:
        """Seconds until the turn that is now reserved."""
        turn = await self._answer(self._turns.limit)
        wait = 0.0 if turn is None else turn.state.reset_after - self._interval
        if turn is None or asyncio.get_running_loop().time() < self._careful_until:
            # The first one not at once: what was sent before was sent by all.
            wait = max(wait, (await self._own_turns.limit()).state.reset_after)
        return wait

    async def _answer(self, ask: Callable[[], Awaitable[T]]) -> T | None:
        """What Redis answers; ``None`` while it is away."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._retry_at:
            return None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await ask()
        except (exceptions.StoreUnavailableError, RedisError, OSError) as error:
            self._retry_at = loop.time() + _RETRY_SECONDS
            if not self._away:
                self._away = True
                _log.warning(
                    "store %s: Redis is away (%s); until it is back, this process keeps to its own "
                    "share of the limit, %.1f requests a second",
                    self._name,
                    _reason(error),
                    self._own_rate,
                )
            return None
        if self._away:
            self._away = False
            # The others may not know yet, and keep to their shares alone.
            self._careful_until = loop.time() + _RETRY_SECONDS + _ANSWER_SECONDS
            _log.info("store %s: Redis is back; the limit is shared again", self._name)
        return answer


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_ANSWER_SECONDS} s"
    return one_line(str(error.__cause__ or error))


def _spaced(turns: int, seconds: int, key: str, store: RedisStore | MemoryStore) -> Throttled:
    """Turns by the generic cell rate algorithm, so many in so many seconds."""
    quota = per_duration(datetime.timedelta(seconds=seconds), turns, burst=_AHEAD)
    return Throttled(key, using=RateLimiterType.GCRA.value, quota=quota, store=store)
