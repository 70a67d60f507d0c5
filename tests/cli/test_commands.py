"""The command line, against a simulator that runs in a thread of its own, in real time."""

import asyncio
import builtins
import contextlib
import importlib.metadata
import io
import json
import logging
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Self

import pyte
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import moltin_jobs.__main__
from moltin_jobs import Job, JobNotFoundError, JobsSession, Polling, Retry
from moltin_jobs.cli import commands as cli
from moltin_jobs.cli import demo
from moltin_jobs.cli.progress import Board, follow
from moltin_jobs.testing.simulator import Fault, Simulator

README = (Path(__file__).parent.parent.parent / "README.md").read_text()
DOCUMENTED_ERROR = "No results matched the supplied filter"
ENVIRONMENT = ("EPCC_API_BASE_URL", "EPCC_CLIENT_ID", "EPCC_CLIENT_SECRET", "EPCC_ACCESS_TOKEN")
TERMINAL = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES")
COMMAND = [sys.executable, "-m", "moltin_jobs"]
PATIENCE = 60.0  # for what takes a second or two, on a machine that does much else


class Store:
    """The simulator, reached from another thread."""

    def __init__(self, simulator: Simulator, loop: asyncio.AbstractEventLoop) -> None:
        self.simulator = simulator
        self.asked = threading.Event()  # whatever was asked
        self._loop = loop

    def do(self, action: Callable[[], object]) -> None:
        async def act() -> None:
            action()

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(PATIENCE)

    def add(self, job_id: str, *statuses: str, **settings: Any) -> str:
        script = None if "duration" in settings else statuses or ["success"]
        self.do(lambda: self.simulator.add_job(job_id, script, **settings))
        return job_id

    def spoil(self, *faults: Any, **settings: Any) -> None:
        self.do(lambda: self.simulator.spoil(*faults, **settings))

    def asked_for(self) -> list[str]:
        return [one.job_id for one in self.simulator.requests if one.job_id]


@contextlib.contextmanager
def served(**settings: Any) -> Iterator[Store]:
    opened: list[Store] = []
    ready = threading.Event()
    done = asyncio.Event()

    async def serve() -> None:
        async with Simulator(**settings) as simulator:
            opened.append(Store(simulator, asyncio.get_running_loop()))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield opened[0]
    finally:
        opened[0].do(done.set)
        thread.join(PATIENCE)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with served(creation_seconds=0.2) as opened:
        monkeypatch.setenv("EPCC_API_BASE_URL", opened.simulator.url)
        monkeypatch.setenv("EPCC_CLIENT_ID", opened.simulator.client_id)
        monkeypatch.setenv("EPCC_CLIENT_SECRET", opened.simulator.client_secret)
        yield opened


class Brisk(JobsSession):
    """Asks at once and again at once."""

    def __init__(self, auth: Any, **settings: Any) -> None:
        brisk: dict[str, Any] = {
            "retry": Retry(max_tries=2, initial=0.01),
            "polling": Polling(initial=0.01, max_interval=0.02, outage=0.05),
        }
        super().__init__(auth, **brisk | settings)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clean environment, brisk sessions, and afterwards the event loop that was there."""
    for name in (*ENVIRONMENT, *TERMINAL):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli, "JobsSession", Brisk)
    monkeypatch.setattr(demo, "JobsSession", Brisk)
    try:
        loop = asyncio.get_event_loop()
    except RuntimeError:  # there was none
        loop = None
    yield
    asyncio.set_event_loop(loop)


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Logging as a fresh process has it, without pytest's handlers."""
    root, own = logging.getLogger(), logging.getLogger("moltin_jobs")
    handlers, level = root.handlers[:], own.level
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        own.setLevel(level)


def run(*arguments: str, stdin: str | IO[bytes] | None = None) -> Result:
    with unlogged():
        result = CliRunner().invoke(cli.commands, arguments, prog_name="moltin-jobs", input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


def environment(**changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in (*ENVIRONMENT, *TERMINAL)}
    return kept | changes


def of(store: Store) -> dict[str, str]:
    return {"EPCC_API_BASE_URL": store.simulator.url, "EPCC_ACCESS_TOKEN": store.simulator.token}


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def interrupt_when(condition: Callable[[], bool]) -> threading.Thread:
    """Send this process a SIGINT, as Ctrl-C does, once ``condition`` holds."""

    def watch() -> None:
        for _ in range(int(PATIENCE / 0.01)):
            if condition():
                os.kill(os.getpid(), signal.SIGINT)
                return
            threading.Event().wait(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


class TestGet:
    def test_a_line_for_each_in_the_order_asked(self, store: Store) -> None:
        store.add("a", "success")
        store.add("b", "pending")
        result = run("get", "b", "a")
        assert result.stdout == f"b\tpending\na\tsuccess\t{store.simulator.files_url}/a.csv\n"
        assert (result.exit_code, result.stderr) == (0, "")

    def test_a_failed_job_is_told_with_its_error(self, store: Store) -> None:
        store.add("a", "failed", error=DOCUMENTED_ERROR)
        result = run("get", "a")
        assert (result.exit_code, result.stdout) == (1, f"a\tfailed\t{DOCUMENTED_ERROR}\n")

    def test_a_cancelled_job_counts_as_failed(self, store: Store) -> None:
        store.add("a", "cancelled")
        result = run("get", "a")
        assert (result.exit_code, result.stdout) == (1, "a\tcancelled\n")

    def test_what_a_job_says_stays_on_its_line(self, store: Store) -> None:
        store.add("a", "failed", error="one\ntwo\tthree\x1b[2J")
        assert run("get", "a").stdout == "a\tfailed\tone two three\\x1b[2J\n"

    def test_json_is_an_object_a_line(self, store: Store) -> None:
        store.add("a", "success")
        store.add("b", "Failed", error="eins\nzwei")
        result = run("get", "--json", "a", "nowhere", "b")
        first, nowhere, second = objects(result)
        created = first.pop("created_at")
        assert first == {
            "id": "a",
            "type": "job",
            "job_type": "order_export",
            "status": "success",
            "error": None,
            "updated_at": None,
            "self_url": f"{store.simulator.url}/v2/jobs/a",
            "file_url": f"{store.simulator.files_url}/a.csv",
            "state": "succeeded",
        }
        assert created.endswith("+00:00")
        assert nowhere.keys() == {"id", "exception", "message"}
        assert (nowhere["id"], nowhere["exception"]) == ("nowhere", "JobNotFoundError")
        assert "job nowhere: the service answered 404" in nowhere["message"]
        assert (second["state"], second["error"]) == ("failed", "eins\nzwei")
        assert result.stderr == f"error: {nowhere['message']}\n"
        assert result.exit_code == 5

    def test_an_error_goes_to_stderr_and_spares_the_others(self, store: Store) -> None:
        store.add("a", "success")
        result = run("get", "nowhere", "a")
        assert result.stdout.startswith("a\tsuccess")
        assert result.stdout.count("\n") == 1
        assert result.stderr.startswith("error: job nowhere: the service answered 404")
        assert result.stderr.count("\n") == 1
        assert result.exit_code == 5

    def test_ids_from_standard_input_each_once(self, store: Store) -> None:
        for job_id in "abc":
            store.add(job_id, "pending")
        result = run("get", "c", "-", "a", "c", "-", stdin="b\n a c\n\nb\n")
        assert result.stdout == "c\tpending\nb\tpending\na\tpending\n"
        assert sorted(store.asked_for()) == ["a", "b", "c"]

    def test_no_id_at_all(self, store: Store) -> None:
        result = run("get", "-", stdin=" \n")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "no job id was given" in result.stderr
        result = run("get")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Missing argument 'ID…'" in result.stderr
        assert not store.simulator.requests

    def test_standard_input_is_closed(self, store: Store) -> None:
        result = subprocess.run(  # noqa: S603 (this package's own command)
            ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "get", "-"],
            env=environment(**of(store)),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (result.returncode, result.stdout) == (2, "")
        assert "no job id was given" in result.stderr

    @pytest.mark.usefixtures("store")
    def test_standard_input_is_no_text(self) -> None:
        result = run("get", "-", stdin=io.BytesIO(b"\xff\xfe\n"))
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: '\ufffd\ufffd' is not a job id: ")

    @pytest.mark.parametrize("command", ["get", "wait"])
    def test_what_is_no_id_is_refused_and_spares_the_others(
        self, store: Store, command: str
    ) -> None:
        result = run(command, "--json", "../secrets", store.add("a"))
        outcomes = {one["id"]: one for one in objects(result)}
        assert outcomes["../secrets"]["exception"] == "InvalidJobIdError"
        assert outcomes["a"]["state"] == "succeeded"
        assert "error: '../secrets' is not a job id" in result.stderr
        assert result.exit_code == 2
        assert store.asked_for() == ["a"]

    def test_a_defect_is_not_passed_off_as_an_outcome(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(*_: object) -> Job:
            raise ZeroDivisionError("a defect")

        monkeypatch.setattr(Brisk, "get_job", broken)
        with pytest.raises(ZeroDivisionError, match="a defect"):
            run("get", store.add("a"))


class TestExitCodes:
    @pytest.mark.parametrize(
        ("fault", "code", "message"),
        [
            (401, 4, "answered 401"),
            (403, 4, "answered 403: Forbidden"),
            (404, 5, "answered 404"),
            (400, 6, "answered 400"),
            (500, 6, "request id"),
            ("garbage", 6, "error: job a: "),
            ("html", 6, "error: job a: the service answered 200, but"),
        ],
    )
    @pytest.mark.parametrize("command", ["get", "wait"])
    def test_an_error(
        self, store: Store, command: str, fault: str | int, code: int, message: str
    ) -> None:
        store.spoil(*[fault] * 30)
        result = run(command, "a")
        assert (result.exit_code, result.stdout) == (code, "")
        assert message in result.stderr

    @pytest.mark.parametrize("command", ["get", "wait"])
    def test_the_highest_if_several_apply(self, store: Store, command: str) -> None:
        ids = [store.add("good"), store.add("bad", "failed"), "nowhere", store.add("odd")]
        store.spoil(400, job_id="odd")
        for number, code in ((1, 0), (2, 1), (3, 5), (4, 6)):
            assert run(command, *ids[:number][::-1]).exit_code == code
            store.spoil(400, job_id="odd")

    def test_refused_credentials(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EPCC_CLIENT_ID", "someone-else")
        result = run("get", store.add("a"))
        assert result.exit_code == 4
        assert result.stderr.startswith("error: job a: the request for a token: ")
        assert "401" in result.stderr
        assert not store.asked_for()

    @pytest.mark.parametrize("command", ["get", "wait"])
    def test_a_host_that_cannot_be_reached(self, store: Store, command: str) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # and does not listen
            address = f"127.0.0.1:{closed.getsockname()[1]}"
            result = run(command, "--base-url", f"http://{address}", "a")
        assert (result.exit_code, result.stdout) == (6, "")
        assert address in result.stderr.splitlines()[-1]
        assert not store.simulator.requests


class TestConfiguration:
    @pytest.mark.parametrize("command", ["get", "wait"])
    @pytest.mark.parametrize(
        ("given", "named"),
        [
            ({}, ["EPCC_CLIENT_ID", "EPCC_CLIENT_SECRET", "EPCC_ACCESS_TOKEN"]),
            ({"EPCC_CLIENT_ID": "me"}, ["EPCC_CLIENT_SECRET"]),
            ({"EPCC_CLIENT_SECRET": "mine"}, ["EPCC_CLIENT_ID"]),
        ],
    )
    def test_missing_credentials_are_named(
        self,
        monkeypatch: pytest.MonkeyPatch,
        command: str,
        given: Mapping[str, str],
        named: list[str],
    ) -> None:
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        result = run(command, "a")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert [name for name in ENVIRONMENT if name in result.stderr] == named

    def test_a_token_will_do(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("EPCC_CLIENT_ID")
        monkeypatch.delenv("EPCC_CLIENT_SECRET")
        monkeypatch.setenv("EPCC_ACCESS_TOKEN", store.simulator.token)
        assert run("get", store.add("a")).exit_code == 0
        assert len(store.simulator.requests) == 1

    @pytest.mark.parametrize("command", ["get", "wait"])
    def test_the_base_url_given_wins(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, command: str
    ) -> None:
        monkeypatch.setenv("EPCC_API_BASE_URL", "http://127.0.0.1:1")
        result = run(command, "--base-url", store.simulator.url, store.add("a"))
        assert result.exit_code == 0

    def test_a_base_url_that_cannot_be_right(self, store: Store) -> None:
        result = run("get", "--base-url", "http://example.com", store.add("a"))
        assert (result.exit_code, result.stdout) == (2, "")
        assert "base_url" in result.stderr
        assert not store.simulator.requests

    def test_credentials_never_come_from_options(self) -> None:
        names = {
            name
            for command in (cli.commands, *cli.commands.commands.values())
            for parameter in command.params
            for name in parameter.opts
        }
        assert names == {
            "--help",
            "--version",
            "-v",
            "--verbose",
            "-q",
            "--quiet",
            "--base-url",
            "--json",
            "--timeout",
            "--port",
            "--filter",
            "--type",
            "file",
            "job_id",
            "job_ids",
        } - {"--help"}


class TestWait:
    def test_progress_to_stderr_and_results_to_stdout(self, store: Store) -> None:
        store.add("a", "pending", "started", "success")
        result = run("wait", "a")
        assert result.exit_code == 0
        assert result.stdout == f"a\tsuccess\t{store.simulator.files_url}/a.csv\n"
        lines = [line.split() for line in result.stderr.splitlines()]
        assert [line[1:] for line in lines] == [
            ["s", "a", "pending"],
            ["s", "a", "started"],
            ["s", "a", "success"],
        ]

    def test_each_is_reported_as_it_ends(self, store: Store) -> None:
        store.add("slow", *["pending"] * 5, "success")
        store.add("quick", "failed", error=DOCUMENTED_ERROR)
        result = run("wait", "slow", "quick", "slow")
        quick, slow = result.stdout.splitlines()
        assert quick == f"quick\tfailed\t{DOCUMENTED_ERROR}"
        assert slow.startswith("slow\tsuccess")
        assert result.exit_code == 1
        assert store.asked_for().count("slow") == 6

    def test_it_really_waits(self, store: Store) -> None:
        store.add("a", duration=0.05, error=DOCUMENTED_ERROR)
        result = run("wait", "-q", "a")
        assert (result.exit_code, result.stdout) == (1, f"a\tfailed\t{DOCUMENTED_ERROR}\n")

    def test_json_and_quiet(self, store: Store) -> None:
        store.add("a", "pending", "success")
        result = run("wait", "--json", "--quiet", "a")
        assert result.stderr == ""
        (job,) = objects(result)
        assert (job["id"], job["status"], job["state"]) == ("a", "success", "succeeded")
        assert job["updated_at"].endswith("+00:00")

    def test_an_error_is_told_even_if_quiet(self, store: Store) -> None:
        store.add("a")
        result = run("wait", "-q", "--json", "nowhere", "a")
        outcomes = {one["id"]: one for one in objects(result)}
        assert outcomes["nowhere"]["exception"] == "JobNotFoundError"
        assert outcomes["a"]["state"] == "succeeded"
        assert result.stderr == f"error: {outcomes['nowhere']['message']}\n"
        assert result.exit_code == 5

    def test_an_error_is_named_among_the_progress(self, store: Store) -> None:
        progress, error = run("wait", "nowhere").stderr.splitlines()
        assert progress.split()[1:] == ["s", "nowhere", "JobNotFoundError"]
        assert error.startswith("error: job nowhere: the service answered 404")
        assert store.asked_for() == ["nowhere"]

    def test_a_timeout(self, store: Store) -> None:
        store.add("a", "pending")
        store.add("b", "pending", "success")
        result = run("wait", "--timeout", "0.15", "a", "b")
        assert result.exit_code == 3
        assert result.stdout.startswith("b\tsuccess")
        assert "error: job a did not end within 0.15 s: last seen 'pending'" in result.stderr

    @pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "soon"])
    def test_a_timeout_that_cannot_be(self, store: Store, timeout: str) -> None:
        result = run("wait", "--timeout", timeout, store.add("a"))
        assert (result.exit_code, result.stdout) == (2, "")
        assert "timeout" in result.stderr
        assert not store.simulator.requests

    def test_an_interrupt_tells_what_had_not_ended(self, store: Store) -> None:
        for job_id in ("a", "b", "c"):
            store.add(job_id, *(["success"] if job_id == "b" else ["pending"]))
        thread = interrupt_when(lambda: len(store.asked_for()) > 10)
        result = run("wait", "a", "b", "c")
        thread.join()
        assert result.exit_code == 130
        assert result.stderr.splitlines()[-1] == "interrupted; not ended yet: a c"
        assert result.stdout.startswith("b\tsuccess")

    def test_a_reader_that_goes_away_is_no_defect(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone(*_: object) -> None:
            raise BrokenPipeError(32, "Broken pipe")

        store.add("a", "pending")
        store.add("b")
        monkeypatch.setattr(cli, "_document", gone)
        assert run("wait", "--json", "a", "b").exit_code == 1

    def test_an_interrupted_process_leaves_no_traceback(self, store: Store) -> None:
        store.add("a", "pending")
        with process("wait", "a", env=of(store)) as waiting:
            assert waiting.stderr is not None
            first = waiting.stderr.readline()
            waiting.send_signal(signal.SIGINT)
            stdout, stderr = waiting.communicate(timeout=PATIENCE)
        assert first.split()[1:] == ["s", "a", "pending"]
        assert (waiting.returncode, stdout) == (130, "")
        assert stderr == "interrupted; not ended yet: a\n"

    def test_an_interrupt_while_ids_are_typed(self, store: Store) -> None:
        class Interrupted(io.BytesIO):
            def read1(self, size: int | None = -1, /) -> bytes:
                if size == 0:  # click looks whether it is binary
                    return b""
                raise KeyboardInterrupt

            read = read1

        result = run("wait", "-", stdin=Interrupted())
        assert (result.exit_code, result.output) == (130, "")
        assert not store.simulator.requests


class TestCreateAndList:
    @pytest.mark.usefixtures("store")
    def test_a_job_is_created(self) -> None:
        result = run("create", "--filter", "gt(created_at,2018-09-01)")
        job_id, status = result.stdout.rstrip("\n").split("\t")
        assert (result.exit_code, status) == (0, "started")
        assert run("create", "--json").stdout.startswith('{"id": "')
        listed = [line.split("\t")[0] for line in run("list").stdout.splitlines()]
        assert listed[0] == job_id
        assert len(listed) == 2

    def test_a_creation_that_is_in_doubt(self, store: Store) -> None:
        store.spoil(503)
        result = run("create")
        assert (result.exit_code, result.stdout) == (6, "")
        assert "may exist all the same" in result.stderr

    def test_the_list_as_json(self, store: Store) -> None:
        store.add("a", "failed", error=DOCUMENTED_ERROR)
        store.add("b", "pending")
        result = run("list", "--json")
        assert [(one["id"], one["error"]) for one in objects(result)] == [
            ("a", DOCUMENTED_ERROR),
            ("b", None),
        ]
        assert result.exit_code == 0, "that a job failed is what was asked"


class TestFiles:
    def test_a_download(self, store: Store, tmp_path: Path) -> None:
        store.add("a", "success", file=b"order_id")
        result = run("download", "a", str(tmp_path / "orders.csv"))
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == f"a\t{tmp_path / 'orders.csv'}\n"
        assert (tmp_path / "orders.csv").read_bytes() == b"order_id"

    def test_no_file_yet(self, store: Store, tmp_path: Path) -> None:
        store.add("a", "pending")
        place = str(tmp_path / "orders.csv")
        result = run("download", "a", place)
        assert (result.exit_code, result.stdout) == (5, "")
        assert result.stderr.startswith("error: job a: the service answered 404")
        assert "pending: it has no file yet; wait for it first" in result.stderr
        assert "Check the id and the store" in run("download", "nowhere", place).stderr
        (error,) = objects(run("download", "--json", "a", place))
        assert (error["id"], error["exception"]) == ("a", "JobNotFoundError")

    def test_never_a_file(self, store: Store, tmp_path: Path) -> None:
        store.add("a", "failed", error=DOCUMENTED_ERROR)
        result = run("download", "a", str(tmp_path / "orders.csv"))
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"failed ({DOCUMENTED_ERROR}): it will never have a file" in result.stderr

    @pytest.mark.parametrize("how", ["timeout", "interrupt"])
    def test_an_export_that_does_not_end_tells_how_to_go_on(
        self, store: Store, tmp_path: Path, how: str
    ) -> None:
        store.do(lambda: store.simulator.script_created(["pending"]))
        place = str(tmp_path / "orders.csv")
        if how == "timeout":
            result = run("export", "-q", "--timeout", "0.15", place)
            assert result.exit_code == 3
        else:
            thread = interrupt_when(lambda: bool(store.asked_for()))
            result = run("export", "-q", place)
            thread.join()
            assert result.exit_code == 130
        job_id = store.asked_for()[0]
        assert result.stderr.splitlines()[-1] == (
            f"go on by: moltin-jobs wait {job_id} && moltin-jobs download {job_id} FILE"
        )

    @pytest.mark.parametrize("command", [["download", "a"], ["export"]])
    def test_a_file_has_a_name(self, store: Store, command: list[str]) -> None:
        result = run(*command, "-")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "give a name, not -" in result.stderr
        assert not store.simulator.requests

    def test_as_json(self, store: Store, tmp_path: Path) -> None:
        place = str(tmp_path / "orders.csv")
        assert objects(run("download", "--json", store.add("a"), place)) == [
            {"id": "a", "saved_as": place}
        ]
        (exported,) = objects(run("export", "--json", "-q", place))
        assert exported["saved_as"] == place
        store.do(lambda: store.simulator.script_created(["failed"], error=DOCUMENTED_ERROR))
        (failed,) = objects(run("export", "--json", "-q", place))
        assert (failed["state"], failed["error"]) == ("failed", DOCUMENTED_ERROR)

    def test_a_place_that_cannot_be_written(self, store: Store, tmp_path: Path) -> None:
        store.add("a", "success")
        place = str(tmp_path / "nowhere" / "orders.csv")
        result = run("download", "a", place)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            f"error: {place}: No such file or directory. Job a keeps its file: "
            f"moltin-jobs download a FILE\n"
        )

    def test_an_interrupt_tells_where_the_file_is(self, store: Store, tmp_path: Path) -> None:
        store.add("a")
        store.spoil("hang", job_id="a")
        thread = interrupt_when(lambda: "a" in store.asked_for())
        result = run("download", "a", str(tmp_path / "orders.csv"))
        thread.join()
        assert (result.exit_code, result.stdout) == (130, "")
        assert result.stderr == (
            "interrupted; nothing was saved. Again: moltin-jobs download a FILE\n"
        )
        assert not list(tmp_path.iterdir())

    def test_no_export_is_begun_to_a_place_that_cannot_be_written(
        self, store: Store, tmp_path: Path
    ) -> None:
        place = str(tmp_path / "nowhere" / "orders.csv")
        result = run("export", place)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            f"error: {place}: No such file or directory. Nothing was asked for.\n"
        )
        assert store.simulator.requests == []

    def test_nor_with_a_timeout_that_cannot_be(self, store: Store, tmp_path: Path) -> None:
        result = run("export", "--timeout", "-1", str(tmp_path / "orders.csv"))
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: timeout must be a finite number of seconds")
        assert store.simulator.requests == []

    def test_an_export(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with served(creation_seconds=0.3) as store:
            for name, value in of(store).items():
                monkeypatch.setenv(name, value)
            result = run("export", str(tmp_path / "orders.csv"))
        assert result.exit_code == 0
        job_id, place = result.stdout.rstrip("\n").split("\t")
        assert place == str(tmp_path / "orders.csv")
        assert [line.split()[2:] for line in result.stderr.splitlines()] == [
            [job_id, "started"],
            [job_id, "success"],
        ]
        assert Path(place).read_text().startswith("order_id,currency,amount\n")

    @pytest.mark.parametrize(
        ("faults", "code", "told"),
        [
            ([400], 6, "error: the creation of a job: the service answered 400"),
            (["failed"], 1, f"\tfailed\t{DOCUMENTED_ERROR}\n"),
            ([], 3, "did not end within 0.2 s"),
        ],
    )
    def test_an_export_that_fails(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        faults: list[Any],
        code: int,
        told: str,
    ) -> None:
        failed = {"id": "a", "status": "failed", "error": DOCUMENTED_ERROR}
        answer = Fault(202, body=json.dumps({"data": failed}).encode())
        with served(creation_seconds=60) as store:
            for name, value in of(store).items():
                monkeypatch.setenv(name, value)
            store.spoil(*[answer if fault == "failed" else fault for fault in faults * 2])
            result = run("export", "-q", "--timeout", "0.2", str(tmp_path / "orders.csv"))
        assert result.exit_code == code
        assert told in result.output
        assert list(tmp_path.iterdir()) == []

    def test_an_export_whose_file_is_gone(self, store: Store, tmp_path: Path) -> None:
        for status in (202, 200):
            ended = json.dumps({"data": {"id": "a", "status": "success"}}).encode()
            store.spoil(Fault(status, body=ended))
        result = run("export", "--json", "-q", str(tmp_path / "orders.csv"))
        (error,) = objects(result)
        assert (error["id"], error["exception"]) == ("a", "JobNotFoundError")
        assert result.stderr == f"error: {error['message']}\n"
        assert result.exit_code == 5

    def test_the_bar_in_a_terminal(self, tmp_path: Path) -> None:
        terminal = Terminal()
        with served(creation_seconds=0.5) as store:
            env = of(store) | {"TERM": "xterm"}
            place = str(tmp_path / "[red]orders.csv")
            with process("export", place, env=env, stderr=terminal.end) as exporting:
                stdout, _ = exporting.communicate(timeout=PATIENCE)
        terminal.close()
        size = Path(place).stat().st_size
        *_, state, bar = terminal.screen()
        assert exporting.returncode == 0
        job_id = stdout.split("\t")[0]
        assert state.split()[:2] == [job_id, "success"]
        assert re.fullmatch(
            rf"\[red\]orders\.csv ━+ {size / 1000:.1f}/{size / 1000:.1f} kB 0:00:00", bar
        )


class TestVerbosity:
    def test_by_default_of_what_goes_wrong(self, store: Store) -> None:
        store.add("a")
        store.spoil(503)
        result = run("get", "a")
        (line,) = result.stderr.splitlines()
        assert line.startswith("WARNING moltin_jobs: trying again in ")
        assert result.stdout.startswith("a\tsuccess")

    def test_quiet_of_nothing(self, store: Store) -> None:
        store.add("a")
        store.spoil(503)
        assert run("wait", "-q", "a").stderr == ""

    def test_quiet_of_a_lookup_too(self, store: Store) -> None:
        store.spoil(503)
        result = run("get", "-q", store.add("a"))
        assert (result.exit_code, result.stderr) == (0, "")

    def test_of_trouble_during_a_wait(self, store: Store) -> None:
        store.add("a", "pending", "pending", "success")
        store.spoil(503, 503)
        warning, *progress = run("wait", "a").stderr.splitlines()
        assert warning.startswith("WARNING moltin_jobs: the wait goes on after poll 1 failed")
        assert [line.split(maxsplit=3)[3] for line in progress] == [
            "ServerError, trying again",
            "pending",
            "success",
        ]

    def test_that_trouble_has_passed(self, store: Store) -> None:
        store.add("a", "pending", "success")
        pending = json.dumps({"data": {"id": "a", "status": "pending"}}).encode()
        store.spoil(Fault(body=pending), 503, job_id="a")
        lines = run("wait", "a").stderr.splitlines()
        told = [line.split(maxsplit=3)[3] for line in lines if "WARNING" not in line]
        assert told == ["pending", "ServerError, trying again", "pending", "success"]

    def test_of_the_same_trouble_of_many_waits_once(self, store: Store) -> None:
        ids = [store.add(f"job-{number}") for number in range(5)]
        for job_id in ids:
            store.spoil(503, "reset", job_id=job_id)
        lines = run("wait", *ids).stderr.splitlines()
        assert sum("WARNING" in line for line in lines) == 1
        assert sum("ServerError, trying again" in line for line in lines) == 5
        assert sum("WARNING" in line for line in run("wait", "-v", *ids).stderr.splitlines()) == 0

    @pytest.mark.parametrize("option", ["-v", "--verbose"])
    @pytest.mark.parametrize("command", ["get", "wait"])
    def test_of_everything_if_asked(self, store: Store, command: str, option: str) -> None:
        result = run(command, option, store.add("a"))
        requests = [
            f"DEBUG moltin_jobs: POST {store.simulator.url}/oauth/access_token: 200",
            f"DEBUG moltin_jobs: GET {store.simulator.url}/v2/jobs/a: 200",
        ]
        assert result.stderr.splitlines()[:2] == requests
        if command == "wait":
            assert "DEBUG moltin_jobs: job a: success (poll 1)\n" in result.stderr
        assert "issued-" not in result.output
        assert store.simulator.client_secret not in result.output

    def test_not_of_nothing_and_everything(self, store: Store) -> None:
        result = run("wait", "-q", "-v", store.add("a"))
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--quiet and --verbose exclude each other" in result.stderr

    def test_no_handler_is_left(self, store: Store) -> None:
        before = logging.getLogger("moltin_jobs").handlers[:]
        run("get", store.add("a"))
        assert logging.getLogger("moltin_jobs").handlers == before


class TestCompletion:
    @pytest.mark.parametrize(
        ("typed", "offered"), [("w", "wait"), ("wait --q", "--quiet"), ("wait - --j", "--json")]
    )
    def test_bash_is_told(self, monkeypatch: pytest.MonkeyPatch, typed: str, offered: str) -> None:
        words = f"moltin-jobs {typed}"
        monkeypatch.setenv("_MOLTIN_JOBS_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        assert run().stdout == f"plain,{offered}\n"


class TestHelp:
    def test_the_version(self) -> None:
        result = run("--version")
        version = importlib.metadata.version("moltin-jobs")
        assert (result.exit_code, result.stdout) == (0, f"moltin-jobs, version {version}\n")

    @pytest.mark.parametrize("command", [[], *[[name] for name in cli.commands.commands]])
    def test_it_fits_on_a_terminal_of_80_by_24(self, command: list[str]) -> None:
        result = run(*command, "--help")
        assert run(*command, "-h").stdout == result.stdout
        lines = result.stdout.splitlines()
        assert result.exit_code == 0
        assert lines[0].startswith(f"Usage: {' '.join(['moltin-jobs', *command])} ")
        assert len(lines) <= 23
        assert max(map(len, lines)) <= 80

    def test_it_tells_the_exit_codes_and_the_variables(self) -> None:
        words = " ".join(run("--help").stdout.split())
        assert (
            "0 all succeeded, 1 a job failed, 2 usage or configuration, 3 timed out, "
            "4 authentication, 5 not found, 6 network or service, 130 interrupted"
        ) in words
        assert all(name in words for name in ENVIRONMENT[1:])

    def test_an_unknown_command(self) -> None:
        result = run("fetch")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "No such command 'fetch'" in result.stderr


class Terminal:
    """A pseudo-terminal of 24 lines: something to give to a process as its own, and to look at."""

    def __init__(self) -> None:
        self._main, self.end = pty.openpty()
        termios.tcsetwinsize(self.end, (24, 80))
        self._read = b""
        self._reader = threading.Thread(target=self._drain)
        self._reader.start()

    def _drain(self) -> None:
        with contextlib.suppress(OSError), open(self._main, "rb", buffering=0) as screen:  # noqa: PTH123 (a descriptor)
            while some := screen.read(65536):  # fails, once nobody has the other end open
                self._read += some

    def screen(self) -> list[str]:
        """The lines that are on the screen."""
        screen = pyte.Screen(80, 24)
        pyte.ByteStream(screen).feed(self._read)
        return "\n".join(line.rstrip() for line in screen.display).strip().splitlines()

    def close(self) -> str:
        os.close(self.end)
        self._reader.join(PATIENCE)
        return self._read.decode()


class TestTerminal:
    """What is shown where there is a terminal, in this process."""

    @pytest.fixture
    def screen(self, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
        screen = io.StringIO()

        def console(**_: object) -> Console:
            return Console(file=screen, force_terminal=True, width=100, _environ={"TERM": "xterm"})

        monkeypatch.setattr(cli, "Console", console)
        return screen

    def test_a_table_in_place_of_lines(self, store: Store, screen: io.StringIO) -> None:
        store.add("good", "pending", "success")
        store.add("bad", "started", "failed", error=DOCUMENTED_ERROR)
        store.add("odd", "cancelling", "cancelled")
        result = run("wait", "good", "bad", "odd", "nowhere")
        assert result.exit_code == 5
        assert sorted(line.split("\t")[0] for line in result.stdout.splitlines()) == [
            "bad",
            "good",
            "odd",
        ]
        assert result.stderr == "", "all of it is on the screen"
        shown = screen.getvalue()
        assert "error: job nowhere: the service answered 404" in shown
        assert "4 of 4 jobs ended" in shown
        for part in ("success", DOCUMENTED_ERROR, "cancelled", "JobNotFoundError"):
            assert part in shown
        assert "\x1b[?25h" in shown, "the cursor is back"

    def test_results_join_it_where_stdout_is_the_terminal_too(
        self, store: Store, screen: io.StringIO, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        store.add("a", "failed", error="[bold]" + "long " * 60)
        result = run("wait", "a")
        assert (result.exit_code, result.output) == (1, "")
        assert f"a       failed  [bold]{'long ' * 60}".rstrip() in screen.getvalue()

    def test_quiet_shows_errors_alone(self, store: Store, screen: io.StringIO) -> None:
        result = run("wait", "-q", store.add("a"), "nowhere")
        assert screen.getvalue().startswith("error: job nowhere")
        assert screen.getvalue().count("\n") == 1
        assert result.stdout.startswith("a\tsuccess")

    def test_a_log_stays_above_the_table(self, store: Store, screen: io.StringIO) -> None:
        result = run("wait", "-v", store.add("a"))
        assert result.stderr == ""
        assert "DEBUG moltin_jobs: job a: success (poll 1)\n" in screen.getvalue()
        assert "1 of 1 jobs ended" in screen.getvalue()

    def test_more_jobs_than_lines(self) -> None:
        board = Board(Console(height=10), [f"job-{n}" for n in range(20)], quiet=False)
        screen = io.StringIO()
        for number in range(15):
            board.ended(f"job-{number}", JobNotFoundError(f"job-{number}"))
        Console(file=screen, width=80).print(board.table())
        title, _, *rows = screen.getvalue().splitlines()
        assert title.startswith("15 of 20 jobs ended, ")
        assert [row.split()[0] for row in rows[:6]] == [
            *(f"job-{number}" for number in range(15, 20)),
            "job-0",
        ]
        assert rows[6].strip() == "… and 14 more"

    @pytest.mark.parametrize("width", [40, 60])
    def test_a_narrow_terminal(self, width: int) -> None:
        console = Console(file=io.StringIO(), height=12, width=width)
        board = Board(console, [f"order-export-{n}" for n in range(20)], quiet=False)
        for number in range(20):
            failed = Job(id=f"order-export-{number}", status="failed", error=DOCUMENTED_ERROR * 3)
            board.changed(failed.id, failed)
        with console.capture() as screen:
            console.print(board.table())
        lines = screen.get().splitlines()
        assert len(lines) == 11, "the last line is the cursor's"
        assert lines[-1].strip() == "… and 12 more"
        assert all("failed" in line and "…" in line for line in lines[2:-1])

    def test_a_rate_that_is_no_more_than_it_was(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [0.0]
        monkeypatch.setattr("moltin_jobs.cli.progress.time.monotonic", lambda: clock[0])
        board = Board(Console(), ["a"], quiet=False)
        rates = []
        for tick in range(100):
            clock[0] = tick * 0.1001
            if tick % 10 == 0:  # 20 in each second, all at once
                for _ in range(20):
                    board.sent()
            rates.append(board._rate(clock[0]))
        assert max(rates) == 20

    def test_waits_that_reach_nobody(self) -> None:
        ids = [f"order-export-{number:02}" for number in range(1, 13)]
        board, screen = Board(Console(file=io.StringIO()), ids), io.StringIO()

        async def main() -> None:
            async with JobsSession(
                "token", base_url="http://127.0.0.1:9", polling=Polling(outage=60)
            ) as session:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1.5):
                        await follow(session, board, None, lambda *_: None)

        with unlogged():
            logging.getLogger("moltin_jobs").setLevel(logging.DEBUG)
            asyncio.run(main())
        Console(file=screen, width=80).print(board.table())
        title, _, *rows = screen.getvalue().splitlines()[-14:]
        assert title.startswith("0 of 12 jobs ended, 12 in trouble, 0.0 requests a second, ")
        for job_id, row in zip(ids, rows, strict=True):
            shown = re.fullmatch(r" (.+?)  TransportError x(\d), trying again  .* s  (\d) *", row)
            assert shown is not None
            assert shown[1] == job_id
            assert shown[2] == shown[3] > "1"

    def test_a_wait_of_hours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [100.0]
        monkeypatch.setattr("moltin_jobs.cli.progress.time.monotonic", lambda: clock[0])
        board = Board(Console(), ["a"], quiet=False)
        board.changed("a", Job(id="a", status="started"))
        board.heard(logging.makeLogRecord({"job_id": "a", "job_status": "started", "attempt": 10}))
        for _ in range(10):
            board.sent()
        screen = io.StringIO()
        for clock[0] in (102.0, 105.5, 103.0 + 3 * 3600):
            Console(file=screen, width=80).print(board.table())
        titles = [line for line in screen.getvalue().splitlines() if "ended" in line]
        assert [title.partition(", ")[2].strip() for title in titles] == [
            "5.0 requests a second, 2.0 s",
            "0.0 requests a second, 5.5 s",
            "0.0 requests a second, 3:00:03",
        ]
        rows = [line.split() for line in screen.getvalue().splitlines() if "started" in line]
        assert rows[0] == ["a", "started", "2.0", "s", "10"]
        assert rows[2] == ["a", "started", "3:00:03", "10"]

    def test_twelve_jobs_at_three_moments(self, store: Store) -> None:
        ids = [f"order-export-{number:02}" for number in range(1, 13)]
        for number, job_id in enumerate(ids, 1):
            error = DOCUMENTED_ERROR if number == 5 else None
            store.add(job_id, duration=0.4 if number > 1 else 1.5, error=error)
        store.spoil(503, job_id=ids[2])
        terminal = Terminal()
        moments: list[list[str]] = []

        def look(ended: int) -> None:
            def shown() -> bool:
                screen = "\n".join(terminal.screen())
                found = re.search(r"(\d+) of 12 jobs ended", screen)
                return found is not None and int(found[1]) >= ended and "…" not in screen

            while not shown():
                assert waiting.poll() is None, terminal.screen()
                threading.Event().wait(0.02)
            moments.append(terminal.screen())

        env = of(store) | {"TERM": "xterm"}
        with process("wait", *ids, env=env, stderr=terminal.end) as waiting:
            for ended in (0, 6):
                look(ended)
            stdout, _ = waiting.communicate(timeout=PATIENCE)
        terminal.close()
        moments.append(terminal.screen())

        for moment in moments:
            print("\n".join(moment), end="\n\n")  # noqa: T201 (a recording: pytest -s shows it)
            warning = moment[0]
            assert warning.startswith("WARNING moltin_jobs: the wait goes on after poll 1 failed")
            table = moment[-13:]
            assert table[0].split() == ["job", "status", "for", "polls"]
            assert [row.split()[0] for row in table[1:]] == ids
            assert all(int(row.split()[-1]) >= 1 for row in table[1:])
            assert re.search(
                r"of 12 jobs ended, (1 in trouble, )?\d+\.\d requests a second, \d+\.\d s$",
                moment[-14],
            )
        assert "ServerError x1, trying again" in moments[0][-10]
        first, second, last = ([row.split()[1] for row in m[-12:]] for m in moments)
        assert first.count("pending") > second.count("pending") > 0
        assert "started" in first + second
        assert last == ["success"] * 4 + ["failed"] + ["success"] * 7
        assert f"failed ({DOCUMENTED_ERROR})" in moments[-1][-8]
        assert waiting.returncode == 1
        assert sorted(line.split("\t")[0] for line in stdout.splitlines()) == ids

    def test_an_interrupt_puts_the_terminal_right(self, store: Store) -> None:
        store.add("a", "pending")
        terminal = Terminal()
        env = of(store) | {"TERM": "xterm"}
        with process("wait", "a", env=env, stdout=subprocess.PIPE, stderr=terminal.end) as waiting:
            while "a" not in store.asked_for():
                assert waiting.poll() is None
                threading.Event().wait(0.01)
            waiting.send_signal(signal.SIGINT)
            stdout, _ = waiting.communicate(timeout=PATIENCE)
        shown = terminal.close()
        assert (waiting.returncode, stdout) == (130, "")
        assert "interrupted; not ended yet: a\r\n" in shown.rpartition("\x1b[?25h")[2]
        assert "Traceback" not in shown


@contextlib.contextmanager
def process(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[str] = subprocess.PIPE,
    stderr: int | IO[str] = subprocess.PIPE,
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603 (this package's own command)
        [*COMMAND, *arguments],
        env=environment(**env or {}),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()


class TestDemo:
    IDS = tuple(f"order-export-{number:02}" for number in range(1, 13))

    @staticmethod
    def in_a_terminal() -> tuple[int, str]:
        terminal = Terminal()
        with process(
            "demo", env={"TERM": "xterm"}, stdout=terminal.end, stderr=terminal.end
        ) as running:
            running.wait(PATIENCE)
        return running.returncode, terminal.close()

    @staticmethod
    def without_a_terminal() -> tuple[int, str, str]:
        with process("demo") as running:
            stdout, stderr = running.communicate(timeout=PATIENCE)
        return running.returncode, stdout, stderr

    def test_a_dozen_jobs_with_a_terminal_and_without_one(self) -> None:
        with ThreadPoolExecutor() as pool:
            shown, piped = pool.submit(self.in_a_terminal), pool.submit(self.without_a_terminal)
        code, screen = shown.result()
        assert code == 0
        for part in (*self.IDS, "pending", "started", "success", "failed", DOCUMENTED_ERROR):
            assert part in screen
        assert "\x1b[2K" in screen, "the table was drawn again and again"
        assert "12 of 12 jobs ended" in screen
        assert "12 jobs waited for at once, in " in screen

        code, stdout, stderr = piped.result()
        assert code == 0
        assert "\x1b" not in stdout + stderr
        progress = [line.split() for line in stderr.splitlines()]
        ways = {job_id: [line[3] for line in progress if line[2] == job_id] for job_id in self.IDS}
        for job_id, way in ways.items():
            assert way[-1] == ("failed" if job_id == "order-export-05" else "success")
            assert set(way) <= {"pending", "started", "success", "failed"}
        table = stdout.splitlines()
        assert table[1].startswith("12 jobs waited for at once, in ")
        assert table[3].split() == ["job", "ended", "as", "after", "error"]
        assert [line.split()[0] for line in table[4:]] == list(self.IDS)
        assert DOCUMENTED_ERROR in table[8]
        assert max(map(len, table)) <= 80

    def test_in_no_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(demo, "SECONDS", [0.01] * 5)
        monkeypatch.setattr(demo, "POLLING", Polling(initial=0.05, max_interval=0.05))
        result = run("demo")
        assert result.exit_code == 0
        assert [line.split()[:2] for line in result.stdout.splitlines()[4:]] == [
            *[[job_id, "success"] for job_id in self.IDS[:4]],
            [self.IDS[4], "failed"],
        ]
        assert all(job_id in result.stderr for job_id in self.IDS[:5])


def the_readmes_commands() -> list[str]:
    section = README.partition("## Command line")[2]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return [line.partition("#")[0].strip() for line in block[1].splitlines()]


@pytest.mark.parametrize("line", the_readmes_commands())
def test_a_command_of_the_readme(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    program, command, *arguments = shlex.split(line)
    assert program == "moltin-jobs"
    monkeypatch.setattr(demo, "SECONDS", [0.01] * 5)
    if command == "serve":
        monkeypatch.setattr(demo, "Simulator", Interrupted)
        arguments[arguments.index("--port") + 1] = "0"  # the one named may be taken
    job_id = store.add("a")
    given = [job_id if argument in ("ID", "ID…") else argument for argument in arguments]
    result = run(command, *given)
    assert result.exit_code == (130 if command == "serve" else 0)
    assert result.stdout


class Interrupted(Simulator):
    """Interrupts this process once it is open."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        return self


class TestServe:
    def test_what_it_prints_opens_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with process("serve", "--port", "0") as serving:
            assert serving.stdout is not None
            assert serving.stderr is not None
            exports = [serving.stdout.readline().removesuffix("\n") for _ in range(3)]
            assert "order-export-12; Ctrl-C ends it" in serving.stderr.readline()
            for line in exports:
                name, _, value = line.removeprefix("export ").partition("=")
                assert name in ENVIRONMENT
                monkeypatch.setenv(name, value)
            result = run("get", "order-export-01", "order-export-12")
            serving.send_signal(signal.SIGINT)
            stdout, stderr = serving.communicate(timeout=PATIENCE)
        assert all(line.startswith("export EPCC_") for line in exports)
        assert (serving.returncode, stdout, stderr) == (130, "", "")
        assert re.match(
            "order-export-01\t(started|success).*\norder-export-12\tpending\n", result.stdout
        )

    def test_until_interrupted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(demo, "Simulator", Interrupted)
        result = run("serve", "--port", "0")
        assert result.exit_code == 130
        assert [line.partition("=")[0] for line in result.stdout.splitlines()] == [
            "export EPCC_API_BASE_URL",
            "export EPCC_CLIENT_ID",
            "export EPCC_CLIENT_SECRET",
        ]

    def test_a_port_that_is_taken(self, store: Store) -> None:
        port = store.simulator.url.rpartition(":")[2]
        result = run("serve", "--port", port)
        assert (result.exit_code, result.stdout) == (2, "")
        assert (
            f"Invalid value for --port: {port}: Address already in use. Give another"
            in result.stderr
        )

    def test_a_port_that_is_none(self) -> None:
        result = run("serve", "--port", "65536")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "65536 is not in the range 0<=x<=65535" in result.stderr

    def test_another_trouble_is_not_put_down_to_the_port(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Exhausted(Simulator):
            async def __aenter__(self) -> Self:
                raise OSError(24, "Too many open files")

        monkeypatch.setattr(demo, "Simulator", Exhausted)
        with pytest.raises(OSError, match="Too many open files"):
            run("serve", "--port", "0")


class TestDoor:
    @staticmethod
    def without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
        """Have the import of the command line fail as it does where a package is missing."""
        imported = builtins.__import__

        def refuse(name: str, *rest: Any, **named: Any) -> Any:
            if name == "cli.commands":
                raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
            return imported(name, *rest, **named)

        monkeypatch.setattr(builtins, "__import__", refuse)

    @pytest.mark.parametrize("missing", ["click", "rich"])
    def test_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
    ) -> None:
        self.without(monkeypatch, missing)
        with pytest.raises(SystemExit) as caught:
            moltin_jobs.__main__.main()
        assert caught.value.code == 2
        assert "pip install 'moltin-jobs[cli]'" in capsys.readouterr().err

    def test_what_else_is_missing_is_not_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.without(monkeypatch, "aiohttp")
        with pytest.raises(ModuleNotFoundError, match="aiohttp"):
            moltin_jobs.__main__.main()

    def test_it_leads_to_the_commands(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["anything", "--version"])
        door = Path(moltin_jobs.__main__.__file__)
        code = compile(door.read_text(), str(door), "exec")
        with pytest.raises(SystemExit) as caught:
            exec(code, {"__name__": "__main__", "__package__": "moltin_jobs"})  # noqa: S102 (as -m does)
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith("moltin-jobs, version ")

    @pytest.mark.parametrize("missing", ["click", "rich", "aiohttp"])
    def test_in_a_process_without_the_package(self, missing: str) -> None:
        code = (
            "import sys, moltin_jobs.__main__ as door\n"
            "class Missing:\n"
            "    def find_spec(name, *_):\n"
            f"        if name.partition('.')[0] == {missing!r}:\n"
            f"            raise ModuleNotFoundError('it is missing', name={missing!r})\n"
            "sys.meta_path.insert(0, Missing)\n"
            "door.main()\n"
        )
        finished = subprocess.run(  # noqa: S603 (written above)
            [sys.executable, "-c", code, "--version"],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert finished.stdout == ""
        assert finished.returncode == (1 if missing == "aiohttp" else 2)
        if missing == "aiohttp":
            assert finished.stderr.endswith("ModuleNotFoundError: it is missing\n")
        else:
            assert finished.stderr == (
                "error: the command line needs: pip install 'moltin-jobs[cli]'\n"
            )
