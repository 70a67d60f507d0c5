"""`moltin-jobs create` and `moltin-jobs list`."""

import json

import pytest

from moltin_jobs.testing import Fault, Simulator

from .harness import FAILURE, json_lines, run


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


def test_list_escapes_control_characters_of_ids(store: Simulator) -> None:
    jobs = [{"id": "a\x1b[2J\nb", "status": "pend\x07ing"}]
    store.add_faults(Fault(body=json.dumps({"data": jobs}).encode()))
    result = run("list")
    assert (result.exit_code, result.stdout) == (0, "a\\x1b[2J b\tpend\\x07ing\n")


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
