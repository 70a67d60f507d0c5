"""Warnings of content that the service does not document."""

from __future__ import annotations

import logging

from ..errors import single_line
from ..models import Job, job_label

_MAX_STATUSES = 100
"""Largest number of statuses that a session logs. A broken service must not fill the memory or the
log."""
_MAX_LIST_PROBLEMS = 200
"""The same for problems of lists. One list alone may have 101, since a hundred items are described
and the others counted."""

_log = logging.getLogger("moltin_jobs.polling")


class ContentLog:
    """Log undocumented statuses and unreadable items of lists, each text once in a session."""

    def __init__(self) -> None:
        self._spellings: set[str] = set()
        self._problems: set[str] = set()

    def log_unknown_status(self, job: Job) -> None:
        """Log the undocumented status of ``job``."""
        spelling = single_line(job.status)
        if _remember(spelling, self._spellings, _MAX_STATUSES):
            _log.warning(
                "%s %s: status %r is not documented, and is treated as not terminal",
                job_label(job.kind),
                single_line(job.id),
                spelling,
                extra={"job_id": job.id, "job_kind": job.kind, "job_status": spelling},
            )

    def log_problem(self, subject: str, problem: str) -> None:
        """Log a problem of a list."""
        text = f"{subject}: {problem}"
        if _remember(text, self._problems, _MAX_LIST_PROBLEMS):
            _log.warning("%s", text)


def _remember(text: str, logged: set[str], limit: int) -> bool:
    """Remember ``text``, and return whether it is new and within the limit."""
    if text in logged or len(logged) >= limit:
        return False
    logged.add(text)
    return True
