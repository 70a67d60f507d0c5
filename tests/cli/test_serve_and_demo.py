"""`moltin-jobs serve` and `moltin-jobs demo`."""

import asyncio
import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pytest

from moltin_jobs import Polling
from moltin_jobs.cli import demo
from moltin_jobs.testing import Simulator

from .harness import FAILURE, PATIENCE, Terminal, process, run

ENDS = {
    **{f"export-{number:02}": ["order", "success"] for number in range(1, 9)},
    "export-05": ["order", "failed"],
    "import-01": ["pxm", "failed"],
    "import-02": ["pxm", "success"],
    "release-01": ["release", "PUBLISHED"],
    "release-02": ["release", "PUBLISHED"],
}
"""Kind and last status of each job of the demo."""
BAD_ROW = "row 3: the sku is missing"
SERVED_JOBS = {
    "order": [f"order-export-{number:02}" for number in range(1, 13)],
    "pxm": ["import-01", "import-02", "import-03", "export-01"],
    "release:summer": ["release-01", "release-02"],
    "subscription": ["billing-01"],
    "subscription-import": ["subscribers-01"],
    "inventory-import": ["stock-01"],
}


Served = list[tuple[Simulator, dict[str, str | None]]]
"""Each simulator, and the error of each of its jobs by id."""


@pytest.fixture
def signal_when_served(monkeypatch: pytest.MonkeyPatch) -> Callable[[signal.Signals], Served]:
    """Let a simulator send a signal to this process as soon as it is open."""

    def prepare(signum: signal.Signals) -> Served:
        served: Served = []

        class SignalledSimulator(Simulator):
            async def __aenter__(self) -> Self:
                await super().__aenter__()
                served.append((self, {}))
                asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signum)
                return self

            def add_job(self, job_id: str | None = None, *args: Any, **options: Any) -> str:
                served[-1][1][job_id or ""] = options.get("error")
                return super().add_job(job_id, *args, **options)

        monkeypatch.setattr(demo, "Simulator", SignalledSimulator)
        return served

    return prepare


def run_demo_in_terminal() -> tuple[int, str]:
    with Terminal() as terminal:
        with process(
            "demo", env={"TERM": "xterm"}, stdout=terminal.end, stderr=terminal.end
        ) as running:
            running.wait(PATIENCE)
        return running.returncode, terminal.close()


def run_demo_in_pipes() -> tuple[int, str, str]:
    with process("demo") as running:
        stdout, stderr = running.communicate(timeout=PATIENCE)
    return running.returncode, stdout, stderr


def test_demo_shows_a_dozen_jobs_with_and_without_a_terminal() -> None:
    with ThreadPoolExecutor() as pool:
        in_terminal, in_pipes = pool.submit(run_demo_in_terminal), pool.submit(run_demo_in_pipes)
    code, screen = in_terminal.result()
    assert code == 0
    for part in (*ENDS, "pending", "IN_PROGRESS", "success", "failed", FAILURE, BAD_ROW):
        assert part in screen
    assert "\x1b[2K" in screen, "the table was drawn repeatedly"
    assert "12 of 12 jobs ended" in screen
    assert "12 waits at the same time, " in screen

    code, stdout, stderr = in_pipes.result()
    assert code == 0
    assert "\x1b" not in stdout + stderr
    progress = [line.split() for line in stderr.splitlines()]
    for job_id, (_, end) in ENDS.items():
        statuses = [line[3] for line in progress if line[2] == job_id]
        assert statuses[-1] == end
        assert {status.lower() for status in statuses[:-1]} <= {"pending", "started", "in_progress"}
    table = stdout.splitlines()
    assert table[1].startswith("12 waits at the same time, ")
    assert table[3].split() == ["job", "kind", "ended", "as", "after", "error"]
    assert [line.split()[0] for line in table[4:]] == list(ENDS)
    assert table[8].endswith(FAILURE)
    assert table[12].endswith(BAD_ROW)
    assert max(map(len, table)) <= 80


def test_demo_prints_how_each_job_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "JOB_SECONDS", 0.01)
    monkeypatch.setattr(demo, "POLLING", Polling(initial_interval=0.05, max_interval=0.05))
    result = run("demo")
    assert result.exit_code == 0
    rows = [line.split()[:3] for line in result.stdout.splitlines()[4:]]
    assert rows == [[job_id, *end] for job_id, end in ENDS.items()]
    assert all(job_id in result.stderr for job_id in ENDS)


def test_serve_prints_the_variables_that_lead_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with process("serve") as serving:
        assert serving.stdout is not None
        assert serving.stderr is not None
        exports = [serving.stdout.readline().removesuffix("\n") for _ in range(3)]
        notes = [serving.stderr.readline() for _ in range(len(SERVED_JOBS) + 1)]
        for line in exports:
            name, _, value = line.removeprefix("export ").partition("=")
            monkeypatch.setenv(name, value)
        result = run("get", "order-export-01", "order-export-12")
        others = [run("get", "-q", "--kind", kind, *SERVED_JOBS[kind]) for kind in SERVED_JOBS]
        serving.send_signal(signal.SIGINT)
        stdout, stderr = serving.communicate(timeout=PATIENCE)
    assert all(line.startswith("export EPCC_") for line in exports)
    assert notes == [
        *[f"serving {kind} jobs: {' '.join(ids)}\n" for kind, ids in SERVED_JOBS.items()],
        "Press Ctrl-C to stop.\n",
    ]
    assert {other.exit_code for other in others} <= {0, 1}
    assert (serving.returncode, stdout, stderr) == (130, "", "")
    assert re.match(
        "order-export-01\t(started|success).*\norder-export-12\tpending\n", result.stdout
    )


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_serve_runs_until_a_signal(
    signal_when_served: Callable[[signal.Signals], Served], signum: signal.Signals, code: int
) -> None:
    signal_when_served(signum)
    result = run("serve")
    assert result.exit_code == code
    assert [line.partition("=")[0] for line in result.stdout.splitlines()] == [
        "export EPCC_API_BASE_URL",
        "export EPCC_CLIENT_ID",
        "export EPCC_CLIENT_SECRET",
    ]


@pytest.mark.parametrize(
    ("options", "failing"),
    [
        ([], [5]),
        (["--fail", "0"], []),
        (["--fail", "3"], [5, 6, 7]),
        (["--jobs", "3"], [3]),
        (["--jobs", "6", "--fail", "4"], [1, 2, 5, 6]),
        (["--jobs", "2", "--fail", "2"], [1, 2]),
    ],
)
def test_serve_has_the_wanted_number_of_jobs_and_failures(
    signal_when_served: Callable[[signal.Signals], Served], options: list[str], failing: list[int]
) -> None:
    served = signal_when_served(signal.SIGINT)
    result = run("serve", *options)
    ((simulator, errors),) = served
    orders = {job_id: error for job_id, error in errors.items() if job_id.startswith("order-")}
    number = int(options[1]) if options[:1] == ["--jobs"] else 12
    assert list(orders) == [f"order-export-{index:02}" for index in range(1, number + 1)]
    assert [int(job_id[-2:]) for job_id, error in orders.items() if error] == failing
    assert result.stderr.startswith(f"serving order jobs: {' '.join(orders)}\n")
    assert simulator.chaos == 0


def test_serve_of_many_jobs_names_the_first_and_the_last(
    signal_when_served: Callable[[signal.Signals], Served],
) -> None:
    signal_when_served(signal.SIGINT)
    note = run("serve", "--jobs", "100").stderr.splitlines()[0]
    assert note == "serving order jobs: order-export-01 ... order-export-100"


def test_serve_with_faults_has_faulty_responses(
    signal_when_served: Callable[[signal.Signals], Served],
) -> None:
    served = signal_when_served(signal.SIGINT)
    assert run("serve", "--faults", "0.25").exit_code == 130
    assert served[0][0].chaos == 0.25


def test_served_faults_reach_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    with process("serve", "--faults", "1") as serving:
        assert serving.stdout is not None
        for _ in range(3):
            export = serving.stdout.readline().removesuffix("\n").removeprefix("export ")
            monkeypatch.setenv(*export.split("=", 1))
        assert run("get", "-q", "order-export-01").exit_code == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs", "0"], "'--jobs': 0 is not in the range x>=1"),
        (["--fail", "-1"], "'--fail': -1 is not in the range x>=0"),
        (
            ["--fail", "4", "--jobs", "3"],
            "--fail: 4 is more than the number of order jobs. Use at most 3.",
        ),
        (["--faults", "1.1"], "'--faults': '1.1' is not a number from 0 to 1."),
        (["--faults", "nan"], "'--faults': 'nan' is not a number from 0 to 1."),
        (["--faults", "many"], "'--faults': 'many' is not a number from 0 to 1."),
    ],
)
def test_serve_with_a_wrong_number_is_a_usage_error(options: list[str], message: str) -> None:
    result = run("serve", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Invalid value for {message}" in result.stderr


def test_serve_on_a_port_in_use_is_a_usage_error(store: Simulator) -> None:
    port = store.url.rpartition(":")[2]
    result = run("serve", "--port", port)
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        f"Invalid value for --port: {port}: Address already in use. Give another one"
        in result.stderr
    )


def test_serve_on_an_impossible_port_is_a_usage_error() -> None:
    result = run("serve", "--port", "65536")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "65536 is not in the range 0<=x<=65535" in result.stderr


def test_serve_does_not_blame_the_port_for_another_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class ExhaustedSimulator(Simulator):
        async def __aenter__(self) -> Self:
            raise OSError(24, "Too many open files")

    monkeypatch.setattr(demo, "Simulator", ExhaustedSimulator)
    with pytest.raises(OSError, match="Too many open files"):
        run("serve", "--port", "0")
