"""What a wait lives through, and what it leaves behind: whole sessions, in virtual time."""

import asyncio
import bisect
import gc
import os
import random
import socket
from collections.abc import Coroutine, Generator
from typing import Any

import aiohttp
import aiohttp.abc
import pytest

from moltin_jobs import (
    ClientCredentials,
    Job,
    JobFailedError,
    JobsSession,
    JobTimeoutError,
    Polling,
    RateLimitError,
)
from moltin_jobs.testing.simulator import Request, Simulator

pytestmark = pytest.mark.looptime

TOKEN = "simulator-token"
CHAOS_WAITS = int(os.environ.get("CHAOS_WAITS", "100"))


def now() -> float:
    return asyncio.get_running_loop().time()


def credentials(simulator: Simulator) -> ClientCredentials:
    return ClientCredentials(simulator.client_id, simulator.client_secret)


def most_in_a_second(requests: list[Request]) -> int:
    times = sorted(request.at for request in requests)
    return max(bisect.bisect_left(times, at + 1) - start for start, at in enumerate(times))


async def test_an_hours_wait_lives_through_all_that_an_hour_brings() -> None:
    polling = Polling(outage=600)

    async def polls_of_an_hour(*, troubled: bool) -> list[Request]:
        random.seed(7)
        async with (
            Simulator(token_lifetime=1500) as simulator,
            JobsSession(credentials(simulator), base_url=simulator.url, polling=polling) as session,
        ):
            simulator.add_job("a", duration=3600)
            wait = asyncio.create_task(session.wait_for_job("a"))
            if troubled:
                await asyncio.sleep(600)
                simulator.spoil(429)
                await asyncio.sleep(300)
                simulator.spoil(*[503] * 15)  # at an interval of 20 s: five minutes
                await asyncio.sleep(900)
                simulator.spoil(429, 429)
                await asyncio.sleep(600)
                simulator.spoil(429)
            assert (await wait).status == "success"
        return simulator.requests

    schedule = [r for r in await polls_of_an_hour(troubled=False) if r.job_id]
    requests = await polls_of_an_hour(troubled=True)
    statuses = [request.status for request in requests if request.job_id]
    assert statuses.count(503) == 15
    assert statuses.count(429) == 4
    assert 401 not in statuses
    assert sum(request.job_id is None for request in requests) == 3
    assert len(statuses) == pytest.approx(len(schedule), rel=0.05)


async def test_a_queue_longer_than_a_tokens_life() -> None:
    async with (
        Simulator(token_lifetime=6, latency=0.05) as simulator,
        JobsSession(credentials(simulator), base_url=simulator.url) as session,
    ):
        ids = [simulator.add_job(statuses=["pending", "started", "success"]) for _ in range(300)]
        jobs = await session.wait_for_jobs(ids)
    assert [job.id for job in jobs] == ids
    refused = sum(request.status == 401 for request in simulator.requests)
    assert refused <= 0.05 * len(simulator.requests)
    assert all(request.status in (200, 401) for request in simulator.requests)


class SlowResolver(aiohttp.abc.AbstractResolver):
    """Takes 200 ms before each new connection."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[aiohttp.abc.ResolveResult]:
        await asyncio.sleep(0.2)
        return [
            {
                "hostname": host,
                "host": "127.0.0.1",
                "port": port,
                "family": family,
                "proto": 0,
                "flags": 0,
            }
        ]

    async def close(self) -> None:
        pass


class TestBudget:
    @pytest.mark.parametrize("connect", [0, 0.2])
    async def test_no_second_at_the_server_sees_more_than_the_rate(self, connect: float) -> None:
        connector = (
            aiohttp.TCPConnector(resolver=SlowResolver(), use_dns_cache=False) if connect else None
        )
        async with (
            Simulator(rate_limit=40) as simulator,
            aiohttp.ClientSession(connector=connector) as http,
            JobsSession(
                credentials(simulator),
                base_url=simulator.url.replace(
                    "127.0.0.1", "localhost" if connect else "127.0.0.1"
                ),
                rate_limit=40,
                http=http,
            ) as session,
        ):
            ids = [simulator.add_job(statuses=["pending"]) for _ in range(130)]
            await session.get_jobs(ids)
            took = now()
        assert len(simulator.requests) == 131
        assert most_in_a_second(simulator.requests) <= 40
        assert all(request.status == 200 for request in simulator.requests)
        assert connect or took < 4

    async def test_resends_and_repeats_are_counted(self) -> None:
        async with (
            Simulator(rate_limit=5) as simulator,
            JobsSession(credentials(simulator), base_url=simulator.url, rate_limit=5) as session,
        ):
            ids = [simulator.add_job(statuses=["pending"]) for _ in range(30)]
            await session.get_jobs(ids[:5])
            simulator.spoil(*["reset"] * 10)
            simulator.revoke_tokens()
            await session.get_jobs(ids)
        assert len(simulator.requests) >= 46
        assert 429 not in [request.status for request in simulator.requests]
        assert most_in_a_second(simulator.requests) <= 5

    async def test_the_budget_is_shared_first_come_first_served(self) -> None:
        async with (
            Simulator() as simulator,
            JobsSession(TOKEN, base_url=simulator.url, rate_limit=10) as session,
        ):
            ids = [simulator.add_job(statuses=["pending"]) for _ in range(300)]
            await session.get_jobs(ids)
        arrived = [request.job_id for request in simulator.requests]
        displaced = [abs(arrived.index(job_id) - place) for place, job_id in enumerate(ids)]
        assert max(displaced) <= 10


class TestPause:
    async def test_fifty_429s_make_one_pause_in_which_nothing_leaves(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with (
            Simulator(rate_limit=None) as simulator,
            JobsSession(TOKEN, base_url=simulator.url, rate_limit=None) as session,
        ):
            ids = [simulator.add_job(statuses=["pending", "success"]) for _ in range(50)]
            simulator.spoil(*[429] * 50)
            await session.wait_for_jobs(ids)
        pauses = [r for r in caplog.records if "nothing is sent" in r.getMessage()]
        assert len(pauses) == 1
        at = [request.at for request in simulator.requests]
        assert [request.status for request in simulator.requests[:50]] == [429] * 50
        assert at[50] - at[49] >= 1
        assert len([moment for moment in at if at[50] <= moment < at[50] + 0.5]) <= 11

    async def test_the_stores_own_limit_slows_the_session_and_loses_nothing(self) -> None:
        async with (
            Simulator(rate_limit=25) as simulator,
            JobsSession(TOKEN, base_url=simulator.url, rate_limit=None) as session,
        ):
            ids = [simulator.add_job(statuses=["pending", "success"]) for _ in range(200)]
            jobs = await session.wait_for_jobs(ids)
        assert [job.id for job in jobs] == ids

    async def test_a_wait_asks_again_after_a_long_retry_after(self) -> None:
        async with (
            Simulator(rate_limit=1) as simulator,
            JobsSession(TOKEN, base_url=simulator.url, rate_limit=None) as session,
        ):
            simulator.add_job("a", ["pending", "success"])
            simulator.spoil(*[429] * 9)
            with pytest.raises(JobTimeoutError) as caught:
                await session.wait_for_job("a", timeout=100)
            assert isinstance(caught.value.last_error, RateLimitError)
            assert (await session.wait_for_job("a")).status == "success"


@pytest.mark.parametrize("rate_limit", [20, None])
async def test_chaos_every_wait_ends_as_its_job_did(rate_limit: int | None) -> None:
    async with (
        Simulator(rate_limit=None, chaos=0.3) as simulator,
        JobsSession(
            credentials(simulator),
            base_url=simulator.url,
            rate_limit=rate_limit,
            # The 429s among the faults slow the session to some ten requests a second: of
            # thousands of waits each then has its turn every few minutes, and three failures in
            # a row are no longer an outage of the service.
            polling=Polling(outage=3600),
        ) as session,
    ):
        to_succeed, to_fail = ["pending", "started", "success"], ["pending", "failed"]
        good = [simulator.add_job(statuses=to_succeed) for _ in range(CHAOS_WAITS * 3 // 4)]
        bad = [simulator.add_job(statuses=to_fail, error="x") for _ in range(CHAOS_WAITS // 4)]
        ended = await session.wait_for_jobs(good + bad, return_exceptions=True)
    assert [job.id for job in ended[: len(good)] if isinstance(job, Job)] == good
    assert [job.job.id for job in ended[len(good) :] if isinstance(job, JobFailedError)] == bad
    spoiled = sum(request.status != 200 for request in simulator.requests)
    assert spoiled >= 0.2 * len(simulator.requests)


class CancelAt:
    """Awaits a coroutine, and cancels its task when it is suspended for the nth time."""

    def __init__(self, coroutine: Coroutine[Any, Any, object], number: int) -> None:
        self._coroutine = coroutine
        self._number = number
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self._coroutine.__await__()
        task = asyncio.current_task()
        assert task is not None
        thrown: BaseException | None = None
        while True:
            try:
                future = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration as end:
                return end.value
            if self.suspensions == self._number:
                asyncio.get_running_loop().call_soon(task.cancel)
            self.suspensions += 1
            thrown = None
            try:
                yield future
            except BaseException as error:  # noqa: BLE001 (it belongs to the coroutine)
                thrown = error


SCENARIOS: dict[str, tuple[Any, ...]] = {
    "plain": (),
    "failing": (500, "truncate", "reset", "garbage"),
    "refused": (401, 429, 401),
    "slow": ("hang", 503, "html"),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_cancelled_at_any_await_nothing_is_left(
    scenario: str, caplog: pytest.LogCaptureFixture
) -> None:
    points = 0
    while points < 50:
        async with Simulator(latency=0.01) as simulator:
            session = JobsSession(
                credentials(simulator), base_url=simulator.url, rate_limit=1, request_timeout=5
            )
            simulator.add_job("a", ["pending", "started", *["processing"] * 30, "success"])
            simulator.add_job("b", ["success"])
            simulator.spoil(*SCENARIOS[scenario], job_id="a")
            other = asyncio.create_task(session.wait_for_job("b"))
            sweep = CancelAt(session.wait_for_job("a", timeout=300), points)
            task = asyncio.ensure_future(sweep)
            ended = (await asyncio.gather(task, return_exceptions=True))[0]
            assert isinstance(ended, asyncio.CancelledError)
            assert (await other).status == "success"
            assert not session._scopes.running
            assert session._transport._connections._value == 100
            await asyncio.sleep(1.1)
            pacer = session._transport._pacer
            assert pacer._slots is not None
            assert pacer._slots._unused + len(pacer._slots._free_at) == 1
            assert pacer._in_line == 0
            assert not pacer._head.locked()
            await session.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        points += 1
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


class TestLikeAnyCoroutine:
    async def test_a_timeout_around_it(self) -> None:
        async with (
            Simulator() as simulator,
            JobsSession(TOKEN, base_url=simulator.url) as session,
        ):
            simulator.add_job("a", ["pending"])
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(5):
                    await session.wait_for_job("a")
            assert type(caught.value) is TimeoutError

    async def test_a_task_group_around_it(self) -> None:
        async with (
            Simulator() as simulator,
            JobsSession(TOKEN, base_url=simulator.url) as session,
        ):
            simulator.add_job("a", ["pending"])
            simulator.add_job("b", ["pending", "failed"])

            async def together() -> None:
                async with asyncio.TaskGroup() as group:
                    group.create_task(session.wait_for_job("a"))
                    group.create_task(session.wait_for_job("b"))

            with pytest.raises(ExceptionGroup) as caught:
                await together()
            assert [type(error) for error in caught.value.exceptions] == [JobFailedError]

    async def test_left_by_an_exception(self) -> None:
        async def leave() -> None:
            async with Simulator() as simulator, JobsSession(TOKEN, base_url=simulator.url) as s:
                simulator.add_job("a", ["pending"])
                waits.append(asyncio.create_task(s.wait_for_job("a")))
                await asyncio.sleep(3)
                raise LookupError

        waits: list[asyncio.Task[Job]] = []
        with pytest.raises(LookupError):
            await leave()
        assert waits[0].done()
        with pytest.raises(RuntimeError, match="was closed"):
            await waits[0]
        assert asyncio.all_tasks() == {asyncio.current_task()}
