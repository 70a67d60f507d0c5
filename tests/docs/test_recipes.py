"""The examples that need a proxy, a web server or Redis."""

import asyncio
import contextlib
import io
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from moltin_jobs.testing import Simulator
from tests.docs.examples import run_beside_store, run_block
from tests.http.test_tls import server_context
from tests.raw_server import RawServer, http, job, send
from tests.redis_server import MISSING, RedisServer

JOB_ID = "order-export-01"


async def run_main(page: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a block that ends with ``asyncio.run(main())`` on the loop of the test."""
    mains: list[Any] = []
    monkeypatch.setattr(asyncio, "run", mains.append)
    run_block(page, name)
    (main,) = mains
    await main


@contextlib.asynccontextmanager
async def open_proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """Run a proxy that serves CONNECT; yield its URL and the first lines of its requests."""
    requests: list[str] = []

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
        target.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, peer, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
        requests.append(f"{method} {peer}")
        host, _, port = peer.rpartition(":")
        peer_reader, peer_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(copy(reader, peer_writer), copy(peer_reader, writer))

    async with await asyncio.start_server(connect, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests


async def test_proxy_recipe_sends_requests_through_proxy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    response = send(http(job("success", JOB_ID)))
    async with (
        RawServer([response], server_context(ca, "127.0.0.1")) as server,
        open_proxy() as (url, requests),
    ):
        monkeypatch.setenv("PRIVATE_CA", str(tmp_path / "ca.pem"))
        monkeypatch.setenv("HTTPS_PROXY", url)
        monkeypatch.setenv("EPCC_API_BASE_URL", server.url)
        monkeypatch.setenv("EPCC_ACCESS_TOKEN", "token")
        await run_main("docs/recipes.md", "proxy.py", monkeypatch)
        assert requests == [f"CONNECT {server.url.removeprefix('https://')}"]
    assert capsys.readouterr().out == "success\n"


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
async def test_shared_limit_example_takes_its_slots_from_redis(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Simulator() as simulator:
        with RedisServer() as redis:
            monkeypatch.setenv("REDIS_URL", redis.url)
            monkeypatch.setenv("EPCC_API_BASE_URL", simulator.url)
            monkeypatch.setenv("EPCC_ACCESS_TOKEN", simulator.token)
            simulator.add_job(JOB_ID, ["pending", "success"])
            await run_main("docs/rate-limits.md", "shared_limit.py", monkeypatch)
            assert redis.info("keyspace", r"keys=(\d+)")
    assert capsys.readouterr().out == "success\n"


def test_lookups_recipe_keeps_to_its_rate_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job_ids = [f"job-{number}" for number in range(1000)]
    simulators: list[Simulator] = []
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(job_ids)))
    monkeypatch.setattr(
        asyncio,
        "run",
        lambda main: run_beside_store(main, monkeypatch, more_jobs=job_ids, simulators=simulators),
    )
    run_block("docs/recipes.md", "lookups.py")
    assert capsys.readouterr().out == "Counter({'SUCCEEDED': 1000})\n"
    sent = [request.at for request in simulators[0].requests]
    assert len(sent) == 1001
    assert all(later - earlier >= 1 for earlier, later in zip(sent, sent[90:], strict=False))
