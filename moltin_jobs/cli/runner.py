"""Execution of a command: session, log, signals, and the exit code."""

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

from .._http.addresses import parse_base_url
from ..errors import MoltinJobsError
from ..session import JobsSession
from .output import Output, exit_code

_SIGNALS = () if sys.platform == "win32" else (signal.SIGTERM, signal.SIGHUP)


def open_session(base_url: str | None) -> JobsSession:
    """Open a session with the credentials of the environment.

    Args:
        base_url: value of the option, which has precedence over the environment.
    """
    if not base_url:
        return JobsSession.from_env()
    parse_base_url(base_url, "--base-url")
    return JobsSession.from_env(base_url=base_url)


class _OutputHandler(logging.Handler):
    """Print log records, above the live table if there is one.

    Print one warning per error class, or all of them with --verbose.
    """

    def __init__(self, output: Output, level: int) -> None:
        super().__init__(level)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self._output = output
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        key = getattr(record, "error", None) or record.getMessage()
        if self.level == logging.DEBUG or key not in self._printed:
            self._printed.add(key)
            self._output.print_note(self.format(record))


def run(
    command: Coroutine[Any, Any, int], output: Output, level: int = logging.WARNING
) -> NoReturn:
    """Run a command, print log records from ``level`` on, and exit with the code it returns."""
    handler = _OutputHandler(output, level)
    root, logger = logging.getLogger(), logging.getLogger("moltin_jobs")
    previous = logger.level
    root.addHandler(handler)
    if level < logging.WARNING:  # otherwise the library need not make the records
        logger.setLevel(level)
    try:
        sys.exit(_exit_code(command, output))
    finally:
        logger.setLevel(previous)
        root.removeHandler(handler)


def _exit_code(command: Coroutine[Any, Any, int], output: Output) -> int:
    received = [int(signal.SIGINT)]
    try:
        return asyncio.run(_cancel_on_signal(command, received))
    except MoltinJobsError as error:
        output.print_error(error)
        return exit_code(error)
    except BrokenPipeError:  # the reader of stdout has read enough
        return 141
    except (KeyboardInterrupt, asyncio.CancelledError):
        if output.advice_on_interrupt is not None:
            output.print_note(f"interrupted. {output.advice_on_interrupt()}")
        return 128 + received[-1]


async def _cancel_on_signal(command: Coroutine[Any, Any, int], received: list[int]) -> int:
    """Await a command. SIGTERM and SIGHUP cancel it, as asyncio.run does for SIGINT.

    Otherwise they would leave partial files and a hidden cursor.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def cancel(signum: int) -> None:
        received.append(signum)
        task.cancel()  # type: ignore[union-attr]  # asyncio.run has made a task

    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            loop.add_signal_handler(signum, cancel, signum)
    return await command
