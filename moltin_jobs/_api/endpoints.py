"""Requests of the API, one function for each endpoint, and their responses.

Both are independent of how they are sent.
"""

from __future__ import annotations

import json
import types
import urllib.parse
from collections.abc import Mapping

import attrs

from ..settings import Secret

MAX_BODY = 1 << 20
"""Largest body of a response in bytes, after decompression. A job has a few hundred bytes."""
MAX_LIST_BODY = 1 << 24
"""Largest body of a list of jobs in bytes. It holds tens of thousands of jobs."""
_NO_HEADERS: Mapping[str, str] = types.MappingProxyType({})


@attrs.define
class Request:
    """One request of the API."""

    method: str
    path: str
    description: str
    """Subject of the messages about this request."""
    job_id: str | None = None
    body: bytes | None = attrs.field(default=None, repr=False)
    content_type: str = "application/json"
    """Type of ``body``."""
    max_body: int = MAX_BODY
    """Largest body of the response, in bytes after decompression."""
    is_idempotent: bool = True
    """Whether sending the request twice does no harm."""
    client_secret: Secret | None = None
    """Set for a token request, which is sent without a token."""


@attrs.define
class Response:
    """One response. A ``body`` that is longer than the request allows is not complete."""

    status: int
    body: bytes = attrs.field(repr=False)
    received_at: float = 0.0
    """Moment of the loop's clock at which the response began."""
    secret: Secret | None = None
    """Token or client secret of the request, which the response may repeat."""
    headers: Mapping[str, str] = attrs.field(default=_NO_HEADERS, repr=False)
    """Only for a status other than 2xx."""
    url: str = ""
    """Address of the request. Only for a status other than 2xx."""
    timestamp: float = 0.0
    """Seconds since the epoch, to read a ``Retry-After`` that is a date. Not set for 2xx."""


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
