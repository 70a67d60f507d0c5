"""What becomes of every answer, documented, odd or hostile."""

import datetime
import json
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest

from moltin_jobs._api.parsing import MAX_BODY, Answer, decode_job, decode_token, is_token
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

# As the service's own documents have them.
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
TOKEN = (
    b'{"expires": 1524486008, "identifier": "client_credentials", "expires_in": 3600, '
    b'"access_token": "xa3521ca621113e44eeed9232fa3e54571cb08bc", "token_type": "Bearer"}'
)

URL = "https://api.moltin.com/v2/jobs/a"
NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
MINIMAL = {"id": "a", "status": "pending"}


def answer(
    body: bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    return Answer(URL, status, headers or {}, body, NOW)


def decoded(data: object) -> Job:
    return decode_job(answer(json.dumps({"data": data}).encode()), "a")


def refused(given: Answer, job_id: str = "a") -> InvalidResponseError:
    with pytest.raises(InvalidResponseError) as caught:
        decode_job(given, job_id)
    return caught.value


def api_error(
    body: bytes = b"", status: int = 500, headers: Mapping[str, str] | None = None
) -> APIError:
    with pytest.raises(APIError) as caught:
        decode_job(answer(body, status, headers), "a")
    return caught.value


def utc(*parts: int) -> datetime.datetime:
    return datetime.datetime(*parts, tzinfo=datetime.UTC)  # type: ignore[misc,arg-type]  # to µs


class TestDocumentedJobs:
    def test_a_failed_one(self) -> None:
        job = decode_job(answer(FAILED), "974c9db4-38da-4dbf-90c2-33eed5f3e77c")
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
            file_url=None,
        )
        assert job.state is JobState.FAILED

    def test_the_one_from_the_schema(self) -> None:
        job = decode_job(answer(SCHEMA_EXAMPLE), "00000000-0000-0000-0000-000000000000")
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
            file_url="string",
        )

    def test_a_pending_one_of_the_older_documents(self) -> None:
        job = decode_job(answer(OLDER_PENDING), "v4154f5b-df0c-4781-be28-c2d5669b29f9")
        assert job == Job(
            id="v4154f5b-df0c-4781-be28-c2d5669b29f9",
            type="job",
            job_type="order_export",
            status="pending",
            error=None,
            created_at=utc(2018, 8, 20, 15, 1, 13, 19450),
            updated_at=None,
            self_url="http://exporter.dev.molt.in/v2/jobs/v4154f5b-df0c-4781-be28-c2d5669b29f9",
            file_url=None,
        )
        assert job.state is JobState.PENDING

    @pytest.mark.parametrize("status", [200, 201, 202, 203, 299])
    def test_every_2xx_is_a_success(self, status: int) -> None:
        body = b'{"data": {"id": "a", "status": "pending"}}'
        assert decode_job(answer(body, status), "a") == Job(id="a", status="pending")


class TestEssentials:
    @pytest.mark.parametrize(
        ("sent", "asked"),
        [("a", "a"), ("A", "a"), ("a", "A"), ("974C9DB4-38da", "974c9db4-38DA")],
    )
    def test_an_id_may_differ_in_case_and_stays_as_sent(self, sent: str, asked: str) -> None:
        body = json.dumps({"data": {"id": sent, "status": "pending"}}).encode()
        assert decode_job(answer(body), asked).id == sent

    @pytest.mark.parametrize(
        ("sent", "shown"),
        [("b", "b"), ("aa", "aa"), (" a", "a"), ("\x1b\ud800", r"\x1b\ud800")],
        ids=ascii,
    )
    def test_another_id_is_refused(self, sent: str, shown: str) -> None:
        body = json.dumps({"data": {"id": sent, "status": "pending"}}).encode()
        assert str(refused(answer(body))) == (
            f"job a: the service answered 200, but it describes another job, {shown}. "
            "Try again; if it stays so, see whether base_url and every proxy on the way lead to "
            "the service."
        )

    @pytest.mark.parametrize(
        "status",
        ["pending", "PENDING", "a new one", " ", "\ud800", "None"],
        ids=ascii,
    )
    def test_a_status_stays_as_sent(self, status: str) -> None:
        assert decoded({"id": "a", "status": status}).status == status

    @pytest.mark.parametrize("name", ["id", "status"])
    @pytest.mark.parametrize(
        "value", ["", None, 7, 1.5, True, False, ["a"], {"a": "a"}], ids=json.dumps
    )
    def test_an_unusable_one_is_refused(self, name: str, value: object) -> None:
        body = json.dumps({"data": MINIMAL | {name: value}}).encode()
        assert "200, but it has no usable id or status. Try" in str(refused(answer(body)))

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
    def test_a_missing_one_is_refused(self, body: bytes) -> None:
        assert "200, but it has no usable id or status. Try" in str(refused(answer(body)))


PENDING = b'{"data": {"id": "a", "status": "pending"}}'


class TestUnreadable:
    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            pytest.param(b"", "its body is empty", id="empty"),
            pytest.param(
                PENDING.ljust(1_048_577), "its body is longer than 1048576 bytes", id="too-long"
            ),
            pytest.param(
                PENDING.replace(b"pending", b"\xff"), "its body is not UTF-8", id="not-utf-8"
            ),
            pytest.param(PENDING.decode().encode("utf-16"), "its body is not UTF-8", id="utf-16"),
            pytest.param(
                b"\xef\xbb\xbf" + PENDING,
                "its body is not JSON (Expecting value: line 1 column 1 (char 0))",
                id="byte-order-mark",
            ),
            pytest.param(
                b"<html>",
                "its body is not JSON (Expecting value: line 1 column 1 (char 0))",
                id="html",
            ),
            pytest.param(
                b" \n ",
                "its body is empty",
                id="white-space",
            ),
            pytest.param(
                PENDING + b"}",
                "its body is not JSON (Extra data: line 1 column 43 (char 42))",
                id="extra",
            ),
            pytest.param(b'{"a": NaN, ' + PENDING[1:], "it holds NaN, which is not JSON", id="nan"),
            pytest.param(
                b'{"a": Infinity, ' + PENDING[1:],
                "it holds Infinity, which is not JSON",
                id="infinity",
            ),
            pytest.param(
                b'{"a": [-Infinity], ' + PENDING[1:],
                "it holds -Infinity, which is not JSON",
                id="minus-infinity",
            ),
            pytest.param(b'{"data": 1, ' + PENDING[1:], "it holds a key twice", id="key-twice"),
            pytest.param(
                b'{"data": {"id": "a", "status": "pending", "meta": [{"x": 1, "x": 1}]}}',
                "it holds a key twice",
                id="key-twice-inside",
            ),
            pytest.param(
                b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b", " + PENDING[1:],
                "its JSON is nested too deep",
                id="deep-lists",
            ),
            pytest.param(
                b'{"a":' * 100_000 + PENDING + b"}" * 100_000,
                "its JSON is nested too deep",
                id="deep-objects",
            ),
        ],
    )
    def test_it_is_refused(self, body: bytes, problem: str) -> None:
        error = refused(answer(body, 206))
        assert str(error) == (
            f"job a: the service answered 206, but {problem}. Try again; if it stays so, see "
            "whether base_url and every proxy on the way lead to the service."
        )
        assert error.status == 206
        assert error.body == body[:200]
        assert error.temporary is True
        assert error.__cause__ is None
        assert error.__suppress_context__ is True

    def test_an_endless_number_is_refused(self) -> None:
        error = refused(answer(b'{"a": ' + b"9" * 5_000 + b", " + PENDING[1:]))
        assert str(error).startswith("job a: the service answered 200, but ")

    def test_the_longest_body_is_read(self) -> None:
        assert decode_job(answer(PENDING.ljust(1_048_576)), "a") == Job(id="a", status="pending")
        assert MAX_BODY == 1_048_576

    def test_a_key_may_recur_in_another_object(self) -> None:
        body = b'{"id": 1, "data": {"id": "a", "status": "pending", "link": {"id": 2}}}'
        assert decode_job(answer(body), "a") == Job(id="a", status="pending")

    def test_utf_8_is_read(self) -> None:
        body = '{"data": {"id": "a", "status": "failed", "error": "Käse 😀"}}'.encode()
        assert decode_job(answer(body), "a").error == "Käse 😀"


PLACES = [
    pytest.param(("type",), "type", id="type"),
    pytest.param(("job_type",), "job_type", id="job_type"),
    pytest.param(("error",), "error", id="error"),
    pytest.param(("timestamps", "created_at"), "created_at", id="created_at"),
    pytest.param(("timestamps", "updated_at"), "updated_at", id="updated_at"),
    pytest.param(("links", "self"), "self_url", id="self"),
    pytest.param(("link", "href"), "file_url", id="href"),
]
FIRST_OF_JUNE = "2020-06-01T00:00:00Z"


def placed(place: tuple[str, ...], value: object) -> dict[str, Any]:
    for name in reversed(place):
        value = {name: value}
    assert isinstance(value, dict)
    return MINIMAL | value


class TestInessentials:
    @pytest.mark.parametrize(("place", "name"), PLACES)
    @pytest.mark.parametrize(
        "value", [None, "", 0, 7, 1.5, True, False, [], ["a"], {}, {"a": "b"}], ids=json.dumps
    )
    def test_a_malformed_one_is_none(
        self, place: tuple[str, ...], name: str, value: object
    ) -> None:
        job = decoded(placed(place, value))
        assert getattr(job, name) is None
        assert job == Job(id="a", status="pending")

    @pytest.mark.parametrize("name", ["timestamps", "links", "link"])
    @pytest.mark.parametrize("value", [None, "", "a", 7, True, [], [{"self": "x"}]], ids=json.dumps)
    def test_what_should_hold_them_may_be_malformed(self, name: str, value: object) -> None:
        assert decoded(MINIMAL | {name: value}) == Job(id="a", status="pending")

    @pytest.mark.parametrize(("place", "name"), PLACES)
    def test_a_good_one_is_read_alone(self, place: tuple[str, ...], name: str) -> None:
        value: Any = utc(2020, 6, 1) if place[0] == "timestamps" else FIRST_OF_JUNE
        job = decoded(placed(place, FIRST_OF_JUNE))
        assert job == attrs.evolve(Job(id="a", status="pending"), **{name: value})

    def test_what_else_there_is_changes_nothing(self) -> None:
        more = dict.fromkeys(["created_at", "updated_at"], FIRST_OF_JUNE)
        more |= dict.fromkeys(["self_url", "file_url", "state", "is_terminal", "new"], "other")
        assert decoded(MINIMAL | more) == Job(id="a", status="pending")


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
            pytest.param("1970-01-01T00:00:00Z", utc(1970, 1, 1), id="epoch"),
            pytest.param("0002-01-01T00:00:00Z", utc(2, 1, 1), id="the-year-2"),
            pytest.param("9999-12-31T23:59:59Z", utc(9999, 12, 31, 23, 59, 59), id="the-last-year"),
            pytest.param("0001-01-01T00:00:00Z", None, id="zero-time"),
            pytest.param("0001-12-31T23:59:59Z", None, id="the-year-1"),
            pytest.param("0001-01-01T00:00:00+01:00", None, id="before-all-time"),
            pytest.param("9999-12-31T23:59:59-01:00", None, id="after-all-time"),
            pytest.param("2018-08-20T15:01:13", None, id="naive"),
            pytest.param("2018-08-20", None, id="date"),
            pytest.param("2018-02-30T00:00:00Z", None, id="no-such-day"),
            pytest.param("2018-08-20T25:00:00Z", None, id="no-such-hour"),
            pytest.param("2018-08-20T15:01:60Z", None, id="leap-second"),
            pytest.param("2018-08-20T15:01:13+99:00", None, id="no-such-offset"),
            pytest.param("string", None, id="nonsense"),
            pytest.param("Mon, 20 Aug 2018 15:01:13 GMT", None, id="http-date"),
            pytest.param("1534777273", None, id="epoch-seconds"),
            pytest.param("x" * 10_000, None, id="long"),
            pytest.param("2018-08-20T15:01:13.\ud800Z", None, id="lone-surrogate"),
            pytest.param(1534777273, None, id="number"),
        ],
    )
    @pytest.mark.parametrize("name", ["created_at", "updated_at"])
    def test_it(self, name: str, text: str | int, moment: datetime.datetime | None) -> None:
        job = decoded(MINIMAL | {"timestamps": {name: text}})
        found = getattr(job, name)
        assert found == moment
        assert found is None or found.tzinfo is datetime.UTC
        assert job.status == "pending"


class TestErrorClasses:
    @pytest.mark.parametrize(
        ("status", "kind", "temporary"),
        [
            (100, APIError, False),
            (199, APIError, False),
            (300, APIError, False),
            (304, APIError, False),
            (399, APIError, False),
            (400, APIError, False),
            (401, AuthenticationError, False),
            (402, APIError, False),
            (403, PermissionDeniedError, False),
            (404, JobNotFoundError, False),
            (405, APIError, False),
            (408, APIError, True),
            (409, APIError, False),
            (410, APIError, False),
            (418, APIError, False),
            (428, APIError, False),
            (429, RateLimitError, True),
            (430, APIError, False),
            (499, APIError, False),
            (500, ServerError, True),
            (501, ServerError, True),
            (502, ServerError, True),
            (503, ServerError, True),
            (599, ServerError, True),
            (600, APIError, False),
            (999, APIError, False),
        ],
    )
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="empty"),
            pytest.param(PENDING, id="job"),
            pytest.param(LISTED_500, id="another-status"),
            pytest.param(b"\xff", id="not-utf-8"),
        ],
    )
    def test_come_from_the_status_alone(
        self, status: int, kind: type[APIError], body: bytes, *, temporary: bool
    ) -> None:
        error = api_error(body, status)
        assert type(error) is kind
        assert error.status == status
        assert error.temporary is temporary
        assert str(error).startswith(f"job a: the service answered {status}")

    def test_the_bare_404_of_the_documents(self) -> None:
        error = api_error(BARE_404, 404)
        assert isinstance(error, JobNotFoundError)
        assert error.job_id == "a"
        assert error.errors == (
            {
                "title": "Resource Not Found",
                "status": 404,
                "detail": "The resource you are requesting does not exist",
            },
        )
        assert error.request_id is None
        assert error.retry_after is None
        assert str(error).startswith(
            "job a: the service answered 404: Resource Not Found: "
            "The resource you are requesting does not exist. Check the id"
        )

    def test_the_500_of_the_documents(self) -> None:
        error = api_error(LISTED_500, 500)
        assert error.errors == (
            {
                "status": 500,
                "title": "Internal Server Error",
                "detail": (
                    "There was an internal server error, you can report with your request id."
                ),
                "request_id": "635da56d-75a1-43cd-b696-7ab119756b3a",
            },
        )
        assert error.request_id == "635da56d-75a1-43cd-b696-7ab119756b3a"

    def test_the_500_of_the_schema(self) -> None:
        error = api_error(SCHEMA_500, 500)
        assert error.errors[0]["meta"] == {"missing_ids": ["e7d50bd5-1833-43c0-9848-f9d325b08be8"]}
        assert error.request_id == "00000000-0000-0000-0000-000000000000"

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
    def test_a_redirect_names_both_ends(self, status: int) -> None:
        error = api_error(status=status, headers={"Location": "http://other.example/\x1b"})
        assert str(error) == (
            f"job a: the service answered {status}. It redirects {URL} to "
            r"http://other.example/\x1b, which is never followed, since the token would go along: "
            "set base_url to the address of the service itself."
        )

    def test_a_redirect_without_a_target(self) -> None:
        assert f"It redirects {URL} to nowhere, which is never" in str(api_error(status=302))

    @pytest.mark.parametrize("status", [199, 400])
    def test_what_is_no_redirect_names_no_target(self, status: int) -> None:
        error = api_error(status=status, headers={"Location": "http://other.example/"})
        assert "redirect" not in str(error)
        assert "other.example" not in str(error)


def nested(levels: int, *, lists: bool) -> dict[str, Any]:
    """An object of that many levels, itself included."""
    value: object = "x"
    for level in range(levels - 1):
        value = [value] if lists and level % 2 else {"meta": value}
    return {"title": "deep", "meta": value}


class TestErrorBodies:
    @pytest.mark.parametrize(
        ("body", "errors"),
        [
            pytest.param(b'{"errors": [{"title": "x"}]}', [{"title": "x"}], id="listed"),
            pytest.param(b'{"title": "x"}', [{"title": "x"}], id="bare"),
            pytest.param(b'{"title": null}', [{"title": None}], id="bare-null-title"),
            pytest.param(b'{"message": "x"}', [], id="something-else"),
            pytest.param(
                b'{"errors": [{"status": "400", "title": "x"}]}',
                [{"status": "400", "title": "x"}],
                id="status-as-a-string",
            ),
            pytest.param(
                b'{"errors": [{"n": 1}, {"n": 2}, {}]}', [{"n": 1}, {"n": 2}, {}], id="several"
            ),
            pytest.param(
                b'{"errors": [null, "x", 7, ["y"], {"title": "z"}, true]}',
                [{"title": "z"}],
                id="not-all-objects",
            ),
            pytest.param(
                b'{"title": "outer", "errors": [{"title": "inner"}]}',
                [{"title": "inner"}],
                id="listed-and-bare",
            ),
            pytest.param(b'{"errors": []}', [], id="empty-list"),
            pytest.param(b'{"errors": {"title": "x"}}', [{"title": "x"}], id="object-for-list"),
            pytest.param(b'{"errors": "x"}', [], id="string-for-list"),
            pytest.param(b'{"errors": null}', [], id="null-for-list"),
            pytest.param(b"", [], id="empty"),
            pytest.param(b"oops", [], id="not-json"),
            pytest.param(b"<html><title>502</title></html>", [], id="html"),
            pytest.param(b'[{"title": "x"}]', [], id="list"),
            pytest.param(b"null", [], id="null"),
            pytest.param(b'"title"', [], id="string"),
            pytest.param(b'{"title": NaN}', [], id="nan"),
            pytest.param(b'{"title": "x"}\xff', [], id="not-utf-8"),
            pytest.param(b'{"title": "x"}'.ljust(1_048_577), [], id="too-long"),
            pytest.param(b'{"title": "x"}'.ljust(1_048_576), [{"title": "x"}], id="longest"),
            pytest.param(b'{"errors":' + b"[" * 100_000, [], id="bottomless"),
        ],
    )
    @pytest.mark.parametrize("status", [400, 404, 500])
    def test_errors_as_sent(self, status: int, body: bytes, errors: list[dict[str, Any]]) -> None:
        assert api_error(body, status).errors == tuple(errors)

    @pytest.mark.parametrize("lists", [False, True], ids=["objects", "lists"])
    @pytest.mark.parametrize("levels", [1, 2, 31, 32])
    def test_a_deep_error_is_kept_and_pickles(self, levels: int, *, lists: bool) -> None:
        deep = nested(levels, lists=lists)
        error = api_error(json.dumps({"errors": [deep]}).encode())
        assert error.errors == (deep,)
        assert pickle.loads(pickle.dumps(error)).errors == (deep,)  # noqa: S301 (made on this line)

    @pytest.mark.parametrize("lists", [False, True], ids=["objects", "lists"])
    @pytest.mark.parametrize("levels", [33, 34, 500])
    def test_a_deeper_one_is_dropped_alone(self, levels: int, *, lists: bool) -> None:
        deep = nested(levels, lists=lists)
        body = json.dumps({"errors": [{"title": "a"}, deep, {"title": "b"}]}).encode()
        error = api_error(body)
        assert error.errors == ({"title": "a"}, {"title": "b"})
        assert pickle.loads(pickle.dumps(error)).errors == error.errors  # noqa: S301 (made here)

    def test_one_deep_value_among_others_is_enough(self) -> None:
        error = {"title": "a", "first": 1, "deep": nested(32, lists=True), "last": 2}
        assert api_error(json.dumps({"errors": [error]}).encode()).errors == ()

    @pytest.mark.parametrize(
        ("body", "headers", "request_id"),
        [
            pytest.param(b'{"errors": [{"request_id": "b"}]}', {}, "b", id="body"),
            pytest.param(b'{"title": "x", "request_id": "b"}', {}, "b", id="bare-body"),
            pytest.param(
                b'{"errors": [{"request_id": "b"}]}', {"X-Request-Id": "h"}, "b", id="both"
            ),
            pytest.param(b'{"errors": [{}]}', {"X-Request-Id": "h"}, "h", id="header"),
            pytest.param(b"", {"X-Request-Id": "h"}, "h", id="header-without-body"),
            pytest.param(
                b'{"errors": [{"request_id": ""}]}', {"X-Request-Id": "h"}, "h", id="empty"
            ),
            pytest.param(
                b'{"errors": [{"request_id": 7}]}', {"X-Request-Id": "h"}, "h", id="number"
            ),
            pytest.param(b'{"errors": [{"request_id": null}]}', {}, None, id="null"),
            pytest.param(b'{"errors": [{}, {"request_id": "b"}]}', {}, None, id="not-in-first"),
            pytest.param(b"", {}, None, id="none"),
        ],
    )
    @pytest.mark.parametrize("status", [404, 500])
    def test_the_request_id(
        self, status: int, body: bytes, headers: dict[str, str], request_id: str | None
    ) -> None:
        assert api_error(body, status, headers).request_id == request_id

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("3", 3.0),
            ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
            ("Sun, 06 Nov 1994 08:49:27 GMT", 0.0),
            ("soon", None),
        ],
    )
    @pytest.mark.parametrize("status", [404, 429, 503])
    def test_retry_after(self, status: int, header: str, seconds: float | None) -> None:
        error = api_error(status=status, headers={"Retry-After": header})
        assert error.retry_after == seconds

    def test_no_retry_after(self) -> None:
        assert api_error(status=429).retry_after is None


class TestToken:
    def test_the_answer_of_the_documents(self) -> None:
        assert decode_token(answer(TOKEN)) == ("xa3521ca621113e44eeed9232fa3e54571cb08bc", 3600.0)

    @pytest.mark.parametrize("status", [200, 201, 299])
    def test_every_2xx_is_a_success(self, status: int) -> None:
        assert decode_token(answer(b'{"access_token": "t"}', status)) == ("t", None)

    @pytest.mark.parametrize(
        ("expires_in", "seconds"),
        [
            ("3600", 3600.0),
            ("1", 1.0),
            ("0.5", 0.5),
            ("1e-9", 1e-9),
            ("999999999", 999999999.0),
            ("999999999.5", 999999999.5),
            ("1000000000", None),
            ("1e9", None),
            ("1e400", None),
            ("9" * 400, None),
            ("0", None),
            ("0.0", None),
            ("-1", None),
            ("true", None),
            ("false", None),
            ('"3600"', None),
            ("null", None),
            ("[3600]", None),
            ("{}", None),
        ],
        ids=lambda value: str(value)[:12],
    )
    def test_its_lifetime(self, expires_in: str, seconds: float | None) -> None:
        body = f'{{"access_token": "t", "expires_in": {expires_in}}}'.encode()
        token, lifetime = decode_token(answer(body))
        assert token == "t"
        assert lifetime == seconds
        assert lifetime is None or type(lifetime) is float

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            pytest.param(b"", "its body is empty", id="empty"),
            pytest.param(
                TOKEN.ljust(1_048_577), "its body is longer than 1048576 bytes", id="too-long"
            ),
            pytest.param(TOKEN + b"\xff", "its body is not UTF-8", id="not-utf-8"),
            pytest.param(
                b"secret-token",
                "its body is not JSON (Expecting value: line 1 column 1 (char 0))",
                id="not-json",
            ),
            pytest.param(
                b'{"access_token": "secret-token", "expires_in": NaN}',
                "it holds NaN, which is not JSON",
                id="nan",
            ),
            pytest.param(
                b'{"access_token": "secret-token", "access_token": "secret-token"}',
                "it holds a key twice",
                id="key-twice",
            ),
            pytest.param(
                b'{"access_token": "secret-token", "a": ' + b"[" * 100_000,
                "its JSON is nested too deep",
                id="deep",
            ),
            *(
                pytest.param(body, "it holds no usable access_token", id=body.decode())
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
    def test_an_unusable_answer(self, body: bytes, problem: str) -> None:
        error = token_error(answer(body, 201))
        assert type(error) is InvalidResponseError
        assert str(error) == (
            f"the request for a token: the service answered 201, but {problem}. Try again; if it "
            "stays so, see whether base_url and every proxy on the way lead to the service."
        )
        assert error.status == 201
        assert error.body == b""

    @pytest.mark.parametrize("status", [400, 401, 403])
    def test_refused_credentials(self, status: int) -> None:
        error = token_error(answer(LISTED_500, status, {"X-Request-Id": "h"}))
        assert type(error) is AuthenticationError
        assert vars(error) == {
            "status": status,
            "errors": (),
            "request_id": "h",
            "retry_after": None,
            "temporary": False,
        }
        assert str(error) == (
            f"the request for a token: the service answered {status} (request id h). Check the "
            "client id and secret, and that base_url is the region of the store."
        )
        assert token_error(answer(b"", status)).__dict__["request_id"] is None

    @pytest.mark.parametrize(
        ("status", "kind"),
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
    def test_other_errors(self, status: int, kind: type[APIError]) -> None:
        headers = {"X-Request-Id": "h", "Retry-After": "3", "Location": "/elsewhere"}
        error = token_error(answer(LISTED_500, status, headers))
        assert type(error) is kind
        assert vars(error) == {
            "status": status,
            "errors": (),
            "request_id": "h",
            "retry_after": 3.0,
            "temporary": status in {408, 429, 500, 599},
        }
        assert str(error).startswith(
            f"the request for a token: the service answered {status} (request id h). "
        )
        assert ("/elsewhere" in str(error)) is (status in {300, 399})


def token_error(given: Answer) -> InvalidResponseError | APIError:
    with pytest.raises(MoltinJobsError) as caught:
        decode_token(given)
    assert isinstance(caught.value, (InvalidResponseError, APIError))
    return caught.value


def all_that_shows(error: BaseException | None) -> Iterator[str]:
    """The texts of an error, and of the locals in its frames, these tests' own aside."""
    while error is not None:
        yield from (str(error), repr(error), repr(vars(error)), repr(error.args))
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename != __file__:
                yield from map(repr, trace.tb_frame.f_locals.values())
            trace = trace.tb_next
        error = error.__cause__ or error.__context__


class TestTokenSecrets:
    @pytest.mark.parametrize(
        ("body", "status"),
        [
            pytest.param(b"secret-token", 200, id="not-json"),
            pytest.param(b"secret-token\xff", 200, id="not-utf-8"),
            pytest.param(b'{"access_token": "secret-token"', 200, id="cut"),
            pytest.param(b'{"access_token": "secret-token", "x": NaN}', 200, id="nan"),
            pytest.param(b'{"a": "secret-token", "a": "secret-token"}', 200, id="key-twice"),
            pytest.param(b'{"access_token": "secret-token \\n"}', 200, id="unusable"),
            pytest.param(b'{"token": "secret-token"}', 200, id="elsewhere"),
            pytest.param(b'["secret-token"]', 200, id="list"),
            pytest.param(b'"secret-token"'.ljust(1_048_577), 200, id="too-long"),
            pytest.param(b'{"secret-token": ' + b"[" * 100_000, 200, id="deep"),
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
    def test_nothing_of_the_body_is_in_the_error(self, body: bytes, status: int) -> None:
        error = token_error(answer(body, status))
        shown = list(all_that_shows(error))
        assert any("the request for a token" in text for text in shown)
        assert not [text for text in shown if "secret-token" in text]
        assert b"secret-token" not in pickle.dumps(error)
        assert error.__context__ is None

    def test_an_answer_does_not_show_its_body(self) -> None:
        assert repr(answer(b"secret-token", 200, {"Age": "1"})) == (
            f"Answer(url='{URL}', status=200, headers={{'Age': '1'}}, now=784111777.0)"
        )


class TestIsToken:
    @pytest.mark.parametrize(
        "text",
        ["a", "!", "~", "xa3521ca621113e44", "eyJ0.eyJz-_.c2ln==", "x" * 10_000],
        ids=lambda text: text[:20],
    )
    def test_what_can_be_sent(self, text: str) -> None:
        assert is_token(text) is True

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "a b",
            " a",
            "a ",
            "a\tb",
            "a\n",
            "\x1f",
            "\x7f",
            "\x00",
            "ä",
            "\ud800",
            "a\u00a0",
        ],
        ids=ascii,
    )
    def test_what_cannot(self, text: str) -> None:
        assert is_token(text) is False


@pytest.mark.parametrize("digits", [400, 401])
def test_a_number_of_hundreds_of_digits_is_refused_in_plain_words(digits: int) -> None:
    body = b'{"data": {"id": "a", "status": "pending", "x": %s}}' % (b"9" * digits)
    answer = Answer("http://127.0.0.1/", 200, {}, body, 0.0)
    if digits == 400:
        assert decode_job(answer, "a").id == "a"
    else:
        with pytest.raises(InvalidResponseError, match="it holds a number of 401 digits"):
            decode_job(answer, "a")


def test_an_empty_request_id_is_none() -> None:
    answer = Answer("http://127.0.0.1/", 500, {"X-Request-Id": ""}, b"", 0.0)
    with pytest.raises(ServerError) as caught:
        decode_job(answer, "a")
    assert caught.value.request_id is None
    assert "request id )" not in str(caught.value)


def test_a_408_says_to_try_again() -> None:
    with pytest.raises(
        APIError, match=r"The service gave up waiting for the request: try again\.$"
    ) as caught:
        decode_job(Answer("http://127.0.0.1/", 408, {}, b"", 0.0), "a")
    assert caught.value.temporary
