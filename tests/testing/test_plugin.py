"""The pytest fixtures, as the tests of a project use them."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moltin_jobs import JobFailedError, JobsSession
from moltin_jobs.testing import Fault, Simulator, plugin

CONFTEST = 'pytest_plugins = ["moltin_jobs.testing.plugin"]\n'
PROJECT_TESTS = """
import os

import pytest

from moltin_jobs import JobsSession


@pytest.mark.asyncio
async def test_session_and_simulator(moltin_simulator, moltin_session):
    moltin_simulator.add_job("a", ["success"])
    assert (await moltin_session.wait_for_job("a")).status == "success"


@pytest.mark.asyncio
async def test_environment(moltin_simulator, moltin_environment):
    moltin_simulator.add_job("a", ["success"])
    assert "EPCC_ACCESS_TOKEN" not in os.environ
    async with JobsSession.from_env() as session:
        assert (await session.wait_for_job("a")).status == "success"
"""


def run_pytest(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest without the plugins of other packages, except pytest-asyncio if asked for."""
    environment = os.environ | {
        "EPCC_ACCESS_TOKEN": "real",
        "PYTEST_ADDOPTS": "",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return subprocess.run(  # noqa: S603 (arguments of ours)
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_plugin_in_conftest_gives_fixtures(mode: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_project.py").write_text(PROJECT_TESTS)
    run = run_pytest(tmp_path, "-p", "pytest_asyncio.plugin", f"--asyncio-mode={mode}")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout


def test_plugin_without_pytest_asyncio_stops_pytest_with_one_line(tmp_path: Path) -> None:
    hidden = 'import sys\nsys.modules["pytest_asyncio"] = None\n'
    (tmp_path / "conftest.py").write_text(hidden + CONFTEST)
    (tmp_path / "test_project.py").write_text(PROJECT_TESTS)
    run = run_pytest(tmp_path)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert run.stderr.strip() == (
        "ERROR: moltin_jobs.testing.plugin: pytest-asyncio is not installed. "
        "Run: pip install 'moltin-jobs[testing]'"
    )


def test_plugin_without_pytest_asyncio_raises_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_asyncio", None)
    monkeypatch.delitem(sys.modules, plugin.__name__)
    with pytest.raises(pytest.UsageError, match="pytest-asyncio is not installed"):
        importlib.import_module(plugin.__name__)


def test_testing_package_works_without_pytest() -> None:
    script = (
        "import sys\n"
        "sys.modules['pytest'] = sys.modules['pytest_asyncio'] = None\n"
        "from moltin_jobs.testing import Simulator\n"
        "with Simulator.in_thread() as simulator:\n"
        "    print(simulator.add_job('a'))\n"
    )
    run = subprocess.run(  # noqa: S603 (arguments of ours)
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr) == ("a\n", "")


@pytest.mark.looptime
async def test_moltin_session_waits_through_faults_for_scripted_job(
    moltin_simulator: Simulator, moltin_session: JobsSession
) -> None:
    moltin_simulator.add_job("a", ["pending", "processing", "success"])
    moltin_simulator.add_faults(503, Fault(429, {"Retry-After": "3"}), job_id="a")
    assert (await moltin_session.wait_for_job("a")).status == "success"
    assert [request.status for request in moltin_simulator.requests] == [503, 429, 200, 200, 200]


@pytest.mark.looptime
async def test_moltin_session_waits_ten_minutes_for_job_that_fails(
    moltin_simulator: Simulator, moltin_session: JobsSession
) -> None:
    moltin_simulator.add_job("a", duration=600, error="No results")
    with pytest.raises(JobFailedError, match="No results"):
        await moltin_session.wait_for_job("a")


@pytest.mark.looptime
async def test_moltin_session_exports_a_scripted_job_then_a_regular_one(
    moltin_simulator: Simulator, moltin_session: JobsSession
) -> None:
    moltin_simulator.script_next_job(["pending", "failed"], error="No results")
    with pytest.raises(JobFailedError, match="No results"):
        await moltin_session.export_orders()
    assert (await moltin_session.export_orders()).status == "success"


@pytest.fixture
def _real_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPCC_ACCESS_TOKEN", "real")


@pytest.mark.usefixtures("_real_token")
async def test_moltin_environment_replaces_the_variables_that_from_env_reads(
    moltin_simulator: Simulator, moltin_environment: dict[str, str]
) -> None:
    moltin_simulator.add_job("a", ["success"])
    variables = {name: value for name, value in os.environ.items() if name.startswith("EPCC_")}
    assert variables == moltin_environment
    async with JobsSession.from_env() as session:
        assert (await session.wait_for_job("a")).status == "success"
