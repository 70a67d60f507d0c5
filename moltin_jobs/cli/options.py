"""Arguments that several commands take, and their validation."""

import codecs
import contextlib
import math
import operator
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import kinds
from ..errors import ConfigurationError
from ..models import Job, JobState

F = TypeVar("F", bound=Callable[..., Any])


def _read_ids(
    context: click.Context, _parameter: click.Parameter, words: tuple[str, ...]
) -> list[str]:
    """Return each id once. ``-`` stands for the words on stdin."""
    if context.resilient_parsing:  # for the completion of a shell
        return []
    try:
        ids = [job_id for word in words for job_id in (_read_words() if word == "-" else [word])]
    except KeyboardInterrupt:
        raise click.exceptions.Exit(130) from None
    if not ids:
        raise click.UsageError("no job id was given")
    return list(dict.fromkeys(ids))


def _read_ids_or_none(
    context: click.Context, parameter: click.Parameter, words: tuple[str, ...]
) -> list[str]:
    """Return the ids, or none with --all."""
    if not words and not context.params["all_open"] and not context.resilient_parsing:
        raise click.UsageError("no job id was given: give ids, - or --all")
    if words and context.params["all_open"]:
        raise click.UsageError("--all and ids exclude each other")
    return _read_ids(context, parameter, words) if words else []


def _read_words() -> list[str]:
    data = sys.stdin.buffer.read() if sys.stdin else b""  # there is none if it was closed
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if is_utf16 else "utf-8", errors="replace")
    return text.replace("\ufeff", " ").split()  # PowerShell writes a BOM before each file


class Timeout(float):
    """Number of seconds, with the text for messages."""

    text: str


_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
# A number without a unit stands alone: 1h30 could be read in two ways.
_TIMEOUT = re.compile(rf"{_NUMBER}|(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?", re.ASCII)


def _parse_timeout(text: str) -> Timeout:
    match = _TIMEOUT.fullmatch(text)
    numbers = map(float, match.groups("0")) if match else (0.0,)
    timeout = Timeout(sum(map(operator.mul, numbers, (1, 3600, 60, 1))))
    if not 0 < timeout < math.inf:
        raise click.BadParameter(f"{text!r} is not a time above 0 like 90, 90s, 10m or 1h30m.")
    timeout.text = text if text[-1] in "hms" else f"{text} s"
    return timeout


def parse_share(text: str) -> float:
    """Return a number from 0 to 1."""
    with contextlib.suppress(ValueError):
        if 0 <= (share := float(text)) <= 1:  # click.FloatRange accepts nan
            return share
    raise click.BadParameter(f"{text!r} is not a number from 0 to 1.")


def _parse_states(text: str) -> list[JobState]:
    names = [name.strip() for name in text.split(",")]
    return [_parse_state(name) for name in names]


def _parse_state(name: str) -> JobState:
    """Return the state of this name, or the state that a status of this name means."""
    state = JobState.__members__.get(name.upper()) or Job(id="", status=name).state
    if state is JobState.UNKNOWN and name.upper() != state.name:
        raise click.BadParameter(f"{name!r} is not one of: {', '.join(JobState)}.")
    return state


def _parse_kind(text: str) -> kinds.JobKind:
    try:
        return kinds.parse(text)
    except ConfigurationError as error:
        reason = str(error).removeprefix("kind ").replace("catalog_id", "CATALOG_ID")
        raise click.BadParameter(f"{reason}.") from None


job_ids_argument = click.argument(
    "job_ids", nargs=-1, required=True, metavar="ID...", callback=_read_ids
)
ids_or_all_argument = click.argument(
    "job_ids", nargs=-1, metavar="[ID...]", callback=_read_ids_or_none
)
all_option = click.option(
    "--all", "all_open", is_flag=True, is_eager=True, help="All jobs that have not ended."
)
_file_type = click.Path(dir_okay=False, path_type=Path)
file_argument = click.argument("path", metavar="FILE", type=_file_type)
kind_option = click.option(
    "--kind",
    type=_parse_kind,
    metavar="KIND",
    default=kinds.ORDERS.name,
    help=f"One of: {', '.join(kinds.NAMES)}.  [default: {kinds.ORDERS.name}]",
)
file_index_option = click.option(
    "--file-index",
    type=click.IntRange(min=0),
    metavar="N",
    help="Number of the file, from 0. Required if there is more than one.",
)
state_option = click.option(
    "--state",
    "states",
    type=_parse_states,
    multiple=True,
    metavar="STATE,...",
    help=f"Only jobs in one of these: {', '.join(JobState)}.",
)
filter_option = click.option(
    "--filter",
    "order_filter",
    metavar="FILTER",
    help="Orders to export, in the service's filter syntax.",
)


def timeout_option(limited: str) -> Callable[[F], F]:
    """Return the option for the time that something may take."""
    return click.option(
        "--timeout",
        type=_parse_timeout,
        metavar="TIME",
        help=f"Limit for {limited}: seconds, or like 10m or 1h30m. Default: none.",
    )
