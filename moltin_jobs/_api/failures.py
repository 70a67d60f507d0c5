"""Exceptions for responses that are not a success, or that cannot be read."""

from __future__ import annotations

import datetime
import email.utils
from typing import Any

from ..errors import (
    API_ERROR_CLASSES,
    RETRYABLE_STATUSES,
    APIError,
    AuthenticationError,
    InvalidResponseError,
    JobNotFoundError,
    MoltinJobsError,
    single_line,
)
from ..models import Job, JobProblem
from ..settings import MAX_SECONDS
from .content import as_object, is_shallow, load_json
from .endpoints import Request, Response
from .masking import mask, mask_body

_STATUSES_OF_ACCESS = (401, 403, 404)
_UNKNOWN_METHOD_STATUSES = (405, 501)
_CREDENTIALS_ADVICE = (
    "Check the client id and secret, and that base_url is the region of the store."
)
_ROUTE_ADVICE = "Check that base_url and all proxies lead to the service."


def api_error(response: Response, request: Request, advice: str | None = None) -> APIError:
    """Return the exception for a response whose status is not 2xx."""
    try:
        document = as_object(load_json(response, request))
    except ValueError:
        document = {}
    # The body of a response to a token request may repeat the client secret.
    errors = [] if request.client_secret is not None else _error_objects(document)
    request_id = errors[0].get("request_id") if errors else None
    if not isinstance(request_id, str) or not request_id:
        request_id = mask(response.headers.get("X-Request-Id", ""), response.secret) or None
    cls, default_advice = _classify(response, request)
    return cls(
        response.status,
        request.description,
        errors=errors,
        request_id=request_id,
        retry_after=parse_retry_after(response.headers.get("Retry-After"), response.timestamp),
        job_id=request.job_id,
        advice=advice or default_advice,
        from_gateway=response.status in (403, 404) and not _is_service_error(document),
    )


def no_file_error(response: Response, request: Request, job: Job) -> JobNotFoundError:
    """Return the exception for an existing job without a file."""
    status = single_line(job.status) + (f" ({single_line(job.error)})" if job.error else "")
    advice = f"The job exists with status {status}, but has no file."
    if not job.is_terminal:
        advice = f"The job exists with status {status} and has no file yet. Wait for it first."
    elif request.kind.has_file_endpoint:
        advice += " Create a new job."
    if response.status == 404:
        error = api_error(response, request, advice)
    else:  # the document of the job names no file
        reason = "the response names no address"
        error = JobNotFoundError(
            404, request.description, reason=reason, job_id=request.job_id, advice=advice
        )
    assert isinstance(error, JobNotFoundError), "the class for a 404"  # noqa: S101
    error.job = job
    return error


def invalid_response(response: Response, request: Request, reason: object) -> InvalidResponseError:
    """Return the exception for a response with a successful status that cannot be read."""
    return InvalidResponseError(
        request.description,
        str(reason),
        status=response.status,
        body=b"" if request.client_secret is not None else mask_body(response),
        job_id=request.job_id,
    )


def mark_uncertain(error: MoltinJobsError, request: Request) -> None:
    """Mark a request that may have taken effect: add its advice and clear ``retryable``."""
    error.args = (f"{error} {request.uncertain_advice}",)
    error.retryable = False


def problem_of(error: APIError) -> JobProblem | None:
    """Return the reason in a 4xx response to a request for problems, if it has one.

    The service rejects some imports as a whole, for example without a required column.
    """
    is_client_error = 400 <= error.status <= 499 and error.status not in _STATUSES_OF_ACCESS
    if not is_client_error or error.retryable or not error.errors:
        return None
    detail = error.errors[0].get("detail")
    return JobProblem(detail) if isinstance(detail, str) and detail.strip() else None


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds of a ``Retry-After`` header, from 0 to a billion, or ``None``.

    RFC 9110 allows digits and an HTTP date, which is compared with ``now``, in seconds since the
    epoch.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        # int() refuses thousands of digits, and is slow with hundreds.
        return float(text) if len(text) < len("1000000000") else MAX_SECONDS
    date = _parse_date(text)
    return None if date is None else min(max(date.timestamp() - now, 0.0), MAX_SECONDS)


def service_time(response: Response) -> datetime.datetime:
    """Return the moment of a list, by the local clock if the response has no ``Date``."""
    date = _parse_date(response.headers.get("Date", ""))
    return date or datetime.datetime.fromtimestamp(response.timestamp, datetime.UTC)


def _parse_date(text: str) -> datetime.datetime | None:
    """Return an HTTP date, in UTC."""
    try:
        date = email.utils.parsedate_to_datetime(text)
        return date.replace(tzinfo=date.tzinfo or datetime.UTC).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return None


def _classify(response: Response, request: Request) -> tuple[type[APIError], str | None]:
    """Return the class of the exception, and the advice if it is not that of the class."""
    status = response.status
    if request.client_secret is not None and status in (400, 401, 403):
        return AuthenticationError, _CREDENTIALS_ADVICE
    if status in _UNKNOWN_METHOD_STATUSES:  # the service knows the methods of all requests
        return API_ERROR_CLASSES.get(status, APIError), _ROUTE_ADVICE
    if status in RETRYABLE_STATUSES and status != 429:
        return APIError, "Try again later."
    if 300 <= status <= 399:
        # Mask before `single_line` shortens the text: it may cut a secret in two.
        location = mask(response.headers.get("Location", "nowhere"), response.secret)
        target = single_line(location.partition("?")[0])  # the query may be a signature
        return APIError, (
            f"It redirects {response.url} to {target}. The client never follows a redirect, since "
            f"it would send the token there: set base_url to the address of the service."
        )
    if status == 404 and request.job_id is None:
        advice = "Check the id of the catalog, and the store."
        return APIError, advice if request.kind.parent_id else None
    advice_of_kind = request.kind.not_found_advice if status == 404 else None
    return API_ERROR_CLASSES.get(status, APIError), advice_of_kind


def _is_service_error(document: dict[str, Any]) -> bool:
    errors = document.get("errors")
    return bool(isinstance(errors, list) and errors) or {"title", "status"} <= document.keys()


def _error_objects(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the error objects: a list or one object in ``errors``, or the document itself."""
    found = document.get("errors")
    if found is None and "title" in document:
        found = document
    objects = found if isinstance(found, list) else [found]
    return [error for error in objects if isinstance(error, dict) and is_shallow(error)]
