"""Waits for jobs of all kinds in one session, by id and by list, in virtual time."""

import asyncio
import collections
import json
import logging
import math
from typing import Any

import pytest

from moltin_jobs import (
    ClientCredentials,
    Job,
    JobNotFoundError,
    JobsSession,
    JobTimeoutError,
    Polling,
)
from moltin_jobs.testing import Fault, Simulator
from tests.service_paths import PATHS
from tests.sessions import assert_idle

from .conftest import OpenSession

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("task_factory")]

EVERY_2_S = Polling(initial_interval=2, multiplier=1, jitter=0)
LISTED = [kind for kind in PATHS if kind != "release:c"]


def now() -> float:
    return asyncio.get_running_loop().time()


def count_paths(simulator: Simulator) -> collections.Counter[str]:
    return collections.Counter(request.path for request in simulator.requests)


class TestById:
    @pytest.mark.parametrize("kind", PATHS)
    async def test_wait_ends_when_the_job_does(
        self, simulator: Simulator, open_session: OpenSession, kind: str
    ) -> None:
        simulator.add_job("a", kind=kind, duration=9)
        job = await open_session().wait_for_job("a", kind=kind, polling=EVERY_2_S)
        assert (job.kind, job.state, job.started_at is None) == (
            kind,
            "succeeded",
            kind in {"order", "release:c"},
        )
        assert now() == pytest.approx(10, abs=0.1)
        assert count_paths(simulator) == {f"{PATHS[kind]}/a": 6}

    async def test_watch_yields_each_change_of_a_release(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        statuses = ["PENDING", "IN_PROGRESS", "IN_PROGRESS", "PUBLISHED"]
        simulator.add_job("a", statuses, kind="release:c")
        watch = open_session().watch_job("a", kind="release:c")
        assert [job.status async for job in watch] == ["PENDING", "IN_PROGRESS", "PUBLISHED"]

    async def test_equal_ids_of_two_kinds_are_two_jobs(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        run = {"data": {"id": "a", "attributes": {"status": "success"}}}
        simulator.add_job("a", ["started", "success"])
        simulator.add_faults(Fault(body=json.dumps(run).encode()), path="/pcm/jobs/a", repeat=True)
        jobs = [Job(id="a", kind=kind, status="pending") for kind in ("order", "pxm")]
        done = await open_session().wait_for_jobs(jobs)
        assert [(job.kind, job.type) for job in done] == [("order", "job"), ("pxm", None)]
        assert count_paths(simulator) == {"/v2/jobs/a": 2, "/pcm/jobs/a": 1}

    async def test_waits_of_all_kinds_stay_below_one_rate_limit(
        self, open_session: OpenSession
    ) -> None:
        async with Simulator(rate_limit=20) as simulator:
            auth = ClientCredentials(simulator.client_id, simulator.client_secret)
            session = open_session(auth=auth, base_url=simulator.url, rate_limit=20)
            jobs = []
            for kind in PATHS:
                for number in range(5):
                    job_id = f"{kind.partition(':')[0]}-{number}"
                    simulator.add_job(job_id, kind=kind, duration=1)
                    jobs.append(Job(id=job_id, kind=kind, status="pending"))
            done = await session.wait_for_jobs(jobs, timeout=600)
            assert [(job.id, job.kind) for job in done] == [(job.id, job.kind) for job in jobs]
            times = [request.at for request in simulator.requests]
            most = max(sum(start <= at < start + 0.999 for at in times) for start in times)
            assert most <= 20
            assert all(request.status == 200 for request in simulator.requests)
            assert session.stats().cooldowns == 0
            assert_idle(session)

    async def test_failures_of_one_kind_do_not_affect_waits_of_another(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        for kind in PATHS:
            simulator.add_job(kind.replace(":", "-"), ["success"], kind=kind)
        jobs = [Job(id=kind.replace(":", "-"), kind=kind, status="x") for kind in PATHS]
        simulator.add_faults(404, job_id="pxm")
        outcomes = await open_session().wait_for_jobs(jobs, return_exceptions=True)
        assert [type(one) for one in outcomes] == [Job, JobNotFoundError, Job, Job, Job, Job]

    async def test_stats_count_waits_and_polls_of_all_kinds(
        self, simulator: Simulator, open_session: OpenSession
    ) -> None:
        session = open_session()
        for kind in PATHS:
            simulator.add_job(kind.replace(":", "-"), kind=kind, duration=math.inf)
        waits = [
            asyncio.create_task(session.wait_for_job(kind.replace(":", "-"), kind=kind, timeout=2))
            for kind in PATHS
        ]
        await asyncio.sleep(0.3)
        assert (session.stats().waits, session.stats().polls) == (6, 6)
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        assert {type(one) for one in outcomes} == {JobTimeoutError}
        assert_idle(session)


class TestByList:
    @pytest.fixture
    async def session(self, open_session: OpenSession) -> JobsSession:
        return open_session(poll_by="list")

    @pytest.mark.parametrize("kind", LISTED)
    async def test_one_list_serves_waits_of_one_kind(
        self, simulator: Simulator, session: JobsSession, kind: str
    ) -> None:
        ids = [simulator.add_job(kind=kind, duration=1) for _ in range(10)]
        jobs = await session.wait_for_jobs(ids, kind=kind, polling=EVERY_2_S)
        assert [(job.id, job.kind, job.state) for job in jobs] == [
            (job_id, kind, "succeeded") for job_id in ids
        ]
        lists = count_paths(simulator)[PATHS[kind]]
        if kind == "order":  # their order is known: each end is polled for
            assert lists == pytest.approx(10, abs=1)
        else:
            assert lists == len(simulator.requests) == pytest.approx(6, abs=1)

    async def test_list_requests_the_largest_page(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        ids = [simulator.add_job(kind="pxm", duration=0) for _ in range(100)]
        await session.wait_for_jobs(ids, kind="pxm")
        [request] = simulator.requests
        assert request.query in {
            "page[limit]=100&page[offset]=0",
            "page%5Blimit%5D=100&page%5Boffset%5D=0",
        }

    async def test_each_kind_has_a_list_of_its_own(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        jobs = []
        for kind in LISTED:
            ids = [simulator.add_job(kind=kind, duration=0) for _ in range(3)]
            jobs += [Job(id=job_id, kind=kind, status="pending") for job_id in ids]
        await session.wait_for_jobs(jobs)
        assert count_paths(simulator) == {PATHS[kind]: 1 for kind in LISTED}

    async def test_job_beyond_the_first_page_is_polled_by_id(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        for _ in range(100):
            simulator.add_job(kind="pxm", duration=0)
        first = simulator.add_job("last", kind="pxm", duration=0)
        near = next(iter((await session.list_jobs(kind="pxm"))[:1])).id
        before = count_paths(simulator)
        await session.wait_for_jobs([first, near], kind="pxm")
        assert count_paths(simulator) - before == {"/pcm/jobs": 1, "/pcm/jobs/last": 1}

    async def test_releases_are_always_polled_by_id(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        ids = [simulator.add_job(kind="release:c", duration=1) for _ in range(5)]
        await session.wait_for_jobs(ids, kind="release:c")
        paths = count_paths(simulator)
        assert set(paths) == {f"/pcm/catalogs/c/releases/{job_id}" for job_id in ids}

    @pytest.mark.parametrize("fault", [403, Fault(body=b'{"data": []}')])
    async def test_list_that_is_replaced_does_not_affect_the_list_of_another_kind(
        self,
        simulator: Simulator,
        session: JobsSession,
        caplog: pytest.LogCaptureFixture,
        fault: Any,
    ) -> None:
        caplog.set_level(logging.INFO, "moltin_jobs")
        jobs = []
        for kind in ("pxm", "subscription"):
            ids = [
                simulator.add_job(f"{kind}-{n}", ["started"] * 5 + ["success"], kind=kind)
                for n in (1, 2)
            ]
            jobs += [Job(id=job_id, kind=kind, status="pending") for job_id in ids]
        simulator.add_faults(fault, path="/pcm/jobs", repeat=True)
        await session.wait_for_jobs(jobs, polling=EVERY_2_S)
        paths = count_paths(simulator)
        assert paths["/pcm/jobs"] == 1
        assert (paths["/pcm/jobs/pxm-1"], paths["/pcm/jobs/pxm-2"]) == (6, 6)
        assert {path for path in paths if "subscription" in path} == {"/v2/subscriptions/jobs"}
        [record] = [record for record in caplog.records if "polling by id" in record.getMessage()]
        assert record.__dict__["job_kind"] == "pxm"

    async def test_failed_import_in_a_list_costs_one_request_for_its_problems(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        rows = [("no name", "name", 7)]
        simulator.add_job("a", kind="inventory-import", duration=0, problems=rows)
        simulator.add_job("b", kind="inventory-import", duration=0)
        failed, job = await session.wait_for_jobs(
            ["a", "b"], kind="inventory-import", return_exceptions=True
        )
        assert str(failed).startswith("inventory-import job a failed: line 7, name: no name.")
        assert isinstance(job, Job)
        path = PATHS["inventory-import"]
        assert count_paths(simulator) == {path: 1, f"{path}/a/errors": 1}

    async def test_last_poll_of_an_import_is_by_id(
        self, simulator: Simulator, session: JobsSession
    ) -> None:
        simulator.add_job("a", kind="subscription-import", duration=math.inf)
        with pytest.raises(JobTimeoutError):
            await session.wait_for_job("a", kind="subscription-import", timeout=5)
        assert simulator.requests[-1].path == "/v2/subscriptions/imports/a"

    async def test_unreadable_item_of_a_list_is_logged_with_the_kind(
        self, simulator: Simulator, session: JobsSession, caplog: pytest.LogCaptureFixture
    ) -> None:
        simulator.add_job("a", kind="pxm", duration=0)
        items = [{"id": "a", "attributes": {"status": "success"}}, {"id": "b", "status": "success"}]
        simulator.add_faults(Fault(body=json.dumps({"data": items}).encode()), path="/pcm/jobs")
        await session.wait_for_job("a", kind="pxm")
        assert caplog.messages == [
            "the list of pxm jobs: item 2 cannot be read: it has no usable id or status"
        ]


class TestLog:
    @pytest.fixture(autouse=True)
    def _debug(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "moltin_jobs")

    @pytest.mark.parametrize("kind", PATHS)
    async def test_each_record_of_a_job_has_its_kind(
        self,
        simulator: Simulator,
        open_session: OpenSession,
        caplog: pytest.LogCaptureFixture,
        kind: str,
    ) -> None:
        simulator.add_job("a", ["unheard-of", "started", "published"], kind=kind)
        simulator.add_faults(503)
        await open_session().wait_for_job("a", kind=kind)
        records = [vars(record) for record in caplog.records if hasattr(record, "job_id")]
        assert {(record["job_id"], record["job_kind"]) for record in records} == {("a", kind)}
        assert {record["name"] for record in records} == {"moltin_jobs.polling", "moltin_jobs.http"}
        label = "job" if kind == "order" else f"{kind.partition(':')[0]} job"
        assert f"{label} a: started (poll 3)" in caplog.messages
        assert (
            f"{label} a: status 'unheard-of' is not documented, and is treated as not terminal"
            in caplog.messages
        )

    @pytest.mark.parametrize("name", ["get_job", "get_file_url", "list_jobs", "wait_for_job"])
    async def test_signed_address_of_a_release_is_in_no_record(
        self,
        simulator: Simulator,
        open_session: OpenSession,
        caplog: pytest.LogCaptureFixture,
        name: str,
    ) -> None:
        simulator.add_job("a", kind="release:c", duration=0)
        session = open_session()
        arguments = () if name == "list_jobs" else ("a",)
        result = await getattr(session, name)(*arguments, kind="release:c")
        job = await session.get_job("a", kind="release:c")
        assert job.file_url is not None
        assert "signature" in job.file_url
        texts = [caplog.text, repr(session), "" if name == "get_file_url" else repr(result)]
        texts += [repr(vars(record)) for record in caplog.records]
        assert not any("signature" in text for text in texts)
