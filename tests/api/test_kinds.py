"""Documents of each kind of job: the examples of the vendor, and values that cannot be read."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from moltin_jobs import APIError, InvalidResponseError, Job, JobKind, JobProblem, JobState, kinds
from moltin_jobs._api import endpoints
from moltin_jobs._api.failures import problem_of
from moltin_jobs._api.parsing import parse_created_job, parse_job, parse_job_list, parse_problems

from .responses import make_response

DOCUMENTS = Path(__file__).parent.parent / "openapi"
RELEASES = kinds.catalog_releases("c")
MOMENT = datetime(2020, 9, 22, 9, 0, tzinfo=UTC)
ALL_KINDS = [
    kinds.ORDERS,
    kinds.PXM,
    RELEASES,
    kinds.SUBSCRIPTIONS,
    kinds.SUBSCRIPTION_IMPORTS,
    kinds.INVENTORY_IMPORTS,
]
PAGED = [kind for kind in ALL_KINDS if kind.is_paged]


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


def parse(kind: JobKind, **data: Any) -> Job:
    """Return job ``a`` from the ``data`` of a response."""
    document = encode({"data": {"id": "a"} | data})
    return parse_job(make_response(document), endpoints.get_job("a", kind))


def examples() -> dict[str, dict[str, Any]]:
    """Return the documented responses about PXM jobs by their names."""
    document = json.loads((DOCUMENTS / "pxm-jobs.json").read_text("utf-8"))
    return {name: example["value"] for name, example in document["components"]["examples"].items()}


def error_bodies() -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the documented errors with their statuses."""
    for name in ("pxm-jobs.json", "subscription-jobs.json"):
        document = json.loads((DOCUMENTS / name).read_text("utf-8"))
        for response in document["components"]["responses"].values():
            content = response["content"]["application/json"]
            found = [example["value"] for example in content.get("examples", {}).values()]
            for body in [*found, *([content["example"]] if "example" in content else [])]:
                yield int(body["errors"][0]["status"]), body


class TestDocumentedExamples:
    @pytest.mark.parametrize(
        ("name", "status", "state", "job_type"),
        [
            ("started", "started", JobState.RUNNING, "product-import"),
            ("successful", "success", JobState.SUCCEEDED, "product-import"),
            ("product-export", "success", JobState.SUCCEEDED, "product-export"),
            ("hierarchy-duplicate", "success", JobState.SUCCEEDED, "hierarchy-duplicate"),
            ("build-child-products", "success", JobState.SUCCEEDED, "child-products"),
            ("cancelled", "cancelled", JobState.CANCELLED, "product-import"),
        ],
    )
    def test_job_has_the_documented_fields(
        self, name: str, status: str, state: JobState, job_type: str
    ) -> None:
        document = examples()[name]
        data = document["data"]
        attributes, meta = data["attributes"], data["meta"]
        request = endpoints.get_job(data["id"], kinds.PXM)
        job = parse_job(make_response(encode(document)), request)
        assert (job.id, job.kind, job.type) == (data["id"], "pxm", "pim-job")
        assert (job.status, job.state, job.job_type) == (status, state, job_type)
        times = [job.created_at, job.updated_at, job.started_at, job.ended_at]
        names = ["created_at", "updated_at", "started_at", "completed_at"]
        texts = [attributes[name] for name in names]
        assert times == [text and datetime.fromisoformat(text) for text in texts]
        details = ("x_request_id", "filter", "copied_from", "hierarchy_id")
        assert job.details == {key: meta.get(key) for key in details}
        assert (job.file_urls, job.file_url, job.error) == ((), None, None)

    def test_every_example_is_read_by_a_test(self) -> None:
        assert set(examples()) == {
            "started",
            "successful",
            "product-export",
            "hierarchy-duplicate",
            "build-child-products",
            "cancelled",
            "multi",
            "errors",
        }

    def test_list_has_three_jobs_although_its_total_is_one(self) -> None:
        request = endpoints.list_jobs(kinds.PXM)
        page = parse_job_list(make_response(encode(examples()["multi"])), request)
        assert [job.status for job in page.items] == ["success", "started", "success"]
        assert (page.length, page.total, page.unreadable) == (3, 1, [])

    def test_problem_has_the_documented_message(self) -> None:
        request = endpoints.list_problems("a", kinds.PXM)
        page = parse_problems(make_response(encode(examples()["errors"])), request)
        message = "data.attributes.sku: Must be unique amongst products."
        assert page.items == [JobProblem(message)]
        assert page.ids == ["2950cae3-1050-4c43-9fbd-2aa60dc5c249"]

    @pytest.mark.parametrize(("status", "body"), list(error_bodies()))
    def test_error_has_the_documented_objects(self, status: int, body: dict[str, Any]) -> None:
        request = endpoints.get_job("a", kinds.PXM)
        with pytest.raises(APIError) as caught:
            parse_job(make_response(encode(body), status), request)
        assert list(caught.value.errors) == body["errors"]
        assert caught.value.request_id == body["errors"][0].get("request_id")
        assert caught.value.from_gateway is False


class TestFields:
    """The documents are those of `job-kinds` with the documented example of a time."""

    @pytest.mark.parametrize(
        ("kind", "data"),
        [
            (
                kinds.PXM,
                {
                    "type": "pim-job",
                    "attributes": {
                        "status": "failed",
                        "type": "price-import",
                        "created_at": "2020-09-22T09:00:00",
                        "updated_at": "2020-09-22T09:00:01",
                        "started_at": "2020-09-22T09:00:02",
                        "completed_at": "2020-09-22T09:00:03",
                    },
                },
            ),
            (
                kinds.SUBSCRIPTIONS,
                {
                    "type": "subscription_job",
                    "attributes": {"status": "failed", "job_type": "price-import"},
                    "meta": {
                        "timestamps": {
                            "created_at": "2020-09-22T09:00:00",
                            "updated_at": "2020-09-22T09:00:01",
                            "started_at": "2020-09-22T09:00:02",
                            "finished_at": "2020-09-22T09:00:03",
                        }
                    },
                },
            ),
        ],
    )
    def test_all_fields_are_read(self, kind: JobKind, data: dict[str, Any]) -> None:
        job = parse(kind, **data)
        assert (job.kind, job.type, job.status) == (kind.name, data["type"], "failed")
        assert (job.job_type, job.error, job.self_url) == ("price-import", None, None)
        times = [job.created_at, job.updated_at, job.started_at, job.ended_at]
        assert times == [MOMENT.replace(second=second) for second in range(4)]

    @pytest.mark.parametrize("kind", [kinds.SUBSCRIPTION_IMPORTS, kinds.INVENTORY_IMPORTS])
    def test_import_has_times_records_and_no_type_of_job(self, kind: JobKind) -> None:
        records = {"uploaded": {"stock": 2}, "imported": {"stock": 1}}
        times = {"started_at": "2020-09-22T09:00:00", "finished_at": "2020-09-22T09:00:00Z"}
        job = parse(
            kind,
            attributes={"status": "success", "external_ref": "x", "job_type": "no"},
            meta={"timestamps": times, "records": records},
        )
        assert (job.started_at, job.ended_at, job.created_at) == (MOMENT, MOMENT, None)
        assert (job.job_type, job.file_urls) == (None, ())
        assert job.details == {"external_ref": "x", "records": records}

    def test_start_of_a_release_is_unknown(self) -> None:
        job = parse(
            RELEASES,
            attributes={"published_at": "2020-09-22T09:00:00.000", "name": "Clothing"},
            meta={"release_status": "PUBLISHED", "started_at": "2020-09-22T09:00:00.000"},
            relationships={"delta": {"links": {"related": "https://files.example/delta"}}},
        )
        assert (job.kind, job.state) == ("release:c", JobState.SUCCEEDED)
        assert (job.started_at, job.ended_at) == (None, MOMENT)
        assert job.file_urls == ("https://files.example/delta",)
        assert (job.details["name"], job.details["percent_completed"]) == ("Clothing", None)

    @pytest.mark.parametrize(
        ("attributes", "timestamps"),
        [
            ({"created_at": "2020-09-22T09:00:00Z"}, {}),
            ({}, {"created_at": "2020-09-22T09:00:00Z"}),
            ({"created_at": "2021-01-01T00:00:00Z"}, {"created_at": "2020-09-22T09:00:00Z"}),
            ({"created_at": "2020-09-22T09:00:00Z"}, {"created_at": "soon"}),
            ({"created_at": "2020-09-22T09:00:00Z"}, None),
        ],
    )
    def test_creation_of_a_run_is_read_in_either_place(
        self, attributes: dict[str, Any], timestamps: Any
    ) -> None:
        attributes["status"] = "success"
        job = parse(kinds.SUBSCRIPTIONS, attributes=attributes, meta={"timestamps": timestamps})
        assert job.created_at == MOMENT

    def test_update_of_a_run_is_read_in_either_place(self) -> None:
        attributes = {"status": "success", "updated_at": "2020-09-22T09:00:00Z"}
        meta = {"timestamps": {"updated_at": "2020-09-22T09:00:00Z"}}
        both = [
            parse(kinds.SUBSCRIPTIONS, attributes=attributes),
            parse(kinds.SUBSCRIPTIONS, attributes={"status": "success"}, meta=meta),
        ]
        assert [job.updated_at for job in both] == [MOMENT, MOMENT]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2020-09-22 09:00:00 +0000 UTC", MOMENT),
            ("2020-09-22 11:00:00.000000000 +0200 CEST m=+0.01", MOMENT),
            ("2020-09-22 09:00:00.25 +0000 UTC", MOMENT.replace(microsecond=250000)),
            ("2020-09-22 09:00:00", MOMENT),
            ("0001-01-01 00:00:00 +0000 UTC", None),
            ("yesterday at noon", None),
            (1600765200, None),
            ({}, None),
        ],
    )
    def test_older_time_is_read_or_unknown(self, text: Any, expected: datetime | None) -> None:
        job = parse(kinds.PXM, attributes={"status": "pending", "created_at": text})
        assert job.created_at == expected

    @pytest.mark.parametrize(
        ("locations", "expected"),
        [
            (["https://a.example/1", "https://a.example/2"],) * 2,
            (["https://a.example/1", "", 5, None], ["https://a.example/1"]),
            ("https://a.example/1", ["https://a.example/1"]),
            ("", []),
            ([], []),
            (None, []),
            ({"a": "b"}, []),
            (5, []),
        ],
    )
    def test_addresses_of_files_are_read(self, locations: Any, expected: list[str]) -> None:
        job = parse(kinds.PXM, attributes={"status": "success"}, meta={"file_locations": locations})
        assert job.file_urls == tuple(expected)
        assert job.file_url == (expected[0] if len(expected) == 1 else None)

    @pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
    @pytest.mark.parametrize("part", ["text", None, 5, [], [{}], math.nan, {"status": None}])
    def test_document_without_a_status_is_invalid(self, kind: JobKind, part: Any) -> None:
        with pytest.raises(InvalidResponseError, match="it has no usable id or status"):
            parse(kind, attributes=part, meta=part, timestamps=part, status=None)

    @pytest.mark.parametrize("kind", ALL_KINDS[1:], ids=lambda kind: kind.name)
    def test_status_at_the_place_of_an_order_job_is_not_read(self, kind: JobKind) -> None:
        with pytest.raises(InvalidResponseError):
            parse(kind, status="success")

    @pytest.mark.parametrize("kind", ALL_KINDS[1:], ids=lambda kind: kind.name)
    @pytest.mark.parametrize("wrap", [lambda data: data, lambda data: [data]])
    def test_created_job_is_of_the_kind_of_its_request(self, kind: JobKind, wrap: Any) -> None:
        parts = {"attributes": {"status": "pending"}, "meta": {"release_status": "pending"}}
        request = endpoints.create_release(kind, export_full_delta=False)
        document = encode({"data": wrap({"id": "a"} | parts)})
        assert parse_created_job(make_response(document, 201), request).kind == kind.name


class TestProblems:
    def problems_of(self, kind: JobKind, *items: Any) -> list[JobProblem]:
        request = endpoints.list_problems("a", kind)
        return parse_problems(make_response(encode({"data": items})), request).items

    def test_problem_of_an_import_names_field_and_line(self) -> None:
        item = {"meta": {"error": "no name", "field": "name", "line_number": 7}}
        expected = [JobProblem("no name", "name", 7)]
        assert self.problems_of(kinds.SUBSCRIPTION_IMPORTS, item) == expected
        assert self.problems_of(kinds.INVENTORY_IMPORTS, item) == expected

    @pytest.mark.parametrize(
        ("item", "expected"),
        [
            ({"meta": {"error": "e"}}, JobProblem("e")),
            ({"meta": {"error": "e", "field": "", "line_number": None}}, JobProblem("e")),
            ({"meta": {"error": "e", "field": 5, "line_number": "7"}}, JobProblem("e")),
            ({"meta": {"error": "e", "line_number": True}}, JobProblem("e")),
            ({"meta": {"error": {"title": "t", "detail": "d"}}}, JobProblem("t: d")),
            ({"meta": None}, JobProblem('{"meta": null}')),
            ("text", JobProblem('"text"')),
            (None, JobProblem("null")),
        ],
    )
    def test_problem_that_is_not_as_documented_is_read_as_far_as_possible(
        self, item: Any, expected: JobProblem
    ) -> None:
        assert self.problems_of(kinds.INVENTORY_IMPORTS, item) == [expected]

    @pytest.mark.parametrize("document", [{"data": {}}, {"data": None}, {}, [], None])
    def test_document_without_a_list_is_invalid(self, document: Any) -> None:
        request = endpoints.list_problems("a", kinds.PXM)
        with pytest.raises(InvalidResponseError, match="data is not a list"):
            parse_problems(make_response(encode(document)), request)

    @pytest.mark.parametrize(
        ("status", "errors", "expected"),
        [
            (422, [{"title": "t", "detail": "missing csv header"}], "missing csv header"),
            (400, [{"detail": "missing csv header"}], "missing csv header"),
            (499, [{"detail": "missing csv header"}], "missing csv header"),
            (422, [{"title": "t"}], None),
            (422, [{"detail": " "}], None),
            (422, [{"detail": 5}], None),
            (422, [], None),
            (401, [{"detail": "no token"}], None),
            (403, [{"detail": "no permission"}], None),
            (404, [{"detail": "no job"}], None),
            (408, [{"detail": "later"}], None),
            (429, [{"detail": "later"}], None),
            (500, [{"detail": "our fault"}], None),
            (302, [{"detail": "elsewhere"}], None),
        ],
    )
    def test_rejected_request_is_a_problem_if_it_has_a_detail(
        self, status: int, errors: list[Any], expected: str | None
    ) -> None:
        problem = problem_of(APIError(status, "the problems of pxm job a", errors=errors))
        assert problem == (None if expected is None else JobProblem(expected))


class TestTotal:
    @pytest.mark.parametrize("total", [3, 0])
    def test_total_of_a_list_is_read(self, total: int) -> None:
        assert self.total_of(kinds.PXM, {"results": {"total": total}}) == total

    @pytest.mark.parametrize(
        "meta", [None, 5, {}, {"results": []}, *({"results": {"total": t}} for t in ("3", True))]
    )
    def test_total_that_is_no_number_is_unknown(self, meta: Any) -> None:
        assert self.total_of(kinds.PXM, meta) is None

    def test_total_of_another_kind_is_not_read(self) -> None:
        assert self.total_of(kinds.SUBSCRIPTIONS, {"results": {"total": 3}}) is None

    def total_of(self, kind: JobKind, meta: Any) -> int | None:
        document = encode({"data": [], "meta": meta})
        return parse_job_list(make_response(document), endpoints.list_jobs(kind)).total


class TestRequests:
    @pytest.mark.parametrize(
        ("kind", "path"),
        [
            (kinds.ORDERS, "/v2/jobs"),
            (kinds.PXM, "/pcm/jobs"),
            (RELEASES, "/pcm/catalogs/c/releases"),
            (kinds.SUBSCRIPTIONS, "/v2/subscriptions/jobs"),
            (kinds.SUBSCRIPTION_IMPORTS, "/v2/subscriptions/imports"),
            (kinds.INVENTORY_IMPORTS, "/v2/inventories/imports"),
        ],
    )
    def test_paths_are_those_of_the_documents(self, kind: JobKind, path: str) -> None:
        assert endpoints.get_job("a", kind).path == f"{path}/a"
        assert endpoints.list_jobs(kind).path == path
        assert endpoints.list_problems("a", kind).path == f"{path}/a/errors"
        assert endpoints.cancel_job("a", kind).path == f"{path}/a/cancel"
        end = "/file" if kind is kinds.ORDERS else ""
        assert endpoints.get_file("a", kind).path == f"{path}/a{end}"

    @pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.name)
    def test_list_has_pages_where_the_service_has_them(self, kind: JobKind) -> None:
        expected = {"page[limit]": "100", "page[offset]": "200"} if kind in PAGED else None
        assert endpoints.list_jobs(kind, 200).query == expected

    @pytest.mark.parametrize(
        ("request_", "description"),
        [
            (endpoints.get_job("a"), "job a"),
            (endpoints.get_job("a", kinds.PXM), "pxm job a"),
            (endpoints.get_job("a", RELEASES), "release job a"),
            (endpoints.get_file("a", RELEASES), "the file of release job a"),
            (endpoints.list_jobs(kinds.SUBSCRIPTIONS), "the list of subscription jobs"),
            (endpoints.list_problems("a", kinds.PXM), "the problems of pxm job a"),
            (endpoints.cancel_job("a", kinds.PXM), "the cancellation of pxm job a"),
            (endpoints.create_release(RELEASES, True), "the publication of catalog c"),
        ],
    )
    def test_description_names_the_kind(
        self, request_: endpoints.Request, description: str
    ) -> None:
        assert request_.description == description

    def test_requests_that_change_something_are_not_idempotent(self) -> None:
        cancellation = endpoints.cancel_job("a", kinds.PXM)
        release = endpoints.create_release(RELEASES, export_full_delta=True)
        assert (cancellation.is_idempotent, release.is_idempotent) == (False, False)
        assert (cancellation.body, release.body) == (
            b"{}",
            b'{"data": {"export_full_delta": true}}',
        )


def test_details_that_are_nested_too_deeply_for_pickle_are_none() -> None:
    report = b'{"a":' * 600 + b"1" + b"}" * 600
    body = b'{"data":{"id":"a","attributes":{"status":"success"},"meta":{"report":%s}}}' % report
    job = parse_job(make_response(body), endpoints.get_job("a", kinds.SUBSCRIPTIONS))
    assert job.details == {"external_ref": None, "report": None}
    assert pickle.loads(pickle.dumps(job)) == job  # noqa: S301 (made on this line)
