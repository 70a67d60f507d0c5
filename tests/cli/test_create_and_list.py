"""`moltin-jobs create` and `moltin-jobs list`."""

import json

import pytest

from moltin_jobs.testing import Fault, Simulator

from .harness import FAILURE, json_lines, run, run_shell


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
        ["c", "started", "2026-03-01T23:59:58Z", "", ""],
        ["d", "pending", "2026-03-01T23:59:58Z", "", ""],
        ["e", "success", "2026-03-03T01:00:00Z", "", ""],
        ["f", "success", "", "", ""],
        ["g", "success", "2026-03-01T21:59:58Z", "", ""],
        ["h", "pending", "", "", ""],
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


STATUSES = ("pending", "started", "success", "failed", "cancelling", "cancelled", "mystery")


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        (["--state", "pending"], ["pending"]),
        (["--state", "PENDING, Running"], ["pending", "started"]),
        (["--state", "failed", "--state", "cancelled,failed"], ["failed", "cancelled"]),
        (["--state", "unknown,cancelling,succeeded"], ["success", "cancelling", "mystery"]),
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
    ("value", "wrong"), [("done", "done"), ("pending,", ""), ("failed,success", "success")]
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
    assert (result.exit_code, result.stdout) == (0, "a\\x1b[2J b\tpend\\x07ing\t\t\t\n")


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
