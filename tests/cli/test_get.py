"""`moltin-jobs get`, and the ids that it reads."""

import io
import json

import pytest

from moltin_jobs import Job, JobsSession
from moltin_jobs.testing import Fault, Simulator

from .harness import FAILURE, json_lines, looked_up, process, run, run_shell, signal_when


def test_get_prints_jobs_in_the_order_of_the_ids(store: Simulator) -> None:
    store.add_job("a", ["success"])
    store.add_job("b", ["pending"])
    result = run("get", "b", "a")
    assert result.stdout == f"b\tpending\na\tsuccess\t{store.files_url}/a.csv\n"
    assert (result.exit_code, result.stderr) == (0, "")


def test_get_prints_a_long_address_of_a_file_whole(store: Simulator) -> None:
    address = "https://files.example/a.csv?signature=" + "x" * 2000
    job = {"id": "a", "status": "success", "link": {"href": address}}
    store.add_faults(Fault(body=json.dumps({"data": job}).encode()))
    assert run("get", "a").stdout == f"a\tsuccess\t{address}\n"


def test_get_prints_each_job_before_later_ones_are_known(store: Simulator) -> None:
    store.add_job("a", ["pending"])
    store.add_job("b", ["pending"])
    store.add_faults("hang", job_id="b")
    with process("get", "a", "b") as getting:
        assert getting.stdout is not None
        assert getting.stdout.readline() == "a\tpending\n"
        assert getting.poll() is None


def test_get_of_a_failed_job_prints_its_error_and_exits_with_1(store: Simulator) -> None:
    store.add_job("a", ["failed"], error=FAILURE)
    result = run("get", "a")
    assert (result.exit_code, result.stdout) == (1, f"a\tfailed\t{FAILURE}\n")


def test_get_of_a_cancelled_job_exits_with_1(store: Simulator) -> None:
    store.add_job("a", ["cancelled"])
    result = run("get", "a")
    assert (result.exit_code, result.stdout) == (1, "a\tcancelled\n")


def test_get_prints_a_multiline_error_on_one_line(store: Simulator) -> None:
    store.add_job("a", ["failed"], error="one\ntwo\tthree\x1b[2J")
    assert run("get", "a").stdout == "a\tfailed\tone two three\\x1b[2J\n"


def test_get_with_json_prints_one_object_per_line(store: Simulator) -> None:
    store.add_job("a", ["success"])
    store.add_job("b", ["Failed"], error="eins\nzwei")
    result = run("get", "--json", "a", "nowhere", "b")
    first, nowhere, second = json_lines(result)
    created = first.pop("created_at")
    assert first == {
        "id": "a",
        "kind": "order",
        "type": "job",
        "job_type": "order_export",
        "status": "success",
        "error": None,
        "updated_at": None,
        "self_url": f"{store.url}/v2/jobs/a",
        "started_at": None,
        "ended_at": None,
        "file_urls": [f"{store.files_url}/a.csv"],
        "file_url": f"{store.files_url}/a.csv",
        "details": {},
        "state": "succeeded",
    }
    assert created.endswith("+00:00")
    assert nowhere.keys() == {"id", "exception", "message"}
    assert (nowhere["id"], nowhere["exception"]) == ("nowhere", "JobNotFoundError")
    assert "job nowhere: the service responded with status 404" in nowhere["message"]
    assert (second["state"], second["error"]) == ("failed", "eins\nzwei")
    assert result.stderr == f"error: {nowhere['message']}\n"
    assert result.exit_code == 5


def test_get_with_an_unknown_id_still_prints_the_others(store: Simulator) -> None:
    store.add_job("a", ["success"])
    result = run("get", "nowhere", "a")
    assert result.stdout.startswith("a\tsuccess")
    assert result.stdout.count("\n") == 1
    assert result.stderr.startswith("error: job nowhere: the service responded with status 404")
    assert result.stderr.count("\n") == 1
    assert result.exit_code == 5


@pytest.mark.parametrize("command", ["get", "wait"])
def test_an_invalid_id_is_rejected_and_does_not_affect_the_others(
    store: Simulator, command: str
) -> None:
    store.add_job("a", ["success"])
    result = run(command, "--json", "../secrets", "a")
    documents = {document["id"]: document for document in json_lines(result)}
    assert documents["../secrets"]["exception"] == "InvalidJobIdError"
    assert documents["a"]["state"] == "succeeded"
    assert "error: '../secrets' is not a valid job id: expected 1 to 128 ASCII" in result.stderr
    assert result.exit_code == 2
    assert looked_up(store) == ["a"]


def test_get_reads_ids_from_stdin_and_looks_up_each_once(store: Simulator) -> None:
    for job_id in "abc":
        store.add_job(job_id, ["pending"])
    result = run("get", "c", "-", "a", "c", "-", stdin="b\n a c\n\nb\n")
    assert result.stdout == "c\tpending\nb\tpending\na\tpending\n"
    assert sorted(looked_up(store)) == ["a", "b", "c"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_get_reads_ids_with_a_byte_order_mark(store: Simulator, encoding: str) -> None:
    store.add_job("a", ["pending"])
    store.add_job("b", ["pending"])
    result = run("get", "-", stdin="a\r\nb\r\n".encode(encoding))
    assert result.stdout == "a\tpending\nb\tpending\n"


def test_get_reads_concatenated_files_that_each_begin_with_a_byte_order_mark(
    store: Simulator,
) -> None:
    store.add_job("a", ["pending"])
    store.add_job("b", ["pending"])
    result = run("get", "-", stdin="a\n".encode("utf-8-sig") + "b\n".encode("utf-8-sig"))
    assert result.stdout == "a\tpending\nb\tpending\n"


def test_get_without_ids_is_a_usage_error(store: Simulator) -> None:
    result = run("get", "-", stdin=" \n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no job id was given" in result.stderr
    result = run("get")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Missing argument 'ID...'" in result.stderr
    assert not store.requests


def test_get_with_closed_stdin_is_a_usage_error(store: Simulator) -> None:
    result = run_shell('exec "$@" get - <&-')
    assert (result.returncode, result.stdout) == (2, "")
    assert "no job id was given" in result.stderr
    assert not store.requests


@pytest.mark.usefixtures("store")
def test_get_with_binary_stdin_rejects_the_ids() -> None:
    result = run("get", "-", stdin=b"\xff\xfd\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: '\ufffd\ufffd' is not a valid job id: ")


def test_interrupt_while_ids_are_typed_exits_with_130(store: Simulator) -> None:
    class InterruptedStream(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            if size == 0:  # click checks whether the stream is binary
                return b""
            raise KeyboardInterrupt

        read = read1

    result = run("wait", "-", stdin=InterruptedStream())
    assert (result.exit_code, result.output) == (130, "")
    assert not store.requests


def test_interrupt_of_get_exits_with_130(store: Simulator) -> None:
    store.add_job("a")
    store.add_faults("hang", job_id="a")
    with signal_when(lambda: "a" in looked_up(store)):
        result = run("get", "a")
    assert (result.exit_code, result.output) == (130, "")


def test_get_does_not_hide_a_defect(store: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> Job:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(JobsSession, "get_job", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        run("get", store.add_job("a"))
