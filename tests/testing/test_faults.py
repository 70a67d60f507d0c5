"""The faults of the simulator."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from moltin_jobs.testing import AnyFault, Fault, Simulator

from .plain_client import now, open_simulator

pytestmark = pytest.mark.looptime

CREATION = json.dumps({"data": {"type": "job", "job_type": "order_export"}})


async def test_reset_closes_the_connection_without_a_response() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_faults("reset", "reset")  # aiohttp repeats a GET once by itself
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get_job("a")
        assert [request.status for request in simulator.requests] == [None, None]


async def test_reset_of_a_creation_creates_no_job() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_faults("reset")
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.send("/v2/jobs", "POST", data=CREATION)
        assert (await client.send("/v2/jobs"))[1] == {"data": []}


async def test_lost_creation_creates_the_job_without_a_response() -> None:
    async with open_simulator() as (simulator, client):
        simulator.script_next_job(["started"])
        simulator.add_faults("lost")
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.send("/v2/jobs", "POST", data=CREATION)
        jobs = (await client.send("/v2/jobs"))[1]["data"]
        assert [job["status"] for job in jobs] == ["started"]
        assert [request.status for request in simulator.requests] == [None, 200]


async def test_hang_lasts_until_the_client_disconnects() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        simulator.add_faults("hang")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.get_job("a"), 3600)
        assert await client.get_status("a") == "success"
        assert [request.status for request in simulator.requests] == [None, 200]


async def test_hang_does_not_delay_the_end_of_the_simulator() -> None:
    async with aiohttp.ClientSession() as http:
        async with Simulator() as simulator:
            simulator.add_faults("hang")
            headers = {"Authorization": f"Bearer {simulator.token}"}
            url = f"{simulator.url}/v2/jobs/a"
            task = asyncio.create_task(http.get(url, headers=headers).__aenter__())
            await asyncio.sleep(1)
            start = now()
        assert now() - start < 1
        with pytest.raises(aiohttp.ClientConnectionError):
            await task


async def test_truncate_ends_the_response_within_its_body() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_faults("truncate")
        async with client.request("/v2/jobs/a") as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_garbage_is_not_http() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_faults("garbage")
        with pytest.raises(aiohttp.ClientResponseError):
            await client.get_job("a")


async def test_html_is_a_page_with_status_200() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_faults("html")
        async with client.request("/v2/jobs/a") as response:
            assert (response.status, response.content_type) == (200, "text/html")
            assert (await response.text()).startswith("<html>")


async def test_fault_object_is_sent_exactly_as_given() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_faults(Fault(418, {"Retry-After": "7"}, b"short and stout"), Fault())
        async with client.request("/v2/jobs/a") as response:
            assert (response.status, response.headers["Retry-After"]) == (418, "7")
            assert await response.read() == b"short and stout"
        async with client.request("/v2/jobs/a") as response:
            assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("reset", aiohttp.ClientConnectionError, None),
        ("lost", aiohttp.ClientConnectionError, None),
        ("truncate", aiohttp.ClientPayloadError, None),
        ("garbage", aiohttp.ClientResponseError, "Expected HTTP"),
    ],
)
def test_broken_connection_on_uvloop_raises_in_client(
    fault: str, error: type[Exception], message: str | None
) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def send() -> None:
        async with open_simulator() as (simulator, client):
            simulator.add_faults(fault, fault)
            with pytest.raises(error, match=message):
                await client.get_job("a")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send())


async def test_faults_come_in_order_and_then_the_regular_response() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        simulator.add_faults(500, 403)
        simulator.add_faults(404)
        codes = [(await client.get_job("a"))[0] for _ in range(4)]
    assert codes == [500, 403, 404, 200]


async def test_faults_with_job_id_do_not_affect_other_jobs() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["success"])
        simulator.add_job("b", ["pending"])
        simulator.add_faults(500, job_id="a")
        codes = [(await client.get_job(job_id))[0] for job_id in ("b", "a", "a")]
    assert codes == [200, 500, 200]


async def test_faults_for_a_path_then_for_a_job_precede_faults_for_all_requests() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["success"])
        simulator.add_faults(503)
        simulator.add_faults(500, job_id="a")
        simulator.add_faults(502, path="/v2/jobs/a")
        codes = [(await client.get_job("a"))[0] for _ in range(4)]
    assert codes == [502, 500, 503, 200]


async def test_faults_with_path_do_not_affect_other_paths() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        simulator.add_faults(503, path="/v2/jobs")
        simulator.add_faults(502, path="/v2/jobs/a/file")
        paths = ["/v2/jobs/a", "/v2/jobs/a/file", "/v2/jobs", "/v2/jobs", "/v2/jobs/a/file"]
        codes = [(await client.send(path))[0] for path in paths]
    assert codes == [200, 502, 503, 200, 200]


async def test_faults_with_token_path_affect_token_requests() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_faults(503, path="/oauth/access_token")
        assert (await client.get_job("a"))[0] == 404
        assert (await client.request_token())[0] == 503
        assert (await client.request_token())[0] == 200


async def test_faults_without_path_do_not_affect_token_requests() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_faults(503)
        assert (await client.request_token())[0] == 200


async def test_faults_with_repeat_repeat_the_last_one_until_cleared() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        simulator.add_faults(500, 503, repeat=True)
        codes = [(await client.get_job("a"))[0] for _ in range(4)]
        simulator.clear_faults()
        codes.append((await client.get_job("a"))[0])
    assert codes == [500, 503, 503, 503, 200]


async def test_clear_faults_removes_faults_for_all_requests_and_for_one_job() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        simulator.add_faults(500, 500)
        simulator.add_faults(500, job_id="a")
        simulator.clear_faults()
        assert (await client.get_job("a"))[0] == 200


async def test_fault_does_not_advance_the_script_of_a_job() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["pending", "success"])
        simulator.add_faults(500)
        assert (await client.get_job("a"))[0] == 500
        assert await client.get_status("a") == "pending"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("rest", "^a fault must be one of .*, not 'rest'$"),
        ("", "^a fault must be one of .*, not ''$"),
        (0, r"^0 is not an HTTP status\. Use Fault\(0\)\.$"),
        (299, "^299 is not an HTTP status"),
        (1000, "^1000 is not an HTTP status"),
    ],
)
async def test_add_faults_with_invalid_fault_raises_and_adds_none(
    fault: AnyFault, message: str
) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        with pytest.raises(ValueError, match=message):
            simulator.add_faults(500, fault)
        assert (await client.get_job("a"))[0] == 200


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"path": "v2/jobs"}, "path must be a path of the API like '/v2/jobs', not 'v2/jobs'"),
        ({"path": "/v2/job"}, "path must be a path of the API like '/v2/jobs', not '/v2/job'"),
        ({"path": "/v2/jobs/a", "job_id": "a"}, "job_id and path cannot be combined"),
    ],
)
async def test_add_faults_with_invalid_target_raises(target: dict[str, Any], message: str) -> None:
    async with open_simulator() as (simulator, _):
        with pytest.raises(ValueError, match=f"^{message}$"):
            simulator.add_faults(500, **target)


async def get_outcomes(**settings: Any) -> list[Any]:
    """Return the statuses and error classes of 60 lookups of a finished job."""
    async with open_simulator(rate_limit=None, **settings) as (simulator, client):
        simulator.add_job("a", duration=0)
        outcomes: list[Any] = []
        for _ in range(60):
            try:
                outcomes.append((await client.get_job("a"))[0])
            except aiohttp.ClientError as error:
                outcomes.append(type(error))
        assert (await client.request_token())[0] == 200, "no chaos in token requests"
    return outcomes


async def test_chaos_with_same_seed_gives_same_faults() -> None:
    first = await get_outcomes(chaos=0.3, seed=7)
    assert first == await get_outcomes(chaos=0.3, seed=7)
    assert first != await get_outcomes(chaos=0.3, seed=8)
    assert 30 <= first.count(200) <= 50
    assert {200, 429, 500, 503, aiohttp.ContentTypeError} <= set(first)


async def test_chaos_of_0_gives_no_faults() -> None:
    assert set(await get_outcomes()) == {200}


async def test_chaos_of_1_gives_faults_only() -> None:
    assert 200 not in await get_outcomes(chaos=1)
