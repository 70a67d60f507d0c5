"""Publishing a catalog, and the function that is called with a new job, in virtual time."""

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from moltin_jobs import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    InvalidResponseError,
    Job,
    JobFailedError,
    JobNotFoundError,
    JobsSession,
    JobTimeoutError,
    MoltinJobsError,
    ServerError,
    SessionClosedError,
    TransportError,
)
from moltin_jobs.testing import Fault, Simulator
from tests.file_host import names_in
from tests.raw_server import RawServer, respond
from tests.sessions import ONCE, assert_idle, session_with

pytestmark = pytest.mark.looptime

CATALOG = "0194f54d-f2a1-4e33-9a6e-9ec366152490"
PATH = f"/pcm/catalogs/{CATALOG}/releases"
MAY_PUBLISH = (
    "A release may have been created: the list of releases contains it once it is published. "
    "A further one would remove the oldest."
)
BAD_ID = Fault(201, body=b'{"data": {"id": "a/b", "meta": {"release_status": "PENDING"}}}')
RELEASE = {"id": "a", "type": "catalog-release", "meta": {"release_status": "PUBLISHED"}}


class StopError(Exception):
    """Exception of a function that is called with a new job."""


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(rate_limit=None, creation_seconds=10) as simulator:
        yield simulator


@pytest.fixture
async def session(simulator: Simulator) -> AsyncIterator[JobsSession]:
    async with session_with(simulator) as session:
        yield session


def methods(simulator: Simulator) -> list[str]:
    return [request.method for request in simulator.requests]


class TestPublishCatalog:
    async def test_on_created_that_is_no_function_is_rejected_before_a_request(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        with pytest.raises(ConfigurationError, match=r"^on_created must be a function"):
            await session.publish_catalog(CATALOG, on_created=123)  # type: ignore[arg-type]
        assert simulator.requests == []

    async def test_404_advises_to_check_the_catalog(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_faults(404)
        with pytest.raises(APIError, match="Check the id of the catalog"):
            await session.publish_catalog(CATALOG)

    @pytest.mark.parametrize("catalog_id", [CATALOG, uuid.UUID(CATALOG)])
    async def test_published_release_is_returned(
        self, simulator: Simulator, session: JobsSession, catalog_id: Any
    ) -> None:
        job = await session.publish_catalog(catalog_id, timeout=60)
        assert (job.kind, job.status, job.state) == (f"release:{CATALOG}", "PUBLISHED", "succeeded")
        assert job.details["percent_completed"] == 100
        assert {request.path for request in simulator.requests} == {PATH, f"{PATH}/{job.id}"}
        assert methods(simulator)[0] == "POST"
        assert methods(simulator).count("POST") == 1

    @pytest.mark.parametrize("is_full", [False, True])
    async def test_request_has_the_documented_content(self, is_full: bool) -> None:
        body = json.dumps({"data": RELEASE}).encode()
        async with RawServer([respond(body, "201 Created"), respond(body)]) as server:
            async with session_with(server) as session:
                job = await session.publish_catalog(CATALOG, export_full_delta=is_full)
        assert job.id == "a"
        assert server.requests[0].startswith(f"POST {PATH} HTTP/1.1\r\n".encode())
        assert b"Content-Type: application/json\r\n" in server.requests[0]
        assert json.loads(server.bodies[0]) == {"data": {"export_full_delta": is_full}}

    async def test_release_that_is_published_at_once_needs_no_poll(self) -> None:
        body = json.dumps({"data": RELEASE}).encode()
        async with RawServer([respond(body, "201 Created")]) as server:
            async with session_with(server) as session:
                assert (await session.publish_catalog(CATALOG)).is_terminal
        assert len(server.requests) == 1

    @pytest.mark.parametrize("catalog_id", ["", "a/b", "..", "x" * 129, None, 5])
    async def test_invalid_id_of_a_catalog_is_rejected_before_a_request(
        self, simulator: Simulator, session: JobsSession, catalog_id: Any
    ) -> None:
        with pytest.raises(ConfigurationError, match="catalog_id must be"):
            await session.publish_catalog(catalog_id)
        assert simulator.requests == []

    @pytest.mark.parametrize(
        "options", [{"export_full_delta": 1}, {"timeout": 0}, {"timeout": "5"}]
    )
    async def test_invalid_option_is_rejected_before_a_request(
        self, simulator: Simulator, session: JobsSession, options: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"^{next(iter(options))} must be"):
            await session.publish_catalog(CATALOG, **options)
        assert simulator.requests == []

    async def test_failed_release_is_an_error_that_names_it(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.script_next_job(["PENDING", "IN_PROGRESS", "FAILED"])
        with pytest.raises(JobFailedError) as caught:
            await session.publish_catalog(CATALOG)
        error = caught.value
        assert str(error) == (
            f"release job {error.job.id} failed: the service gave no reason. "
            "Publish the catalog again."
        )
        assert error.__notes__ == [f"The release of this publication is {error.job.id}."]
        assert methods(simulator) == ["POST", "GET", "GET", "GET"]

    async def test_timeout_of_the_wait_names_the_release(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.script_next_job(["IN_PROGRESS"])
        with pytest.raises(JobTimeoutError) as caught:
            await session.publish_catalog(CATALOG, timeout=30)
        error = caught.value
        assert str(error).startswith(f"release job {error.job_id} did not end within 30 s")
        assert error.job is not None
        assert (error.job.status, error.retryable) == ("IN_PROGRESS", True)
        assert methods(simulator).count("POST") == 1

    async def test_timeout_of_the_creation_is_uncertain(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_faults("hang", path=PATH)
        with pytest.raises(JobTimeoutError) as caught:
            await session.publish_catalog(CATALOG, timeout=5)
        error = caught.value
        assert str(error) == (
            f"the release of this publication was not confirmed within 5 s. {MAY_PUBLISH}"
        )
        assert (error.job_id, error.retryable) == (None, False)
        assert_idle(session)

    @pytest.mark.parametrize(
        ("fault", "expected"),
        [
            ("lost", TransportError),
            ("truncate", TransportError),
            ("garbage", TransportError),
            ("hang", TransportError),
            (500, ServerError),
            (503, ServerError),
            ("html", InvalidResponseError),
            (BAD_ID, InvalidResponseError),
        ],
    )
    async def test_creation_that_may_have_taken_effect_is_not_repeated(
        self,
        simulator: Simulator,
        session: JobsSession,
        fault: Any,
        expected: type[MoltinJobsError],
    ) -> None:
        simulator.add_faults(fault, path=PATH)
        with pytest.raises(expected) as caught:
            await session.publish_catalog(CATALOG)
        error = caught.value
        assert str(error).startswith(f"the publication of catalog {CATALOG}: ")
        assert str(error).endswith(MAY_PUBLISH)
        assert error.retryable is False
        assert methods(simulator) == ["POST"]

    @pytest.mark.parametrize("fault", [401, 429])
    async def test_creation_without_effect_is_repeated(
        self, simulator: Simulator, fault: int
    ) -> None:
        async def auth() -> str:
            return simulator.token

        simulator.add_faults(fault, path=PATH)
        async with session_with(simulator, auth=auth) as session:
            job = await session.publish_catalog(CATALOG)
            assert len(await session.list_jobs(kind=job.kind)) == 1
        assert methods(simulator)[:2] == ["POST", "POST"]

    @pytest.mark.parametrize(
        ("fault", "expected"), [(401, AuthenticationError), (409, APIError), (422, APIError)]
    )
    async def test_rejected_creation_is_raised(
        self, simulator: Simulator, session: JobsSession, fault: int, expected: type[APIError]
    ) -> None:
        simulator.add_faults(fault, path=PATH)
        with pytest.raises(expected) as caught:
            await session.publish_catalog(CATALOG)
        assert type(caught.value) is expected
        assert MAY_PUBLISH not in str(caught.value)
        assert methods(simulator) == ["POST"]

    async def test_catalog_that_does_not_exist_is_an_error(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_faults(404, path=PATH)
        with pytest.raises(APIError) as caught:
            await session.publish_catalog(CATALOG)
        assert (caught.value.status, type(caught.value)) == (404, APIError)

    async def test_404_of_a_new_release_is_temporary(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        created: list[Job] = []

        def add_faults(job: Job) -> None:
            created.append(job)
            simulator.add_faults(404, 404, job_id=job.id)

        job = await session.publish_catalog(CATALOG, on_created=add_faults)
        assert [one.id for one in created] == [job.id]

    async def test_release_that_remains_unknown_is_an_error(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        def remove(job: Job) -> None:
            simulator.remove_job(job.id)

        with pytest.raises(JobNotFoundError, match="The service keeps the current release and the"):
            await session.publish_catalog(CATALOG, on_created=remove)
        assert 10 <= asyncio.get_running_loop().time() < 20

    async def test_closing_the_session_ends_a_publication(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        call = asyncio.create_task(session.publish_catalog(CATALOG))
        await asyncio.sleep(1)
        await session.close()
        with pytest.raises(SessionClosedError) as caught:
            await call
        [note] = caught.value.__notes__
        assert note.startswith("The release of this publication is ")

    async def test_delta_of_a_release_can_be_downloaded(
        self, simulator: Simulator, session: JobsSession, tmp_path: Path
    ) -> None:
        job = await session.publish_catalog(CATALOG, export_full_delta=True)
        path = await session.download(job, tmp_path / "delta.json")
        assert json.loads(path.read_bytes())["type"] == "catalog-release-delta"

    async def test_404_of_a_release_that_was_just_published_delays_its_download(
        self, simulator: Simulator, session: JobsSession, tmp_path: Path
    ) -> None:
        simulator.script_next_job(["PUBLISHED"])
        job = await session.publish_catalog(CATALOG)
        simulator.add_faults(*[404] * 5, job_id=job.id)
        path = await session.download(job, tmp_path / "delta.json")
        assert path.stat().st_size > 0
        await asyncio.sleep(10)
        simulator.add_faults(404, job_id=job.id)
        with pytest.raises(JobNotFoundError):
            await session.download(job, tmp_path / "delta.json")

    async def test_address_of_the_delta_is_in_no_log(
        self, simulator: Simulator, session: JobsSession, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        job = await session.publish_catalog(CATALOG)
        assert job.file_url is not None
        assert "signature=" in job.file_url
        assert "signature=" not in caplog.text + repr(job) + repr([job.details])


def publish(session: JobsSession, **options: Any) -> Any:
    return session.publish_catalog(CATALOG, **options)


def export(session: JobsSession, **options: Any) -> Any:
    return session.export_orders(**options)


@pytest.mark.parametrize("call", [publish, export])
class TestOnCreated:
    @pytest.mark.parametrize("is_async", [False, True])
    async def test_function_is_called_once_before_the_first_poll(
        self,
        simulator: Simulator,
        session: JobsSession,
        call: Callable[..., Any],
        is_async: bool,
    ) -> None:
        seen: list[tuple[str, bool, list[str]]] = []

        def note(job: Job) -> None:
            seen.append((job.id, job.is_terminal, methods(simulator)))

        async def note_later(job: Job) -> None:
            await asyncio.sleep(3)
            note(job)

        job = await call(session, on_created=note_later if is_async else note)
        assert seen == [(job.id, False, ["POST"])]

    @pytest.mark.parametrize("is_async", [False, True])
    async def test_exception_of_the_function_gets_a_note(
        self,
        simulator: Simulator,
        session: JobsSession,
        call: Callable[..., Any],
        is_async: bool,
    ) -> None:
        created: list[Job] = []

        def fail(job: Job) -> None:
            created.append(job)
            raise StopError

        async def fail_later(job: Job) -> None:
            await asyncio.sleep(1)
            fail(job)

        with pytest.raises(StopError) as caught:
            await call(session, on_created=fail_later if is_async else fail)
        subject = "release of this publication" if call is publish else "job of this export"
        assert caught.value.__notes__ == [f"The {subject} is {created[0].id}."]
        assert methods(simulator) == ["POST"]
        assert_idle(session)

    async def test_timeout_bounds_the_function(
        self, simulator: Simulator, session: JobsSession, call: Callable[..., Any]
    ) -> None:
        async def hang(_: Job) -> None:
            await asyncio.Event().wait()

        with pytest.raises(JobTimeoutError) as caught:
            await call(session, on_created=hang, timeout=5)
        error = caught.value
        assert error.job is not None
        label = "release job" if call is publish else "job"
        assert str(error).startswith(f"{label} {error.job.id} did not end within 5 s (last status ")
        assert str(error).endswith("Wait for it.")
        assert (error.job_id, error.retryable) == (error.job.id, True)
        assert asyncio.get_running_loop().time() == pytest.approx(5, abs=0.1)
        assert_idle(session)

    async def test_closing_the_session_ends_the_function(
        self, simulator: Simulator, session: JobsSession, call: Callable[..., Any]
    ) -> None:
        async def hang(_: Job) -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(call(session, on_created=hang))
        await asyncio.sleep(1)
        await session.close()
        with pytest.raises(SessionClosedError):
            await task

    async def test_function_is_not_called_if_the_creation_fails(
        self, simulator: Simulator, session: JobsSession, call: Callable[..., Any]
    ) -> None:
        seen: list[Job] = []
        simulator.add_faults(500)
        with pytest.raises(ServerError):
            await call(session, on_created=seen.append)
        assert seen == []


async def test_exception_of_on_created_leaves_no_file(
    simulator: Simulator, session: JobsSession, tmp_path: Path
) -> None:
    def fail(_: Job) -> None:
        raise StopError

    with pytest.raises(StopError):
        await session.export_orders(destination=tmp_path / "orders.csv", on_created=fail)
    assert names_in(tmp_path) == []


async def test_publication_in_one_attempt_is_still_polled(simulator: Simulator) -> None:
    async with session_with(simulator, retry=ONCE, poll_by="list") as session:
        await session.publish_catalog(CATALOG)
    assert all(request.path != PATH for request in simulator.requests[1:])
