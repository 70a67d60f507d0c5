"""The programs of docs/operations.md keep their promises: most run as processes that are killed."""

import asyncio
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from moltin_jobs import Job, JobsSession, Polling
from moltin_jobs.testing import Simulator
from tests.docs.examples import blocks, named_block, read_page
from tests.file_host import FileHost, names_in, send_and_hang
from tests.raw_server import http

PAGE = "docs/operations.md"
HOUR = timedelta(hours=1)
DELAY = timedelta(minutes=5)
NO_RESULTS = "No results matched the supplied filter"
SECONDS = 20.0
"""Longest time of a child process, on a busy machine."""

RUN_AND_KILL = """
import os, runpy, signal, sys
import moltin_jobs

name, kill_at = sys.argv[1], int(sys.argv[2])
renames = 0
export_orders = moltin_jobs.JobsSession.export_orders

def kill(event, arguments):
    global renames
    if event == "os.rename" and not str(arguments[1]).endswith(".pyc"):
        renames += 1
        if renames == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

def print_filter(session, **options):
    print(options["filter"], flush=True)
    return export_orders(session, **options)

moltin_jobs.JobsSession.export_orders = print_filter
sys.addaudithook(kill)
sys.argv = [name, *sys.argv[3:]]
runpy.run_path(name, run_name="__main__")
"""
"""Run a program, print the filter of each export, and kill the program just before a rename."""


def load(name: str) -> dict[str, Any]:
    """Run a block as a module and return its namespace."""
    namespace: dict[str, Any] = {"__name__": name.removesuffix(".py")}
    exec(compile(named_block(PAGE, name), f"{PAGE}, {name}", "exec"), namespace)  # noqa: S102
    return namespace


@pytest.fixture
def store() -> Iterator[Simulator]:
    with Simulator.in_thread(rate_limit=None, creation_seconds=0.2) as simulator:
        yield simulator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the programs, and an empty folder ``exports``."""
    for name in ("hourly_exports.py", "open_jobs.py"):
        (tmp_path / name).write_text(named_block(PAGE, name))
    (tmp_path / "exports").mkdir()
    return tmp_path


def start(simulator: Simulator, folder: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 (a program of the page)
        command,
        cwd=folder,
        env=os.environ | simulator.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the program does not do what it should"
        time.sleep(0.02)


# An export every hour


def last_full_hour() -> datetime:
    """Return the end of the last window that can be exported now."""
    return (datetime.now(UTC) - DELAY).replace(minute=0, second=0, microsecond=0)


def save_next_window(directory: Path, start: datetime, job_id: str | None = None) -> None:
    text = json.dumps({"start": start.isoformat(), "job_id": job_id})
    (directory / "next_window.json").write_text(text)


def next_start(directory: Path) -> datetime:
    return datetime.fromisoformat(json.loads((directory / "next_window.json").read_text())["start"])


def windows_of(filters: list[str]) -> list[tuple[datetime, datetime]]:
    found = [re.fullmatch(r"ge\(created_at,(.+)\):lt\(created_at,(.+)\)", one) for one in filters]
    return [
        (datetime.fromisoformat(one[1]), datetime.fromisoformat(one[2])) for one in found if one
    ]


def test_hourly_exports_that_are_killed_leave_no_gap_and_no_overlap(
    store: Simulator, folder: Path
) -> None:
    first = last_full_hour() - 3 * HOUR
    directory = folder / "exports"
    save_next_window(directory, first)
    for content in (b"lost", b"first hour"):
        store.script_next_job(["started", "success"], file=content)
    store.script_next_job(["failed"], error=NO_RESULTS)
    store.script_next_job(["success"], file=b"third hour")
    command = (sys.executable, "-c", RUN_AND_KILL, "hourly_exports.py")
    printed = ""
    for kill_at in (
        1,  # the job was created, but its id is not saved
        2,  # the file of the second job is not committed
        2,  # it is committed by the next process, but the next window is not saved
    ):
        assert next_start(directory) == first
        process = start(store, folder, *command, str(kill_at), "exports")
        printed += process.communicate(timeout=SECONDS)[0]
        assert process.returncode == -signal.SIGKILL
    for path in directory.glob(".*.part"):  # of the process that was killed at its download
        path.unlink()
    process = start(store, folder, *command, "0", "exports")
    wait_until(lambda: next_start(directory) >= first + 3 * HOUR)
    process.terminate()
    last_printed, logged = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, logged
    assert f"no orders for orders-{first + HOUR:%Y-%m-%dT%H}Z.csv" in logged
    windows = windows_of((printed + last_printed).splitlines())
    # Only the lost job of the first hour is created again. A fourth hour may be due by now.
    assert windows[:4] == [
        (first + hours * HOUR, first + (hours + 1) * HOUR) for hours in (0, 0, 1, 2)
    ]
    files = {path.name: path.read_bytes() for path in directory.glob("*.csv")}
    assert files.pop(f"orders-{first:%Y-%m-%dT%H}Z.csv") == b"first hour"
    assert files.pop(f"orders-{first + 2 * HOUR:%Y-%m-%dT%H}Z.csv") == b"third hour"
    assert len(files) == len(windows) - 4


@pytest.mark.looptime
async def test_hourly_exports_of_a_day_end_minutes_ago_and_leave_no_gap(
    moltin_simulator: Simulator,
    moltin_environment: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    loop = asyncio.get_running_loop()
    epoch = datetime(2026, 3, 28, 22, 30, tzinfo=UTC)  # the clocks of Europe change that night
    exports: list[tuple[str, datetime]] = []
    export_orders = JobsSession.export_orders

    def now() -> datetime:
        return epoch + timedelta(seconds=loop.time())

    def record(session: JobsSession, **options: Any) -> Awaitable[Any]:
        exports.append((options["filter"], now()))
        return export_orders(session, **options)

    program = load("hourly_exports.py")
    program["now"] = now
    monkeypatch.setattr(JobsSession, "export_orders", record)
    for number in range(30):
        error = NO_RESULTS if number % 5 == 0 else None
        moltin_simulator.script_next_job(duration=60, error=error)
    while loop.time() < 24 * 3600:  # each process is stopped after some hours
        process = asyncio.create_task(program["export_every_hour"](tmp_path))
        await asyncio.sleep(4.3 * 3600)
        process.cancel()
        await asyncio.wait([process])
        await asyncio.sleep(2.7 * 3600)
    windows = windows_of([text for text, _ in exports])
    begin = datetime(2026, 3, 28, 21, tzinfo=UTC)
    assert windows == [(begin + n * HOUR, begin + (n + 1) * HOUR) for n in range(len(windows))]
    assert len(windows) >= 23
    assert next_start(tmp_path) == windows[-1][1]
    assert all(at >= end + DELAY for (_, end), (_, at) in zip(windows, exports, strict=True))
    files = [name for name in names_in(tmp_path) if name.endswith(".csv")]
    assert len(files) == sum(number % 5 != 0 for number in range(len(windows)))


def test_hourly_export_whose_job_has_failed_creates_another_job(
    store: Simulator, folder: Path
) -> None:
    first = last_full_hour() - HOUR
    directory = folder / "exports"
    store.add_job("a", ["failed"], error="Out of memory")
    save_next_window(directory, first, "a")
    process = start(store, folder, sys.executable, "hourly_exports.py", "exports")
    _, logged = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert logged.endswith("error: job a failed: Out of memory. Create a new job to try again.\n")
    assert json.loads((directory / "next_window.json").read_text())["job_id"] is None
    assert next_start(directory) == first


# Stop on SIGTERM


def missing_namespaces() -> str:
    """Return why no process can be process 1 here, or an empty string."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    run = subprocess.run(
        ["unshare", "--pid", "--fork", "true"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stderr.strip()


@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param([], id="process"),
        pytest.param(
            ["unshare", "--pid", "--fork"],
            id="process-1",
            marks=pytest.mark.skipif(bool(missing_namespaces()), reason=missing_namespaces()),
        ),
    ],
)
async def test_hourly_exports_end_with_code_0_after_sigterm_and_leave_no_partial_file(
    prefix: list[str], folder: Path
) -> None:
    directory = folder / "exports"
    save_next_window(directory, last_full_hour() - HOUR, "a")
    saved = (directory / "next_window.json").read_text()
    whole = http(b"order_id,currency,amount\n" * 1000)
    async with FileHost(send_and_hang(whole[:-1000])) as host:
        command = [*prefix, sys.executable, "hourly_exports.py", "exports"]
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=os.environ | host.api.environment,
            stderr=asyncio.subprocess.PIPE,
        )
        await asyncio.to_thread(wait_until, lambda: list(directory.glob(".*.part")))
        program = psutil.Process(process.pid)
        if prefix:
            (program,) = program.children()
        program.terminate()
        async with asyncio.timeout(5):
            _, logged = await process.communicate()
    assert process.returncode == 0
    assert logged == b"stopped\n"
    assert names_in(directory) == ["next_window.json"]
    assert (directory / "next_window.json").read_text() == saved


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    unit = tmp_path / "hourly-exports.service"
    (text,) = (block for block in blocks(PAGE, "ini") if block.startswith(f"# {unit.name}"))
    unit.write_text(text.replace("/opt/exports", str(tmp_path)))
    run = subprocess.run(  # noqa: S603 (a unit of ours)
        ["systemd-analyze", "verify", "--man=no", str(unit)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


async def test_credentials_recipe_reads_the_secret_of_systemd(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "client-secret").write_text(f"{simulator.client_secret}\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("EPCC_CLIENT_ID", simulator.client_id)
    monkeypatch.setenv("EPCC_API_BASE_URL", simulator.url)
    simulator.add_job("a", ["success"])
    async with load("credentials.py")["open_session"]() as session:
        assert (await session.get_job("a")).status == "success"


# Outcomes that survive a restart


def open_ids(folder: Path) -> set[str]:
    return set(load("open_jobs.py")["OpenJobs"](str(folder / "open_jobs.db")).ids())


def test_outcomes_of_open_jobs_survive_a_kill(store: Simulator, folder: Path) -> None:
    for statuses in (["success"], ["started"], ["started"]):  # two do not end before the kill
        store.script_next_job(statuses)
    command = (sys.executable, "open_jobs.py")
    process = start(store, folder, *command, "eq(a,1)", "eq(a,2)", "eq(a,3)")
    assert process.stdout is not None
    handled = [process.stdout.readline().split()[0]]
    wait_until(lambda: len(open_ids(folder) - set(handled)) == 2)
    process.kill()
    handled += [line.split()[0] for line in process.communicate(timeout=SECONDS)[0].splitlines()]
    job_ids = open_ids(folder) | set(handled)
    assert len(job_ids) == 3
    second, third = sorted(job_ids - set(handled))
    for job_id, status in ((second, "success"), (third, "failed")):
        store.remove_job(job_id)
        store.add_job(job_id, [status])
    process = start(store, folder, *command)
    printed, logged = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, logged
    outcomes = dict(line.split(" ", 1) for line in printed.splitlines())
    assert outcomes.keys() >= {second, third}
    assert outcomes[second].endswith(".csv")
    assert " failed" in outcomes[third]
    assert open_ids(folder) == set()


def test_outcome_that_is_handled_before_a_kill_is_handled_again(
    store: Simulator, folder: Path
) -> None:
    """The process kills itself as it handles the outcome, so that it cannot forget the job."""
    program = named_block(PAGE, "open_jobs.py")
    killed = program.replace("flush=True)", "flush=True)\n    os.kill(os.getpid(), 9)", 1)
    (folder / "killed.py").write_text(f"import os\n{killed}")
    store.script_next_job(["success"])
    first = start(store, folder, sys.executable, "killed.py", "eq(a,1)")
    printed = first.communicate(timeout=SECONDS)[0]
    assert first.returncode == -signal.SIGKILL
    again = start(store, folder, sys.executable, "open_jobs.py")
    assert again.communicate(timeout=SECONDS)[0] == printed
    assert open_ids(folder) == set()


async def test_open_job_without_an_outcome_stays_open(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    program = load("open_jobs.py")
    open_jobs = program["OpenJobs"](":memory:")
    for job_id in ("expired", "refused"):
        simulator.add_job(job_id, ["success"])
    simulator.remove_job("expired")
    simulator.add_faults(403, job_id="refused")
    async with JobsSession(simulator.token, base_url=simulator.url) as session:
        for job_id in ("expired", "refused"):
            open_jobs.add(Job(id=job_id, status="pending"))
        await program["resume"](session, open_jobs)
    assert open_jobs.ids() == ["refused"]
    assert capsys.readouterr().err.startswith("job refused stays open: job refused: ")


# Alarms


async def watch_for(minutes: float, alarms: Any, *waits: Awaitable[Any]) -> None:
    """Let the alarms of a session watch over waits."""
    tasks = [asyncio.ensure_future(wait) for wait in (alarms.watch(), *waits)]
    await asyncio.sleep(minutes * 60)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def make_alarms(session: JobsSession) -> Any:
    return load("alarms.py")["Alarms"](session)


def alarms_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "alarms"]


def test_table_of_alarms_shows_all_of_them() -> None:
    alarms = re.findall(r'yield "(.+)"', named_block(PAGE, "alarms.py"))
    table = read_page(PAGE).partition("| alarm |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| ([a-z].+?) \|", table, re.MULTILINE) == alarms


@pytest.mark.looptime
async def test_no_alarm_while_all_goes_well(
    moltin_simulator: Simulator, moltin_session: JobsSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for job_id in ("a", "b"):
        moltin_simulator.add_job(job_id, duration=1800)
    await watch_for(90, make_alarms(moltin_session), *map(moltin_session.wait_for_job, ("a", "b")))
    assert alarms_in(caplog) == []


@pytest.mark.looptime
async def test_alarm_when_most_polls_fail_ends_with_the_outage(
    moltin_simulator: Simulator, moltin_session: JobsSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    moltin_simulator.add_job("a", ["started"])
    outage = asyncio.create_task(asyncio.sleep(600))
    outage.add_done_callback(lambda _: moltin_simulator.add_faults(503, repeat=True))
    end = asyncio.create_task(asyncio.sleep(780))
    end.add_done_callback(lambda _: moltin_simulator.clear_faults())
    await watch_for(20, make_alarms(moltin_session), moltin_session.wait_for_job("a"))
    assert alarms_in(caplog) == ["alarm: most polls fail", "over: most polls fail"]


@pytest.mark.looptime
async def test_alarm_when_the_service_responds_429(
    moltin_simulator: Simulator, moltin_session: JobsSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    moltin_simulator.add_job("a", ["started"])
    moltin_simulator.add_faults(429)
    await watch_for(3, make_alarms(moltin_session), moltin_session.wait_for_job("a"))
    name = "the service responds 429"
    assert alarms_in(caplog) == [f"alarm: {name}", f"over: {name}"]


@pytest.mark.looptime
async def test_alarm_when_more_waits_begin_than_the_rate_limit_can_serve(
    moltin_simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with JobsSession(
        moltin_simulator.token,
        base_url=moltin_simulator.url,
        rate_limit=1,
        polling=Polling(initial_interval=5, max_interval=5),
    ) as session:

        async def begin_late(number: int) -> None:
            await asyncio.sleep(number * 6)
            await session.wait_for_job(moltin_simulator.add_job(None, ["started"]))

        await watch_for(5, make_alarms(session), *map(begin_late, range(50)))
    assert alarms_in(caplog) == ["alarm: more and more requests wait for the rate limit"]


@pytest.mark.looptime
@pytest.mark.parametrize(("ended_waits", "expected"), [(0, ["alarm: no wait ends"]), (1, [])])
async def test_alarm_when_no_wait_has_ended_for_an_hour(
    ended_waits: int,
    expected: list[str],
    moltin_simulator: Simulator,
    moltin_session: JobsSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    moltin_simulator.add_job("a", ["started"])
    alarms = make_alarms(moltin_session)

    async def end_waits() -> None:
        await asyncio.sleep(30 * 60)
        alarms.ended_waits += ended_waits

    await watch_for(75, alarms, moltin_session.wait_for_job("a"), end_waits())
    assert alarms_in(caplog) == expected
