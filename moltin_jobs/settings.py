"""Settings that users pass, and their validation.

Each check raises a `ConfigurationError` that names the setting.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Protocol, TypeGuard, TypeVar, cast

import attrs

from .errors import ConfigurationError, describe

T = TypeVar("T")
Predicate = Callable[[float], bool]

MAX_SECONDS = 1e9
"""Upper bound of all intervals in seconds (thirty years), so that no sum of them overflows."""
MAX_RETRY_AFTER = 120.0
"""Longest ``Retry-After`` in seconds that the client obeys."""
_TOKEN = re.compile(r"[!-~]+")


def require(is_valid: object, name: str, expected: str, value: object) -> None:
    """Raise `ConfigurationError` for the setting ``name`` unless its value ``is_valid``."""
    if not is_valid:
        raise ConfigurationError(f"{name} must be {expected}, not {describe(value)}")


def check_number(name: str, value: Any, expected: str, is_allowed: Predicate) -> None:
    """Require a finite number that ``is_allowed``."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        is_valid = is_number and math.isfinite(value) and is_allowed(value)
    except OverflowError:  # an int that no float can represent
        is_valid = False
    require(is_valid, name, expected, value)


def check_seconds(name: str, value: object) -> None:
    """Require a finite number of seconds above 0."""
    check_number(name, value, "a finite number of seconds above 0", lambda seconds: seconds > 0)


def check_count(name: str, value: object) -> None:
    """Require an int of at least 1."""
    require(is_count(value), name, "an int of at least 1", value)


def check_index(name: str, value: object) -> None:
    """Require an int of at least 0."""
    is_index = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    require(is_index, name, "an int of at least 0", value)


def check_text(name: str, value: object) -> None:
    """Require a non-empty, printable string, which may be a `Secret`."""
    text = value.value if isinstance(value, Secret) else value
    is_valid = isinstance(text, str) and text and text.isprintable()
    require(is_valid, name, "a non-empty printable str", value)


def check_instance(name: str, value: object, cls: type[T]) -> T:
    """Require an instance of ``cls``, and return it."""
    require(isinstance(value, cls), name, f"a {cls.__name__}", value)
    return cast("T", value)


def validator(check: Callable[..., object], *arguments: object) -> Callable[..., None]:
    """Make a validator of attrs from one of the checks above."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        check(f"{type(instance).__name__}.{attribute.name}", value, *arguments)

    return validate


@attrs.frozen(repr=False)
class Secret:
    """A string that its ``repr`` hides, so that logs and tracebacks with locals do not show it."""

    value: str
    authorization: str = attrs.field(init=False, eq=False)
    """Value of the ``Authorization`` header, if the secret is a token."""

    @authorization.default
    def _bearer(self) -> str:
        return f"Bearer {self.value}"

    def __repr__(self) -> str:
        return "Secret(...)"


def is_count(value: object) -> TypeGuard[int]:
    """Return whether ``value`` is an int of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_token(text: object) -> TypeGuard[str]:
    """Return whether ``text`` can be sent as a bearer token: printable ASCII without spaces."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


class RateLimiter(Protocol):
    """Limiter that a session can share with other processes, passed as ``rate_limit``."""

    async def acquire(self) -> object:
        """Return when one more request may be sent.

        The session calls this once for each request, and once more if a cooldown has come in
        between.
        """


class PausableRateLimiter(RateLimiter, Protocol):
    """`RateLimiter` that is informed of the session's cooldowns after a 429."""

    async def pause(self, seconds: float) -> object:
        """Keep all processes from sending requests for ``seconds``."""


_validate_interval = validator(
    check_number,
    f"a finite number of seconds above 0, at most {MAX_SECONDS:g}",
    lambda seconds: 0 < seconds <= MAX_SECONDS,
)
_validate_max_outage: Any = attrs.validators.optional(validator(check_seconds))
_validate_multiplier = validator(check_number, "a finite number of at least 1", lambda n: n >= 1)
_validate_jitter = validator(check_number, "a number from 0 to 1", lambda n: 0 <= n <= 1)


@attrs.frozen(kw_only=True)
class Polling:
    """Intervals between the polls of a wait, in seconds.

    The first interval is ``initial_interval``. Each further one is ``multiplier`` times as long, at
    most ``max_interval``. A change of state starts again with ``initial_interval``. Each interval
    is then changed randomly by up to ``jitter``.

    Raises:
        ConfigurationError: a value is out of range.
    """

    initial_interval: float = attrs.field(default=0.5, validator=_validate_interval)
    """Above 0."""
    multiplier: float = attrs.field(default=1.2, validator=_validate_multiplier)
    """At least 1."""
    max_interval: float = attrs.field(default=20.0, validator=_validate_interval)
    """Above 0. Also the limit of ``initial_interval``."""
    jitter: float = attrs.field(default=0.2, validator=_validate_jitter)
    """Fraction by which an interval is randomly shorter or longer, from 0 to 1."""
    max_outage: float | None = attrs.field(default=300.0, validator=_validate_max_outage)
    """Seconds after which consecutive failed polls end the wait, or ``None`` for no limit. At least
    three polls in a row must have failed."""


@attrs.frozen(kw_only=True)
class Retry:
    """Retries of a call that failed with a retryable error. Waits poll again instead.

    The interval doubles after each attempt. Jitter shortens each interval by up to half.

    Raises:
        ConfigurationError: a value is out of range.
    """

    max_attempts: int = attrs.field(default=4, validator=validator(check_count))
    """Attempts in all, the first included. 1 means no retry."""
    initial_interval: float = attrs.field(default=0.5, validator=_validate_interval)
    """Seconds between the first attempt and the second, above 0."""
    max_interval: float = attrs.field(default=8.0, validator=_validate_interval)
    """Longest interval in seconds, above 0."""
