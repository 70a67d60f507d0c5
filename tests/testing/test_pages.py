"""The pages of the lists of the simulator."""

from typing import Any

import pytest

from moltin_jobs.testing import Simulator
from tests.service_paths import PATHS

from .plain_client import open_simulator

pytestmark = pytest.mark.looptime

PAGED = ["pxm", "subscription", "subscription-import", "inventory-import"]
LIMITED = PAGED[1:]


def add_jobs(simulator: Simulator, kind: str, count: int) -> list[str]:
    return [simulator.add_job(kind=kind, duration=0) for _ in range(count)]


def get_ids(document: Any) -> list[str]:
    return [job["id"] for job in document["data"]]


@pytest.mark.parametrize("kind", PAGED)
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", slice(0, 25)),
        ("?page[limit]=100", slice(0, 100)),
        ("?page[limit]=101", slice(0, 100)),
        ("?page[limit]=2&page[offset]=3", slice(3, 5)),
        ("?page[limit]=0", slice(0, 0)),
        ("?page[offset]=95", slice(95, 110)),
        ("?page[offset]=110", slice(110, 110)),
        ("?page[offset]=10000", slice(110, 110)),
    ],
)
async def test_page_has_jobs_in_order_of_creation(kind: str, query: str, expected: slice) -> None:
    async with open_simulator() as (simulator, client):
        ids = add_jobs(simulator, kind, 110)
        code, document = await client.send(PATHS[kind] + query)
    assert code == 200
    assert get_ids(document) == ids[expected]


async def test_pxm_list_has_its_total_on_each_page_and_other_lists_have_none() -> None:
    async with open_simulator() as (simulator, client):
        for kind in PAGED:
            add_jobs(simulator, kind, 3)
        documents = [(await client.send(f"{PATHS[kind]}?page[limit]=1"))[1] for kind in PAGED]
        _, beyond = await client.send("/pcm/jobs?page[offset]=9")
    assert [document.get("meta") for document in documents] == [
        {"results": {"total": 3}},
        None,
        None,
        None,
    ]
    assert beyond["meta"] == {"results": {"total": 3}}


async def test_link_to_next_page_is_missing_on_second_to_last_page_and_on_last() -> None:
    async with open_simulator() as (simulator, client):
        add_jobs(simulator, "pxm", 7)
        pages = [
            (await client.send(f"/pcm/jobs?page[limit]=2&page[offset]={offset}"))[1]
            for offset in (0, 2, 4, 6)
        ]
        url = f"{simulator.url}/pcm/jobs?page[limit]=2&page[offset]="
        _, following = await client.send(pages[0]["links"]["next"])
    first = f"{url}0"
    assert [page["links"] for page in pages] == [
        {"self": first, "first": first, "next": f"{url}2"},
        {"self": f"{url}2", "first": first, "next": f"{url}4"},
        {"self": f"{url}4", "first": first},
        {"self": f"{url}6", "first": first},
    ]
    assert following == pages[1]


async def test_page_advances_scripts_of_its_own_jobs_only() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["pending", "started"], kind="pxm")
        simulator.add_job("b", ["pending", "started"], kind="pxm")
        await client.send("/pcm/jobs?page[limit]=1")
        jobs = await client.get_data("/pcm/jobs")
    assert [job["attributes"]["status"] for job in jobs] == ["started", "pending"]


@pytest.mark.parametrize("kind", LIMITED)
async def test_offset_over_10000_responds_400(kind: str) -> None:
    async with open_simulator() as (_, client):
        detail = "page[offset] must be at most 10000"
        assert await client.send(f"{PATHS[kind]}?page[offset]=10001") == (
            400,
            {"errors": [{"status": "400", "title": "Bad Request", "detail": detail}]},
        )


async def test_offset_over_10000_of_pxm_list_gives_an_empty_page() -> None:
    async with open_simulator() as (_, client):
        code, document = await client.send("/pcm/jobs?page[offset]=10001")
    assert (code, document["data"]) == (200, [])


@pytest.mark.parametrize("name", ["page[limit]", "page[offset]"])
@pytest.mark.parametrize("text", ["-1", "", "a", "1.5", "%C2%B2", "9" * 5000])
async def test_page_with_invalid_number_responds_400(name: str, text: str) -> None:
    async with open_simulator() as (_, client):
        code, document = await client.send(f"/pcm/jobs?{name}={text}")
    assert code == 400
    assert document["errors"][0]["detail"] == f"{name} must be a number of at least 0"


async def test_order_list_is_whole_whatever_page_a_request_asks_for() -> None:
    async with open_simulator() as (simulator, client):
        ids = add_jobs(simulator, "order", 110)
        _, document = await client.send("/v2/jobs?page[limit]=1")
    assert document.keys() == {"data"}
    assert get_ids(document) == ids
