"""`moltin-jobs wait` without a terminal."""

import json
import signal
from typing import Any

import pytest

from moltin_jobs import JobsSession, JobWatch
from moltin_jobs.testing import Fault, Simulator

from .harness import (
    FAILURE,
    PATIENCE,
    json_lines,
    looked_up,
    process,
    progress_texts,
    run,
    signal_when,
    wait_until,
)


def test_wait_prints_progress_to_stderr_and_results_to_stdout(store: Simulator) -> None:
    store.add_job("a", ["pending", "started", "success"])
    result = run("wait", "a")
    assert result.exit_code == 0
    assert result.stdout == f"a\tsuccess\t{store.files_url}/a.csv\n"
    lines = [line.split() for line in result.stderr.splitlines()]
    assert [line[1:] for line in lines] == [
        ["s", "a", "pending"],
        ["s", "a", "started"],
        ["s", "a", "success"],
    ]


def test_wait_prints_each_job_as_it_ends(store: Simulator) -> None:
    store.add_job("slow", [*["pending"] * 5, "success"])
    store.add_job("quick", ["failed"], error=FAILURE)
    result = run("wait", "slow", "quick", "slow")
    quick, slow = result.stdout.splitlines()
    assert quick == f"quick\tfailed\t{FAILURE}"
    assert slow.startswith("slow\tsuccess")
    assert result.exit_code == 1
    assert looked_up(store).count("slow") == 6


def test_wait_lasts_until_a_running_job_has_failed(store: Simulator) -> None:
    store.add_job("a", duration=0.05, error=FAILURE)
    result = run("wait", "-q", "a")
    assert (result.exit_code, result.stdout) == (1, f"a\tfailed\t{FAILURE}\n")


def test_wait_with_json_and_quiet_prints_the_job_only(store: Simulator) -> None:
    store.add_job("a", ["pending", "success"])
    result = run("wait", "--json", "--quiet", "a")
    assert result.stderr == ""
    (job,) = json_lines(result)
    assert (job["id"], job["status"], job["state"]) == ("a", "success", "succeeded")
    assert job["updated_at"].endswith("+00:00")


def test_wait_with_quiet_prints_errors(store: Simulator) -> None:
    store.add_job("a", ["success"])
    result = run("wait", "-q", "--json", "nowhere", "a")
    documents = {document["id"]: document for document in json_lines(result)}
    assert documents["nowhere"]["exception"] == "JobNotFoundError"
    assert documents["a"]["state"] == "succeeded"
    assert result.stderr == f"error: {documents['nowhere']['message']}\n"
    assert result.exit_code == 5


def test_wait_for_an_unknown_job_prints_it_in_the_progress(store: Simulator) -> None:
    progress, error = run("wait", "nowhere").stderr.splitlines()
    assert progress.split(maxsplit=3)[2:] == ["nowhere", "not found"]
    assert error.startswith("error: job nowhere: the service responded with status 404")
    assert looked_up(store) == ["nowhere"]


def test_wait_with_timeout_exits_with_3_and_names_the_option(store: Simulator) -> None:
    store.add_job("a", ["pending"])
    store.add_job("b", ["pending", "success"])
    result = run("wait", "--timeout", "0.8", "a", "b")
    assert result.exit_code == 3
    assert result.stdout.startswith("b\tsuccess")
    assert "error: job a did not end within 0.8 s (last status 'pending', " in result.stderr
    assert result.stderr.endswith("Wait again, or use a longer --timeout.\n")
    assert progress_texts(result.stderr)[-1] == "timed out"


@pytest.mark.parametrize(
    "timeout",
    ["0", "0s", "-1", "nan", "inf", "9" * 400, "soon", "", "m", "1_0", "1h30", "5m1h", "2d", "٣"],
)
@pytest.mark.parametrize("command", [["wait", "a"], ["download", "a", "file"], ["export", "file"]])
def test_invalid_timeout_is_a_usage_error(
    store: Simulator, command: list[str], timeout: str
) -> None:
    name, *arguments = command
    result = run(name, "--timeout", timeout, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        f"Invalid value for '--timeout': '{timeout}' is not a time above 0 like 90, 90s, 10m or "
        "1h30m." in result.stderr
    )
    assert not store.requests


@pytest.mark.parametrize(
    ("timeout", "text"),
    [
        ("0.8", "0.8 s"),
        (".8", ".8 s"),
        ("0.8s", "0.8s"),
        ("0.014m", "0.014m"),
        ("0.00023h", "0.00023h"),
        ("0h0.01m0.3s", "0h0.01m0.3s"),
    ],
)
def test_timeout_is_named_as_the_user_wrote_it(store: Simulator, timeout: str, text: str) -> None:
    store.add_job("a", ["pending"])
    result = run("wait", "-q", "--json", "--timeout", timeout, "a")
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: job a did not end within {text} (last status ")
    assert json_lines(result)[0]["message"].startswith(f"job a did not end within {text} (")


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("1h1m1.5s", 3661.5)],
)
def test_timeout_is_read_with_units(
    store: Simulator, monkeypatch: pytest.MonkeyPatch, timeout: str, seconds: float
) -> None:
    timeouts = []
    watch_job = JobsSession.watch_job

    def record(self: JobsSession, *args: Any, **options: Any) -> JobWatch:
        timeouts.append(options["timeout"])
        return watch_job(self, *args, **options)

    monkeypatch.setattr(JobsSession, "watch_job", record)
    store.add_job("a", ["success"])
    assert run("wait", "--timeout", timeout, "a").exit_code == 0
    assert timeouts == [seconds]


def test_wait_for_all_waits_for_the_open_jobs_only(store: Simulator) -> None:
    store.add_job("ended", ["success"])
    store.add_job("bad", ["failed"])
    store.add_job("queued", ["pending", "pending", "success"])
    store.add_job("odd", ["mystery", "mystery", "failed"])
    store.add_job("import", ["started", "success"], kind="pxm")
    result = run("wait", "-q", "--all")
    assert result.exit_code == 1
    assert {line.split("\t")[0] for line in result.stdout.splitlines()} == {"queued", "odd"}
    assert set(looked_up(store)) == {"queued", "odd"}
    lists = [request for request in store.requests if request.path == "/v2/jobs"]
    assert len(lists) == 1


def test_wait_for_all_of_a_kind_names_the_command_to_continue(store: Simulator) -> None:
    store.add_job("import-01", ["success"], kind="pxm")
    store.add_job("import-02", ["started"], kind="pxm")
    with signal_when(lambda: "import-02" in looked_up(store)):
        result = run("wait", "-q", "--all", "--kind", "pxm")
    assert result.exit_code == 130
    assert result.stderr == ("interrupted. To continue: moltin-jobs wait --kind pxm import-02\n")


def test_wait_for_all_without_open_jobs_exits_with_0(store: Simulator) -> None:
    store.add_job("bad", ["failed"])
    result = run("wait", "--all")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "all order jobs have ended\n"
    assert run("wait", "--all", "-q").output == ""
    assert not looked_up(store)


def test_wait_for_all_releases_is_a_usage_error(store: Simulator) -> None:
    result = run("wait", "--all", "--kind", "release:shoes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: --kind must be order, pxm, subscription, subscription-import or inventory-import, "
        "not 'release:shoes': the service lists published releases only\n"
    )
    assert not store.requests


@pytest.mark.parametrize("job_id", ["a", "-"])
def test_wait_for_all_and_ids_is_a_usage_error(store: Simulator, job_id: str) -> None:
    for arguments in (["--all", job_id], [job_id, "--all"]):
        result = run("wait", *arguments, stdin="b")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--all and ids exclude each other" in result.stderr
    assert not store.requests


def test_wait_without_ids_is_a_usage_error(store: Simulator) -> None:
    assert "no job id was given: give ids, - or --all" in run("wait").stderr
    assert "no job id was given" in run("wait", "-", stdin="").stderr
    assert run("wait").exit_code == 2
    assert not store.requests


def test_wait_for_all_reports_a_list_that_fails(store: Simulator) -> None:
    store.add_faults(503, repeat=True)
    result = run("wait", "--all")
    assert (result.exit_code, result.stdout) == (6, "")
    assert "status 503" in result.stderr


def test_wait_for_the_first_prints_one_job_and_names_the_rest(store: Simulator) -> None:
    store.add_job("slow", ["pending"])
    store.add_job("bad", ["started", "failed"], error=FAILURE)
    store.add_job("slower", ["pending"])
    result = run("wait", "--first", "slow", "bad", "slower")
    assert (result.exit_code, result.stdout) == (1, f"bad\tfailed\t{FAILURE}\n")
    assert result.stderr.splitlines()[-1] == ("to wait for the rest: moltin-jobs wait slow slower")


def test_wait_for_the_first_of_jobs_that_have_ended_prints_one(store: Simulator) -> None:
    ids = [store.add_job(f"job-{number}", ["success"]) for number in range(5)]
    result = run("wait", "-q", "--first", "--json", *ids)
    (job,) = json_lines(result)
    assert job["id"] in ids
    assert (result.exit_code, result.stderr) == (0, "")


def test_error_of_an_id_does_not_end_a_wait_for_the_first(store: Simulator) -> None:
    store.add_job("a", ["pending", "success"])
    store.add_job("b", ["pending"])
    result = run("wait", "-q", "--first", "nowhere", "a/b", "a", "b")
    assert (result.exit_code, result.stdout.split()[:2]) == (0, ["a", "success"])
    assert "error: job nowhere: " in result.stderr
    assert "error: 'a/b' is not a valid job id" in result.stderr


def test_wait_for_the_first_of_wrong_ids_exits_with_the_code_of_the_error(
    store: Simulator,
) -> None:
    result = run("wait", "-q", "--first", "nowhere", "neither")
    assert (result.exit_code, result.stdout) == (5, "")


def test_wait_for_the_first_of_one_job_names_no_rest(store: Simulator) -> None:
    store.add_job("a", ["success"])
    assert "the rest" not in run("wait", "--first", "a").stderr


def test_wait_for_the_first_of_all_open_jobs(store: Simulator) -> None:
    store.add_job("ended", ["success"])
    store.add_job("a", ["pending"])
    store.add_job("b", ["pending", "started", "success"])
    result = run("wait", "--all", "--first")
    assert (result.exit_code, result.stdout[:2]) == (0, "b\t")
    assert result.stderr.endswith("to wait for the rest: moltin-jobs wait a\n")


def test_interrupted_wait_for_the_first_names_all_jobs(store: Simulator) -> None:
    store.add_job("a", ["pending"])
    store.add_job("b", ["pending"])
    with signal_when(lambda: len(looked_up(store)) > 4):
        result = run("wait", "-q", "--first", "a", "b")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "interrupted. To continue: moltin-jobs wait a b\n"


def test_interrupted_wait_names_the_jobs_that_have_not_ended(store: Simulator) -> None:
    for job_id in ("a", "b", "c"):
        store.add_job(job_id, ["success" if job_id == "b" else "pending"])
    with signal_when(lambda: len(looked_up(store)) > 10):
        result = run("wait", "a", "b", "c")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "interrupted. To continue: moltin-jobs wait a c"
    assert result.stdout.startswith("b\tsuccess")


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_process_that_gets_a_signal_exits_with_its_code_without_a_traceback(
    store: Simulator, signum: signal.Signals, code: int
) -> None:
    store.add_job("a", ["pending"])
    with process("wait", "a") as waiting:
        assert waiting.stderr is not None
        progress = waiting.stderr.readline()
        waiting.send_signal(signum)
        stdout, stderr = waiting.communicate(timeout=PATIENCE)
    assert progress.split()[1:] == ["s", "a", "pending"]
    assert (waiting.returncode, stdout) == (code, "")
    assert stderr == "interrupted. To continue: moltin-jobs wait a\n"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_cancels_a_command_in_this_process(
    store: Simulator, signum: signal.Signals, code: int
) -> None:
    store.add_job("a", ["pending"])
    with signal_when(lambda: "a" in looked_up(store), signum):
        result = run("wait", "-q", "a")
    assert result.exit_code == code
    assert result.stderr == "interrupted. To continue: moltin-jobs wait a\n"


def test_ignored_sighup_stays_ignored(store: Simulator) -> None:
    store.add_job("a", ["pending"])
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with process("wait", "a") as waiting:
            wait_until(lambda: "a" in looked_up(store))
            waiting.send_signal(signal.SIGHUP)
            polls = len(store.requests)
            wait_until(lambda: len(store.requests) > polls + 1)
            assert waiting.poll() is None
    finally:
        signal.signal(signal.SIGHUP, previous)


@pytest.mark.usefixtures("store")
def test_ignored_sighup_stays_ignored_in_this_process() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run("list").exit_code == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_progress_of_an_outage_before_the_first_response(store: Simulator) -> None:
    store.add_job("a", ["pending", "pending", "success"])
    store.add_faults(503, 503)
    result = run("wait", "a")
    assert result.stderr.startswith("WARNING moltin_jobs.polling: poll 1 failed, retrying in 0.0 s")
    assert progress_texts(result.stderr) == ["status 503, retrying", "pending", "success"]


def test_progress_of_an_outage_shows_when_it_is_over(store: Simulator) -> None:
    store.add_job("a", duration=0.8)
    started = json.dumps({"data": {"id": "a", "status": "started"}}).encode()
    store.add_faults(Fault(body=started), 503, job_id="a")
    assert progress_texts(run("wait", "a").stderr) == [
        "started",
        "status 503, retrying",
        "started",
        "success",
    ]


@pytest.mark.parametrize(
    ("fault", "text"),
    [(503, "status 503"), ("reset", "no response"), ("html", "unreadable")],
)
def test_progress_of_an_outage_that_ends_the_wait(
    store: Simulator, fault: int | str, text: str
) -> None:
    store.add_job("a", ["success"])
    store.add_faults(fault, repeat=True)
    assert progress_texts(run("wait", "a").stderr) == [f"{text}, retrying", text]


def test_progress_of_an_invalid_id(store: Simulator) -> None:
    assert progress_texts(run("wait", "a/b").stderr) == ["invalid id"]
    assert not store.requests
