"""The catalog releases of the simulator."""

import asyncio
import json
from typing import Any

import pytest

from .plain_client import open_simulator

pytestmark = pytest.mark.looptime

PATH = "/pcm/catalogs/c/releases"


def make_body(is_full: bool = False) -> str:
    return json.dumps({"data": {"export_full_delta": is_full}})


async def test_list_has_the_last_three_published_releases_of_its_catalog() -> None:
    async with open_simulator() as (simulator, client):
        for job_id in ("a", "b", "c", "d"):
            simulator.add_job(job_id, kind="release:c", duration=0)
        simulator.add_job("failed", kind="release:c", duration=0, error="x")
        simulator.add_job("scripted", ["PENDING", "published"], kind="release:c")
        simulator.add_job("running", kind="release:c")
        simulator.add_job("other", kind="release:d", duration=0)
        code, document = await client.send(PATH)
        assert (await client.send(f"{PATH}/scripted"))[0] == 200
        later = await client.get_data(PATH)
        url = simulator.url
    assert (code, document["links"]) == (200, {"self": f"{url}{PATH}"})
    assert [release["id"] for release in document["data"]] == ["b", "c", "d"]
    assert [release["id"] for release in later] == ["c", "d", "scripted"]


async def test_percentage_grows_with_time_and_reaches_100_at_publication() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job(kind="release:c", duration=5)
        simulator.add_job("a", kind="release:c", duration=10)
        percentages = []
        for pause in (1, 6.5, 5, 5):
            await asyncio.sleep(pause)
            release = await client.get_data(f"{PATH}/a")
            percentages.append(release["meta"]["percent_completed"])
    assert percentages == [0, pytest.approx(25, abs=1), pytest.approx(75, abs=1), 100]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["PENDING", "PENDING", "IN_PROGRESS", "IN_PROGRESS", "PUBLISHED"], [0, 0, 40, 60, 100]),
        (["PENDING", "IN_PROGRESS", "FAILED"], [0, 33, 66]),
    ],
)
async def test_percentage_of_scripted_release_grows_with_its_statuses(
    statuses: list[str], expected: list[int]
) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", statuses, kind="release:c")
        releases = [await client.get_data(f"{PATH}/a") for _ in statuses]
    assert [release["meta"]["percent_completed"] for release in releases] == expected


async def test_release_that_fails_gives_no_reason_and_is_not_completed() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="release:c", duration=10, error="secret reason")
        await asyncio.sleep(11)
        release = await client.get_data(f"{PATH}/a")
    assert release["meta"]["release_status"] == "FAILED"
    assert release["meta"]["percent_completed"] == 99
    assert "secret reason" not in json.dumps(release)


@pytest.mark.parametrize("is_full", [True, False])
async def test_creation_gives_release_that_runs_and_is_published(is_full: bool) -> None:
    async with open_simulator(creation_seconds=10) as (simulator, client):
        code, created = await client.send(PATH, "POST", data=make_body(is_full))
        job_id = created["data"]["id"]
        await asyncio.sleep(11)
        release = await client.get_data(f"{PATH}/{job_id}")
        requests = [(one.method, one.path, one.status) for one in simulator.requests]
    assert code == 201
    assert created["data"]["type"] == "catalog-release"
    assert created["data"]["attributes"]["catalog_id"] == "c"
    assert created["data"]["meta"]["release_status"] == "IN_PROGRESS"
    assert created["data"]["meta"]["is_full_delta"] is is_full
    assert release["meta"]["release_status"] == "PUBLISHED"
    assert requests == [("POST", PATH, 201), ("GET", f"{PATH}/{job_id}", 200)]


async def test_creation_takes_scripted_jobs_in_order() -> None:
    async with open_simulator(creation_seconds=0) as (simulator, client):
        simulator.script_next_job(["PENDING", "PUBLISHED"], details={"name": "Shoes"})
        simulator.script_next_job(duration=0, error="x")
        created = [(await client.send(PATH, "POST", data=make_body()))[1]["data"] for _ in range(3)]
        release = await client.get_data(f"{PATH}/{created[0]['id']}")
    statuses = [release["meta"]["release_status"] for release in created]
    assert statuses == ["PENDING", "FAILED", "PUBLISHED"]
    names = [release["attributes"]["name"] for release in created]
    assert names == ["Shoes", "Clothing", "Clothing"]
    assert release["meta"]["release_status"] == "PENDING", "a creation is not a poll"


@pytest.mark.parametrize("arguments", [{"details": {"report": {}}}, {"file": [b""]}])
async def test_script_next_job_with_invalid_argument_raises(arguments: dict[str, Any]) -> None:
    async with open_simulator() as (simulator, _):
        with pytest.raises(ValueError, match=r"^(details: 'report' is not|file: .* has one file)"):
            simulator.script_next_job(**arguments)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"data": []}',
        '{"data": {}}',
        '{"data": {"export_full_delta": null}}',
        '{"data": {"export_full_delta": 1}}',
        '{"data": {"export_full_delta": true, "include_organization_resources": true}}',
    ],
)
async def test_creation_with_invalid_body_responds_400_and_creates_no_release(body: str) -> None:
    async with open_simulator(creation_seconds=0) as (_, client):
        code, document = await client.send(PATH, "POST", data=body)
        assert await client.get_data(PATH) == []
    detail = "data must have export_full_delta, true or false, and nothing else"
    assert (code, document) == (
        400,
        {"errors": [{"status": "400", "title": "Bad Request", "detail": detail}]},
    )
