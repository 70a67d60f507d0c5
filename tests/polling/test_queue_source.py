"""Polls of order jobs, which run one at a time, by list. In virtual time."""

import asyncio
import datetime
from typing import Any

import pytest

from moltin_jobs import Job, JobTimeoutError, JobWatch, PermissionDeniedError, Polling
from moltin_jobs._polling.queue_source import QueueSource
from moltin_jobs._polling.sources import ListSnapshot, Snapshot
from moltin_jobs._tasks.operations import Operations

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("task_factory")]

EVERY_2_S = Polling(initial_interval=2, max_interval=2, jitter=0)
EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def now() -> float:
    return asyncio.get_running_loop().time()


def date(seconds: float) -> datetime.datetime:
    return EPOCH + datetime.timedelta(seconds=seconds)


class Store:
    """Scripted store: statuses of jobs from given moments on, and a log of the requests."""

    def __init__(self) -> None:
        self.changes: dict[str, list[tuple[float, str]]] = {}
        self.opened_at = -1.0
        self.unlisted: set[str] = set()
        self.list_error: Exception | None = None
        self.list_latency = 0.0
        self.requests: list[tuple[float, str]] = []
        self.operations = Operations()
        self.source = QueueSource(self.operations, self.fetch_job, self.fetch_list)

    def add(self, job_id: str, *changes: tuple[float, str]) -> str:
        """Add a job, which is pending at first."""
        self.changes[job_id] = [(0.0, "pending"), *changes]
        return job_id

    def add_run(self, job_id: str, start: float, end: float) -> str:
        return self.add(job_id, (start, "started"), (end, "success"))

    def add_history(self, *run_times: float) -> None:
        """Add jobs that have run until now."""
        self.opened_at = moment = -sum(run_times)
        for number, run_time in enumerate(run_times):
            moment += run_time
            self.changes[f"finished-{number}"] = [(moment, "success")]

    def get_job(self, job_id: str) -> Job:
        number = [*self.changes].index(job_id)
        since, status = [one for one in self.changes[job_id] if one[0] <= now()][-1]
        updated_at = None if status == "pending" else date(since)
        created_at = date(self.opened_at + number / 1e3)
        return Job(id=job_id, status=status, created_at=created_at, updated_at=updated_at)

    async def fetch_job(self, job_id: str, _: Snapshot | None) -> Snapshot:
        self.requests.append((now(), job_id))
        return Snapshot(self.get_job(job_id), now())

    async def fetch_list(self) -> ListSnapshot:
        self.requests.append((now(), "list"))
        if self.list_error is not None:
            raise self.list_error
        jobs = [self.get_job(job_id) for job_id in self.changes if job_id not in self.unlisted]
        latest = ListSnapshot(jobs, now(), 1000, len(self.requests), date(now()))
        await asyncio.sleep(self.list_latency)
        latest.received_at = now()
        return latest

    def watch(self, job_id: str, polling: Polling = EVERY_2_S, **options: Any) -> JobWatch:
        return JobWatch(job_id, self.source, polling, **options)

    async def wait(self, job_id: str, polling: Polling = EVERY_2_S, **options: Any) -> float:
        """Wait for a job, and return the moment at which the wait has ended."""
        await self.watch(job_id, polling, **options).wait()
        return now()

    async def wait_for_all(self, *job_ids: str, polling: Polling = EVERY_2_S) -> list[float]:
        return await asyncio.gather(*(self.wait(job_id, polling) for job_id in job_ids))

    def moments(self, request: str, start: float = 0, end: float = 1e9) -> list[float]:
        """Return the moments of the requests for a job, or for ``"list"``."""
        return [at for at, requested in self.requests if requested == request and start <= at < end]


@pytest.fixture
def store() -> Store:
    return Store()


class TestLeader:
    async def test_job_that_runs_is_polled_by_id_at_half_the_intervals(self, store: Store) -> None:
        ids = [store.add_run("a", 0, 5.5), store.add_run("b", 5.5, 8.2)]
        ids.append(store.add_run("c", 8.2, 9))
        assert await store.wait_for_all(*ids) == pytest.approx([6, 9, 9])
        assert store.moments("a") == pytest.approx([1, 2, 3, 4, 5, 6])
        assert store.moments("b") == pytest.approx([7, 8, 9])
        assert store.moments("list") == pytest.approx([0, 6, 9])

    async def test_lone_wait_keeps_the_intervals(self, store: Store) -> None:
        store.add_run("a", 0, 5.5)
        assert await store.wait("a") == pytest.approx(6)
        assert store.moments("a") == pytest.approx([2, 4, 6])

    async def test_job_is_not_polled_before_the_shortest_recent_run(self, store: Store) -> None:
        store.add_history(*[100] * 30, 40, *[100] * 19)
        ids = [store.add_run("a", 0, 50), store.add_run("b", 50, 120)]
        await store.wait_for_all(*ids)
        first = store.moments("b")[0]
        assert 88 <= first <= 90, "40 s after a moment at which the job before it had not ended"

    async def test_few_runs_count_less(self, store: Store) -> None:
        store.add_history(*[40] * 25)
        ids = [store.add_run("a", 0, 50), store.add_run("b", 50, 120)]
        await store.wait_for_all(*ids)
        assert 68 <= store.moments("b")[0] <= 71, "after 26 fiftieths of 40 s"

    async def test_job_whose_start_was_not_observed_may_end_at_once(self, store: Store) -> None:
        store.add_history(*[40] * 50)
        ids = [store.add_run("a", 0, 3.5), store.add_run("b", 3.5, 60)]
        assert (await store.wait_for_all(*ids))[0] == pytest.approx(4)

    async def test_long_runs_are_expected_for_a_minute_at_most(self, store: Store) -> None:
        store.add_history(*[1000] * 50)
        ids = [store.add_run("a", 0, 1000), store.add_run("b", 1000, 1900)]
        await store.wait_for_all(*ids)
        gaps = [b - a for a, b in zip(store.moments("b"), store.moments("b")[1:], strict=False)]
        assert 58 <= gaps[0] <= 60

    async def test_leader_behind_a_job_without_a_wait_is_polled_by_list(self, store: Store) -> None:
        store.add_run("other", 0, 9.5)
        ids = [store.add_run("a", 9.5, 15.5), store.add_run("b", 15.5, 20.5)]
        assert await store.wait_for_all(*ids) == pytest.approx([16, 21], abs=1)
        assert store.moments("list", 0, 10) == pytest.approx([0, 2, 4, 6, 8])
        assert store.moments("a")[0] == pytest.approx(11)

    async def test_leader_behind_a_job_without_a_wait_expects_its_end(self, store: Store) -> None:
        store.add_history(*[40] * 50)
        store.add_run("x", 0, 50)
        store.add_run("y", 50, 100)
        store.add_run("a", 100, 150)
        await store.wait("a")
        assert len(store.moments("list", 53, 85)) <= 1

    async def test_overtaking_job_is_polled_by_id(self, store: Store) -> None:
        store.add_run("a", 0, 5)
        store.add_run("b", 40, 50)
        store.add_run("c", 5, 40)
        assert await store.wait_for_all("a", "b", "c") == pytest.approx([5, 50, 40], abs=1)
        assert len(store.moments("list")) <= 4

    async def test_two_running_jobs_are_polled_by_id(self, store: Store) -> None:
        ids = [store.add_run("a", 0, 9.5), store.add_run("b", 0, 5.5)]
        assert await store.wait_for_all(*ids) == pytest.approx([10, 6], abs=1)

    async def test_cancelled_leader_is_followed_by_the_next(self, store: Store) -> None:
        store.add_run("a", 0, 30)
        store.add_run("b", 30, 40)
        leader = asyncio.create_task(store.wait("a"))
        following = asyncio.create_task(store.wait("b"))
        await asyncio.sleep(10)
        leader.cancel()
        assert await following == pytest.approx(40, abs=2)
        assert len(store.moments("list", 10.5, 30)) >= 9

    async def test_waits_for_the_job_that_runs_end_together(self, store: Store) -> None:
        store.add_run("a", 0, 30.5)
        slow = Polling(initial_interval=50, max_interval=50, jitter=0)
        waits = [store.wait("a", EVERY_2_S), store.wait("a", slow)]
        assert await asyncio.gather(*waits) == pytest.approx([32, 32])

    async def test_end_that_a_list_shows_wakes_the_wait_of_a_running_job(
        self, store: Store
    ) -> None:
        store.add_run("a", 0, 10)
        slow = Polling(initial_interval=50, max_interval=50, jitter=0)
        wait = asyncio.create_task(store.wait("a", slow))
        await asyncio.sleep(12)
        store.add_run("b", 10, 20)
        late = asyncio.create_task(store.wait("b"))
        assert await wait == pytest.approx(12)
        await late
        assert store.moments("a") == []

    @pytest.mark.parametrize("body_seconds", [0, 0.01, 0.5])
    async def test_heartbeats_of_the_leader_cost_no_lists(
        self, store: Store, body_seconds: float
    ) -> None:
        ids = [store.add_run("a", 0, 300), *(store.add(f"b{number}") for number in range(5))]
        waits = [asyncio.create_task(store.wait(job_id)) for job_id in ids[1:]]
        async for _ in store.watch("a", heartbeat=7):
            await asyncio.sleep(body_seconds)
        assert len(store.moments("list", 0, 295)) <= 10
        assert len(store.moments("a", 0, 295)) >= 100
        for wait in waits:
            wait.cancel()


class TestOtherJobs:
    async def test_waiting_jobs_are_polled_every_minute(self, store: Store) -> None:
        store.add("a", (0, "started"))
        store.add("b")
        with pytest.raises(JobTimeoutError):
            await asyncio.gather(store.wait("a", timeout=610), store.wait("b", timeout=610))
        assert store.moments("list", 0, 605) == pytest.approx([60.0 * n for n in range(11)])

    async def test_waiting_jobs_are_polled_at_a_longer_max_interval(self, store: Store) -> None:
        store.add("a", (0, "started"))
        store.add("b")
        polling = Polling(initial_interval=2, max_interval=100, jitter=0)
        waits = [store.wait("a", timeout=450), store.wait("b", polling, timeout=450)]
        await asyncio.gather(*waits, return_exceptions=True)
        assert store.moments("list", 0, 445) == pytest.approx([0, 100, 200, 300, 400])

    async def test_list_of_another_wait_serves_a_waiting_job(self, store: Store) -> None:
        store.add("a", (0, "started"))
        store.add("b")
        waits = [asyncio.create_task(store.wait(job_id, timeout=85)) for job_id in ("a", "b")]
        await asyncio.sleep(25)
        store.add("c")
        waits.append(asyncio.create_task(store.wait("c", timeout=100)))
        await asyncio.wait(waits[:2])
        assert store.moments("list", 0, 83) == pytest.approx([0, 25])
        waits[2].cancel()

    async def test_job_that_the_list_does_not_name_keeps_the_intervals(self, store: Store) -> None:
        store.add("a", (0, "started"))
        store.add("b", (11, "success"))
        store.unlisted = {"b"}
        store.add("c")
        others = [asyncio.create_task(store.wait("a"))]
        unlisted = asyncio.create_task(store.wait("b"))
        await asyncio.sleep(5)
        others.append(asyncio.create_task(store.wait("c")))
        assert await unlisted == pytest.approx(12)
        assert store.moments("b") == pytest.approx([0, 2, 4, 6, 8, 10, 12])
        for other in others:
            other.cancel()

    async def test_useless_list_wakes_all_waits(self, store: Store) -> None:
        ids = [store.add("a", (0, "started")), *(store.add(f"b{number}") for number in range(5))]
        waits = [asyncio.create_task(store.wait(job_id)) for job_id in ids]
        await asyncio.sleep(5.5)
        store.list_error = PermissionDeniedError(403, "the list of jobs")
        store.add("late")
        waits.append(asyncio.create_task(store.wait("late")))
        await asyncio.sleep(3)
        assert {requested for at, requested in store.requests if at > 5} == {*ids, "late", "list"}
        store.list_error = None
        await asyncio.sleep(60)
        before = len(store.requests)
        await asyncio.sleep(10)
        assert {requested for _, requested in store.requests[before:]} == {"a"}
        for wait in waits:
            wait.cancel()

    async def test_wait_that_a_list_wakes_yields_no_early_heartbeat(self, store: Store) -> None:
        store.add_run("a", 0, 10)
        store.add_run("b", 10, 20)
        leader = asyncio.create_task(store.wait("a"))
        moments = [(job.status, round(now())) async for job in store.watch("b", heartbeat=12)]
        assert moments == [("pending", 0), ("started", 10), ("success", 20)]
        await leader

    async def test_list_that_arrives_after_a_newer_one_is_ignored(self, store: Store) -> None:
        store.add_run("a", 0, 5)
        store.add_run("b", 5, 20)
        store.add_run("c", 20, 21)
        leader = asyncio.create_task(store.wait("a"))

        async def watch_b() -> list[str]:
            return [job.status async for job in store.watch("b")]

        following = asyncio.create_task(watch_b())
        await asyncio.sleep(4.5)
        store.list_latency = 3
        late = asyncio.create_task(store.wait("c"))
        await asyncio.sleep(0.1)
        store.list_latency = 0
        assert await following == ["pending", "started", "success"]
        assert await leader == pytest.approx(5)
        assert await late == pytest.approx(21, abs=2)

    async def test_woken_wait_polls_again_before_its_deadline(self, store: Store) -> None:
        store.add_run("a", 0, 5)
        store.add_run("b", 5, 15)
        leader = asyncio.create_task(store.wait("a"))
        assert await store.wait("b", timeout=20) == pytest.approx(15, abs=1)
        await leader

    async def test_last_poll_of_a_running_job_is_by_id(self, store: Store) -> None:
        store.add("a", (0, "started"), (8.5, "success"))
        assert await store.wait("a", timeout=10) == pytest.approx(9)
        assert store.moments("list") == [0]

    async def test_one_uuid_in_two_spellings_is_one_job(self, store: Store) -> None:
        job_id = "0fa1c3e2-0000-4000-8000-00000000abcd"
        store.add_run(job_id, 5, 10)
        store.changes[job_id.upper()] = store.changes[job_id]
        store.unlisted = {job_id.upper()}
        store.add_run("b", 10, 20)
        ends = await store.wait_for_all(job_id, job_id.upper(), "b")
        assert ends == pytest.approx([10, 10, 20], abs=2)
