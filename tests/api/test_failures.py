import json
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from moltin_jobs._api import endpoints
from moltin_jobs._api.endpoints import Request
from moltin_jobs._api.failures import (
    api_error,
    invalid_response,
    mark_uncertain,
    no_file_error,
    parse_retry_after,
    service_time,
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
    TransportError,
)
from moltin_jobs.kinds import PXM, JobKind, catalog_releases
from moltin_jobs.models import Job
from tests.api.responses import (
    BARE_404,
    CLIENT_SECRET,
    CREATE_JOB,
    GET_FILE,
    GET_JOB,
    LIST_JOBS,
    LISTED_500,
    NOW,
    PENDING,
    REQUEST_TOKEN,
    SCHEMA_500,
    TOKEN,
    URL,
    make_response,
)


def make_api_error(
    body: bytes = b"",
    status: int = 500,
    headers: Mapping[str, str] | None = None,
    *,
    secret: str | None = None,
    request: Request = GET_JOB,
) -> APIError:
    return api_error(make_response(body, status, headers, secret=secret), request)


class TestClassOfAPIError:
    @pytest.mark.parametrize(
        ("status", "cls", "retryable"),
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
            (407, APIError, False),
            (408, APIError, True),
            (409, APIError, False),
            (410, APIError, False),
            (418, APIError, False),
            (421, APIError, True),
            (422, APIError, False),
            (424, APIError, False),
            (425, APIError, True),
            (426, APIError, False),
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
    def test_api_error_class_depends_on_status_alone(
        self, status: int, cls: type[APIError], body: bytes, *, retryable: bool
    ) -> None:
        error = make_api_error(body, status)
        assert type(error) is cls
        assert error.status == status
        assert error.retryable is retryable
        assert error.job_id == "a"
        assert f"responded with status {status}" in str(error)

    @pytest.mark.parametrize("request_", [LIST_JOBS, CREATE_JOB, REQUEST_TOKEN], ids=str)
    def test_api_error_404_of_request_without_job_is_not_job_not_found(
        self, request_: Request
    ) -> None:
        error = make_api_error(BARE_404, 404, request=request_)
        assert type(error) is APIError
        assert error.job_id is None

    def test_api_error_of_documented_bare_404_has_its_texts(self) -> None:
        error = make_api_error(BARE_404, 404)
        assert isinstance(error, JobNotFoundError)
        assert error.job is None
        assert error.errors == (
            {
                "title": "Resource Not Found",
                "status": 404,
                "detail": "The resource you are requesting does not exist",
            },
        )
        assert error.request_id is None
        assert error.retry_after is None
        assert str(error) == (
            "job a: the service responded with status 404: Resource Not Found: "
            "The resource you are requesting does not exist. "
            "Check the id and the store. Jobs expire one week after their creation. "
            "For a job of another kind, pass its kind: pxm, subscription, subscription-import, "
            "inventory-import or release:CATALOG_ID."
        )

    def test_api_error_of_documented_500_has_its_request_id(self) -> None:
        error = make_api_error(LISTED_500)
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

    def test_api_error_of_schema_500_has_its_meta_data(self) -> None:
        error = make_api_error(SCHEMA_500)
        assert error.errors[0]["meta"] == {"missing_ids": ["e7d50bd5-1833-43c0-9848-f9d325b08be8"]}
        assert error.request_id == "00000000-0000-0000-0000-000000000000"


class TestGateway:
    @pytest.mark.parametrize("status", [403, 404])
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"<html><title>Forbidden</title></html>", id="html"),
            pytest.param(b"Forbidden", id="text"),
            pytest.param(b"null", id="null"),
            pytest.param(b'[{"title": "x", "status": 404}]', id="list"),
            pytest.param(b'{"message": "Forbidden"}', id="other-object"),
            pytest.param(b'{"title": "x"}', id="without-status"),
            pytest.param(b'{"status": 404}', id="without-title"),
            pytest.param(b'{"errors": []}', id="empty-list"),
            pytest.param(b'{"errors": {"title": "x"}}', id="object-for-list"),
            pytest.param(b'{"errors": "x"}', id="string-for-list"),
            pytest.param(BARE_404.ljust(1_048_577), id="too-large"),
        ],
    )
    def test_api_error_of_403_or_404_in_another_form_is_from_gateway(
        self, status: int, body: bytes
    ) -> None:
        error = make_api_error(body, status, {"X-Request-Id": "r"})
        assert error.from_gateway is True
        assert error.retryable is False
        title = ": x" if error.errors and "title" in error.errors[0] else ""
        assert str(error) == (
            f"job a: a proxy or gateway, not the service, responded with status {status}{title} "
            "(request id r). Try again later. If it happens again, check that base_url and all "
            "proxies lead to the service."
        )

    @pytest.mark.parametrize("status", [403, 404])
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(BARE_404, id="bare"),
            pytest.param(b'{"title": null, "status": null}', id="bare-nulls"),
            pytest.param(b'{"errors": [], "title": "x", "status": 404}', id="bare-and-empty-list"),
            pytest.param(b'{"errors": [{"title": "Forbidden"}]}', id="list"),
            pytest.param(b'{"errors": [null]}', id="list-of-null"),
        ],
    )
    def test_api_error_of_403_or_404_in_form_of_service_is_not_from_gateway(
        self, status: int, body: bytes
    ) -> None:
        error = make_api_error(body, status)
        assert error.from_gateway is False
        assert str(error).startswith(f"job a: the service responded with status {status}")

    @pytest.mark.parametrize("status", [302, 400, 401, 402, 405, 410, 429, 500, 503])
    def test_api_error_of_other_status_is_not_from_gateway(self, status: int) -> None:
        error = make_api_error(b"<html>", status)
        assert error.from_gateway is False
        assert str(error).startswith(f"job a: the service responded with status {status}. ")

    @pytest.mark.parametrize(
        ("status", "cls"), [(403, AuthenticationError), (404, APIError)], ids=str
    )
    def test_api_error_of_token_request_may_be_from_gateway(
        self, status: int, cls: type[APIError]
    ) -> None:
        error = make_api_error(b"<html>", status, request=REQUEST_TOKEN)
        assert type(error) is cls
        assert error.from_gateway is True
        assert "a proxy or gateway, not the service," in str(error)
        assert not make_api_error(LISTED_500, status, request=REQUEST_TOKEN).from_gateway


class TestAdvice:
    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
    def test_api_error_of_redirect_names_source_and_target(self, status: int) -> None:
        error = make_api_error(status=status, headers={"Location": "http://other.example/\x1b"})
        assert str(error) == (
            f"job a: the service responded with status {status}. It redirects {URL} to "
            r"http://other.example/\x1b. The client never follows a redirect, since it would send "
            "the token there: set base_url to the address of the service."
        )

    def test_api_error_of_redirect_leaves_out_a_signature(self) -> None:
        error = make_api_error(
            status=302, headers={"Location": "https://files.example/a?Signature=s1gnature"}
        )
        assert "redirects" in str(error)
        assert "https://files.example/a. " in str(error)
        assert "s1gnature" not in str(error)

    def test_api_error_of_redirect_without_location_names_no_target(self) -> None:
        assert f"It redirects {URL} to nowhere. The client" in str(make_api_error(status=302))

    @pytest.mark.parametrize("status", [199, 299, 400])
    def test_api_error_of_other_status_ignores_location(self, status: int) -> None:
        error = make_api_error(status=status, headers={"Location": "http://other.example/"})
        assert "redirect" not in str(error)
        assert "other.example" not in str(error)

    @pytest.mark.parametrize(
        ("status", "advice"),
        [
            (400, "The service rejects this request: change it before you send it again."),
            (408, "Try again later."),
            (421, "Try again later."),
            (425, "Try again later."),
        ],
    )
    def test_api_error_advises_to_repeat_only_if_retryable(self, status: int, advice: str) -> None:
        assert str(make_api_error(status=status)) == (
            f"job a: the service responded with status {status}. {advice}"
        )

    @pytest.mark.parametrize(("status", "cls"), [(405, APIError), (501, ServerError)])
    @pytest.mark.parametrize("sent", [GET_JOB, REQUEST_TOKEN], ids=["job", "token"])
    def test_api_error_of_unknown_method_advises_to_check_base_url(
        self, status: int, cls: type[APIError], sent: Request
    ) -> None:
        error = make_api_error(b"<html>", status, request=sent)
        assert type(error) is cls
        assert str(error) == (
            f"{sent.description}: the service responded with status {status}. "
            "Check that base_url and all proxies lead to the service."
        )


def nest(levels: int, *, lists: bool) -> dict[str, Any]:
    """Return an object of that many levels, itself included."""
    value: object = "x"
    for level in range(levels - 1):
        value = [value] if lists and level % 2 else {"meta": value}
    return {"title": "deep", "meta": value}


class TestErrorObjects:
    @pytest.mark.parametrize(
        ("body", "errors"),
        [
            pytest.param(b'{"errors": [{"title": "x"}]}', [{"title": "x"}], id="list"),
            pytest.param(b'{"title": "x"}', [{"title": "x"}], id="bare"),
            pytest.param(b'{"title": null}', [{"title": None}], id="bare-null-title"),
            pytest.param(b'{"message": "x"}', [], id="without-title"),
            pytest.param(b'\xef\xbb\xbf{"title": "x"}', [{"title": "x"}], id="byte-order-mark"),
            pytest.param(
                b'{"errors": [{"status": "400", "title": "x"}]}',
                [{"status": "400", "title": "x"}],
                id="status-as-string",
            ),
            pytest.param(
                b'{"errors": [{"n": 1}, {"n": 2}, {}]}', [{"n": 1}, {"n": 2}, {}], id="several"
            ),
            pytest.param(
                b'{"errors": [null, "x", 7, ["y"], {"title": "z"}, true]}',
                [{"title": "z"}],
                id="not-only-objects",
            ),
            pytest.param(
                b'{"title": "outer", "errors": [{"title": "inner"}]}',
                [{"title": "inner"}],
                id="list-and-bare",
            ),
            pytest.param(b'{"errors": []}', [], id="empty-list"),
            pytest.param(b'{"title": "x", "errors": []}', [], id="empty-list-and-bare"),
            pytest.param(b'{"errors": {"title": "x"}}', [{"title": "x"}], id="object-for-list"),
            pytest.param(b'{"errors": {}}', [{}], id="empty-object-for-list"),
            pytest.param(b'{"errors": "x"}', [], id="string-for-list"),
            pytest.param(b'{"errors": null}', [], id="null-for-list"),
            pytest.param(
                b'{"errors": null, "title": "x"}',
                [{"errors": None, "title": "x"}],
                id="null-and-bare",
            ),
            pytest.param(b"", [], id="empty"),
            pytest.param(b"oops", [], id="not-json"),
            pytest.param(b"<html><title>502</title></html>", [], id="html"),
            pytest.param(b'[{"title": "x"}]', [], id="top-level-list"),
            pytest.param(b"null", [], id="null"),
            pytest.param(b'"title"', [], id="string"),
            pytest.param(b'{"title": Infinity}', [{"title": float("inf")}], id="infinity"),
            pytest.param(b'{"title": "x"}\xff', [], id="not-utf-8"),
            pytest.param(b'{"title": "x"}'.ljust(1_048_577), [], id="too-large"),
            pytest.param(b'{"title": "x"}'.ljust(1_048_576), [{"title": "x"}], id="largest"),
            pytest.param(b'{"errors":' + b"[" * 100_000, [], id="too-deep"),
        ],
    )
    @pytest.mark.parametrize("status", [400, 404, 500])
    def test_api_error_keeps_error_objects_as_sent(
        self, status: int, body: bytes, errors: list[dict[str, Any]]
    ) -> None:
        assert make_api_error(body, status).errors == tuple(errors)

    @pytest.mark.parametrize("lists", [False, True], ids=["objects", "lists"])
    @pytest.mark.parametrize("levels", [1, 2, 31, 32])
    def test_api_error_keeps_deep_error_object_and_pickles(
        self, levels: int, *, lists: bool
    ) -> None:
        deep = nest(levels, lists=lists)
        error = make_api_error(json.dumps({"errors": [deep]}).encode())
        assert error.errors == (deep,)
        assert pickle.loads(pickle.dumps(error)).errors == (deep,)  # noqa: S301 (made on this line)

    @pytest.mark.parametrize("lists", [False, True], ids=["objects", "lists"])
    @pytest.mark.parametrize("levels", [33, 34, 500])
    def test_api_error_drops_only_error_object_that_is_too_deep(
        self, levels: int, *, lists: bool
    ) -> None:
        deep = nest(levels, lists=lists)
        body = json.dumps({"errors": [{"title": "a"}, deep, {"title": "b"}]}).encode()
        error = make_api_error(body)
        assert error.errors == ({"title": "a"}, {"title": "b"})
        assert pickle.loads(pickle.dumps(error)).errors == error.errors  # noqa: S301 (made here)

    def test_api_error_drops_error_object_with_one_deep_value_among_others(self) -> None:
        error = {"title": "a", "first": 1, "deep": nest(32, lists=True), "last": 2}
        assert make_api_error(json.dumps({"errors": [error]}).encode()).errors == ()

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
            pytest.param(b"", {"X-Request-Id": ""}, None, id="empty-header"),
            pytest.param(b"", {}, None, id="none"),
        ],
    )
    @pytest.mark.parametrize("status", [404, 500])
    def test_api_error_takes_request_id_from_first_error_object_or_header(
        self, status: int, body: bytes, headers: dict[str, str], request_id: str | None
    ) -> None:
        error = make_api_error(body, status, headers)
        assert error.request_id == request_id
        assert ("(request id " in str(error)) is (request_id is not None)


class TestRetryAfterOfAPIError:
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
    def test_api_error_has_retry_after_of_header(
        self, status: int, header: str, seconds: float | None
    ) -> None:
        error = make_api_error(status=status, headers={"Retry-After": header})
        assert error.retry_after == seconds

    def test_api_error_without_header_has_no_retry_after(self) -> None:
        assert make_api_error(status=429).retry_after is None


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set local time nine hours ahead of UTC."""
    monkeypatch.setenv("TZ", "XXX-9")
    time.tzset()
    assert time.localtime(0).tm_hour == 9
    yield
    monkeypatch.undo()
    time.tzset()


class TestParseRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            pytest.param("0", 0.0, id="zero"),
            pytest.param("7", 7.0, id="one-digit"),
            pytest.param("120", 120.0, id="digits"),
            pytest.param("007", 7.0, id="leading-zeros"),
            pytest.param(" 5\t", 5.0, id="white-space"),
            pytest.param("999999999", 999999999.0, id="nine-digits"),
            pytest.param("1000000000", 1e9, id="ten-digits"),
            pytest.param("9999999999", 1e9, id="more-than-a-billion"),
            pytest.param("9" * 10_000, 1e9, id="thousands-of-digits"),
            pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", 0.0, id="date-now"),
            pytest.param("Sun, 06 Nov 1994 08:49:36 GMT", 0.0, id="date-past"),
            pytest.param("Sun, 06 Nov 1994 08:49:38 GMT", 1.0, id="date-ahead"),
            pytest.param("Sun, 06 Nov 1994 08:51:37 GMT", 120.0, id="date-further-ahead"),
            pytest.param("Sun, 06 Nov 1994 08:49:40 -0000", 3.0, id="date-naive"),
            pytest.param("Sun, 06 Nov 1994 10:49:40 +0200", 3.0, id="date-with-offset"),
            pytest.param("Sunday, 06-Nov-94 08:49:40 GMT", 3.0, id="date-rfc850"),
            pytest.param("Sun Nov  6 08:49:40 1994", 3.0, id="date-asctime"),
            pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", 1e9, id="date-far-ahead"),
            pytest.param("Wed, 01 Jan 1000 00:00:00 GMT", 0.0, id="date-far-back"),
        ],
    )
    def test_parse_retry_after_reads_digits_and_dates(self, value: str, seconds: float) -> None:
        found = parse_retry_after(value, NOW)
        assert found == seconds
        assert type(found) is float

    @pytest.mark.usefixtures("far_east")
    @pytest.mark.parametrize(
        "value", ["Sun, 06 Nov 1994 08:49:40 -0000", "Sun Nov  6 08:49:40 1994"]
    )
    def test_parse_retry_after_takes_date_without_zone_as_utc(self, value: str) -> None:
        assert parse_retry_after(value, NOW) == 3.0

    def test_parse_retry_after_of_date_counts_fractions_of_second(self) -> None:
        assert parse_retry_after("Sun, 06 Nov 1994 08:49:38 GMT", NOW + 0.25) == 0.75

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "",
            "  ",
            "1.5",
            "-1",
            "+1",
            "1_000",
            "1 0",
            "0x10",
            "1e3",
            "nan",
            "inf",
            "\u0661\u0662",
            "\u00b2",
            "soon",
            "Sun, 06 Nov 1994",
            "Sun, 06 Nov 99999 08:49:37 GMT",
            "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 +99999999999999999999",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "1994-11-06T08:49:37Z",
            "\ud800",
        ],
        ids=ascii,
    )
    def test_parse_retry_after_of_anything_else_is_none(self, value: str | None) -> None:
        assert parse_retry_after(value, NOW) is None


class TestSecretsInAPIError:
    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            pytest.param({"errors": [{"title": TOKEN}]}, {}, id="title"),
            pytest.param({"title": "x", "detail": f"Bearer {TOKEN}"}, {}, id="detail"),
            pytest.param({"errors": [{"title": "x", "request_id": TOKEN}]}, {}, id="request-id"),
            pytest.param({"errors": [{"meta": [{"sent": [TOKEN]}]}]}, {}, id="meta-data"),
            pytest.param({"errors": [{TOKEN: "x"}]}, {}, id="key"),
            pytest.param({}, {"X-Request-Id": TOKEN}, id="header"),
            pytest.param({}, {"Location": f"https://e.example/?t={TOKEN}"}, id="location"),
            pytest.param(
                {}, {"Location": f"https://e.example/{'x' * 470}{TOKEN}"}, id="location-at-the-cut"
            ),
            *(
                pytest.param({"errors": [{"title": "x" * size + TOKEN}]}, {}, id=f"{size}-before")
                for size in (478, 490, 499, 500)
            ),
        ],
    )
    @pytest.mark.parametrize("status", [302, 401, 404, 500])
    def test_api_error_masks_token(
        self, status: int, body: dict[str, Any], headers: dict[str, str]
    ) -> None:
        content = json.dumps(body).replace("/", "\\/").encode()
        error = make_api_error(content, status, headers, secret=TOKEN)
        texts = [str(error), repr(error), repr(vars(error)), repr(pickle.dumps(error))]
        assert [text for text in texts if "t0" in text] == []

    def test_api_error_masks_short_token_only_as_whole_word(self) -> None:
        body = json.dumps({"title": "tok is not the token", "detail": "Bearer tok"}).encode()
        error = make_api_error(body, 401, secret="tok")
        assert error.errors == ({"title": "*** is not the token", "detail": "Bearer ***"},)

    @pytest.mark.parametrize("status", [302, 404, 429, 500])
    def test_api_error_of_token_request_has_nothing_of_body(self, status: int) -> None:
        body = json.dumps({"errors": [{"title": "a", "request_id": "b"}]}).encode()
        headers = {"Location": f"/?{CLIENT_SECRET.value}", "X-Request-Id": CLIENT_SECRET.value}
        error = make_api_error(
            body, status, headers, secret=CLIENT_SECRET.value, request=REQUEST_TOKEN
        )
        assert error.errors == ()
        assert error.request_id == "***"
        assert "5ecret" not in str(error)


class TestRejectedCredentials:
    @pytest.mark.parametrize("status", [400, 401, 403])
    def test_api_error_of_rejected_credentials_names_what_to_check(self, status: int) -> None:
        response = make_response(LISTED_500, status, {"X-Request-Id": "h"})
        error = api_error(response, REQUEST_TOKEN)
        assert type(error) is AuthenticationError
        assert error.status == status
        assert error.errors == ()
        assert error.request_id == "h"
        assert error.retryable is False
        assert str(error) == (
            f"the token request: the service responded with status {status} (request id h). "
            "Check the client id and secret, and that base_url is the region of the store."
        )

    @pytest.mark.parametrize(
        ("headers", "request_id"),
        [({}, None), ({"X-Request-Id": ""}, None), ({"X-Request-Id": "5ecret-of-it"}, "***")],
        ids=["none", "empty", "repeats-the-secret"],
    )
    def test_api_error_of_rejected_credentials_masks_request_id(
        self, headers: dict[str, str], request_id: str | None
    ) -> None:
        response = make_response(b"", 401, headers, secret="5ecret-of-it")
        assert api_error(response, REQUEST_TOKEN).request_id == request_id


class TestNoFileError:
    @pytest.mark.parametrize(
        ("job", "advice"),
        [
            pytest.param(
                Job(id="a", status="started"),
                "The job exists with status started and has no file yet. Wait for it first.",
                id="running",
            ),
            pytest.param(
                Job(id="a", status="new\none"),
                "The job exists with status new one and has no file yet. Wait for it first.",
                id="unknown-status",
            ),
            pytest.param(
                Job(id="a", status="success"),
                "The job exists with status success, but has no file. Create a new job.",
                id="succeeded",
            ),
            pytest.param(
                Job(id="a", status="failed", error="No\nresults"),
                "The job exists with status failed (No results), but has no file. "
                "Create a new job.",
                id="failed",
            ),
            pytest.param(
                Job(id="a", status="cancelled"),
                "The job exists with status cancelled, but has no file. Create a new job.",
                id="cancelled",
            ),
        ],
    )
    def test_no_file_error_states_what_became_of_job(self, job: Job, advice: str) -> None:
        error = no_file_error(make_response(BARE_404, 404), GET_FILE, job)
        assert isinstance(error, JobNotFoundError)
        assert error.job is job
        assert error.job_id == "a"
        assert str(error) == (
            "the file of job a: the service responded with status 404: Resource Not Found: "
            f"The resource you are requesting does not exist. {advice}"
        )

    def test_no_file_error_of_document_without_address_has_no_other_advice(self) -> None:
        job = Job(id="a", status="success")
        error = no_file_error(make_response(), endpoints.get_file("a", PXM), job)
        assert type(error) is JobNotFoundError
        assert (error.status, error.job, error.job_id) == (404, job, "a")
        assert str(error) == (
            "the file of pxm job a: the response names no address. "
            "The job exists with status success, but has no file."
        )


@pytest.mark.parametrize(
    ("kind", "has_advice"), [(catalog_releases("c-1"), True), (PXM, False)], ids=["catalog", "pxm"]
)
def test_api_error_for_404_of_a_list_advises_to_check_the_catalog(
    kind: JobKind, has_advice: bool
) -> None:
    error = make_api_error(BARE_404, 404, request=endpoints.list_jobs(kind))
    assert type(error) is APIError
    assert ("Check the id of the catalog, and the store." in str(error)) is has_advice


class TestServiceTime:
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"Date": "Fri, 27 Nov 2026 12:00:00 GMT"}, "2026-11-27T12:00:00+00:00"),
            ({"Date": "Fri, 27 Nov 2026 12:00:00 +0200"}, "2026-11-27T10:00:00+00:00"),
            ({"Date": "yesterday"}, "1970-01-01T00:00:05+00:00"),
            ({}, "1970-01-01T00:00:05+00:00"),
        ],
    )
    def test_service_time_is_the_date_of_the_response_or_the_local_time(
        self, headers: dict[str, str], expected: str
    ) -> None:
        response = make_response(headers=headers)
        response.timestamp = 5.0
        assert service_time(response).isoformat() == expected


class TestInvalidResponse:
    def test_invalid_response_has_reason_status_and_body(self) -> None:
        error = invalid_response(make_response(b"x" * 300, 206), GET_JOB, ValueError("it is odd"))
        assert type(error) is InvalidResponseError
        assert error.status == 206
        assert error.body == b"x" * 200
        assert error.job_id == "a"
        assert error.retryable is True
        assert str(error) == (
            "job a: invalid response with status 206: it is odd. Try again later. If it happens "
            "again, check that base_url and all proxies lead to the service."
        )

    @pytest.mark.parametrize("size", [0, 100, 178, 190, 199, 200, 500])
    @pytest.mark.parametrize("token", [TOKEN, TOKEN.replace("/", "\\/")], ids=["plain", "escaped"])
    def test_invalid_response_masks_token_before_it_cuts_body(self, size: int, token: str) -> None:
        response = make_response(b"x" * size + token.encode() * 99, secret=TOKEN)
        error = invalid_response(response, GET_JOB, "it is odd")
        assert error.body == (b"x" * size + b"***" * 99)[:200]

    def test_invalid_response_to_token_request_has_no_body(self) -> None:
        assert invalid_response(make_response(b"x"), REQUEST_TOKEN, "it is odd").body == b""


@pytest.mark.parametrize(
    "make",
    [
        lambda: TransportError("the creation of a job", "no response", "Try again later."),
        lambda: make_api_error(status=500, request=CREATE_JOB),
        lambda: invalid_response(make_response(b"x"), CREATE_JOB, "it is odd"),
    ],
    ids=["transport", "api", "invalid-response"],
)
def test_uncertain_error_is_not_retryable_and_states_that_job_may_exist(
    make: Callable[[], MoltinJobsError],
) -> None:
    error, message = make(), str(make())
    assert error.retryable is True
    mark_uncertain(error, CREATE_JOB)
    assert error.retryable is False
    assert str(error) == (
        f"{message} The job may have been created: check list_jobs() before you create it again."
    )
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 (made on this line)
