"""Warnings of statuses that the service does not document."""

from __future__ import annotations

import logging

from ..errors import single_line
from ..models import Job

_MAX_SPELLINGS = 100
"""Spellings that are remembered, so that a broken service does not fill the memory or the log."""

_log = logging.getLogger("moltin_jobs.polling")


class StatusLog:
    """Log each undocumented status once in a session."""

    def __init__(self) -> None:
        self._spellings: set[str] = set()

    def warn(self, job: Job) -> None:
        """Log the undocumented status of ``job``, unless it was logged before."""
        spelling = single_line(job.status)
        if spelling not in self._spellings and len(self._spellings) < _MAX_SPELLINGS:
            self._spellings.add(spelling)
            _log.warning(
                "job %s: status %r is not documented, and is treated as not terminal",
                single_line(job.id),
                spelling,
                extra={"job_id": job.id, "job_status": spelling},
            )

    def log_unreadable(self, problem: str) -> None:
        """Log an item of a list that cannot be read as a job."""
        _log.warning("a job of the list cannot be read: %s", problem)
