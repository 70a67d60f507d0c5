"""Settings that users pass, and their validation.

Each check raises a `ConfigurationError` that names the setting.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Protocol, TypeGuard, TypeVar

import attrs

from .errors import ConfigurationError, describe

T = TypeVar("T")

MAX_SECONDS = 1e9
"""Upper bound of all intervals (thirty years), so that no sum of them overflows."""
MAX_RETRY_AFTER = 120.0
"""Longest ``Retry-After`` in seconds that the client obeys."""
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def check_number(
    name: str, value: object, expected: str, is_allowed: Callable[[float], bool]
) -> None:
    """Raise `ConfigurationError` unless ``value`` is a finite number that ``is_allowed``."""
    try:
        valid = (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
            and is_allowed(value)
        )
    except OverflowError:  # an int that no float can represent
        valid = False
    if not valid:
        raise ConfigurationError(f"{name} must be {expected}, not {describe(value)}")


def check_seconds(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless ``value`` is a finite number of seconds above 0."""
    check_number(name, value, "a finite number of seconds above 0", lambda seconds: seconds > 0)


def check_count(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless ``value`` is an int of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be an int of at least 1, not {describe(value)}")


def check_text(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless ``value`` is a non-empty, printable string."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ConfigurationError(f"{name} must be a non-empty printable str, not {describe(value)}")


def check_instance(name: str, value: object, cls: type[T]) -> T:
    """Return ``value``, or raise `ConfigurationError` unless it is an instance of ``cls``."""
    if not isinstance(value, cls):
        raise ConfigurationError(f"{name} must be a {cls.__name__}, not {describe(value)}")
    return value


@attrs.frozen(repr=False)
class Secret:
    """A string that no ``repr`` shows, and so no log and no traceback with locals."""

    value: str
    authorization: str = attrs.field(init=False, eq=False)
    """Value of the ``Authorization`` header, if the secret is a token."""

    @authorization.default
    def _bearer(self) -> str:
        return f"Bearer {self.value}"

    def __repr__(self) -> str:
        return "Secret(...)"


def is_token(text: object) -> TypeGuard[str]:
    """Return whether ``text`` can be sent as a bearer token: printable ASCII without spaces."""
    if not isinstance(text, str) or not text:
        return False
    return text.isascii() and text.isprintable() and " " not in text


def is_job_id(text: object) -> TypeGuard[str]:
    """Return whether ``text`` can be a part of a path: 1 to 128 ASCII letters, digits, - or _."""
    return isinstance(text, str) and _JOB_ID.fullmatch(text) is not None


class RateLimiter(Protocol):
    """Limiter that a session can share with other processes, passed as ``rate_limit``."""

    async def acquire(self) -> object:
        """Return when one more request may be sent. The session calls it once for each."""


class PausableRateLimiter(RateLimiter, Protocol):
    """`RateLimiter` that is informed of the session's cooldowns after a 429."""

    async def pause(self, seconds: float) -> object:
        """Let no request be sent for ``seconds``, by any process."""


def _check_interval(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    name = f"{type(instance).__name__}.{attribute.name}"
    expected = f"a finite number of seconds above 0, at most {MAX_SECONDS:g}"
    check_number(name, value, expected, lambda seconds: 0 < seconds <= MAX_SECONDS)


def _check_multiplier(_: object, __: attrs.Attribute[Any], value: object) -> None:
    check_number("Polling.multiplier", value, "a finite number of at least 1", lambda n: n >= 1)


def _check_jitter(_: object, __: attrs.Attribute[Any], value: object) -> None:
    check_number("Polling.jitter", value, "a number from 0 to 1", lambda jitter: 0 <= jitter <= 1)


def _check_max_outage(_: object, __: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        check_seconds("Polling.max_outage", value)


def _check_max_attempts(_: object, __: attrs.Attribute[Any], value: object) -> None:
    check_count("Retry.max_attempts", value)


@attrs.frozen(kw_only=True)
class Polling:
    """Intervals between the polls of a wait, in seconds.

    The ``n``-th interval is ``initial_interval * multiplier ** n``, at most ``max_interval``, plus
    or minus ``jitter``. A change of state resets the interval to ``initial_interval``.

    Raises:
        ConfigurationError: a value is out of range.
    """

    initial_interval: float = attrs.field(default=0.5, validator=_check_interval)
    """Above 0."""
    multiplier: float = attrs.field(default=1.2, validator=_check_multiplier)
    """At least 1."""
    max_interval: float = attrs.field(default=20.0, validator=_check_interval)
    """Above 0. It also caps ``initial_interval``."""
    jitter: float = attrs.field(default=0.2, validator=_check_jitter)
    """Fraction by which an interval is randomly shorter or longer, from 0 to 1."""
    max_outage: float | None = attrs.field(default=300.0, validator=_check_max_outage)
    """Seconds after which consecutive failed polls end the wait, or ``None`` for no limit. The
    wait continues until at least three polls in a row have failed."""


@attrs.frozen(kw_only=True)
class Retry:
    """Retries of a lookup, a creation or a download that failed with a retryable error.

    The interval doubles after each attempt. Its actual length is between half of it and all of it.

    Raises:
        ConfigurationError: a value is out of range.
    """

    max_attempts: int = attrs.field(default=4, validator=_check_max_attempts)
    """Attempts in all, the first included. 1 means no retry."""
    initial_interval: float = attrs.field(default=0.5, validator=_check_interval)
    """Seconds between the first attempt and the second, above 0."""
    max_interval: float = attrs.field(default=8.0, validator=_check_interval)
    """Longest interval in seconds, above 0."""
