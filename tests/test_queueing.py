"""Estimates of the job queue: facts of one list, and simulated queues of lognormal run times."""

import datetime
import itertools
import random
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moltin_jobs import Job, QueuedJob
from moltin_jobs.queueing import estimate_queue

NOW = datetime.datetime(2026, 11, 27, 12, tzinfo=datetime.UTC)
Moment = datetime.datetime | None


def at(seconds: float) -> datetime.datetime:
    """Return a moment relative to `NOW`."""
    return NOW + datetime.timedelta(seconds=seconds)


def job(
    job_id: str,
    status: str,
    created: float | None = 0,
    updated: float | None = None,
    job_type: str = "order_export",
) -> Job:
    return Job(
        id=job_id,
        status=status,
        job_type=job_type,
        created_at=None if created is None else at(created),
        updated_at=None if updated is None else at(updated),
    )


def finished(*ends: float, created: float = -1e5) -> list[Job]:
    """Return jobs that were created together and have succeeded at these moments."""
    return [job(f"done-{end}", "success", created, end) for end in ends]


def positions(queue: Sequence[QueuedJob]) -> list[tuple[str, int]]:
    return [(one.job.id, one.position) for one in queue]


def times(queued: QueuedJob) -> tuple[Moment, Moment, Moment, Moment]:
    return queued.expected_start, queued.earliest_end, queued.expected_end, queued.latest_end


def seconds_left(queued: QueuedJob) -> float:
    assert queued.expected_end is not None
    return (queued.expected_end - NOW).total_seconds()


# Ten runs of 100 s. The last one has ended 30 s before NOW.
TEN_RUNS = finished(*range(-930, 0, 100), created=-1030)


class TestOrder:
    def test_queue_of_no_jobs_is_empty(self) -> None:
        assert estimate_queue([], NOW) == []
        assert estimate_queue(TEN_RUNS, NOW) == []

    def test_queue_is_in_the_order_of_creation_whatever_the_order_of_the_list(self) -> None:
        jobs = [job("c", "pending", -1), job("a", "started", -9), job("b", "pending", -5)]
        for permuted in itertools.permutations(jobs + TEN_RUNS[:2]):
            assert positions(estimate_queue(permuted, NOW)) == [("a", 1), ("b", 2), ("c", 3)]

    def test_jobs_created_at_the_same_moment_keep_the_order_of_the_list(self) -> None:
        jobs = [job(job_id, "pending") for job_id in "cab"]
        assert positions(estimate_queue(jobs, NOW)) == [("c", 1), ("a", 2), ("b", 3)]

    def test_running_job_is_first_even_if_an_earlier_one_is_pending(self) -> None:
        jobs = [job("a", "pending", -9), job("b", "processing", -5), job("c", "pending", -1)]
        assert positions(estimate_queue(jobs, NOW)) == [("b", 1), ("a", 2), ("c", 3)]

    def test_job_without_creation_is_last_unless_it_is_running(self) -> None:
        jobs = [job("a", "pending", None), job("b", "pending", -1)]
        assert positions(estimate_queue(jobs, NOW)) == [("b", 1), ("a", 2)]
        jobs[0] = job("a", "started", None)
        queue = estimate_queue(jobs + TEN_RUNS, NOW)
        assert positions(queue) == [("a", 1), ("b", 2)]
        assert queue[0].expected_start == NOW  # it is not known since when it is running

    def test_jobs_of_other_types_are_in_the_same_queue(self) -> None:
        jobs = [job("a", "started", -9, job_type="other"), job("b", "pending", -5)]
        assert positions(estimate_queue(jobs, NOW)) == [("a", 1), ("b", 2)]

    def test_job_that_is_being_cancelled_is_in_the_queue_until_it_has_ended(self) -> None:
        jobs = [job("a", "cancelling", -9), job("b", "cancelled", -5), job("c", "pending", -1)]
        assert positions(estimate_queue(jobs, NOW)) == [("a", 1), ("c", 2)]

    @pytest.mark.parametrize("status", ["started", "success", "failed"])
    def test_unknown_status_is_left_out_once_a_later_job_has_started(self, status: str) -> None:
        jobs = [job("a", "archived", -9), job("b", "pending", -7)]
        jobs += [job("c", status, -5), job("d", "paused", -1)]
        queue = estimate_queue(jobs, NOW)
        assert [one.job.id for one in queue if one.job.id != "c"] == ["b", "d"]

    @pytest.mark.parametrize("created", [-5.0, None])
    def test_unknown_status_remains_while_no_later_job_is_known_to_have_started(
        self, created: float | None
    ) -> None:
        status = "cancelled" if created else "success"
        jobs = [job("a", "paused", -9), job("b", status, created), job("c", "pending", -1)]
        assert positions(estimate_queue(jobs, NOW)) == [("a", 1), ("c", 2)]


class TestRuns:
    def test_times_without_a_finished_job_are_unknown(self) -> None:
        jobs = [job("a", "started", -9, -5), job("b", "pending", -5), job("c", "cancelled", -4, -2)]
        for queued in estimate_queue(jobs, NOW):
            assert times(queued) == (None,) * 4

    def test_run_starts_at_the_end_of_the_job_before(self) -> None:
        queue = estimate_queue([*TEN_RUNS, job("a", "started", -500), job("b", "pending")], NOW)
        assert queue[0].expected_start == at(-30)
        assert seconds_left(queue[0]) == pytest.approx(70)
        assert queue[1].expected_start == queue[0].expected_end

    def test_run_starts_at_the_creation_if_the_service_was_idle(self) -> None:
        jobs = [*finished(-100, created=-110), job("a", "started", -5)]
        queue = estimate_queue(jobs, NOW)
        assert queue[0].expected_start == at(-5)
        assert 0 < seconds_left(queue[0]) <= 10

    def test_next_job_starts_now_if_none_is_running(self) -> None:
        queue = estimate_queue([*TEN_RUNS, job("a", "pending", -500)], NOW)
        assert queue[0].expected_start == NOW
        assert seconds_left(queue[0]) == pytest.approx(100)

    @pytest.mark.parametrize(
        "absurd",
        [
            job("x", "success", None, -40),
            job("x", "success", -500, None),
            job("x", "success", -500, -501),
            job("x", "success", -500, -500),
            job("x", "success", -500, -30),
            job("x", "success", -500, 1e6),
            job("x", "failed", -500, 2e11),
            job("x", "cancelled", -500, -40),
            job("x", "archived", -500, -40),
        ],
        ids=[
            "no-creation", "no-end", "negative", "zero", "with-another", "longer-than-a-week",
            "year-8363", "cancelled", "unknown-status",
        ],
    )  # fmt: skip
    def test_run_that_is_not_credible_changes_no_estimate(self, absurd: Job) -> None:
        jobs = [*TEN_RUNS, job("a", "started", -500), job("b", "pending", -5)]
        expected = [times(one) for one in estimate_queue(jobs, NOW)]
        queue = [one for one in estimate_queue([absurd, *jobs], NOW) if one.job.id in "ab"]
        assert [times(one) for one in queue] == expected

    def test_job_that_was_cancelled_while_running_delays_the_next_start(self) -> None:
        jobs = [*TEN_RUNS, job("x", "cancelled", -500, -10), job("a", "started", -400)]
        assert estimate_queue(jobs, NOW)[0].expected_start == at(-10)

    def test_failed_run_counts(self) -> None:
        queue = estimate_queue([job("x", "failed", -10, -2), job("a", "pending")], NOW)
        assert seconds_left(queue[0]) == pytest.approx(8)

    def test_run_of_a_week_counts(self) -> None:
        week = datetime.timedelta(weeks=1).total_seconds()
        queue = estimate_queue([*finished(-1, created=-1 - week), job("a", "pending")], NOW)
        assert seconds_left(queue[0]) == week

    def test_old_runs_do_not_count(self) -> None:
        old = finished(*range(-90_000, -80_000, 1000), created=-91_000)
        ends = [-5000 + 10 * number for number in range(50)]
        jobs = [*finished(*ends, created=-5010), job("a", "pending"), job("b", "pending")]
        queue = estimate_queue(jobs, NOW)
        assert estimate_queue([*old, *jobs], NOW) == queue
        assert seconds_left(queue[0]) == pytest.approx(10)


class TestEstimates:
    def test_first_job_has_the_range_of_the_recent_runs(self) -> None:
        ends = itertools.accumulate([10, 20, 30, 40], initial=-1000)
        jobs = [*finished(*ends, created=-1000), job("a", "pending")]
        (queued,) = estimate_queue(jobs, NOW)
        assert times(queued) == (NOW, at(5), at(25), at(60))  # quantiles 0.1, 0.5 and 0.9

    def test_job_behind_another_has_the_uncertainty_of_a_single_run(self) -> None:
        jobs = [*finished(-1, created=-101), job("a", "pending"), job("b", "pending")]
        # The variance of the first run, taken from [100, 100], is 4800 s². That of the second
        # run and of the mean is 6400 s² each. The median of a lognormal sum is lower than its mean.
        variance = 4800 + 2 * 6400
        median = 200 / (1 + variance / 200**2) ** 0.5
        assert seconds_left(estimate_queue(jobs, NOW)[1]) == pytest.approx(median)

    def test_running_job_is_compared_with_longer_runs(self) -> None:
        ends = itertools.accumulate([10] * 8 + [200, 210, 220], initial=-5000)
        jobs = [*finished(*ends, created=-5000), job("a", "started", -50)]
        assert seconds_left(estimate_queue(jobs, NOW)[0]) == pytest.approx(160)

    @pytest.mark.parametrize("elapsed", [100, 101, 1e4])
    def test_running_job_that_outruns_all_others_ends_in_the_future(self, elapsed: float) -> None:
        jobs = [*finished(-1e5 + 100), job("a", "started", -elapsed)]
        (queued,) = estimate_queue(jobs, NOW)
        _, earliest, expected, latest = times(queued)
        assert earliest is not None
        assert expected is not None
        assert latest is not None
        assert NOW < earliest < expected < latest
        assert seconds_left(queued) == pytest.approx(100)

    def test_clock_behind_the_start_of_the_running_job_is_corrected(self) -> None:
        jobs = [*TEN_RUNS, job("a", "started", -5)]
        queue = estimate_queue(jobs, at(-35))
        assert queue[0].expected_start == at(-5)
        assert seconds_left(queue[0]) == pytest.approx(95)

    def test_estimate_beyond_the_last_year_is_the_last_moment(self) -> None:
        now = datetime.datetime.max.replace(tzinfo=datetime.UTC) - datetime.timedelta(seconds=9)
        (queued,) = estimate_queue([*TEN_RUNS, job("a", "pending")], now)
        assert queued.latest_end == datetime.datetime.max.replace(tzinfo=datetime.UTC)

    @pytest.mark.parametrize("count", [1, 3, 50])
    def test_equal_runs_are_predicted_well_and_a_range_remains(self, count: int) -> None:
        ends = range(-1000, -1000 + 10 * count, 10)
        jobs = [*finished(*ends, created=-1010), *(job(f"{n}", "pending") for n in range(100))]
        queue = estimate_queue(jobs, NOW)
        assert seconds_left(queue[0]) == pytest.approx(10)
        assert seconds_left(queue[-1]) == pytest.approx(1000, rel=0.25)
        for queued in queue:
            _, earliest, expected, latest = times(queued)
            assert earliest is not None
            assert expected is not None
            assert latest is not None
            assert earliest <= expected <= latest
        assert queue[-1].latest_end != queue[-1].earliest_end


STATUSES = st.sampled_from(
    ["pending", "started", "Processing", "success", "failed", "cancelling", "cancelled", "new"]
)
MOMENTS = (
    st.none() | st.integers(-1000, 1000).map(at) | st.datetimes(timezones=st.just(datetime.UTC))
)
JOBS = st.lists(
    st.builds(Job, id=st.uuids().map(str), status=STATUSES, created_at=MOMENTS, updated_at=MOMENTS)
)


@given(JOBS, st.integers(-1000, 1000).map(at))
def test_queue_of_any_list_is_complete_and_in_order(jobs: list[Job], now: Moment) -> None:
    assert now is not None
    queue = estimate_queue(jobs, now)
    assert [one.position for one in queue] == list(range(1, len(queue) + 1))
    open_jobs = {one.id for one in jobs if not one.is_terminal}
    known = {one.id for one in jobs if one.id in open_jobs and one.status != "new"}
    assert known <= {one.job.id for one in queue} <= open_jobs
    for before, after in itertools.pairwise(queue):
        if before.job.created_at and after.job.created_at and before.job.status == "pending":
            assert before.job.created_at <= after.job.created_at
    known_times = [all(times(one)) for one in queue]
    assert all(known_times) or not any(map(any, map(times, queue)))
    for number, queued in enumerate(queue):
        start, earliest, expected, latest = times(queued)
        if start and earliest and expected and latest:
            assert now <= earliest <= expected <= latest
            assert start <= expected
            before = queue[number - 1]
            if number and before.earliest_end and before.latest_end:
                assert start == before.expected_end
                assert before.earliest_end <= earliest
                assert before.latest_end <= latest


@pytest.mark.no_cover  # coverage would multiply its time
class TestAccuracy:
    """Queues of 200 jobs, at a moment of each tenth run. The runs before it are the history."""

    @pytest.mark.parametrize("sigma", [0.5, 0.75, 1.0])
    def test_range_holds_most_ends_and_mean_beats_median(self, sigma: float) -> None:
        hits: list[bool] = []
        errors: list[float] = []
        errors_of_median: list[float] = []
        for seed in range(20):
            rng = random.Random(seed)
            runs = [10 * rng.lognormvariate(0, sigma) for _ in range(200)]
            ends = list(itertools.accumulate(runs))
            for running in range(10, 200, 10):
                moment = ends[running - 1] + rng.random() * runs[running]
                queue = estimate_queue(queue_at(ends, moment), at(moment))
                assert len(queue) == 200 - running
                length = ends[-1] - moment
                median = statistics.median(runs[max(0, running - 50) : running])
                for number, queued in enumerate(queue):
                    end = at(ends[running + number])
                    _, earliest, expected, latest = times(queued)
                    assert earliest is not None
                    assert expected is not None
                    assert latest is not None
                    hits.append(earliest <= end <= latest)
                    errors.append(abs((expected - end).total_seconds()) / length)
                    by_median = at(moment + (number + 0.5) * median)
                    errors_of_median.append(abs((by_median - end).total_seconds()) / length)
        error, error_of_median = map(statistics.fmean, (errors, errors_of_median))
        assert 0.7 <= statistics.fmean(hits) <= 0.9
        assert error < sigma / 8
        assert error < error_of_median


def queue_at(ends: Sequence[float], moment: float) -> list[Job]:
    """Return the list at a moment of jobs that were created together and end at these moments."""
    jobs = []
    for number, (start, end) in enumerate(itertools.pairwise([0.0, *ends])):
        status = "success" if end <= moment else "started" if start <= moment else "pending"
        updated = end if end <= moment else start if start <= moment else None
        jobs.append(job(str(number), status, 0, updated))
    return jobs
