"""The vendor's OpenAPI documents, served by Prism and read through a session.

The tests need node and Prism. Install Prism by
``npm install --no-save @stoplight/prism-cli`` at the top of the repository.
"""

import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from moltin_jobs import (
    APIError,
    Job,
    JobNotFoundError,
    JobProblem,
    JobsSession,
    JobState,
    Retry,
    ServerError,
    kinds,
)

ROOT = Path(__file__).parent.parent
DOCUMENTS = Path(__file__).parent / "openapi"
NODE = shutil.which("node")
PRISM = ROOT / "node_modules" / "@stoplight" / "prism-cli" / "dist" / "index.js"
ADDRESS = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")
START_SECONDS = 120.0
DOCUMENTED_TIME = datetime(2017, 1, 10, 11, 41, 19, 244842, UTC)

JOB_ID = "11111111-2222-3333-4444-555555555555"  # the example of the schema
RELEASE_ID = "8dbb35b2-ef04-477e-974d-e5f3abe6faae"
RELEASES = kinds.catalog_releases("a-catalog")
PXM_ID = "1ea62172-57f6-45e5-a708-ab5bd634e3f9"


def find_missing() -> str:
    """Return what the tests lack on this machine, or an empty string."""
    if NODE is None:
        return "node is not installed"
    return "" if PRISM.exists() else "@stoplight/prism-cli is not installed"


MISSING = find_missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def add_types(part: dict[str, Any]) -> dict[str, Any]:
    """Add the type to a schema that has none: Prism gives ``null`` for some of these."""
    return {"type": "object", **part} if "properties" in part or "allOf" in part else part


@contextlib.contextmanager
def serve(name: str, folder: Path) -> Iterator[str]:
    """Serve a document by Prism, and return the base URL."""
    assert NODE is not None
    document, log = folder / name, folder / "log"
    parts = json.loads((DOCUMENTS / name).read_text("utf-8"), object_hook=add_types)
    document.write_text(json.dumps(parts), "utf-8")
    with log.open("wb") as output:
        server = subprocess.Popen(  # noqa: S603 (the path is from which())
            [NODE, PRISM, "mock", "--port", "0", document],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while (match := ADDRESS.search(log.read_text("utf-8"))) is None:
            assert server.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.05)
        yield match[1]
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def pxm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve("pxm-jobs.json", tmp_path_factory.mktemp("prism")) as url:
        yield url


@pytest.fixture(scope="module")
def releases_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve("catalog-releases.json", tmp_path_factory.mktemp("prism")) as url:
        yield url


@pytest.fixture(scope="module")
def subscriptions_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve("subscription-jobs.json", tmp_path_factory.mktemp("prism")) as url:
        yield url


def open_session(url: str, prefer: str | None = None) -> JobsSession:
    """Open a session that asks Prism for an example, or for a status."""
    headers = {} if prefer is None else {"Prefer": prefer}
    retry = Retry(max_attempts=1)
    return JobsSession("a-token", base_url=url, rate_limit=None, retry=retry, headers=headers)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class TestPxm:
    @pytest.mark.parametrize(
        ("example", "job_id", "status_and_type", "times"),
        [
            ("started", PXM_ID, ("started", "product-import"), (None, None)),
            (
                "successful",
                PXM_ID,
                ("success", "product-import"),
                (utc("2024-01-05T13:46:42.070"), utc("2024-01-05T13:46:42.142")),
            ),
            (
                "product-export",
                "7e1b9ba1-c844-4556-9b16-4ae3f0988b0f",
                ("success", "product-export"),
                (utc("2024-01-05T15:27:23.650"), utc("2024-01-05T15:27:23.663")),
            ),
            (
                "hierarchy-duplicate",
                "5ba1c98d-87b8-4d63-b2ed-3d3c6c876523",
                ("success", "hierarchy-duplicate"),
                (utc("2024-01-08T11:56:29.222"), utc("2024-01-08T11:56:29.257")),
            ),
            (
                "build-child-products",
                "14a0a190-cd03-4d7f-a449-e2051ac539ea",
                ("success", "child-products"),
                (utc("2024-01-08T11:58:19.067"), utc("2024-01-08T11:58:19.113")),
            ),
        ],
    )
    async def test_lookup_reads_each_example(
        self,
        pxm_url: str,
        example: str,
        job_id: str,
        status_and_type: tuple[str, str],
        times: tuple[datetime | None, datetime | None],
    ) -> None:
        async with open_session(pxm_url, f"example={example}") as session:
            job = await session.get_job(job_id, kind="pxm")
        assert (job.kind, job.type) == ("pxm", "pim-job")
        assert (job.id, (job.status, job.job_type)) == (job_id, status_and_type)
        assert (job.started_at, job.ended_at) == times
        assert job.created_at is not None
        assert job.updated_at is not None
        assert job.file_urls == ()

    async def test_wait_returns_an_example_that_has_succeeded(self, pxm_url: str) -> None:
        async with open_session(pxm_url, "example=successful") as session:
            assert (await session.wait_for_job(PXM_ID, kind="pxm")).status == "success"

    async def test_list_has_each_job_once(self, pxm_url: str) -> None:
        async with open_session(pxm_url) as session:
            jobs = await session.list_jobs(kind="pxm")
        assert [(job.status, job.job_type) for job in jobs] == [
            ("success", "product-import"),
            ("started", "product-import"),
            ("success", "product-export"),
        ]

    async def test_problems_have_the_documented_message(self, pxm_url: str) -> None:
        async with open_session(pxm_url) as session:
            problems = await session.get_job_problems(PXM_ID, kind="pxm")
        assert problems == [JobProblem("data.attributes.sku: Must be unique amongst products.")]

    async def test_cancelled_job_is_returned(self, pxm_url: str) -> None:
        async with open_session(pxm_url) as session:
            job = await session.cancel_job("1e5da4bf-b2c0-4619-bb3d-f749875b15bb", kind="pxm")
        assert job.state is JobState.CANCELLED
        assert job.created_at == utc("2023-11-14T15:37:13.589")

    @pytest.mark.parametrize(
        ("status", "expected", "text"),
        [
            (400, APIError, "Bad Request: Could not parse the supplied filter."),
            (404, JobNotFoundError, "Not Found. Check the id"),
            (422, APIError, "Failed Validation: <XYZ> can not be empty."),
            (500, ServerError, "(request id 635da56d-75a1-43cd-b696-7ab119756b3a)"),
        ],
    )
    @pytest.mark.parametrize("call", ["get_job", "cancel_job", "get_file_url"])
    async def test_error_has_the_documented_text(
        self, pxm_url: str, call: str, status: int, expected: type[APIError], text: str
    ) -> None:
        async with open_session(pxm_url, f"code={status}") as session:
            with pytest.raises(expected) as caught:
                await getattr(session, call)(PXM_ID, kind="pxm")
        assert (type(caught.value), caught.value.status) == (expected, status)
        assert caught.value.from_gateway is False
        assert text in str(caught.value)


class TestReleases:
    async def test_lookup_reads_a_release(self, releases_url: str) -> None:
        async with open_session(releases_url) as session:
            job = await session.get_job(RELEASE_ID, kind=RELEASES)
        assert (job.id, job.status, job.state) == (RELEASE_ID, "PENDING", JobState.PENDING)
        epoch = datetime.fromtimestamp(0, UTC)
        assert (job.created_at, job.updated_at, job.ended_at) == (epoch, epoch, epoch)
        assert (job.started_at, job.job_type) == (None, None)
        assert job.details["catalog_id"] == "0194f54d-f2a1-4e33-9a6e-9ec366152490"
        assert job.details["is_full_delta"] is False

    async def test_list_has_the_release(self, releases_url: str) -> None:
        async with open_session(releases_url) as session:
            assert [job.id for job in await session.list_jobs(kind=RELEASES)] == [RELEASE_ID]

    async def test_publication_returns_the_release_to_wait_for(self, releases_url: str) -> None:
        created: list[Job] = []
        async with open_session(releases_url) as session:
            with pytest.raises(TimeoutError, match="last status 'PENDING'"):
                await session.publish_catalog(
                    "a-catalog", export_full_delta=True, timeout=0.5, on_created=created.append
                )
        assert [job.id for job in created] == [RELEASE_ID]

    async def test_unexpected_error_is_raised(self, releases_url: str) -> None:
        async with open_session(releases_url, "code=422") as session:
            with pytest.raises(APIError, match="There was a problem processing your request"):
                await session.get_job(RELEASE_ID, kind=RELEASES)


class TestSubscriptions:
    async def test_lookup_reads_a_run(self, subscriptions_url: str) -> None:
        async with open_session(subscriptions_url) as session:
            job = await session.get_job(JOB_ID, kind="subscription")
        assert (job.type, job.job_type) == ("subscription_job", "billing-run")
        assert (job.status, job.state) == ("pending", JobState.PENDING)
        assert {job.created_at, job.updated_at, job.started_at, job.ended_at} == {DOCUMENTED_TIME}
        assert job.details["external_ref"] == "abc123"
        assert job.details["report"]["invoice_failures"] == 0

    async def test_list_has_the_run_once(self, subscriptions_url: str) -> None:
        async with open_session(subscriptions_url) as session:
            jobs = await session.list_jobs(kind="subscription")
        assert [job.id for job in jobs] == [JOB_ID]

    async def test_lookup_reads_an_import(self, subscriptions_url: str) -> None:
        async with open_session(subscriptions_url) as session:
            job = await session.get_job(JOB_ID, kind="subscription-import")
        assert (job.type, job.status) == ("subscription_import", "pending")
        assert {job.created_at, job.updated_at, job.started_at, job.ended_at} == {DOCUMENTED_TIME}
        assert job.details["external_ref"] == "abc123"
        assert job.details["records"]["imported"]["subscription"] == 45090

    async def test_list_has_the_import_once(self, subscriptions_url: str) -> None:
        async with open_session(subscriptions_url) as session:
            jobs = await session.list_jobs(kind="subscription-import")
        assert [job.id for job in jobs] == [JOB_ID]

    async def test_problems_name_field_and_line(self, subscriptions_url: str) -> None:
        async with open_session(subscriptions_url) as session:
            problems = await session.get_job_problems(JOB_ID, kind="subscription-import")
        assert problems == [JobProblem("offering name cannot be empty", "name", 123)]

    @pytest.mark.parametrize(
        ("status", "expected"), [(400, APIError), (404, JobNotFoundError), (500, ServerError)]
    )
    @pytest.mark.parametrize("kind", ["subscription", "subscription-import"])
    async def test_error_of_a_lookup_is_raised(
        self, subscriptions_url: str, kind: str, status: int, expected: type[APIError]
    ) -> None:
        async with open_session(subscriptions_url, f"code={status}") as session:
            with pytest.raises(expected) as caught:
                await session.get_job(JOB_ID, kind=kind)
        assert (type(caught.value), caught.value.status) == (expected, status)
