"""Outcomes of many waits as each wait ends, over real sockets and in virtual time."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from moltin_jobs import (
    ConfigurationError,
    InvalidJobIdError,
    Job,
    JobFailedError,
    JobNotFoundError,
    JobsSession,
    JobTimeoutError,
    Polling,
    SessionClosedError,
)
from moltin_jobs.testing import Simulator
from tests.service_paths import PATHS
from tests.sessions import assert_idle, session_with

pytestmark = pytest.mark.looptime

UUID = "974c9db4-38da-4dbf-90c2-33eed5f3e77c"


@pytest.fixture
async def session(simulator: Simulator) -> AsyncIterator[JobsSession]:
    """A session without a rate limit, so that the order of the outcomes is that of the ends."""
    async with session_with(simulator, rate_limit=None) as session:
        yield session


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def test_outcomes_are_given_in_the_order_of_the_ends(
    simulator: Simulator, session: JobsSession
) -> None:
    ids = [simulator.add_job(duration=60) for _ in range(3)]
    async with session.as_completed(reversed(ids)) as outcomes:
        seen = [(item, outcome) async for item, outcome in outcomes]
    assert [item for item, _ in seen] == ids
    assert [job.id for _, job in seen if isinstance(job, Job) and job.is_terminal] == ids


async def test_each_element_is_given_unchanged_duplicates_included(
    simulator: Simulator, session: JobsSession
) -> None:
    for job_id in ("a", UUID):
        simulator.add_job(job_id, ["success"])
    items: list[str | uuid.UUID | Job] = ["a", uuid.UUID(UUID), Job(id="a", status="pending"), "a"]
    async with session.as_completed(items) as outcomes:
        seen = [item async for item, _ in outcomes]
    assert sorted(map(id, seen)) == sorted(map(id, items))


async def test_errors_of_single_jobs_are_outcomes(
    simulator: Simulator, session: JobsSession
) -> None:
    simulator.add_job("good", ["success"])
    simulator.add_job("bad", ["failed"], error="out of disk")
    simulator.add_job("slow", ["pending"])
    jobs: list[Any] = ["good", "bad", "slow", "nowhere", "..", Job(id="a", kind="x", status="")]
    async with session.as_completed(jobs, timeout=60) as outcomes:
        assert [watch.job_id for watch in outcomes.watches] == jobs[:4]
        found = {id(item): type(outcome) async for item, outcome in outcomes}
    assert [found[id(item)] for item in jobs] == [
        Job,
        JobFailedError,
        JobTimeoutError,
        JobNotFoundError,
        InvalidJobIdError,
        ConfigurationError,
    ]
    assert loop_time() == pytest.approx(60, abs=1)


async def test_jobs_of_all_kinds_can_be_mixed(simulator: Simulator, session: JobsSession) -> None:
    jobs = [
        Job(id=simulator.add_job(kind=kind, duration=5), kind=kind, status="pending")
        for kind in PATHS
    ]
    async with session.as_completed(jobs) as outcomes:
        ended = {outcome.kind async for _, outcome in outcomes if isinstance(outcome, Job)}
    assert ended == set(PATHS)


async def test_kind_and_polling_apply_to_all_waits(
    simulator: Simulator, session: JobsSession
) -> None:
    ids = [simulator.add_job(kind="pxm", duration=100) for _ in range(2)]
    polling = Polling(initial_interval=50, multiplier=1, max_interval=50, jitter=0)
    async with session.as_completed(ids, kind="pxm", polling=polling) as outcomes:
        assert [item async for item, _ in outcomes] == ids
    assert len(simulator.requests) == 3 + 5  # at 0, 50, 100 and at 0, 50, 100, 150, 200


@pytest.mark.no_cover  # coverage would multiply its time
async def test_thousand_waits_left_by_break_after_ten_leave_nothing(
    simulator: Simulator, session: JobsSession
) -> None:
    ids = [simulator.add_job(duration=1) for _ in range(1000)]
    async with session.as_completed(ids) as outcomes:
        seen = []
        async for job_id, _ in outcomes:
            seen.append(job_id)
            if len(seen) == 10:
                break
        assert session.stats().waits == 990
        assert session.stats().tasks >= 990
    assert_idle(session)
    assert len(asyncio.all_tasks()) == 1 + len(simulator_tasks())
    polls = session.stats().polls
    await asyncio.sleep(60)
    assert session.stats().polls == polls


def simulator_tasks() -> set[asyncio.Task[Any]]:
    """Return the tasks of the simulator, one for each idle connection."""
    return {task for task in asyncio.all_tasks() if "RequestHandler" in repr(task.get_coro())}


@pytest.mark.parametrize("ending", ["exception", "cancellation"])
async def test_block_that_ends_early_leaves_nothing(
    simulator: Simulator, session: JobsSession, ending: str
) -> None:
    ids = [simulator.add_job(duration=30) for _ in range(5)]

    async def wait() -> None:
        async with session.as_completed(ids) as outcomes:
            async for _ in outcomes:
                if ending == "exception":
                    raise ZeroDivisionError
                await asyncio.sleep(999)

    task = asyncio.create_task(wait())
    await asyncio.sleep(40)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == (ending == "cancellation")
    assert_idle(session)


async def test_close_does_not_wait_for_the_block_and_ends_the_iteration(
    simulator: Simulator, session: JobsSession
) -> None:
    async with session.as_completed([simulator.add_job(duration=60)]) as outcomes:
        await asyncio.sleep(5)
        await session.close()
        assert_idle(session)
        with pytest.raises(SessionClosedError):
            await anext(outcomes)
    with pytest.raises(SessionClosedError):
        session.as_completed(["a"])


async def test_close_during_the_iteration_raises(
    simulator: Simulator, session: JobsSession
) -> None:
    async with session.as_completed([simulator.add_job(duration=60)]) as outcomes:
        step = asyncio.ensure_future(anext(outcomes))
        await asyncio.sleep(5)
        await session.close()
        with pytest.raises(SessionClosedError):
            await step


async def test_exception_of_the_auth_callable_is_raised_after_the_waits_have_ended(
    simulator: Simulator,
) -> None:
    ids = [simulator.add_job(duration=60) for _ in range(3)]

    async def token() -> str:
        raise LookupError("no vault")

    async with (
        session_with(simulator, auth=token) as session,
        session.as_completed(ids) as outcomes,
    ):
        with pytest.raises(LookupError, match="no vault"):
            await anext(outcomes)
        assert_idle(session)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"jobs": "abc"}, TypeError, "expected an iterable"),
        ({"jobs": [], "timeout": -1}, ConfigurationError, "timeout must be"),
        ({"jobs": [], "polling": 5}, ConfigurationError, "polling must be"),
        ({"jobs": [], "kind": "x"}, ConfigurationError, "kind must be"),
    ],
)
async def test_invalid_argument_is_rejected_at_once(
    session: JobsSession, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        session.as_completed(**arguments)
