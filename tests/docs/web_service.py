"""Runs the application of a guide in a process of its own, beside a simulated store."""

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from moltin_jobs.testing import Simulator

from .examples import named_block

PATIENCE = 30.0
"""Seconds for what takes one or two, on a busy machine."""
ADDRESS = re.compile(r"http://127\.0\.0\.1:[1-9]\d*")


@attrs.define(eq=False)
class WebService:
    """A process that serves the application of a guide."""

    url: str
    http: aiohttp.ClientSession
    process: asyncio.subprocess.Process
    log: list[str]

    async def request(self, method: str, path: str) -> tuple[int, Any]:
        async with self.http.request(method, self.url + path) as response:
            return response.status, await response.json()

    async def get_status(self, path: str) -> int:
        async with self.http.get(self.url + path) as response:
            return response.status

    async def wait_for_health(self, document: Any) -> None:
        while (await self.request("GET", "/health"))[1] != document:  # noqa: ASYNC110 (a process)
            await asyncio.sleep(0.02)

    async def wait_while_unfinished(self, path: str) -> None:
        while await self.get_status(path) == 202:  # noqa: ASYNC110 (a process)
            await asyncio.sleep(0.05)

    async def stop(self) -> str:
        """Send SIGTERM, and return the log once the process has ended."""
        self.process.terminate()
        await self.process.wait()
        return "".join(self.log)


@contextlib.asynccontextmanager
async def serve_guide(
    page: str, name: str, directory: Path, simulator: Simulator, **variables: str
) -> AsyncIterator[WebService]:
    """Start an example of a page, on a free port. Its environment leads to the simulator."""
    inherited = {**os.environ, **simulator.environment}
    (directory / name).write_text(named_block(page, name))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        name,
        cwd=directory,
        env={**inherited, "PORT": "0", "PYTHONUNBUFFERED": "1", **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    log: list[str] = []
    is_up = asyncio.Event()
    reader = asyncio.create_task(_read(process, log, is_up))
    try:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as http:
            await is_up.wait()
            address = ADDRESS.search("".join(log))
            assert address, "".join(log)
            yield WebService(address[0], http, process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reader


async def _read(process: asyncio.subprocess.Process, log: list[str], is_up: asyncio.Event) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        log.append(line.decode())
        if ADDRESS.search(log[-1]):
            is_up.set()
    is_up.set()


async def next_event(response: aiohttp.ClientResponse) -> Any:
    """Return the data of the next server-sent event, or ``None`` at the end of the stream."""
    async for line in response.content:
        if line.startswith(b"data: "):
            return json.loads(line.removeprefix(b"data: "))
    return None
