"""HTTP interface of the simulator: its options, its routes, and the checks of each request."""

import asyncio
import collections
import contextlib
import datetime
import http
import random
from typing import Any, Literal

import attrs
from aiohttp import web
from aiohttp.typedefs import Handler
from attrs.validators import and_, ge, le, optional

from .faults import CHAOS_FAULTS, TOKEN_PATH, FaultQueue, send_fault
from .jobs import JobTable, SimulatedJob, loop_time, random_uuid

NOT_FOUND = {
    "title": "Resource Not Found",
    "status": 404,
    "detail": "The resource you are requesting does not exist",
}
SERVER_ERROR = "There was an internal server error, you can report with your request id."
STATUS_NAMES = {  # pending, running, succeeded, failed
    "current": ("pending", "started", "success", "failed"),
    "older": ("pending", "processing", "complete", "failed"),
}
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


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class JobsApi:
    """The simulated service: its options, its state, and the handlers of its requests."""

    token: str = "simulator-token"  # noqa: S105 (it protects nothing)
    client_id: str = "simulator-client"
    client_secret: str = "simulator-secret"  # noqa: S105 (it protects nothing)
    dialect: Literal["current", "older"] = "current"
    not_found: Literal["bare", "list"] = "bare"
    rate_limit: int | None = attrs.field(default=25, on_setattr=attrs.setters.frozen)
    token_lifetime: float = 3600.0
    latency: float = attrs.field(default=0.0, validator=ge(0))
    chaos: float = attrs.field(default=0.0, validator=and_(ge(0), le(1)))
    seed: int = attrs.field(default=0, on_setattr=attrs.setters.frozen)
    creation_seconds: float | None = attrs.field(default=None, validator=optional(ge(0)))

    url: str = attrs.field(default="", init=False)
    """Base URL of the API, once the simulator is open."""
    files_url: str = attrs.field(default="", init=False)
    """Base URL of the files, once the simulator is open."""
    requests: list[RecordedRequest] = attrs.field(factory=list, init=False)
    """Requests in the order of arrival, except those for files."""

    def __attrs_post_init__(self) -> None:
        if self.dialect not in ("current", "older"):
            raise ValueError(f"dialect must be 'current' or 'older', not {self.dialect!r}")
        if self.not_found not in ("bare", "list"):
            raise ValueError(f"not_found must be 'bare' or 'list', not {self.not_found!r}")
        if self.rate_limit is not None and self.rate_limit < 1:
            raise ValueError(f"rate_limit must be at least 1, or None, not {self.rate_limit!r}")
        self._random = random.Random(self.seed)  # noqa: S311 (repeatable, not secret)
        self._jobs = JobTable(self._random)
        self._scripted_jobs = collections.deque[SimulatedJob]()  # for requests that create one
        self._faults = FaultQueue()
        self._token_expiry: dict[str, float] = {}
        self._admitted_at = collections.deque[float](maxlen=self.rate_limit)
        self._epoch = 0.0  # the time when the event loop's clock was 0

    def _make_application(self) -> web.Application:
        """Make the application that serves the API."""
        application = web.Application(middlewares=[self._respond])
        add_route = application.router.add_route
        add_route("POST", TOKEN_PATH, self._issue_token)
        add_route("GET", "/v2/jobs", self._list_jobs)
        add_route("POST", "/v2/jobs", self._create_job)
        add_route("GET", "/v2/jobs/{job_id}", self._get_job)
        add_route("GET", "/v2/jobs/{job_id}/file", self._get_file_url)
        return application

    def _make_file_application(self) -> web.Application:
        """Make the application that serves the files, on a host of their own."""
        application = web.Application()
        application.router.add_get("/files/{job_id}.csv", self._get_file)
        return application

    @web.middleware
    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Record a request. An error response gets the body that the service documents."""
        job_id = request.match_info.get("job_id")
        record = RecordedRequest(loop_time(), request.method, request.path, job_id, None)
        number = len(self.requests)
        self.requests.append(record)
        try:
            response = await self._handle(request, handler)
        except web.HTTPException as error:
            response = self._make_error(error.status, error.reason)
        is_sent = request.transport is not None and not request.transport.is_closing()
        if is_sent and record in self.requests[number : number + 1]:  # a test may clear the list
            self.requests[number] = attrs.evolve(record, status=response.status)
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
            return self._make_error(fault, http.HTTPStatus(fault).phrase)
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

    def _make_error(self, status: int, title: str) -> web.Response:
        error: dict[str, Any] = {"status": status, "title": title}
        if status == 500:
            error |= {"detail": SERVER_ERROR, "request_id": str(random_uuid(self._random))}
        if status == 404:
            error = NOT_FOUND
        is_bare = status == 404 and self.not_found == "bare"
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

    async def _list_jobs(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [self._poll(job) for job in self._jobs.find_all()]})

    async def _create_job(self, request: web.Request) -> web.Response:
        try:
            data = (await request.json())["data"]
            is_valid = data["type"] == "job" and isinstance(data.get("filter"), str | None)
            job_type = str(data["job_type"])
        except (ValueError, LookupError, TypeError, AttributeError):
            is_valid = False
        if not is_valid:
            raise web.HTTPBadRequest
        regular_job = SimulatedJob(duration=self.creation_seconds)
        job = self._scripted_jobs.popleft() if self._scripted_jobs else regular_job
        job.job_type = job_type
        self._jobs.add(job)
        if self.dialect == "current":
            return web.json_response({"data": [self._describe(job)]}, status=202)
        return web.json_response({"data": self._describe(job)}, status=201)

    async def _get_job(self, request: web.Request) -> web.Response:
        job = self._jobs.find(request.match_info["job_id"])
        return web.json_response({"data": self._poll(job)})

    async def _get_file_url(self, request: web.Request) -> web.Response:
        link = self._describe(self._jobs.find(request.match_info["job_id"]))["link"]
        if not link["href"]:
            raise web.HTTPNotFound
        return web.json_response({"data": link} if self.dialect == "current" else link)

    async def _get_file(self, request: web.Request) -> web.Response:
        if "Authorization" in request.headers:
            raise web.HTTPBadRequest(text="the request has a token, which files do not need")
        job = self._jobs.find(request.match_info["job_id"])
        return web.Response(body=job.get_file(), content_type="text/csv")

    def _poll(self, job: SimulatedJob) -> dict[str, Any]:
        document = self._describe(job)
        job.polls += 1
        return document

    def _describe(self, job: SimulatedJob) -> dict[str, Any]:
        names = STATUS_NAMES[self.dialect]
        status, updated_at = job.get_status_and_time(names)
        has_file = any(status.lower() == spellings[2] for spellings in STATUS_NAMES.values())
        document: dict[str, Any] = {
            "type": "job",
            "id": job.id,
            "job_type": job.job_type,
            "status": status,
            "link": {"href": f"{self.files_url}/{job.id}.csv" if has_file else ""},
            "links": {"self": f"{self.url}/v2/jobs/{job.id}"},
            "timestamps": {
                "created_at": self._format_time(job.created_at),
                "updated_at": self._format_time(updated_at),
            },
        }
        if status.lower() == "failed" and job.error is not None:
            document["error"] = job.error
        elif self.dialect == "current":
            document["error"] = ""
        return document

    def _format_time(self, at: float | None) -> str:
        """Format a time of the event loop's clock as the service does, with nine decimals."""
        if at is None:
            return "0001-01-01T00:00:00Z"
        moment = datetime.datetime.fromtimestamp(self._epoch + at, datetime.UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z"
