"""JSON documents of the simulator, in the two dialects that the vendor has documented."""

import datetime
import http
import random
import time
from typing import Any

from .jobs import SimulatedJob, loop_time, random_uuid

STATUS_NAMES = {  # pending, running, succeeded, failed
    "current": ("pending", "started", "success", "failed"),
    "older": ("pending", "processing", "complete", "failed"),
}
NEVER_UPDATED = "0001-01-01T00:00:00Z"
NOT_FOUND = {
    "title": "Resource Not Found",
    "status": 404,
    "detail": "The resource you are requesting does not exist",
}
SERVER_ERROR = "There was an internal server error, you can report with your request id."


class Documents:
    """Make the JSON documents of one simulator."""

    def __init__(self, rng: random.Random, dialect: str, not_found: str) -> None:
        if dialect not in STATUS_NAMES:
            raise ValueError(f"dialect must be 'current' or 'older', not {dialect!r}")
        if not_found not in ("bare", "list"):
            raise ValueError(f"not_found must be 'bare' or 'list', not {not_found!r}")
        self._random = rng
        self._names = STATUS_NAMES[dialect]
        self._not_found = NOT_FOUND if not_found == "bare" else {"errors": [NOT_FOUND]}
        self._epoch = 0.0
        self._url = self._files_url = ""
        self.is_current = dialect == "current"

    def start(self, url: str, files_url: str) -> None:
        """Set the addresses for links, and the clock for timestamps."""
        self._url, self._files_url = url, files_url
        self._epoch = time.time() - loop_time()

    def describe_job(self, job: SimulatedJob) -> dict[str, Any]:
        """Describe a job as it is now."""
        status, updated_at = job.get_status(loop_time(), self._names)
        has_file = status == self._names[2]
        fields: dict[str, Any] = {
            "type": "job",
            "id": job.id,
            "job_type": job.job_type,
            "status": status,
            "link": {"href": f"{self._files_url}/{job.id}.csv" if has_file else ""},
            "links": {"self": f"{self._url}/v2/jobs/{job.id}"},
            "timestamps": {
                "created_at": self._format(job.created_at),
                "updated_at": NEVER_UPDATED if updated_at is None else self._format(updated_at),
            },
        }
        if status.lower() == "failed" and job.script.error is not None:
            fields["error"] = job.script.error
        elif self.is_current:
            fields["error"] = ""
        return fields

    def describe_token(self, token: str, lifetime: float) -> dict[str, Any]:
        """Describe a token that was issued now."""
        return {
            "expires": int(self._epoch + loop_time() + lifetime),
            "identifier": "client_credentials",
            "expires_in": int(lifetime),
            "access_token": token,
            "token_type": "Bearer",
        }

    def describe_error(self, status: int, title: str | None) -> dict[str, Any]:
        """Describe an error, by default under the usual title of its status."""
        if status == 404:
            return self._not_found
        error: dict[str, Any] = {"status": status, "title": title or http.HTTPStatus(status).phrase}
        if status == 500:
            error |= {"detail": SERVER_ERROR, "request_id": str(random_uuid(self._random))}
        return {"errors": [error]}

    def _format(self, at: float) -> str:
        nanoseconds = int((self._epoch + at) * 1e9)
        moment = datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09}Z"
