"""Failed jobs of all kinds: their exceptions and their problems, in virtual time."""

import asyncio
import copy
import json
import logging
import math
import pickle
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any

import pytest

from moltin_jobs import (
    APIError,
    Job,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobProblem,
    JobsSession,
    JobTimeoutError,
    NoResultsError,
    Polling,
    ServerError,
    SessionClosedError,
)
from moltin_jobs.testing import Fault, Simulator
from tests.service_paths import PATHS
from tests.sessions import ONCE, assert_idle

pytestmark = pytest.mark.looptime

WITH_PROBLEMS = ["pxm", "subscription-import", "inventory-import"]
IMPORTS = WITH_PROBLEMS[1:]
EVERY_SECOND = Polling(initial_interval=1, multiplier=1, jitter=0)
MISSING_HEADER = Fault(
    422,
    body=b'{"errors": [{"status": "422", "title": "t", "detail": "missing csv header: name"}]}',
)


def loop_time() -> float:
    return asyncio.get_running_loop().time()


def paths(simulator: Simulator) -> list[str]:
    return [request.path for request in simulator.requests]


def pages(simulator: Simulator) -> list[str]:
    return [urllib.parse.unquote(request.query) for request in simulator.requests]


async def failure(session: JobsSession, job: Any = "a", **options: Any) -> JobFailedError:
    """Wait for a job that fails, and return the exception."""
    with pytest.raises(JobFailedError) as caught:
        await session.wait_for_job(job, **options)
    assert_idle(session)
    return caught.value


@pytest.fixture
async def session(simulator: Simulator) -> AsyncIterator[JobsSession]:
    async with JobsSession(simulator.token, base_url=simulator.url, rate_limit=None) as session:
        yield session


class TestFailedWait:
    @pytest.mark.parametrize("kind", IMPORTS)
    async def test_failed_import_shows_its_first_bad_row(
        self, simulator: Simulator, session: JobsSession, kind: str
    ) -> None:
        rows = [("no name", "name", 7), ("no price", "price", 9)]
        simulator.add_job("a", ["started", "failed"], kind=kind, problems=rows)
        error = await failure(session, kind=kind)
        assert str(error) == (
            f"{kind} job a failed: line 7, name: no name (the first of 2 problems). "
            "Correct the data, and import it again."
        )
        assert error.error == "no name"
        assert error.problems == (
            JobProblem("no name", "name", 7),
            JobProblem("no price", "price", 9),
        )
        assert (error.job_id, error.job.status, error.retryable) == ("a", "failed", False)
        assert paths(simulator) == [f"{PATHS[kind]}/a"] * 2 + [f"{PATHS[kind]}/a/errors"]
        assert pages(simulator)[-1] == "page[limit]=100&page[offset]=0"

    async def test_error_with_problems_can_be_pickled_and_copied(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", kind="subscription-import", duration=0, problems=[("m", "f", 1)])
        error = await failure(session, kind="subscription-import")
        pickled = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own data)
        for same in (pickled, copy.copy(error), copy.deepcopy(error)):
            assert (type(same), str(same), vars(same)) == (JobFailedError, str(error), vars(error))
            assert same.job.details == error.job.details != {}

    async def test_failed_pxm_job_shows_its_only_problem(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", kind="pxm", duration=0, problems=["sku: must be unique."])
        error = await failure(session, kind="pxm")
        assert str(error) == (
            "pxm job a failed: sku: must be unique. Create a new job to try again."
        )
        assert error.problems == (JobProblem("sku: must be unique."),)

    async def test_problems_are_those_of_the_first_page(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        rows = [f"problem {number}" for number in range(250)]
        simulator.add_job("a", kind="pxm", duration=0, problems=rows)
        error = await failure(session, kind="pxm")
        assert [problem.message for problem in error.problems] == rows[:100]
        assert len(simulator.requests) == 2

    async def test_failed_job_without_problems_has_no_reason(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", ["failed"], kind="pxm")
        error = await failure(session, kind="pxm")
        assert "failed: the service gave no reason." in str(error)
        assert (error.error, error.problems) == (None, ())

    @pytest.mark.parametrize("kind", WITH_PROBLEMS)
    async def test_rejected_request_for_problems_states_the_problem(
        self, simulator: Simulator, session: JobsSession, kind: str
    ) -> None:
        simulator.add_job("a", ["failed"], kind=kind)
        simulator.add_faults(MISSING_HEADER, path=f"{PATHS[kind]}/a/errors")
        error = await failure(session, kind=kind)
        assert (error.error, len(error.problems)) == ("missing csv header: name", 1)
        assert "failed: missing csv header: name." in str(error)

    @pytest.mark.parametrize(
        ("fault", "name"),
        [
            (500, "ServerError"),
            (503, "ServerError"),
            (429, "RateLimitError"),
            (403, "PermissionDeniedError"),
            (404, "JobNotFoundError"),
            (422, "APIError"),
            ("reset", "TransportError"),
            ("truncate", "TransportError"),
            ("garbage", "TransportError"),
            ("html", "InvalidResponseError"),
            ("hang", "TransportError"),
        ],
    )
    async def test_failed_request_for_problems_still_raises_the_failure(
        self,
        simulator: Simulator,
        session: JobsSession,
        caplog: pytest.LogCaptureFixture,
        fault: Any,
        name: str,
    ) -> None:
        simulator.add_job("a", ["failed"], kind="pxm", problems=["never shown"])
        simulator.add_faults(fault, path="/pcm/jobs/a/errors", repeat=True)
        error = await failure(session, kind="pxm")
        assert (error.error, error.problems, error.job.status) == (None, (), "failed")
        assert error.__context__ is None
        # aiohttp itself repeats a request on a connection that was closed before the response.
        expected = 2 if fault == "reset" else 1
        assert paths(simulator) == ["/pcm/jobs/a", *["/pcm/jobs/a/errors"] * expected]
        assert loop_time() <= 10
        record = caplog.records[-1]
        assert record.getMessage().startswith("the request for the problems has failed: ")
        fields = [getattr(record, field) for field in ("job_id", "job_kind", "attempt", "error")]
        assert fields == ["a", "pxm", 1, name]

    async def test_wait_that_sees_the_failure_later_shares_the_problems(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", ["pending", "pending", "failed"], kind="pxm", problems=["no sku"])
        slow = Polling(initial_interval=5, max_interval=5, multiplier=1, jitter=0)
        for count in (1, 2):  # later waits request the problems again
            waits = [
                session.wait_for_job("a", kind="pxm", polling=polling)
                for polling in (EVERY_SECOND, slow)
            ]
            for error in await asyncio.gather(*waits, return_exceptions=True):
                assert isinstance(error, JobFailedError)
                assert error.problems == (JobProblem("no sku"),)
            assert paths(simulator).count("/pcm/jobs/a/errors") == count

    @pytest.mark.parametrize("kind", WITH_PROBLEMS)
    async def test_deadline_during_the_request_for_problems_raises_the_failure(
        self, simulator: Simulator, session: JobsSession, kind: str
    ) -> None:
        simulator.add_job("a", ["failed"], kind=kind)
        simulator.add_faults("hang", path=f"{PATHS[kind]}/a/errors")
        error = await failure(session, kind=kind, timeout=3)
        assert loop_time() == pytest.approx(3)
        assert "the request for the reason has failed" in str(error)
        assert str(error).endswith("import it again.") == (kind in IMPORTS)
        assert (error.problems, error.__context__) == ((), None)

    async def test_closing_during_the_request_for_problems_is_raised(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", ["failed"], kind="pxm")
        simulator.add_faults("hang", path="/pcm/jobs/a/errors")
        wait = asyncio.create_task(session.wait_for_job("a", kind="pxm"))
        await asyncio.sleep(1)
        await session.close()
        with pytest.raises(SessionClosedError):
            await wait
        assert_idle(session)

    async def test_cancellation_during_the_request_for_problems_is_kept(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", ["failed"], kind="pxm")
        simulator.add_faults("hang", path="/pcm/jobs/a/errors")
        wait = asyncio.create_task(session.wait_for_job("a", kind="pxm", timeout=60))
        await asyncio.sleep(1)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
        assert wait.cancelling() == 1
        assert_idle(session)

    async def test_auth_callable_that_raises_for_the_problems_still_raises_the_failure(
        self, simulator: Simulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        calls = 0

        async def auth() -> str:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise LookupError("the vault key is hush-hush")
            return simulator.token

        simulator.add_job("a", ["failed"], kind="pxm")
        simulator.add_faults(401, path="/pcm/jobs/a/errors")
        async with JobsSession(auth, base_url=simulator.url) as session:
            error = await failure(session, kind="pxm")
        assert (calls, error.problems) == (2, ())
        assert caplog.records[-1].__dict__["error"] == "LookupError"
        assert "hush" not in caplog.text

    async def test_failed_waits_for_one_job_share_polls_and_have_errors_of_their_own(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", ["started", "failed"], kind="pxm", problems=["p"])
        errors = await session.wait_for_jobs(["a"] * 5, kind="pxm", return_exceptions=True)
        assert {str(error) for error in errors} == {
            "pxm job a failed: p. Create a new job to try again."
        }
        assert len({id(error) for error in errors}) == 5

    async def test_error_can_be_raised_from_a_watch_that_is_awaited(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", ["failed"], kind="pxm", problems=["p"])
        with pytest.raises(JobFailedError, match="pxm job a failed: p"):
            await session.watch_job("a", kind="pxm").wait()

    async def test_iteration_over_a_watch_requests_no_problems(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", ["failed"], kind="pxm", problems=["p"])
        jobs = [job async for job in session.watch_job("a", kind="pxm")]
        assert [job.status for job in jobs] == ["failed"]
        assert paths(simulator) == ["/pcm/jobs/a"]


class TestOtherEnds:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [("disk full", JobFailedError), ("No results matched the filter", NoResultsError)],
    )
    async def test_failed_order_job_costs_no_further_request(
        self,
        simulator: Simulator,
        session: JobsSession,
        error: str,
        expected: type[JobFailedError],
    ) -> None:
        simulator.add_job("a", ["failed"], error=error)
        caught = await failure(session)
        assert (type(caught), caught.error, caught.problems) == (expected, error, ())
        assert str(caught).startswith(f"job a failed: {error}. Create a new job")
        assert paths(simulator) == ["/v2/jobs/a"]

    async def test_cancelled_job_costs_no_further_request(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", ["pending", "cancelling", "cancelled"], kind="pxm", problems=["p"])
        error = await failure(session, kind="pxm")
        assert type(error) is JobCancelledError
        assert str(error).startswith("pxm job a was cancelled: the service gave no reason.")
        assert paths(simulator) == ["/pcm/jobs/a"] * 3

    async def test_failed_release_ends_the_wait_at_once(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", ["PENDING", "IN_PROGRESS", "FAILED"], kind="release:c")
        error = await failure(session, kind="release:c", polling=EVERY_SECOND)
        assert str(error) == (
            "release job a failed: the service gave no reason. Publish the catalog again."
        )
        assert (error.problems, error.job.kind) == ((), "release:c")
        assert paths(simulator) == ["/pcm/catalogs/c/releases/a"] * 3
        assert loop_time() == pytest.approx(2, abs=0.1)

    async def test_failed_run_has_no_reason(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", ["failed"], kind="subscription")
        error = await failure(session, kind="subscription")
        assert str(error).startswith("subscription job a failed: the service gave no reason.")
        assert paths(simulator) == ["/v2/subscriptions/jobs/a"]

    @pytest.mark.parametrize(
        "statuses",
        [
            ["PENDING", "IN_PROGRESS", "PUBLISHED"],
            ["pending", "in_progress", "published"],
            ["Pending", "In_Progress", "Published"],
        ],
    )
    async def test_statuses_of_a_release_are_read_in_any_case(
        self,
        simulator: Simulator,
        session: JobsSession,
        caplog: pytest.LogCaptureFixture,
        statuses: list[str],
    ) -> None:
        simulator.add_job("a", statuses, kind="release:c")
        job = await session.wait_for_job("a", kind="release:c")
        assert (job.status, job.state) == (statuses[-1], "succeeded")
        assert caplog.records == []

    async def test_unknown_status_of_a_release_does_not_end_the_wait(
        self, simulator: Simulator, session: JobsSession, caplog: pytest.LogCaptureFixture
    ) -> None:
        statuses = ["PENDING", "REINDEXING", "REINDEXING", "PUBLISHED"]
        simulator.add_job("a", statuses, kind="release:c")
        await session.wait_for_job("a", kind="release:c")
        [record] = caplog.records
        assert record.getMessage() == (
            "release job a: status 'REINDEXING' is not documented, and is treated as not terminal"
        )
        assert record.__dict__["job_kind"] == "release:c"

    @pytest.mark.parametrize("kind", ["pxm", "release:c", "subscription", *IMPORTS])
    async def test_timeout_names_the_kind(
        self, simulator: Simulator, session: JobsSession, kind: str
    ) -> None:
        simulator.add_job("a", kind=kind, duration=math.inf)
        with pytest.raises(JobTimeoutError) as caught:
            await session.wait_for_job("a", kind=kind, timeout=30)
        label = kind.partition(":")[0]
        assert str(caught.value).startswith(f"{label} job a did not end within 30 s (last status")
        assert caught.value.job is not None
        assert caught.value.job.kind == kind


class TestGetJobProblems:
    async def test_equal_problems_are_all_returned_up_to_the_largest_number_of_pages(
        self, simulator: Simulator, session: JobsSession, caplog: pytest.LogCaptureFixture
    ) -> None:
        simulator.add_job("a", ["failed"], kind="pxm", problems=["p"] * 10_101)
        assert len(await session.get_job_problems("a", kind="pxm")) == 10_100
        [record] = caplog.records
        assert record.getMessage().startswith("the problems of pxm job a: the items from number")
        assert vars(record)["job_id"] == "a"

    @pytest.mark.parametrize("kind", WITH_PROBLEMS)
    async def test_problems_of_all_pages_are_returned(
        self, simulator: Simulator, session: JobsSession, kind: str
    ) -> None:
        messages = [f"problem {number}" for number in range(250)]
        simulator.add_job("a", kind=kind, duration=0, problems=messages)
        problems = await session.get_job_problems("a", kind=kind)
        assert problems == [JobProblem(message) for message in messages]
        # Without a total, an empty page shows the end.
        offsets = [0, 100, 200] if kind == "pxm" else [0, 100, 200, 250]
        assert pages(simulator) == [f"page[limit]=100&page[offset]={offset}" for offset in offsets]

    async def test_job_that_has_succeeded_has_no_problems(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", kind="pxm", duration=0)
        job = await session.get_job("a", kind="pxm")
        assert await session.get_job_problems(job) == []

    @pytest.mark.parametrize(
        ("statuses", "error", "expected"),
        [
            (["failed"], "No results", [JobProblem("No results")]),
            (["failed"], None, []),
            (["success"], None, []),
        ],
    )
    async def test_problem_of_an_order_job_is_its_error(
        self,
        simulator: Simulator,
        session: JobsSession,
        statuses: list[str],
        error: str | None,
        expected: list[JobProblem],
    ) -> None:
        simulator.add_job("a", statuses, error=error)
        assert await session.get_job_problems("a") == expected
        assert paths(simulator) == ["/v2/jobs/a"]

    async def test_retryable_failure_is_retried(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", kind="pxm", duration=0, problems=["p"])
        simulator.add_faults(500, "reset", path="/pcm/jobs/a/errors")
        assert await session.get_job_problems("a", kind="pxm") == [JobProblem("p")]
        assert len(simulator.requests) == 3

    @pytest.mark.parametrize(
        ("fault", "expected"), [(500, ServerError), (422, APIError), (404, JobNotFoundError)]
    )
    async def test_failure_that_remains_is_raised(
        self, simulator: Simulator, fault: int, expected: type[APIError]
    ) -> None:
        simulator.add_faults(fault, path="/pcm/jobs/a/errors")
        async with JobsSession(simulator.token, base_url=simulator.url, retry=ONCE) as session:
            with pytest.raises(expected, match=r"^the problems of pxm job a: ") as caught:
                await session.get_job_problems("a", kind="pxm")
        assert (type(caught.value), caught.value.job_id) == (expected, "a")

    async def test_rejected_request_states_the_only_problem(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_faults(MISSING_HEADER, path="/v2/inventories/imports/a/errors", repeat=True)
        problems = await session.get_job_problems("a", kind="inventory-import")
        assert problems == [JobProblem("missing csv header: name")]

    async def test_rejection_of_a_later_page_is_an_error(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        items = [{"id": str(number), "meta": {"error": "e"}} for number in range(100)]
        page = Fault(body=json.dumps({"data": items}).encode())
        path = "/v2/inventories/imports/a/errors"
        simulator.add_faults(page, MISSING_HEADER, path=path)
        with pytest.raises(APIError, match="missing csv header: name"):
            await session.get_job_problems("a", kind="inventory-import")

    async def test_equal_problems_without_ids_are_all_returned(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        data = {
            "data": [{"attributes": {"message": "m"}}] * 100,
            "meta": {"results": {"total": 150}},
        }
        first = Fault(body=json.dumps(data).encode())
        data["data"] = data["data"][:50]  # type: ignore[index]
        last = Fault(body=json.dumps(data).encode())
        simulator.add_faults(first, last, path="/pcm/jobs/a/errors")
        problems = await session.get_job_problems("a", kind="pxm")
        assert problems == [JobProblem("m")] * 150

    async def test_waits_for_one_failed_job_share_the_request_for_its_problems(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", kind="pxm", duration=0, problems=["p"])
        jobs = [Job(id="a", kind="pxm", status="pending")] * 20
        outcomes = await session.wait_for_jobs(jobs, return_exceptions=True)
        assert [getattr(outcome, "problems", None) for outcome in outcomes] == [
            (JobProblem("p"),)
        ] * 20
        assert paths(simulator).count("/pcm/jobs/a/errors") == 1

    async def test_page_without_ids_that_repeats_is_the_last(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        items = [{"meta": {"error": f"e{number}"}} for number in (1, 2, 1)]
        body = json.dumps({"data": items}).encode()
        path = "/v2/subscriptions/imports/a/errors"
        simulator.add_faults(Fault(body=body), path=path, repeat=True)
        problems = await session.get_job_problems("a", kind="subscription-import")
        assert [problem.message for problem in problems] == ["e1", "e2", "e1"]
        assert len(simulator.requests) == 2

    async def test_job_object_needs_no_kind(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", kind="inventory-import", duration=0, problems=[("m", "f", 1)])
        job = Job(id="a", kind="inventory-import", status="failed")
        assert await session.get_job_problems(job) == [JobProblem("m", "f", 1)]


async def test_unreadable_problem_request_is_logged_once_a_wait(
    simulator: Simulator, session: JobsSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "moltin_jobs")
    simulator.add_job("a", ["failed"], kind="pxm")
    simulator.add_faults("html", path="/pcm/jobs/a/errors", repeat=True)
    for _ in range(2):
        await failure(session, kind="pxm")
    assert len(caplog.records) == 2
