"""A plain HTTP client for the simulator, which sends requests as they are given."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from moltin_jobs.testing import Simulator


class PlainClient:
    """Send requests to one simulator, by default with its fixed token and the header that selects
    the service of inventories in several locations.
    """

    def __init__(self, simulator: Simulator, http: aiohttp.ClientSession) -> None:
        self._simulator = simulator
        self._http = http

    def request(
        self,
        path: str,
        method: str = "GET",
        *,
        headers: dict[str, str] | None = None,
        data: Any = None,
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if headers is None:
            headers = {
                "Authorization": f"Bearer {self._simulator.token}",
                "EP-Inventories-Multi-Location": "true",
            }
        url = path if path.startswith("http") else self._simulator.url + path
        return self._http.request(method, url, headers=headers, data=data)

    async def send(self, path: str, method: str = "GET", **options: Any) -> tuple[int, Any]:
        """Return the status and the JSON body of the response."""
        async with self.request(path, method, **options) as response:
            return response.status, await response.json()

    async def get_job(self, job_id: str, token: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else None
        return await self.send(f"/v2/jobs/{job_id}", headers=headers)

    async def get_data(self, path: str) -> Any:
        """Return the job or the list at a path."""
        code, document = await self.send(path)
        assert code == 200
        return document["data"]

    async def get_file(self, url: str) -> tuple[int, bytes]:
        """Return the status and the body of a response of the host of the files."""
        async with self.request(url, headers={}) as response:
            return response.status, await response.read()

    async def get_status(self, job_id: str) -> str:
        code, document = await self.get_job(job_id)
        assert code == 200
        status = document["data"]["status"]
        assert isinstance(status, str)
        return status

    async def request_token(self, **changes: str) -> tuple[int, Any]:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._simulator.client_id,
            "client_secret": self._simulator.client_secret,
        }
        return await self.send("/oauth/access_token", "POST", headers={}, data={**form, **changes})


@contextlib.asynccontextmanager
async def open_simulator(**settings: Any) -> AsyncIterator[tuple[Simulator, PlainClient]]:
    async with Simulator(**settings) as simulator, aiohttp.ClientSession() as http:
        yield simulator, PlainClient(simulator, http)


def now() -> float:
    return asyncio.get_running_loop().time()


def read_seconds(timestamps: dict[str, str], name: str) -> float:
    return datetime.datetime.fromisoformat(timestamps[name]).timestamp()
