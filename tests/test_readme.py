"""What the README says: its examples are run as they stand, its figures compared."""

import asyncio
import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import moltin_jobs.errors
from moltin_jobs import Polling, Retry
from moltin_jobs.simulator import Simulator

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(?!# test_)(.*?)^```", README, re.DOTALL | re.MULTILINE)
JOB_IDS = ["974c9db4-38da-4dbf-90c2-33eed5f3e77c", "b9d4b2f0-5d0a-4b52-8c4f-1d3b0d0c9a11"]

TOLD = ["the file is at http", "success succeeded True", f"{JOB_IDS[1]} success"]


@contextlib.contextmanager
def simulator_in_a_thread() -> Iterator[Simulator]:
    """A simulator on a loop of its own, since the examples bring theirs."""
    ready = threading.Event()
    simulator = Simulator(latency=0.01)
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        async with simulator:
            for job_id in JOB_IDS:
                simulator.add_job(job_id, duration=0.1)
            over = asyncio.Event()
            loops.append((asyncio.get_running_loop(), over))
            ready.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(5)
    try:
        yield simulator
    finally:
        loop, over = loops[0]
        loop.call_soon_threadsafe(over.set)
        thread.join()


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with simulator_in_a_thread() as simulator:
        monkeypatch.setenv("EPCC_API_BASE_URL", simulator.url)
        monkeypatch.setenv("EPCC_CLIENT_ID", simulator.client_id)
        monkeypatch.setenv("EPCC_CLIENT_SECRET", simulator.client_secret)
        exec(compile(EXAMPLES[number], "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102 (as a reader would run it)
    assert TOLD[number] in capsys.readouterr().out
    assert any(request.job_id == JOB_IDS[0] for request in simulator.requests)


def test_the_tree_of_errors_names_them_all() -> None:
    drawn = re.findall(r"^(?:MoltinJobsError|[│ ]*[├└]── (\w+))", README, re.MULTILINE)
    defined = {name for name in vars(moltin_jobs.errors) if name.endswith("Error")}
    assert {name or "MoltinJobsError" for name in drawn} == defined


def test_the_defaults_told_are_the_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+)(?: s)? \|", README, re.MULTILINE)
    assert {name: float(value) for name, value in rows} == {
        name: getattr(Polling(), name)
        for name in ("initial", "factor", "max_interval", "jitter", "outage")
    }
    assert repr(Retry()) == "Retry(max_tries=4, initial=0.5, max_interval=8.0)"
    assert "retry=Retry(max_tries=4, initial=0.5, max_interval=8)" in README
