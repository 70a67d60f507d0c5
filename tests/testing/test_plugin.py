"""The test kit, used here as a service's own tests would use it."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from moltin_jobs import JobFailedError, JobsSession
from moltin_jobs.testing import Fault, Simulator, moltin_session, moltin_simulator, plugin

__all__ = ["moltin_session", "moltin_simulator"]  # for pytest to find, as the suite runs without

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


@pytest.mark.looptime
async def test_a_wait_for_a_scripted_job(
    moltin_simulator: Simulator, moltin_session: JobsSession
) -> None:
    moltin_simulator.add_job("a", ["pending", "processing", "success"])
    moltin_simulator.spoil(503, Fault(429, {"Retry-After": "3"}), job_id="a")
    assert (await moltin_session.wait_for_job("a")).status == "success"
    assert [request.status for request in moltin_simulator.requests] == [503, 429, 200, 200, 200]


@pytest.mark.looptime
async def test_a_job_that_fails_after_ten_minutes(
    moltin_simulator: Simulator, moltin_session: JobsSession
) -> None:
    moltin_simulator.add_job("a", duration=600, error="No results")
    with pytest.raises(JobFailedError, match="No results"):
        await moltin_session.wait_for_job("a")


@pytest.mark.looptime
async def test_an_export_that_fails(
    moltin_simulator: Simulator, moltin_session: JobsSession
) -> None:
    moltin_simulator.script_created(["pending", "failed"], error="No results")
    with pytest.raises(JobFailedError, match="No results"):
        await moltin_session.export_orders()
    job = await moltin_session.export_orders()
    assert job.status == "success", "only the next one is scripted"


def test_without_pytest_asyncio_it_can_still_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_asyncio", None)
    found = runpy.run_path(plugin.__file__, run_name="moltin_jobs.testing.plugin_again")
    assert "moltin_session" in found


def test_the_readmes_service_and_its_tests(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n# test_(?s:.*?)^```", README, re.MULTILINE)
    body = example.removeprefix("```python\n").removesuffix("```")
    (tmp_path / "test_export.py").write_text(body)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert "3 passed" in run.stdout
