"""The live table as it is rendered."""

import datetime
import io
import re
import uuid
from collections.abc import AsyncIterator, Callable

import pytest
from rich.console import Console

from moltin_jobs import (
    InvalidJobIdError,
    Job,
    JobFailedError,
    JobProblem,
    JobsSession,
    JobTimeoutError,
    ServerError,
)
from moltin_jobs.cli.exit_codes import Outcome
from moltin_jobs.cli.places import Place
from moltin_jobs.cli.table import Wait, WaitTable
from moltin_jobs.cli.times import format_duration, format_estimate
from moltin_jobs.errors import failure_of

from .harness import FAILURE

MakeWait = Callable[..., Wait]


@pytest.fixture
async def make_wait() -> AsyncIterator[MakeWait]:
    """Return a function that makes waits at a given point, which send nothing."""
    async with JobsSession("token", base_url="http://127.0.0.1:9") as session:

        def make_wait(
            job_id: str,
            status: str | None = None,
            *,
            error: str | None = None,
            polls: int = 1,
            changed_at: float = 0.0,
            outcome: Outcome | None = None,
        ) -> Wait:
            watch = session.watch_job(job_id)
            watch.polls = polls
            if status is not None:
                watch.job = Job(id=job_id, status=status, error=error)
                if watch.job.is_terminal:
                    outcome = failure_of(watch.job) or watch.job
            wait = Wait(job_id, watch, outcome, changed_at)
            wait.update(changed_at)
            return wait

        yield make_wait


def fail_polls(wait: Wait, number: int, next_poll_at: float | None) -> None:
    assert wait.watch is not None
    wait.watch.consecutive_failures = number
    wait.watch.last_error = ServerError(503, "job a")
    wait.watch.next_poll_at = next_poll_at
    wait.update(4.0)


def render(
    waits: list[Wait],
    *,
    now: float = 0.0,
    requests: int = 0,
    width: int = 80,
    height: int = 24,
    hint: str = "",
    places: dict[str, Place] | None = None,
) -> list[str]:
    """Return the lines of a table that was opened, and was given the places, at 0."""
    clock = iter([0.0, 0.0])
    table = WaitTable(waits, lambda: next(clock, now), hint)
    table.set_places(places or {})
    table.add_sample(0)
    table.add_sample(requests)
    screen = io.StringIO()
    Console(file=screen, width=width, height=height).print(table)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


async def test_table_shows_status_duration_and_polls_of_each_job(make_wait: MakeWait) -> None:
    timed_out = make_wait("d")
    timed_out.outcome = JobTimeoutError("d", timeout=3)
    timed_out.update(3.0)
    waits = [
        make_wait("a"),
        make_wait("b", "started", polls=12, changed_at=1.5),
        make_wait("c", "failed", error=FAILURE),
        timed_out,
    ]
    assert render(waits, now=4.0, requests=10) == [
        "2 of 4 jobs ended, 4.0 s, 2.5 requests/s",
        "job  status     time   polls",
        "a    …          4.0 s  1",
        "b    started    2.5 s  12",
        f"c    failed     0.0 s  1      {FAILURE}",
        "d    timed out  3.0 s  1",
    ]


async def test_table_keeps_the_duration_of_ended_jobs(make_wait: MakeWait) -> None:
    waits = [make_wait("a", "started"), make_wait("b", "started"), make_wait("c", "started")]
    created_at = datetime.datetime(2026, 3, 1, 23, 59, 58, tzinfo=datetime.UTC)
    ends = [None, created_at + datetime.timedelta(seconds=7), created_at]
    starts = [created_at, created_at, created_at + datetime.timedelta(seconds=1)]
    for wait, start, end in zip(waits, starts, ends, strict=True):
        assert wait.watch is not None
        job = Job(id=wait.job_id, status="success", created_at=start, updated_at=end)
        wait.watch.job = wait.outcome = job
        wait.update(12.5)
    _, _, *rows = render(waits, now=300.0)
    assert [row.split()[2:4] for row in rows] == [
        ["12.5", "s"],  # that of the wait: the service does not report it
        ["7.0", "s"],
        ["12.5", "s"],  # the service reports nonsense
    ]


@pytest.mark.parametrize("width", [100, 60, 40])
async def test_hint_is_the_last_line_and_fits(make_wait: MakeWait, width: int) -> None:
    hint = "Ctrl-C stops the wait, the job goes on"
    waits = [make_wait(f"job-{number}", "started") for number in range(20)]
    lines = render(waits, width=width, height=12, hint=hint)
    assert lines[-2:] == ["… and 13 more", hint]
    assert len(lines) == 11, "the last line is for the cursor"


@pytest.mark.parametrize(("width", "is_shortened"), [(100, False), (60, False), (40, True)])
async def test_table_of_uuids_has_one_line_for_each_job(
    make_wait: MakeWait, width: int, is_shortened: bool
) -> None:
    ids = [str(uuid.UUID(int=number, version=4)) for number in range(6)]
    waits = [
        make_wait(ids[0], "cancelling", polls=1234),
        make_wait(ids[1], "IN_PROGRESS"),
        make_wait(ids[2], "failed", error=FAILURE * 3),
        make_wait(ids[3], outcome=ServerError(503, "job")),
        make_wait(ids[4], "pending"),
        make_wait(ids[5], "status-that-is-not-documented" * 3),
    ]
    fail_polls(waits[4], 12, next_poll_at=36030.0)
    title, header, *rows = render(waits, now=36000.0, width=width)
    assert title.startswith("2 of 6 jobs ended, 10:00:00, ")
    assert header.split()[:3] == ["job", "status", "time"]
    assert len(rows) == len(ids)
    assert max(map(len, rows)) <= width
    statuses = ["cancelling", "IN_PROGRESS", "failed", "status 503", "status 503"]
    times = ["10:00:00", "10:00:00", "0.0 s", "0.0 s", "9:59:56"]
    for job_id, status, time, row in zip(ids, statuses, times, rows, strict=False):
        assert row.startswith(job_id[:12] if is_shortened else f"{job_id} ")
        assert re.search(rf" {status} +{time}", row)


async def test_table_shows_the_first_problem_of_a_failed_job(make_wait: MakeWait) -> None:
    job = Job(id="a", kind="inventory-import", status="failed")
    problems = [JobProblem("not a number", "stock", 3), JobProblem("no sku")]
    wait = make_wait("a", outcome=JobFailedError(job, problems))
    assert wait.watch is not None
    wait.watch.job = job
    wait.update(0.0)
    _, _, row = render([wait])
    assert row == "a    failed  0.0 s  1      line 3, stock: not a number"


async def test_table_shows_waits_that_have_no_watch(make_wait: MakeWait) -> None:
    invalid = Wait("b/c", outcome=InvalidJobIdError("b/c"), changed_at=0.0)
    invalid.update(0.0)
    waits = [
        Wait("a", changed_at=0.0),
        invalid,
        make_wait("d", "pending"),
    ]
    _, _, *rows = render(waits)
    assert [row.split() for row in rows] == [
        ["a", "…", "0.0", "s", "0"],
        ["b/c", "invalid", "id", "0.0", "s", "0"],
        ["d", "pending", "0.0", "s", "1"],
    ]


async def test_table_escapes_control_characters(make_wait: MakeWait) -> None:
    waits = [
        make_wait("a", "pend\x1bing"),
        make_wait("b", "failed", error="c\nd\x07"),
        Wait("e\x1b", changed_at=0.0),
    ]
    _, _, *rows = render(waits)
    assert rows[0].split() == ["a", "pend\\x1bing", "0.0", "s", "1"]
    assert rows[1].split(maxsplit=5) == ["b", "failed", "0.0", "s", "1", "c d\\x07"]
    assert rows[2].startswith("e\\x1b ")


async def test_table_counts_and_shows_waits_in_an_outage(make_wait: MakeWait) -> None:
    waiting, polling = make_wait("a"), make_wait("b", "started")
    fail_polls(waiting, 3, next_poll_at=12.4)
    fail_polls(polling, 1, next_poll_at=None)
    title, _, *rows = render([waiting, polling], now=10.0)
    assert title == "0 of 2 jobs ended, 10.0 s, 0.0 requests/s, 2 retrying"
    assert rows == [
        "a    status 503  6.0 s  1      x3, retrying in 2 s",
        "b    status 503  6.0 s  1      x1, retrying",
    ]


async def test_table_does_not_count_an_outage_that_ended_the_wait(make_wait: MakeWait) -> None:
    wait = make_wait("a", outcome=ServerError(503, "job a"))
    fail_polls(wait, 3, next_poll_at=0.0)
    title, _, row = render([wait])
    assert "retrying" not in title
    assert row.split() == ["a", "status", "503", "0.0", "s", "1"]


async def test_table_with_more_jobs_than_lines_shows_those_in_progress_first(
    make_wait: MakeWait,
) -> None:
    waits = [
        make_wait(f"job-{number}", "success" if number < 15 else "pending") for number in range(20)
    ]
    title, _, *rows = render(waits, height=10)
    assert title.startswith("15 of 20 jobs ended, ")
    assert [row.split()[0] for row in rows[:6]] == [
        *(f"job-{number}" for number in range(15, 20)),
        "job-0",
    ]
    assert rows[6:] == ["… and 14 more"]


async def test_table_on_a_terminal_of_few_lines_shows_one_job(make_wait: MakeWait) -> None:
    waits = [make_wait(f"job-{number}") for number in range(3)]
    assert len(render(waits, height=2)) == 4
    assert render(waits, height=2)[-1] == "… and 2 more"


@pytest.mark.parametrize("width", [40, 50, 60])
async def test_narrow_table_shortens_ids_and_keeps_status_and_duration(
    make_wait: MakeWait, width: int
) -> None:
    statuses = ["pending", "started", "cancelling", "success", "failed", "cancelled"]
    waits = [
        make_wait(str(uuid.UUID(int=number)), status, error=FAILURE * (status == "failed"))
        for number, status in enumerate(statuses)
    ]
    waits.append(make_wait(str(uuid.UUID(int=9)), outcome=ServerError(500, "job")))
    title, header, *rows = render(waits, now=59.9, width=width)
    assert title.startswith("4 of 7 jobs ended, 59.9 s")
    assert header.split() == ["job", "status", "time"]
    for row, text in zip(rows, [*statuses, "status 500"], strict=True):
        assert row.startswith("0000000")
        assert text in row
        assert len(row) <= width
        assert ("59.9 s" if text in statuses[:3] else "0.0 s") in row


@pytest.mark.parametrize("width", [40, 60])
async def test_narrow_table_keeps_one_line_for_each_job(make_wait: MakeWait, width: int) -> None:
    waits = [
        make_wait(f"order-export-{number}", "failed", error=FAILURE * 3) for number in range(20)
    ]
    lines = render(waits, width=width, height=12)
    assert max(map(len, lines)) == width
    assert len(lines) == 11, "the last line is for the cursor"
    assert lines[-1] == "… and 12 more"
    assert all("failed" in line and "…" in line for line in lines[2:-1])


async def test_table_shortens_the_reason_before_the_id(make_wait: MakeWait) -> None:
    job_id = str(uuid.uuid4())
    _, _, row = render([make_wait(job_id, "failed", error=FAILURE * 3)])
    assert row.startswith(f"{job_id}  failed  0.0 s  1      No results ")
    assert row.endswith("…")
    assert len(row) == 80


def make_places(*job_ids: str, seconds: float | None = None) -> dict[str, Place]:
    """Return the places of jobs that take so many seconds each. The first one is running."""
    return {
        job_id: Place(position, position == 1, seconds and position * seconds)
        for position, job_id in enumerate(job_ids, 1)
    }


async def test_table_shows_the_places_in_the_queue_until_the_jobs_end(make_wait: MakeWait) -> None:
    waits = [make_wait("a", "started"), make_wait("b", "pending"), make_wait("x", "pending")]
    places = make_places("a", "other", "b", seconds=60)
    _, _, *rows = render(waits, places=places)
    assert rows == [
        "a    started  0.0 s  1      running, done in about 60 s",
        "b    pending  0.0 s  1      3rd in the queue, done in about 3 min",
        "x    pending  0.0 s  1",
    ]
    waits[0] = make_wait("a", "failed", error=FAILURE)
    _, _, *rows = render(waits, now=61.0, places=places)
    assert rows == [
        f"a    failed   0.0 s    1      {FAILURE}",
        "b    pending  0:01:01  1      2nd in the queue, done in about 2 min",
        "x    pending  0:01:01  1",
    ]


async def test_table_shows_no_time_if_it_is_unknown_or_over(make_wait: MakeWait) -> None:
    waits = [make_wait("a", "started"), make_wait("b", "pending")]
    for places, now in [(make_places("a", "b"), 0.0), (make_places("a", "b", seconds=2), 4.0)]:
        _, _, *rows = render(waits, now=now, places=places)
        assert [row.split(maxsplit=5)[5] for row in rows] == ["running", "2nd in the queue"]


async def test_table_shows_that_a_poll_found_a_job_running(make_wait: MakeWait) -> None:
    _, _, row = render([make_wait("b", "started")], places=make_places("other", "b", seconds=60))
    assert row == "b    started  0.0 s  1      running, done in about 2 min"


async def test_table_shows_a_retry_instead_of_the_place(make_wait: MakeWait) -> None:
    waits = [make_wait("a", "pending"), make_wait("b", "pending")]
    fail_polls(waits[0], 3, next_poll_at=12.4)
    _, _, *rows = render(waits, now=10.0, places=make_places("a", "b"))
    assert [row.split(maxsplit=6)[-1] for row in rows] == ["x3, retrying in 2 s", "in the queue"]


async def test_wait_that_ends_before_its_job_leaves_the_places_of_others(
    make_wait: MakeWait,
) -> None:
    waits = [make_wait("a", "started"), make_wait("b", "pending")]
    waits[0].outcome = JobTimeoutError("a", timeout=3)
    waits[0].update(0.0)
    _, _, *rows = render(waits, places=make_places("a", "b"))
    assert [row.split("1     ")[1:] for row in rows] == [[], [" 2nd in the queue"]]


@pytest.mark.parametrize(
    ("width", "id_width", "first", "last"),
    [
        (100, 36, "running, done in about 50 s", "12th in the queue, done in about 10 min"),
        (99, 36, "running, about 50 s", "12th, about 10 min"),
        (80, 36, "running, about 50 s", "12th, about 10 min"),
        (60, 25, "running, about 50 s", "12th, about 10 min"),
        (40, 20, "1st", "12th"),
        (30, 10, "1st", "12th"),
    ],
)
async def test_places_of_uuids_fit_in_one_line_and_are_shortened_together(
    make_wait: MakeWait, width: int, id_width: int, first: str, last: str
) -> None:
    ids = [str(uuid.UUID(int=number << 80, version=4)) for number in range(12)]
    waits = [make_wait(job_id, "pending") for job_id in ids]
    _, _, *rows = render(waits, width=width, places=make_places(*ids, seconds=50))
    assert max(map(len, rows)) <= width
    texts = []
    for job_id, row in zip(ids, rows, strict=True):
        match = re.fullmatch(r"(\S+?)…? +pending +0\.0 s +(1 +)?(\S.*)", row)
        assert match is not None, row
        assert job_id.startswith(match[1])
        assert len(match[1]) >= id_width - 3  # rich shortens more before its release 15
        texts.append(match[3])
    assert (texts[0], texts[-1]) == (first, last)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "about 1 s"),
        (9.4, "about 9 s"),
        (10, "about 10 s"),
        (42, "about 40 s"),
        (87, "about 85 s"),
        (90, "about 2 min"),
        (239, "about 4 min"),
        (89 * 60, "about 89 min"),
        (90 * 60, "about 2 h"),
        (50 * 3600, "about 50 h"),
    ],
)
def test_estimate_is_rounded_and_in_words(seconds: float, text: str) -> None:
    assert format_estimate(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "0:01:00"),
        (3 * 3600 + 3, "3:00:03"),
        (9e5, "250:00:00"),
    ],
)
def test_duration_is_in_seconds_below_a_minute(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def request_rates(samples: list[tuple[float, int]]) -> list[float]:
    """Return the rates that a table shows after each sample of a moment and a number."""
    now = samples[0][0]
    table = WaitTable([], lambda: now)
    rates = []
    for now, requests in samples:  # noqa: B007 (the clock reads it)
        table.add_sample(requests)
        screen = io.StringIO()
        Console(file=screen, width=80).print(table)
        found = re.search(r"([0-9.]+) requests/s", screen.getvalue())
        assert found is not None
        rates.append(float(found[1]))
    return rates


def test_request_rate_of_bursts_is_not_higher_than_the_limit() -> None:
    # 20 in each second, all at once.
    rates = request_rates([(tick * 0.1001, (tick + 5) // 10 * 20) for tick in range(100)])
    assert max(rates) == 20
    assert min(rates[50:]) >= 16


def test_request_rate_covers_the_last_seconds_only() -> None:
    samples = [(100.0, 7), (101.0, 17), (102.0, 17), (105.5, 17), (10_000.0, 17)]
    assert request_rates(samples) == [0.0, 10.0, 5.0, 0.0, 0.0]
