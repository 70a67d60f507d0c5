"""`moltin-jobs download`."""

import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from moltin_jobs.testing import Fault, Simulator

from .harness import (
    FAILURE,
    PATIENCE,
    json_lines,
    looked_up,
    process,
    run,
    signal_when,
    wait_until,
)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "orders.csv"


@pytest.fixture
def slow_file_host() -> Iterator[str]:
    """Address of a file of which a part arrives and no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connections.append(connection)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"a" * 5000)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/a.csv"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)
        for connection in connections:
            connection.close()


def locate_file_at(store: Simulator, address: str, job_id: str) -> None:
    body = b'{"data": {"href": "%s"}}' % address.encode()
    store.add_faults(Fault(body=body), path=f"/v2/jobs/{job_id}/file", repeat=True)


def test_download_saves_the_file_and_prints_its_path(store: Simulator, destination: Path) -> None:
    store.add_job("a", ["success"], file=b"order_id")
    result = run("download", "a", str(destination))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"a\t{destination}\n"
    assert destination.read_bytes() == b"order_id"


def test_download_with_json_prints_an_object(store: Simulator, destination: Path) -> None:
    store.add_job("a", ["success"])
    result = run("download", "--json", "a", str(destination))
    assert json_lines(result) == [{"id": "a", "saved_as": str(destination)}]


def test_download_of_a_job_without_a_file_yet_exits_with_5(
    store: Simulator, destination: Path
) -> None:
    store.add_job("a", ["pending"])
    result = run("download", "a", str(destination))
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr.startswith(
        "error: the file of job a: the service responded with status 404"
    )
    assert "status pending and has no file yet. Wait for it first." in result.stderr
    (error,) = json_lines(run("download", "--json", "a", str(destination)))
    assert (error["id"], error["exception"]) == ("a", "JobNotFoundError")


def test_download_of_an_unknown_job_exits_with_5(store: Simulator, destination: Path) -> None:
    result = run("download", "nowhere", str(destination))
    assert (result.exit_code, result.stdout) == (5, "")
    assert "Check the id and the store" in result.stderr
    assert store.requests


def test_download_of_a_failed_job_exits_with_1(store: Simulator, destination: Path) -> None:
    store.add_job("a", ["failed"], error=FAILURE)
    result = run("download", "a", str(destination))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"status failed ({FAILURE}), but has no file. Create a new job." in result.stderr


def test_download_to_a_missing_directory_exits_with_2(store: Simulator, tmp_path: Path) -> None:
    store.add_job("a", ["success"])
    path = tmp_path / "nowhere" / "orders.csv"
    result = run("download", "a", str(path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: {path}: No such file or directory. The file of job a is still available.\n"
    )


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupted_download_leaves_no_file_and_names_the_command(
    store: Simulator, slow_file_host: str, destination: Path, signum: signal.Signals, code: int
) -> None:
    store.add_job("a", ["success"])
    locate_file_at(store, slow_file_host, "a")
    destination = destination.with_name("it's.csv")
    arguments = ["download", "--base-url", store.url, "a", str(destination)]
    with process(*arguments) as downloading:
        wait_until(lambda: any(destination.parent.iterdir()))  # the partial file
        downloading.send_signal(signum)
        stdout, stderr = downloading.communicate(timeout=PATIENCE)
    assert (downloading.returncode, stdout) == (code, "")
    assert stderr == (
        f"interrupted. Nothing was saved. To try again: {shlex.join(['moltin-jobs', *arguments])}\n"
    )
    assert not list(destination.parent.iterdir())


def test_interrupted_download_in_this_process_exits_with_130(
    store: Simulator, destination: Path
) -> None:
    store.add_faults("hang")
    with signal_when(lambda: "a" in looked_up(store)):
        result = run("download", "a", str(destination))
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == (
        f"interrupted. Nothing was saved. To try again: moltin-jobs download a {destination}\n"
    )


def test_download_with_timeout_exits_with_3(
    store: Simulator, slow_file_host: str, destination: Path
) -> None:
    store.add_job("a", ["success"])
    locate_file_at(store, slow_file_host, "a")
    result = run("download", "--timeout", "0.8", "a", str(destination))
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == ("error: job a was not saved within 0.8 s. Use a longer --timeout.\n")
    assert not list(destination.parent.iterdir())


def test_download_that_exceeds_the_file_size_limit_exits_with_2(
    store: Simulator, destination: Path
) -> None:
    store.add_job("a", ["success"], file=b"order_id" * 1000)
    code = (
        "import resource, signal, sys\n"
        "from moltin_jobs.__main__ import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "main()\n"
    )
    finished = subprocess.run(  # noqa: S603 (written above)
        [sys.executable, "-c", code, "download", "a", str(destination)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.startswith(f"error: {destination}: File too large. The file of job a ")
    assert not list(destination.parent.iterdir())


class TestWait:
    def test_download_that_waits_saves_the_file_of_a_job_that_runs(
        self, store: Simulator, destination: Path
    ) -> None:
        store.add_job("a", duration=1, file=b"order_id")
        result = run("download", "--wait", "--timeout", "1m", "a", str(destination))
        assert (result.exit_code, result.stdout) == (0, f"a\t{destination}\n")
        assert destination.read_bytes() == b"order_id"

    def test_job_that_fails_is_printed_and_nothing_saved(
        self, store: Simulator, destination: Path
    ) -> None:
        store.add_job("a", ["pending", "failed"], error=FAILURE)
        result = run("download", "-q", "--wait", "a", str(destination))
        assert (result.exit_code, result.stdout) == (1, f"a\tfailed\t{FAILURE}\n")
        assert not destination.exists()

    def test_timeout_bounds_the_wait(self, store: Simulator, destination: Path) -> None:
        store.add_job("a", ["pending"])
        result = run("download", "-q", "--wait", "--timeout", "0.9s", "a", str(destination))
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr == (
            "error: job a did not end within 0.9s (last status 'pending'). "
            "Use a longer --timeout.\n"
        )

    def test_invalid_id_is_named(self, store: Simulator, destination: Path) -> None:
        result = run("download", "--wait", "a/b", str(destination))
        assert result.exit_code == 2
        assert "'a/b' is not a valid job id" in result.stderr
        assert store.requests == []

    def test_interrupted_command_names_itself(self, store: Simulator, destination: Path) -> None:
        store.add_job("a", ["pending"])
        with signal_when(lambda: bool(looked_up(store))):
            result = run("download", "-q", "--wait", "a", str(destination))
        command = f"moltin-jobs download --wait a {destination}"
        assert (result.exit_code, result.stderr) == (130, f"interrupted. To continue: {command}\n")

    def test_export_that_was_killed_is_resumed_by_its_id(
        self, store: Simulator, destination: Path
    ) -> None:
        store.script_next_job(duration=2, file=b"order_id")
        with process("export", str(destination)) as export:
            assert export.stderr is not None
            job_id = export.stderr.readline().split()[2]
            export.kill()
            export.wait()
        assert not list(destination.parent.iterdir())
        result = run("download", "--wait", job_id, str(destination))
        assert (result.exit_code, result.stdout) == (0, f"{job_id}\t{destination}\n")
        assert destination.read_bytes() == b"order_id"
        creations = [request for request in store.requests if request.method == "POST"]
        assert [request.path for request in creations].count("/v2/jobs") == 1


class TestStdout:
    def test_file_is_written_byte_for_byte_and_nothing_else(self, store: Simulator) -> None:
        content = bytes(range(256)) * 4000
        store.add_job("a", ["success"], file=content)
        result = run("download", "a", "-")
        assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, content, "")

    def test_export_writes_the_file_to_stdout(self, store: Simulator) -> None:
        store.script_next_job(["pending", "success"], file=b"order_id\r\n")
        result = run("export", "-q", "-")
        assert (result.exit_code, result.stdout_bytes) == (0, b"order_id\r\n")

    def test_job_that_failed_is_printed_to_stderr(self, store: Simulator) -> None:
        store.script_next_job(["failed"], error=FAILURE)
        result = run("export", "-q", "-")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.endswith(f"  failed  {FAILURE}\n")

    def test_error_of_the_download_is_printed_to_stderr(self, store: Simulator) -> None:
        store.add_job("a", ["pending"])
        result = run("download", "a", "-")
        assert (result.exit_code, result.stdout) == (5, "")
        assert result.stderr.startswith("error: the file of job a: ")

    def test_command_to_continue_keeps_the_dash(self, store: Simulator) -> None:
        store.script_next_job(["pending"])
        result = run("export", "-q", "--timeout", "0.9", "-")
        job_id = looked_up(store)[0]
        assert result.stderr.endswith(f"to continue: moltin-jobs download --wait {job_id} -\n")

    @pytest.mark.parametrize("command", [["download", "a"], ["export"]], ids=lambda one: one[0])
    def test_json_with_a_file_on_stdout_is_a_usage_error(
        self, store: Simulator, command: list[str]
    ) -> None:
        result = run(*command, "--json", "-")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--json and - as FILE exclude each other" in result.stderr
        assert store.requests == []

    def test_reader_that_leaves_early_ends_the_command_quietly(self, store: Simulator) -> None:
        store.add_job("a", ["success"], file=b"row\n" * 1_000_000)
        with process("download", "a", "-") as download:
            assert download.stdout is not None
            assert download.stdout.readline() == "row\n"
            download.stdout.close()
            assert download.wait(PATIENCE) == 141
            assert download.stderr is not None
            assert download.stderr.read() == ""

    def test_timeout_bounds_a_file_that_never_ends(
        self, store: Simulator, slow_file_host: str
    ) -> None:
        store.add_job("a", ["success"])
        locate_file_at(store, slow_file_host, "a")
        result = run("download", "--timeout", "0.9", "a", "-")
        assert (result.exit_code, result.stdout) == (3, "a" * 5000)
        assert "was not saved within 0.9 s" in result.stderr
