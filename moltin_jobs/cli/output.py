"""Results on stdout, everything else on stderr, and exit codes."""

import contextlib
import contextvars
import io
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TextIO, cast

import attrs
import click
from rich.console import Console
from rich.text import Text

from .. import errors
from ..errors import JobFailedError, MoltinJobsError, single_line
from ..kinds import ORDERS, JobKind, parse
from ..models import Job, JobProblem
from .exit_codes import Outcome, exit_code
from .messages import reword
from .options import Timeout
from .places import Place
from .times import duration_of, format_clock, format_moment

in_background = contextvars.ContextVar("in_background", default=False)
"""Whether the current task only adds to the display. Then only --verbose prints its warnings."""


class SafeStream:
    """Stream whose failures are ignored: a broken stderr must not lose results on stdout."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream or io.StringIO()  # None if it was closed before the start

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        """Write to the stream, or to nothing once it has failed."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            _discard(self._stream)

    def flush(self) -> None:
        """Do nothing: each write is flushed."""


STDOUT = Path("-")
"""Path that stands for stdout."""


def write_line(line: str) -> None:
    """Write a line to stdout. Raises what `write_bytes` raises."""
    # Not click.echo: it replaces an ASCII stdout, and so loses the errors="backslashreplace" that
    # `__main__` sets.
    _write(lambda stdout: stdout.write(f"{line}\n"))


def write_bytes(chunk: bytes) -> None:
    """Write a part of a file to stdout.

    Raises:
        BrokenPipeError: the reader of stdout has left.
        ConfigurationError: stdout cannot be written to.
    """
    _write(lambda stdout: stdout.buffer.write(chunk))


def _write(write: Callable[[TextIO], object]) -> None:
    if sys.stdout is None:  # it was closed before the start
        return
    try:
        write(sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise errors.ConfigurationError(f"standard output: {error.strerror}") from None


def _discard(stream: TextIO) -> None:
    """Let a broken stream write to the null device. Its flush at exit would fail again."""
    with contextlib.suppress(OSError):  # not every stream has a descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def reason_of(outcome: Outcome | None) -> str:
    """Return why a job has failed, or an empty string."""
    problems = outcome.problems if isinstance(outcome, JobFailedError) else ()
    error = outcome.error if isinstance(outcome, Job | JobFailedError) else None
    return single_line(str(problems[0]) if problems else error or "")


def _result_of(outcome: Outcome, job: Job) -> str:
    """Return why a job has failed, or the address of its file."""
    # An address may be longer than a message.
    return reason_of(outcome) or single_line(job.file_url or "", limit=1 << 16)


def _stderr_console() -> Console:
    stream = SafeStream(sys.stderr)
    # Without force_terminal, FORCE_COLOR would bring the live table into the log of a CI run.
    return Console(file=cast("IO[str]", stream), force_terminal=stream.isatty())


@attrs.define
class Output:
    """Output of one command."""

    as_json: bool = False
    is_quiet: bool = False
    base_url: str | None = None
    """Value of the option."""
    timeout: Timeout | None = None
    """Value of the option."""
    console: Console = attrs.field(factory=_stderr_console)
    """On stderr."""
    is_live: bool = False
    """Whether the console shows a live table, above which lines must be printed."""
    advice_on_interrupt: Callable[[], str] | None = None
    """Returns how to continue after an interruption."""
    _has_file_on_stdout: bool = attrs.field(default=False, init=False)
    _printed: set[str] = attrs.field(factory=set, init=False)

    def command(
        self,
        name: str,
        *arguments: str,
        kind: JobKind = ORDERS,
        file_index: int | None = None,
        wait: bool = False,
    ) -> str:
        """Return a command line for a shell, with the same base URL."""
        options = ["--wait"] if wait else []
        options += ["--base-url", self.base_url] if self.base_url else []
        if kind is not ORDERS:
            options += ["--kind", kind.name]
        if file_index is not None:
            options += ["--file-index", str(file_index)]
        if any(argument.startswith("-") and argument != "-" for argument in arguments):
            options = [*options, "--"]  # the arguments after it are not options
        return shlex.join(["moltin-jobs", name, *options, *arguments])

    def reserve_stdout(self, path: Path) -> None:
        """Print nothing but the content of the file to stdout if ``path`` is `STDOUT`."""
        if path == STDOUT and self.as_json:
            raise click.UsageError("--json and - as FILE exclude each other")
        self._has_file_on_stdout = path == STDOUT

    @property
    def has_terminal(self) -> bool:
        """Whether the console can show something that changes."""
        return self.console.is_terminal and not self.console.is_dumb_terminal and not self.is_quiet

    def print_outcome(self, job_id: str, outcome: Outcome) -> int:
        """Print a job or a path to stdout or an error to stderr, and return the exit code."""
        document: dict[str, object] = {"id": job_id}
        line = ""
        if isinstance(outcome, Job | JobFailedError):
            job = outcome.job if isinstance(outcome, JobFailedError) else outcome
            document = job.to_dict()
            if isinstance(outcome, JobFailedError) and parse(job.kind).problem_message:
                document["problems"] = [attrs.asdict(problem) for problem in outcome.problems]
            columns = (single_line(job_id), single_line(job.status), _result_of(outcome, job))
            line = "\t".join(filter(None, columns))
        elif isinstance(outcome, Path):
            document["saved_as"] = str(outcome)
            line = f"{job_id}\t{outcome}"
        else:
            document["exception"] = type(outcome).__name__
            document["message"] = self.reword(str(outcome))
        if self.as_json:
            line = json.dumps(document)
        if self._has_file_on_stdout:
            if isinstance(outcome, JobFailedError):
                self.print_note(line.replace("\t", "  "))
        elif self.is_live and sys.stdout is not None and sys.stdout.isatty() and line:
            self.console.print(Text(line), soft_wrap=True)
        elif line:
            write_line(line)
        if isinstance(outcome, MoltinJobsError) and not isinstance(outcome, JobFailedError):
            self.print_error(outcome)
        return exit_code(outcome)

    def print_listed_job(self, job: Job, place: Place | None) -> None:
        """Print a job to stdout, with the time of its creation and its duration.

        Unlike the line of `print_outcome`, this one always has the same columns. ``place`` is shown
        if the job has neither an error nor a file.
        """
        created = "" if job.created_at is None else format_moment(job.created_at)
        duration = duration_of(job)
        columns = (
            single_line(job.id),
            single_line(job.status),
            created,
            "" if duration is None else format_clock(duration),
            _result_of(job, job) or (place.text if place else ""),
        )
        write_line(json.dumps(job.to_dict()) if self.as_json else "\t".join(columns))

    def print_problem(self, problem: JobProblem) -> None:
        """Print a problem of a job to stdout."""
        document = attrs.asdict(problem)
        write_line(json.dumps(document) if self.as_json else single_line(str(problem)))

    def print_error(self, error: MoltinJobsError) -> None:
        """Print an error to stderr, each text once, and only the first authentication error."""
        # Each job gets the same response to rejected credentials.
        key = "" if isinstance(error, errors.AuthenticationError) else str(error)
        if key not in self._printed:
            self._printed.add(key)
            self.print_note(f"error: {self.reword(str(error))}")

    def print_hint(self, text: str) -> None:
        """Print a note, unless the user wants errors only."""
        if not self.is_quiet:
            self.print_note(text)

    def print_note(self, text: str) -> None:
        """Print a line to stderr, without control characters."""
        text = "".join(
            c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
        )
        self.console.print(Text(text), soft_wrap=True)

    def reword(self, text: str) -> str:
        """Return a message of the library in the words of the command line."""
        if self.timeout is not None:
            text = text.replace(f"within {self.timeout:g} s", f"within {self.timeout.text}")
        return reword(text, "--base-url" if self.base_url else "EPCC_API_BASE_URL")
