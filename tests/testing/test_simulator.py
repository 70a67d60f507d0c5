"""The simulator as a whole: its routes, its rate limit, its records and its settings."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Callable
from typing import Any, Literal

import aiohttp
import pytest

from moltin_jobs.testing import Simulator

from .plain_client import now, open_simulator

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("PUT", "/v2/jobs"),
        ("POST", "/v2/jobs/a/file"),
        ("GET", "/v1/jobs/a"),
        ("GET", "/oauth/access_token"),
        ("POST", "/v2/jobs/a"),
        ("DELETE", "/v2/jobs/a"),
        ("PUT", "/oauth/access_token"),
    ],
)
async def test_request_for_unknown_route_responds_404_and_takes_no_fault(
    method: str, path: str
) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        simulator.add_faults(500)
        code, document = await client.send(path, method)
        assert (code, document["title"]) == (404, "Resource Not Found")
        assert (await client.get_job("a"))[0] == 500


async def test_head_request_responds_404() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        async with client.request("/v2/jobs/a", "HEAD") as response:
            assert response.status == 404


async def test_rate_limit_counts_admitted_requests_of_a_sliding_second() -> None:
    limited = {"errors": [{"status": 429, "title": "Too Many Requests"}]}
    async with open_simulator(rate_limit=3) as (simulator, client):
        simulator.add_job("a", duration=0)
        start = now()

        async def send_at(moment: float) -> int:
            await asyncio.sleep(start + moment - now())
            return (await client.get_job("a"))[0]

        assert [await send_at(at) for at in (0, 0.6, 0.6)] == [200, 200, 200]
        assert await client.get_job("a") == (429, limited)
        assert [await send_at(at) for at in (0.9, 0.98)] == [429, 429]
        assert [await send_at(at) for at in (1.01, 1.01)] == [200, 429]
        assert [await send_at(at) for at in (1.61, 1.61, 1.61)] == [200, 200, 429]


async def test_rate_limit_by_default_is_25_requests_of_all_kinds() -> None:
    async with open_simulator() as (_, client):
        assert (await client.request_token())[0] == 200
        assert (await client.send("/nowhere"))[0] == 404
        responses = await asyncio.gather(*(client.get_job("a", "wrong") for _ in range(24)))
        assert sorted(code for code, _ in responses) == [401] * 23 + [429]
        assert (await client.request_token())[0] == 429
        await asyncio.sleep(1.1)
        assert (await client.request_token())[0] == 200


async def test_rate_limit_of_none_admits_every_request() -> None:
    async with open_simulator(rate_limit=None) as (simulator, client):
        simulator.add_job("a", duration=0)
        responses = await asyncio.gather(*(client.get_job("a") for _ in range(60)))
    assert {code for code, _ in responses} == {200}


async def test_requests_records_all_requests_without_tokens() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        start = now()
        _, document = await client.request_token()
        await asyncio.sleep(2)
        await client.get_job("a", document["access_token"])
        await client.get_job("b", "wrong-token")
        await client.send("/v2/jobs", "POST")
        records = simulator.requests
    assert [(one.method, one.path, one.job_id, one.status) for one in records] == [
        ("POST", "/oauth/access_token", None, 200),
        ("GET", "/v2/jobs/a", "a", 200),
        ("GET", "/v2/jobs/b", "b", 401),
        ("POST", "/v2/jobs", None, 400),
    ]
    assert [one.at - start for one in records] == pytest.approx([0, 2, 2, 2], abs=0.5)
    for secret in ("wrong-token", document["access_token"], simulator.client_secret):
        assert secret not in repr(records)


@pytest.mark.parametrize(("fault", "status"), [(None, 202), ("lost", None)])
async def test_requests_have_the_filter_of_a_creation(
    fault: Literal["lost"] | None, status: int | None
) -> None:
    async with open_simulator() as (simulator, client):
        if fault is not None:
            simulator.add_faults(fault)
        for order_filter in ({"filter": "gt(created_at,2018-09-01)"}, {"filter": None}, {}):
            data = {"type": "job", "job_type": "order_export", **order_filter}
            with contextlib.suppress(aiohttp.ClientError):
                await client.send("/v2/jobs", "POST", data=json.dumps({"data": data}))
        records = simulator.requests
    assert [record.filter for record in records] == ["gt(created_at,2018-09-01)", None, None]
    assert records[0].status == status


async def test_latency_delays_every_response_and_leaves_status_open_until_then() -> None:
    async with open_simulator(latency=30, rate_limit=1) as (simulator, client):
        start = now()
        responses = await asyncio.gather(client.get_job("a"), client.get_job("a"))
        assert sorted(code for code, _ in responses) == [404, 429]
        assert 30 <= now() - start < 31
        task = asyncio.create_task(client.get_job("a"))
        await asyncio.sleep(10)
        assert simulator.requests[-1].status is None
        await task
        assert simulator.requests[-1].status == 404


async def test_port_that_is_given_is_used() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with open_simulator(port=port) as (simulator, client):
        assert simulator.url == f"http://127.0.0.1:{port}"
        assert (await client.get_job("a"))[0] == 404


async def test_port_in_use_raises() -> None:
    async with Simulator() as simulator:
        port = int(simulator.url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"):
            await Simulator(port).__aenter__()


USES: dict[str, Callable[[Simulator], object]] = {
    "add_job": lambda simulator: simulator.add_job("a"),
    "remove_job": lambda simulator: simulator.remove_job("a"),
    "script_next_job": lambda simulator: simulator.script_next_job(["success"]),
    "add_faults": lambda simulator: simulator.add_faults(500),
    "clear_faults": lambda simulator: simulator.clear_faults(),
    "revoke_tokens": lambda simulator: simulator.revoke_tokens(),
}
ADDRESSES: dict[str, Callable[[Simulator], object]] = {
    "url": lambda simulator: simulator.url,
    "files_url": lambda simulator: simulator.files_url,
    "environment": lambda simulator: simulator.environment,
}
NOT_OPEN = (
    "Simulator: it is not open. Open it with 'async with Simulator()' or "
    "'with Simulator.in_thread()'."
)


@pytest.mark.parametrize("name", USES | ADDRESSES)
async def test_simulator_that_was_not_opened_raises(name: str) -> None:
    with pytest.raises(RuntimeError, match=f"^{re.escape(NOT_OPEN)}$"):
        (USES | ADDRESSES)[name](Simulator())


@pytest.mark.parametrize("name", USES)
async def test_method_of_simulator_that_was_closed_raises(name: str) -> None:
    async with Simulator() as simulator:
        pass
    with pytest.raises(RuntimeError, match=f"^{re.escape(NOT_OPEN)}$"):
        USES[name](simulator)


async def test_addresses_and_requests_of_simulator_that_was_closed_can_be_read() -> None:
    async with open_simulator() as (simulator, client):
        await client.get_job("a")
        addresses = [read(simulator) for read in ADDRESSES.values()]
    assert [read(simulator) for read in ADDRESSES.values()] == addresses
    assert len(simulator.requests) == 1


async def test_requests_are_a_snapshot() -> None:
    async with open_simulator() as (simulator, client):
        before = simulator.requests
        await client.get_job("a")
    assert (len(before), len(simulator.requests)) == (0, 1)


def test_simulator_in_synchronous_with_raises() -> None:
    message = (
        "Simulator: it needs an event loop. Use 'async with Simulator()' in async code, "
        "and 'with Simulator.in_thread()' in synchronous code."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        with Simulator():  # type: ignore[attr-defined]
            pytest.fail("it needs an event loop")


async def test_environment_has_address_and_credentials() -> None:
    async with Simulator(client_id="me") as simulator:
        assert simulator.environment == {
            "EPCC_API_BASE_URL": simulator.url,
            "EPCC_CLIENT_ID": "me",
            "EPCC_CLIENT_SECRET": "simulator-secret",
        }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dialect": "new"}, "dialect must be 'current' or 'older', not 'new'"),
        ({"not_found": "html"}, "not_found must be 'bare' or 'list', not 'html'"),
        ({"chaos": -0.1}, "'chaos' must be >= 0: -0.1"),
        ({"chaos": 1.1}, "'chaos' must be <= 1: 1.1"),
        ({"chaos": float("nan")}, "'chaos' must be >= 0: nan"),
        ({"rate_limit": 0}, "rate_limit must be at least 1, or None, not 0"),
        ({"latency": -1.0}, "'latency' must be >= 0: -1.0"),
        ({"latency": float("nan")}, "'latency' must be >= 0: nan"),
        ({"creation_seconds": -1}, "'creation_seconds' must be >= 0: -1"),
    ],
)
def test_simulator_with_invalid_setting_raises(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Simulator(**settings)
