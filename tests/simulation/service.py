"""The service of a world: the simulator, a host of files that misbehaves, and Redis."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import math
import random
import re
import time
import zlib
from email.utils import formatdate
from typing import Any

from aiohttp import web

from moltin_jobs.testing import AnyFault, Fault, Simulator
from moltin_jobs.testing.gateway import FILTER

from .network import Weather
from .redis_server import RedisServer
from .wire import SESSION_HEADER, TOKEN_PATH
from .worlds import BIG_JOB, Disturbance, World

EPOCH = 1_790_000_000.0
"""Wall clock at the start of a world."""
REDIS_LIMIT = 20
_HTML = {"Content-Type": "text/html"}
_FILE = re.compile(r"/files/([^/.]+)(?:/(\w+))?(?:\.csv)?")
BIG = 48 << 20
"""Size of the file that is compressed to a thousandth."""


class RecordingSimulator(Simulator):
    """Simulator that counts the jobs which each creation has made."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.created: dict[str, list[str]] = {}
        """Ids of the jobs that requests have created, by the filter of an order job or the catalog
        of a release."""

    def end_of(self, job_id: str) -> float:
        """Return the moment at which a job ends or was cancelled."""
        try:
            job = self._jobs.find(job_id)
        except web.HTTPNotFound:
            return math.inf
        return job.ends_at if job.cancelled_at is None else job.cancelled_at

    async def _create_order_job(self, request: web.Request) -> web.Response:
        response = await super()._create_order_job(request)
        self._record(request[FILTER], response)
        return response

    async def _create_release(self, request: web.Request) -> web.Response:
        response = await super()._create_release(request)
        self._record(request.match_info["catalog_id"], response)
        return response

    def _record(self, key: str, response: web.Response) -> None:
        assert isinstance(response.body, bytes)
        data = json.loads(response.body)["data"]
        job = data[0] if isinstance(data, list) else data
        self.created.setdefault(key, []).append(job["id"])


class FileHost:
    """Host of the files of all jobs, whose content depends on their names only."""

    def __init__(self, world: World) -> None:
        self._random = random.Random(f"files {world.seed}")
        self._misbehaves = "files" in world.features
        if self._misbehaves:
            compress_big_file()  # before the loop measures its callbacks
        self.violations: list[str] = []
        self.served = 0

    def application(self) -> web.Application:
        """Return the application that serves the files."""
        application = web.Application()
        application.router.add_get("/files/{tail:.*}", self._get)
        return application

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if {"Authorization", SESSION_HEADER, "Cookie"} & set(request.headers):
            self.violations.append("the host of a file got headers of the session")
        self.served += 1
        if request.path == f"/files/{BIG_JOB}.csv":
            return web.Response(body=compress_big_file(), headers={"Content-Encoding": "gzip"})
        content = content_of(request.path)
        mode = self._random.choice(_MODES) if self._misbehaves else "plain"
        if mode in ("403", "404", "410", "503"):
            return web.Response(status=int(mode), text="<Error/>")
        if mode == "redirect":
            return web.Response(status=302, headers={"Location": request.path})
        headers = {}
        if mode in ("gzip", "truncated gzip"):
            content = gzip.compress(content, 1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        elif mode == "deflate":
            content = zlib.compress(content, 1)
            headers["Content-Encoding"] = "deflate"
        if mode == "truncated gzip":
            content = content[: self._random.randrange(len(content))]
        if mode == "chunked":
            response = web.StreamResponse()
            await response.prepare(request)
            for start in range(0, len(content), 10_000):
                await response.write(content[start : start + 10_000])
            return response
        return web.Response(body=content, headers=headers)


_MODES = [
    "plain", "plain", "gzip", "deflate", "truncated gzip", "truncated gzip", "chunked", "redirect",
    "403", "404", "410", "503",
]  # fmt: skip


@functools.cache
def compress_big_file() -> bytes:
    """Return a file that a client decodes to a thousand times its size."""
    return gzip.compress(bytes(BIG), 1, mtime=0)


def content_of(path: str) -> bytes:
    """Return the content of a file, from the path of its address."""
    match = _FILE.fullmatch(path)
    assert match is not None, path
    return content_of_job(match[1], match[2] or "1")


@functools.lru_cache(1000)
def content_of_job(job_id: str, part: str) -> bytes:
    """Return the content of a file of a job."""
    chance = random.Random(f"{job_id} {part}")
    rows = chance.choice([0, 1, 100, 3_000, 30_000])
    return "".join(f"{job_id},{part},{row}\r\n" for row in range(rows)).encode()


class Service:
    """All servers of a world, and what happens to them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.simulator = RecordingSimulator(seed=world.seed, **world.service)
        self.files = FileHost(world)
        self.redis = RedisServer() if "redis" in world.features else None
        self.redis_port = 0
        self.clock_offset = 0.0
        self.outage_since: float | None = None

    def add_jobs(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let each job appear, and expire, at its time."""
        for job in self.world.jobs:
            details: dict[str, Any] = {"kind": job.kind, "duration": job.duration}
            if job.fails and job.kind == "order":
                details["error"] = "it failed"
            elif job.fails and job.kind in ("pxm", "subscription-import", "inventory-import"):
                details["problems"] = ["a row is wrong", "another one too"]
            if job.kind == "pxm":
                details |= {"job_type": "product-export", "file": [b"", b""]}
            add = functools.partial(self.simulator.add_job, job.id, **details)
            loop.call_later(job.at, add)
            if job.at < job.expires_at < math.inf:
                loop.call_later(job.expires_at, self.simulator.remove_job, job.id)

    def disturb(self, disturbance: Disturbance, loop: Any) -> None:
        """Let something happen."""
        options, simulator = disturbance.options, self.simulator
        match disturbance.name:
            case "burst":
                simulator.add_faults(*[_too_many(**options)] * options["count"])
            case "errors":
                simulator.add_faults(*map(_fault, options["faults"]), path=options["path"])
            case "token errors":
                simulator.add_faults(*options["faults"], path=TOKEN_PATH)
            case "revoke":
                simulator.revoke_tokens()
            case "latency":
                simulator.latency = options["seconds"]
            case "clock":
                self.clock_offset += options["seconds"]
            case "outage":
                simulator.clear_faults()
                simulator.add_faults(503, repeat=True)
                self.outage_since = loop.time()
            case "redis" if self.redis_port:
                self._trouble_redis(options["name"], options["seconds"], loop)

    def _trouble_redis(self, name: str, seconds: float, loop: Any) -> None:
        redis = self.redis
        assert redis is not None
        if name == "refuses writes":
            redis.refuses_writes = True
            loop.call_later(seconds, setattr, redis, "refuses_writes", False)
        elif name == "steps back":
            redis.clock_offset -= 100 * seconds
        else:
            weather = {
                "slow": Weather(latency=0.2),
                "away": Weather(refused=1.0, resets=1.0),
                "hangs": Weather(stalls=1.0),
            }[name]
            loop.network.weather[self.redis_port] = weather
            calm = Weather(latency=self.world.redis_latency)
            loop.call_later(seconds, loop.network.weather.__setitem__, self.redis_port, calm)


def _too_many(retry_after: str | None, **_: Any) -> Fault:
    """Return a 429."""
    if retry_after == "date":
        retry_after = formatdate(time.time() + 3, usegmt=True)
    return Fault(429, {} if retry_after is None else {"Retry-After": retry_after})


def _fault(name: str | int) -> AnyFault:
    if name == "gateway 404":
        return Fault(404, _HTML, b"<html>no such page</html>")
    if name == "gateway 503":
        return Fault(503, _HTML, b"<html>busy</html>")
    if name == "503 with Retry-After":
        return Fault(503, {"Retry-After": "3"}, b"{}")
    return name
