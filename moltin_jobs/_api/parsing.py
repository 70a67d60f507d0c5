"""Values of successful responses: a job, a list of jobs, the address of a file, a token."""

from __future__ import annotations

import datetime
import functools
import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import cattrs

from ..errors import MoltinJobsError, describe, single_line
from ..models import Job
from ..settings import MAX_SECONDS, Secret, is_job_id, is_token
from .content import as_object, load_json
from .endpoints import Request, Response
from .failures import api_error, invalid_response, mark_uncertain

T = TypeVar("T")

_MAX_PROBLEMS = 100
"""Items of a list whose problems are described. The others are counted."""
_NEVER = "0001-"
"""Start of Go's zero time, which the service sends for a job that was never updated."""


@attrs.define
class JobList:
    """The jobs of a list that can be read, and why the others cannot."""

    jobs: list[Job]
    problems: list[str]


def _parser(read: Callable[[Any, Request], T]) -> Callable[[Response, Request], T]:
    """Make a parser of responses from ``read``, which reads the JSON document of a success.

    The parser raises an `InvalidResponseError` where ``read`` raises a `ValueError`, and an
    `APIError` for a status other than 2xx. If the request was a creation that may have taken
    effect, the exception states that.
    """

    @functools.wraps(read)
    def parse(response: Response, request: Request) -> T:
        failure: MoltinJobsError
        if 200 <= response.status <= 299:
            try:
                return read(load_json(response, request), request)
            except (ValueError, RecursionError) as error:
                failure = invalid_response(response, request, error)
        else:
            failure = api_error(response, request)
        if failure.retryable and response.status != 429 and not request.is_idempotent:
            mark_uncertain(failure)
        # Raise here, not in the except block: there the ValueError would become the context, and
        # its frames hold the body, which may contain a secret.
        raise failure

    return parse


@_parser
def parse_job(document: Any, request: Request) -> Job:
    """Return the job that was requested."""
    job = _structure(_data(document), Job)
    if job.id != request.job_id and job.id.lower() != str(request.job_id).lower():
        raise ValueError(f"it describes another job, {single_line(job.id)}")
    return job


@_parser
def parse_created_job(document: Any, _: Request) -> Job:
    """Return the job that was created: ``data``, or the only item of it."""
    data = _data(document)
    job = _structure(data[0] if isinstance(data, list) and len(data) == 1 else data, Job)
    # The id becomes part of the next request's path, so it must not contain '/' or a line break.
    if not is_job_id(job.id):
        raise ValueError(f"{describe(job.id)} is not a valid job id")
    return job


@_parser
def parse_job_list(document: Any, _: Request) -> JobList:
    """Return all jobs that can be read."""
    data = _data(document)
    if not isinstance(data, list):
        raise ValueError("data is not a list")
    jobs: list[Job] = []
    problems: list[str] = []
    for number, item in enumerate(data, 1):
        try:
            jobs.append(_structure(item, Job))
        except ValueError as reason:
            if len(problems) < _MAX_PROBLEMS:
                problems.append(f"item {number} cannot be read: {reason}")
    if omitted := len(data) - len(jobs) - len(problems):
        problems.append(f"{omitted} more cannot be read")
    return JobList(jobs, problems)


@_parser
def parse_file_url(document: Any, _: Request) -> str:
    """Return the address of a file: ``href``, in ``data`` or not."""
    data = _data(document)
    href = _text(as_object(data if isinstance(data, dict) else document).get("href"))
    if href is None:
        raise ValueError("it has no href: check that the job has ended")
    return href


@_parser
def parse_token(document: Any, _: Request) -> tuple[Secret, float]:
    """Return the new token and its lifetime in seconds, ``math.inf`` if that is unknown."""
    token = as_object(document).get("access_token")
    if not is_token(token):
        raise ValueError("it has no usable access_token")
    lifetime = document.get("expires_in")
    is_number = isinstance(lifetime, (int, float)) and not isinstance(lifetime, bool)
    is_known = is_number and 0 < lifetime < MAX_SECONDS
    return Secret(token), float(lifetime) if is_known else math.inf


def _data(document: object) -> Any:
    return document.get("data") if isinstance(document, dict) else None


def _structure_job(data: Any, _: type[Job]) -> Job:
    get = data.get if isinstance(data, dict) else {}.get
    job_id, status, error = _text(get("id")), _text(get("status")), get("error")
    if job_id is None or status is None:
        raise ValueError("it has no usable id or status")
    timestamps, links, link = get("timestamps"), get("links"), get("link")
    if not isinstance(timestamps, dict):
        timestamps = {}
    return Job(
        id=job_id,
        type=_text(get("type")),
        job_type=_text(get("job_type")),
        status=status,
        error=_error_text(error) if error else None,
        created_at=_timestamp(timestamps.get("created_at")),
        updated_at=_timestamp(timestamps.get("updated_at")),
        self_url=_text(links.get("self")) if isinstance(links, dict) else None,
        file_url=_text(link.get("href")) if isinstance(link, dict) else None,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _error_text(value: object) -> str | None:
    if isinstance(value, dict):
        texts = [_text(value.get(key)) for key in ("title", "detail", "message")]
        value = ": ".join(text for text in texts if text) or value
    if isinstance(value, (dict, list)) and value:
        return json.dumps(value, ensure_ascii=False)
    return _text(value)


def _timestamp(value: Any) -> datetime.datetime | None:
    # The service's schema only says "string", so an unreadable value must not end a wait.
    try:
        if value.startswith(_NEVER):
            return None
        moment = datetime.datetime.fromisoformat(value.upper())
        if moment.tzinfo is datetime.UTC:
            return moment
        return moment.replace(tzinfo=moment.tzinfo or datetime.UTC).astimezone(datetime.UTC)
    except (AttributeError, ValueError, OverflowError):
        return None


# By default, cattrs coerces: None becomes "None", and 123 becomes "123". One hook for the whole
# class prevents that, and is faster than a hook for each field.
_converter = cattrs.Converter(detailed_validation=False)
_converter.register_structure_hook(Job, _structure_job)
_structure: Callable[[Any, type[Job]], Job] = _converter.get_structure_hook(Job)
