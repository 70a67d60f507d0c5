"""What holds for any input. More examples: pytest --hypothesis-profile=thorough."""

import asyncio
import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from moltin_jobs import InvalidJobIdError, Job, JobsSession, MoltinJobsError, Polling, Retry
from moltin_jobs._api.parsing import Answer, decode_job, decode_token
from moltin_jobs._polling.intervals import parse_retry_after, pause_length
from tests.raw_server import RawServer, http, job, send

HEADERS = st.dictionaries(
    st.sampled_from(["Retry-After", "X-Request-Id", "Location", "Content-Type"]), st.text()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
ALMOST_JSON = JSON.map(lambda value: json.dumps(value).encode())
FIELDS = ("id", "type", "job_type", "status", "error", "timestamps", "links", "link", "else")


def decoded(status: int, headers: dict[str, str], body: bytes) -> Job | MoltinJobsError:
    answer = Answer("http://127.0.0.1/v2/jobs/a", status, headers, body, 1.8e9)
    try:
        return decode_job(answer, "a")
    except MoltinJobsError as error:
        return error


@given(st.integers(0, 1000), HEADERS, st.binary() | ALMOST_JSON)
def test_any_answer_is_a_job_or_an_error_of_ours(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    result = decoded(status, headers, body)
    assert isinstance(result, MoltinJobsError) or 200 <= status <= 299
    assert str(result).isprintable()
    assert len(str(result)) < 4000 or isinstance(result, Job)


@given(st.integers(0, 1000), HEADERS, st.binary() | ALMOST_JSON)
def test_any_token_answer_is_a_token_or_an_error_of_ours(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    answer = Answer("http://127.0.0.1/oauth/access_token", status, headers, body, 1.8e9)
    caught: MoltinJobsError | None = None
    token, lifetime = "", None
    try:
        token, lifetime = decode_token(answer)
    except MoltinJobsError as error:
        caught = error
    assert token.isprintable()
    assert bool(token) == (caught is None)
    assert lifetime is None or 0 < lifetime < math.inf
    assert getattr(caught, "body", b"") == b""
    assert getattr(caught, "errors", ()) == ()


@given(st.sampled_from(FIELDS), JSON)
def test_any_value_in_any_field(field: str, value: Any) -> None:
    document = {"data": {"id": "a", "status": "pending"} | {field: value}}
    result = decoded(200, {}, json.dumps(document).encode())
    if field not in ("id", "status") and "NaN" not in json.dumps(value):
        if "Infinity" in json.dumps(value):
            return
        assert isinstance(result, Job)
        assert result.status == "pending"


@given(JSON, st.integers(400, 599))
def test_any_value_in_an_errors_body(value: Any, status: int) -> None:
    for document in ({"errors": value}, {"errors": [value]}, {"title": value, "detail": value}):
        assert isinstance(decoded(status, {}, json.dumps(document).encode()), MoltinJobsError)


@given(
    st.text() | st.from_regex(r"\s*[+-]?[0-9_.e]+\s*") | st.datetimes().map(str), st.floats(0, 4e9)
)
def test_a_retry_after_is_never_hostile(value: str, now: float) -> None:
    seconds = parse_retry_after(value, now)
    assert seconds is None or 0 <= seconds <= 1e9
    assert 1 <= pause_length(1, seconds) <= 120


@given(st.integers(1, 10**9), st.none() | st.floats(0, 1e9))
def test_a_pause_is_from_a_second_to_two_minutes(storm: int, retry_after: float | None) -> None:
    assert 1 <= pause_length(storm, retry_after) <= 120


SECONDS = st.floats(1e-9, 1e9)


@given(SECONDS, st.floats(1, 1e300), SECONDS, st.floats(0, 1))
def test_no_interval_is_hostile(
    initial: float, factor: float, longest: float, jitter: float
) -> None:
    polling = Polling(initial=initial, factor=factor, max_interval=longest, jitter=jitter)
    for _, interval in zip(range(50), polling.intervals(), strict=False):
        assert 0 <= interval <= longest * (1 + jitter) * (1 + 1e-9)


@given(st.integers(1, 50), SECONDS, SECONDS)
def test_no_retry_is_hostile(max_tries: int, initial: float, longest: float) -> None:
    waits = list(Retry(max_tries=max_tries, initial=initial, max_interval=longest).intervals())
    assert len(waits) == max_tries - 1
    assert all(0 < wait <= longest * (1 + 1e-9) for wait in waits)


@given(st.text(max_size=130) | st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True))
def test_an_id_is_refused_or_arrives_as_the_one_segment_that_it_was(job_id: str) -> None:
    async def ask() -> list[bytes]:
        async with RawServer([send(http(job(job_id=job_id)))]) as server:
            async with JobsSession("token", base_url=f"{server.url}/base") as session:
                await session.get_job(job_id)
            return server.requests

    try:
        (request,) = asyncio.run(ask())
    except InvalidJobIdError:
        assert not (job_id.isascii() and job_id.replace("-", "").replace("_", "a").isalnum())
    else:
        assert request.startswith(b"GET /base/v2/jobs/%s HTTP/1.1\r\n" % job_id.encode())
