"""What a setting may be: each check raises a `ConfigurationError` that names what cannot work."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from .errors import ConfigurationError, shown

T = TypeVar("T")


def check_number(name: str, value: object, wanted: str, allowed: Callable[[float], bool]) -> None:
    """Raise `ConfigurationError` unless ``value`` is a finite number that is ``allowed``."""
    try:
        fits = (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
            and allowed(value)
        )
    except OverflowError:  # an int beyond every float
        fits = False
    if not fits:
        raise ConfigurationError(f"{name} must be {wanted}, not {shown(value)}")


def check_seconds(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless ``value`` is a length of time that can pass."""
    check_number(name, value, "a finite number of seconds above 0", lambda seconds: seconds > 0)


def check_count(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless ``value`` is a whole number of at least one."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be an int from 1, not {shown(value)}")


def check_text(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless ``value`` is a string that says something."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ConfigurationError(f"{name} must be a non-empty printable str, not {shown(value)}")


def instance(name: str, value: object, kind: type[T]) -> T:
    """``value``, or raise `ConfigurationError` if it is none of that ``kind``."""
    if not isinstance(value, kind):
        raise ConfigurationError(f"{name} must be a {kind.__name__}, not {shown(value)}")
    return value
