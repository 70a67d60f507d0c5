"""Values of successful responses: jobs, problems, the address of a file, a token."""

from __future__ import annotations

import datetime
import functools
import json
import math
import re
import types
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs
import cattrs

from .. import kinds
from ..errors import MoltinJobsError, describe, single_line
from ..kinds import JobKind
from ..models import Job, JobProblem, is_job_id
from ..settings import MAX_SECONDS, Secret, is_token
from .content import as_object, is_shallow, load_json
from .endpoints import Request, Response
from .failures import api_error, invalid_response, mark_uncertain

T = TypeVar("T")

_MAX_UNREADABLE = 100
"""Unreadable items of a list that are described. The others are counted."""
_GO_TIMESTAMP = re.compile(r"(\S{1,20}) (\S{1,20}) ([+-]\d{4})( .*)?")
"""Format of Go's ``String()``, which old jobs have: ``2023-11-27 12:32:50.036 +0000 UTC``."""
_Reader = Callable[[Any], Any]
_NEVER = "0001-"
"""Start of Go's zero time, which the service sends for a job that was never updated."""


@attrs.define
class Page(Generic[T]):
    """A list of jobs or problems, or one page of it."""

    items: list[T]
    """Items that can be read."""
    ids: list[str]
    """Ids of these items, empty for one without."""
    length: int
    """Number of all items."""
    total: int | None = None
    """Number of the items of all pages, if the service reports it."""
    unreadable: list[str] = attrs.field(factory=list)
    """Why the other items cannot be read."""


def _parser(read: Callable[[Any, Request], T]) -> Callable[[Response, Request], T]:
    """Turn ``read``, which reads the JSON document of a success, into a parser of responses.

    The parser raises an `InvalidResponseError` where ``read`` raises a `ValueError`, and an
    `APIError` for a status other than 2xx. If the request may have taken effect
    although it is not idempotent, the exception states that.
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
            mark_uncertain(failure, request)
        # Raise here, not in the except block: there the ValueError would become the context, and
        # its frames hold the body, which may contain a secret.
        raise failure

    return parse


@_parser
def parse_job(document: Any, request: Request) -> Job:
    """Return the job that was requested."""
    job = _structure((_data(document), request.kind), Job)
    if job.id != request.job_id and job.id.lower() != str(request.job_id).lower():
        raise ValueError(f"it describes another job, {single_line(job.id)}")
    return job


@_parser
def parse_created_job(document: Any, request: Request) -> Job:
    """Return the job that was created: ``data``, or the only item of it."""
    data = _data(document)
    data = data[0] if isinstance(data, list) and len(data) == 1 else data
    job = _structure((data, request.kind), Job)
    # The id becomes part of the next request's path, so it must not contain '/' or a line break.
    if not is_job_id(job.id):
        raise ValueError(f"{describe(job.id)} is not a valid job id")
    return job


@_parser
def parse_job_list(document: Any, request: Request) -> Page[Job]:
    """Return all jobs that can be read."""
    data = _list(document)
    jobs: list[Job] = []
    unreadable: list[str] = []
    for number, item in enumerate(data, 1):
        try:
            jobs.append(_structure((item, request.kind), Job))
        except ValueError as reason:
            if len(unreadable) < _MAX_UNREADABLE:
                unreadable.append(f"item {number} cannot be read: {reason}")
    if omitted := len(data) - len(jobs) - len(unreadable):
        unreadable.append(f"{omitted} more cannot be read")
    total = _number(_find(document, request.kind.total))
    return Page(jobs, [job.id for job in jobs], len(data), total, unreadable)


@_parser
def parse_problems(document: Any, request: Request) -> Page[JobProblem]:
    """Return the problems of a job. The message of one that cannot be read is its JSON."""
    kind, data = request.kind, _list(document)
    problems = []
    for item in data:
        message = _error_text(_find(item, kind.problem_message))
        field = _text(_find(item, kind.problem_field))
        line = _number(_find(item, kind.problem_line))
        problems.append(JobProblem(message or json.dumps(item), field, line))
    ids = [_text(as_object(item).get("id")) or "" for item in data]
    return Page(problems, ids, len(data), _number(_find(document, kind.total)))


@_parser
def parse_file_url(document: Any, _: Request) -> str:
    """Return the address of a file: ``href``, inside ``data`` or at the top level."""
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


def _list(document: object) -> list[Any]:
    data = _data(document)
    if not isinstance(data, list):
        raise ValueError("data is not a list")
    return data


@attrs.define
class _Layout:
    """Places of the fields of `Job` in the documents of one kind."""

    constants: list[tuple[str, Any]]
    """Fields that the documents do not contain, with their values."""
    places: list[tuple[str, Any, str, list[str], _Reader | None]]
    """Name and default of a field, the first key that leads to it, the other keys, and what reads
    the value (``None`` for a text)."""


@functools.lru_cache
def _layout(kind_name: str) -> _Layout:
    paths = {"id": "id", "type": "type", **kinds.parse(kind_name).fields}
    places = []
    for name, path in paths.items():
        default = () if name == "file_urls" else None
        first_key, *keys = path.split(".")
        places.append((name, default, first_key, keys, _READERS.get(name)))
    unset = [field for field in attrs.fields(Job) if field.name not in paths]
    constants = [(field.name, field.default) for field in unset if field.name != "kind"]
    return _Layout([*constants, ("kind", kind_name)], places)


def _structure_job(source: tuple[Any, JobKind], _: type[Job]) -> Job:
    data, kind = source
    data = as_object(data)
    layout = _layout(kind.name)
    job = Job.__new__(Job)
    fields = vars(job)  # filled as by the constructor, which would make each lookup 2 % slower
    for name, constant in layout.constants:
        fields[name] = constant
    for name, default, first_key, keys, read in layout.places:
        value: Any = data.get(first_key)
        try:
            for key in keys:
                value = value.get(key)
        except AttributeError:  # no object is there that could have the key
            value = None
        if read is None:
            fields[name] = value if isinstance(value, str) and value else None
        else:
            fields[name] = default if value is None else read(value)
    if fields["id"] is None or fields["status"] is None:
        raise ValueError("it has no usable id or status")
    if kind.fallbacks:
        for name, path in kind.fallbacks.items():
            fields[name] = fields[name] or _READERS[name](_find(data, path))
    if kind.details:
        found = {path.rpartition(".")[2]: _find(data, path) for path in kind.details}
        details = {key: value if is_shallow(value) else None for key, value in found.items()}
        fields["details"] = types.MappingProxyType(details)
    return job


def _find(value: Any, path: str) -> Any:
    """Return what is at a path in a document, or ``None``."""
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _error_text(value: object) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, dict):
        texts = [_text(value.get(key)) for key in ("title", "detail", "message")]
        value = ": ".join(text for text in texts if text) or value
    if isinstance(value, (dict, list)) and value:
        return json.dumps(value, ensure_ascii=False)
    return _text(value)


def _urls(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(filter(_text, value)) if isinstance(value, list) else ()


def _timestamp(value: Any) -> datetime.datetime | None:
    # The service's schema only says "string", so an unreadable value must not end a wait.
    try:
        if value.startswith(_NEVER):
            return None
        if " " in value:
            go_string = _GO_TIMESTAMP.fullmatch(value)
            value = "{}T{}{}".format(*go_string.groups()) if go_string else value
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
_READERS: dict[str, _Reader] = {
    "error": _error_text,
    "created_at": _timestamp,
    "updated_at": _timestamp,
    "started_at": _timestamp,
    "ended_at": _timestamp,
    "file_urls": _urls,
}
"""Reader of each field of `Job` that is not a text."""
