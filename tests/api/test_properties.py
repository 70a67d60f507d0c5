"""Properties that hold for any response. More examples: pytest --hypothesis-profile=thorough."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moltin_jobs._api.endpoints import Request, Response
from moltin_jobs._api.failures import parse_retry_after
from moltin_jobs._api.parsing import (
    Page,
    parse_created_job,
    parse_job,
    parse_job_list,
    parse_token,
)
from moltin_jobs.errors import APIError, InvalidResponseError, MoltinJobsError
from moltin_jobs.models import Job
from moltin_jobs.settings import Secret, is_token
from tests.api.responses import (
    CREATE_JOB,
    GET_JOB,
    LIST_JOBS,
    REQUEST_TOKEN,
    make_response,
)

T = TypeVar("T")

STATUSES = st.integers(0, 1000)
HEADERS = st.dictionaries(
    st.sampled_from(["Retry-After", "X-Request-Id", "Location", "Content-Type"]), st.text()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
BODIES = st.binary() | JSON.map(lambda value: json.dumps(value).encode())
FIELDS = ("id", "type", "job_type", "status", "error", "timestamps", "links", "link", "else")
# Without the asterisks of the mask, which could make a token out of its surroundings.
TOKENS = st.text([chr(code) for code in range(0x21, 0x7F) if chr(code) != "*"], min_size=8)


def outcome(parse: Callable[[Response, Request], T], *arguments: Any) -> T | MoltinJobsError:
    try:
        return parse(*arguments)
    except MoltinJobsError as error:
        return error


def parse_a(document: object, status: int = 200) -> Job | MoltinJobsError:
    response = make_response(json.dumps(document).encode(), status)
    return outcome(parse_job, response, GET_JOB)


@given(STATUSES, HEADERS, BODIES)
def test_parse_job_of_any_response_is_job_or_error_of_one_line(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    result = outcome(parse_job, make_response(body, status, headers), GET_JOB)
    assert isinstance(result, MoltinJobsError) or 200 <= status <= 299
    assert str(result).isprintable()
    assert len(str(result)) < 4000 or isinstance(result, Job)


@given(STATUSES, HEADERS, BODIES)
def test_parse_created_job_of_any_response_is_retryable_only_after_429(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    result = outcome(parse_created_job, make_response(body, status, headers), CREATE_JOB)
    if isinstance(result, Job):
        assert result.id
        assert result.status
    else:
        assert result.retryable is (status == 429)


@given(JSON)
def test_parse_job_list_of_any_list_accounts_for_each_item(data: Any) -> None:
    response = make_response(json.dumps({"data": data}).encode())
    result = outcome(parse_job_list, response, LIST_JOBS)
    if isinstance(result, Page):
        assert len(result.unreadable) == min(len(data) - len(result.items), 101)
    else:
        assert not isinstance(data, list)


@given(STATUSES, HEADERS, BODIES)
def test_parse_token_of_any_response_is_token_or_error_without_body(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    result = outcome(parse_token, make_response(body, status, headers), REQUEST_TOKEN)
    if isinstance(result, MoltinJobsError):
        assert getattr(result, "body", b"") == b""
        assert getattr(result, "errors", ()) == ()
    else:
        token, lifetime = result
        assert is_token(token.value)
        assert lifetime > 0


@given(st.sampled_from(FIELDS), JSON)
def test_parse_job_accepts_any_value_in_any_optional_field(field: str, value: Any) -> None:
    result = parse_a({"data": {"id": "a", "status": "pending"} | {field: value}})
    if field not in ("id", "status"):
        assert isinstance(result, Job)
        assert result.status == "pending"


@given(JSON, st.integers(400, 599))
def test_parse_job_of_any_error_objects_is_error(value: Any, status: int) -> None:
    for document in ({"errors": value}, {"errors": [value]}, {"title": value, "detail": value}):
        error = parse_a(document, status)
        assert isinstance(error, MoltinJobsError)
        assert str(error).isprintable()


@given(TOKENS, st.text(), st.text(), st.booleans(), st.sampled_from([404, 500]))
def test_api_error_masks_any_token_anywhere(
    token: str, before: str, after: str, escapes_slashes: bool, status: int
) -> None:
    text = f"{before}{token}{after}"
    body = json.dumps({"errors": [{"title": text, token: [text]}]})
    body = body.replace("/", "\\/") if escapes_slashes else body
    response = make_response(body.encode(), status, secret=token)
    with pytest.raises(APIError) as caught:
        parse_job(response, GET_JOB)
    masked = text.replace(token, "***")
    assert caught.value.errors == ({"title": masked, "***": [masked]},)
    assert token not in str(caught.value)


@given(TOKENS, st.text(), st.booleans())
def test_body_of_invalid_response_has_no_token_however_it_is_escaped(
    token: str, before: str, escapes_slashes: bool
) -> None:
    body = json.dumps([before, token])
    body = body.replace("/", "\\/") if escapes_slashes else body
    with pytest.raises(InvalidResponseError) as caught:
        parse_job(make_response(body.encode(), secret=token), GET_JOB)
    start = caught.value.body.decode()
    assert token not in start
    assert token not in start.replace("\\", "")


@given(TOKENS)
def test_secret_repr_does_not_depend_on_value(token: str) -> None:
    assert repr(Secret(token)) == str(Secret(token)) == "Secret(...)"


@given(
    st.text() | st.from_regex(r"\s*[+-]?[0-9_.e]+\s*") | st.datetimes().map(str), st.floats(0, 4e9)
)
def test_parse_retry_after_of_any_text_is_bounded(value: str, now: float) -> None:
    seconds = parse_retry_after(value, now)
    assert seconds is None or 0 <= seconds <= 1e9
