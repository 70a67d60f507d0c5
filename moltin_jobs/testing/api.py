"""HTTP interface of the simulator: its routes, and the checks that each request passes."""

import asyncio
from typing import Any

import attrs
from aiohttp import web
from aiohttp.typedefs import Handler

from .access import RateWindow, TokenIssuer
from .documents import Documents
from .faults import TOKEN_PATH, AnyFault, Fault, FaultQueue, break_connection
from .jobs import JobTable, SimulatedJob, loop_time


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


@attrs.define
class JobsApi:
    """Serve the Jobs API from the parts of a simulator."""

    jobs: JobTable
    faults: FaultQueue
    tokens: TokenIssuer
    rate_window: RateWindow
    documents: Documents
    latency: float
    requests: list[RecordedRequest] = attrs.field(factory=list, init=False)

    def make_application(self) -> web.Application:
        """Make the application that serves the API."""
        application = web.Application(middlewares=[self._record, self._admit, self._inject_fault])
        router = application.router
        router.add_post(TOKEN_PATH, self._issue_token)
        router.add_get("/v2/jobs", self._list_jobs, allow_head=False)
        router.add_post("/v2/jobs", self._create_job)
        router.add_get("/v2/jobs/{job_id:[^/]+}", self._get_job, allow_head=False)
        router.add_get("/v2/jobs/{job_id:[^/]+}/file", self._get_file_url, allow_head=False)
        return application

    def make_file_application(self) -> web.Application:
        """Make the application that serves the files, on a host of their own."""
        application = web.Application()
        application.router.add_get("/files/{job_id}.csv", self._get_file)
        return application

    @web.middleware
    async def _record(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        job_id = request.match_info.get("job_id")
        record = RecordedRequest(loop_time(), request.method, request.path, job_id, None)
        number = len(self.requests)
        self.requests.append(record)
        response = await handler(request)
        if request.transport is not None and not request.transport.is_closing():
            self.requests[number] = attrs.evolve(record, status=response.status)
        return response

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        is_admitted = self.rate_window.admit()
        if self.latency:
            await asyncio.sleep(self.latency)
        if not is_admitted:
            return self._error(429)
        is_token_request = (request.method, request.path) == ("POST", TOKEN_PATH)
        authorization = request.headers.get("Authorization", "")
        if not is_token_request and not self.tokens.is_authorized(authorization):
            return self._error(401, "Unable to validate access token")
        if request.match_info.http_exception is not None:  # there is no such route
            return self._error(404)
        return await handler(request)

    @web.middleware
    async def _inject_fault(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        fault = self.faults.take(request)
        if fault is None:
            return await handler(request)
        if fault == "lost":
            await handler(request)
        return await self._send_fault(request, fault)

    async def _send_fault(self, request: web.Request, fault: AnyFault) -> web.Response:
        if isinstance(fault, Fault):
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        if isinstance(fault, int):
            return self._error(fault)
        if fault == "html":
            return web.Response(text="<html>Please wait.</html>", content_type="text/html")
        return await break_connection(request, fault)

    async def _issue_token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("grant_type") != "client_credentials":
            return self._error(400)
        if not self.tokens.has_credentials(form):
            return self._error(401)
        token, lifetime = self.tokens.issue(), self.tokens.lifetime
        return web.json_response(self.documents.describe_token(token, lifetime))

    async def _list_jobs(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [self._poll(job) for job in self.jobs.find_all()]})

    async def _create_job(self, request: web.Request) -> web.Response:
        try:
            data = (await request.json())["data"]
            is_valid = data["type"] == "job" and isinstance(data.get("filter"), str | None)
            job_type = str(data["job_type"])
        except (ValueError, LookupError, TypeError, AttributeError):
            is_valid = False
        if not is_valid:
            return self._error(400)
        created = self.documents.describe_job(self.jobs.create(job_type))
        if self.documents.is_current:
            return web.json_response({"data": [created]}, status=202)
        return web.json_response({"data": created}, status=201)

    async def _get_job(self, request: web.Request) -> web.Response:
        job = self.jobs.find(request.match_info["job_id"])
        return self._error(404) if job is None else web.json_response({"data": self._poll(job)})

    async def _get_file_url(self, request: web.Request) -> web.Response:
        job = self.jobs.find(request.match_info["job_id"])
        link = {"href": ""} if job is None else self.documents.describe_job(job)["link"]
        if not link["href"]:
            return self._error(404)
        return web.json_response({"data": link} if self.documents.is_current else link)

    async def _get_file(self, request: web.Request) -> web.Response:
        if "Authorization" in request.headers:
            return web.Response(status=400, text="the request has a token, which files do not need")
        job = self.jobs.find(request.match_info["job_id"])
        if job is None:
            return web.Response(status=404)
        return web.Response(body=job.get_file(), content_type="text/csv")

    def _poll(self, job: SimulatedJob) -> dict[str, Any]:
        document = self.documents.describe_job(job)
        job.polls += 1
        return document

    def _error(self, status: int, title: str | None = None) -> web.Response:
        return web.json_response(self.documents.describe_error(status, title), status=status)
