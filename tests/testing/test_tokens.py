"""The access tokens of the simulator."""

import asyncio
import time

import pytest

from .plain_client import open_simulator

pytestmark = pytest.mark.looptime

UNAUTHORIZED = {"errors": [{"status": 401, "title": "Unable to validate access token"}]}
BAD_REQUEST = {"errors": [{"status": 400, "title": "Bad Request"}]}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic simulator-token"},
        {"Authorization": "simulator-token"},
    ],
)
async def test_request_without_valid_token_responds_401(headers: dict[str, str]) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        assert await client.send("/v2/jobs/a", headers=headers) == (401, UNAUTHORIZED)
        assert (await client.get_job("a"))[0] == 200


async def test_token_request_with_right_credentials_gives_new_valid_token() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        before = time.time()
        code, document = await client.request_token()
        assert (await client.get_job("a", document["access_token"]))[0] == 200
        assert (await client.request_token())[1]["access_token"] != document["access_token"]
    assert code == 200
    assert document.keys() == {
        "expires",
        "identifier",
        "expires_in",
        "access_token",
        "token_type",
    }
    assert document["identifier"] == "client_credentials"
    assert document["token_type"] == "Bearer"
    assert document["expires_in"] == 3600
    assert isinstance(document["expires"], int)
    assert document["expires"] == pytest.approx(before + 3600, abs=60)


async def test_issued_token_after_its_lifetime_is_refused_and_fixed_token_is_not() -> None:
    async with open_simulator(token_lifetime=100) as (simulator, client):
        simulator.add_job("a", duration=0)
        _, document = await client.request_token()
        assert document["expires_in"] == 100
        await asyncio.sleep(99)
        assert (await client.get_job("a", document["access_token"]))[0] == 200
        await asyncio.sleep(1.1)
        assert (await client.get_job("a", document["access_token"]))[0] == 401
        assert (await client.get_job("a"))[0] == 200


async def test_revoke_tokens_refuses_tokens_issued_before_and_no_later_ones() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        _, old = await client.request_token()
        simulator.revoke_tokens()
        _, new = await client.request_token()
        assert (await client.get_job("a", old["access_token"]))[0] == 401
        assert (await client.get_job("a", new["access_token"]))[0] == 200
        assert (await client.get_job("a"))[0] == 200


@pytest.mark.parametrize("wrong", ["client_id", "client_secret"])
async def test_token_request_with_wrong_credentials_responds_401(wrong: str) -> None:
    async with open_simulator() as (_, client):
        assert await client.request_token(**{wrong: "wrong"}) == (
            401,
            {"errors": [{"status": 401, "title": "Unauthorized"}]},
        )


async def test_token_request_with_other_grant_type_responds_400() -> None:
    async with open_simulator() as (_, client):
        assert await client.request_token(grant_type="password") == (400, BAD_REQUEST)


async def test_token_request_without_form_responds_400() -> None:
    async with open_simulator() as (_, client):
        assert await client.send("/oauth/access_token", "POST", data=b"{}") == (400, BAD_REQUEST)


async def test_token_and_credentials_that_are_given_replace_the_defaults() -> None:
    async with open_simulator(token="t", client_id="me", client_secret="s") as (simulator, client):
        simulator.add_job("a", duration=0)
        assert (await client.get_job("a", "t"))[0] == 200
        assert (await client.get_job("a", "simulator-token"))[0] == 401
        assert (await client.request_token(client_id="me", client_secret="s"))[0] == 200
        assert (await client.request_token(client_id="simulator-client"))[0] == 401
