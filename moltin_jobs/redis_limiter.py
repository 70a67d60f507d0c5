"""Rate limit of a store that many processes share through Redis (extra ``moltin-jobs[redis]``).

A small Lua script reserves slots in Redis, evenly spaced, first come, first served. While Redis is
unavailable, each process keeps to its own share of the slots.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import math
from typing import Any, Self

from .errors import ConfigurationError, single_line
from .settings import check_count, check_text

try:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import RedisError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"RedisLimiter needs the package {error.name}: pip install 'moltin-jobs[redis]'",
        name=error.name,
    ) from None

_log = logging.getLogger("moltin_jobs.redis")

SPACING = 1.2
"""Distance between two slots, in units of ``1 / rate_limit``."""
LEAD_MARGIN = 0.01
"""Time added to the round trip to Redis, for short stalls of the event loop."""
MAX_DELAY = 0.1
"""Time after which an unused reservation expires."""
RESPONSE_TIMEOUT = 0.25
"""Time after which Redis counts as unavailable."""
COMMAND_TIMEOUT = 1.0
"""Time after which a command is cancelled. Connecting alone takes several round trips."""
RETRY_INTERVAL = 0.1
"""Time between a failed command and the next one."""

# A hash holds the state of a store. All times are in microseconds of the clock of Redis.
RESERVE_SCRIPT = """
local interval, count, pause = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local rate_limit = tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local store = redis.call('HMGET', KEYS[1],
    'last_now', 'own_shares_until', 'paused_until', 'next_slot', 'rate_limit')

local own_shares_until = tonumber(store[2]) or now
if now < (tonumber(store[1]) or now) - 1000000 then
    -- The clock stepped back, so the next slot is in the far future. Reset the store. The processes
    -- still use slots that they reserved before: reserve none until all had time to notice.
    own_shares_until = now + 500000
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'last_now', now, 'own_shares_until', own_shares_until)
    redis.call('PEXPIRE', KEYS[1], 60000)
end
if now < own_shares_until then
    return redis.error_reply('ERR its clock stepped back')
end

local paused_until = math.max(tonumber(store[3]) or now, now + pause)
local slot = math.max(tonumber(store[4]) or now, paused_until)
if count > 0 or pause > 0 then
    local next_slot = slot + count * interval
    redis.call('HSET', KEYS[1], 'last_now', now, 'paused_until', paused_until,
        'next_slot', next_slot, 'rate_limit', rate_limit)
    redis.call('PEXPIRE', KEYS[1], math.ceil((next_slot - now) / 1000) + 60000)
end
return {slot - now, paused_until - now, tonumber(store[5]) or rate_limit}
"""


class RedisLimiter:
    """A `~moltin_jobs.PausableRateLimiter` for sessions in many processes with one common limit.

    The store receives at most ``rate_limit`` requests in any one second. Redis cannot see when a
    request arrives there, so slots are 1.2 times as far apart as the limit alone requires. The
    limit therefore holds unless one request takes 0.2 seconds longer to arrive than another. A new
    connection can take that long if the service is 0.1 seconds away.

    While Redis is unavailable, each process keeps to its own share of the slots. In that time a
    second may contain one extra request per process. If only some processes lose Redis, their
    shares come on top of the limit.

    A limiter belongs to one event loop. Close it with ``async with`` or `close`, after the sessions
    that use it.

    Args:
        url: address of Redis: ``redis://``, ``rediss://`` or ``unix://``.
        store: any name. All limiters with the same name share one rate limit.
        rate_limit: requests that the store allows in a second, an int of at least 1. It must be
            the same for all limiters of a store.
        processes: largest number of processes that share the rate limit, an int of at least 1.

    Raises:
        ConfigurationError: an argument is invalid.
    """

    def __init__(self, url: str, store: str, *, rate_limit: int, processes: int) -> None:
        check_text("store", store)
        check_count("rate_limit", rate_limit)
        check_count("processes", processes)
        self._interval = SPACING / rate_limit
        self._own_interval = self._interval * processes
        self._store = _Store(url, store, rate_limit, self._interval)
        self._availability = _Availability(store, own_rate=1 / self._own_interval)
        self._closed = False
        self._wake_up = asyncio.Event()
        self._callers = asyncio.Lock()
        self._consecutive_callers = 0
        # A reservation is the time of the event loop at which the slot begins.
        self._reservations: collections.deque[float] = collections.deque()
        self._last_reservation = -math.inf
        self._last_used_at = -math.inf
        self._command: asyncio.Task[None] | None = None
        self._responded_at = -math.inf
        self._round_trip = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to Redis. Callers that wait for a slot get a ``RuntimeError``."""
        self._closed = True
        self._wake_up.set()
        if self._command is not None:
            self._command.cancel()
            await asyncio.wait({self._command})
        await self._store.close()

    async def acquire(self) -> None:
        """Wait for a slot: permission to send one request to the store. First come, first served.

        If a caller is cancelled, the next caller gets its reservation.

        Raises:
            RuntimeError: The limiter is closed, or was closed during the wait.
        """
        async with self._callers:
            now = _now()
            is_consecutive = now - self._last_used_at <= max(self._interval, LEAD_MARGIN)
            self._consecutive_callers = self._consecutive_callers + 1 if is_consecutive else 0
            self._discard_reservations(before=now - MAX_DELAY)
            while True:
                self._check_open()
                if not self._reservations:
                    await self._reserve()
                elif await self._use(self._reservations[0]):
                    return

    async def pause(self, seconds: float) -> None:
        """Keep all processes from sending for ``seconds``, unless a longer pause is in progress.

        Another process may still send requests whose slots begin within one round trip to Redis.
        While Redis is unavailable, the pause does not reach the other processes.

        Raises:
            RuntimeError: The limiter is closed.
        """
        self._check_open()
        if self._availability.may_send():
            await self._send_command(count=0, pause=seconds)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the RedisLimiter is closed: create a new one.")

    async def _use(self, reservation: float) -> bool:
        """Wait until a reserved slot begins. Return False if a pause cancelled the reservation."""
        await self._sleep_until(reservation - self._lead())
        self._reserve_ahead()
        await self._sleep_until(reservation)
        if not self._reservations or self._reservations[0] > reservation:
            return False
        self._reservations.popleft()
        self._last_used_at = _now()
        return True

    async def _sleep_until(self, moment: float) -> None:
        if moment <= _now():
            return
        self._wake_up.clear()
        timer = asyncio.get_running_loop().call_at(moment, self._wake_up.set)
        try:
            await self._wake_up.wait()
        finally:
            timer.cancel()
        self._check_open()

    async def _reserve(self) -> None:
        """Reserve a slot: in Redis, or in this process's own share while Redis is unavailable."""
        if self._availability.may_send():
            command = self._start_command(max(1, self._missing_slots()))
            if self._availability.available:
                await self._wait_for_response(command)
        if not self._availability.available and not self._reservations:
            self._add_reservation(_now())

    async def _wait_for_response(self, command: asyncio.Task[None]) -> None:
        done, _ = await asyncio.wait({command}, timeout=RESPONSE_TIMEOUT)
        self._check_open()
        if done:
            command.result()  # re-raises an unexpected exception
        else:
            self._handle_failure(TimeoutError())

    def _reserve_ahead(self) -> None:
        """Reserve the next slots while a caller waits for one. The response also shows a pause."""
        missing = self._missing_slots()
        is_pause_known = _now() - self._responded_at <= self._lead()
        if self._availability.available and (missing or not is_pause_known):
            self._start_command(missing)

    def _missing_slots(self) -> int:
        """Number of slots to reserve so that consecutive callers do not wait for responses."""
        now = _now()
        reserved_until = max(now, self._reservations[-1]) if self._reservations else now
        missing = math.ceil((now + 2 * self._lead() - reserved_until) / self._interval)
        # A process that does not use what it reserves takes slots from the others. So it reserves
        # no more in advance than it has just used in a row.
        return max(0, min(missing, self._consecutive_callers))

    def _lead(self) -> float:
        """Time before the start of a slot at which the next command must be sent."""
        return self._round_trip + LEAD_MARGIN

    def _start_command(self, count: int) -> asyncio.Task[None]:
        # The command runs in a task of its own, so that a cancelled caller does not cancel it.
        if self._command is None or self._command.done():
            self._command = asyncio.create_task(self._send_command(count))
        return self._command

    async def _send_command(self, count: int, pause: float = 0.0) -> None:
        sent_at = _now()
        try:
            delay, pause_left = await self._store.reserve(count, pause)
        except (RedisError, OSError) as error:
            self._handle_failure(error)
            return
        self._responded_at = now = _now()
        self._round_trip = now - sent_at
        if pause_left:
            self._discard_reservations(before=now + pause_left)
        if count:
            self._availability.record_success()
        for number in range(count):
            self._add_reservation(now + delay + number * self._interval)

    def _handle_failure(self, error: Exception) -> None:
        if self._availability.available:
            # So far slots were shared: wait one own interval before using this process's share.
            self._last_reservation = max(self._last_reservation, _now())
        self._availability.record_failure(error)

    def _add_reservation(self, moment: float) -> None:
        if self._availability.is_limited_to_own_share():
            moment = max(moment, self._last_reservation + self._own_interval)
        self._reservations.append(moment)
        self._last_reservation = moment

    def _discard_reservations(self, *, before: float) -> None:
        while self._reservations and self._reservations[0] < before:
            self._reservations.popleft()


class _Store:
    """State of a store in Redis."""

    def __init__(self, url: str, name: str, rate_limit: int, interval: float) -> None:
        # Redis, or a proxy in front of it, may close an idle connection. So retry once, at once.
        retry = Retry(NoBackoff(), 1)
        try:
            self._redis = Redis.from_url(url, retry=retry, retry_on_error=[RedisConnectionError])
            self._redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # does not connect
        except (ValueError, AttributeError, TypeError):
            # The message leaves the URL out, since it may contain a password.
            raise ConfigurationError(
                "url must be the address of a Redis, for example redis://HOST:6379"
            ) from None
        self._name = name
        self._key = f"moltin-jobs:{name}"
        self._rate_limit = rate_limit
        self._interval = math.ceil(interval * 1e6)
        self._has_warned = False

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def reserve(self, count: int, pause: float) -> tuple[float, float]:
        """Reserve ``count`` slots, and pause the store for ``pause`` seconds, in one round trip.

        Returns the time until the first of these slots, and the time until the pause ends.
        """
        sent_at = _now()
        async with asyncio.timeout(COMMAND_TIMEOUT):
            # EVALSHA would need three round trips after a restart of Redis.
            arguments = self._interval, count, math.ceil(pause * 1e6), self._rate_limit
            response: Any = self._redis.eval(RESERVE_SCRIPT, 1, self._key, *arguments)
            delay, pause_left, rate_limit = await response
        if _now() - sent_at > RESPONSE_TIMEOUT:
            raise TimeoutError  # discard late slots: they would overlap with the next reservation
        self._check_rate_limit(rate_limit)
        return delay / 1e6, pause_left / 1e6

    def _check_rate_limit(self, rate_limit: int) -> None:
        if rate_limit != self._rate_limit and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "store %s: rate_limit is %d here and %d in another limiter. Give all limiters of a "
                "store the same rate_limit",
                *(self._name, self._rate_limit, rate_limit),
            )


class _Availability:
    """Circuit breaker: whether Redis is available, and when to try again."""

    def __init__(self, store: str, own_rate: float) -> None:
        self.available = True
        self._store = store
        self._own_rate = own_rate
        self._retry_at = -math.inf
        self._recovered_at = -math.inf

    def may_send(self) -> bool:
        return _now() >= self._retry_at

    def is_limited_to_own_share(self) -> bool:
        # After Redis has become available, the other processes need some time to notice.
        return not self.available or _now() < self._recovered_at + COMMAND_TIMEOUT + RETRY_INTERVAL

    def record_failure(self, error: Exception) -> None:
        self._retry_at = _now() + RETRY_INTERVAL
        if self.available:
            self.available = False
            reason = single_line(str(error)) or f"no response within {RESPONSE_TIMEOUT} s"
            _log.warning(
                "store %s: Redis is unavailable, limiting this process to its own share of "
                "%.1f requests a second: %s",
                *(self._store, self._own_rate, reason),
                extra={"error": type(error).__name__},
            )

    def record_success(self) -> None:
        if not self.available:
            self.available = True
            self._retry_at = -math.inf
            self._recovered_at = _now()
            _log.info("store %s: Redis is available again", self._store)


def _now() -> float:
    return asyncio.get_running_loop().time()
