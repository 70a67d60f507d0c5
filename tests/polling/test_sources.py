"""Sources of polls: shared requests for a job, and lists. In virtual time."""

import asyncio
import datetime
import json
import logging
import math
import random
import traceback
from typing import Any

import pytest

from moltin_jobs import (
    ConfigurationError,
    InvalidResponseError,
    Job,
    JobNotFoundError,
    JobsSession,
    JobTimeoutError,
    PermissionDeniedError,
    Polling,
    ServerError,
    SessionClosedError,
)
from moltin_jobs._polling.sources import IdSource, ListSnapshot, ListSource, Poll, Snapshot
from moltin_jobs._tasks.operations import Operation, Operations
from moltin_jobs.testing.simulator import Fault, Simulator

from .conftest import OpenSession

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("task_factory")]

EVERY_100_MS = Polling(initial_interval=0.1, multiplier=1, jitter=0)
EVERY_2_S = Polling(initial_interval=2, multiplier=1, jitter=0)
RARE = Polling(initial_interval=60, max_interval=60, jitter=0)
MIB = 1 << 20


def now() -> float:
    return asyncio.get_running_loop().time()


class Service:
    """Scripted service: the functions that the sources call, and a log of the requests."""

    def __init__(self, **statuses: str) -> None:
        self.statuses = statuses
        self.listed: dict[str, str] | None = None
        """Jobs of the list, if they differ from ``statuses``."""
        self.size = 1000
        self.list_error: Exception | None = None
        self.job_error: Exception | None = None
        self.latency = 0.0
        self.requests: list[str] = []
        self.fetched: list[tuple[str, Snapshot | None]] = []
        self.operations = Operations()
        self.by_id = IdSource(self.operations, self.fetch_job)
        self.by_list = ListSource(self.operations, self.fetch_job, self.fetch_list)
        for job_id in statuses:
            self.by_id.add(job_id)
            self.by_list.add(job_id)

    async def fetch_job(self, job_id: str, previous: Snapshot | None) -> Snapshot:
        self.fetched.append((job_id, previous))
        self.requests.append(job_id)
        await self._respond(self.job_error)
        return Snapshot(Job(id=job_id, status=self.statuses[job_id]), now())

    async def fetch_list(self) -> ListSnapshot:
        self.requests.append("list")
        await self._respond(self.list_error)
        listed = self.statuses if self.listed is None else self.listed
        jobs = [Job(id=job_id, status=status) for job_id, status in listed.items()]
        fingerprint = hash(tuple(listed.items()))
        return ListSnapshot(
            jobs, now(), self.size, fingerprint, datetime.datetime.now(datetime.UTC)
        )

    async def _respond(self, error: Exception | None) -> None:
        with Operation(self.operations):
            await asyncio.sleep(self.latency)
        if error is not None:
            raise error

    async def poll(
        self,
        job_id: str = "a",
        *,
        previous: Snapshot | None = None,
        deadline: float = math.inf,
        fresh_after: float = math.inf,
        is_final: bool = False,
        source: IdSource | ListSource | None = None,
    ) -> str:
        """Poll once, by default by a request that starts now. Return the status."""
        poll = Poll(job_id, previous, fresh_after, is_final, fresh_after if is_final else -math.inf)
        with Operation(self.operations, deadline):
            return (await (source or self.by_list).fetch(poll)).job.status

    async def requests_of(self, *job_ids: str) -> list[str]:
        """Poll jobs one after the other. Return the requests for them."""
        before = len(self.requests)
        for job_id in job_ids:
            await self.poll(job_id)
        return self.requests[before:]


class TestIdSource:
    async def test_lone_wait_passes_its_previous_snapshot(self) -> None:
        service = Service(a="pending")
        previous = Snapshot(Job(id="a", status="pending"), 0)
        await service.poll(source=service.by_id, previous=previous)
        assert service.fetched == [("a", previous)]
        assert service.operations.tasks == set()

    async def test_waits_for_one_job_share_a_request(self) -> None:
        service = Service(a="pending")
        service.by_id.add("a")
        service.latency = 1
        polls = [service.poll(source=service.by_id, deadline=deadline) for deadline in (5, 9)]
        assert await asyncio.gather(*polls) == ["pending"] * 2
        assert service.fetched == [("a", None)]

    async def test_shared_request_leaves_a_wait_at_its_deadline(self) -> None:
        service = Service(a="pending")
        service.by_id.add("a")
        service.latency = 10
        polls = [service.poll(source=service.by_id, deadline=deadline) for deadline in (5, 99)]
        outcomes = await asyncio.gather(*polls, return_exceptions=True)
        assert isinstance(outcomes[0], TimeoutError)
        assert outcomes[1] == "pending"
        assert service.requests == ["a"]

    async def test_recent_result_serves_another_poll(self) -> None:
        service = Service(a="pending")
        service.by_id.add("a")
        await asyncio.sleep(3)
        await service.poll(source=service.by_id)
        await asyncio.sleep(2)
        await service.poll(source=service.by_id, fresh_after=3)
        assert service.requests == ["a"]
        await service.poll(source=service.by_id, fresh_after=3.1)
        assert service.requests == ["a", "a"]

    async def test_last_poll_starts_beside_an_earlier_request_in_flight(self) -> None:
        service = Service(a="pending")
        service.by_id.add("a")
        service.latency = 10
        first = asyncio.create_task(service.poll(source=service.by_id))
        await asyncio.sleep(5)
        last = [
            asyncio.create_task(service.poll(source=service.by_id, fresh_after=4.9, is_final=True))
            for _ in range(3)
        ]
        joining = asyncio.create_task(service.poll(source=service.by_id))
        await asyncio.wait([first, *last, joining])
        assert service.requests == ["a", "a"]
        assert now() == 15

    async def test_result_is_not_kept_when_the_last_wait_has_ended(self) -> None:
        service = Service(a="pending")
        service.by_id.add("a")
        await service.poll(source=service.by_id)
        service.by_id.remove("a")
        service.by_id.remove("a")
        assert service.by_id.waits == {}
        service.by_id.add("a")
        service.by_id.add("a")
        await service.poll(source=service.by_id, fresh_after=-math.inf)
        assert service.requests == ["a", "a"]


class TestListSource:
    async def test_one_list_serves_all_waits_that_are_due(self) -> None:
        service = Service(**{f"job-{number}": str(number) for number in range(50)})
        service.latency = 1
        polls = [service.poll(job_id) for job_id in service.statuses]
        assert await asyncio.gather(*polls) == list(service.statuses.values())
        assert service.requests == ["list"]

    async def test_job_that_the_list_does_not_name_is_polled_by_id(self) -> None:
        service = Service(a="pending", b="pending", c="success")
        service.listed = {"a": "pending", "b": "pending"}
        assert await service.poll("c") == "success"
        assert service.requests == ["list", "c"]

    async def test_exact_id_has_precedence_over_another_case(self) -> None:
        service = Service(a="1", A="2")
        service.listed = {"A": "2", "a": "1"}
        assert [await service.poll(job_id) for job_id in "aA"] == ["1", "2"]
        assert set(service.requests) == {"list"}

    async def test_id_that_the_list_names_in_another_case_is_polled_by_id(self) -> None:
        service = Service(abc="pending", ABC="failed")
        service.listed = {"ABC": "failed"}
        assert [await service.poll(job_id) for job_id in ("abc", "ABC")] == ["pending", "failed"]
        assert service.requests == ["list", "abc", "list"]

    async def test_uuid_may_be_in_another_case_than_in_the_list(self) -> None:
        job_id = "3F2504E0-4F89-41D3-9A0C-0305E82C3301"
        service = Service(**{job_id: "pending"})
        service.listed = {job_id.lower(): "success"}
        assert await service.poll(job_id) == "success"
        assert service.requests == ["list"]

    async def test_list_that_is_older_than_the_latest_does_not_replace_it(self) -> None:
        service = Service(a="pending")
        service.latency = 10
        slow = asyncio.create_task(service.poll())
        await asyncio.sleep(1)
        service.latency = 1
        service.statuses["a"] = "success"
        assert await service.poll(is_final=True, fresh_after=0.9) == "success"
        service.statuses["a"] = "pending"  # what the earlier request will receive
        await slow
        assert await service.poll(fresh_after=0.5) == "success"

    async def test_closed_session_is_no_failure_of_the_list(self) -> None:
        service = Service(a="pending")
        service.list_error = SessionClosedError()
        for _ in range(4):
            with pytest.raises(SessionClosedError):
                await service.poll()
        assert service.requests == ["list"] * 4

    async def test_list_that_changes_during_a_failed_check_is_not_checked_again(self) -> None:
        service = Service(a="pending")
        await service.poll()
        await asyncio.sleep(300)
        service.job_error = ServerError(503, "job a")
        service.latency = 2
        check = asyncio.create_task(service.poll())
        await asyncio.sleep(3)  # the list has not changed, and the request by id is in flight
        service.statuses["a"] = "started"
        service.latency = 0
        assert await service.poll() == "started"
        with pytest.raises(ServerError):
            await check
        assert await service.requests_of("a") == ["list"]

    async def test_retry_after_of_a_list_holds_for_polls_by_id_too(self) -> None:
        service = Service(a="pending")
        service.list_error = ServerError(503, "the list of jobs", retry_after=3)
        for _ in range(3):
            with pytest.raises(ServerError):
                await service.poll()
        assert await service.requests_of("a") == ["a"]

    async def test_list_that_fails_not_retryably_is_replaced_for_thirty_seconds(self) -> None:
        service = Service(a="pending", b="pending")
        service.list_error = PermissionDeniedError(403, "the list of jobs")
        assert await service.requests_of("a", "b") == ["list", "a", "b"]
        await asyncio.sleep(29.9)
        assert await service.requests_of("a") == ["a"]
        await asyncio.sleep(0.1)
        service.list_error = None
        assert await service.requests_of("a", "b") == ["list", "list"]

    async def test_list_that_fails_three_times_in_a_row_is_replaced_for_thirty_seconds(
        self,
    ) -> None:
        service = Service(a="pending")
        service.list_error = ServerError(503, "the list of jobs")
        for _ in range(2):
            with pytest.raises(ServerError):
                await service.poll()
        assert await service.poll() == "pending"
        assert service.requests == ["list", "list", "list", "a"]
        await asyncio.sleep(30)
        assert await service.requests_of("a") == ["list", "a"]

    async def test_list_that_succeeds_between_failures_is_not_replaced(self) -> None:
        service = Service(a="pending")
        for _ in range(3):
            service.list_error = ServerError(503, "the list of jobs")
            for _ in range(2):
                with pytest.raises(ServerError):
                    await service.poll()
            service.list_error = None
            assert await service.poll() == "pending"
        assert set(service.requests) == {"list"}

    @pytest.mark.parametrize(
        ("listed", "expected"),
        [("abc", ["list"]), ("ab", ["list"]), ("a", ["a"])],
        ids=["most", "half", "fewer"],
    )
    async def test_list_that_names_fewer_than_half_of_the_jobs_is_replaced(
        self, listed: str, expected: list[str]
    ) -> None:
        service = Service(a="pending", b="pending", c="pending", d="pending")
        service.listed = dict.fromkeys(listed, "pending")
        assert (await service.requests_of("a"))[0] == "list"
        assert await service.requests_of("a") == expected
        await asyncio.sleep(30)
        assert (await service.requests_of("a"))[0] == "list"

    async def test_list_without_waits_is_not_judged(self) -> None:
        service = Service(a="pending")
        service.latency = 1
        poll = asyncio.create_task(service.poll())
        await asyncio.sleep(0.5)
        service.by_list.remove("a")
        service.listed = {}
        await poll
        assert await service.requests_of("a") == ["list", "a"]

    @pytest.mark.parametrize(("size", "expected"), [(MIB, ["list"]), (MIB + 1, ["a"])])
    async def test_list_over_a_mebibyte_is_used_once_and_replaced(
        self, size: int, expected: list[str]
    ) -> None:
        service = Service(a="pending")
        service.size = size
        assert await service.requests_of("a") == ["list"]
        assert await service.requests_of("a") == expected
        await asyncio.sleep(30)
        assert await service.requests_of("a") == ["list"]

    async def test_last_poll_is_by_id_unless_the_list_shows_the_end(self) -> None:
        service = Service(a="success", b="failed", c="success")
        service.listed = {"a": "pending", "b": "failed", "c": "success"}
        statuses = [await service.poll(job_id, is_final=True) for job_id in "abc"]
        assert statuses == ["success", "failed", "success"]
        assert service.requests == ["list", "a", "list", "list"]

    async def test_last_poll_is_by_id_when_the_list_fails(self) -> None:
        service = Service(a="success")
        service.list_error = ServerError(503, "the list of jobs")
        assert await service.poll(is_final=True) == "success"
        assert service.requests == ["list", "a"]

    async def test_last_poll_joins_no_list_that_started_earlier(self) -> None:
        service = Service(a="success")
        service.latency = 10
        first = asyncio.create_task(service.poll())
        await asyncio.sleep(5)
        assert await service.poll(is_final=True, fresh_after=4.9) == "success"
        await first
        assert service.requests == ["list", "list"]

    async def test_list_that_hangs_ends_at_the_deadline_of_the_poll(self) -> None:
        service = Service(a="pending")
        service.latency = 1e9
        with pytest.raises(TimeoutError):
            await service.poll(deadline=5)
        assert now() == 5
        await asyncio.sleep(0.001)
        assert service.operations.tasks == set()

    async def test_error_of_an_auth_callable_is_no_failure_of_the_list(self) -> None:
        service = Service(a="pending")
        service.list_error = LookupError("sealed")
        for _ in range(4):
            with pytest.raises(LookupError):
                await service.poll()
        assert service.requests == ["list"] * 4

    async def test_error_by_id_after_a_failed_list_has_no_context(self) -> None:
        service = Service(a="pending")
        service.list_error = PermissionDeniedError(403, "the list of jobs")
        service.job_error = PermissionDeniedError(403, "job a")
        with pytest.raises(PermissionDeniedError, match=r"^job a: ") as caught:
            await service.poll()
        assert caught.value.__context__ is None

    async def test_closing_is_no_failure_of_the_list(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "moltin_jobs")
        service = Service(a="pending")
        service.latency = 10
        poll = asyncio.create_task(service.poll())
        await asyncio.sleep(1)
        service.operations.close()
        await service.operations.wait_until_idle()
        with pytest.raises(SessionClosedError, match="during this call") as caught:
            await poll
        assert caught.value.__context__ is None
        assert service.requests == ["list"]
        assert caplog.records == []

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"list_error": PermissionDeniedError(403, "x")}, "failed: x: the service responded"),
            ({"size": 2 * MIB}, "has 2097152 bytes"),
            ({"listed": {"a": "pending"}}, "names 1 of 3 jobs"),
        ],
        ids=["failed", "large", "few"],
    )
    async def test_replacement_of_the_list_is_logged_with_its_reason(
        self, caplog: pytest.LogCaptureFixture, change: dict[str, Any], reason: str
    ) -> None:
        caplog.set_level(logging.INFO, "moltin_jobs")
        service = Service(a="pending", b="pending", c="pending")
        for name, value in change.items():
            setattr(service, name, value)
        await service.requests_of("a", "a", "b")
        (record,) = caplog.records
        assert record.levelname == "INFO"
        assert record.getMessage().startswith(f"polling by id for 30 s: the list {reason}")


class TestUnchangedList:
    async def listed_service(self) -> Service:
        """Return a service whose list was requested at 0 s and does not change."""
        service = Service(a="pending", b="pending")
        await service.poll()
        service.requests.clear()
        return service

    async def test_unchanged_list_is_checked_once_in_300_s_by_one_job(self) -> None:
        service = await self.listed_service()
        await asyncio.sleep(299)
        assert await service.requests_of("a", "b") == ["list", "list"]
        await asyncio.sleep(1)
        assert await service.requests_of("b", "a", "b") == ["list", "b", "list", "list"]
        await asyncio.sleep(299)
        assert await service.requests_of("a", "b") == ["list", "list"]
        await asyncio.sleep(1)
        assert await service.requests_of("a", "b") == ["list", "a", "list"]

    async def test_list_that_has_changed_is_not_checked(self) -> None:
        service = await self.listed_service()
        await asyncio.sleep(200)
        service.statuses["b"] = "started"
        await service.poll()
        await asyncio.sleep(299)
        service.requests.clear()
        assert await service.requests_of("a", "b") == ["list", "list"]

    async def test_outdated_list_is_replaced_for_thirty_seconds(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = await self.listed_service()
        caplog.set_level(logging.INFO, "moltin_jobs")
        service.listed = dict(service.statuses)
        service.statuses["a"] = "success"
        await asyncio.sleep(300)
        assert await service.poll("a") == "success"
        assert service.requests == ["list", "a"]
        assert await service.requests_of("a", "b") == ["a", "b"]
        await asyncio.sleep(30)
        assert await service.requests_of("b") == ["list"]
        assert "polling by id for 30 s: the list is outdated" in caplog.text

    async def test_check_that_fails_raises_its_error(self) -> None:
        service = await self.listed_service()
        await asyncio.sleep(300)
        service.job_error = ServerError(503, "job a")
        with pytest.raises(ServerError, match=r"^job a: "):
            await service.poll()

    async def test_check_that_fails_is_repeated_by_the_next_poll(self) -> None:
        service = await self.listed_service()
        await asyncio.sleep(300)
        service.job_error = ServerError(503, "job a")
        with pytest.raises(ServerError):
            await service.poll()
        service.job_error = None
        service.requests.clear()
        assert await service.requests_of("b", "a") == ["list", "b", "list"]


class TestWaitsForOneJob:
    @pytest.mark.parametrize("jitter", [0, 0.2])
    @pytest.mark.parametrize("latency", [0, 0.03])
    async def test_two_hundred_waits_cost_about_as_much_as_one(
        self, jitter: float, latency: float
    ) -> None:
        polling = Polling(initial_interval=0.1, multiplier=1, jitter=jitter)
        async with (
            Simulator(rate_limit=None, latency=latency) as simulator,
            JobsSession(simulator.token, base_url=simulator.url, rate_limit=None) as session,
        ):
            simulator.add_job("a", duration=1)
            jobs = await session.wait_for_jobs(["a"] * 200, polling=polling)
        assert {job.status for job in jobs} == {"success"}
        assert len(simulator.requests) <= 16

    @pytest.mark.parametrize("seed", range(10))
    async def test_cancelled_waits_do_not_disturb_the_last(self, seed: int) -> None:
        rng = random.Random(seed)
        async with (
            Simulator(rate_limit=None, latency=0.03) as simulator,
            JobsSession(simulator.token, base_url=simulator.url, rate_limit=None) as session,
        ):
            simulator.add_job("a", duration=1)
            waits = [
                asyncio.create_task(session.wait_for_job("a", polling=EVERY_100_MS))
                for _ in range(200)
            ]
            last = waits.pop(rng.randrange(200))
            rng.shuffle(waits)
            for wait in waits:
                await asyncio.sleep(0.9 / 200)
                wait.cancel()
            assert (await last).status == "success"
            assert now() < 1.2
            await asyncio.wait(waits)
            assert all(wait.cancelled() for wait in waits)
            assert (session.stats().tasks, session.stats().waits) == (0, 0)

    async def test_failure_fails_each_wait_with_an_error_of_its_own(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        simulator.add_job("a", duration=0)
        simulator.add_faults(403, 403)
        errors = await open_session().wait_for_jobs(["a"] * 50, return_exceptions=True)
        assert {type(error) for error in errors} == {PermissionDeniedError}
        assert len({id(error) for error in errors}) == 50
        assert len(simulator.requests) == 2, "one for the first wait, one for all later ones"

    async def test_retryable_failure_is_shared(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        simulator.add_job("a", duration=0)
        simulator.add_faults(503, "reset", "html")
        jobs = await open_session().wait_for_jobs(["a"] * 50, polling=EVERY_100_MS)
        assert {job.status for job in jobs} == {"success"}
        assert len(simulator.requests) <= 6

    async def test_each_wait_keeps_its_own_intervals_and_timeout(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        session = open_session()
        simulator.add_job("a", duration=10)
        hasty = session.watch_job("a", polling=EVERY_100_MS, timeout=3)
        hasty_wait = asyncio.create_task(hasty.wait())
        patient = asyncio.create_task(session.wait_for_job("a", polling=EVERY_2_S, timeout=30))
        with pytest.raises(JobTimeoutError) as caught:
            await hasty_wait
        assert now() == pytest.approx(2.7, abs=0.01)
        assert caught.value.polls == hasty.polls >= 25
        assert (await patient).status == "success"
        assert now() == pytest.approx(10, abs=2)

    async def test_wait_that_starts_later_joins_the_request_in_flight(self) -> None:
        async with (
            Simulator(rate_limit=None, latency=1.5) as simulator,
            JobsSession(simulator.token, base_url=simulator.url, rate_limit=None) as session,
        ):
            simulator.add_job("a", duration=0)
            waits = [asyncio.create_task(session.wait_for_job("a")) for _ in range(2)]
            await asyncio.sleep(0.3)
            assert (await session.wait_for_job("a")).status == "success"
            assert now() == pytest.approx(1.5, abs=0.01)
            await asyncio.wait(waits)
        assert len(simulator.requests) == 2

    async def test_wait_whose_timeout_is_over_takes_no_response_from_the_others(self) -> None:
        timeouts = [0.5 * number for number in range(1, 9)]
        async with (
            Simulator(rate_limit=None, latency=1.5) as simulator,
            JobsSession(simulator.token, base_url=simulator.url, rate_limit=None) as session,
        ):
            simulator.add_job("a", duration=0)
            outcomes = await asyncio.gather(
                *(session.wait_for_job("a", timeout=timeout) for timeout in timeouts),
                return_exceptions=True,
            )
        assert [isinstance(outcome, Job) for outcome in outcomes] == [
            timeout > 1.5 for timeout in timeouts
        ]
        assert len(simulator.requests) == 2

    async def test_request_that_no_wait_needs_is_cancelled(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        session = open_session()
        simulator.add_job("a", duration=0)
        simulator.add_faults("hang", "hang")
        waits = [asyncio.create_task(session.wait_for_job("a")) for _ in range(5)]
        await asyncio.sleep(0.5)
        assert session.stats().tasks == 1
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)
        assert (await session.wait_for_job("a")).status == "success"
        assert now() == pytest.approx(0.5, abs=0.01)
        assert session.stats().tasks == session.stats().requests_in_flight == 0

    async def test_last_poll_starts_beside_the_request_of_another_wait(self) -> None:
        async with (
            Simulator(rate_limit=None, latency=0.4) as simulator,
            JobsSession(simulator.token, base_url=simulator.url, rate_limit=None) as session,
        ):
            simulator.add_job("a", duration=7.1)
            timed = asyncio.create_task(session.wait_for_job("a", polling=RARE, timeout=8))
            await asyncio.sleep(6.9)
            others = [asyncio.create_task(session.wait_for_job("a")) for _ in range(2)]
            assert (await timed).status == "success"
            assert simulator.requests[-1].at == pytest.approx(7.2)
            await asyncio.wait(others)

    async def test_last_poll_takes_no_result_from_before(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        session = open_session()
        simulator.add_job("a", duration=8.95)
        # The result of 8.9 s is recent enough for any other poll of the second wait.
        first = asyncio.create_task(session.wait_for_job("a", polling=EVERY_100_MS, timeout=8.92))
        assert (await session.wait_for_job("a", polling=RARE, timeout=10)).status == "success"
        await asyncio.wait([first])

    async def test_error_of_an_auth_callable_is_shared_with_a_short_traceback(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        called_at: list[float] = []

        async def get_token() -> str:
            called_at.append(now())
            await asyncio.sleep(1)
            raise LookupError("sealed")

        session = open_session(auth=get_token)
        errors = await session.wait_for_jobs(["a"] * 50, return_exceptions=True)
        assert {repr(error) for error in errors} == {"LookupError('sealed')"}
        assert called_at == [0]
        assert isinstance(errors[-1], LookupError)
        assert len(traceback.format_tb(errors[-1].__traceback__)) < 25

    async def test_lookups_share_no_request(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        simulator.add_job("a", ["pending"])
        await open_session().get_jobs(["a"] * 5)
        assert len(simulator.requests) == 5

    async def test_wait_after_another_has_ended_sends_a_request(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        session = open_session()
        simulator.add_job("a", duration=0)
        for _ in range(2):
            await session.wait_for_jobs(["a"] * 2)
        assert len(simulator.requests) == 4
        assert session.stats().waits == 0

    async def test_wait_after_a_cancelled_one_gets_its_slot(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        session = open_session(rate_limit=1)
        simulator.add_job("a", duration=0)
        simulator.add_faults("hang", "reset", 503)
        first = asyncio.create_task(session.wait_for_job("a"))
        await asyncio.sleep(1)
        first.cancel()
        assert (await session.wait_for_job("a", timeout=20)).status == "success"

    @pytest.mark.parametrize("poll_by", ["id", "list"])
    async def test_closing_the_session_ends_all_waits(
        self, simulator: Simulator, open_session: OpenSession, poll_by: str
    ) -> None:
        session = open_session(poll_by=poll_by)
        simulator.add_job("a", duration=0)
        simulator.add_faults("hang", repeat=True)
        waits = [asyncio.create_task(session.wait_for_job("a")) for _ in range(50)]
        await asyncio.sleep(2)
        await session.close()
        assert now() == pytest.approx(2, abs=0.001)
        errors = await asyncio.gather(*waits, return_exceptions=True)
        assert {repr(error) for error in errors} == {
            "SessionClosedError('the JobsSession was closed during this call.')"
        }
        stats = session.stats()
        assert (stats.waits, stats.tasks, stats.requests_in_flight) == (0, 0, 0)


class TestLists:
    @pytest.fixture
    async def session(self, open_session: OpenSession) -> JobsSession:
        return open_session(poll_by="list")

    def list_of(self, **statuses: str) -> Fault:
        jobs = [{"id": job_id, "status": status} for job_id, status in statuses.items()]
        return Fault(body=json.dumps({"data": jobs}).encode())

    async def test_one_list_serves_many_waits(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        job_ids = [simulator.add_job(f"job-{number}", duration=1) for number in range(50)]
        jobs = await session.wait_for_jobs(job_ids, polling=EVERY_2_S)
        assert [job.id for job in jobs] == job_ids
        assert {job.status for job in jobs} == {"success"}
        assert now() == pytest.approx(50, abs=1)
        lists = [request for request in simulator.requests if request.path == "/v2/jobs"]
        assert len(lists) <= 50
        assert len(simulator.requests) <= 100

    async def test_default_polls_by_id(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        job_ids = [simulator.add_job(job_id, duration=1) for job_id in "ab"]
        await open_session().wait_for_jobs(job_ids)
        assert {request.path for request in simulator.requests} == {"/v2/jobs/a", "/v2/jobs/b"}

    async def test_job_that_the_list_shows_unreadably_is_polled_by_id(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        for job_id in "abc":
            simulator.add_job(job_id, duration=0)
        jobs = [{"id": "a", "status": "success"}, {"id": "b", "status": "success"}, {"id": "c"}, 5]
        simulator.add_faults(Fault(body=json.dumps({"data": jobs}).encode()))
        found = await session.wait_for_jobs(["a", "b", "c"])
        assert [job.status for job in found] == ["success"] * 3
        assert [request.path for request in simulator.requests] == ["/v2/jobs", "/v2/jobs/c"]

    async def test_list_of_a_cache_hides_no_end_for_long(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", duration=10)
        simulator.add_faults(self.list_of(a="pending"), path="/v2/jobs", repeat=True)
        assert (await session.wait_for_job("a")).status == "success"
        assert 300 <= now() < 330

    async def test_list_of_a_cache_hides_no_end_from_a_wait_with_a_timeout(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", duration=10)
        simulator.add_faults(self.list_of(a="pending"), path="/v2/jobs", repeat=True)
        assert (await session.wait_for_job("a", timeout=60)).status == "success"
        assert now() == pytest.approx(59, abs=0.1)

    @pytest.mark.parametrize("fault", [403, 404, 400])
    async def test_rejected_list_is_requested_again_after_thirty_seconds(
        self,
        simulator: Simulator,
        session: JobsSession,
        fault: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO, "moltin_jobs")
        job_ids = [simulator.add_job(f"job-{number}", duration=10) for number in range(5)]
        simulator.add_faults(fault)
        jobs = await session.wait_for_jobs(job_ids, polling=EVERY_2_S)
        assert {job.status for job in jobs} == {"success"}
        lists = [request.at for request in simulator.requests if request.path == "/v2/jobs"]
        assert 30 <= lists[1] - lists[0] < 35
        assert "polling by id for 30 s: the list failed: the list of jobs: " in caplog.text

    @pytest.mark.parametrize("faults", [[503], [429], ["html"], ["reset", "reset"]], ids=str)
    async def test_list_that_fails_once_is_requested_again(
        self, simulator: Simulator, session: JobsSession, faults: list[Any]
    ) -> None:
        job_ids = [simulator.add_job(f"job-{number}", duration=0) for number in range(50)]
        simulator.add_faults(*faults)
        jobs = await session.wait_for_jobs(job_ids, polling=EVERY_2_S)
        assert {job.status for job in jobs} == {"success"}
        assert {request.path for request in simulator.requests} == {"/v2/jobs"}
        assert len(simulator.requests) == len(faults) + 1

    async def test_list_that_fails_three_times_is_replaced(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        job_ids = [simulator.add_job(f"job-{number}", duration=0) for number in range(5)]
        simulator.add_faults(504, path="/v2/jobs", repeat=True)
        jobs = await session.wait_for_jobs(job_ids, polling=EVERY_2_S)
        assert {job.status for job in jobs} == {"success"}
        assert now() == pytest.approx(4)
        paths = [request.path for request in simulator.requests]
        assert paths[:3] == ["/v2/jobs"] * 3
        assert sorted(paths[3:]) == [f"/v2/jobs/{job_id}" for job_id in job_ids]

    async def test_empty_response_by_id_after_a_list_is_a_failed_poll(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", ["pending"])
        polling = Polling(initial_interval=1, multiplier=1, jitter=0, max_outage=20)
        wait = asyncio.create_task(session.wait_for_job("a", polling=polling))
        await asyncio.sleep(0.5)  # the first poll has been served by a list
        simulator.add_faults(504, path="/v2/jobs", repeat=True)
        simulator.add_faults(Fault(body=b""), job_id="a", repeat=True)
        with pytest.raises(InvalidResponseError, match="the body is empty"):
            await wait

    async def test_last_polls_of_many_waits_share_one_list(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        polling = Polling(initial_interval=4, multiplier=1, jitter=0)
        job_ids = [simulator.add_job(f"job-{number}", duration=0.025) for number in range(200)]
        session = open_session(poll_by="list", rate_limit=20)
        jobs = await session.wait_for_jobs(job_ids, polling=polling, timeout=6)
        assert {job.status for job in jobs} == {"success"}
        assert len(simulator.requests) <= 8

    async def test_waits_that_have_ended_or_rest_between_steps_do_not_count(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        missing = [f"missing-{number}" for number in range(40)]
        outcomes = await session.wait_for_jobs(missing, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {JobNotFoundError}
        watches = [session.watch_job(job_id) for job_id in missing]
        await asyncio.sleep(30)
        before = len(simulator.requests)
        job_ids = [simulator.add_job(f"job-{number}", ["pending"]) for number in range(20)]
        await session.wait_for_jobs(job_ids, timeout=10, polling=EVERY_2_S, return_exceptions=True)
        paths = [request.path for request in simulator.requests[before:]]
        assert paths.count("/v2/jobs") >= 5
        assert len(paths) - paths.count("/v2/jobs") == 20, "the last poll of each wait"
        assert all(watch.polls == 0 for watch in watches)

    async def test_list_that_names_few_jobs_is_replaced(
        self, simulator: Simulator, session: JobsSession, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "moltin_jobs")
        job_ids = [simulator.add_job(job_id, duration=5) for job_id in "abc"]
        simulator.add_faults(self.list_of(a="started"), path="/v2/jobs", repeat=True)
        await session.wait_for_jobs(job_ids, polling=EVERY_2_S)
        assert [request.path for request in simulator.requests].count("/v2/jobs") == 1
        assert "the list names 1 of 3 jobs" in caplog.text

    async def test_list_that_is_large_is_replaced(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        job_ids = [simulator.add_job(job_id, duration=5) for job_id in "ab"]
        body = self.list_of(a="pending", b="pending").body
        simulator.add_faults(Fault(body=body + b" " * MIB), path="/v2/jobs", repeat=True)
        await session.wait_for_jobs(job_ids, polling=EVERY_2_S)
        assert [request.path for request in simulator.requests].count("/v2/jobs") == 1

    async def test_job_that_does_not_exist_ends_its_wait_only(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", duration=5)
        with pytest.raises(JobNotFoundError):
            await session.wait_for_job("missing")
        assert (await session.wait_for_job("a")).status == "success"

    async def test_outage_of_everything_raises_the_error_of_the_job(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_faults(503, repeat=True)
        with pytest.raises(ServerError, match=r"^job a: ") as caught:
            await session.wait_for_job("a", polling=Polling(initial_interval=1, max_outage=60))
        assert caught.value.__context__ is None

    async def test_chaos_ends_no_wait_early(self) -> None:
        polling = Polling(initial_interval=1, max_interval=5, max_outage=None)
        async with (
            Simulator(rate_limit=None, chaos=0.2, seed=3) as simulator,
            JobsSession(
                simulator.token, base_url=simulator.url, rate_limit=None, poll_by="list"
            ) as session,
        ):
            job_ids = [simulator.add_job(f"job-{number}", duration=2) for number in range(40)]
            jobs = await session.wait_for_jobs(job_ids, polling=polling)
        assert [job.id for job in jobs] == job_ids
        assert {job.status for job in jobs} == {"success"}


@pytest.mark.parametrize("value", ["ids", "auto", None, 1])
def test_poll_by_anything_else_is_rejected(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"poll_by must be 'id' or 'list', not {value!r}"):
        JobsSession("token", poll_by=value)
