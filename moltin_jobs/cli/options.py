"""Options and arguments that several commands share."""

import codecs
import functools
import logging
import math
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from .output import Output
from .runner import open_session, run


def session_command(command: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., None]:
    """Turn a coroutine function into a command with the common options.

    The function gets an open session, the output and its own options, and returns the exit code.
    """

    @functools.wraps(command)
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
    @click.option("-q", "--quiet", is_flag=True, help="Print errors only, no progress or warnings.")
    @click.option("-v", "--verbose", is_flag=True, help="Log each request and poll to stderr.")
    @click.option("--base-url", help="Base URL of the API.  [env: EPCC_API_BASE_URL]")
    def run_command(
        as_json: bool, quiet: bool, verbose: bool, base_url: str | None, **arguments: Any
    ) -> None:
        if quiet and verbose:
            raise click.UsageError("--quiet and --verbose exclude each other")
        output = Output(as_json, quiet, base_url)
        level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING

        async def run_in_session() -> int:
            async with open_session(base_url) as session:
                return await command(session, output, **arguments)

        run(run_in_session(), output, level)

    return run_command


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


def _read_words() -> list[str]:
    data = sys.stdin.buffer.read() if sys.stdin else b""  # there is none if it was closed
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if is_utf16 else "utf-8", errors="replace")
    return text.replace("\ufeff", " ").split()  # PowerShell writes a BOM before each file


def _check_path(_context: click.Context, _parameter: click.Parameter, path: Path) -> Path:
    if str(path) == "-":
        raise click.BadParameter("give a file name, not -. Files are not written to stdout.")
    return path


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise click.BadParameter(f"{text!r} is not a finite number of seconds above 0.")
    return seconds


job_ids_argument = click.argument(
    "job_ids", nargs=-1, required=True, metavar="ID...", callback=_read_ids
)
_file_type = click.Path(dir_okay=False, path_type=Path)
file_argument = click.argument("path", metavar="FILE", type=_file_type, callback=_check_path)
filter_option = click.option(
    "--filter",
    "order_filter",
    metavar="FILTER",
    help="Orders to export, in the service's filter syntax.",
)
timeout_option = functools.partial(
    click.option, "--timeout", type=_parse_seconds, metavar="SECONDS"
)
