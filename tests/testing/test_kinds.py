"""The kinds of job of the simulator, compared with the documentation of the services."""

import asyncio
import contextlib
import datetime
import json
import re
import uuid
from typing import Any

import aiohttp
import pytest

from moltin_jobs.testing import Simulator
from tests.service_paths import PATHS

from .plain_client import open_simulator

pytestmark = pytest.mark.looptime

OTHERS = [kind for kind in PATHS if kind != "order"]
MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z")
NO_OFFSET = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}")
MICROSECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
PRICE = {"USD": {"amount": 100, "includes_tax": False}}


def get_status(kind: str, job: dict[str, Any]) -> str:
    """Return the status of a job from the place where the documentation has it."""
    if kind == "order":
        status = job["status"]
    elif kind.startswith("release:"):
        status = job["meta"]["release_status"]
    else:
        status = job["attributes"]["status"]
    assert isinstance(status, str)
    return status


def take_times(part: dict[str, Any], names: set[str], pattern: re.Pattern[str]) -> list[float]:
    """Remove the times with these names, and return them in order of the names."""
    texts = [part.pop(name) for name in sorted(names)]
    assert all(pattern.fullmatch(text) for text in texts), texts
    moments = [datetime.datetime.fromisoformat(text) for text in texts]
    return [moment.replace(tzinfo=datetime.UTC).timestamp() for moment in moments]


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        ("order", ["pending", "started", "success"]),
        ("pxm", ["pending", "started", "success"]),
        ("release:c", ["PENDING", "IN_PROGRESS", "PUBLISHED"]),
        ("subscription", ["pending", "started", "success"]),
        ("subscription-import", ["pending", "started", "success"]),
        ("inventory-import", ["pending", "started", "success"]),
    ],
)
async def test_job_of_each_kind_goes_through_the_statuses_of_its_kind(
    kind: str, statuses: list[str]
) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job(kind=kind, duration=10)
        simulator.add_job("a", kind=kind, duration=10)
        seen = []
        for pause in (0, 12, 10):
            await asyncio.sleep(pause)
            seen.append(get_status(kind, await client.get_data(f"{PATHS[kind]}/a")))
    assert seen == statuses


@pytest.mark.parametrize("kind", PATHS)
async def test_job_of_each_kind_with_error_fails_at_its_end(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind=kind, duration=10, error="broken")
        await asyncio.sleep(11)
        status = get_status(kind, await client.get_data(f"{PATHS[kind]}/a"))
    assert status == ("FAILED" if kind == "release:c" else "failed")


@pytest.mark.parametrize("kind", PATHS)
async def test_scripted_job_of_each_kind_shows_one_status_a_lookup(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["x", "y"], kind=kind)
        jobs = [await client.get_data(f"{PATHS[kind]}/a") for _ in range(3)]
    assert [get_status(kind, job) for job in jobs] == ["x", "y", "y"]


@pytest.mark.parametrize("kind", PATHS)
async def test_jobs_of_different_kinds_do_not_wait_for_each_other(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        for other in PATHS.keys() - {kind}:
            simulator.add_job(kind=other, duration=100)
        simulator.add_job(kind="release:d", duration=100)
        simulator.add_job("a", kind=kind, duration=1)
        await asyncio.sleep(2)
        status = get_status(kind, await client.get_data(f"{PATHS[kind]}/a"))
    assert status in ("success", "PUBLISHED")


@pytest.mark.parametrize("kind", PATHS)
async def test_job_is_found_and_listed_by_its_own_kind_only(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind=kind, duration=0)
        for other, path in PATHS.items():
            code, _ = await client.send(f"{path}/a")
            listed = [job["id"] for job in await client.get_data(path)]
            assert (code, listed) == ((200, ["a"]) if other == kind else (404, []))


async def test_release_of_another_catalog_responds_404() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="release:c", duration=0)
        assert (await client.send("/pcm/catalogs/d/releases/a"))[0] == 404
        assert (await client.send("/pcm/catalogs/d/releases"))[1]["data"] == []


async def test_id_is_unique_over_all_kinds() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="pxm")
        with pytest.raises(ValueError, match="there is already a job 'a'"):
            simulator.add_job("a")
        simulator.remove_job("a")
        assert (await client.send("/pcm/jobs/a"))[0] == 404


@pytest.mark.parametrize("kind", OTHERS)
async def test_job_of_other_kind_than_order_does_not_expire_after_a_week(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind=kind, duration=0)
        await asyncio.sleep(8 * 24 * 3600)
        assert (await client.send(f"{PATHS[kind]}/a"))[0] == 200


@pytest.mark.parametrize("kind", OTHERS)
async def test_errors_of_other_services_are_lists_with_text_as_status(kind: str) -> None:
    async with open_simulator(not_found="bare") as (simulator, client):
        simulator.add_faults(500)
        code, document = await client.send(f"{PATHS[kind]}/a")
        (error,) = document["errors"]
        assert uuid.UUID(error.pop("request_id"))
        assert error.pop("detail").startswith("There was an internal server error")
        assert (code, error) == (500, {"status": "500", "title": "Internal Server Error"})
        assert await client.send(f"{PATHS[kind]}/a") == (
            404,
            {"errors": [{"status": "404", "title": "Not Found"}]},
        )
        code, document = await client.send(PATHS[kind], headers={})
        assert (code, document["errors"][0]["status"]) == (401, "401")


async def test_pxm_job_that_has_succeeded_has_documented_fields() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job(kind="pxm", duration=5)
        simulator.add_job("a", kind="pxm", duration=10)
        await asyncio.sleep(16)
        code, document = await client.send("/pcm/jobs/a")
    names = {"completed_at", "created_at", "started_at", "updated_at"}
    completed, created, started, updated = take_times(
        document["data"]["attributes"], names, MILLISECONDS
    )
    assert [started - created, completed - created] == pytest.approx([5, 15], abs=0.01)
    assert updated == completed
    assert uuid.UUID(document["data"]["meta"].pop("x_request_id"))
    assert (code, document) == (
        200,
        {
            "data": {
                "type": "pim-job",
                "id": "a",
                "attributes": {"status": "success", "type": "product-import"},
                "meta": {},
            }
        },
    )


async def test_pxm_job_that_has_not_started_has_null_times() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["pending"], kind="pxm")
        attributes = (await client.get_data("/pcm/jobs/a"))["attributes"]
    assert attributes["started_at"] is None
    assert attributes["completed_at"] is None
    assert attributes["updated_at"] == attributes["created_at"]


@pytest.mark.parametrize(
    ("job_type", "names"),
    [
        ("product-import", set()),
        ("product-export", {"filter", "file_locations"}),
        ("hierarchy-duplicate", {"copied_from", "hierarchy_id"}),
    ],
)
async def test_pxm_job_has_fields_of_its_type(job_type: str, names: set[str]) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="pxm", job_type=job_type, duration=0)
        job = await client.get_data("/pcm/jobs/a")
    assert job["attributes"]["type"] == job_type
    assert job["meta"].keys() == {"x_request_id", *names}


@pytest.mark.parametrize(
    ("milliseconds", "new", "old"),
    [
        (36, "T12:32:50.036Z", " 12:32:50.036 +0000 UTC"),
        (70, "T12:32:50.07Z", " 12:32:50.07 +0000 UTC"),
        (0, "T12:32:50Z", " 12:32:50 +0000 UTC"),
    ],
)
async def test_pxm_time_has_no_trailing_zeros_in_either_form(
    monkeypatch: pytest.MonkeyPatch, milliseconds: int, new: str, old: str
) -> None:
    moment = datetime.datetime(2023, 11, 27, 12, 32, 50, milliseconds * 1000 + 1, datetime.UTC)
    monkeypatch.setattr("time.time", moment.timestamp)
    texts = []
    for is_old in (False, True):
        async with open_simulator(old_pxm_timestamps=is_old) as (simulator, client):
            simulator.add_job("a", kind="pxm", duration=0)
            texts.append((await client.get_data("/pcm/jobs/a"))["attributes"]["created_at"])
    assert texts == [f"2023-11-27{new}", f"2023-11-27{old}"]


async def test_release_that_is_published_has_documented_fields() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="release:c", duration=10)
        await asyncio.sleep(11)
        code, document = await client.send("/pcm/catalogs/c/releases/a")
    release = document["data"]
    created, started, updated = take_times(
        release["meta"], {"created_at", "started_at", "updated_at"}, NO_OFFSET
    )
    (published,) = take_times(release["attributes"], {"published_at"}, NO_OFFSET)
    assert published - created == pytest.approx(10, abs=0.01)
    assert started == updated == published
    delta_url = release["relationships"].pop("delta")["links"]["related"]
    assert delta_url.startswith(f"{simulator.files_url}/a/")
    path = "/pcm/catalogs/c/releases/a"
    assert (code, document) == (
        200,
        {
            "data": {
                "type": "catalog-release",
                "id": "a",
                "attributes": {
                    "name": "Clothing",
                    "catalog_id": "c",
                    "description": "Catalog for Store 123",
                    "hierarchies": [],
                },
                "relationships": {
                    "products": {"links": {"related": f"{path}/products"}},
                    "hierarchies": {"links": {"related": f"{path}/hierarchies"}},
                },
                "meta": {
                    "release_status": "PUBLISHED",
                    "language": "en-GB",
                    "is_full_publish": False,
                    "is_full_delta": False,
                    "total_products": 100,
                    "total_nodes": 10,
                    "percent_completed": 100,
                    "owner": "store",
                },
            },
            "links": {"self": simulator.url + path},
        },
    )


@pytest.mark.parametrize("status", ["PENDING", "IN_PROGRESS", "FAILED"])
async def test_release_that_is_not_published_has_no_time_of_publication(status: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", [status], kind="release:c")
        release = await client.get_data("/pcm/catalogs/c/releases/a")
    assert release["attributes"]["published_at"] is None
    assert release["meta"]["started_at"] is None
    assert release["meta"]["total_products"] is None
    assert "delta" not in release["relationships"]


@pytest.mark.parametrize(
    ("job_type", "report"),
    [
        (
            "billing-run",
            {
                "invoices_ready_for_payment": 100,
                "invoices_tax_required": 100,
                "invoice_failures": 0,
                "total_ready_for_payment": PRICE,
                "total_tax_required": PRICE,
            },
        ),
        ("tax-run", {"invoices_updated": 100, "invoice_failures": 0}),
        (
            "payment-run",
            {"total_payment_attempts": 100, "failed_payments": 0, "total_collected": PRICE},
        ),
    ],
)
async def test_subscription_run_that_has_succeeded_has_documented_fields(
    job_type: str, report: Any
) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="subscription", duration=10, job_type=job_type)
        before = await client.get_data("/v2/subscriptions/jobs/a")
        await asyncio.sleep(11)
        code, document = await client.send("/v2/subscriptions/jobs/a")
    assert before["meta"].keys() == {"owner", "timestamps"}
    job = document["data"]
    names = {"created_at", "finished_at", "started_at", "updated_at"}
    created, finished, started, updated = take_times(job["meta"]["timestamps"], names, MICROSECONDS)
    assert finished - created == pytest.approx(10, abs=0.01)
    assert (started, updated) == (created, finished)
    assert take_times(job["attributes"], {"created_at", "updated_at"}, MICROSECONDS) == [
        created,
        updated,
    ]
    assert (code, document) == (
        200,
        {
            "data": {
                "type": "subscription_job",
                "id": "a",
                "attributes": {"job_type": job_type, "status": "success"},
                "meta": {"owner": "store", "timestamps": {}, "report": report},
            }
        },
    )


@pytest.mark.parametrize(
    ("kind", "type_", "records", "owner"),
    [
        (
            "subscription-import",
            "subscription_import",
            [
                "subscription_feature",
                "subscription_subscriber",
                "subscription_offering",
                "subscription",
            ],
            {"owner": "store"},
        ),
        ("inventory-import", "inventories_import", ["stock"], {}),
    ],
)
async def test_import_that_has_succeeded_has_documented_fields(
    kind: str, type_: str, records: list[str], owner: dict[str, str]
) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind=kind, duration=10)
        before = await client.get_data(f"{PATHS[kind]}/a")
        await asyncio.sleep(11)
        code, document = await client.send(f"{PATHS[kind]}/a")
    assert before["meta"]["records"]["imported"] == dict.fromkeys(records, 0)
    assert before["meta"]["timestamps"].keys() == {"created_at", "updated_at", "started_at"}
    names = {"created_at", "finished_at", "started_at", "updated_at"}
    created, finished, started, updated = take_times(
        document["data"]["meta"]["timestamps"], names, MICROSECONDS
    )
    assert finished - created == pytest.approx(10, abs=0.01)
    assert (started, updated) == (created, finished)
    counts = dict.fromkeys(records, 50000)
    assert (code, document) == (
        200,
        {
            "data": {
                "type": type_,
                "id": "a",
                "attributes": {"status": "success"},
                "meta": {
                    **owner,
                    "timestamps": {},
                    "records": {"uploaded": counts, "imported": counts},
                },
            }
        },
    )


@pytest.mark.parametrize(
    "headers", [{}, {"EP-Inventories-Multi-Location": "false"}], ids=["none", "false"]
)
@pytest.mark.parametrize("path", ["", "/a", "/a/errors"])
async def test_inventory_import_without_its_header_responds_400(
    headers: dict[str, str], path: str
) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind="inventory-import", duration=0)
        headers = headers | {"Authorization": f"Bearer {simulator.token}"}
        code, document = await client.send(PATHS["inventory-import"] + path, headers=headers)
    detail = "the header EP-Inventories-Multi-Location: true is missing"
    assert (code, document) == (
        400,
        {"errors": [{"status": "400", "title": "Bad Request", "detail": detail}]},
    )


@pytest.mark.parametrize(
    ("kind", "details", "place"),
    [
        ("pxm", {"filter": "eq(sku,a)", "x_request_id": "x"}, "meta"),
        ("release:c", {"is_full_delta": True, "percent_completed": 7, "owner": None}, "meta"),
        ("release:c", {"name": "Shoes", "catalog_id": "d"}, "attributes"),
        ("subscription", {"report": {"invoice_failures": 3}}, "meta"),
        ("subscription", {"external_ref": "e"}, "attributes"),
        ("subscription-import", {"records": {"uploaded": {}, "imported": {}}}, "meta"),
        ("inventory-import", {"external_ref": "e"}, "attributes"),
    ],
)
async def test_details_replace_the_defaults_where_the_service_has_them(
    kind: str, details: dict[str, Any], place: str
) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["started"], kind=kind, details=details)
        part = (await client.get_data(f"{PATHS[kind]}/a"))[place]
    assert {name: part[name] for name in details} == details


async def test_scripted_job_starts_and_ends_when_a_response_first_shows_it() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["pending", "started", "started", "success"], kind="subscription")
        seen = []
        for _ in range(6):
            timestamps = (await client.get_data("/v2/subscriptions/jobs/a"))["meta"]["timestamps"]
            created = datetime.datetime.fromisoformat(timestamps["created_at"])
            times = [timestamps.get(name, "") for name in ("started_at", "finished_at")]
            seen.append(
                [
                    (datetime.datetime.fromisoformat(text) - created).total_seconds() if text else 0
                    for text in times
                ]
            )
            await asyncio.sleep(10)
    expected = [[0, 0], [10, 0], [10, 0], [10, 30], [10, 30], [10, 30]]
    assert seen == [pytest.approx(times, abs=0.5) for times in expected]


async def test_scripted_cancelled_job_has_no_time_of_its_end() -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", ["started", "cancelling", "cancelled"], kind="pxm")
        jobs = [await client.get_data("/pcm/jobs/a") for _ in range(3)]
    assert all(job["attributes"]["completed_at"] is None for job in jobs)
    assert all(job["attributes"]["started_at"] is not None for job in jobs)


@pytest.mark.parametrize(
    "kind", ["", "orders", "Order", "release", "release:", "pxm:c", "order:", "release:a/b"]
)
async def test_add_job_of_unknown_kind_raises_error_with_the_names(kind: str) -> None:
    message = (
        "kind must be one of 'order', 'pxm', 'release:CATALOG_ID', 'subscription', "
        f"'subscription-import', 'inventory-import', not {kind!r}"
    )
    async with Simulator() as simulator:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            simulator.add_job(kind=kind)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"kind": "release:c", "job_type": "x"},
            "job_type: a job of the kind 'release:CATALOG_ID' has no type",
        ),
        ({"kind": "inventory-import", "job_type": "x"}, "job_type: .* has no type"),
        (
            {"kind": "subscription", "file": b""},
            "file: a job of the kind 'subscription' has no file",
        ),
        ({"file": [b""]}, "file: a job of the kind 'order' has one file, as bytes"),
        ({"kind": "release:c", "file": [b""]}, "file: .* has one file, as bytes"),
        ({"problems": ["x"]}, "problems: a job of the kind 'order' has no problems"),
        ({"kind": "release:c", "problems": ["x"]}, "problems: .* has no problems"),
        ({"kind": "pxm", "problems": "x"}, "problems must be a list, not 'x'"),
        (
            {"kind": "pxm", "problems": [("x", "name", 1)]},
            "problems of a job of the kind 'pxm' are messages only",
        ),
        (
            {"details": {"x": 1}},
            "details: 'x' is not a detail of the kind 'order'. It has: none.",
        ),
        (
            {"kind": "subscription", "details": {"report": {}, "records": {}}},
            "details: 'records' is not a detail .* It has: external_ref, report.",
        ),
    ],
)
async def test_add_job_with_argument_that_its_kind_does_not_have_raises(
    arguments: dict[str, Any], message: str
) -> None:
    async with open_simulator() as (simulator, client):
        with pytest.raises(ValueError, match=f"^{message}$"):
            simulator.add_job("a", **arguments)
        simulator.add_job("a", duration=0)
        assert (await client.get_job("a"))[0] == 200


@pytest.mark.parametrize("kind", PATHS)
async def test_rate_limit_holds_for_each_kind(kind: str) -> None:
    async with open_simulator(rate_limit=1) as (simulator, client):
        simulator.add_job("a", kind=kind, duration=0)
        codes = [(await client.send(f"{PATHS[kind]}/a"))[0] for _ in range(2)]
    assert codes == [200, 429]


@pytest.mark.parametrize("kind", PATHS)
async def test_chaos_holds_for_each_kind(kind: str) -> None:
    async with open_simulator(chaos=1, rate_limit=None) as (_, client):
        for _ in range(20):
            with contextlib.suppress(aiohttp.ClientError):
                assert (await client.send(PATHS[kind]))[0] in (429, 500, 503)


@pytest.mark.parametrize(
    "path",
    [
        "/pcm/jobs",
        "/pcm/jobs/a",
        "/pcm/jobs/a/errors",
        "/pcm/catalogs/c/releases",
        "/pcm/catalogs/c/releases/a",
        "/v2/subscriptions/jobs/a",
        "/v2/subscriptions/imports/a/errors",
        "/v2/inventories/imports",
    ],
)
async def test_faults_with_path_of_another_kind_affect_it_only(path: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_faults(503, path=path)
        assert (await client.send("/v2/jobs/a"))[0] == 404
        assert (await client.send(f"{path}?page[limit]=1"))[0] == 503


@pytest.mark.parametrize(
    "path",
    [
        "/pcm/catalogs",
        "/pcm/catalogs/c/releases/a/errors",
        "/pcm/jobs/a/file",
        "/v2/subscriptions/jobs/a/errors",
        "/v2/subscriptions/imports/a/cancel",
        "/pcm/jobs?page[limit]=1",
    ],
)
async def test_path_that_no_kind_has_is_unknown_to_faults_and_to_routes(path: str) -> None:
    async with open_simulator() as (simulator, client):
        with pytest.raises(ValueError, match="path must be a path of the API"):
            simulator.add_faults(500, path=path)
        if "?" not in path:
            assert (await client.send(path))[0] == 404


@pytest.mark.parametrize("kind", OTHERS)
async def test_faults_with_job_id_affect_a_job_of_each_kind(kind: str) -> None:
    async with open_simulator() as (simulator, client):
        simulator.add_job("a", kind=kind, duration=0)
        simulator.add_faults(503, job_id="a")
        codes = [(await client.send(f"{PATHS[kind]}{path}"))[0] for path in ("", "/a", "/a")]
    assert codes == [200, 503, 200]


async def test_requests_record_the_query_as_it_was_sent() -> None:
    async with open_simulator() as (simulator, client):
        await client.send("/pcm/jobs?page%5Blimit%5D=1&x=%20")
        await client.send("/v2/jobs")
        records = simulator.requests
    assert [record.path for record in records] == ["/pcm/jobs", "/v2/jobs"]
    assert [record.query for record in records] == ["page%5Blimit%5D=1&x=%20", ""]


async def test_creation_of_order_job_takes_script_with_details_and_ignores_them() -> None:
    body = json.dumps({"data": {"type": "job", "job_type": "order_export"}})
    async with open_simulator() as (simulator, client):
        simulator.script_next_job(["success"], details={"is_full_delta": True})
        code, document = await client.send("/v2/jobs", "POST", data=body)
    assert (code, document["data"][0]["status"]) == (202, "success")
    assert "is_full_delta" not in json.dumps(document)
