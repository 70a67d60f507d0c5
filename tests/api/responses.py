"""Responses for the tests of this package, the documented ones among them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from moltin_jobs._api import endpoints
from moltin_jobs._api.endpoints import Response
from moltin_jobs._api.parsing import parse_job
from moltin_jobs.models import Job
from moltin_jobs.settings import Secret

URL = "https://api.moltin.com/v2/jobs/a"
NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date in RFC 9110
TOKEN = "t0ken-of-the-session/+"
CLIENT_SECRET = Secret("5ecret-of-the-client")

GET_JOB = endpoints.get_job("a")
GET_FILE = endpoints.get_file("a")
LIST_JOBS = endpoints.list_jobs()
CREATE_JOB = endpoints.create_job("order_export", None)
REQUEST_TOKEN = endpoints.request_token("the-client", CLIENT_SECRET)

MINIMAL = {"id": "a", "status": "pending"}
PENDING_JOB = Job(id="a", status="pending")
PENDING = b'{"data": {"id": "a", "status": "pending"}}'

# As in the service's documents.
FAILED = (
    b'{"data":{"id":"974c9db4-38da-4dbf-90c2-33eed5f3e77c","type":"job",'
    b'"job_type":"order_export","status":"failed",'
    b'"error":"No results matched the supplied filter","link":{"href":""},'
    b'"links":{"self":'
    b'"https://useast.api.elasticpath.com/v2/jobs/974c9db4-38da-4dbf-90c2-33eed5f3e77c"},'
    b'"timestamps":{"created_at":"2018-10-04T11:08:49.156490335Z",'
    b'"updated_at":"2018-10-04T11:08:49.162867081Z"}}}'
)
SCHEMA_EXAMPLE = b"""{
"data": {
"id": "00000000-0000-0000-0000-000000000000",
"type": "job",
"job_type": "order_export",
"status": "failed",
"error": "No results matched the supplied filter",
"timestamps": {
"created_at": "2018-10-04T11:08:49.156490335Z",
"updated_at": "2018-10-04T11:08:49.162867081Z"
},
"links": {
"self": "https://useast.api.elasticpath.com/v2/jobs/974c9db4-38da-4dbf-90c2-33eed5f3e77c"
},
"link": {
"href": "string"
}
}
}"""
OLDER_PENDING = (
    b'{"data":{"type":"job","id":"v4154f5b-df0c-4781-be28-c2d5669b29f9",'
    b'"job_type":"order_export","link":{"href":""},'
    b'"links":{"self":'
    b'"http://exporter.dev.molt.in/v2/jobs/v4154f5b-df0c-4781-be28-c2d5669b29f9"},'
    b'"status":"pending","timestamps":{"created_at":"2018-08-20T15:01:13.0194505Z",'
    b'"updated_at":"0001-01-01T00:00:00Z"}}}'
)
BARE_404 = (
    b'{"title":"Resource Not Found","status":404,'
    b'"detail":"The resource you are requesting does not exist"}'
)
LISTED_500 = (
    b'{"errors":[{"status":500,"title":"Internal Server Error","detail":"There was an internal '
    b'server error, you can report with your request id.",'
    b'"request_id":"635da56d-75a1-43cd-b696-7ab119756b3a"}]}'
)
SCHEMA_500 = b"""{
"errors": [
{
"status": 500,
"title": "Internal server error",
"detail": "An internal error has occurred.",
"request_id": "00000000-0000-0000-0000-000000000000",
"meta": {
"missing_ids": [
"e7d50bd5-1833-43c0-9848-f9d325b08be8"
]
}
}
]
}"""
ISSUED_TOKEN = (
    b'{"expires": 1524486008, "identifier": "client_credentials", "expires_in": 3600, '
    b'"access_token": "xa3521ca621113e44eeed9232fa3e54571cb08bc", "token_type": "Bearer"}'
)


def make_response(
    body: bytes = b"",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    secret: str | None = None,
) -> Response:
    return Response(
        status,
        body,
        secret=None if secret is None else Secret(secret),
        headers=headers or {},
        url=URL,
        timestamp=NOW,
    )


def parse_data(data: object, *, secret: str | None = None) -> Job:
    """Return job ``a`` from the ``data`` of a response."""
    return parse_job(make_response(json.dumps({"data": data}).encode(), secret=secret), GET_JOB)
