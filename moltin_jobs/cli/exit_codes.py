"""Exit codes of the commands."""

from pathlib import Path

from .. import errors
from ..errors import MoltinJobsError
from ..models import Job

Outcome = Job | Path | MoltinJobsError
"""End of a lookup, a wait or a download. A lookup of a job that has failed ends with the `Job`, a
wait with the `JobFailedError`, which contains the problems."""
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
