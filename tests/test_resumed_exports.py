"""Exports that end early: the id of the job is known, and another call can go on with it."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from moltin_jobs import Job, JobsSession, JobTimeoutError, MoltinJobsError, Retry
from moltin_jobs.testing import Fault, Simulator
from tests.file_host import names_in
from tests.raw_server import job as job_body
from tests.sessions import HangingLimiter, assert_idle, session_with

EXPORT = """
import asyncio, sys
from moltin_jobs import JobsSession

async def main():
    async with JobsSession.from_env() as session:
        await session.export_orders(
            destination=sys.argv[1], on_created=lambda job: print(job.id, flush=True)
        )

asyncio.run(main())
"""
RESUME = """
import asyncio, sys
from moltin_jobs import JobsSession

async def main():
    async with JobsSession.from_env() as session:
        await session.wait_for_job(sys.argv[2])
        await session.download(sys.argv[2], sys.argv[1])

asyncio.run(main())
"""


class StopError(Exception):
    """Exception of the user's own code."""


@pytest.fixture
async def session(simulator: Simulator) -> AsyncIterator[JobsSession]:
    """A session for exports that run one minute."""
    simulator.script_next_job(duration=60)
    async with session_with(simulator) as session:
        yield session


async def test_export_whose_process_is_killed_can_be_resumed_by_id(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"

    async def run(script: str, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, str(path), *arguments),
            env=os.environ | simulator.environment,
            stdout=asyncio.subprocess.PIPE,
        )

    async with Simulator(creation_seconds=2.0) as simulator:
        export = await run(EXPORT)
        assert export.stdout is not None
        job_id = (await export.stdout.readline()).decode().strip()
        export.kill()
        await export.wait()
        assert names_in(tmp_path) == []
        resumed = await run(RESUME, job_id)
        assert await resumed.wait() == 0
        creations = [request for request in simulator.requests if request.path == "/v2/jobs"]
    assert len(creations) == 1
    assert path.read_bytes().startswith(b"order_id,currency,amount")


@pytest.mark.looptime
class TestNotes:
    @pytest.mark.parametrize("step", ["on_created", "wait", "token refresh", "download"])
    async def test_cancellation_has_a_note_that_names_the_job(
        self, simulator: Simulator, tmp_path: Path, step: str
    ) -> None:
        token_calls = iter(["simulator-token"])

        async def token() -> str:
            return next(token_calls, "") or await asyncio.sleep(999, "")

        async def hang(_: Job) -> None:
            await asyncio.sleep(999)

        later: dict[str, list[Any]] = {
            "token refresh": [401],
            "download": [Fault(body=job_body("success")), "hang"],
        }
        faults = [Fault(202, body=job_body("pending")), *later.get(step, [])]
        simulator.add_job("a", duration=999)
        simulator.add_faults(*faults)
        async with session_with(simulator, auth=token) as session:
            export = asyncio.create_task(
                session.export_orders(
                    destination=tmp_path / "orders.csv",
                    on_created=hang if step == "on_created" else None,
                )
            )
            await asyncio.sleep(5)
            export.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await export
            assert_idle(session)
        note = "The job of this export is a."
        if step == "download":
            note = "Job a has succeeded. To save its file, call download()."
        assert caught.value.__notes__ == [note]

    async def test_exception_of_the_progress_callback_has_a_note(
        self, session: JobsSession, tmp_path: Path
    ) -> None:
        def stop(_received: int, _length: int | None) -> None:
            raise StopError

        with pytest.raises(StopError) as caught:
            await session.export_orders(destination=tmp_path / "orders.csv", progress=stop)
        (job,) = await session.list_jobs()
        assert caught.value.__notes__ == [
            f"Job {job.id} has succeeded. To save its file, call download()."
        ]

    async def test_exception_of_the_rate_limiter_has_a_note(self, simulator: Simulator) -> None:
        class Limiter:
            permits = 1

            async def acquire(self) -> None:
                if not self.permits:
                    raise StopError
                self.permits -= 1

        async with session_with(simulator, rate_limit=Limiter()) as session:
            with pytest.raises(StopError) as caught:
                await session.export_orders()
        async with session_with(simulator) as session:
            (job,) = await session.list_jobs()
        assert caught.value.__notes__ == [f"The job of this export is {job.id}."]

    async def test_exception_of_the_auth_callable_has_no_note(self, simulator: Simulator) -> None:
        tokens = iter(["simulator-token"])

        async def token() -> str:
            try:
                return next(tokens)
            except StopIteration:
                raise StopError from None

        simulator.add_faults(Fault(202, body=job_body("pending")), 401)
        async with session_with(simulator, auth=token) as session:
            with pytest.raises(StopError) as caught:
                await session.export_orders()
        assert not hasattr(caught.value, "__notes__")

    async def test_exception_of_the_rate_limiter_in_a_shared_request_has_no_note(
        self, simulator: Simulator
    ) -> None:
        class Limiter:
            permits = 2

            async def acquire(self) -> None:
                self.permits -= 1
                if self.permits < 0:
                    await asyncio.sleep(1)
                    raise StopError

        async with session_with(simulator, rate_limit=Limiter(), poll_by="list") as session:
            exports = [session.export_orders() for _ in range(2)]
            first, second = await asyncio.gather(*exports, return_exceptions=True)
        assert isinstance(first, StopError)
        assert first is second
        assert not hasattr(first, "__notes__")

    async def test_timeout_of_another_job_in_on_created_has_a_note(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        other = simulator.add_job(duration=999)

        async def wait_for_another(_: Job) -> None:
            await session.wait_for_job(other, timeout=5)

        with pytest.raises(JobTimeoutError) as caught:
            await session.export_orders(on_created=wait_for_another)
        assert caught.value.job_id == other
        assert len(caught.value.__notes__) == 1

    async def test_exception_before_the_creation_has_no_note(self, simulator: Simulator) -> None:
        async with session_with(simulator, rate_limit=HangingLimiter()) as session:
            export = asyncio.create_task(session.export_orders())
            await asyncio.sleep(1)
            export.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await export
        assert not hasattr(caught.value, "__notes__")


@pytest.mark.looptime
@pytest.mark.parametrize(
    "create",
    [JobsSession.create_job, JobsSession.export_orders],
    ids=["create_job", "export_orders"],
)
async def test_creation_is_logged_with_the_id_before_the_first_poll(
    simulator: Simulator,
    session: JobsSession,
    caplog: pytest.LogCaptureFixture,
    create: Callable[[JobsSession], Any],
) -> None:
    with caplog.at_level(logging.INFO, "moltin_jobs"):
        job = await create(session)
    record = caplog.records[0]
    assert (record.levelname, record.name) == ("INFO", "moltin_jobs.http")
    assert record.getMessage() == f"created job {job.id}"
    assert vars(record)["job_id"] == job.id
    assert vars(record)["job_kind"] == "order"


@pytest.mark.looptime
class TestAllowDuplicate:
    @pytest.mark.parametrize("fault", [500, 503, 408, "reset", "lost", "truncate", "garbage"])
    async def test_creation_that_may_have_taken_effect_is_repeated(
        self, simulator: Simulator, session: JobsSession, fault: Any
    ) -> None:
        simulator.add_faults(fault)
        job = await session.create_job(allow_duplicate=True)
        jobs = await session.list_jobs()
        assert job.id in [listed.id for listed in jobs]
        assert len(jobs) == (2 if fault == "lost" else 1)

    async def test_creation_that_fails_each_time_raises_the_last_error(
        self, simulator: Simulator
    ) -> None:
        simulator.add_faults(500, repeat=True)
        async with session_with(simulator, retry=Retry(max_attempts=3)) as session:
            with pytest.raises(MoltinJobsError) as caught:
                await session.create_job(allow_duplicate=True)
        assert len(simulator.requests) == 3
        assert caught.value.retryable

    async def test_rejected_creation_is_not_repeated(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_faults(400)
        with pytest.raises(MoltinJobsError):
            await session.create_job(allow_duplicate=True)
        assert len(simulator.requests) == 1

    @pytest.mark.parametrize("value", [1, None, "yes"])
    async def test_value_that_is_no_bool_is_rejected(
        self, simulator: Simulator, session: JobsSession, value: Any
    ) -> None:
        with pytest.raises(ValueError, match=r"^allow_duplicate must be"):
            await session.create_job(allow_duplicate=value)
        assert simulator.requests == []
