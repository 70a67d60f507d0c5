"""Execution of a command: common options, session, log, signals, and the exit code."""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NoReturn

import aiohttp
import click

from .._http.addresses import parse_base_url, parse_url
from ..errors import ConfigurationError, MoltinJobsError, describe
from ..session import JobsSession, SessionOptions
from .exit_codes import exit_code
from .output import Output, in_background

_SIGNALS = () if sys.platform == "win32" else (signal.SIGTERM, signal.SIGHUP)


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
        output = Output(as_json, quiet, base_url, arguments.get("timeout"))
        level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING

        async def run_in_session() -> int:
            async with _open_session(base_url) as session:
                return await command(session, output, **arguments)

        run(run_in_session(), output, level)

    return run_command


@contextlib.asynccontextmanager
async def _open_session(base_url: str | None) -> AsyncIterator[JobsSession]:
    """Open a session with the credentials, the base URL and the proxy of the environment.

    Args:
        base_url: value of the option, which has precedence over the environment.
    """
    options = SessionOptions()
    if base_url:
        parse_base_url(base_url, "--base-url")
        options["base_url"] = base_url
    address = base_url or os.environ.get("EPCC_API_BASE_URL") or "https://api.moltin.com"
    api = parse_url(address)
    # Only a loopback address may be http. A proxy could not reach such an address, and would see
    # the secrets.
    is_loopback = api is not None and api.scheme == "http"
    if api is not None and not is_loopback and not urllib.request.proxy_bypass(api.host or ""):
        _check_proxies()
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), trust_env=not is_loopback
    ) as http_session:
        options["http_session"] = http_session
        async with JobsSession.from_env(**options) as session:
            yield session


def _check_proxies() -> None:
    """Reject addresses of proxies that aiohttp would ignore or misread.

    It uses the proxy for https only, and reads those for other schemes.
    """
    for scheme, proxy in urllib.request.getproxies().items():
        url = parse_url(proxy)
        is_misread = url is None and scheme in ("http", "ws", "wss")
        if is_misread or (scheme == "https" and (url is None or url.scheme != "http")):
            address = describe(proxy.rpartition("@")[2])  # without credentials
            name = f"{scheme.upper()}_PROXY"
            raise ConfigurationError(f"{name} must be http://HOST:PORT, not {address}")


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
        if in_background.get() and self.level > logging.DEBUG:
            return
        key = getattr(record, "error", None) or record.getMessage()
        if self.level == logging.DEBUG or key not in self._printed:
            self._printed.add(key)
            self._output.print_note(self._output.reword(self.format(record)))


def run(
    command: Coroutine[Any, Any, int], output: Output, level: int = logging.WARNING
) -> NoReturn:
    """Run a command, print log records from ``level`` on, and exit with the code it returns."""
    handler = _OutputHandler(output, level)
    root, logger = logging.getLogger(), logging.getLogger("moltin_jobs")
    previous = logger.level
    root.addHandler(handler)
    # Only with --verbose: otherwise the library would create debug records that are not printed.
    if level < logging.WARNING:
        logger.setLevel(level)
    try:
        sys.exit(_run_and_get_exit_code(command, output))
    finally:
        logger.setLevel(previous)
        root.removeHandler(handler)


def _run_and_get_exit_code(command: Coroutine[Any, Any, int], output: Output) -> int:
    signals = [int(signal.SIGINT)]
    try:
        return asyncio.run(_cancel_on_signal(command, signals))
    except MoltinJobsError as error:
        output.print_error(error)
        return exit_code(error)
    except BrokenPipeError:  # the reader of stdout has read enough
        return 141
    except (KeyboardInterrupt, asyncio.CancelledError):
        if output.advice_on_interrupt is not None:
            output.print_note(f"interrupted. {output.advice_on_interrupt()}")
        return 128 + signals[-1]


async def _cancel_on_signal(command: Coroutine[Any, Any, int], signals: list[int]) -> int:
    """Await a command. SIGTERM and SIGHUP cancel it, as asyncio.run does for SIGINT.

    Otherwise they would leave partial files and a hidden cursor.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def cancel(signum: int) -> None:
        signals.append(signum)
        task.cancel()  # type: ignore[union-attr]  # asyncio.run has made a task

    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            loop.add_signal_handler(signum, cancel, signum)
    return await command
