"""Values of successful responses: a job, a list of jobs, the address of a file, a token."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import cattrs

from ..errors import APIError, InvalidResponseError, describe, single_line
from ..models import Job
from ..settings import Secret, is_job_id, is_token
from .content import load_json
from .failures import api_error, credentials_error, invalid_response, mark_uncertain
from .messages import Request, Response

T = TypeVar("T")

_MAX_TOKEN_LIFETIME = 1e9
"""In seconds. A larger one could not be added to a clock."""
_NEVER = "0001-"
"""Start of Go's zero time, which the service sends for a job that was never updated."""
_CREDENTIALS_REJECTED = (400, 401, 403)


@attrs.define
class JobList:
    """The jobs of a list that can be read, and the reasons why others cannot."""

    jobs: list[Job]
    problems: list[str]


def parse_job(response: Response, request: Request) -> Job:
    """Return the job that was requested.

    Raises:
        APIError: the status is not 2xx.
        InvalidResponseError: the response cannot be read as this job.
    """
    return _parse(response, request, _requested_job)


def parse_created_job(response: Response, request: Request) -> Job:
    """Return the job that was created: ``data``, or the only item of it.

    Raises what `parse_job` raises. The message states if the job may have been created
    nevertheless.
    """
    try:
        return _parse(response, request, _created_job)
    except InvalidResponseError as error:
        raise mark_uncertain(error)  # noqa: B904 (it is the same exception)
    except APIError as error:
        raise mark_uncertain(error) if error.retryable and error.status != 429 else error  # noqa: B904


def parse_job_list(response: Response, request: Request) -> JobList:
    """Return all jobs that can be read. Raises what `parse_job` raises."""
    return _parse(response, request, _job_list)


def parse_file_url(response: Response, request: Request) -> str:
    """Return the address of a file: ``href``, in ``data`` or not. Raises as `parse_job`."""
    return _parse(response, request, _file_url)


def parse_token(response: Response, request: Request) -> tuple[Secret, float | None]:
    """Return the new token and its lifetime in seconds, if that is known.

    Raises:
        AuthenticationError: the credentials were rejected.
        APIError: any other status that is not 2xx.
        InvalidResponseError: the response cannot be read.
    """
    if response.status in _CREDENTIALS_REJECTED:
        raise credentials_error(response, request)
    return _parse(response, request, _token)


def _parse(response: Response, request: Request, read: Callable[[Any, Request], T]) -> T:
    """Apply ``read`` to the document. A `ValueError` becomes an `InvalidResponseError`."""
    if not 200 <= response.status <= 299:
        raise api_error(response, request)
    try:
        return read(load_json(response, request), request)
    except ValueError as error:
        failure = invalid_response(response, request, error)
    # Not above: the frames of the ValueError hold the body, which may contain a secret.
    raise failure


def _requested_job(document: Any, request: Request) -> Job:
    job = _structure(_data(document), Job)
    if job.id != request.job_id and job.id.lower() != str(request.job_id).lower():
        raise ValueError(f"it describes another job, {single_line(job.id)}")
    return job


def _created_job(document: Any, _: Request) -> Job:
    data = _data(document)
    job = _structure(data[0] if isinstance(data, list) and len(data) == 1 else data, Job)
    # The id becomes part of the next request's path, so it must not contain '/' or a line break.
    if not is_job_id(job.id):
        raise ValueError(f"{describe(job.id)} is not a valid job id")
    return job


def _job_list(document: Any, _: Request) -> JobList:
    data = _data(document)
    if not isinstance(data, list):
        raise ValueError("data is not a list")
    job_list = JobList([], [])
    for number, item in enumerate(data, 1):
        try:
            job_list.jobs.append(_structure(item, Job))
        except ValueError as reason:
            job_list.problems.append(f"item {number}: {reason}")
    return job_list


def _file_url(document: Any, _: Request) -> str:
    data = _data(document)
    source = data if isinstance(data, dict) else document
    href = source.get("href") if isinstance(source, dict) else None
    if not isinstance(href, str) or not href:
        raise ValueError("it has no href: check that the job has ended")
    return href


def _token(document: Any, _: Request) -> tuple[Secret, float | None]:
    data = document if isinstance(document, dict) else {}
    token, lifetime = data.get("access_token"), data.get("expires_in")
    if not is_token(token):
        raise ValueError("it has no usable access_token")
    if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float)):
        return Secret(token), None
    return Secret(token), float(lifetime) if 0 < lifetime < _MAX_TOKEN_LIFETIME else None


def _data(document: object) -> Any:
    return document.get("data") if isinstance(document, dict) else None


def _structure_job(data: Any, _: type[Job]) -> Job:
    get = data.get if isinstance(data, dict) else {}.get
    job_id, status = _text(get("id")), _text(get("status"))
    if job_id is None or status is None:
        raise ValueError("it has no usable id or status")
    error, links, link = get("error"), get("links"), get("link")
    timestamps = get("timestamps")
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
        if moment.tzinfo is not datetime.UTC:
            zone = moment.tzinfo
            moment = moment.replace(tzinfo=zone or datetime.UTC).astimezone(datetime.UTC)
    except (AttributeError, ValueError, OverflowError):
        return None
    return moment


# By default, cattrs coerces: None becomes "None", and 123 becomes "123". One hook for the whole
# class prevents that, and is faster than a hook for each field.
_converter = cattrs.Converter(detailed_validation=False)
_converter.register_structure_hook(Job, _structure_job)
_structure: Callable[[Any, type[Job]], Job] = _converter.get_structure_hook(Job)
