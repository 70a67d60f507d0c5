"""The files of jobs of the simulator other than orders."""

import asyncio
import re
from typing import Any

import pytest

from .plain_client import PlainClient, open_simulator

pytestmark = pytest.mark.looptime


async def get_delta_url(client: PlainClient, job_id: str = "a") -> str:
    release = await client.get_data(f"/pcm/catalogs/c/releases/{job_id}")
    url = release["relationships"]["delta"]["links"]["related"]
    assert isinstance(url, str)
    return url


async def test_pxm_files_have_addresses_of_their_own_once_the_job_has_succeeded() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["started", "success"], kind="pxm", file=[b"1", b"2"])
        before, after = [(await client.get_data("/pcm/jobs/a"))["meta"] for _ in range(2)]
        urls = after["file_locations"]
        files = [await client.get_file(url) for url in urls]
        missing, _ = await client.get_file(urls[1].replace("/2.csv", "/3.csv"))
    assert "file_locations" not in before
    assert len(set(urls)) == 2
    assert files == [(200, b"1"), (200, b"2")]
    assert missing == 404


async def test_product_export_by_default_has_one_csv_file() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="pxm", job_type="product-export", duration=0)
        (url,) = (await client.get_data("/pcm/jobs/a"))["meta"]["file_locations"]
        async with client.request(url, headers={}) as response:
            assert response.content_type == "text/csv"
            assert len((await response.text()).splitlines()) == 201


@pytest.mark.parametrize(
    ("file", "count"), [(b"x", 1), ([], 0), ([b"x"], 1)], ids=["bytes", "none", "list"]
)
async def test_file_of_pxm_job_sets_number_of_addresses(file: Any, count: int) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="pxm", duration=0, file=file)
        assert len((await client.get_data("/pcm/jobs/a"))["meta"]["file_locations"]) == count


async def test_pxm_job_that_fails_has_no_file_addresses() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="pxm", duration=0, error="x", file=b"x")
        assert "file_locations" not in (await client.get_data("/pcm/jobs/a"))["meta"]


async def test_delta_of_release_is_served_at_a_new_address_for_each_lookup() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="release:c", duration=0, file=b"delta")
        urls = [await get_delta_url(client) for _ in range(2)]
        (listed,) = await client.get_data("/pcm/catalogs/c/releases")
        urls.append(listed["relationships"]["delta"]["links"]["related"])
        files = [await client.get_file(url) for url in urls]
    assert len(set(urls)) == 3
    assert files == [(200, b"delta")] * 3


async def test_delta_of_release_by_default_is_json() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="release:c", duration=0)
        async with client.request(await get_delta_url(client), headers={}) as response:
            assert (await response.json())["type"] == "catalog-release-delta"


async def test_signed_address_expires_after_an_hour() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="release:c", duration=0)
        url = await get_delta_url(client)
        await asyncio.sleep(3598)
        assert (await client.get_file(url))[0] == 200
        await asyncio.sleep(3)
        assert await client.get_file(url) == (403, b"the address has expired")
        assert (await client.get_file(await get_delta_url(client)))[0] == 200


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"signature=.", "signature=x"),
        (r"signature=.*", "signature=%C3%A9"),
        (r"signature=.*", ""),
        (r"expiry=", "expiry=9"),
        (r"expiry=[^&]*", "expiry=x"),
        (r"nonce=", "nonce=9"),
        (r"\?.*", ""),
        (r"/a/delta", "/b/delta"),
    ],
)
async def test_address_with_wrong_signature_responds_403(pattern: str, replacement: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="release:c", duration=0)
        simulator.add_job("b", kind="release:c", duration=0)
        url = await get_delta_url(client)
        changed = re.sub(pattern, replacement, url)
        assert changed != url
        assert await client.get_file(changed) == (403, b"the signature is wrong")


async def test_delta_of_removed_release_responds_404() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="release:c", duration=0)
        url = await get_delta_url(client)
        simulator.remove_job("a")
        assert (await client.get_file(url))[0] == 404


async def test_file_request_with_token_responds_400_for_each_kind() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="release:c", duration=0)
        simulator.add_job("b", kind="pxm", duration=0, file=b"x")
        urls = [await get_delta_url(client), f"{simulator.files_url}/b/1.csv"]
        for url in urls:
            async with client.request(url) as response:
                assert response.status == 400


@pytest.mark.parametrize("kind", ["pxm", "release:c", "subscription"])
async def test_order_address_of_job_of_another_kind_responds_404(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind=kind, duration=0)
        assert (await client.get_file(f"{simulator.files_url}/a.csv"))[0] == 404


async def test_files_url_that_is_set_is_in_the_addresses_of_files() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", duration=0)
        simulator.files_url = "http://127.0.0.1:1/files"
        _, document = await client.send("/v2/jobs/a/file")
    assert document["data"]["href"] == "http://127.0.0.1:1/files/a.csv"
