"""The Jobs API on loopback, for demonstrations and for tests; it imports nothing of the client.

All time is the event loop's, and what a job is doing is computed when it is asked for, so that a
week passes in no time under a virtual clock.
"""

from __future__ import annotations

import asyncio
import collections
import datetime
import http
import math
import random
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import attrs
from aiohttp import web

_WEEK = 7 * 24 * 3600.0
_ROUNDING = 1e-6  # of a virtual clock's sums
_ZERO_TIME = "0001-01-01T00:00:00Z"
_SPELLINGS = {
    "current": ("pending", "started", "success", "failed"),
    "older": ("pending", "processing", "complete", "failed"),
}
_NOT_FOUND = {
    "title": "Resource Not Found",
    "status": 404,
    "detail": "The resource you are requesting does not exist",
}
_PATH = re.compile(r"/v2/jobs(?:/(?P<job_id>[^/]+)(?P<file>/file)?)?")
_OF_ALL = ("GET", "POST")
_RAW_FAULTS = ("reset", "hang", "truncate", "garbage")
_STATUSES = frozenset(int(status) for status in http.HTTPStatus)
_CHAOS: tuple[Any, ...] = ("reset", "truncate", "garbage", "html", 500, 503, 429)


@attrs.frozen
class Fault:
    """An answer to give instead of the right one, exactly as it stands."""

    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""


AnyFault = int | str | Fault
"""A status, answered with the documented error; ``reset``, ``hang``, ``truncate`` or ``garbage``
(no whole answer), ``html`` (a proxy's page, with status 200); or a `Fault`."""


@attrs.frozen
class Request:
    """A request that came; tokens are not kept."""

    at: float
    """When, on the event loop's clock, in seconds."""
    method: str
    path: str
    job_id: str | None
    status: int | None
    """What it was answered with; ``None`` if not, or not yet."""


@attrs.define
class _Job:
    id: str
    job_type: str
    error: str | None
    created: float
    starts: float
    ends: float
    script: Sequence[str] | None
    file: bytes
    polls: int = 0

    def now(
        self, now: float, spellings: Sequence[str], *, polled: bool
    ) -> tuple[str, float | None]:
        """The status, and when it last changed (``None``: never)."""
        pending, running, success, failed = spellings
        if self.script is not None:
            step = min(self.polls, len(self.script) - 1)
            self.polls += polled
            return self.script[step], now if step else None
        if now < self.starts:
            return pending, None
        if now < self.ends:
            return running, self.starts
        return success if self.error is None else failed, self.ends


class Simulator:
    """A store's Jobs API on 127.0.0.1, from ``async with`` until its end.

    Files are served from another port, and refused to whoever sends a token along.

    ``port`` 0 takes a free one. ``token`` never expires; those issued for ``client_id`` and
    ``client_secret`` live ``token_lifetime`` seconds (documented: an hour). ``rate_limit`` is the
    number of requests in any one second (documented for a development store: 25), ``None`` for
    no limit. ``dialect`` chooses the spelling of statuses, ``not_found`` the shape of a 404.
    ``latency`` is slept before each answer, in seconds. ``chaos`` is the part of the requests for
    jobs that is spoiled, 0 to 1, by ``seed``. Jobs created over HTTP run ``creation_seconds``.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        token: str = "simulator-token",  # noqa: S107 (it opens nothing)
        client_id: str = "simulator-client",
        client_secret: str = "simulator-secret",  # noqa: S107 (it opens nothing)
        dialect: Literal["current", "older"] = "current",
        not_found: Literal["bare", "list"] = "bare",
        rate_limit: int | None = 25,
        token_lifetime: float = 3600.0,
        latency: float = 0.0,
        chaos: float = 0.0,
        seed: int = 0,
        creation_seconds: float | None = None,
    ) -> None:
        if dialect not in _SPELLINGS:
            raise ValueError(f"dialect must be 'current' or 'older', not {dialect!r}")
        if not_found not in ("bare", "list"):
            raise ValueError(f"not_found must be 'bare' or 'list', not {not_found!r}")
        if not 0 <= chaos <= 1:
            raise ValueError(f"chaos must be from 0 to 1, not {chaos!r}")
        if rate_limit is not None and rate_limit < 1:
            raise ValueError(f"rate_limit must be from 1, or None, not {rate_limit!r}")
        if not 0 <= latency < math.inf:
            raise ValueError(f"latency must be a number of seconds from 0, not {latency!r}")
        self.token = token
        self.client_id = client_id
        self.client_secret = client_secret
        self.url = ""
        """Where it is, once it is open."""
        self.requests: list[Request] = []
        """What was asked, in the order of arrival; of files, nothing."""
        self.files_url = ""
        """Where the files are, once it is open."""
        self._port = port
        self._dialect = dialect
        self._not_found = not_found
        self._rate_limit = math.inf if rate_limit is None else rate_limit
        self._token_lifetime = token_lifetime
        self._latency = latency
        self._chaos = chaos
        self._creation_seconds = creation_seconds
        self._created_next: collections.deque[dict[str, Any]] = collections.deque()
        self._random = random.Random(seed)  # noqa: S311 (to be repeated, not to be secret)
        self._jobs: dict[str, _Job] = {}
        self._queue_free_at = -math.inf
        self._faults: dict[str | None, collections.deque[AnyFault]] = {}
        self._tokens: dict[str, float] = {}
        self._recent: collections.deque[float] = collections.deque()
        self._epoch = 0.0

    async def __aenter__(self) -> Self:
        self._epoch = time.time() - _now()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Without cancellation a handler that hangs would outlive its client.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        files = web.Application()
        files.router.add_get("/files/{job_id}.csv", self._file)
        self._files_runner = web.AppRunner(files, access_log=None, shutdown_timeout=0.1)
        await self._files_runner.setup()
        await web.TCPSite(self._files_runner, "127.0.0.1", 0).start()
        self.url = _address(self._runner)
        self.files_url = f"{_address(self._files_runner)}/files"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._files_runner.cleanup()
        await self._runner.cleanup()

    def add_job(
        self,
        job_id: str | None = None,
        statuses: Sequence[str] | None = None,
        *,
        duration: float | None = None,
        error: str | None = None,
        job_type: str = "order_export",
        file: bytes | None = None,
    ) -> str:
        """Create a job and return its id, by default a new UUID.

        With ``statuses`` it shows one at each poll, by its id or in a list, and the last for ever.
        Without, it takes its turn in the queue, runs for ``duration`` seconds (by default 1 to
        60), and then fails if an ``error`` is given. ``file`` is what it exports, by
        default a CSV of 200 orders.
        """
        job_id = job_id or str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        if job_id in self._jobs:
            raise ValueError(f"there is a job {job_id!r} already: give another id")
        _check_script(statuses, duration)
        now = starts = ends = _now()
        if statuses is None:
            runs = 60 ** self._random.random() if duration is None else duration
            starts = max(now, self._queue_free_at)
            self._queue_free_at = ends = starts + runs
        file = _csv(job_id) if file is None else file
        self._jobs[job_id] = _Job(job_id, job_type, error, now, starts, ends, statuses, file)
        return job_id

    def script_created(
        self,
        statuses: Sequence[str] | None = None,
        *,
        duration: float | None = None,
        error: str | None = None,
        file: bytes | None = None,
    ) -> None:
        """Have the next job that is created over HTTP be like one of `add_job` with the same."""
        _check_script(statuses, duration)
        self._created_next.append(
            {"statuses": statuses, "duration": duration, "error": error, "file": file}
        )

    def spoil(self, *faults: AnyFault, job_id: str | None = None) -> None:
        """Answer the next requests for jobs, or for that job only, with ``faults``, in order."""
        for fault in faults:
            if isinstance(fault, str) and fault not in (*_RAW_FAULTS, "html"):
                raise ValueError(f"{fault!r} is no fault: use one of {(*_RAW_FAULTS, 'html')}")
            if isinstance(fault, int) and fault not in _STATUSES:
                raise ValueError(f"{fault!r} is no HTTP status: use a Fault({fault!r})")
        self._faults.setdefault(job_id, collections.deque()).extend(faults)

    def revoke_tokens(self) -> None:
        """Refuse every token issued so far."""
        self._tokens.clear()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        found = _PATH.fullmatch(request.path)
        job_id = found and found["job_id"]
        number = len(self.requests)
        self.requests.append(Request(_now(), request.method, request.path, job_id, None))
        response = await self._answer(request, found)
        if request.transport is not None and not request.transport.is_closing():
            self.requests[number] = attrs.evolve(self.requests[number], status=response.status)
        return response

    async def _answer(
        self, request: web.Request, found: re.Match[str] | None
    ) -> web.StreamResponse:
        limited = self._over_limit()
        if self._latency:
            await asyncio.sleep(self._latency)
        if limited:
            return self._error(429)
        if request.path == "/oauth/access_token" and request.method == "POST":
            return self._issue(await request.post())
        if not self._authorized(request.headers.get("Authorization", "")):
            return _json(401, _errors(status=401, title="Unable to validate access token"))
        return await self._serve(request, found)

    async def _serve(self, request: web.Request, found: re.Match[str] | None) -> web.StreamResponse:
        if found is None or request.method not in (("GET",) if found["job_id"] else _OF_ALL):
            return self._error(404)
        if (fault := self._next_fault(found["job_id"])) is not None:
            return await self._spoiled(request, fault)
        if found["file"]:
            return self._locate(found["job_id"])
        if found["job_id"]:
            return self._show(found["job_id"])
        return self._list() if request.method == "GET" else await self._create(request)

    def _over_limit(self) -> bool:
        now = _now()
        while self._recent and self._recent[0] <= now - 1 + _ROUNDING:
            self._recent.popleft()
        if len(self._recent) >= self._rate_limit:
            return True
        self._recent.append(now)
        return False

    def _authorized(self, header: str) -> bool:
        kind, _, token = header.partition(" ")
        return kind == "Bearer" and (token == self.token or self._tokens.get(token, 0.0) > _now())

    def _issue(self, form: Mapping[str, Any]) -> web.Response:
        if form.get("grant_type") != "client_credentials":
            return self._error(400)
        given = (form.get("client_id"), form.get("client_secret"))
        if given != (self.client_id, self.client_secret):
            return self._error(401)
        token = f"issued-{self._random.getrandbits(128):032x}"
        self._tokens[token] = _now() + self._token_lifetime
        return _json(
            200,
            {
                "expires": int(self._epoch + self._tokens[token]),
                "identifier": "client_credentials",
                "expires_in": int(self._token_lifetime),
                "access_token": token,
                "token_type": "Bearer",
            },
        )

    def _next_fault(self, job_id: str | None) -> AnyFault | None:
        for key in dict.fromkeys((job_id, None)):
            if faults := self._faults.get(key):
                return faults.popleft()
        if self._random.random() < self._chaos:
            return self._random.choice(_CHAOS)  # type: ignore[no-any-return]  # each is one
        return None

    async def _spoiled(self, request: web.Request, fault: AnyFault) -> web.StreamResponse:
        if isinstance(fault, Fault):
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        if isinstance(fault, int):
            return self._error(fault)
        if fault == "html":
            return web.Response(text="<html>Please wait.</html>", content_type="text/html")
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (for mypy)
        if fault == "hang":
            await asyncio.Event().wait()
        elif fault == "reset":
            transport.abort()
        elif fault == "garbage":
            transport.write(b"\x00\x01 no HTTP at all\r\n\r\n")
            transport.close()
        else:
            transport.write(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"data": {"id": "')
            transport.close()
        return web.Response()

    def _error(self, status: int) -> web.Response:
        if status == 404:
            return _json(404, _NOT_FOUND if self._not_found == "bare" else _errors(**_NOT_FOUND))
        facts: dict[str, Any] = {"status": status, "title": http.HTTPStatus(status).phrase}
        if status == 500:
            facts |= {
                "title": "Internal Server Error",
                "detail": "There was an internal server error, "
                "you can report with your request id.",
                "request_id": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            }
        return _json(status, _errors(**facts))

    def _existing(self, job_id: str) -> _Job | None:
        job = self._jobs.get(job_id)
        return None if job is None or _now() - job.created > _WEEK else job

    def _show(self, job_id: str) -> web.Response:
        job = self._existing(job_id)
        return (
            self._error(404) if job is None else _json(200, {"data": self._data(job, polled=True)})
        )

    def _list(self) -> web.Response:
        jobs = [job for job in map(self._existing, self._jobs) if job is not None]
        return _json(200, {"data": [self._data(job, polled=True) for job in jobs]})

    async def _create(self, request: web.Request) -> web.Response:
        try:
            data = (await request.json())["data"]
            job_type, chosen = str(data["job_type"]), data.get("filter")
            if data["type"] != "job" or not isinstance(chosen, str | None):
                raise ValueError  # noqa: TRY301 (one way out)
        except (ValueError, LookupError, TypeError, AttributeError):
            return self._error(400)
        settings: dict[str, Any] = {"duration": self._creation_seconds}
        if self._created_next:
            settings = self._created_next.popleft()
        job = self._jobs[self.add_job(job_type=job_type, **settings)]
        if self._dialect == "current":
            return _json(202, {"data": [self._data(job)]})
        return _json(201, {"data": self._data(job)})

    def _locate(self, job_id: str) -> web.Response:
        job = self._existing(job_id)
        if job is None or not (href := self._data(job)["link"]["href"]):
            return self._error(404)
        return _json(
            200, {"data": {"href": href}} if self._dialect == "current" else {"href": href}
        )

    async def _file(self, request: web.Request) -> web.Response:
        if "Authorization" in request.headers:
            return web.Response(status=400, text="a token was sent to the host of the files")
        job = self._existing(request.match_info["job_id"])
        if job is None:
            return web.Response(status=404)
        return web.Response(body=job.file, content_type="text/csv")

    def _data(self, job: _Job, *, polled: bool = False) -> dict[str, Any]:
        spellings = _SPELLINGS[self._dialect]
        status, updated = job.now(_now(), spellings, polled=polled)
        data: dict[str, Any] = {
            "type": "job",
            "id": job.id,
            "job_type": job.job_type,
            "status": status,
            "link": {"href": f"{self.files_url}/{job.id}.csv" if status == spellings[2] else ""},
            "links": {"self": f"{self.url}/v2/jobs/{job.id}"},
            "timestamps": {
                "created_at": self._timestamp(job.created),
                "updated_at": _ZERO_TIME if updated is None else self._timestamp(updated),
            },
        }
        if status.lower() == "failed" and job.error is not None:
            data["error"] = job.error
        elif self._dialect == "current":
            data["error"] = ""
        return data

    def _timestamp(self, at: float) -> str:
        nanoseconds = int((self._epoch + at) * 1e9)
        moment = datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09}Z"


def _check_script(statuses: Sequence[str] | None, duration: float | None) -> None:
    if statuses is not None and (isinstance(statuses, str) or not statuses):
        raise ValueError(f"statuses must be a list of at least one, not {statuses!r}")
    if statuses is not None and duration is not None:
        raise ValueError("a job has statuses or a duration, not both")
    if duration is not None and not 0 <= duration < math.inf:
        raise ValueError(f"duration must be a number of seconds from 0, not {duration!r}")


def _now() -> float:
    return asyncio.get_running_loop().time()


def _address(runner: web.AppRunner) -> str:
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


def _csv(job_id: str) -> bytes:
    rows = [f"{job_id}-{number},EUR,{number * 100}" for number in range(1, 201)]
    return "\r\n".join(["order_id,currency,amount", *rows, ""]).encode()


def _json(status: int, document: object) -> web.Response:
    return web.json_response(document, status=status)


def _errors(**error: object) -> dict[str, Any]:
    return {"errors": [error]}
