"""Gateway of the simulator: the checks of each request, and the access tokens."""

import asyncio
import collections
import contextlib
import http
import random
from email.utils import formatdate
from typing import Any, Literal

import attrs
from aiohttp import web
from aiohttp.typedefs import Handler
from attrs.validators import and_, ge, le

from .faults import CHAOS_FAULTS, FaultQueue, send_fault
from .jobs import loop_time, random_uuid
from .kinds import SERVICE_PATH, TOKEN_PATH

NOT_FOUND = {
    "title": "Resource Not Found",
    "status": 404,
    "detail": "The resource you are requesting does not exist",
}
SERVER_ERROR = "There was an internal server error, you can report with your request id."
FILTER = web.RequestKey("filter", str)
TIME_TOLERANCE = 1e-6  # sums of times are inexact on a virtual clock


@attrs.frozen
class RecordedRequest:
    """A request that the simulator has received. Tokens are not recorded."""

    at: float
    """Time of its arrival on the event loop's clock, in seconds."""
    method: str
    path: str
    job_id: str | None
    status: int | None
    """Status of the response, ``None`` if no response was sent, or not yet."""
    query: str = ""
    """Query string as it was sent, without the question mark."""
    filter: str | None = None
    """Filter of the order export that the request creates, ``None`` without one."""


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class Gateway:
    """Checks of each request, before it reaches a service."""

    token: str = "simulator-token"  # noqa: S105 (it protects nothing)
    client_id: str = "simulator-client"
    client_secret: str = "simulator-secret"  # noqa: S105 (it protects nothing)
    not_found: Literal["bare", "list"] = "bare"
    rate_limit: int | None = attrs.field(default=25, on_setattr=attrs.setters.frozen)
    token_lifetime: float = 3600.0
    latency: float = attrs.field(default=0.0, validator=ge(0))
    chaos: float = attrs.field(default=0.0, validator=and_(ge(0), le(1)))
    seed: int = attrs.field(default=0, on_setattr=attrs.setters.frozen)

    def __attrs_post_init__(self) -> None:
        if self.not_found not in ("bare", "list"):
            raise ValueError(f"not_found must be 'bare' or 'list', not {self.not_found!r}")
        if self.rate_limit is not None and self.rate_limit < 1:
            raise ValueError(f"rate_limit must be at least 1, or None, not {self.rate_limit!r}")
        self._random = random.Random(self.seed)  # noqa: S311 (repeatable, not secret)
        self._requests: list[RecordedRequest] = []
        self._faults = FaultQueue()
        self._token_expiry: dict[str, float] = {}
        self._admitted_at = collections.deque[float](maxlen=self.rate_limit)
        self._epoch = 0.0  # the time when the event loop's clock was 0

    @property
    def requests(self) -> list[RecordedRequest]:
        """Requests in the order of arrival, except those for files.

        Each access returns a new list, which does not change afterwards. It may be read from any
        thread, and after the simulator was closed.
        """
        return self._requests.copy()

    @web.middleware
    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Record a request. An error response gets the body that the service documents."""
        job_id = request.match_info.get("job_id")
        query = request.raw_path.partition("?")[2]
        record = RecordedRequest(loop_time(), request.method, request.path, job_id, None, query)
        number = len(self._requests)
        self._requests.append(record)
        try:
            response = await self._handle(request, handler)
        except web.HTTPException as error:
            detail = getattr(error, "detail", None)
            response = self._make_error(request, error.status, error.reason, detail)
        response.headers.setdefault("Date", formatdate(self._epoch + loop_time(), usegmt=True))
        is_sent = request.transport is not None and not request.transport.is_closing()
        self._requests[number] = attrs.evolve(
            record, status=response.status if is_sent else None, filter=request.get(FILTER)
        )
        return response

    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a request, respond with a fault, or let the request take effect."""
        is_admitted = self._is_within_rate_limit()
        if self.latency:
            await asyncio.sleep(self.latency)
        if not is_admitted:
            raise web.HTTPTooManyRequests
        is_token_request = (request.method, request.path) == ("POST", TOKEN_PATH)
        if not is_token_request and not self._is_authorized(request):
            raise web.HTTPUnauthorized(reason="Unable to validate access token")
        if request.match_info.http_exception is not None:  # there is no such route
            raise web.HTTPNotFound
        fault = self._faults.take(request.path, request.match_info.get("job_id"))
        if fault is None and not is_token_request and self._random.random() < self.chaos:
            fault = self._random.choice(CHAOS_FAULTS)
        if fault is None:
            return await handler(request)
        if isinstance(fault, int):
            return self._make_error(request, fault, http.HTTPStatus(fault).phrase)
        if fault == "lost":
            with contextlib.suppress(web.HTTPException):
                await handler(request)
        return await send_fault(request, fault)

    def _is_within_rate_limit(self) -> bool:
        """Count a request, unless the last second has as many as the limit allows."""
        now = loop_time()
        times = self._admitted_at
        if len(times) == times.maxlen and times[0] > now - 1 + TIME_TOLERANCE:
            return False
        times.append(now)  # displaces the oldest
        return True

    def _is_authorized(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        is_valid = token == self.token or self._token_expiry.get(token, 0.0) > loop_time()
        return scheme == "Bearer" and is_valid

    def _make_error(
        self, request: web.Request, status: int, title: str, detail: str | None = None
    ) -> web.Response:
        """Make an error response. Its body depends on the service, which the path names."""
        is_order_service = not SERVICE_PATH.fullmatch(request.path)
        error: dict[str, Any] = {"status": status, "title": title}
        if detail is not None:
            error["detail"] = detail
        if status == 500:
            error |= {"detail": SERVER_ERROR, "request_id": str(random_uuid(self._random))}
        if not is_order_service:
            error["status"] = str(status)
        elif status == 404:
            error = NOT_FOUND
        is_bare = is_order_service and status == 404 and self.not_found == "bare"
        return web.json_response(error if is_bare else {"errors": [error]}, status=status)

    async def _issue_token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("grant_type") != "client_credentials":
            raise web.HTTPBadRequest
        credentials = form.get("client_id"), form.get("client_secret")
        if credentials != (self.client_id, self.client_secret):
            raise web.HTTPUnauthorized
        token = f"issued-{self._random.getrandbits(128):032x}"
        self._token_expiry[token] = expires_at = loop_time() + self.token_lifetime
        return web.json_response(
            {
                "expires": int(self._epoch + expires_at),
                "identifier": "client_credentials",
                "expires_in": int(self.token_lifetime),
                "access_token": token,
                "token_type": "Bearer",
            }
        )
