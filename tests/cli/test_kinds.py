"""Jobs of all kinds: `--kind`, and the problems and the cancellation that some kinds have."""

from pathlib import Path

import pytest

from moltin_jobs.testing import Simulator

from .harness import json_lines, looked_up, progress_texts, run, signal_when

PROBLEMS = [("not an email", "email", 7), ("too\nlong", None, 9)]
IMPORT = ["--kind", "subscription-import"]
RELEASE = ["--kind", "release:shoes"]


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "products.csv"


@pytest.mark.parametrize(
    ("kind", "status", "state"),
    [
        ("order", "success", "succeeded"),
        ("pxm", "success", "succeeded"),
        ("release:shoes", "PUBLISHED", "succeeded"),
        ("subscription", "success", "succeeded"),
        ("subscription-import", "success", "succeeded"),
        ("inventory-import", "success", "succeeded"),
    ],
)
@pytest.mark.parametrize("command", [["get", "a"], ["wait", "a"], ["list"]])
def test_commands_find_jobs_of_each_kind(
    store: Simulator, command: list[str], kind: str, status: str, state: str
) -> None:
    store.add_job("a", [status], kind=kind)
    name, *ids = command
    result = run(name, "--json", "--kind", kind, *ids)
    assert result.exit_code == 0
    (job,) = json_lines(result)
    assert (job["id"], job["kind"], job["state"]) == ("a", kind, state)


def test_get_with_json_prints_the_details_of_the_kind(store: Simulator) -> None:
    store.add_job("a", ["IN_PROGRESS"], kind="release:shoes", details={"percent_completed": 40})
    (job,) = json_lines(run("get", "--json", *RELEASE, "a"))
    assert (job["status"], job["details"]["percent_completed"]) == ("IN_PROGRESS", 40)


@pytest.mark.parametrize(
    "command",
    [["get", "a"], ["wait", "a"], ["list"], ["download", "a", "f"], ["cancel", "a"]],
)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "orders",
            "'--kind': must be order, pxm, subscription, subscription-import, inventory-import or "
            "release:CATALOG_ID, not 'orders'.",
        ),
        ("release:a/b", "'--kind': CATALOG_ID must be 1 to 128 ASCII letters, digits, "),
    ],
)
def test_invalid_kind_is_a_usage_error(
    store: Simulator, command: list[str], kind: str, message: str
) -> None:
    name, *arguments = command
    result = run(name, "--kind", kind, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Invalid value for {message}" in result.stderr
    assert not store.requests


def test_get_of_a_job_of_another_kind_advises_to_pass_the_kind(store: Simulator) -> None:
    store.add_job("a", kind="pxm")
    result = run("get", "a")
    assert result.exit_code == 5
    assert "For a job of another kind, pass its --kind: pxm, " in result.stderr


def test_alias_of_a_release_is_rejected(store: Simulator) -> None:
    result = run("get", *RELEASE, "latestPublished")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'latestPublished' is not the id of a release" in result.stderr
    assert not store.requests


def test_wait_for_a_failed_import_prints_its_first_problem(store: Simulator) -> None:
    store.add_job("a", ["started", "failed"], kind="subscription-import", problems=PROBLEMS)
    result = run("wait", *IMPORT, "a")
    assert (result.exit_code, result.stdout) == (1, "a\tfailed\tline 7, email: not an email\n")
    assert progress_texts(result.stderr) == ["started", "failed"]
    assert "error" not in result.stderr


def test_wait_with_json_prints_the_problems_of_a_failed_import(store: Simulator) -> None:
    store.add_job("a", ["failed"], kind="subscription-import", problems=PROBLEMS)
    store.add_job("b", ["failed"], kind="subscription-import")
    documents = {job["id"]: job for job in json_lines(run("wait", "--json", *IMPORT, "a", "b"))}
    assert documents["a"]["state"] == "failed"
    assert documents["a"]["problems"] == [
        {"message": "not an email", "field": "email", "line": 7},
        {"message": "too\nlong", "field": None, "line": 9},
    ]
    assert documents["b"]["problems"] == []


def test_wait_for_a_failed_release_prints_no_reason(store: Simulator) -> None:
    store.add_job("a", ["FAILED"], kind="release:shoes")
    result = run("wait", "-q", *RELEASE, "a")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "a\tFAILED\n", "")
    (job,) = json_lines(run("wait", "--json", *RELEASE, "a"))
    assert "problems" not in job


def test_interrupted_wait_names_the_command_with_the_kind(store: Simulator) -> None:
    store.add_job("-a", ["started"], kind="pxm")
    with signal_when(lambda: bool(looked_up(store))):
        result = run("wait", "-q", "--kind", "pxm", "--", "-a")
    assert result.exit_code == 130
    assert result.stderr == "interrupted. To continue: moltin-jobs wait --kind pxm -- -a\n"


def test_problems_prints_one_line_for_each(store: Simulator) -> None:
    store.add_job("a", ["failed"], kind="subscription-import", problems=PROBLEMS)
    result = run("problems", *IMPORT, "a")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "line 7, email: not an email\nline 9: too long\n"


def test_problems_with_json_prints_one_object_for_each(store: Simulator) -> None:
    store.add_job("a", ["failed"], kind="pxm", problems=["row 3: no sku"])
    result = run("problems", "--kind", "pxm", "--json", "a")
    assert json_lines(result) == [{"message": "row 3: no sku", "field": None, "line": None}]


def test_problems_of_an_order_job_are_its_error(store: Simulator) -> None:
    store.add_job("a", ["failed"], error="no orders")
    store.add_job("b", ["success"])
    assert run("problems", "a").stdout == "no orders\n"
    assert run("problems", "b").output == ""


def test_problems_of_an_unknown_job_exits_with_5(store: Simulator) -> None:
    result = run("problems", *IMPORT, "nowhere")
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr.startswith("error: the problems of subscription-import job nowhere: ")
    assert store.requests


def test_problems_of_a_kind_that_has_none_is_a_usage_error(store: Simulator) -> None:
    result = run("problems", *RELEASE, "a")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: --kind must be order, pxm, subscription-import or ")
    assert not store.requests


def test_cancel_prints_the_jobs_and_exits_with_0(store: Simulator) -> None:
    for job_id in "abc":
        store.add_job(job_id, ["pending"], kind="pxm")
    result = run("cancel", "--kind", "pxm", "b", "-", stdin="a b")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "b\tcancelled\na\tcancelled\n"
    assert run("get", "--kind", "pxm", "c").stdout == "c\tpending\n"


def test_cancel_of_a_job_that_is_not_pending_does_not_affect_the_others(store: Simulator) -> None:
    store.add_job("a", ["started"], kind="pxm")
    store.add_job("b", ["pending"], kind="pxm")
    result = run("cancel", "--kind", "pxm", "a", "b")
    assert (result.exit_code, result.stdout) == (6, "b\tcancelled\n")
    assert result.stderr.startswith("error: the cancellation of pxm job a: the service responded ")


@pytest.mark.parametrize("kind", ["order", "release:shoes"])
def test_cancel_of_a_kind_that_cannot_be_cancelled_is_a_usage_error(
    store: Simulator, kind: str
) -> None:
    result = run("cancel", "--kind", kind, "a", "b")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: --kind must be pxm, not {kind!r}: the service cannot cancel other jobs\n"
    )
    assert not store.requests


def test_interrupted_cancel_names_the_command_to_check(store: Simulator) -> None:
    store.add_faults("hang", job_id="a")
    with signal_when(lambda: "a" in looked_up(store)):
        result = run("cancel", "--kind", "pxm", "a")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == (
        "interrupted. Some jobs may have been cancelled. To check: moltin-jobs get --kind pxm a\n"
    )


def test_download_saves_the_file_with_the_index(store: Simulator, destination: Path) -> None:
    store.add_job("a", ["success"], kind="pxm", file=[b"first", b"second"])
    result = run("download", "--kind", "pxm", "--file-index", "1", "a", str(destination))
    assert (result.exit_code, result.stdout) == (0, f"a\t{destination}\n")
    assert destination.read_bytes() == b"second"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: --file-index must be from 0 to 1: pxm job a has 2 files\n"),
        (
            ["--file-index", "2"],
            "error: --file-index must be from 0 to 1, not 2: pxm job a has 2 files\n",
        ),
    ],
)
def test_download_without_the_index_of_a_file_that_exists_exits_with_2(
    store: Simulator, destination: Path, arguments: list[str], message: str
) -> None:
    store.add_job("a", ["success"], kind="pxm", file=[b"first", b"second"])
    result = run("download", "--kind", "pxm", *arguments, "a", str(destination))
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", message)
    assert not destination.exists()


def test_download_with_a_negative_index_is_a_usage_error(
    store: Simulator, destination: Path
) -> None:
    result = run("download", "--file-index", "-1", "a", str(destination))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Invalid value for '--file-index': -1 is not in the range x>=0" in result.stderr
    assert not store.requests


def test_download_of_a_kind_without_files_exits_with_2(store: Simulator, destination: Path) -> None:
    result = run("download", *IMPORT, "a", str(destination))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: --kind must be order, pxm or release:CATALOG_ID, not 'subscription-import': "
        "other jobs have no files\n"
    )
    assert not store.requests


def test_interrupted_download_names_the_command_with_kind_and_index(
    store: Simulator, destination: Path
) -> None:
    store.add_faults("hang")
    options = "--kind release:shoes --file-index 0"
    with signal_when(lambda: "a" in looked_up(store)):
        result = run("download", *options.split(), "a", str(destination))
    assert result.exit_code == 130
    assert result.stderr.endswith(f"try again: moltin-jobs download {options} a {destination}\n")
