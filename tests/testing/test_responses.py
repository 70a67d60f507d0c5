"""The responses of the simulator, compared with the documentation of the service."""

import asyncio
import json
import re
import time
import uuid
from typing import Any

import pytest

from .plain_client import open_simulator, read_seconds

pytestmark = pytest.mark.looptime

DOCUMENTED_ID = "974c9db4-38da-4dbf-90c2-33eed5f3e77c"
DOCUMENTED_ERROR = "No results matched the supplied filter"
NANOSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
NOT_FOUND = {
    "title": "Resource Not Found",
    "status": 404,
    "detail": "The resource you are requesting does not exist",
}


async def test_job_finished_in_current_dialect_has_documented_fields() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job(DOCUMENTED_ID, duration=30)
        before = time.time()
        await asyncio.sleep(31)
        code, document = await client.get_job(DOCUMENTED_ID)
    assert code == 200
    timestamps = document["data"].pop("timestamps")
    assert document == {
        "data": {
            "type": "job",
            "id": DOCUMENTED_ID,
            "job_type": "order_export",
            "status": "success",
            "link": {"href": f"{simulator.files_url}/{DOCUMENTED_ID}.csv"},
            "links": {"self": f"{simulator.url}/v2/jobs/{DOCUMENTED_ID}"},
            "error": "",
        }
    }
    assert timestamps.keys() == {"created_at", "updated_at"}
    assert all(NANOSECONDS.fullmatch(text) for text in timestamps.values())
    created_at = read_seconds(timestamps, "created_at")
    assert created_at == pytest.approx(before, abs=60)
    assert read_seconds(timestamps, "updated_at") - created_at == pytest.approx(30, abs=1e-3)


async def test_job_finished_in_older_dialect_has_no_error_field() -> None:
    async with open_simulator(dialect="older") as (simulator, client):
        simulator.add_job("a", duration=0, job_type="promotion")
        _, document = await client.get_job("a")
    assert document["data"]["status"] == "complete"
    assert document["data"]["job_type"] == "promotion"
    assert document["data"]["link"]["href"].endswith("/files/a.csv")
    assert "error" not in document["data"]


async def test_job_not_started_has_zero_update_time_and_no_file() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("first", duration=10)
        simulator.add_job("second", duration=10)
        _, document = await client.get_job("second")
    assert document["data"]["status"] == "pending"
    assert document["data"]["timestamps"]["updated_at"] == "0001-01-01T00:00:00Z"
    assert NANOSECONDS.fullmatch(document["data"]["timestamps"]["created_at"])
    assert document["data"]["link"] == {"href": ""}


@pytest.mark.parametrize(("dialect", "status"), [("current", "started"), ("older", "processing")])
async def test_job_running_has_status_of_dialect(dialect: str, status: str) -> None:
    async with open_simulator(dialect=dialect) as (simulator, client):
        simulator.add_job("a", duration=10)
        simulator.add_job("b", duration=10)
        assert [await client.get_status("a"), await client.get_status("b")] == [status, "pending"]


@pytest.mark.parametrize("dialect", ["current", "older"])
async def test_job_failed_has_error(dialect: str) -> None:
    async with open_simulator(dialect=dialect) as (simulator, client):
        simulator.add_job("a", duration=5, error=DOCUMENTED_ERROR)
        _, running = await client.get_job("a")
        await asyncio.sleep(5)
        _, failed = await client.get_job("a")
    assert running["data"].get("error", "") == ""
    assert (failed["data"]["status"], failed["data"]["error"]) == ("failed", DOCUMENTED_ERROR)
    assert failed["data"]["link"] == {"href": ""}


@pytest.mark.parametrize(
    ("not_found", "body"), [("bare", NOT_FOUND), ("list", {"errors": [NOT_FOUND]})]
)
async def test_lookup_of_unknown_job_responds_404(not_found: str, body: Any) -> None:
    async with open_simulator(not_found=not_found) as (_, client):
        assert await client.get_job("nowhere") == (404, body)


async def test_error_500_has_new_request_id_each_time() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_faults(500, 500)
        (code, document), (_, again) = await client.get_job("a"), await client.get_job("a")
    (error,), (other_error,) = document["errors"], again["errors"]
    assert code == error["status"] == 500
    assert error["title"] == "Internal Server Error"
    assert error["detail"] == (
        "There was an internal server error, you can report with your request id."
    )
    assert uuid.UUID(error["request_id"]) != uuid.UUID(other_error["request_id"])


async def test_error_503_has_status_and_title_only() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_faults(503)
        assert await client.get_job("a") == (
            503,
            {"errors": [{"status": 503, "title": "Service Unavailable"}]},
        )


@pytest.mark.parametrize(("dialect", "code"), [("current", 202), ("older", 201)])
async def test_creation_in_dialect_gives_job_that_runs_and_has_a_file(
    dialect: str, code: int
) -> None:
    async with open_simulator(dialect=dialect, creation_seconds=30) as (simulator, client):
        body = json.dumps({"data": {"type": "job", "job_type": "order_export", "filter": "a"}})
        created_code, document = await client.send("/v2/jobs", "POST", data=body)
        data = document["data"]
        job_id = (data[0] if dialect == "current" else data)["id"]
        assert created_code == code
        assert (await client.send(f"/v2/jobs/{job_id}/file"))[0] == 404, "the job still runs"
        await asyncio.sleep(31)
        link = {"href": f"{simulator.files_url}/{job_id}.csv"}
        assert await client.send(f"/v2/jobs/{job_id}/file") == (
            200,
            {"data": link} if dialect == "current" else link,
        )
        assert (await client.send("/v2/jobs"))[1]["data"][0]["id"] == job_id


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"data": []},
        {"data": {"type": "job"}},
        {"data": {"type": "a", "job_type": "b"}},
        {"data": {"type": "job", "job_type": "order_export", "filter": 5}},
    ],
)
async def test_creation_with_invalid_body_responds_400_and_creates_no_job(body: Any) -> None:
    async with open_simulator() as (_, client):
        code, _ = await client.send("/v2/jobs", "POST", data=json.dumps(body))
        assert code == 400
        assert (await client.send("/v2/jobs"))[1] == {"data": []}


async def test_file_url_of_unknown_job_responds_404() -> None:
    async with open_simulator() as (_, client):
        assert await client.send("/v2/jobs/nowhere/file") == (404, NOT_FOUND)


async def test_file_host_serves_files_without_a_token_only() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0, file=b"order_id")
        url = simulator.files_url
        async with client.request(f"{url}/a.csv", headers={}) as response:
            assert (response.status, await response.read()) == (200, b"order_id")
        async with client.request(f"{url}/b.csv", headers={}) as response:
            assert response.status == 404
        async with client.request(f"{url}/a.csv") as response:
            assert response.status == 400


async def test_file_by_default_is_a_csv_of_200_orders() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        async with client.request(f"{simulator.files_url}/a.csv", headers={}) as response:
            assert response.content_type == "text/csv"
            header, *rows = (await response.text()).splitlines()
    assert header == "order_id,currency,amount"
    assert len(rows) == 200
