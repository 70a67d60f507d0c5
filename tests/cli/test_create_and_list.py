"""`moltin-jobs create` and `moltin-jobs list`."""

import datetime
import json

import pytest

from moltin_jobs.testing import Fault, Simulator

from .harness import FAILURE, json_lines, list_requests, run, run_shell


@pytest.mark.usefixtures("store")
def test_create_prints_the_new_job_which_is_then_listed() -> None:
    result = run("create", "--filter", "gt(created_at,2018-09-01)")
    job_id, status = result.stdout.rstrip("\n").split("\t")
    assert (result.exit_code, status) == (0, "started")
    assert run("create", "--json").stdout.startswith('{"id": "')
    listed = [line.split("\t")[0] for line in run("list").stdout.splitlines()]
    assert listed[0] == job_id
    assert len(listed) == 2


def test_create_that_may_have_taken_effect_names_the_command_to_check(store: Simulator) -> None:
    store.add_faults(503)
    result = run("create")
    assert (result.exit_code, result.stdout) == (6, "")
    assert (
        "The job may have been created: run 'moltin-jobs list' before you create it again."
        in result.stderr
    )


@pytest.mark.parametrize("option", ["--filter", "--type"])
@pytest.mark.parametrize("value", ["", "a\nb"])
def test_create_with_an_invalid_text_exits_with_2_and_names_the_option(
    store: Simulator, option: str, value: str
) -> None:
    result = run("create", option, value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (f"error: {option} must be a non-empty printable text, not {value!r}\n")
    assert not store.requests


def test_list_with_json_prints_all_jobs_and_exits_with_0(store: Simulator) -> None:
    store.add_job("a", ["failed"], error=FAILURE)
    store.add_job("b", ["pending"])
    result = run("list", "--json")
    assert [(job["id"], job["error"]) for job in json_lines(result)] == [
        ("a", FAILURE),
        ("b", None),
    ]
    assert result.exit_code == 0, "a failed job is a result of the list, not its failure"


def document(job_id: str, status: str, created: str, updated: str) -> dict[str, object]:
    timestamps = {"created_at": created, "updated_at": updated}
    return {"id": job_id, "status": status, "timestamps": timestamps}


def test_list_prints_creation_and_duration_of_order_jobs(store: Simulator) -> None:
    created, later = "2026-03-01T23:59:58.123456789Z", "2026-03-03T01:00:00Z"
    jobs: list[dict[str, object]] = [
        document("a", "success", created, later) | {"link": {"href": "https://example.com/a"}},
        document("b", "failed", created, "2026-03-02T00:01:03Z") | {"error": "no\ttime"},
        document("c", "started", created, later),
        document("d", "pending", created, "0001-01-01T00:00:00Z"),
        document("e", "success", later, created),
        document("f", "success", "soon", later),
        document("g", "success", "2026-03-01T23:59:58+02:00", "0001-01-01T00:00:00Z"),
        {"id": "h", "status": "pending"},
    ]
    store.add_faults(Fault(body=json.dumps({"data": jobs}).encode()))
    result = run("list")
    assert result.exit_code == 0
    assert [line.split("\t") for line in result.stdout.splitlines()] == [
        ["a", "success", "2026-03-01T23:59:58Z", "25:00:01", "https://example.com/a"],
        ["b", "failed", "2026-03-01T23:59:58Z", "0:01:04", "no time"],
        ["c", "started", "2026-03-01T23:59:58Z", "", "running, done in about 25 h"],
        ["d", "pending", "2026-03-01T23:59:58Z", "", "2nd in the queue, done in about 41 h"],
        ["e", "success", "2026-03-03T01:00:00Z", "", ""],
        ["f", "success", "", "", ""],
        ["g", "success", "2026-03-01T21:59:58Z", "", ""],
        ["h", "pending", "", "", "3rd in the queue, done in about 61 h"],
    ]


def test_list_prints_the_run_time_where_the_service_reports_it(store: Simulator) -> None:
    attributes = {
        "status": "success",
        "created_at": "2026-03-01T10:00:00Z",
        "updated_at": "2026-03-01T12:00:00Z",
        "started_at": "2026-03-01T11:00:00Z",
        "completed_at": "2026-03-01T11:02:03Z",
    }
    body = json.dumps({"data": [{"id": "a", "attributes": attributes}]}).encode()
    store.add_faults(Fault(body=body))
    assert run("list", "--kind", "pxm").stdout == ("a\tsuccess\t2026-03-01T10:00:00Z\t0:02:03\t\n")


def queue_body(*, clock: float = 0.0) -> bytes:
    """Return a list of three jobs that took 100 s each, and three that have not ended.

    Args:
        clock: seconds by which the service's clock is ahead of the local one.
    """
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=clock)
    begin, *ends = (
        (now - datetime.timedelta(seconds=seconds)).isoformat() for seconds in (340, 240, 140, 40)
    )
    jobs = [
        document("a", "success", begin, ends[0]),
        document("b", "failed", begin, ends[1]),
        document("c", "success", begin, ends[2]),
        document("d", "started", begin, ends[2]),
        document("e", "pending", begin, begin),
        document("f", "pending", begin, begin) | {"error": "no room"},
    ]
    return json.dumps({"data": jobs}).encode()


def last_columns(*options: str) -> dict[str, str]:
    """Return the last column of a list by the id."""
    lines = [line.split("\t") for line in run("list", *options).stdout.splitlines()]
    return {line[0]: line[4] for line in lines}


@pytest.mark.parametrize(
    ("clock", "first", "second"),
    [
        (0, "about 60 s", "about 2 min"),
        (3600, "about 2 min", "about 3 min"),
        (-3600, "about 2 min", "about 3 min"),
    ],
)
def test_list_prints_the_place_and_the_time_left_of_order_jobs(
    store: Simulator, clock: float, first: str, second: str
) -> None:
    store.add_faults(Fault(body=queue_body(clock=clock)))
    assert last_columns() == {
        **dict.fromkeys("abc", ""),
        "d": f"running, done in {first}",
        "e": f"2nd in the queue, done in {second}",
        "f": "no room",
    }
    assert list_requests(store) == 1


def test_list_of_states_keeps_the_places_in_the_whole_queue(store: Simulator) -> None:
    store.add_faults(Fault(body=queue_body()))
    assert last_columns("--state", "pending") == {
        "e": "2nd in the queue, done in about 2 min",
        "f": "no room",
    }


def test_list_of_jobs_of_which_none_has_finished_prints_the_place_only(store: Simulator) -> None:
    store.add_job("a", ["started"])
    store.add_job("b", ["pending"])
    assert last_columns() == {"a": "running", "b": "2nd in the queue"}
    assert run("list", "--ids").stdout == "a\nb\n"
    assert all("in the queue" not in str(job) for job in json_lines(run("list", "--json")))


def test_list_of_another_kind_prints_no_place(store: Simulator) -> None:
    store.add_job("a", ["started"], kind="pxm")
    assert last_columns("--kind", "pxm") == {"a": ""}


STATUSES = ("pending", "started", "success", "failed", "cancelling", "cancelled", "mystery")


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        (["--state", "pending"], ["pending"]),
        (["--state", "PENDING, Running"], ["pending", "started"]),
        (["--state", "failed", "--state", "cancelled,failed"], ["failed", "cancelled"]),
        (["--state", "unknown,cancelling,succeeded"], ["success", "cancelling", "mystery"]),
        (["--state", "started,PUBLISHED"], ["started", "success"]),
        ([], list(STATUSES)),
    ],
)
def test_list_of_states_prints_the_jobs_in_them(
    store: Simulator, options: list[str], listed: list[str]
) -> None:
    for status in STATUSES:
        store.add_job(status, [status])
    assert run("list", "-q", *options, "--ids").stdout.split() == listed
    assert [job["id"] for job in json_lines(run("list", "-q", *options, "--json"))] == listed
    lines = run("list", "-q", *options).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == listed


@pytest.mark.parametrize(
    ("value", "wrong"), [("done", "done"), ("pending,", ""), ("failed,closed", "closed")]
)
def test_list_of_a_wrong_state_is_a_usage_error(store: Simulator, value: str, wrong: str) -> None:
    result = run("list", "--state", value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        f"Invalid value for '--state': '{wrong}' is not one of: pending, running, succeeded, "
        "failed, cancelling, cancelled, unknown." in result.stderr
    )
    assert not store.requests


def test_ids_of_a_list_can_be_piped_into_wait(store: Simulator) -> None:
    store.add_job("a", ["pending", "pending", "success"])
    store.add_job("b", ["success"])
    store.add_job("c", ["pending", "pending", "failed"], error=FAILURE)
    finished = run_shell('"$@" list --state pending --ids | "$@" wait -q -')
    assert finished.returncode == 1
    assert sorted(line.split("\t")[:2] for line in finished.stdout.splitlines()) == [
        ["a", "success"],
        ["c", "failed"],
    ]


def test_list_of_ids_escapes_control_characters(store: Simulator) -> None:
    jobs = [{"id": "a\x1b[2J\nb", "status": "pending"}]
    store.add_faults(Fault(body=json.dumps({"data": jobs}).encode()))
    assert run("list", "--ids").stdout == "a\\x1b[2J b\n"


def test_list_of_ids_and_json_is_a_usage_error(store: Simulator) -> None:
    result = run("list", "--ids", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--ids and --json exclude each other" in result.stderr
    assert not store.requests


def test_list_escapes_control_characters_of_ids(store: Simulator) -> None:
    jobs = [{"id": "a\x1b[2J\nb", "status": "pend\x07ing"}]
    store.add_faults(Fault(body=json.dumps({"data": jobs}).encode()))
    result = run("list")
    assert (result.exit_code, result.stdout) == (
        0,
        "a\\x1b[2J b\tpend\\x07ing\t\t\t1st in the queue\n",
    )


def test_list_escapes_control_characters_in_warnings(store: Simulator) -> None:
    jobs = [{"id": "a\x1b[2J", "status": "pending"}, {"id": "b\x1b[2J"}]
    store.add_faults(Fault(body=json.dumps({"data": jobs}).encode()))
    result = run("list")
    assert result.stderr.startswith("WARNING moltin_jobs.")
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr


@pytest.mark.usefixtures("store")
def test_empty_list_prints_nothing() -> None:
    result = run("list")
    assert (result.exit_code, result.output) == (0, "")
