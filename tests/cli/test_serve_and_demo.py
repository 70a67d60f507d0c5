"""`moltin-jobs serve` and `moltin-jobs demo`."""

import asyncio
import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

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
    "pxm": ["product-import-01", "product-export-01", "product-import-02", "import-01"],
    "release:summer": ["release-01"],
    "subscription": ["billing-run-01"],
    "subscription-import": ["subscription-import-01"],
    "inventory-import": ["inventory-import-01"],
}


@pytest.fixture
def signal_when_served(monkeypatch: pytest.MonkeyPatch) -> Callable[[signal.Signals], None]:
    """Let a simulator send a signal to this process as soon as it is open."""

    def prepare(signum: signal.Signals) -> None:
        class SignalledSimulator(Simulator):
            async def __aenter__(self) -> Self:
                await super().__aenter__()
                asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signum)
                return self

        monkeypatch.setattr(demo, "Simulator", SignalledSimulator)

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
    with process("serve", "--port", "0") as serving:
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
    signal_when_served: Callable[[signal.Signals], None], signum: signal.Signals, code: int
) -> None:
    signal_when_served(signum)
    result = run("serve", "--port", "0")
    assert result.exit_code == code
    assert [line.partition("=")[0] for line in result.stdout.splitlines()] == [
        "export EPCC_API_BASE_URL",
        "export EPCC_CLIENT_ID",
        "export EPCC_CLIENT_SECRET",
    ]


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
