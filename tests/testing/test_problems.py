"""The problems of failed jobs of the simulator."""

import asyncio
import uuid
from typing import Any

import pytest

from tests.service_paths import PATHS

from .plain_client import open_simulator

pytestmark = pytest.mark.looptime

WITH_PROBLEMS = ["pxm", "subscription-import", "inventory-import"]
IMPORTS = WITH_PROBLEMS[1:]


def get_messages(problems: Any) -> list[str]:
    return [
        problem["attributes"]["message"] if "attributes" in problem else problem["meta"]["error"]
        for problem in problems
    ]


async def test_problem_of_pxm_job_has_documented_fields() -> None:
    message = "data.attributes.sku: Must be unique amongst products."
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="pxm", duration=0, problems=[message, message])
        code, document = await client.send("/pcm/jobs/a/errors")
    ids = {uuid.UUID(problem.pop("id")) for problem in document["data"]}
    assert len(ids) == 2
    assert (code, document["data"]) == (
        200,
        [{"type": "pim-job-error", "attributes": {"message": message}}] * 2,
    )


@pytest.mark.parametrize(
    ("kind", "type_", "owner"),
    [
        ("subscription-import", "subscription_import_error", {"owner": "store"}),
        ("inventory-import", "inventories_import_error", {}),
    ],
)
async def test_problem_of_import_has_documented_fields(
    kind: str, type_: str, owner: dict[str, str]
) -> None:
    problem = ("offering name cannot be empty", "name", 123)
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind=kind, duration=0, problems=[problem, "no file"])
        first, second = await client.get_data(f"{PATHS[kind]}/a/errors")
    assert uuid.UUID(first.pop("id")) != uuid.UUID(second.pop("id"))
    for meta in (first["meta"], second["meta"]):
        assert meta.pop("timestamps").keys() == {"created_at", "updated_at"}
    reason = {"error": "offering name cannot be empty", "field": "name", "line_number": 123}
    assert first == {"type": type_, "meta": {**owner, **reason}}
    assert second == {"type": type_, "meta": {**owner, "error": "no file"}}


@pytest.mark.parametrize("kind", WITH_PROBLEMS)
async def test_error_is_the_first_problem(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind=kind, duration=0, error="first", problems=["second"])
        problems = await client.get_data(f"{PATHS[kind]}/a/errors")
    assert get_messages(problems) == ["first", "second"]


@pytest.mark.parametrize("kind", WITH_PROBLEMS)
async def test_job_with_problems_fails_and_has_them_at_its_end(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind=kind, duration=10, problems=["x"])
        assert await client.get_data(f"{PATHS[kind]}/a/errors") == []
        await asyncio.sleep(11)
        job = await client.get_data(f"{PATHS[kind]}/a")
        problems = await client.get_data(f"{PATHS[kind]}/a/errors")
    assert job["attributes"]["status"] == "failed"
    assert get_messages(problems) == ["x"]


@pytest.mark.parametrize("kind", WITH_PROBLEMS)
async def test_scripted_job_with_problems_can_succeed_with_them(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["success"], kind=kind, problems=["x"])
        job = await client.get_data(f"{PATHS[kind]}/a")
        problems = await client.get_data(f"{PATHS[kind]}/a/errors")
    assert job["attributes"]["status"] == "success"
    assert get_messages(problems) == ["x"]


async def test_request_for_problems_does_not_advance_the_script_of_a_job() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["pending", "failed"], kind="pxm", error="x")
        assert await client.get_data("/pcm/jobs/a/errors") == []
        job = await client.get_data("/pcm/jobs/a")
    assert job["attributes"]["status"] == "pending"


@pytest.mark.parametrize("kind", WITH_PROBLEMS)
async def test_problems_are_paged_as_the_list(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        messages = [f"problem {number}" for number in range(130)]
        simulator.add_job("a", kind=kind, duration=0, problems=messages)
        path = f"{PATHS[kind]}/a/errors"
        default = await client.get_data(path)
        code, document = await client.send(f"{path}?page[limit]=500&page[offset]=120")
    assert get_messages(default) == messages[:25]
    assert (code, get_messages(document["data"])) == (200, messages[120:])
    assert document.get("meta") == ({"results": {"total": 130}} if kind == "pxm" else None)


@pytest.mark.parametrize("kind", IMPORTS)
async def test_problems_at_offset_over_10000_respond_400(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind=kind, duration=0)
        assert (await client.send(f"{PATHS[kind]}/a/errors?page[offset]=10001"))[0] == 400


@pytest.mark.parametrize("kind", WITH_PROBLEMS)
async def test_problems_of_unknown_job_respond_404(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("order", duration=0)
        assert (await client.send(f"{PATHS[kind]}/order/errors"))[0] == 404
