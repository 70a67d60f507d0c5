"""Host of the files of jobs, which refuses requests with a token."""

import hashlib
import hmac
import itertools
import secrets
from collections.abc import Sequence

from aiohttp import web

from .jobs import JobTable, SimulatedJob, loop_time
from .kinds import ORDER, RELEASE

SIGNATURE_SECONDS = 3600
DELTA = b'{"type":"catalog-release-delta","data":[]}\n'


class FileHost:
    """Host of the files. The address of the file of a release is signed, others are not."""

    def __init__(self, jobs: JobTable) -> None:
        self.url = ""
        self._jobs = jobs
        self._key = secrets.token_bytes(32)
        self._nonces = itertools.count(1)

    def make_application(self) -> web.Application:
        """Make the application that serves the files."""
        application = web.Application()
        application.router.add_get("/files/{job_id}.csv", self._get_order_file)
        application.router.add_get("/files/{job_id}/{number:[1-9][0-9]*}.csv", self._get_pxm_file)
        application.router.add_get("/files/{job_id}/delta", self._get_delta)
        return application

    def get_order_url(self, job: SimulatedJob) -> str:
        """Return the address of the file of an order job."""
        return f"{self.url}/{job.id}.csv"

    def get_urls(self, job: SimulatedJob) -> Sequence[str] | None:
        """Return the addresses of the files that another job has by now, or ``None``."""
        files = get_files(job)
        if files is None or job.get_state() != "succeeded":
            return None
        if job.kind is RELEASE:
            return [self._sign(job)]
        return [f"{self.url}/{job.id}/{number}.csv" for number in range(1, len(files) + 1)]

    def _sign(self, job: SimulatedJob) -> str:
        """Return a new signed address, valid for an hour of the event loop's clock."""
        expiry = repr(loop_time() + SIGNATURE_SECONDS)
        nonce = str(next(self._nonces))
        signature = self._get_signature(job.id, expiry, nonce)
        query = f"expiry={expiry}&nonce={nonce}&signature={signature}"
        return f"{self.url}/{job.id}/delta?{query}"

    def _get_signature(self, *parts: str | None) -> str:
        return hmac.new(self._key, repr(parts).encode(), hashlib.sha256).hexdigest()

    async def _get_order_file(self, request: web.Request) -> web.Response:
        return self._send(request, ORDER.name, 1, "text/csv")

    async def _get_pxm_file(self, request: web.Request) -> web.Response:
        return self._send(request, "pxm", int(request.match_info["number"]), "text/csv")

    async def _get_delta(self, request: web.Request) -> web.Response:
        job_id = request.match_info["job_id"]
        expiry, nonce = request.query.get("expiry", ""), request.query.get("nonce", "")
        signature = self._get_signature(job_id, expiry, nonce)
        given = request.query.get("signature", "")
        if not hmac.compare_digest(signature.encode(), given.encode()):
            raise web.HTTPForbidden(text="the signature is wrong")
        if loop_time() > float(expiry):
            raise web.HTTPForbidden(text="the address has expired")
        return self._send(request, "release", 1, "application/json")

    def _send(self, request: web.Request, kind: str, number: int, media: str) -> web.Response:
        """Respond with a file of a job."""
        if "Authorization" in request.headers:
            raise web.HTTPBadRequest(text="the request has a token, which files do not need")
        job = self._jobs.find(request.match_info["job_id"])
        files = get_files(job) if job.kind.name == kind else None
        if files is None or number > len(files):
            raise web.HTTPNotFound
        return web.Response(body=files[number - 1], content_type=media)


def get_files(job: SimulatedJob) -> Sequence[bytes] | None:
    """Return the content of each file of a job, or ``None`` if it never has any."""
    if job.files is not None:
        return job.files
    if job.kind is RELEASE:
        return [DELTA]
    if job.kind is ORDER:
        return [make_csv(f"{job.id}-", "order_id,currency,amount")]
    return [make_csv("", "sku,currency,amount")] if job.job_type == "product-export" else None


def make_csv(prefix: str, header: str) -> bytes:
    """Make a CSV file of 200 rows."""
    rows = [f"{prefix}{number},EUR,{number * 100}" for number in range(1, 201)]
    return "\r\n".join([header, *rows, ""]).encode()
