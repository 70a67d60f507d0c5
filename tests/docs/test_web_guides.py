"""The guides for web frameworks: each application runs in a process of its own."""

import asyncio
import contextlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from moltin_jobs import JobsSession
from moltin_jobs.testing import Simulator
from moltin_jobs.testing.simulator import serve

from .examples import run_block
from .web_service import WebService, next_event, serve_guide

GUIDES = [
    ("docs/fastapi.md", "exports_fastapi.py"),
    ("docs/aiohttp-web.md", "exports_aiohttp.py"),
    ("docs/django.md", "exports_django.py"),
]
STARLETTE = ("docs/starlette.md", "exports_starlette.py")


@pytest.mark.parametrize(("page", "name"), GUIDES)
async def test_web_guide_follows_jobs_and_stops_while_a_stream_is_open(
    page: str, name: str, simulator: Simulator, tmp_path: Path
) -> None:
    async with serve_guide(page, name, tmp_path, simulator) as service:
        await check_start_and_look_up(service, simulator)
        await check_stream_until_the_end_of_the_job(service, simulator)
        await check_stream_that_its_browser_leaves(service, simulator)
        simulator.add_job("endless", ["started"])
        async with service.http.get(f"{service.url}/exports/endless/events") as stream:
            assert await next_event(stream) == summary("endless", "started")
            log = await service.stop()
            assert await next_event(stream) is None
    assert "Traceback" not in log, log
    token_requests = [request for request in simulator.requests if request.path.endswith("token")]
    assert len(token_requests) == 1  # there is one session


@pytest.mark.parametrize(("page", "name"), [*GUIDES, STARLETTE])
async def test_web_guide_responds_503_to_a_creation_in_progress_when_it_stops(
    page: str, name: str, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.add_faults("hang", path="/v2/jobs")
    async with serve_guide(page, name, tmp_path, simulator) as service:
        creation = asyncio.create_task(service.request("POST", "/exports"))
        while not creations(simulator):  # noqa: ASYNC110 (a process)
            await asyncio.sleep(0.02)
        log = await service.stop()
        status, document = await creation
    assert status == 503
    assert "The job may have been created" in document["error"]
    assert "Traceback" not in log, log


@pytest.mark.parametrize(("page", "name"), [*GUIDES, STARLETTE])
async def test_web_guide_does_not_start_without_credentials(
    page: str, name: str, simulator: Simulator, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="EPCC_CLIENT_ID is not set"):
        async with serve_guide(page, name, tmp_path, simulator, EPCC_CLIENT_ID=""):
            pass


def creations(simulator: Simulator) -> int:
    return sum(request.path == "/v2/jobs" for request in simulator.requests)


def summary(job_id: str, status: str, error: str | None = None) -> dict[str, Any]:
    has_ended = status in ("success", "failed")
    return {"id": job_id, "status": status, "error": error, "ended": has_ended}


async def check_start_and_look_up(service: WebService, simulator: Simulator) -> None:
    simulator.script_next_job(["pending"])
    status, document = await service.request("POST", "/exports")
    job_id = document["id"]
    assert (status, document) == (202, summary(job_id, "pending"))
    assert await service.request("GET", f"/exports/{job_id}") == (200, summary(job_id, "pending"))
    for bad_id in ("nowhere", "a.b"):
        for path in (f"/exports/{bad_id}", f"/exports/{bad_id}/events"):
            status, document = await service.request("GET", path)
            assert status == 404
            assert bad_id in document["error"]
    simulator.add_faults(403, job_id=job_id)
    status, document = await service.request("GET", f"/exports/{job_id}")
    assert status == 502
    assert "status 403" in document["error"]


async def check_stream_until_the_end_of_the_job(service: WebService, simulator: Simulator) -> None:
    simulator.add_job("good", ["pending", "pending", "started", "success"])
    async with service.http.get(f"{service.url}/exports/good/events") as stream:
        assert stream.content_type == "text/event-stream"
        for status in ("pending", "started", "success"):
            assert await next_event(stream) == summary("good", status)
        assert await next_event(stream) is None
    simulator.add_job("bad", ["failed"], error="The disk is full")
    async with service.http.get(f"{service.url}/exports/bad/events") as stream:
        assert await next_event(stream) == summary("bad", "failed", "The disk is full")
        assert await next_event(stream) is None
    simulator.add_job("removed", ["started"])
    async with service.http.get(f"{service.url}/exports/removed/events") as stream:
        assert await next_event(stream) == summary("removed", "started")
        simulator.remove_job("removed")
        assert "status 404" in await next_event(stream)


async def check_stream_that_its_browser_leaves(service: WebService, simulator: Simulator) -> None:
    simulator.add_job("left", ["started"])
    stream = await service.http.get(f"{service.url}/exports/left/events")
    assert await next_event(stream) == summary("left", "started")
    await service.wait_for_health({"waits": 1})
    stream.close()
    await service.wait_for_health({"waits": 0})


async def test_background_task_of_guide_is_resumed_after_the_server_stopped(
    simulator: Simulator, tmp_path: Path
) -> None:
    guide = (*STARLETTE, tmp_path)
    simulator.script_next_job(["started"])
    async with serve_guide(*guide, simulator) as service:
        status, document = await service.request("POST", "/exports")
        path = f"/exports/{document['id']}"
        assert status == 202
        assert await service.request("GET", path) == (202, document | {"ready": False})
        assert await service.get_status("/exports/nowhere") == 404
        log = await service.stop()
    assert f"job {document['id']} is resumed at the next start" in log
    assert "Traceback" not in log, log
    async with Simulator() as later:
        later.add_job(document["id"], ["started", "success"], file=b"id\n1\n")
        async with serve_guide(*guide, later) as service:
            await service.wait_while_unfinished(path)
            async with service.http.get(service.url + path) as response:
                assert await response.read() == b"id\n1\n"
    assert [file.suffix for file in (tmp_path / "exports").iterdir()] == [".csv"]


async def test_background_task_of_guide_logs_a_job_that_failed(
    simulator: Simulator, tmp_path: Path
) -> None:
    simulator.script_next_job(["started", "failed"], error="The disk is full")
    async with serve_guide(*STARLETTE, tmp_path, simulator) as service:
        _, document = await service.request("POST", "/exports")
        await service.wait_while_unfinished(f"/exports/{document['id']}")
        log = await service.stop()
    assert f"job {document['id']} failed: The disk is full" in log
    assert not list((tmp_path / "exports").iterdir())


@pytest.mark.looptime
async def test_stream_of_fastapi_guide_has_a_heartbeat_every_15_s(
    moltin_simulator: Simulator, moltin_session: JobsSession
) -> None:
    moltin_simulator.add_job("long", duration=100)
    events = run_block(*GUIDES[0], "guide")["events"]
    loop = asyncio.get_running_loop()
    job = await moltin_session.get_job("long")
    check_heartbeats([(loop.time(), event) async for event in events(moltin_session, job)])


@pytest.mark.looptime
@pytest.mark.usefixtures("moltin_environment")
async def test_stream_of_aiohttp_guide_has_a_heartbeat_every_15_s(
    moltin_simulator: Simulator,
) -> None:
    moltin_simulator.add_job("long", duration=100)
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        url = await serve(stack, run_block(*GUIDES[1], "guide")["app"], 0)
        browser = await stack.enter_async_context(aiohttp.ClientSession())
        async with browser.get(f"{url}/exports/long/events") as stream:
            lines = [(loop.time(), line.decode()) async for line in stream.content]
    check_heartbeats([(time, line) for time, line in lines if line.strip()])


def check_heartbeats(events: list[tuple[float, str]]) -> None:
    """Check the events of a job that runs for 100 s."""
    moments = [moment for moment, _ in events]
    assert max(later - earlier for earlier, later in pairwise(moments)) < 15.1
    statuses = [json.loads(event.removeprefix("data: "))["status"] for _, event in events]
    assert statuses == ["started"] * (len(events) - 1) + ["success"]
