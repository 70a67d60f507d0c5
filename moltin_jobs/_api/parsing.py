"""An answer's status, headers and body into what it means: a value, or an error raised.

Pure, so that every oddity of the service's JSON is handled, and tested, in this one place.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any, Never

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from .._polling.intervals import parse_retry_after
from ..errors import (
    APIError,
    AuthenticationError,
    InvalidResponseError,
    JobNotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    doubtful,
    one_line,
)
from ..models import Job, JobState

MAX_BODY = 1 << 20
"""Bytes after decompression; a job is a few hundred."""
MAX_LIST_BODY = 1 << 24
"""The same of a list of jobs; of these it has room for tens of thousands."""
_MOST_DIGITS = 400  # more than a float can take; int() itself refuses 4,300, in other words
_LONGEST_LIFETIME = 1e9  # a token's, in seconds: something that can be added to a clock
_JSON_SPACE = " \t\n\r"  # RFC 8259; str.strip alone takes more
_MAX_ERROR_DEPTH = 32  # an error has to pickle, and pickle is recursive


@attrs.frozen
class Answer:
    """One answer as it came: of the body at most one byte more than ``max_body``."""

    url: object
    """The address that was asked, as something whose ``str`` shows it."""
    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False)
    now: float
    """When it came, in seconds since the epoch: what a ``Retry-After`` date is compared with."""
    max_body: int = attrs.field(default=MAX_BODY, repr=False)


@attrs.frozen
class Listing:
    """The jobs of a list that can be read, and what is wrong with the others."""

    jobs: list[Job]
    problems: list[str]
    size: int
    """Of the body, in bytes."""


def decode_job(answer: Answer, job_id: str) -> Job:
    """The job that was asked for.

    Raises `APIError` for any status but success, and `InvalidResponseError` for a success that
    cannot be read as this job.
    """
    about = f"job {job_id}"
    if not 200 <= answer.status <= 299:
        raise _api_error(answer, about, job_id)
    try:
        job = _job(_data(_load(answer)))
        if job.id != job_id and job.id.lower() != job_id.lower():
            raise ValueError(f"it describes another job, {one_line(job.id)}")  # noqa: TRY301 (one way out)
    except ValueError as problem:
        raise _invalid(about, problem, answer) from None
    return job


def decode_created(answer: Answer) -> Job:
    """The job that was created: ``data``, or the one that the list there holds.

    Raises what `decode_job` raises; the error says so where the job may exist nevertheless.
    """
    about = "the creation of a job"
    if not 200 <= answer.status <= 299:
        error = _api_error(answer, about, None)
        raise doubtful(error) if error.temporary and answer.status != 429 else error
    try:
        data = _data(_load(answer))
        return _job(data[0] if isinstance(data, list) and len(data) == 1 else data)
    except ValueError as problem:
        raise doubtful(_invalid(about, problem, answer)) from None


def decode_list(answer: Answer) -> Listing:
    """Every job of the list that can be read; raises what `decode_job` raises."""
    about = "the list of jobs"
    if not 200 <= answer.status <= 299:
        raise _api_error(answer, about, None)
    listing = Listing([], [], len(answer.body))
    try:
        data = _data(_load(answer))
        if not isinstance(data, list):
            raise ValueError("its data is no list")  # noqa: TRY301, TRY004 (one way out)
    except ValueError as problem:
        raise _invalid(about, problem, answer) from None
    for number, one in enumerate(data, 1):
        try:
            listing.jobs.append(_job(one))
        except ValueError as problem:
            listing.problems.append(f"number {number}: {problem}")
    return listing


def decode_file(answer: Answer, job_id: str, job: Job | None) -> str:
    """The address of a job's file: ``href``, in ``data`` or bare.

    ``job`` is what it looks like where the answer is a 404.
    """
    about = f"the file of job {job_id}"
    if not 200 <= answer.status <= 299:
        error = _api_error(answer, about, job_id, _no_file(job) if job is not None else None)
        if isinstance(error, JobNotFoundError):
            error.job = job
        raise error
    try:
        document = _load(answer)
        data = _data(document)
        href = (data if isinstance(data, dict) else document).get("href")
        if not isinstance(href, str) or not href:
            raise ValueError("it names no file: has the job ended?")  # noqa: TRY301 (one way out)
    except (ValueError, AttributeError) as problem:
        told = problem if isinstance(problem, ValueError) else "it is no object"
        raise _invalid(about, told, answer) from None
    return href


def _no_file(job: Job) -> str:
    status = one_line(job.status) + (f" ({one_line(job.error)})" if job.error else "")
    if not job.is_terminal:
        return f"The job is there, and {status}: it has no file yet; wait for it first."
    if job.state is JobState.SUCCEEDED:
        return f"The job is there, and {status}, but its file is not: create a new job."
    return f"The job is there, and {status}: it will never have a file; create a new job."


def file_error(status: int, about: str) -> APIError:
    """What a status of the host that holds a file means."""
    kind = ServerError if 500 <= status <= 599 else APIError
    return kind(status, about, advice="Its address may be outdated: ask for the file again.")


def decode_token(answer: Answer) -> tuple[str, float | None]:
    """The new token, and how many seconds it lives (``None`` if that cannot be told).

    Credentials refused are an `AuthenticationError` whichever status says so. No error holds
    anything of the body, since that may repeat a secret.
    """
    about = "the request for a token"
    if answer.status in (400, 401, 403):
        raise AuthenticationError(
            answer.status,
            about,
            request_id=answer.headers.get("X-Request-Id") or None,
            advice="Check the client id and secret, and that base_url is the region of the store.",
        )
    if not 200 <= answer.status <= 299:
        raise _api_error(attrs.evolve(answer, body=b""), about, None)
    try:
        return _token(_load(answer))
    except ValueError as error:
        problem = str(error)
    # Out here, since the frames of what is raised in there hold the token.
    raise InvalidResponseError(about, problem, status=answer.status, body=b"")


def is_token(text: str) -> bool:
    """Whether ``text`` can be sent as a bearer token: printable ASCII without a space."""
    return text.isascii() and text.isprintable() and " " not in text and bool(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it holds a key twice")
    return found


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"it holds {name}, which is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)


_decoder = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_integer
)


def _load(answer: Answer) -> Any:
    if len(answer.body) > answer.max_body:
        raise ValueError(f"its body is longer than {answer.max_body} bytes")
    try:
        text = answer.body.decode().strip(_JSON_SPACE)
        if not text:
            raise ValueError("its body is empty")
        value, end = _decoder.raw_decode(text)
        if end != len(text):
            raise json.JSONDecodeError("Extra data", text, end)  # noqa: TRY301 (as it would itself)
    except UnicodeDecodeError:
        raise ValueError("its body is not UTF-8") from None
    except json.JSONDecodeError as problem:
        raise ValueError(f"its body is not JSON ({problem})") from None
    except RecursionError:
        raise ValueError("its JSON is nested too deep") from None
    return value


def _essential(value: object, _: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("it has no usable id or status")
    return value


def _text(value: object, _: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _timestamp(value: Any, _: object) -> datetime.datetime | None:
    # The schema says no more than "string", so nothing here is worth the end of a wait.
    try:
        moment = datetime.datetime.fromisoformat(value.upper())
        if moment.tzinfo is None:
            return None
        if moment.tzinfo is not datetime.UTC:
            moment = moment.astimezone(datetime.UTC)
    except (AttributeError, ValueError, OverflowError):
        return None
    return moment if moment.year > 1 else None  # Go's zero time means "never"


# cattrs makes '123' of 123 and 'None' of None unless every field has a hook of its own.
_structure = make_dict_structure_fn(
    Job,
    cattrs.Converter(detailed_validation=False),
    id=override(struct_hook=_essential),
    status=override(struct_hook=_essential),
    type=override(struct_hook=_text),
    job_type=override(struct_hook=_text),
    error=override(struct_hook=_text),
    created_at=override(struct_hook=_timestamp),
    updated_at=override(struct_hook=_timestamp),
    self_url=override(struct_hook=_text),
    file_url=override(struct_hook=_text),
)


def _token(document: Any) -> tuple[str, float | None]:
    data = document if isinstance(document, dict) else {}
    token, lifetime = data.get("access_token"), data.get("expires_in")
    if not isinstance(token, str) or not is_token(token):
        raise ValueError("it holds no usable access_token")
    if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float)):
        return token, None
    return token, float(lifetime) if 0 < lifetime < _LONGEST_LIFETIME else None


_ABSENT = dict.fromkeys(("created_at", "updated_at", "self_url", "file_url"))


def _data(document: object) -> Any:
    return document.get("data") if isinstance(document, dict) else None


def _job(data: Any) -> Job:
    if not isinstance(data, dict):
        data = {}
    times, links, link = data.get("timestamps"), data.get("links"), data.get("link")
    flat = {**data, **_ABSENT}
    if isinstance(times, dict):
        flat["created_at"] = times.get("created_at")
        flat["updated_at"] = times.get("updated_at")
    if isinstance(links, dict):
        flat["self_url"] = links.get("self")
    if isinstance(link, dict):
        flat["file_url"] = link.get("href")
    try:
        return _structure(flat, Job)
    except KeyError:
        raise ValueError("it has no usable id or status") from None


_CLASSES: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    429: RateLimitError,
}


def _invalid(about: str, problem: object, answer: Answer) -> InvalidResponseError:
    return InvalidResponseError(about, str(problem), status=answer.status, body=answer.body)


def _api_error(
    answer: Answer, about: str, job_id: str | None, missing: str | None = None
) -> APIError:
    status = answer.status
    errors = _errors(answer)
    named = errors[0].get("request_id") if errors else None
    facts: dict[str, Any] = {
        "errors": errors,
        "request_id": _text(named, None) or answer.headers.get("X-Request-Id") or None,
        "retry_after": parse_retry_after(answer.headers.get("Retry-After"), answer.now),
    }
    if status == 404 and job_id is not None:
        return JobNotFoundError(job_id, **facts, advice=missing)
    if 300 <= status <= 399:
        target = one_line(answer.headers.get("Location", "nowhere"))
        facts["advice"] = (
            f"It redirects {answer.url} to {target}, which is never followed, since the token "
            f"would go along: set base_url to the address of the service itself."
        )
    if status == 408:
        facts["advice"] = "The service gave up waiting for the request: try again."
    kind = ServerError if 500 <= status <= 599 else _CLASSES.get(status, APIError)
    return kind(status, about, **facts)


def _errors(answer: Answer) -> tuple[dict[str, Any], ...]:
    """The error objects in ``{"errors": […]}``, or the one that came without any list around."""
    try:
        document = _load(answer)
    except ValueError:
        return ()
    match document:
        case {"errors": list(found)}:
            pass
        case {"errors": error} | ({"title": _} as error):
            found = [error]
        case _:
            found = []
    return tuple(error for error in found if isinstance(error, dict) and _shallow(error))


def _shallow(value: object, depth: int = _MAX_ERROR_DEPTH) -> bool:
    if isinstance(value, (dict, list)):
        parts = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_shallow(part, depth - 1) for part in parts)
    return True
