"""Results on stdout, errors and log records on stderr, and exit codes."""

import json
import logging
import sys
from pathlib import Path
from typing import IO, cast

import attrs
from rich.console import Console
from rich.text import Text

from .. import errors
from ..errors import MoltinJobsError, single_line
from ..models import Job
from .messages import reword
from .streams import SafeStream, discard, write_line

Outcome = Job | MoltinJobsError
"""End of a lookup or a wait. A job that has failed is a `Job`."""
EXIT_CODES: dict[int, tuple[str, tuple[type[MoltinJobsError], ...]]] = {
    0: ("all succeeded", ()),
    1: ("a job failed", (errors.JobFailedError,)),
    2: ("usage or configuration", (errors.ConfigurationError, errors.InvalidJobIdError)),
    3: ("timed out", (errors.JobTimeoutError,)),
    4: ("authentication", (errors.AuthenticationError, errors.PermissionDeniedError)),
    5: ("not found", (errors.JobNotFoundError,)),
    6: ("network or service", (MoltinJobsError,)),
    130: ("interrupted", ()),
    129: ("ended by SIGHUP", ()),
    141: ("stdout was closed", ()),
    143: ("ended by SIGTERM", ()),
}
"""Exit codes with their meaning, and the errors that lead to them. The first that fits is used."""


def exit_code(outcome: Outcome) -> int:
    """Return the exit code for one outcome."""
    # A file that was not found may be missing because its job failed.
    job = outcome.job if isinstance(outcome, errors.JobNotFoundError) else outcome
    error = (errors.failure_of(job) if isinstance(job, Job) else None) or outcome
    return next(
        (code for code, (_, classes) in EXIT_CODES.items() if isinstance(error, classes)), 0
    )


def _stderr_console() -> Console:
    stream = SafeStream(sys.stderr)
    # Without force_terminal, FORCE_COLOR would bring the live table into the log of a CI run.
    return Console(file=cast("IO[str]", stream), force_terminal=stream.isatty())


@attrs.define
class Output:
    """Output of one command."""

    as_json: bool = False
    is_quiet: bool = False
    base_url_name: str = "EPCC_API_BASE_URL"
    """Option or variable that set the base URL."""
    console: Console = attrs.field(factory=_stderr_console)
    """On stderr."""
    is_live: bool = attrs.field(default=False, init=False)
    """Whether the console shows a live table, above which lines must be printed."""
    _printed: set[str] = attrs.field(factory=set, init=False)

    @property
    def has_terminal(self) -> bool:
        """Whether the console can show something that changes."""
        return self.console.is_terminal and not self.console.is_dumb_terminal and not self.is_quiet

    def print_outcome(self, job_id: str, outcome: Outcome) -> int:
        """Print a job to stdout or an error to stderr, and return the exit code."""
        if isinstance(outcome, Job):
            self.print_job(job_id, outcome)
        else:
            if self.as_json:
                message = reword(str(outcome), self.base_url_name)
                document = {"id": job_id, "exception": type(outcome).__name__, "message": message}
                self._print_result(json.dumps(document))
            self.print_error(outcome, job_id)
        return exit_code(outcome)

    def print_job(self, job_id: str, job: Job) -> None:
        """Print a job to stdout."""
        columns = (job_id, job.status, job.error or job.file_url)
        line = "\t".join(single_line(text) for text in columns if text)
        self._print_result(json.dumps(job.to_dict()) if self.as_json else line)

    def print_saved(self, job_id: str, path: Path) -> None:
        """Print the path of a downloaded file to stdout."""
        document = json.dumps({"id": job_id, "saved_as": str(path)})
        self._print_result(document if self.as_json else f"{job_id}\t{path}")

    def print_error(self, error: MoltinJobsError, job_id: str = "") -> None:
        """Print an error to stderr. One that is not about a single job is printed once."""
        key = str(error)
        if isinstance(error, errors.AuthenticationError):
            key = key.replace(f"job {job_id}", "")  # each job gets the same response
        if key not in self._printed:
            self._printed.add(key)
            self.print_note(f"error: {error}")

    def print_note(self, text: str) -> None:
        """Print a line to stderr, without control characters."""
        lines = reword(text, self.base_url_name).split("\n")
        self.console.print(Text("\n".join(map(_escape, lines))), soft_wrap=True)

    def _print_result(self, line: str) -> None:
        if self.is_live and sys.stdout is not None and sys.stdout.isatty():
            self.console.print(Text(line), soft_wrap=True)
            return
        try:
            write_line(line)
        except BrokenPipeError:  # the reader has read enough
            raise
        except OSError as error:
            discard(sys.stdout)
            raise errors.ConfigurationError(f"standard output: {error.strerror}") from None


class OutputHandler(logging.Handler):
    """Print log records, above the live table if there is one.

    Print one warning per error class, or all of them with --verbose.
    """

    def __init__(self, output: Output, level: int) -> None:
        super().__init__(level)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self._output = output
        self._printed: set[object] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        error = getattr(record, "error", None)
        if error is None or self.level == logging.DEBUG or error not in self._printed:
            self._printed.add(error)
            self._output.print_note(self.format(record))


def _escape(line: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
