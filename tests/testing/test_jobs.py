"""The jobs of the simulator: their queue, their scripts and their end."""

import asyncio
import itertools
import json
import re
import uuid
from typing import Any

import pytest

from moltin_jobs.testing import Simulator

from .plain_client import open_simulator, read_seconds

pytestmark = pytest.mark.looptime

WEEK = 7 * 24 * 3600


async def test_jobs_with_duration_run_one_at_a_time_in_order_of_creation() -> None:
    async with open_simulator(rate_limit=None) as (simulator, client):
        ids = [simulator.add_job(duration=duration) for duration in (10, 5, 20)]
        seen = []
        for _ in range(8):
            seen.append([await client.get_status(job_id) for job_id in ids])
            await asyncio.sleep(5)
        simulator.add_job("late", duration=3)
        assert await client.get_status("late") == "started"
    waiting, running, done = "pending", "started", "success"
    assert seen == [
        [running, waiting, waiting],
        [running, waiting, waiting],
        [done, running, waiting],
        [done, done, running],
        [done, done, running],
        [done, done, running],
        [done, done, running],
        [done, done, done],
    ]


async def test_updated_at_of_job_is_time_of_last_change() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("first", duration=10)
        simulator.add_job("second", duration=10)
        updates = []
        for pause in (12, 1, 12):
            await asyncio.sleep(pause)
            timestamps = (await client.get_job("second"))[1]["data"]["timestamps"]
            updates.append(
                read_seconds(timestamps, "updated_at") - read_seconds(timestamps, "created_at")
            )
    assert updates == [pytest.approx(at, abs=1e-3) for at in (10, 10, 20)]


async def test_add_job_without_arguments_gives_new_uuid_and_1_to_60_seconds() -> None:
    async with open_simulator(rate_limit=None) as (simulator, client):
        ids = [simulator.add_job() for _ in range(50)]
        assert len({uuid.UUID(job_id) for job_id in ids}) == 50
        await asyncio.sleep(50 * 60)
        ends = []
        for job_id in ids:
            timestamps = (await client.get_job(job_id))[1]["data"]["timestamps"]
            ends.append(read_seconds(timestamps, "updated_at"))
    durations = [end - start for start, end in itertools.pairwise(ends)]
    assert all(0.999 <= duration <= 60.001 for duration in durations)
    assert min(durations) < 5
    assert max(durations) > 20


async def test_add_job_with_same_seed_gives_same_ids() -> None:
    ids = []
    for seed in (1, 1, 2):
        async with Simulator(seed=seed) as simulator:
            ids.append([simulator.add_job() for _ in range(3)])
    assert ids[0] == ids[1] != ids[2]


async def test_scripted_job_shows_one_status_a_lookup_and_repeats_the_last() -> None:
    async with open_simulator() as (simulator, client):
        statuses = ["pending", "Started", "cancelling", "cancelled"]
        simulator.add_job("a", statuses)
        seen = [await client.get_status("a") for _ in range(6)]
    assert seen == [*statuses, "cancelled", "cancelled"]


@pytest.mark.parametrize("dialect", ["current", "older"])
@pytest.mark.parametrize("status", ["success", "complete", "Complete"])
async def test_scripted_job_has_a_file_once_it_succeeds_in_any_spelling(
    dialect: Any, status: str
) -> None:
    async with open_simulator(dialect=dialect) as (simulator, client):
        simulator.add_job("a", ["pending", status])
        links = [(await client.get_job("a"))[1]["data"]["link"]["href"] for _ in range(2)]
    assert (links[0], links[1][-6:]) == ("", "/a.csv")


async def test_scripted_job_in_a_list_shows_one_status_a_list() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["pending", "success"])
        lists = [(await client.send("/v2/jobs"))[1]["data"] for _ in range(2)]
    assert [jobs[0]["status"] for jobs in lists] == ["pending", "success"]


async def test_scripted_job_is_updated_at_its_poll_and_does_not_occupy_the_queue() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["pending", "success"])
        simulator.add_job("b", duration=1)
        assert await client.get_status("b") == "started"
        first = (await client.get_job("a"))[1]["data"]
        await asyncio.sleep(40)
        second = (await client.get_job("a"))[1]["data"]
    assert first["timestamps"]["updated_at"] == "0001-01-01T00:00:00Z"
    created_at = read_seconds(second["timestamps"], "created_at")
    updated_at = read_seconds(second["timestamps"], "updated_at")
    assert updated_at - created_at == pytest.approx(40, abs=1)
    assert (first["link"]["href"], second["link"]["href"][-6:]) == ("", "/a.csv")


async def test_scripted_job_with_error_shows_it_only_once_failed() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["started", "FAILED"], error="No results")
        errors = [(await client.get_job("a"))[1]["data"]["error"] for _ in range(2)]
    assert errors == ["", "No results"]


async def test_scripted_job_without_error_fails_with_empty_error() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["failed"])
        assert (await client.get_job("a"))[1]["data"]["error"] == ""


async def test_script_next_job_scripts_created_jobs_in_order() -> None:
    body = json.dumps({"data": {"type": "job", "job_type": "order_export"}})
    async with open_simulator(creation_seconds=0) as (simulator, client):
        simulator.script_next_job(["started"])
        simulator.script_next_job(duration=0, error="No results", file=b"order_id")
        created = [(await client.send("/v2/jobs", "POST", data=body))[1] for _ in range(3)]
    jobs = [document["data"][0] for document in created]
    assert [job["status"] for job in jobs] == ["started", "failed", "success"]
    assert [job["error"] for job in jobs] == ["", "No results", ""]


async def test_job_a_week_after_creation_is_gone() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=1)
        await asyncio.sleep(WEEK - 1)
        simulator.add_job("b", duration=1)
        assert await client.get_status("a") == "success"
        await asyncio.sleep(2)
        assert (await client.get_job("a"))[0] == 404
        assert await client.get_status("b") == "success"


async def test_job_with_infinite_duration_runs_until_it_is_gone() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=float("inf"))
        simulator.add_job("b", duration=1)
        await asyncio.sleep(WEEK - 1)
        assert await client.get_status("a") == "started"
        assert await client.get_status("b") == "pending"


async def test_remove_job_removes_it_from_lookups_lists_and_files() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        simulator.add_job("b", duration=0)
        simulator.remove_job("a")
        assert (await client.get_job("a"))[0] == 404
        jobs = (await client.send("/v2/jobs"))[1]["data"]
        async with client.request(f"{simulator.files_url}/a.csv", headers={}) as response:
            assert response.status == 404
    assert [job["id"] for job in jobs] == ["b"]


async def test_remove_job_of_unknown_id_raises() -> None:
    async with open_simulator() as (simulator, _):
        with pytest.raises(ValueError, match=r"^job_id: there is no job 'a'$"):
            simulator.remove_job("a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"statuses": []}, "statuses must be a non-empty list, not []"),
        ({"statuses": "success"}, "statuses must be a non-empty list, not 'success'"),
        ({"statuses": ["success"], "duration": 1}, "statuses and duration cannot be combined"),
        ({"duration": -1}, "'duration' must be >= 0: -1"),
        ({"duration": float("nan")}, "'duration' must be >= 0: nan"),
        ({"job_id": "a"}, "job_id: there is already a job 'a'. Use a different id."),
    ],
)
async def test_add_job_with_invalid_arguments_raises_and_changes_nothing(
    arguments: dict[str, Any], message: str
) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            simulator.add_job(**({"job_id": "b"} | arguments))
        assert (await client.get_job("b"))[0] == 404
        simulator.add_job("c", duration=1)
        assert await client.get_status("c") == "started", "the queue is empty"


async def test_statuses_in_place_of_the_id_raise() -> None:
    async with Simulator() as simulator:
        with pytest.raises(TypeError, match=r"^job_id must be a str, not \['success'\]"):
            simulator.add_job(["success"])  # type: ignore[arg-type]
