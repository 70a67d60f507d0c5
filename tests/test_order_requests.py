"""The bytes of the requests for order jobs, which must not change by accident.

``tests/recorded/order_requests.txt`` holds them. To record them anew, run this test with
``UPDATE_RECORDED=1``, and review the difference.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

from moltin_jobs import ClientCredentials, JobNotFoundError, JobsSession, Polling
from moltin_jobs.testing import Simulator

RECORDED = Path(__file__).parent / "recorded" / "order_requests.txt"
PAUSE = 0.01
"""Seconds after which a wait requests a list of its own, also with the coarse clock of uvloop."""
POLLING = Polling(initial_interval=0.01, max_interval=0.01)


@contextlib.asynccontextmanager
async def recording_proxy(upstream: str, log: list[bytes]) -> AsyncIterator[str]:
    """Forward connections to ``upstream``, and append what the client sends to ``log``."""
    port = int(upstream.rpartition(":")[2])

    async def copy(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: list[bytes]
    ) -> None:
        while data := await reader.read(1 << 16):
            log.append(data)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError):
            await asyncio.gather(
                copy(reader, upstream_writer, log), copy(upstream_reader, writer, [])
            )

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def use_every_method(simulator: Simulator, url: str, directory: Path, poll_by: str) -> None:
    for name in ("a", "b"):
        simulator.add_job(name, ["pending", "success"])
    simulator.add_job("no-file", ["started"])
    simulator.script_next_job(["pending"])
    simulator.script_next_job(["pending", "started", "success"])
    auth = ClientCredentials(simulator.client_id, simulator.client_secret)
    async with JobsSession(auth, base_url=url, polling=POLLING, poll_by=poll_by) as session:  # type: ignore[arg-type]
        await session.get_job("a")
        await session.get_jobs(["a"])
        await session.wait_for_job("b", timeout=60)
        await asyncio.sleep(PAUSE)
        await session.wait_for_jobs(["a"])
        await asyncio.sleep(PAUSE)
        assert [job.status async for job in session.watch_job("a")] == ["success"]
        await session.list_jobs()
        await session.create_job("order_export", filter="gt(created_at,2018-09-01)")
        await session.get_file_url("a")
        with contextlib.suppress(JobNotFoundError):
            await session.get_file_url("no-file")
        await session.download("a", directory / "a.csv")
        await session.export_orders(destination=directory / "b.csv")
    async with JobsSession(
        simulator.token, base_url=f"{url}/", headers={"EP-Beta-Features": "a,b"}
    ) as session:
        await session.get_job("a")


async def record_requests(directory: Path, poll_by: str) -> str:
    log: list[bytes] = []
    async with (
        Simulator() as simulator,
        recording_proxy(simulator.url, log) as url,
        recording_proxy(simulator.files_url.removesuffix("/files"), log) as files_url,
    ):
        simulator.files_url = f"{files_url}/files"
        await use_every_method(simulator, url, directory, poll_by)
    text = b"".join(log).decode().replace("\r\n", "\n")
    text = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
    return re.sub(r"Bearer issued-\w+", "Bearer ISSUED", text)


async def test_requests_for_order_jobs_are_those_that_were_recorded(tmp_path: Path) -> None:
    parts = []
    for poll_by in ("id", "list"):
        parts += [f"== poll_by={poll_by}", await record_requests(tmp_path, poll_by)]
    text = re.sub(r"aiohttp/[\d.]+", "aiohttp/X", "\n".join(parts))
    text = re.sub(r"Python/[\d.]+", "Python/X", text)
    # More codings are accepted where packages or Python itself decode them.
    text = re.sub(r"(Accept-Encoding: gzip, deflate).*", r"\1", text)
    if "UPDATE_RECORDED" in os.environ:
        RECORDED.write_text(text, "utf-8")
    assert text == RECORDED.read_text("utf-8")
