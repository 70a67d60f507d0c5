"""How long to wait before asking again: pure arithmetic, with no clock and no event loop.

The generators and jitters are ``backoff``'s. Its decorators are not used: they return the last
value when they run out, count on the wall clock, and never interrupt a call that hangs.
"""

from __future__ import annotations

import datetime
import email.utils
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import attrs
import backoff

from ..settings import check_count, check_number, check_seconds

LONGEST_PAUSE = 120.0
"""Seconds that the session obeys a 429 for at most."""
_LONGEST = 1e9  # seconds, thirty years: far above any sense, far below any overflow


def _interval(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    name = f"{type(instance).__name__}.{attribute.name}"
    wanted = f"a finite number of seconds above 0, up to {_LONGEST:g}"
    check_number(name, value, wanted, lambda seconds: 0 < seconds <= _LONGEST)


def _outage(_: object, __: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        check_seconds("Polling.outage", value)


def _factor(_: object, __: attrs.Attribute[Any], value: object) -> None:
    check_number("Polling.factor", value, "a finite number from 1", lambda factor: factor >= 1)


def _jitter(_: object, __: attrs.Attribute[Any], value: object) -> None:
    check_number("Polling.jitter", value, "a number from 0 to 1", lambda jitter: 0 <= jitter <= 1)


def _tries(_: object, __: attrs.Attribute[Any], value: object) -> None:
    check_count("Retry.max_tries", value)


def _exponential(initial: float, factor: float, longest: float) -> Iterator[float]:
    waits = backoff.expo(base=factor, factor=initial, max_value=longest)
    next(waits)  # the first is the decorators' own affair
    try:
        yield from waits
    except OverflowError:  # the power outgrew a float on its way past the longest
        yield from itertools.repeat(longest)


@attrs.frozen(kw_only=True)
class Polling:
    """How often a wait asks: often while a job is young, then ever less.

    The rule behind the defaults: look again when a fifth of the time waited so far has passed,
    so that the lag stays about a tenth of the job's length and the polls grow with its
    logarithm, but never leave a job alone for more than ``max_interval``. ``python -m benchmarks
    pace`` shows it beside other schedules. Intervals are in seconds.
    """

    initial: float = attrs.field(default=0.5, validator=_interval)
    """Between the first poll and the second, and again after each change of state."""
    factor: float = attrs.field(default=1.2, validator=_factor)
    """What each interval is multiplied by to give the next; from 1."""
    max_interval: float = attrs.field(default=20.0, validator=_interval)
    """The longest interval; it also caps ``initial``."""
    jitter: float = attrs.field(default=0.2, validator=_jitter)
    """Each interval is up to this part shorter or longer, 0 to 1, lest waits march in step."""
    outage: float | None = attrs.field(default=300.0, validator=_outage)
    """How long polls may fail in a row, for passing causes, before the wait gives up with the
    last error. ``None``: it never does."""

    def intervals(self) -> Iterator[float]:
        """The intervals of one wait, without end."""
        intervals = _exponential(self.initial, self.factor, self.max_interval)
        for interval in intervals:  # pragma: no branch (it does not end)
            spread = self.jitter * interval
            yield interval - spread + backoff.full_jitter(2 * spread)


@attrs.frozen(kw_only=True)
class Retry:
    """How a lookup that failed for a passing cause is tried again. Times are in seconds."""

    max_tries: int = attrs.field(default=4, validator=_tries)
    """Requests in all, the first included; from 1, which means no retry."""
    initial: float = attrs.field(default=0.5, validator=_interval)
    """Before the second try; doubled for each further one."""
    max_interval: float = attrs.field(default=8.0, validator=_interval)

    def intervals(self) -> Iterator[float]:
        """The waits between the tries, each between half of its nominal length and the whole."""
        nominal = _exponential(self.initial, 2, self.max_interval)
        for interval in itertools.islice(nominal, min(self.max_tries - 1, sys.maxsize)):
            yield interval / 2 + backoff.full_jitter(interval / 2)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """The seconds that a ``Retry-After`` header asks for; ``None`` if it cannot be read.

    Both forms of RFC 9110 are read: digits, and an HTTP date, compared with ``now`` (seconds
    since the epoch). The result is from 0 to a billion.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        # More digits than this are hostile; int() alone would refuse or labour.
        return float(text) if len(text) < len("1000000000") else _LONGEST
    try:
        date = email.utils.parsedate_to_datetime(text)
        seconds = date.replace(tzinfo=date.tzinfo or datetime.UTC).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST)


def pause_length(storm: int, retry_after: float | None) -> float:
    """Seconds to send nothing after the ``storm``-th 429 in a row (from 1), at most 120."""
    own = min(2.0 ** min(storm - 1, 5), 30.0)
    asked = max(own, retry_after or 0.0)
    return min(asked + backoff.full_jitter(asked / 5), LONGEST_PAUSE)
