"""Execution of a command: log, signals, and the exit code."""

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

from ..errors import MoltinJobsError
from .output import Output, OutputHandler, exit_code
from .streams import discard

_SIGNALS = () if sys.platform == "win32" else (signal.SIGTERM, signal.SIGHUP)
_logger = logging.getLogger("moltin_jobs")


def run(
    command: Coroutine[Any, Any, int], output: Output, level: int = logging.WARNING
) -> NoReturn:
    """Run a command, print log records from ``level`` on, and exit with the code it returns."""
    handler, previous = OutputHandler(output, level), _logger.level
    _logger.addHandler(handler)
    if level < logging.WARNING:  # otherwise the library need not make the records
        _logger.setLevel(level)
    try:
        sys.exit(_exit_code(command, output))
    finally:
        _logger.removeHandler(handler)
        _logger.setLevel(previous)


def _exit_code(command: Coroutine[Any, Any, int], output: Output) -> int:
    received: list[int] = []
    try:
        return asyncio.run(_cancel_on_signal(command, received))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + received[0]
    except BrokenPipeError:  # the reader of stdout has read enough
        discard(sys.stdout)
        return 141
    except MoltinJobsError as error:
        output.print_error(error)
        return exit_code(error)


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
