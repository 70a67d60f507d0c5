"""Rate limit of a store that many processes share through Redis (extra ``moltin-jobs[redis]``).

A small Lua script reserves slots in Redis, evenly spaced, first come, first served. While Redis is
unavailable, each process keeps to its own share of the slots.
"""

import asyncio
import collections
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Self

from .errors import ConfigurationError, single_line
from .settings import check_count, check_text

try:
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"RedisLimiter needs the package {error.name}: pip install 'moltin-jobs[redis]'",
        name=error.name,
    ) from None

_log = logging.getLogger("moltin_jobs.redis")

SPACING = 1.2
"""Distance between two slots, in units of ``1 / rate_limit``."""
LEAD_MARGIN = 0.01
"""Margin in seconds for short stalls of the event loop. A command is sent one round trip to Redis
and this margin before its result is needed."""
MAX_DELAY = 0.1
"""Seconds after which an unused reservation expires."""
RESPONSE_TIMEOUT = 0.25
"""Seconds without a response after which Redis counts as unavailable."""
COMMAND_TIMEOUT = 1.0
"""Seconds after which a command is cancelled. It is longer than RESPONSE_TIMEOUT because a command
that has to connect takes several round trips, each of which may take that long."""
RETRY_INTERVAL = 0.1
"""Seconds between a failed command and the next one."""

# A hash holds the state of a store. All times are in microseconds of the clock of Redis.
#
# If that clock steps back, next_slot would lie far in the future, so the state is reset. Other
# processes may still hold slots from before. So every command fails for half a second. During that
# time, each process uses its own share.
RESERVE_SCRIPT = """
local interval, count, pause, rate_limit = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last_now, own_shares_until, paused_until, next_slot, last_rate_limit = unpack(redis.call(
    'HMGET', KEYS[1], 'last_now', 'own_shares_until', 'paused_until', 'next_slot', 'rate_limit'))

if now < (last_now or now) - 1000000 then
    own_shares_until = now + 500000
    redis.call('HSET', KEYS[1], 'last_now', now, 'own_shares_until', own_shares_until,
        'paused_until', now, 'next_slot', now)
end
if now < tonumber(own_shares_until or now) then
    return redis.error_reply('ERR its clock stepped back')
end

paused_until = math.max(paused_until or now, now + pause)
local slot = math.max(next_slot or now, paused_until)
next_slot = slot + count * interval
redis.call('HSET', KEYS[1], 'last_now', now, 'paused_until', paused_until,
    'next_slot', next_slot, 'rate_limit', rate_limit)
redis.call('PEXPIRE', KEYS[1], math.ceil((next_slot - now) / 1000) + 60000)
return {slot - now, paused_until - now, tonumber(last_rate_limit or rate_limit)}
"""


class RedisLimiter:
    """A `~moltin_jobs.PausableRateLimiter` for sessions in many processes with one common limit.

    The store receives at most ``rate_limit`` requests in any one second. Redis cannot see when a
    request arrives there, so slots are 1.2 times as far apart as the limit alone requires. The
    limit therefore holds unless one request takes 0.2 seconds longer to arrive than another. A new
    connection can take that long if the round trip to the service takes 0.1 seconds.

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
        self._redis = _create_client(url, self._on_connect)
        self._store = store
        self._rate_limit = rate_limit
        self._has_warned_of_rate_limit = False
        self._interval = SPACING / rate_limit
        # Distance in seconds between the slots of this process while Redis is unavailable.
        self._own_interval = self._interval * processes
        self._closed = asyncio.Event()
        self._acquire_lock = asyncio.Lock()
        # A reservation is the time of the event loop at which the slot begins.
        self._reservations: collections.deque[float] = collections.deque()
        self._last_reservation = -math.inf
        # Limits how many slots are reserved in advance.
        self._slots_used_in_a_row = 0
        self._command: asyncio.Task[None] | None = None
        self._connected_at = -math.inf
        # Time before the start of a slot at which the next command must be sent.
        self._lead = LEAD_MARGIN
        self._available = True
        self._retry_at = -math.inf
        self._own_share_until = -math.inf

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to Redis. Callers that wait for a slot get a ``RuntimeError``."""
        self._closed.set()
        if self._command is not None:
            self._command.cancel()
            await asyncio.wait({self._command})
        await self._redis.aclose(close_connection_pool=True)

    async def acquire(self) -> None:
        """Wait for a slot: permission to send one request to the store. First come, first served.

        If a caller is cancelled, the next caller gets its reservation.

        Raises:
            RuntimeError: The limiter is closed, or was closed during the wait.
        """
        async with self._acquire_lock:
            now = _now()
            if now > self._last_reservation + max(self._interval, LEAD_MARGIN):
                self._slots_used_in_a_row = 0
            self._discard_reservations(before=now - MAX_DELAY)
            self._check_open()
            while True:
                if not self._reservations:
                    await self._reserve()
                elif await self._wait_for_slot(self._reservations[0]):
                    break
            self._reservations.popleft()
            self._slots_used_in_a_row += 1

    async def pause(self, seconds: float) -> None:
        """Keep all processes from sending for ``seconds``, unless a longer pause is in progress.

        Another process may still send requests whose slots begin within two round trips to Redis.
        While Redis is unavailable, the pause does not reach the other processes.

        Raises:
            RuntimeError: The limiter is closed.
        """
        self._check_open()
        if _now() >= self._retry_at:
            await self._send_command(count=0, pause=seconds)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise RuntimeError("the RedisLimiter is closed: create a new one.")

    async def _wait_for_slot(self, slot: float) -> bool:
        """Wait until a reserved slot begins. Return False if a pause cancelled the reservation.

        While the caller waits, a command reserves the next slots. Its response also reports a
        pause, so for a slot that is far ahead it is sent even if no slots are missing.
        """
        is_far = _now() < slot - self._lead
        await self._sleep_until(slot - self._lead)
        missing = self._missing_slots()
        if self._available and (missing or is_far):
            self._start_command(missing)
        await self._sleep_until(slot)
        return bool(self._reservations) and self._reservations[0] <= slot

    async def _sleep_until(self, moment: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), moment - _now())
        self._check_open()

    async def _reserve(self) -> None:
        """Reserve a slot: in Redis, or in this process's own share while Redis is unavailable."""
        if _now() >= self._retry_at:
            command = self._start_command(max(1, self._missing_slots()))
            if self._available:
                await asyncio.wait({command})
                self._check_open()
                command.result()  # re-raises an unexpected exception
        if not self._available:
            self._add_reservation(_now())

    def _missing_slots(self) -> int:
        """Number of slots to reserve so that consecutive callers do not wait for responses."""
        reserved = max(0.0, self._last_reservation - _now())
        missing = math.ceil((2 * self._lead - reserved) / self._interval)
        # A process that does not use what it reserves takes slots from the others. So it reserves
        # no more in advance than it has just used in a row.
        return max(0, min(missing, self._slots_used_in_a_row))

    def _start_command(self, count: int) -> asyncio.Task[None]:
        # The command runs in a task of its own, so that a cancelled caller does not cancel it.
        if self._command is None or self._command.done():
            self._command = asyncio.create_task(self._send_command(count))
        return self._command

    async def _send_command(self, count: int, pause: float = 0.0) -> None:
        """Reserve ``count`` slots and pause the store for ``pause`` seconds, in one round trip."""
        sent_at = _now()
        script_arguments = (
            math.ceil(self._interval * 1e6),
            count,
            math.ceil(pause * 1e6),
            self._rate_limit,
        )
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                # EVALSHA would need three round trips after a restart of Redis.
                delay, pause_left, rate_limit = await self._redis.eval(
                    RESERVE_SCRIPT, 1, f"moltin-jobs:{self._store}", *script_arguments
                )
            now = _now()
            # The script ran after the command had connected, if it had to.
            round_trip = now - max(sent_at, self._connected_at)
            if round_trip > RESPONSE_TIMEOUT:
                raise TimeoutError  # late slots would overlap with the next reservation
        except (redis.RedisError, OSError) as error:
            self._handle_failure(error)
            return
        self._lead = round_trip + LEAD_MARGIN
        if not self._available:
            self._available = True
            self._retry_at = -math.inf
            # Keep to the own share until the other processes have noticed too.
            self._own_share_until = now + COMMAND_TIMEOUT + RETRY_INTERVAL
            _log.info("store %s: Redis is available again", self._store)
        if pause_left:
            self._discard_reservations(before=now + pause_left / 1e6)
        for number in range(count):
            self._add_reservation(now + delay / 1e6 + number * self._interval)
        if rate_limit != self._rate_limit and not self._has_warned_of_rate_limit:
            self._has_warned_of_rate_limit = True
            _log.warning(
                "store %s: rate_limit is %d here and %d in another limiter. Give all limiters of a "
                "store the same rate_limit",
                self._store,
                self._rate_limit,
                rate_limit,
            )

    async def _on_connect(self, connection: Any) -> None:
        await connection.on_connect()
        self._connected_at = _now()

    def _handle_failure(self, error: Exception) -> None:
        self._retry_at = _now() + RETRY_INTERVAL
        if self._available:
            self._available = False
            self._own_share_until = math.inf
            # Until now the slots came from Redis. The first slot of this process's own share begins
            # one `_own_interval` from now, or from the last reservation if that is later.
            self._last_reservation = max(self._last_reservation, _now())
            reason = single_line(str(error))
            if isinstance(error, TimeoutError | redis.TimeoutError):
                reason = f"no response within {RESPONSE_TIMEOUT} s"
            _log.warning(
                "store %s: Redis is unavailable, limiting this process to its own share of "
                "%.1f requests a second: %s",
                self._store,
                1 / self._own_interval,
                reason,
                extra={"error": type(error).__name__},
            )

    def _add_reservation(self, moment: float) -> None:
        if _now() < self._own_share_until:
            moment = max(moment, self._last_reservation + self._own_interval)
        self._reservations.append(moment)
        self._last_reservation = moment

    def _discard_reservations(self, *, before: float) -> None:
        while self._reservations and self._reservations[0] < before:
            self._reservations.popleft()


def _create_client(url: str, on_connect: Callable[[Any], Awaitable[None]]) -> Any:
    # Redis, or a proxy in front of it, may close an idle connection. So retry once, immediately.
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    try:
        client = redis.asyncio.from_url(
            url,
            retry=retry,
            retry_on_error=[redis.ConnectionError],
            redis_connect_func=on_connect,
            socket_connect_timeout=COMMAND_TIMEOUT,
            socket_timeout=RESPONSE_TIMEOUT,
        )
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # does not connect
    except (ValueError, AttributeError, TypeError):
        # The message leaves the URL out, since it may contain a password.
        raise ConfigurationError(
            "url must be the address of a Redis, for example redis://HOST:6379"
        ) from None
    return client


def _now() -> float:
    return asyncio.get_running_loop().time()
