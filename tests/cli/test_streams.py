"""Standard streams that are closed, full, or cannot encode a character."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import moltin_jobs.__main__
from moltin_jobs.cli.commands import commands
from moltin_jobs.cli.output import Output, write_line
from moltin_jobs.testing import Simulator

from .harness import COMMAND, FAILURE, PATIENCE, process, run_shell

FOREIGN = "łódź → no"
ESCAPED = "\\u0142"


def unbuffered(file: str | int) -> io.TextIOWrapper:
    """Open a stream without a buffer, whose writes the guard against blocking calls lets pass."""
    return io.TextIOWrapper(open(file, "wb", buffering=0), "utf-8", write_through=True)


@pytest.fixture
def closed_pipe() -> Iterator[io.TextIOWrapper]:
    """A stream to a pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    with unbuffered(writer) as stream:
        yield stream


def run_with_stdout(stdout: io.TextIOBase, *arguments: str) -> tuple[int, str]:
    """Run a command in this process, and return the exit code and stderr."""
    stderr = io.StringIO()
    with (
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        pytest.raises(SystemExit) as caught,
    ):
        commands.main(arguments, prog_name="moltin-jobs")
    assert isinstance(caught.value.code, int)
    return caught.value.code, stderr.getvalue()


def test_list_piped_into_head_exits_with_141_silently(store: Simulator) -> None:
    for _ in range(1000):
        store.add_job(None, ["success"])
    finished = run_shell('{ "$@" list; echo "code $?" >&2; } | head -1')
    assert finished.stdout.count("\n") == 1
    assert finished.stderr == "code 141\n"


@pytest.mark.parametrize("command", [["get", "a"], ["wait", "-q", "a", "b"], ["list"]])
def test_command_whose_reader_has_left_exits_with_141(
    store: Simulator, closed_pipe: io.TextIOWrapper, command: list[str]
) -> None:
    store.add_job("a", ["success"])
    store.add_job("b", ["pending"])
    assert run_with_stdout(closed_pipe, *command) == (141, "")
    closed_pipe.write("the stream is discarded now")
    closed_pipe.flush()


def test_demo_whose_reader_has_left_exits_with_141(
    monkeypatch: pytest.MonkeyPatch, closed_pipe: io.TextIOWrapper
) -> None:
    monkeypatch.setattr("moltin_jobs.cli.demo.JOB_SECONDS", 0.01)
    assert run_with_stdout(closed_pipe, "demo")[0] == 141


def test_full_stdout_exits_with_2_and_an_error(store: Simulator) -> None:
    store.add_job("a", ["success"])
    finished = run_shell('"$@" wait -q a >/dev/full')
    assert finished.returncode == 2
    assert finished.stderr == "error: standard output: No space left on device\n"


def test_full_stdout_in_this_process_exits_with_2(store: Simulator) -> None:
    store.add_job("a", ["success"])
    with unbuffered("/dev/full") as stream:
        code, stderr = run_with_stdout(stream, "wait", "-q", "a")
    assert (code, stderr) == (2, "error: standard output: No space left on device\n")


def test_closed_stdout_loses_the_results_only(store: Simulator) -> None:
    store.add_job("a", ["failed"])
    finished = run_shell('"$@" wait -q a >&-')
    assert (finished.returncode, finished.stderr) == (1, "")


def test_write_line_without_stdout_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    write_line("a")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", ""])
@pytest.mark.parametrize("option", ["--json", "-v"])
def test_broken_stderr_loses_no_results(store: Simulator, redirection: str, option: str) -> None:
    for job_id in "abc":
        store.add_job(job_id, ["pending", "success"])
    finished = run_shell(f'"$@" wait {option} a b nowhere c {redirection}')
    assert finished.returncode == 5
    assert sum("success" in line for line in finished.stdout.splitlines()) == 3


def test_stderr_whose_reader_has_left_loses_no_results(
    store: Simulator, closed_pipe: io.TextIOWrapper
) -> None:
    store.add_job("a", ["pending", "success"])
    finished = subprocess.run(  # noqa: S603 (our own command)
        [*COMMAND, "wait", "nowhere", "a"],
        stdout=subprocess.PIPE,
        stderr=closed_pipe.fileno(),
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert finished.returncode == 5
    assert finished.stdout.startswith("a\tsuccess\t")


def test_console_on_a_closed_pipe_ignores_what_is_printed(
    monkeypatch: pytest.MonkeyPatch, closed_pipe: io.TextIOWrapper
) -> None:
    monkeypatch.setattr(sys, "stderr", closed_pipe)
    console = Output().console
    console.print("a")
    console.print("b")
    assert not console.is_terminal
    closed_pipe.write("the stream is discarded now")
    closed_pipe.flush()


def test_console_on_an_unbuffered_broken_stream_ignores_what_is_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with open("/dev/full", "w", encoding="utf-8", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        Output().console.print("a")


def test_console_without_stderr_ignores_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    console = Output().console
    console.print("a")
    assert not console.is_terminal


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_character_that_stdout_cannot_encode_is_escaped(store: Simulator, encoding: str) -> None:
    store.add_job("a", ["failed"], error=FOREIGN)
    store.add_job("b", ["success"])
    finished = run_shell('"$@" wait a b', env={"PYTHONIOENCODING": encoding})
    assert finished.returncode == 1
    results = sorted(finished.stdout.splitlines())
    assert results[0].startswith(f"a\tfailed\t{ESCAPED}")
    assert results[1].startswith("b\tsuccess")


@pytest.mark.parametrize("command", ["", "get", "wait", "export"])
def test_help_needs_no_unicode(command: str) -> None:
    finished = run_shell(f'"$@" {command} --help', env={"PYTHONIOENCODING": "ascii"})
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.usefixtures("store")
def test_entry_point_lets_stdout_escape_what_it_cannot_encode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["anything", "list"])
    with pytest.raises(SystemExit):
        moltin_jobs.__main__.main()
    write_line(FOREIGN)
    assert raw.getvalue().startswith(ESCAPED.encode())


def test_forced_color_shows_no_table_unless_stderr_is_a_terminal(store: Simulator) -> None:
    store.add_job("a", ["pending", "failed"], error=FAILURE)
    env = {"FORCE_COLOR": "1", "TERM": "xterm"}
    with process("wait", "a", env=env) as waiting:
        _, stderr = waiting.communicate(timeout=PATIENCE)
    assert "\x1b" not in stderr
    assert [line.split()[3] for line in stderr.splitlines()] == ["pending", "failed"]
