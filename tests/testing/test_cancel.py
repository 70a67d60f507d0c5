"""The cancellation of PXM jobs of the simulator."""

import asyncio
from typing import Any

import pytest

from tests.service_paths import PATHS

from .plain_client import PlainClient, open_simulator

pytestmark = pytest.mark.looptime


async def cancel(client: PlainClient, path: str) -> tuple[int, Any]:
    return await client.send(f"{path}/cancel", "POST", data="{}")


async def get_status(client: PlainClient, job_id: str) -> Any:
    return (await client.get_data(f"/pcm/jobs/{job_id}"))["attributes"]["status"]


async def test_cancel_of_pending_job_responds_with_the_job_cancelled_from_then_on() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job(kind="pxm", duration=10)
        simulator.add_job("a", kind="pxm", duration=10)
        await asyncio.sleep(5)
        code, document = await cancel(client, "/pcm/jobs/a")
        await asyncio.sleep(100)
        later = await client.get_data("/pcm/jobs/a")
    attributes = document["data"]["attributes"]
    assert (code, attributes["status"]) == (200, "cancelled")
    assert attributes["started_at"] is attributes["completed_at"] is None
    assert attributes["updated_at"] > attributes["created_at"]
    assert later == document["data"]


async def test_cancel_of_scripted_pending_job_ends_its_script() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["pending", "pending", "started"], kind="pxm")
        assert await get_status(client, "a") == "pending"
        assert (await cancel(client, "/pcm/jobs/a"))[0] == 200
        statuses = [await get_status(client, "a") for _ in range(3)]
    assert statuses == ["cancelled"] * 3


@pytest.mark.parametrize("status", ["started", "success", "failed", "cancelling", "cancelled"])
async def test_cancel_of_job_that_is_not_pending_responds_422_with_the_reason(status: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", [status], kind="pxm")
        detail = f"the job is not pending but {status}"
        assert await cancel(client, "/pcm/jobs/a") == (
            422,
            {"errors": [{"status": "422", "title": "Failed Validation", "detail": detail}]},
        )
        assert await get_status(client, "a") == status


async def test_cancel_twice_responds_422() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["pending"], kind="pxm")
        codes = [(await cancel(client, "/pcm/jobs/a"))[0] for _ in range(2)]
    assert codes == [200, 422]


async def test_cancel_moves_up_the_jobs_behind_it_and_no_others() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("first", kind="pxm", duration=10)
        simulator.add_job("cancelled", kind="pxm", duration=float("inf"))
        simulator.add_job("also-cancelled", kind="pxm", duration=10)
        simulator.add_job("second", kind="pxm", duration=10)
        simulator.add_job("scripted", ["pending"], kind="pxm")
        simulator.add_job("order", duration=100)
        simulator.add_job("next-order", duration=100)
        for job_id in ("also-cancelled", "cancelled"):
            assert (await cancel(client, f"/pcm/jobs/{job_id}"))[0] == 200
        simulator.add_job("third", kind="pxm", duration=10)
        seen = []
        for _ in range(4):
            ids = ("first", "second", "third")
            seen.append([await get_status(client, job_id) for job_id in ids])
            await asyncio.sleep(10)
        statuses = [await client.get_status("order"), await client.get_status("next-order")]
        assert await get_status(client, "scripted") == "pending"
    assert seen == [
        ["started", "pending", "pending"],
        ["success", "started", "pending"],
        ["success", "success", "started"],
        ["success", "success", "success"],
    ]
    assert statuses == ["started", "pending"]


@pytest.mark.parametrize("kind", [kind for kind in PATHS if kind != "pxm"])
async def test_cancel_of_job_of_another_kind_responds_404(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind=kind, duration=float("inf"))
        assert (await cancel(client, f"{PATHS[kind]}/a"))[0] == 404
        assert (await cancel(client, "/pcm/jobs/a"))[0] == 404
