"""HTTP interface of the simulator: the requests of all kinds of job."""

import collections
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs
from aiohttp import web
from attrs.validators import ge, optional

from .documents import describe_job, describe_order, describe_problem, format_time
from .files import FileHost
from .gateway import FILTER, Gateway
from .jobs import JobTable, SimulatedJob
from .kinds import KINDS, ORDER, PXM, RELEASE, TOKEN_PATH, Kind
from .pages import Page
from .refusals import BadRequest, FailedValidation

KEPT_RELEASES = 3  # of each catalog, of those that were published
NOT_OPEN = (
    "Simulator: it is not open. Open it with 'async with Simulator()' or "
    "'with Simulator.in_thread()'."
)


@attrs.define(kw_only=True, slots=False, eq=False, repr=False)
class JobsApi(Gateway):
    """The simulated service: its options, its state, and the handlers of its requests."""

    dialect: Literal["current", "older"] = "current"
    creation_seconds: float | None = attrs.field(default=None, validator=optional(ge(0)))
    old_pxm_timestamps: bool = False

    _url: str = attrs.field(default="", init=False)

    def __attrs_post_init__(self) -> None:
        if self.dialect not in ("current", "older"):
            raise ValueError(f"dialect must be 'current' or 'older', not {self.dialect!r}")
        super().__attrs_post_init__()
        self._jobs = JobTable(self._random)
        self._scripted_jobs = collections.deque[SimulatedJob]()  # for requests that create one
        self._files = FileHost(self._jobs)

    @property
    def url(self) -> str:
        """Base URL of the API.

        Raises:
            RuntimeError: the simulator was not opened yet.
        """
        return _get_address(self._url)

    @property
    def files_url(self) -> str:
        """Base URL of the files, which may be set to that of a proxy.

        Raises:
            RuntimeError: the simulator was not opened yet.
        """
        return _get_address(self._files.url)

    @files_url.setter
    def files_url(self, url: str) -> None:
        self._files.url = url

    def _make_application(self) -> web.Application:
        """Make the application that serves the API."""
        application = web.Application(middlewares=[self._respond])
        add_route = application.router.add_route
        add_route("POST", TOKEN_PATH, self._issue_token)
        for kind in KINDS.values():
            job_path = f"{kind.collection}/{{job_id}}"
            add_route("GET", kind.collection, functools.partial(self._list_jobs, kind))
            add_route("GET", job_path, functools.partial(self._get_job, kind))
            if "errors" in kind.subresources:
                list_problems = functools.partial(self._list_problems, kind)
                add_route("GET", f"{job_path}/errors", list_problems)
        add_route("POST", ORDER.collection, self._create_order_job)
        add_route("GET", f"{ORDER.collection}/{{job_id}}/file", self._get_file_url)
        add_route("POST", f"{PXM.collection}/{{job_id}}/cancel", self._cancel_job)
        add_route("POST", RELEASE.collection, self._create_release)
        return application

    async def _list_jobs(self, kind: Kind, request: web.Request) -> web.Response:
        check_header(kind, request)
        jobs = self._jobs.find_all(get_kind_name(kind, request))
        if kind is RELEASE:
            jobs = [job for job in jobs if job.get_state() == "succeeded"][-KEPT_RELEASES:]
        if kind.pages == "whole":
            return self._send(kind, request, [self._poll(job) for job in jobs])
        return self._send_page(kind, request, jobs, self._poll)

    async def _get_job(self, kind: Kind, request: web.Request) -> web.Response:
        check_header(kind, request)
        return self._send(kind, request, self._poll(self._find(kind, request)))

    async def _list_problems(self, kind: Kind, request: web.Request) -> web.Response:
        check_header(kind, request)
        job = self._find(kind, request)
        time_format = self._get_time_format(job)
        problems = list(enumerate(job.get_problems(), 1))
        return self._send_page(
            kind,
            request,
            problems,
            lambda item: describe_problem(job, *item, format_time=time_format),
        )

    async def _cancel_job(self, request: web.Request) -> web.Response:
        job = self._find(PXM, request)
        if job.get_state() != "pending":
            status, _ = job.get_status_and_time(PXM.statuses)
            raise FailedValidation(f"the job is not pending but {status}")
        self._jobs.cancel(job)
        return self._send(PXM, request, self._poll(job))

    async def _create_release(self, request: web.Request) -> web.Response:
        try:
            data = (await request.json())["data"]
            is_valid = data.keys() == {"export_full_delta"}
            is_full_delta = data["export_full_delta"]
        except (ValueError, LookupError, TypeError, AttributeError):
            is_valid = is_full_delta = False
        if not is_valid or not isinstance(is_full_delta, bool):
            raise BadRequest("data must have export_full_delta, true or false, and nothing else")
        job = self._take_scripted_job()
        job.kind_name = get_kind_name(RELEASE, request)
        job.details = {"is_full_delta": is_full_delta, **job.details}
        self._jobs.add(job)
        return self._send(RELEASE, request, self._describe(job), status=201)

    async def _create_order_job(self, request: web.Request) -> web.Response:
        try:
            data = (await request.json())["data"]
            is_valid = data["type"] == "job" and isinstance(data.get("filter"), str | None)
            job_type = str(data["job_type"])
        except (ValueError, LookupError, TypeError, AttributeError):
            is_valid = False
        if not is_valid:
            raise web.HTTPBadRequest
        if data.get("filter") is not None:
            request[FILTER] = data["filter"]
        job = self._take_scripted_job()
        job.job_type = job_type
        self._jobs.add(job)
        if self.dialect == "current":
            return web.json_response({"data": [self._describe(job)]}, status=202)
        return web.json_response({"data": self._describe(job)}, status=201)

    async def _get_file_url(self, request: web.Request) -> web.Response:
        link = self._describe(self._find(ORDER, request))["link"]
        if not link["href"]:
            raise web.HTTPNotFound
        return web.json_response({"data": link} if self.dialect == "current" else link)

    def _find(self, kind: Kind, request: web.Request) -> SimulatedJob:
        """Return the job that the path names."""
        return self._jobs.find(request.match_info["job_id"], get_kind_name(kind, request))

    def _take_scripted_job(self) -> SimulatedJob:
        """Return the next scripted job, or a regular one."""
        if self._scripted_jobs:
            return self._scripted_jobs.popleft()
        return SimulatedJob(duration=self.creation_seconds)

    def _poll(self, job: SimulatedJob) -> dict[str, Any]:
        document = self._describe(job)
        job.polls += 1
        return document

    def _describe(self, job: SimulatedJob) -> dict[str, Any]:
        if job.kind is ORDER:
            file_url = self._files.get_order_url(job)
            return describe_order(
                job, dialect=self.dialect, url=self.url, file_url=file_url, epoch=self._epoch
            )
        file_urls = self._files.get_urls(job)
        return describe_job(job, file_urls=file_urls, format_time=self._get_time_format(job))

    def _get_time_format(self, job: SimulatedJob) -> Callable[[float], str]:
        return functools.partial(
            format_time, job.kind, epoch=self._epoch, is_old_pxm=self.old_pxm_timestamps
        )

    def _send(
        self, kind: Kind, request: web.Request, data: Any, *, status: int = 200
    ) -> web.Response:
        """Respond with a job or a whole list."""
        links = {"links": {"self": self.url + request.path}} if kind is RELEASE else {}
        return web.json_response({"data": data, **links}, status=status)

    def _send_page(
        self,
        kind: Kind,
        request: web.Request,
        items: list[Any],
        describe: Callable[[Any], Mapping[str, Any]],
    ) -> web.Response:
        """Respond with the page that the request asks for."""
        page = Page.read(request.query, kind)
        document = {
            "data": [describe(item) for item in items[page.slice]],
            "links": page.make_links(self.url + request.path, len(items)),
        }
        if kind.pages == "total":
            document["meta"] = {"results": {"total": len(items)}}
        return web.json_response(document)


def _get_address(url: str) -> str:
    """Return a URL that is known once the simulator is open."""
    if not url:
        raise RuntimeError(NOT_OPEN)
    return url


def get_kind_name(kind: Kind, request: web.Request) -> str:
    """Return the name of the jobs that a path names: for releases, with the id of the catalog."""
    catalog_id = request.match_info.get("catalog_id")
    return kind.name if catalog_id is None else f"{kind.name}:{catalog_id}"


def check_header(kind: Kind, request: web.Request) -> None:
    """Refuse a request without the header that its kind requires."""
    if kind.required_header is None:
        return
    name, value = kind.required_header
    if request.headers.get(name) != value:
        raise BadRequest(f"the header {name}: {value} is missing")
