"""What waits share: real sockets and virtual time, with jobs that are scripted."""

import asyncio
import gc
import itertools
import json
import logging
import random
import traceback
from typing import Any

import pytest
from aiohttp import web

from moltin_jobs import (
    ConfigurationError,
    Job,
    JobNotFoundError,
    JobsSession,
    JobTimeoutError,
    Polling,
    ServerError,
)
from moltin_jobs._polling.sources import Shared
from moltin_jobs._tasks.operations import Scopes
from moltin_jobs.testing.simulator import Fault, Simulator

pytestmark = pytest.mark.looptime

EXACT = Polling(initial=0.1, factor=1, jitter=0)
STEADY = Polling(initial=2, factor=1, jitter=0)


def session_on(simulator: Simulator, **settings: Any) -> JobsSession:
    settings = {"rate_limit": None} | settings
    return JobsSession("simulator-token", base_url=simulator.url, **settings)


def unlimited(**settings: Any) -> Simulator:
    return Simulator(rate_limit=None, **settings)


def now() -> float:
    return asyncio.get_running_loop().time()


class TestOneJob:
    @pytest.mark.parametrize("jitter", [0, 0.2])
    @pytest.mark.parametrize("latency", [0, 0.03])
    async def test_200_waits_of_one_job_for_a_second(self, jitter: float, latency: float) -> None:
        polling = Polling(initial=0.1, factor=1, jitter=jitter)
        async with unlimited(latency=latency) as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=1)
            jobs = await session.wait_for_jobs(["a"] * 200, polling=polling)
            assert {job.status for job in jobs} == {"success"}
        assert len(simulator.requests) <= 16

    @pytest.mark.parametrize("seed", range(10))
    async def test_199_cancelled_in_any_order_do_not_disturb_the_last(self, seed: int) -> None:
        chance = random.Random(seed)
        async with unlimited(latency=0.03) as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=1)
            waits = [
                asyncio.create_task(session.wait_for_job("a", polling=EXACT)) for _ in range(200)
            ]
            last = waits.pop(chance.randrange(200))
            chance.shuffle(waits)
            for wait in waits:
                await asyncio.sleep(0.9 / 200)
                wait.cancel()
            assert (await last).status == "success"
            assert now() < 1.2
            await asyncio.gather(*waits, return_exceptions=True)
        assert all(wait.cancelled() for wait in waits)

    async def test_a_failure_is_shared_and_hangs_no_one(self) -> None:
        async with unlimited(latency=0.03) as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=0)
            simulator.spoil(403, 403)
            found = await session.wait_for_jobs(["a"] * 50, return_exceptions=True)
        assert {type(one).__name__ for one in found} == {"PermissionDeniedError"}
        assert len({id(one) for one in found}) == 50, "each has its own, for the traceback"
        assert len(simulator.requests) == 2, "of the first, and of all that came later"

    async def test_passing_trouble_is_shared_too(self) -> None:
        async with unlimited() as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=0)
            simulator.spoil(503, "reset", "html")
            jobs = await session.wait_for_jobs(["a"] * 50, polling=EXACT)
            assert {job.status for job in jobs} == {"success"}
        assert len(simulator.requests) <= 6

    async def test_each_keeps_its_own_time(self) -> None:
        async with unlimited() as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=10)
            hasty = asyncio.create_task(session.wait_for_job("a", polling=EXACT, timeout=3))
            patient = asyncio.create_task(session.wait_for_job("a", polling=STEADY, timeout=30))
            with pytest.raises(JobTimeoutError) as caught:
                await hasty
            assert now() == pytest.approx(2.7, abs=0.01), "a tenth before, as the last poll"
            assert caught.value.polls >= 25
            assert (await patient).status == "success"
            assert now() == pytest.approx(10, abs=2)

    async def test_a_hung_request_holds_no_one_who_could_have_asked(self) -> None:
        async with unlimited() as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=0)
            simulator.spoil("hang", "hang")
            owners = [asyncio.create_task(session.wait_for_job("a")) for _ in range(2)]
            await asyncio.sleep(0.3)
            later = [session.wait_for_job("a", timeout=3) for _ in range(50)]
            assert {job.status for job in await asyncio.gather(*later)} == {"success"}
            assert now() == pytest.approx(1, abs=0.01)
            assert len(simulator.requests) == 3
            assert {job.status for job in await asyncio.gather(*owners)} == {"success"}

    async def test_one_that_is_slow_is_not_given_up_for_another(self) -> None:
        async with unlimited(latency=1.5) as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=0)
            waits = [asyncio.create_task(session.wait_for_job("a")) for _ in range(2)]
            await asyncio.sleep(0.3)
            assert (await session.wait_for_job("a")).status == "success"
            assert now() == pytest.approx(1.5, abs=0.01)
            await asyncio.gather(*waits)
        assert len(simulator.requests) == 3

    async def test_whose_time_is_over_takes_no_answer_from_the_others(self) -> None:
        async with unlimited(latency=1.5) as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=0)
            timeouts = [0.5 * number for number in range(1, 9)]
            found = await asyncio.gather(
                *(session.wait_for_job("a", timeout=timeout) for timeout in timeouts),
                return_exceptions=True,
            )
        assert [isinstance(one, Job) for one in found] == [timeout > 1.5 for timeout in timeouts]
        assert len(simulator.requests) == 2

    async def test_a_request_that_nobody_waits_for_ends(self) -> None:
        async with unlimited() as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=0)
            simulator.spoil("hang", "hang")
            waits = [asyncio.create_task(session.wait_for_job("a")) for _ in range(5)]
            await asyncio.sleep(0.5)
            for wait in waits:
                wait.cancel()
            another = asyncio.create_task(session.wait_for_job("a"))
            await asyncio.gather(*waits, return_exceptions=True)
            assert (await another).status == "success", "it joined nothing that was ending"
            assert now() == pytest.approx(0.5, abs=0.01)
            assert session._scopes.running == set()

    async def test_the_last_poll_joins_no_older_request(self) -> None:
        async with unlimited(latency=0.4) as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=7.1)
            timed = asyncio.create_task(
                session.wait_for_job("a", polling=Polling(initial=60, max_interval=60), timeout=8)
            )
            await asyncio.sleep(6.9)
            others = [asyncio.create_task(session.wait_for_job("a")) for _ in range(2)]
            assert (await timed).status == "success"
            assert [request.at for request in simulator.requests][-1] == pytest.approx(7.2)
            await asyncio.gather(*others)

    async def test_an_error_of_the_callers_is_shared_too(self) -> None:
        asked: list[float] = []

        async def vault() -> str:
            asked.append(now())
            await asyncio.sleep(1)
            raise LookupError("sealed")

        async with unlimited() as simulator:
            async with JobsSession(vault, base_url=simulator.url) as session:
                found = await session.wait_for_jobs(["a"] * 50, return_exceptions=True)
        assert {repr(one) for one in found} == {"LookupError('sealed')"}
        assert asked == [0]
        last = found[-1]
        assert isinstance(last, LookupError)
        assert len(traceback.format_tb(last.__traceback__)) < 20, "not of all 50"

    @pytest.mark.parametrize("poll_with", ["id", "list"])
    async def test_closing_ends_those_in_line(self, poll_with: Any) -> None:
        async with unlimited() as simulator, session_on(simulator, poll_with=poll_with) as session:
            simulator.add_job("a", duration=0)
            simulator.spoil(*["hang"] * 10)
            waits = [asyncio.create_task(session.wait_for_job("a")) for _ in range(50)]
            await asyncio.sleep(2)
            await session.close()
            await asyncio.sleep(0)
            assert all(wait.done() for wait in waits)
            for wait in waits:
                with pytest.raises(RuntimeError, match="closed while"):
                    await wait

    async def test_a_slot_is_free_again_whatever_happens(self) -> None:
        async with unlimited() as simulator, session_on(simulator, rate_limit=1) as session:
            simulator.add_job("a", duration=0)
            simulator.spoil("hang", "reset", 503)
            owner = asyncio.create_task(session.wait_for_job("a"))
            await asyncio.sleep(1)
            owner.cancel()
            assert (await session.wait_for_job("a", timeout=20)).status == "success"

    async def test_a_lookup_shares_nothing(self) -> None:
        async with unlimited() as simulator, session_on(simulator) as session:
            simulator.add_job("a", ["pending"])
            await session.get_jobs(["a"] * 5)
        assert len(simulator.requests) == 5

    async def test_nothing_is_kept_of_a_wait_that_ended(self) -> None:
        async with unlimited() as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=0)
            await session.wait_for_job("a")
            gc.collect()
            assert session._lookups._questions == {}
            await session.wait_for_job("a")
        assert len(simulator.requests) == 2

    async def test_the_last_poll_before_a_deadline_is_no_old_answer(self) -> None:
        async with unlimited() as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=8.95)
            # The first wait's answer of 8.9 s is fresh enough for any other poll of the second.
            first = asyncio.create_task(session.wait_for_job("a", polling=EXACT, timeout=8.92))
            second = session.wait_for_job(
                "a", polling=Polling(initial=60, max_interval=60), timeout=10
            )
            assert (await second).status == "success"
            await asyncio.gather(first, return_exceptions=True)


class TestShared:
    async def test_an_answer_as_old_as_allowed(self) -> None:
        asked = itertools.count(1)

        async def ask() -> int:
            await asyncio.sleep(1)
            return next(asked)

        shared = Shared(Scopes(10), ask)
        assert await shared.get(10, last=False) == (1, 1)
        await asyncio.sleep(5)
        assert await shared.get(5.1, last=False) == (1, 1)
        assert await shared.get(5, last=False) == (2, 7)
        assert await shared.get(1.1, last=True) == (2, 7), "asked for 1 s ago"
        assert await shared.get(1, last=True) == (3, 8)
        both = await asyncio.gather(shared.get(0.1, last=True), shared.get(0.1, last=True))
        assert both[0] == both[1] == (4, 9)

    async def test_an_answer_that_was_overtaken_is_not_kept(self) -> None:
        asked = itertools.count(1)

        async def ask() -> int:
            number = next(asked)
            await asyncio.sleep(5 if number == 1 else 0.5)
            return number

        shared = Shared(Scopes(10), ask)
        slow = asyncio.create_task(shared.get(1, last=True))
        await asyncio.sleep(2)
        assert await shared.get(1, last=True) == (2, 2.5)
        assert await slow == (1, 5)
        assert await shared.get(10, last=False) == (2, 2.5)


class TestLists:
    @pytest.mark.parametrize("poll_with", ["list", "auto"])
    async def test_one_list_for_many_waits(self, poll_with: Any) -> None:
        ids = [f"job-{number}" for number in range(50)]
        async with unlimited() as simulator, session_on(simulator, poll_with=poll_with) as session:
            for job_id in ids:
                simulator.add_job(job_id, duration=1)
            jobs = await session.wait_for_jobs(ids, polling=STEADY)
            assert [job.id for job in jobs] == ids
            assert {job.status for job in jobs} == {"success"}
            assert now() == pytest.approx(50, abs=2)
        assert len(simulator.requests) <= 28
        paths = [request.path for request in simulator.requests]
        assert set(paths[poll_with == "auto" :]) == {"/v2/jobs"}, "but for the first of auto's"

    async def test_by_default_none_is_asked_for(self) -> None:
        async with unlimited() as simulator, session_on(simulator) as session:
            simulator.add_job("a", duration=1)
            simulator.add_job("b", duration=1)
            await session.wait_for_jobs(["a", "b"])
        assert "/v2/jobs" not in {request.path for request in simulator.requests}

    async def test_what_it_does_not_name_is_asked_for_by_id(self) -> None:
        def listing(*names: str) -> Fault:
            jobs = [{"id": name.upper(), "status": "success"} for name in names]
            return Fault(body=json.dumps({"data": [*jobs, {"id": "c"}, 5]}).encode())

        async with unlimited() as simulator, session_on(simulator, poll_with="list") as session:
            for job_id in "abc":
                simulator.add_job(job_id, duration=0)
            simulator.spoil(listing("a", "b"))
            jobs = await session.wait_for_jobs(["a", "b", "c"])
        assert [job.status for job in jobs] == ["success"] * 3
        assert [request.path for request in simulator.requests] == ["/v2/jobs", "/v2/jobs/c"]

    async def test_one_that_never_changes_hides_no_end(self) -> None:
        stale = Fault(body=b'{"data": [{"id": "a", "status": "pending"}]}')
        async with unlimited() as simulator, session_on(simulator, poll_with="list") as session:
            simulator.add_job("a", duration=10)
            simulator.spoil(*[stale] * 200)
            # Of a cache on the way: it answers for the list alone.
            wait = asyncio.create_task(session.wait_for_job("a"))
            await asyncio.sleep(140)
            assert not wait.done()
            simulator._faults.clear()
            simulator._list = lambda: _json_of(stale)  # type: ignore[method-assign]
            assert (await wait).status == "success"
            assert now() < 330

    async def test_nor_from_a_wait_with_a_deadline(self) -> None:
        stale = Fault(body=b'{"data": [{"id": "a", "status": "pending"}]}')
        async with unlimited() as simulator, session_on(simulator, poll_with="list") as session:
            simulator.add_job("a", duration=10)
            simulator._list = lambda: _json_of(stale)  # type: ignore[method-assign]
            assert (await session.wait_for_job("a", timeout=60)).status == "success"
            assert now() == pytest.approx(59, abs=0.1)

    @pytest.mark.parametrize("fault", [403, 404, 400])
    async def test_one_that_is_refused_is_let_be_for_a_while(
        self, fault: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "moltin_jobs")
        ids = [f"job-{number}" for number in range(5)]
        async with unlimited() as simulator, session_on(simulator, poll_with="list") as session:
            for job_id in ids:
                simulator.add_job(job_id, duration=10)
            simulator.spoil(fault)
            jobs = await session.wait_for_jobs(ids, polling=STEADY)
            assert {job.status for job in jobs} == {"success"}
        first, second, *_ = [one.at for one in simulator.requests if one.path == "/v2/jobs"]
        assert 30 <= second - first < 35
        assert "jobs are polled by id for 30 s: the list failed: " in caplog.text

    @pytest.mark.parametrize("fault", [503, 429, "html", "reset"])
    async def test_trouble_that_passes_is_no_reason_to_ask_for_each(self, fault: Any) -> None:
        ids = [f"job-{number}" for number in range(50)]
        async with unlimited() as simulator, session_on(simulator, poll_with="list") as session:
            for job_id in ids:
                simulator.add_job(job_id, duration=0)
            simulator.spoil(*[fault] * (2 if fault == "reset" else 1))  # aiohttp asks twice
            jobs = await session.wait_for_jobs(ids, polling=STEADY)
            assert {job.status for job in jobs} == {"success"}
        assert {request.path for request in simulator.requests} == {"/v2/jobs"}
        assert len(simulator.requests) <= 3

    async def test_trouble_that_does_not_pass_is(self) -> None:
        ids = [f"job-{number}" for number in range(5)]
        async with unlimited() as simulator, session_on(simulator, poll_with="list") as session:
            for job_id in ids:
                simulator.add_job(job_id, duration=0)
            simulator._list = lambda: web.Response(status=504)  # type: ignore[method-assign]
            jobs = await session.wait_for_jobs(ids, polling=STEADY)
            assert {job.status for job in jobs} == {"success"}
            assert now() == pytest.approx(4)
        paths = [request.path for request in simulator.requests]
        assert paths[:3] == ["/v2/jobs"] * 3
        assert sorted(paths[3:]) == [f"/v2/jobs/{job_id}" for job_id in ids]

    @pytest.mark.parametrize("poll_with", ["list", "auto"])
    async def test_one_list_just_before_the_deadline_of_many(self, poll_with: Any) -> None:
        polling = Polling(initial=4, factor=1, jitter=0)
        ids = [f"job-{number}" for number in range(200)]
        async with (
            unlimited() as simulator,
            session_on(simulator, poll_with=poll_with, rate_limit=20) as session,
        ):
            for job_id in ids:
                simulator.add_job(job_id, duration=0.025)
            jobs = await session.wait_for_jobs(ids, polling=polling, timeout=6)
            assert {job.status for job in jobs} == {"success"}
        assert len(simulator.requests) <= 4

    async def test_auto_counts_the_waits_that_go_on(self) -> None:
        async with unlimited() as simulator, session_on(simulator, poll_with="auto") as session:
            gone = [f"gone-{number}" for number in range(40)]
            found = await session.wait_for_jobs(gone, return_exceptions=True)
            assert {type(one) for one in found} == {JobNotFoundError}
            never = session.watch_job("never-begun")
            await asyncio.sleep(30)
            before = len(simulator.requests)
            ids = [simulator.add_job(f"a-{number}", ["pending"]) for number in range(20)]
            await asyncio.gather(
                *(session.wait_for_job(job_id, timeout=10, polling=STEADY) for job_id in ids),
                return_exceptions=True,
            )
            asked = [request.path for request in simulator.requests[before:]]
            await never.aclose()
        assert asked.count("/v2/jobs") > 3
        assert len([path for path in asked if path != "/v2/jobs"]) <= 21, "the first, and the last"

    async def test_auto_asks_for_a_lone_job_by_its_id(self) -> None:
        async with unlimited() as simulator, session_on(simulator, poll_with="auto") as session:
            simulator.add_job("a", duration=10)
            await session.wait_for_job("a")
        assert "/v2/jobs" not in {request.path for request in simulator.requests}

    async def test_auto_leaves_a_list_that_names_few(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "moltin_jobs")
        few = Fault(body=b'{"data": [{"id": "a", "status": "started"}]}')
        async with unlimited() as simulator, session_on(simulator, poll_with="auto") as session:
            for job_id in "abc":
                simulator.add_job(job_id, duration=5)
            simulator._list = lambda: _json_of(few)  # type: ignore[method-assign]
            await session.wait_for_jobs(["a", "b", "c"], polling=STEADY)
        assert [request.path for request in simulator.requests].count("/v2/jobs") == 1
        assert "the list names 1 of 3 in 44 bytes" in caplog.text

    async def test_auto_leaves_a_list_that_is_large(self) -> None:
        async with unlimited() as simulator, session_on(simulator, poll_with="auto") as session:
            for job_id in "ab":
                simulator.add_job(job_id, duration=5)
            body = json.dumps({"data": [{"id": one, "status": "pending"} for one in "ab"]})
            large = Fault(body=body.encode() + b" " * 2**20)
            simulator._list = lambda: _json_of(large)  # type: ignore[method-assign]
            await session.wait_for_jobs(["a", "b"], polling=STEADY)
        assert [request.path for request in simulator.requests].count("/v2/jobs") == 1

    async def test_a_job_that_is_gone_ends_its_wait(self) -> None:
        async with unlimited() as simulator, session_on(simulator, poll_with="list") as session:
            simulator.add_job("a", duration=5)
            with pytest.raises(JobNotFoundError):
                await session.wait_for_job("nowhere")
            assert (await session.wait_for_job("a")).status == "success"

    async def test_where_all_fails_the_wait_says_why(self) -> None:
        polling = Polling(initial=1, outage=60)
        async with unlimited() as simulator, session_on(simulator, poll_with="list") as session:
            simulator.spoil(*[503] * 500)
            with pytest.raises(ServerError, match=r"^job a: "):
                await session.wait_for_job("a", polling=polling)

    async def test_chaos(self) -> None:
        ids = [f"job-{number}" for number in range(40)]
        polling = Polling(initial=1, max_interval=5, outage=None)
        async with (
            unlimited(chaos=0.2, seed=3) as simulator,
            session_on(simulator, poll_with="auto") as session,
        ):
            for job_id in ids:
                simulator.add_job(job_id, duration=2)
            jobs = await session.wait_for_jobs(ids, polling=polling)
        assert {type(job) for job in jobs} == {Job}
        assert {job.status for job in jobs} == {"success"}

    @pytest.mark.parametrize("value", ["ids", None, 1])
    def test_another_word_is_refused(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match="poll_with must be 'id', 'list' or 'auto'"):
            JobsSession("token", poll_with=value)


def _json_of(fault: Fault) -> Any:
    return web.Response(body=fault.body)
