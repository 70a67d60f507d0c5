import datetime
import json
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from moltin_jobs._api import endpoints
from moltin_jobs._api.endpoints import Request, Response
from moltin_jobs._api.parsing import (
    parse_created_job,
    parse_file_url,
    parse_job,
    parse_job_list,
    parse_token,
)
from moltin_jobs.errors import (
    APIError,
    AuthenticationError,
    InvalidResponseError,
    JobNotFoundError,
    MoltinJobsError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from moltin_jobs.models import Job, JobState
from tests.api.responses import (
    BARE_404,
    CREATE_JOB,
    FAILED,
    GET_FILE,
    GET_JOB,
    ISSUED_TOKEN,
    LIST_JOBS,
    LISTED_500,
    MINIMAL,
    OLDER_PENDING,
    PENDING,
    PENDING_JOB,
    REQUEST_TOKEN,
    SCHEMA_EXAMPLE,
    TOKEN,
    URL,
    make_response,
    parse_data,
)

TRY_AGAIN = (
    "Try again later. If it happens again, check that base_url and all proxies lead to the service."
)
NO_ID_OR_STATUS = "it has no usable id or status"
MAY_EXIST = "The job may have been created: check list_jobs() before you create it again."


def utc(*parts: int) -> datetime.datetime:
    return datetime.datetime(*parts, tzinfo=datetime.UTC)  # type: ignore[misc,arg-type]  # to µs


def error_of(
    parse: Callable[[Response, Request], object], response: Response, request: Request
) -> MoltinJobsError:
    with pytest.raises(MoltinJobsError) as caught:
        parse(response, request)
    return caught.value


def message_of_invalid_job(body: bytes) -> str:
    error = error_of(parse_job, make_response(body), GET_JOB)
    assert type(error) is InvalidResponseError
    return str(error)


class TestDocumentedJobs:
    def test_parse_job_of_failed_job_reads_every_field(self) -> None:
        request = endpoints.get_job("974c9db4-38da-4dbf-90c2-33eed5f3e77c")
        job = parse_job(make_response(FAILED), request)
        assert job == Job(
            id="974c9db4-38da-4dbf-90c2-33eed5f3e77c",
            type="job",
            job_type="order_export",
            status="failed",
            error="No results matched the supplied filter",
            created_at=utc(2018, 10, 4, 11, 8, 49, 156490),
            updated_at=utc(2018, 10, 4, 11, 8, 49, 162867),
            self_url=(
                "https://useast.api.elasticpath.com/v2/jobs/974c9db4-38da-4dbf-90c2-33eed5f3e77c"
            ),
        )
        assert job.state is JobState.FAILED

    def test_parse_job_of_schema_example_reads_every_field(self) -> None:
        request = endpoints.get_job("00000000-0000-0000-0000-000000000000")
        job = parse_job(make_response(SCHEMA_EXAMPLE), request)
        assert job == Job(
            id="00000000-0000-0000-0000-000000000000",
            type="job",
            job_type="order_export",
            status="failed",
            error="No results matched the supplied filter",
            created_at=utc(2018, 10, 4, 11, 8, 49, 156490),
            updated_at=utc(2018, 10, 4, 11, 8, 49, 162867),
            self_url=(
                "https://useast.api.elasticpath.com/v2/jobs/974c9db4-38da-4dbf-90c2-33eed5f3e77c"
            ),
            file_urls=("string",),
        )

    def test_parse_job_of_older_document_reads_every_field(self) -> None:
        request = endpoints.get_job("v4154f5b-df0c-4781-be28-c2d5669b29f9")
        job = parse_job(make_response(OLDER_PENDING), request)
        assert job == Job(
            id="v4154f5b-df0c-4781-be28-c2d5669b29f9",
            type="job",
            job_type="order_export",
            status="pending",
            error=None,
            created_at=utc(2018, 8, 20, 15, 1, 13, 19450),
            updated_at=None,
            self_url="http://exporter.dev.molt.in/v2/jobs/v4154f5b-df0c-4781-be28-c2d5669b29f9",
        )
        assert job.state is JobState.PENDING

    @pytest.mark.parametrize("status", [200, 201, 202, 203, 299])
    def test_parse_job_accepts_every_2xx(self, status: int) -> None:
        assert parse_job(make_response(PENDING, status), GET_JOB) == PENDING_JOB

    @pytest.mark.parametrize("status", [199, 300, 404, 500])
    def test_parse_job_raises_api_error_for_other_status(self, status: int) -> None:
        error = error_of(parse_job, make_response(PENDING, status), GET_JOB)
        assert isinstance(error, APIError)
        assert error.status == status


class TestIdAndStatus:
    @pytest.mark.parametrize(
        ("sent", "requested"),
        [("a", "a"), ("A", "a"), ("a", "A"), ("974C9DB4-38da", "974c9db4-38DA")],
    )
    def test_parse_job_with_id_in_other_case_keeps_it_as_sent(
        self, sent: str, requested: str
    ) -> None:
        body = json.dumps({"data": {"id": sent, "status": "pending"}}).encode()
        assert parse_job(make_response(body), endpoints.get_job(requested)).id == sent

    @pytest.mark.parametrize(
        ("sent", "printed"),
        [("b", "b"), ("aa", "aa"), (" a", "a"), ("\x1b\ud800", r"\x1b\ud800")],
        ids=ascii,
    )
    def test_parse_job_rejects_another_id(self, sent: str, printed: str) -> None:
        body = json.dumps({"data": {"id": sent, "status": "pending"}}).encode()
        assert message_of_invalid_job(body) == (
            "job a: invalid response with status 200: it describes another job, "
            f"{printed}. {TRY_AGAIN}"
        )

    @pytest.mark.parametrize(
        "status", ["pending", "PENDING", "a new one", " ", "\ud800", "None"], ids=ascii
    )
    def test_parse_job_keeps_status_as_sent(self, status: str) -> None:
        assert parse_data({"id": "a", "status": status}).status == status

    @pytest.mark.parametrize("name", ["id", "status"])
    @pytest.mark.parametrize(
        "value", ["", None, 7, 1.5, True, False, ["a"], {"a": "a"}], ids=json.dumps
    )
    def test_parse_job_rejects_unusable_id_or_status(self, name: str, value: object) -> None:
        body = json.dumps({"data": MINIMAL | {name: value}}).encode()
        assert f"status 200: {NO_ID_OR_STATUS}. Try" in message_of_invalid_job(body)

    @pytest.mark.parametrize(
        "body",
        [
            b"{}",
            b"[]",
            b"null",
            b"7",
            b'"a"',
            b"true",
            b'[{"data": {"id": "a", "status": "pending"}}]',
            b'{"id": "a", "status": "pending"}',
            b'{"data": null}',
            b'{"data": {}}',
            b'{"data": "a"}',
            b'{"data": [{"id": "a", "status": "pending"}]}',
            b'{"data": {"id": "a"}}',
            b'{"data": {"status": "pending"}}',
        ],
        ids=bytes.decode,
    )
    def test_parse_job_rejects_missing_id_or_status(self, body: bytes) -> None:
        assert f"status 200: {NO_ID_OR_STATUS}. Try" in message_of_invalid_job(body)


class TestUnreadableBody:
    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            pytest.param(b"", "the body is empty", id="empty"),
            pytest.param(
                PENDING.ljust(1_048_577), "the body is larger than 1048576 bytes", id="too-large"
            ),
            pytest.param(PENDING + b"\xff", "the body is not UTF-8", id="not-utf-8"),
            pytest.param(
                b"<html>",
                "the body is not JSON (Expecting value: line 1 column 1 (char 0))",
                id="html",
            ),
            pytest.param(b"[" * 100_000, "the JSON is nested too deeply", id="too-deep"),
        ],
    )
    def test_parse_job_of_unreadable_body_is_invalid_response_without_context(
        self, body: bytes, reason: str
    ) -> None:
        error = error_of(parse_job, make_response(body, 206), GET_JOB)
        assert isinstance(error, InvalidResponseError)
        assert str(error) == f"job a: invalid response with status 206: {reason}. {TRY_AGAIN}"
        assert error.status == 206
        assert error.body == body[:200]
        assert error.job_id == "a"
        assert error.retryable is True
        assert error.__cause__ is None
        assert error.__context__ is None


class TestUnreadFields:
    """Fields that are not read may hold anything."""

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(PENDING.ljust(1_048_576), id="largest"),
            pytest.param(b"\xef\xbb\xbf" + PENDING, id="byte-order-mark"),
            pytest.param(b'{"a": NaN, ' + PENDING[1:], id="nan"),
            pytest.param(b'{"a": [Infinity, -Infinity], ' + PENDING[1:], id="infinity"),
            pytest.param(b'{"a": 1, "a": 2, ' + PENDING[1:], id="duplicate-key"),
            pytest.param(b'{"data": 1, ' + PENDING[1:], id="duplicate-data"),
            pytest.param(
                b'{"data": {"id": "a", "status": "pending", "meta": [{"x": 1, "x": 1}]}}',
                id="duplicate-key-inside",
            ),
            pytest.param(b'{"a": %s, ' % (b"9" * 401) + PENDING[1:], id="number-of-401-digits"),
            pytest.param(b'{"a": %s, ' % (b"9" * 5_000) + PENDING[1:], id="number-of-5000-digits"),
            pytest.param(b'{"a": 1e999999, ' + PENDING[1:], id="overflow"),
            pytest.param(
                b'{"a": ' + b"[" * 500 + b"]" * 500 + b", " + PENDING[1:], id="500-levels"
            ),
            pytest.param(
                b'{"id": 1, "data": {"id": "a", "status": "pending", "link": {"id": 2}}}',
                id="id-elsewhere",
            ),
        ],
    )
    def test_parse_job_ignores_content_of_unread_field(self, body: bytes) -> None:
        assert parse_job(make_response(body), GET_JOB) == PENDING_JOB

    def test_parse_job_ignores_fields_with_names_of_attributes(self) -> None:
        extra = dict.fromkeys(["created_at", "updated_at"], "2020-06-01T00:00:00Z")
        extra |= dict.fromkeys(["self_url", "file_url", "state", "is_terminal", "new"], "other")
        assert parse_data(MINIMAL | extra) == PENDING_JOB


PLACES = [
    pytest.param(("type",), "type", id="type"),
    pytest.param(("job_type",), "job_type", id="job_type"),
    pytest.param(("error",), "error", id="error"),
    pytest.param(("timestamps", "created_at"), "created_at", id="created_at"),
    pytest.param(("timestamps", "updated_at"), "updated_at", id="updated_at"),
    pytest.param(("links", "self"), "self_url", id="self"),
    pytest.param(("link", "href"), "file_urls", id="href"),
]
FIRST_OF_JUNE = "2020-06-01T00:00:00Z"


def place_value(place: tuple[str, ...], value: object) -> dict[str, Any]:
    for name in reversed(place):
        value = {name: value}
    assert isinstance(value, dict)
    return MINIMAL | value


class TestOptionalFields:
    @pytest.mark.parametrize(("place", "name"), PLACES)
    @pytest.mark.parametrize(
        "value", [None, "", 0, 7, 1.5, True, False, [], ["a"], {}, {"a": "b"}], ids=json.dumps
    )
    def test_parse_job_of_malformed_optional_field_is_none(
        self, place: tuple[str, ...], name: str, value: object
    ) -> None:
        job = parse_data(place_value(place, value))
        is_text = name == "error" and value in (["a"], {"a": "b"})
        expected: dict[str, Any] = {name: json.dumps(value) if is_text else None}
        if name == "file_urls":  # the documents of other kinds have a list there
            expected[name] = ("a",) if value == ["a"] else ()
        assert job == attrs.evolve(PENDING_JOB, **expected)

    @pytest.mark.parametrize("name", ["timestamps", "links", "link"])
    @pytest.mark.parametrize("value", [None, "", "a", 7, True, [], [{"self": "x"}]], ids=json.dumps)
    def test_parse_job_of_malformed_object_of_fields_ignores_it(
        self, name: str, value: object
    ) -> None:
        assert parse_data(MINIMAL | {name: value}) == PENDING_JOB

    @pytest.mark.parametrize(("place", "name"), PLACES)
    def test_parse_job_reads_each_optional_field_alone(
        self, place: tuple[str, ...], name: str
    ) -> None:
        value: Any = utc(2020, 6, 1) if place[0] == "timestamps" else FIRST_OF_JUNE
        value = (value,) if name == "file_urls" else value
        job = parse_data(place_value(place, FIRST_OF_JUNE))
        assert job == attrs.evolve(PENDING_JOB, **{name: value})

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            pytest.param("Käse 😀", "Käse 😀", id="string"),
            pytest.param(" ", " ", id="blank-string"),
            pytest.param({"title": "Bad", "detail": "Field x"}, "Bad: Field x", id="title-detail"),
            pytest.param({"detail": "Field x"}, "Field x", id="detail"),
            pytest.param({"message": "Bad", "code": 7}, "Bad", id="message"),
            pytest.param(
                {"message": "c", "detail": "b", "title": "a"}, "a: b: c", id="all-in-fixed-order"
            ),
            pytest.param({"title": "", "detail": 7}, '{"title": "", "detail": 7}', id="no-text"),
            pytest.param({"code": "Käse"}, '{"code": "Käse"}', id="object"),
            pytest.param([{"title": "Bad"}, "x"], '[{"title": "Bad"}, "x"]', id="list"),
            pytest.param([None], "[null]", id="list-of-null"),
            pytest.param({"n": float("nan")}, '{"n": NaN}', id="nan"),
        ],
    )
    def test_parse_job_reads_error_of_any_shape(self, error: object, text: str) -> None:
        assert parse_data(MINIMAL | {"error": error}).error == text


class TestTimestamps:
    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            pytest.param(
                "2018-10-04T11:08:49.156490335Z",
                utc(2018, 10, 4, 11, 8, 49, 156490),
                id="nine-digits",
            ),
            pytest.param(
                "2018-10-04T11:08:49.999999999Z",
                utc(2018, 10, 4, 11, 8, 49, 999999),
                id="not-rounded-up",
            ),
            pytest.param(
                "2018-08-20T15:01:13.0194505Z",
                utc(2018, 8, 20, 15, 1, 13, 19450),
                id="seven-digits",
            ),
            pytest.param(
                "2018-08-20T15:01:13.5Z", utc(2018, 8, 20, 15, 1, 13, 500000), id="one-digit"
            ),
            pytest.param("2018-08-20T15:01:13Z", utc(2018, 8, 20, 15, 1, 13), id="no-fraction"),
            pytest.param(
                "2018-08-20T15:01:13+02:00", utc(2018, 8, 20, 13, 1, 13), id="offset-east"
            ),
            pytest.param(
                "2018-08-20T23:01:13.5-09:30",
                utc(2018, 8, 21, 8, 31, 13, 500000),
                id="offset-west",
            ),
            pytest.param("2018-08-20t15:01:13z", utc(2018, 8, 20, 15, 1, 13), id="lower-case"),
            pytest.param("2018-08-20 15:01:13Z", utc(2018, 8, 20, 15, 1, 13), id="space"),
            pytest.param("2020-09-22T09:00:00", utc(2020, 9, 22, 9), id="without-offset"),
            pytest.param(
                "2020-09-22T09:00:00.123456789",
                utc(2020, 9, 22, 9, 0, 0, 123456),
                id="without-offset-nine-digits",
            ),
            pytest.param("2018-08-20", utc(2018, 8, 20), id="date"),
            pytest.param("1970-01-01T00:00:00Z", utc(1970, 1, 1), id="epoch"),
            pytest.param("0002-01-01T00:00:00Z", utc(2, 1, 1), id="the-year-2"),
            pytest.param("9999-12-31T23:59:59Z", utc(9999, 12, 31, 23, 59, 59), id="the-last-year"),
            pytest.param("0001-01-01T00:00:00Z", None, id="zero-time"),
            pytest.param("0001-01-01T00:00:00", None, id="zero-time-without-offset"),
            pytest.param("0001-12-31T23:59:59Z", None, id="the-year-1"),
            pytest.param("0001-01-01T00:00:00+01:00", None, id="before-all-time"),
            pytest.param("9999-12-31T23:59:59-01:00", None, id="after-all-time"),
            pytest.param("2018-02-30T00:00:00Z", None, id="no-such-day"),
            pytest.param("2018-08-20T25:00:00Z", None, id="no-such-hour"),
            pytest.param("2018-08-20T15:01:60Z", None, id="leap-second"),
            pytest.param("2018-08-20T15:01:13+99:00", None, id="no-such-offset"),
            pytest.param(
                "2023-11-27 12:32:50.036 +0000 UTC",
                datetime.datetime(2023, 11, 27, 12, 32, 50, 36_000, datetime.UTC),
                id="go-string",
            ),
            pytest.param(
                "2023-11-27 12:32:50 +0200 CEST m=+0.1",
                datetime.datetime(2023, 11, 27, 10, 32, 50, 0, datetime.UTC),
                id="go-string-with-offset",
            ),
            pytest.param("0001-01-01 00:00:00 +0000 UTC", None, id="go-zero"),
            pytest.param("2023-11-27 12:32:50 CEST", None, id="go-string-without-offset"),
            pytest.param("string", None, id="nonsense"),
            pytest.param("Mon, 20 Aug 2018 15:01:13 GMT", None, id="http-date"),
            pytest.param("1534777273", None, id="epoch-seconds"),
            pytest.param("x" * 10_000, None, id="long"),
            pytest.param("x" * 200_000 + " ", None, id="long-with-space"),
            pytest.param("2018-08-20T15:01:13.\ud800Z", None, id="lone-surrogate"),
            pytest.param(1534777273, None, id="number"),
        ],
    )
    @pytest.mark.parametrize("name", ["created_at", "updated_at"])
    def test_parse_job_reads_timestamp_as_utc_or_none(
        self, name: str, text: str | int, moment: datetime.datetime | None
    ) -> None:
        job = parse_data(MINIMAL | {"timestamps": {name: text}})
        found = getattr(job, name)
        assert found == moment
        assert found is None or found.tzinfo is datetime.UTC
        assert job.status == "pending"


class TestMaskedJob:
    def test_parse_job_masks_token_in_every_text(self) -> None:
        text = f"x{TOKEN}x"
        data = {
            "id": "a",
            "status": text,
            "type": text,
            "job_type": text,
            "error": text,
            "links": {"self": text},
            "link": {"href": text},
        }
        masked = "x***x"
        assert parse_data(data, secret=TOKEN) == Job(
            id="a",
            status=masked,
            type=masked,
            job_type=masked,
            error=masked,
            self_url=masked,
            file_urls=(masked,),
        )

    @pytest.mark.parametrize("error", [{"title": TOKEN}, {"code": [TOKEN]}, [TOKEN]], ids=str)
    def test_parse_job_masks_token_in_error_of_any_shape(self, error: object) -> None:
        job = parse_data(MINIMAL | {"error": error}, secret=TOKEN)
        assert job.error is not None
        assert "***" in job.error
        assert "t0" not in job.error

    @pytest.mark.parametrize("token", ["a", "test"])
    def test_parse_job_with_token_equal_to_job_id_returns_job(self, token: str) -> None:
        body = json.dumps({"data": {"id": token, "status": "pending"}}).encode()
        job = parse_job(make_response(body, secret=token), endpoints.get_job(token))
        assert job == Job(id=token, status="pending")


class TestCreatedJob:
    @pytest.mark.parametrize(
        "data",
        [
            pytest.param({"id": "b", "status": "pending"}, id="object"),
            pytest.param([{"id": "b", "status": "pending"}], id="list"),
        ],
    )
    @pytest.mark.parametrize("status", [200, 201, 202])
    def test_parse_created_job_reads_object_and_list_of_one(
        self, status: int, data: object
    ) -> None:
        response = make_response(json.dumps({"data": data}).encode(), status)
        assert parse_created_job(response, CREATE_JOB) == Job(id="b", status="pending")

    @pytest.mark.parametrize(
        "data", [None, {}, [], [{"id": "a"}], [MINIMAL, MINIMAL], "a"], ids=json.dumps
    )
    def test_parse_created_job_of_unreadable_response_states_that_job_may_exist(
        self, data: object
    ) -> None:
        response = make_response(json.dumps({"data": data}).encode(), 202)
        error = error_of(parse_created_job, response, CREATE_JOB)
        assert isinstance(error, InvalidResponseError)
        assert error.retryable is False
        assert str(error) == (
            f"the creation of a job: invalid response with status 202: {NO_ID_OR_STATUS}. "
            f"{TRY_AGAIN} {MAY_EXIST}"
        )

    @pytest.mark.parametrize(
        "job_id", ["../oauth", "a/b", "a?b=c", "a\r\nb", "ä", " ", "a" * 129], ids=ascii
    )
    def test_parse_created_job_rejects_id_that_cannot_be_requested(self, job_id: str) -> None:
        body = json.dumps({"data": {"id": job_id, "status": "pending"}}).encode()
        error = error_of(parse_created_job, make_response(body, 202), CREATE_JOB)
        assert isinstance(error, InvalidResponseError)
        assert error.retryable is False
        assert f"{job_id[:100]!r} is not a valid job id. Try" in str(error)
        assert str(error).endswith(MAY_EXIST)

    @pytest.mark.parametrize(
        ("status", "cls", "retryable", "may_exist"),
        [
            (302, APIError, False, False),
            (400, APIError, False, False),
            (401, AuthenticationError, False, False),
            (403, PermissionDeniedError, False, False),
            (404, APIError, False, False),
            (408, APIError, False, True),
            (421, APIError, False, True),
            (425, APIError, False, True),
            (429, RateLimitError, True, False),
            (500, ServerError, False, True),
            (503, ServerError, False, True),
        ],
    )
    def test_parse_created_job_is_retryable_only_if_no_job_was_created(
        self, status: int, cls: type[APIError], *, retryable: bool, may_exist: bool
    ) -> None:
        error = error_of(parse_created_job, make_response(LISTED_500, status), CREATE_JOB)
        assert type(error) is cls
        assert error.retryable is retryable
        assert str(error).endswith(MAY_EXIST) is may_exist


class TestTokenThatIsAWord:
    """Users give such tokens in their tests."""

    @pytest.mark.parametrize("token", ["data", "id", "status", "success", "token", "link", "href"])
    def test_job_is_read_as_it_is(self, token: str) -> None:
        address = "https://files.example/a.csv?token=abc"
        data = {"id": "a", "status": "success", "link": {"href": address}}
        response = make_response(json.dumps({"data": data}).encode(), secret=token)
        job = parse_job(response, endpoints.get_job("a"))
        assert (job.state, job.file_url) == (JobState.SUCCEEDED, address)

    def test_token_in_a_sentence_is_masked(self) -> None:
        data = {"id": "a", "status": "failed", "error": "the token t0ken is not allowed"}
        response = make_response(json.dumps({"data": data}).encode(), secret="t0ken")
        assert parse_job(response, endpoints.get_job("a")).error == "the token *** is not allowed"


class TestJobList:
    def test_parse_job_list_returns_jobs_in_order(self) -> None:
        items = [{"id": "b", "status": "success"}, {"id": "any id / at all", "status": "pending"}]
        job_list = parse_job_list(make_response(json.dumps({"data": items}).encode()), LIST_JOBS)
        assert job_list.items == [
            Job(id="b", status="success"),
            Job(id="any id / at all", status="pending"),
        ]
        assert job_list.unreadable == []

    def test_parse_job_list_without_jobs_is_empty(self) -> None:
        job_list = parse_job_list(make_response(b'{"data": []}'), LIST_JOBS)
        assert job_list.items == []
        assert job_list.unreadable == []

    def test_parse_job_list_skips_items_that_cannot_be_read(self) -> None:
        items: list[object] = [None, MINIMAL, {"id": "b"}, "c", MINIMAL, []]
        job_list = parse_job_list(make_response(json.dumps({"data": items}).encode()), LIST_JOBS)
        assert job_list.items == [PENDING_JOB] * 2
        assert job_list.unreadable == [
            f"item {n} cannot be read: {NO_ID_OR_STATUS}" for n in (1, 3, 4, 6)
        ]

    def test_problems_of_more_than_a_hundred_items_are_counted(self) -> None:
        job_list = parse_job_list(
            make_response(b'{"data": [%s]}' % b",".join([b"{}"] * 105)), LIST_JOBS
        )
        assert len(job_list.unreadable) == 101
        assert job_list.unreadable[99] == f"item 100 cannot be read: {NO_ID_OR_STATUS}"
        assert job_list.unreadable[100] == "5 more cannot be read"

    def test_parse_job_list_accepts_more_than_body_of_one_job(self) -> None:
        body = b'{"data": []}'.ljust(16_777_216)
        assert parse_job_list(make_response(body), LIST_JOBS).items == []

    @pytest.mark.parametrize("body", [b"{}", b"[]", b'{"data": {}}', b'{"data": null}'], ids=str)
    def test_parse_job_list_rejects_data_that_is_no_list(self, body: bytes) -> None:
        error = error_of(parse_job_list, make_response(body), LIST_JOBS)
        assert isinstance(error, InvalidResponseError)
        assert error.job_id is None
        assert str(error) == (
            f"the list of jobs: invalid response with status 200: data is not a list. {TRY_AGAIN}"
        )


class TestFileURL:
    @pytest.mark.parametrize(
        "document",
        [
            {"data": {"href": "https://files.example/a"}},
            {"href": "https://files.example/a"},
            {"data": None, "href": "https://files.example/a"},
            {"data": {"href": "https://files.example/a"}, "href": "https://other.example/"},
        ],
        ids=json.dumps,
    )
    def test_parse_file_url_reads_href_in_data_or_not(self, document: dict[str, Any]) -> None:
        response = make_response(json.dumps(document).encode())
        assert parse_file_url(response, GET_FILE) == "https://files.example/a"

    @pytest.mark.parametrize(
        "body",
        [
            b"{}",
            b"[]",
            b"null",
            b'{"data": {}}',
            b'{"data": {"href": ""}}',
            b'{"data": {"href": 7}}',
            b'{"data": {}, "href": "https://files.example/a"}',
        ],
        ids=bytes.decode,
    )
    def test_parse_file_url_without_usable_href_asks_whether_job_has_ended(
        self, body: bytes
    ) -> None:
        error = error_of(parse_file_url, make_response(body), GET_FILE)
        assert isinstance(error, InvalidResponseError)
        assert error.job_id == "a"
        assert str(error) == (
            "the file of job a: invalid response with status 200: it has no href: check that the "
            f"job has ended. {TRY_AGAIN}"
        )

    def test_parse_file_url_of_404_is_job_not_found(self) -> None:
        error = error_of(parse_file_url, make_response(BARE_404, 404), GET_FILE)
        assert type(error) is JobNotFoundError


class TestToken:
    def test_parse_token_of_documented_response_reads_token_and_lifetime(self) -> None:
        token, lifetime = parse_token(make_response(ISSUED_TOKEN), REQUEST_TOKEN)
        assert token.value == "xa3521ca621113e44eeed9232fa3e54571cb08bc"
        assert lifetime == 3600.0

    @pytest.mark.parametrize("status", [200, 201, 299])
    def test_parse_token_accepts_every_2xx(self, status: int) -> None:
        token, lifetime = parse_token(
            make_response(b'{"access_token": "t"}', status), REQUEST_TOKEN
        )
        assert token.value == "t"
        assert lifetime == math.inf

    @pytest.mark.parametrize(
        ("expires_in", "seconds"),
        [
            ("3600", 3600.0),
            ("1", 1.0),
            ("0.5", 0.5),
            ("1e-9", 1e-9),
            ("999999999", 999999999.0),
            ("999999999.5", 999999999.5),
            ("1000000000", math.inf),
            ("1e9", math.inf),
            ("1e400", math.inf),
            ("9" * 400, math.inf),
            ("9" * 5_000, math.inf),
            ("0", math.inf),
            ("0.0", math.inf),
            ("-1", math.inf),
            ("NaN", math.inf),
            ("true", math.inf),
            ("false", math.inf),
            ('"3600"', math.inf),
            ("null", math.inf),
            ("[3600]", math.inf),
            ("{}", math.inf),
        ],
        ids=lambda value: f"{str(value)[:12]}-of-{len(str(value))}",
    )
    def test_parse_token_reads_lifetime_or_inf(self, expires_in: str, seconds: float) -> None:
        body = f'{{"access_token": "t", "expires_in": {expires_in}}}'.encode()
        token, lifetime = parse_token(make_response(body), REQUEST_TOKEN)
        assert token.value == "t"
        assert lifetime == seconds
        assert type(lifetime) is float

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            pytest.param(b"", "the body is empty", id="empty"),
            pytest.param(
                ISSUED_TOKEN.ljust(1_048_577),
                "the body is larger than 1048576 bytes",
                id="too-large",
            ),
            pytest.param(ISSUED_TOKEN + b"\xff", "the body is not UTF-8", id="not-utf-8"),
            pytest.param(
                b"secret-token",
                "the body is not JSON (Expecting value: line 1 column 1 (char 0))",
                id="not-json",
            ),
            pytest.param(
                b'{"access_token": "secret-token", "a": ' + b"[" * 100_000,
                "the JSON is nested too deeply",
                id="too-deep",
            ),
            *(
                pytest.param(body, "it has no usable access_token", id=body.decode())
                for body in (
                    b"{}",
                    b"null",
                    b'["secret-token"]',
                    b'{"data": {"access_token": "secret-token"}}',
                    b'{"access_token": null}',
                    b'{"access_token": ""}',
                    b'{"access_token": 7}',
                    b'{"access_token": true}',
                    b'{"access_token": ["secret-token"]}',
                    b'{"access_token": "secret token"}',
                    b'{"access_token": "secret-token\\n"}',
                    b'{"access_token": "secret-t\\u00f6ken"}',
                    b'{"access_token": "secret-\\ud800"}',
                )
            ),
        ],
    )
    def test_parse_token_of_unusable_response_has_no_body(self, body: bytes, reason: str) -> None:
        error = error_of(parse_token, make_response(body, 201), REQUEST_TOKEN)
        assert isinstance(error, InvalidResponseError)
        assert str(error) == (
            f"the token request: invalid response with status 201: {reason}. {TRY_AGAIN}"
        )
        assert error.status == 201
        assert error.body == b""

    @pytest.mark.parametrize("status", [400, 401, 403])
    def test_parse_token_of_rejected_credentials_is_authentication_error(self, status: int) -> None:
        response = make_response(LISTED_500, status, {"X-Request-Id": "h", "Retry-After": "3"})
        error = error_of(parse_token, response, REQUEST_TOKEN)
        assert type(error) is AuthenticationError
        assert vars(error) == {
            "status": status,
            "errors": (),
            "request_id": "h",
            "retry_after": 3.0,
            "from_gateway": False,
            "job_id": None,
            "retryable": False,
        }
        assert str(error).endswith(
            "Check the client id and secret, and that base_url is the region of the store."
        )

    @pytest.mark.parametrize(
        ("status", "cls"),
        [
            (199, APIError),
            (300, APIError),
            (399, APIError),
            (402, APIError),
            (404, APIError),
            (408, APIError),
            (429, RateLimitError),
            (500, ServerError),
            (599, ServerError),
            (600, APIError),
        ],
    )
    def test_parse_token_of_other_status_has_nothing_of_body(
        self, status: int, cls: type[APIError]
    ) -> None:
        headers = {"X-Request-Id": "h", "Retry-After": "3", "Location": "/elsewhere"}
        error = error_of(parse_token, make_response(LISTED_500, status, headers), REQUEST_TOKEN)
        assert type(error) is cls
        assert vars(error) == {
            "status": status,
            "errors": (),
            "request_id": "h",
            "retry_after": 3.0,
            "from_gateway": False,
            "job_id": None,
            "retryable": status in {408, 429, 500, 599},
        }
        assert str(error).startswith(
            f"the token request: the service responded with status {status} (request id h). "
        )
        assert ("/elsewhere" in str(error)) is (status in {300, 399})


def texts_of(error: BaseException | None) -> Iterator[str]:
    """Yield the texts of an error, and of the locals in its frames, except those of this file."""
    while error is not None:
        yield from (str(error), repr(error), repr(vars(error)), repr(error.args))
        traceback = error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename != __file__:
                yield from map(repr, traceback.tb_frame.f_locals.values())
            traceback = traceback.tb_next
        error = error.__cause__ or error.__context__


class TestSecrets:
    @pytest.mark.parametrize(
        ("body", "status"),
        [
            pytest.param(b"secret-token", 200, id="not-json"),
            pytest.param(b"secret-token\xff", 200, id="not-utf-8"),
            pytest.param(b'{"access_token": "secret-token"', 200, id="truncated"),
            pytest.param(b'{"access_token": "secret-token \\n"}', 200, id="unusable"),
            pytest.param(b'{"token": "secret-token"}', 200, id="elsewhere"),
            pytest.param(b'["secret-token"]', 200, id="list"),
            pytest.param(b'"secret-token"'.ljust(1_048_577), 200, id="too-large"),
            pytest.param(b'{"secret-token": ' + b"[" * 100_000, 200, id="too-deep"),
            *(
                pytest.param(
                    b'{"errors": [{"title": "secret-token", "request_id": "secret-token"}]}',
                    status,
                    id=str(status),
                )
                for status in (199, 302, 400, 401, 403, 404, 429, 500, 600)
            ),
        ],
    )
    def test_error_of_token_request_has_nothing_of_body_in_message_frames_or_pickle(
        self, body: bytes, status: int
    ) -> None:
        error = error_of(parse_token, make_response(body, status), REQUEST_TOKEN)
        texts = list(texts_of(error))
        assert any("the token request" in text for text in texts)
        assert [text for text in texts if "secret-token" in text] == []
        assert b"secret-token" not in pickle.dumps(error)
        assert error.__context__ is None

    @pytest.mark.parametrize(
        ("parse", "request_"),
        [
            (parse_job, GET_JOB),
            (parse_file_url, GET_FILE),
            (parse_job_list, LIST_JOBS),
            (parse_created_job, CREATE_JOB),
        ],
        ids=["job", "file", "list", "creation"],
    )
    @pytest.mark.parametrize(
        ("body", "status"),
        [
            pytest.param(f"<html>{TOKEN}".encode(), 200, id="not-json"),
            pytest.param(TOKEN.encode() + b"\xff", 200, id="not-utf-8"),
            pytest.param(f'{{"{TOKEN}": '.encode(), 200, id="truncated"),
            pytest.param(
                json.dumps({"data": {"id": TOKEN, "status": 7, "href": [TOKEN]}}).encode(),
                200,
                id="unusable",
            ),
            *(
                pytest.param(
                    json.dumps({"title": TOKEN, "request_id": TOKEN, TOKEN: TOKEN}).encode(),
                    status,
                    id=str(status),
                )
                for status in (302, 401, 404, 500)
            ),
        ],
    )
    def test_error_of_request_has_no_token_in_message_frames_or_pickle(
        self,
        parse: Callable[[Response, Request], object],
        request_: Request,
        body: bytes,
        status: int,
    ) -> None:
        headers = {"Location": f"https://other.example/?t={TOKEN}", "X-Request-Id": TOKEN}
        error = error_of(parse, make_response(body, status, headers, secret=TOKEN), request_)
        texts = [*texts_of(error), repr(pickle.dumps(error))]
        assert any("***" in text for text in texts)
        assert [text for text in texts if "t0ken" in text] == []
        assert error.__context__ is None

    def test_repr_of_response_leaves_out_body_and_headers(self) -> None:
        response = make_response(b"secret-token", 302, {"Location": "secret-token"}, secret=TOKEN)
        assert repr(response) == (
            f"Response(status=302, received_at=0.0, secret=Secret(...), url='{URL}', "
            f"timestamp=784111777.0)"
        )
