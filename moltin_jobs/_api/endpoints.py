"""Requests of the API, one function for each endpoint, and their responses.

Both are independent of how they are sent.
"""

from __future__ import annotations

import json
import types
import urllib.parse
from collections.abc import Mapping

import attrs

from ..kinds import ORDERS, JobKind
from ..settings import Secret

MAX_BODY = 1 << 20
"""Largest body of a response in bytes, after decompression. A job has a few hundred bytes."""
MAX_LIST_BODY = 1 << 24
"""Largest body of a list of jobs in bytes. It holds tens of thousands of jobs."""
PAGE_SIZE = 100
"""Largest number of items in a page that the services allow."""
MAY_EXIST = "The job may have been created: check list_jobs() before you create it again."
RELEASE_MAY_EXIST = (
    "A release may have been created: the list of releases contains it once it is published. "
    "A further one would remove the oldest."
)
_NO_HEADERS: Mapping[str, str] = types.MappingProxyType({})


@attrs.define
class Request:
    """One request of the API."""

    method: str
    path: str
    description: str
    """Subject of the messages about this request."""
    job_id: str | None = None
    kind: JobKind = ORDERS
    query: Mapping[str, str] | None = None
    body: bytes | None = attrs.field(default=None, repr=False)
    content_type: str = "application/json"
    """Type of ``body``."""
    max_body: int = MAX_BODY
    """Largest body of the response, in bytes after decompression."""
    uncertain_advice: str | None = None
    """Advice after a failure of a request that may have taken effect. ``None`` for a request that
    may be sent twice."""
    client_secret: Secret | None = None
    """Set for a token request, which is sent without a token."""

    @property
    def is_idempotent(self) -> bool:
        """Whether sending the request twice does no harm."""
        return self.uncertain_advice is None


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
    """Only for a status other than 2xx. A list has its ``Date``."""
    url: str = ""
    """Address of the request. Only for a status other than 2xx."""
    timestamp: float = 0.0
    """Seconds since the epoch by the local clock. Not set for 2xx, except for a list."""


def get_job(job_id: str, kind: JobKind = ORDERS) -> Request:
    """Return the request for one job."""
    path = f"{kind.collection}/{job_id}"
    return Request("GET", path, f"{kind.label} {job_id}", job_id, kind)


def get_file(job_id: str, kind: JobKind = ORDERS) -> Request:
    """Return the request for the address of a job's file."""
    description = f"the file of {kind.label} {job_id}"
    if not kind.has_file_endpoint:  # the document of the job contains the address
        return Request("GET", f"{kind.collection}/{job_id}", description, job_id, kind)
    return Request("GET", f"{kind.collection}/{job_id}/file", description, job_id, kind)


def list_jobs(kind: JobKind = ORDERS, offset: int = 0) -> Request:
    """Return the request for all jobs, or for a page of them that begins at ``offset``."""
    description = f"the list of {kind.label}s"
    query = _page(offset) if kind.is_paged else None
    return Request(
        "GET", kind.collection, description, kind=kind, query=query, max_body=MAX_LIST_BODY
    )


def list_problems(job_id: str, kind: JobKind, offset: int = 0) -> Request:
    """Return the request for a page of the problems of a job, which begins at ``offset``."""
    return Request(
        "GET",
        f"{kind.collection}/{job_id}/errors",
        f"the problems of {kind.label} {job_id}",
        job_id,
        kind,
        query=_page(offset),
        max_body=MAX_LIST_BODY,
    )


def cancel_job(job_id: str, kind: JobKind) -> Request:
    """Return the request that cancels a job."""
    return Request(
        "POST",
        f"{kind.collection}/{job_id}/cancel",
        f"the cancellation of {kind.label} {job_id}",
        job_id,
        kind,
        body=b"{}",
        uncertain_advice="The job may have been cancelled: look it up before you try again.",
    )


def create_job(
    job_type: str,
    filter: str | None,  # noqa: A002 (the service's name)
    *,
    allow_duplicate: bool = False,
) -> Request:
    """Return the request that creates an order job."""
    data = {"type": "job", "job_type": job_type}
    if filter is not None:
        data["filter"] = filter
    return Request(
        "POST",
        ORDERS.collection,
        "the creation of a job",
        body=json.dumps({"data": data}).encode(),
        uncertain_advice=None if allow_duplicate else MAY_EXIST,
    )


def create_release(kind: JobKind, export_full_delta: bool) -> Request:
    """Return the request that publishes a catalog."""
    return Request(
        "POST",
        kind.collection,
        f"the publication of catalog {kind.parent_id}",
        kind=kind,
        body=json.dumps({"data": {"export_full_delta": export_full_delta}}).encode(),
        uncertain_advice=RELEASE_MAY_EXIST,
    )


def _page(offset: int) -> dict[str, str]:
    return {"page[limit]": str(PAGE_SIZE), "page[offset]": str(offset)}


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
