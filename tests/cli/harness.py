"""Means to run the command line: in this process, in another one, and on a terminal."""

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Self
from unittest import mock

import pyte
import pytest
from click.testing import CliRunner, Result

from moltin_jobs.cli.commands import commands
from moltin_jobs.testing import Simulator

COMMAND = [sys.executable, "-m", "moltin_jobs"]
FAILURE = "No results matched the supplied filter"
PATIENCE = 60.0
"""Seconds for what takes one or two, on a busy machine."""


def run(*arguments: str, stdin: str | bytes | IO[bytes] | None = None) -> Result:
    """Run a command in this process."""
    result = CliRunner().invoke(commands, arguments, prog_name="moltin-jobs", input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


def json_lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def looked_up(store: Simulator) -> list[str]:
    """Return the ids of the requests for single jobs, in order."""
    return [request.job_id for request in store.requests if request.job_id]


def list_requests(store: Simulator) -> int:
    """Return the number of requests for the list of order jobs."""
    return sum(request.path == "/v2/jobs" for request in store.requests)


def progress_texts(stderr: str) -> list[str]:
    """Return the lines of progress without time and id."""
    lines = [line for line in stderr.splitlines() if line.startswith(" ")]
    return [line.split(maxsplit=3)[3] for line in lines]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def signal_when(
    condition: Callable[[], bool], signum: signal.Signals = signal.SIGINT
) -> Iterator[None]:
    """Send this process a signal as soon as the condition holds."""

    def watch() -> None:
        wait_until(condition)
        os.kill(os.getpid(), signum)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE)


@contextlib.contextmanager
def process(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process of its own."""
    with subprocess.Popen(  # noqa: S603 (our own command)
        [*COMMAND, *arguments],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()


def run_shell(
    script: str, *, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script of a shell, in which ``"$@"`` is the command."""
    return subprocess.run(  # noqa: S603 (our own command)
        ["/bin/sh", "-c", script, "sh", *COMMAND],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        check=False,
    )


class Terminal:
    """A pseudo-terminal, and what is on its screen."""

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self.width, self.height = width, height
        self._main, self.end = pty.openpty()
        termios.tcsetwinsize(self.end, (height, width))
        self._received = b""
        self._reader = threading.Thread(target=self._receive)
        self._is_open = True

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, *arguments: str, with_stdout: bool = False) -> tuple[int, str]:
        """Run a command in this process, with stderr on the terminal.

        Returns the exit code, and what was written to stdout if that was not on the terminal too.
        """
        size = {"COLUMNS": str(self.width), "LINES": str(self.height)}
        stdout = io.StringIO()
        with (
            open(os.dup(self.end), "w", encoding="utf-8") as stream,
            mock.patch.dict(os.environ, {"TERM": "xterm", **size}),
            contextlib.redirect_stderr(stream),
            contextlib.redirect_stdout(stream if with_stdout else stdout),
            pytest.raises(SystemExit) as caught,
        ):
            commands.main(arguments, prog_name="moltin-jobs")
        assert isinstance(caught.value.code, int)
        return caught.value.code, stdout.getvalue()

    def screen(self) -> list[str]:
        """Return the lines that the terminal shows, without empty ones at either end."""
        screen = pyte.Screen(self.width, self.height)
        pyte.ByteStream(screen).feed(self._received)
        return "\n".join(line.rstrip() for line in screen.display).strip("\n").splitlines()

    def close(self) -> str:
        """Return everything that was written to the terminal."""
        if self._is_open:
            self._is_open = False
            os.close(self.end)
            self._reader.join(PATIENCE)
        return self._received.decode()

    def _receive(self) -> None:
        with contextlib.suppress(OSError), open(self._main, "rb", buffering=0) as stream:
            while chunk := stream.read(65536):  # fails when the other end is closed everywhere
                self._received += chunk
