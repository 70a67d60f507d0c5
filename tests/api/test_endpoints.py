import json
import urllib.parse
from collections.abc import Callable

import pytest

from moltin_jobs._api import endpoints
from moltin_jobs._api.endpoints import Request
from moltin_jobs.kinds import INVENTORY_IMPORTS, PXM, catalog_releases
from moltin_jobs.settings import Secret

SECRET = Secret("5ecret &=+/ä")


@pytest.mark.parametrize(
    ("make", "line", "description", "job_id", "max_body"),
    [
        (lambda: endpoints.get_job("a-1"), "GET /v2/jobs/a-1", "job a-1", "a-1", 1 << 20),
        (
            lambda: endpoints.get_file("a-1"),
            "GET /v2/jobs/a-1/file",
            "the file of job a-1",
            "a-1",
            1 << 20,
        ),
        (endpoints.list_jobs, "GET /v2/jobs", "the list of jobs", None, 1 << 24),
        (
            lambda: endpoints.create_job("order_export", None),
            "POST /v2/jobs",
            "the creation of a job",
            None,
            1 << 20,
        ),
        (
            lambda: endpoints.request_token("the-client", SECRET),
            "POST /oauth/access_token",
            "the token request",
            None,
            1 << 20,
        ),
    ],
    ids=["job", "file", "list", "creation", "token"],
)
def test_request_of_endpoint_has_documented_address(
    make: Callable[[], Request], line: str, description: str, job_id: str | None, max_body: int
) -> None:
    request_ = make()
    assert f"{request_.method} {request_.path}" == line
    assert request_.description == description
    assert request_.job_id == job_id
    assert request_.max_body == max_body
    assert (request_.body is not None) == (request_.method == "POST")


CATALOG = catalog_releases("c-1")
PAGE = {"page[limit]": "100", "page[offset]": "7"}
ADVICE = "The job may have been cancelled: look it up before you try again."


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: endpoints.get_job("a", PXM),
            Request("GET", "/pcm/jobs/a", "pxm job a", "a", PXM),
        ),
        (
            lambda: endpoints.get_file("a", PXM),
            Request("GET", "/pcm/jobs/a", "the file of pxm job a", "a", PXM),
        ),
        (
            lambda: endpoints.list_jobs(PXM, 7),
            Request("GET", "/pcm/jobs", "the list of pxm jobs", None, PXM, PAGE, max_body=1 << 24),
        ),
        (
            lambda: endpoints.list_jobs(PXM),
            Request(
                "GET",
                "/pcm/jobs",
                "the list of pxm jobs",
                kind=PXM,
                query={**PAGE, "page[offset]": "0"},
                max_body=1 << 24,
            ),
        ),
        (
            lambda: endpoints.list_problems("a", PXM),
            Request(
                "GET",
                "/pcm/jobs/a/errors",
                "the problems of pxm job a",
                "a",
                PXM,
                {**PAGE, "page[offset]": "0"},
                max_body=1 << 24,
            ),
        ),
        (
            lambda: endpoints.list_problems("a", INVENTORY_IMPORTS, 7),
            Request(
                "GET",
                "/v2/inventories/imports/a/errors",
                "the problems of inventory-import job a",
                "a",
                INVENTORY_IMPORTS,
                PAGE,
                max_body=1 << 24,
            ),
        ),
        (
            lambda: endpoints.cancel_job("a", PXM),
            Request(
                "POST",
                "/pcm/jobs/a/cancel",
                "the cancellation of pxm job a",
                "a",
                PXM,
                body=b"{}",
                uncertain_advice=ADVICE,
            ),
        ),
        (
            lambda: endpoints.create_release(CATALOG, True),
            Request(
                "POST",
                "/pcm/catalogs/c-1/releases",
                "the publication of catalog c-1",
                None,
                CATALOG,
                body=b'{"data": {"export_full_delta": true}}',
                uncertain_advice=endpoints.RELEASE_MAY_EXIST,
            ),
        ),
        (
            lambda: endpoints.create_job("order_export", None, allow_duplicate=True),
            Request(
                "POST",
                "/v2/jobs",
                "the creation of a job",
                body=b'{"data": {"type": "job", "job_type": "order_export"}}',
            ),
        ),
    ],
    ids=[
        "job",
        "file",
        "page",
        "first-page",
        "first-problems",
        "problems",
        "cancellation",
        "release",
        "duplicate",
    ],
)
def test_request_of_endpoint_is_complete(make: Callable[[], Request], expected: Request) -> None:
    assert make() == expected


@pytest.mark.parametrize("filter_", [None, "gt(created_at,2018-09-01)", 'eq(name,"Käse")'])
def test_create_job_sends_filter_only_if_given(filter_: str | None) -> None:
    request = endpoints.create_job("order_export", filter_)
    data = {"type": "job", "job_type": "order_export"}
    assert json.loads(request.body or b"") == {
        "data": data if filter_ is None else data | {"filter": filter_}
    }
    assert request.content_type == "application/json"


def test_request_token_sends_credentials_as_form() -> None:
    request = endpoints.request_token("the client", SECRET)
    assert request.body is not None
    assert request.content_type == "application/x-www-form-urlencoded"
    assert urllib.parse.parse_qs(request.body.decode("ascii"), strict_parsing=True) == {
        "grant_type": ["client_credentials"],
        "client_id": ["the client"],
        "client_secret": [SECRET.value],
    }
    assert request.client_secret is SECRET


def test_only_creation_of_job_is_not_idempotent() -> None:
    assert not endpoints.create_job("order_export", None).is_idempotent
    assert endpoints.get_job("a").is_idempotent
    assert endpoints.get_file("a").is_idempotent
    assert endpoints.list_jobs().is_idempotent
    assert endpoints.request_token("the-client", SECRET).is_idempotent


def test_repr_of_request_leaves_out_body_and_secret() -> None:
    text = repr(endpoints.request_token("the-client", SECRET))
    assert "5ecret" not in text
    assert "client_id" not in text
    assert "Secret(...)" in text
