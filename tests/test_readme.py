"""What the README says: its examples are run as they stand, its figures compared."""

import ast
import asyncio
import contextlib
import io
import re
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from types import CodeType
from typing import Any

import aiohttp
import looptime
import pytest
import trustme
from aiohttp import web

import moltin_jobs.errors
from moltin_jobs import Job, Polling, Retry
from moltin_jobs.testing.simulator import Simulator
from tests.http.test_tls import server_context
from tests.raw_server import RawServer, http, job, send
from tests.redis_server import MISSING, RedisServer

README = (Path(__file__).parent.parent / "README.md").read_text()
SECTIONS = dict(re.findall(r"^##+ (.+?)\n(.*?)(?=^## |^### |\Z)", README, re.DOTALL | re.MULTILINE))
BLOCKS = {
    heading: blocks
    for heading, text in SECTIONS.items()
    if (blocks := re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
}
JOB_IDS = ["order-export-01", "order-export-02"]
MANY_IDS = [f"job-{number}" for number in range(1000)]

Main = Coroutine[Any, Any, Any]


def code_of(heading: str, flags: int = 0) -> CodeType:
    (block,) = BLOCKS[heading]
    code = compile(block, f"README.md, {heading}", "exec", flags=flags)
    assert isinstance(code, CodeType)
    return code


def run(heading: str, name: str = "__main__") -> dict[str, Any]:
    """What the example defines, run as a reader would run it."""
    space: dict[str, Any] = {"__name__": name}
    exec(code_of(heading), space)  # noqa: S102
    return space


@contextlib.asynccontextmanager
async def store(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulator]:
    """A simulator to which the environment points."""
    async with Simulator(rate_limit=100) as simulator:
        monkeypatch.setenv("EPCC_API_BASE_URL", simulator.url)
        monkeypatch.setenv("EPCC_CLIENT_ID", simulator.client_id)
        monkeypatch.setenv("EPCC_CLIENT_SECRET", simulator.client_secret)
        for job_id in JOB_IDS:
            simulator.add_job(job_id, duration=60)
        yield simulator


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[Simulator]:
    """Have ``asyncio.run`` run beside a simulator, on one virtual clock; the simulators made."""
    made: list[Simulator] = []

    def run_beside(main: Main) -> object:
        async def beside() -> object:
            async with store(monkeypatch) as simulator:
                made.append(simulator)
                for job_id in MANY_IDS:
                    simulator.add_job(job_id, ["success"])
                simulator.add_job("order-export-05", ["started", "failed"], error="No results")
                simulator.add_job("order-export-12", ["pending", "started"])
                result = await main
            # The runner would give the threads 300 seconds, which here are over at once.
            loop: Any = asyncio.get_running_loop()
            await loop.shutdown_default_executor()
            loop._default_executor = None
            return result

        with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
            return runner.run(beside())

    monkeypatch.setattr(asyncio, "run", run_beside)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(MANY_IDS)))
    return made


TOLD = {
    "Usage": "started .*\\nthe file is at http.*",
    "Waiting": "started running False\nsuccess succeeded True",
    "Many jobs": rf"\['started', 'pending'\]\n{JOB_IDS[0]} success\n{JOB_IDS[1]} success",
    "Exporting orders": r"\S+ is saved",
    "A thousand lookups": r"Counter\({<JobState.SUCCEEDED: 'succeeded'>: 1000}\)",
    "Many waits, some of which fail": (
        r"order-export-01 is at http\S+\norder-export-05 failed: No results\n"
        r"order-export-12 was still started\nnowhere was refused: 404 None"
    ),
    "Your own retries and pace": "success",
    "From synchronous code": r"http://127.0.0.1:\d+/files/\S+",
}


def test_every_example_is_run() -> None:
    elsewhere = {
        "A web service: one session for its life",
        "A proxy and a private CA",
        "In a notebook",
        "Testing your code",  # by test_testing.py
        "A fleet of processes",  # by test_fleet.py
        "Many processes, one limit",
    }
    assert set(BLOCKS) == set(TOLD) | elsewhere


@pytest.mark.parametrize("heading", TOLD)
def test_example(
    heading: str,
    simulated: list[Simulator],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run(heading)
    assert re.fullmatch(TOLD[heading] + r"\n", capsys.readouterr().out)
    (simulator,) = simulated
    assert any(request.status == 200 for request in simulator.requests)
    assert all(request.status in (200, 202, 404) for request in simulator.requests)


def test_the_examples_of_the_thousand_keep_to_their_limit(simulated: list[Simulator]) -> None:
    run("A thousand lookups")
    sent = [request.at for request in simulated[0].requests]
    assert len(sent) == 1001
    assert all(after - before >= 1 for before, after in zip(sent, sent[90:], strict=False))


async def test_the_web_service(monkeypatch: pytest.MonkeyPatch) -> None:
    async with store(monkeypatch):
        runner = web.AppRunner(run("A web service: one session for its life", "service")["app"])
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            base = f"http://127.0.0.1:{runner.addresses[0][1]}/exports"
            async with aiohttp.ClientSession() as browser:
                async with browser.get(f"{base}/{JOB_IDS[0]}") as found:
                    document = await found.json()
                async with browser.get(f"{base}/nowhere") as missing:
                    told = await missing.text()
        finally:
            await runner.cleanup()
    assert document == {"id": JOB_IDS[0], "state": "running", "file": None}
    assert missing.status == 404
    assert told.startswith("job nowhere: the service answered 404")


@contextlib.asynccontextmanager
async def proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that serves CONNECT, and whom it was asked for."""
    asked: list[str] = []

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while some := await source.read(65536):
            target.write(some)
        target.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, peer, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
        asked.append(f"{method} {peer}")
        host, _, port = peer.rpartition(":")
        there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))

    async with await asyncio.start_server(connect, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def test_the_proxy_and_the_private_ca(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    answer = send(http(job("success", JOB_IDS[0])))
    mains: list[Main] = []
    monkeypatch.setattr(asyncio, "run", mains.append)  # there is a loop already
    async with (
        RawServer([answer], server_context(ca, "127.0.0.1")) as server,
        proxy() as (address, asked),
    ):
        monkeypatch.setenv("PRIVATE_CA", str(tmp_path / "ca.pem"))
        monkeypatch.setenv("HTTPS_PROXY", address)
        monkeypatch.setenv("EPCC_API_BASE_URL", server.url)
        monkeypatch.setenv("EPCC_ACCESS_TOKEN", "token")
        run("A proxy and a private CA")
        await mains[0]
        assert asked == [f"CONNECT {server.url.removeprefix('https://')}"]
    assert capsys.readouterr().out == "success\n"


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
async def test_the_limiter_over_redis(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mains: list[Main] = []
    monkeypatch.setattr(asyncio, "run", mains.append)  # Redis knows no virtual clock
    async with Simulator() as simulator:
        with RedisServer() as redis:
            monkeypatch.setenv("REDIS_URL", redis.url)
            monkeypatch.setenv("EPCC_API_BASE_URL", simulator.url)
            monkeypatch.setenv("EPCC_ACCESS_TOKEN", simulator.token)
            simulator.add_job(JOB_IDS[0], ["pending", "success"])
            run("Many processes, one limit")
            await mains[0]
            assert redis.info("commandstats", r"cmdstat_pttl:calls=(\d+)") == ["2"]
    assert capsys.readouterr().out == "success\n"


@pytest.mark.looptime
async def test_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    async with store(monkeypatch):
        space: dict[str, Any] = {}
        cells = code_of("In a notebook", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        await eval(cells, space)  # noqa: S307 (as a notebook does)
        await space["session"].close()
    assert isinstance(space["job"], Job)
    assert space["job"].status == "success"


def test_the_tree_of_errors_names_them_all() -> None:
    drawn = re.findall(r"^(?:MoltinJobsError|[│ ]*[├└]── (\w+))", README, re.MULTILINE)
    defined = {name for name in vars(moltin_jobs.errors) if name.endswith("Error")}
    assert {name or "MoltinJobsError" for name in drawn} == defined


def test_the_defaults_told_are_the_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+)(?: s)? \|", SECTIONS["Waiting"], re.MULTILINE)
    assert {name: float(value) for name, value in rows} == {
        name: getattr(Polling(), name)
        for name in ("initial", "factor", "max_interval", "jitter", "outage")
    }
    assert repr(Retry()) == "Retry(max_tries=4, initial=0.5, max_interval=8.0)"
    assert "retry=Retry(max_tries=4, initial=0.5, max_interval=8)" in README
