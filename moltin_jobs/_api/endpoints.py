"""Requests of the API, one function for each endpoint."""

from __future__ import annotations

import json
import urllib.parse

from ..settings import Secret
from .messages import MAX_LIST_BODY, Request


def get_job(job_id: str) -> Request:
    """Return the request for one job."""
    return Request("GET", f"/v2/jobs/{job_id}", f"job {job_id}", job_id)


def get_file(job_id: str) -> Request:
    """Return the request for the address of a job's file."""
    return Request("GET", f"/v2/jobs/{job_id}/file", f"the file of job {job_id}", job_id)


def list_jobs() -> Request:
    """Return the request for all jobs."""
    return Request("GET", "/v2/jobs", "the list of jobs", max_body=MAX_LIST_BODY)


def create_job(job_type: str, filter: str | None) -> Request:  # noqa: A002 (the service's name)
    """Return the request that creates a job."""
    data = {"type": "job", "job_type": job_type}
    if filter is not None:
        data["filter"] = filter
    body = json.dumps({"data": data}).encode()
    return Request("POST", "/v2/jobs", "the creation of a job", body=body, is_idempotent=False)


def request_token(client_id: str, client_secret: Secret) -> Request:
    """Return the request for a token, with client credentials."""
    form = urllib.parse.urlencode(
        {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret.value,
        }
    )
    return Request(
        "POST",
        "/oauth/access_token",
        "the token request",
        body=form.encode(),
        content_type="application/x-www-form-urlencoded",
        client_secret=client_secret,
    )
