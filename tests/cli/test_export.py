"""`moltin-jobs export`."""

import json
import re
from pathlib import Path

import pytest

from moltin_jobs._polling import retry
from moltin_jobs.testing import AnyFault, Fault, Simulator

from .harness import FAILURE, json_lines, looked_up, progress_texts, run, signal_when


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "orders.csv"


def test_export_creates_waits_and_saves(store: Simulator, destination: Path) -> None:
    result = run("export", str(destination))
    assert result.exit_code == 0
    job_id, path = result.stdout.rstrip("\n").split("\t")
    assert path == str(destination)
    assert job_id in looked_up(store)
    assert progress_texts(result.stderr) == ["started", "success"]
    assert destination.read_text().startswith("order_id,currency,amount\n")


def test_export_with_json_prints_the_path_or_the_failed_job(
    store: Simulator, destination: Path
) -> None:
    (exported,) = json_lines(run("export", "--json", "-q", str(destination)))
    assert exported["saved_as"] == str(destination)
    store.script_next_job(["failed"], error=FAILURE)
    (failed,) = json_lines(run("export", "--json", "-q", str(destination)))
    assert (failed["state"], failed["error"]) == ("failed", FAILURE)


def test_export_that_times_out_exits_with_3_and_names_the_command_to_continue(
    store: Simulator, destination: Path
) -> None:
    store.script_next_job(["pending"])
    result = run("export", "-q", "--timeout", "0.8", str(destination))
    assert (result.exit_code, result.stdout) == (3, "")
    job_id = looked_up(store)[0]
    error, hint = result.stderr.splitlines()
    assert error == (
        f"error: job {job_id} did not end within 0.8 s (last status 'pending'). "
        "Use a longer --timeout."
    )
    assert hint == f"to continue: moltin-jobs download --wait {job_id} {destination}"


def test_command_to_continue_keeps_the_name_of_the_file(store: Simulator, tmp_path: Path) -> None:
    destination = tmp_path / "base_url.csv"
    store.script_next_job(["pending"])
    result = run("export", "-q", "--timeout", "0.8", str(destination))
    assert result.stderr.endswith(f" {destination}\n")


def test_command_to_continue_works_for_a_file_that_begins_with_a_dash(
    store: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    store.script_next_job(["pending"])
    result = run("export", "-q", "--timeout", "0.8", "--", "-orders.csv")
    assert re.search(r"download --wait -- \S+ -orders\.csv\n$", result.stderr)


def test_interrupted_export_names_the_command_to_continue(
    store: Simulator, destination: Path
) -> None:
    store.script_next_job(["pending"])
    with signal_when(lambda: bool(looked_up(store))):
        result = run("export", "-q", str(destination))
    job_id = looked_up(store)[0]
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == (
        f"interrupted. To continue: moltin-jobs download --wait {job_id} {destination}\n"
    )


def test_interrupted_creation_of_an_export_names_the_command_to_check(
    store: Simulator, destination: Path
) -> None:
    store.add_faults("hang")
    with signal_when(lambda: bool(store.requests)):
        result = run("export", "-q", str(destination))
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == (
        "interrupted. The job may have been created: run 'moltin-jobs list' before you create it "
        "again.\n"
    )


def test_export_whose_wait_ends_in_an_outage_names_the_command_to_continue(
    store: Simulator, destination: Path
) -> None:
    store.add_job("a", ["pending"])
    created = {"data": {"id": "a", "status": "pending"}}
    store.add_faults(Fault(202, body=json.dumps(created).encode()))
    store.add_faults(503, job_id="a", repeat=True)
    result = run("export", "-q", str(destination))
    assert (result.exit_code, result.stdout) == (6, "")
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: job a: the service responded with status 503")
    assert hint.startswith("to continue: moltin-jobs download --wait a ")


def test_timeout_of_an_export_bounds_the_creation(store: Simulator, destination: Path) -> None:
    store.add_faults("hang")
    result = run("export", "-q", "--timeout", "0.8", str(destination))
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        "error: the job of this export was not confirmed within 0.8 s. The job may have been "
        "created: run 'moltin-jobs list' before you create it again.\n"
    )


def test_timeout_of_an_export_bounds_the_download(store: Simulator, destination: Path) -> None:
    store.script_next_job(["success"])
    store.add_job("a", ["success"])
    created = {"data": {"id": "a", "status": "success"}}
    store.add_faults(Fault(202, body=json.dumps(created).encode()), path="/v2/jobs")
    store.add_faults("hang", path="/v2/jobs/a/file", repeat=True)
    result = run("export", "-q", "--timeout", "0.9", str(destination))
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        "error: job a was not saved within 0.9 s (last status 'success'). Use a longer "
        "--timeout.\n"
        f"to continue: moltin-jobs download --wait a {destination}\n"
    )


def test_export_to_a_missing_directory_creates_no_job(store: Simulator, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "orders.csv"
    result = run("export", str(path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {path}: No such file or directory. Nothing was sent.\n"
    assert not store.requests


@pytest.mark.parametrize(
    ("faults", "code", "text"),
    [
        ([400], 6, "error: the creation of a job: the service responded with status 400"),
        (["failed"], 1, f"\tfailed\t{FAILURE}\n"),
        ([], 3, "did not end within 0.8 s"),
    ],
)
def test_export_that_fails_saves_nothing(
    store: Simulator, destination: Path, faults: list[AnyFault], code: int, text: str
) -> None:
    store.script_next_job(["pending"])
    failed = {"id": "a", "status": "failed", "error": FAILURE}
    response = Fault(202, body=json.dumps({"data": failed}).encode())
    store.add_faults(*[response if fault == "failed" else fault for fault in faults * 2])
    result = run("export", "-q", "--timeout", "0.8", str(destination))
    assert result.exit_code == code
    assert text in result.output
    assert not list(destination.parent.iterdir())


@pytest.mark.parametrize("path", ["orders.csv", "{destination}"])
def test_export_without_results_exits_with_0_if_that_is_ok(
    store: Simulator, destination: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(destination.parent)
    path = path.format(destination=destination)
    store.script_next_job(["failed"], error=FAILURE)
    result = run("export", "--empty-ok", path)
    job_id = looked_up(store)[0]
    assert (result.exit_code, result.stdout) == (0, f"{job_id}\tfailed\t{FAILURE}\n")
    assert result.stderr.splitlines()[-1] == "no order matched: no file was written"
    assert not destination.exists()


def test_quiet_export_without_results_prints_the_job_only(
    store: Simulator, destination: Path
) -> None:
    store.script_next_job(["failed"], error=FAILURE)
    result = run("export", "-q", "--json", "--empty-ok", str(destination))
    assert (result.exit_code, result.stderr) == (0, "")
    assert [job["error"] for job in json_lines(result)] == [FAILURE]


@pytest.mark.parametrize(
    ("options", "reason"), [([], FAILURE), (["--empty-ok"], "disk full"), (["--empty-ok"], None)]
)
def test_export_that_fails_otherwise_exits_with_1(
    store: Simulator, destination: Path, options: list[str], reason: str | None
) -> None:
    store.script_next_job(["failed"], error=reason)
    result = run("export", *options, str(destination))
    assert result.exit_code == 1
    assert "no order matched" not in result.stderr


@pytest.mark.parametrize("timeout", ["0.8s", "0.014m"])
def test_timeout_of_an_export_is_named_as_the_user_wrote_it(
    store: Simulator, destination: Path, timeout: str
) -> None:
    store.script_next_job(["pending"])
    result = run("export", "-q", "--timeout", timeout, str(destination))
    assert result.exit_code == 3
    assert f" did not end within {timeout} (last status 'pending'). Use a longer " in result.stderr


def test_export_whose_file_is_gone_exits_with_5(
    store: Simulator, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RECENT_SECONDS", 0.8)  # not the ten seconds that it takes otherwise
    ended = json.dumps({"data": {"id": "a", "status": "success"}}).encode()
    store.add_faults(Fault(202, body=ended), Fault(200, body=ended))
    result = run("export", "--json", "-q", str(destination))
    (error,) = json_lines(result)
    assert (error["id"], error["exception"]) == ("a", "JobNotFoundError")
    assert result.stderr == f"error: {error['message']}\n"
    assert result.exit_code == 5
