"""A simulated Jobs API with one job that has succeeded, and the host of its file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from pathlib import Path
from typing import Any, Self

from moltin_jobs import JobsSession
from moltin_jobs.testing.simulator import Fault, Simulator
from tests.raw_server import RawServer, Script, hang, http, send

FILE_URL_PATH = "/v2/jobs/a/file"


class FileHost:
    """Job ``a`` of a simulated store, and a server that sends its file as the scripts say.

    Each request for the address of the file gets the next of ``addresses``, and then the last
    one again. ``{url}`` in an address is the URL of the file host.
    """

    def __init__(
        self,
        *scripts: Script,
        addresses: tuple[str, ...] = ("{url}/a.csv?signature=hush",),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.api = Simulator(rate_limit=None)
        self.server = RawServer(scripts, tls)
        self._addresses = addresses

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.server)
            await stack.enter_async_context(self.api)
            self._stack = stack.pop_all()
        self.api.add_job("a", ["success"])
        self.set_addresses(*self._addresses)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def set_addresses(self, *addresses: str) -> None:
        """Replace the addresses of the file."""
        hrefs = [address.replace("{url}", self.server.url) for address in addresses]
        responses = [Fault(body=json.dumps({"href": href}).encode()) for href in hrefs]
        self.api.clear_faults()
        self.api.add_faults(*responses, path=FILE_URL_PATH, repeat=True)

    @property
    def netloc(self) -> str:
        """Host and port of the file host."""
        return self.server.url.partition("//")[2]

    @property
    def targets(self) -> list[str]:
        """Targets of the requests for files."""
        return [request.split()[1].decode("latin-1") for request in self.server.requests]

    @property
    def address_requests(self) -> int:
        """Number of requests for the address of the file."""
        return sum(request.path == FILE_URL_PATH for request in self.api.requests)

    def session(self, auth: Any = "simulator-token", **options: Any) -> JobsSession:
        """Return a session with the simulated store."""
        return JobsSession(auth, base_url=self.api.url, **options)


def redirect(location: str) -> Script:
    """Redirect to ``location``, in which ``{url}`` is the URL of the server itself."""

    async def script(writer: asyncio.StreamWriter) -> None:
        address, port = writer.get_extra_info("sockname")[:2]
        target = location.replace("{url}", f"http://{address}:{port}")
        await send(http(status="302 Found", headers=f"Location: {target}\r\n"))(writer)

    return script


def send_and_hang(data: bytes) -> Script:
    """Send the beginning of a response, and nothing more."""

    async def script(writer: asyncio.StreamWriter) -> None:
        await send(data)(writer)
        await hang(writer)

    return script


def header_lines(request: bytes) -> set[str]:
    """Return the header lines of a request, with its names in lower case."""
    lines = request.decode("latin-1").split("\r\n")[1:]
    fields = [line.partition(":") for line in lines if line]
    return {f"{name.lower()}:{value}" for name, _, value in fields}


def names_in(folder: Path) -> list[str]:
    """Return the names of the files in a folder, hidden ones included."""
    return sorted(path.name for path in folder.iterdir())


def join_disk_threads() -> None:
    """Wait for the disk calls of downloads that were cancelled more than once."""
    for thread in threading.enumerate():
        if thread.name.startswith("moltin-jobs-disk"):
            thread.join()
