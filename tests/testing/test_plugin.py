"""The pytest fixtures, as the tests of a project use them under each async plugin."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from moltin_jobs import JobFailedError, JobsSession
from moltin_jobs.testing import Fault, Simulator, plugin

Run = Callable[..., pytest.RunResult]

ASYNCIO = ("-p", "asyncio", "-o", "asyncio_default_fixture_loop_scope=function")
ANYIO = ("-p", "anyio")
LOOPTIME = ("-p", "looptime_plugin")
ASYNC_TESTS = """
import os

import pytest

from moltin_jobs import JobsSession
{module_mark}

async def test_session_and_simulator(moltin_simulator, moltin_session):
    moltin_simulator.add_job("a", ["success"])
    assert (await moltin_session.wait_for_job("a")).status == "success"
    assert [request.path for request in moltin_simulator.requests] == ["/v2/jobs/a"]


async def test_environment(moltin_simulator, moltin_environment):
    moltin_simulator.add_job("a", ["success"])
    assert "EPCC_ACCESS_TOKEN" not in os.environ
    async with JobsSession.from_env() as session:
        assert (await session.wait_for_job("a")).status == "success"
"""
ANYIO_BACKEND = """

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
SYNCHRONOUS_TEST = """
import asyncio

from moltin_jobs import JobsSession


def test_environment(moltin_simulator, moltin_environment):
    async def wait():
        async with JobsSession.from_env() as session:
            return await session.wait_for_job("a")

    moltin_simulator.add_job("a", ["success"])
    assert asyncio.run(wait()).status == "success"
"""
VIRTUAL_CLOCK_TEST = """
import pytest


@pytest.mark.asyncio
async def test_wait_of_an_hour(moltin_simulator, moltin_session):
    moltin_simulator.add_job("a", duration=3600)
    assert (await moltin_session.wait_for_job("a")).status == "success"
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the tests of a project. Only the plugins of other packages that are named are loaded."""
    monkeypatch.setenv("EPCC_ACCESS_TOKEN", "real")
    monkeypatch.setenv("PYTEST_ADDOPTS", "")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\n")
    pytester.makeconftest('pytest_plugins = ["moltin_jobs.testing.plugin"]')

    def run_pytest(tests: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_project=tests)
        # The plugin was imported before, so that pytest cannot rewrite its assertions.
        return pytester.runpytest_inprocess(
            "-q", "-p", "no:cacheprovider", "--assert=plain", "-W", "error", *options
        )

    return run_pytest


@pytest.mark.parametrize(
    ("options", "mark"),
    [
        ([*ASYNCIO, "--asyncio-mode=strict"], "asyncio"),
        ([*ASYNCIO, "--asyncio-mode=auto"], None),
        (ANYIO, "anyio"),
        ([*ANYIO, "--anyio-mode=auto"], None),
        ([*ASYNCIO, "--asyncio-mode=strict", *ANYIO], "asyncio"),
        ([*ASYNCIO, "--asyncio-mode=strict", *ANYIO], "anyio"),
        ([*ASYNCIO, "--asyncio-mode=strict", *ANYIO, "--anyio-mode=auto"], None),
        ([*ASYNCIO, "--asyncio-mode=auto", *ANYIO], None),
    ],
    ids=[
        "asyncio_strict",
        "asyncio_auto",
        "anyio",
        "anyio_auto",
        "both_mark_asyncio",
        "both_mark_anyio",
        "both_anyio_auto",
        "both_asyncio_auto",
    ],
)
def test_fixtures_in_async_tests_work_under_each_plugin(
    options: list[str], mark: str | None, run: Run
) -> None:
    module_mark = "" if mark is None else f"\npytestmark = pytest.mark.{mark}\n"
    if ANYIO[1] in options and mark != "asyncio":
        module_mark += ANYIO_BACKEND
    run(ASYNC_TESTS.format(module_mark=module_mark), *options).assert_outcomes(passed=2)


@pytest.mark.parametrize("options", [(), (*ASYNCIO, *ANYIO)], ids=["no_plugin", "both_plugins"])
def test_fixtures_in_a_synchronous_test_need_no_plugin(options: tuple[str, ...], run: Run) -> None:
    run(SYNCHRONOUS_TEST, *options).assert_outcomes(passed=1)


def test_fixtures_work_without_pytest_asyncio(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_asyncio", None)
    monkeypatch.delitem(sys.modules, plugin.__name__)
    module_mark = "\npytestmark = pytest.mark.anyio\n" + ANYIO_BACKEND
    run(ASYNC_TESTS.format(module_mark=module_mark), *ANYIO).assert_outcomes(passed=2)


@pytest.mark.looptime
def test_looptime_option_of_all_tests_makes_the_clock_of_the_simulator_virtual(
    run: Run,
) -> None:
    run(VIRTUAL_CLOCK_TEST, *ASYNCIO, *LOOPTIME, "--looptime").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("test", "options", "message"),
    [
        (
            "def test_it(moltin_session): ...",
            ASYNCIO,
            "moltin_session: the test is not async. Make it 'async def', or use moltin_environment "
            "and create the session in the code under test.",
        ),
        (
            "async def test_it(moltin_session): ...",
            (*ASYNCIO, *ANYIO),
            "moltin_session: no plugin runs this async test. Mark it with pytest.mark.asyncio "
            "(pytest-asyncio) or pytest.mark.anyio (anyio).",
        ),
        (
            "import pytest\n@pytest.mark.parametrize('anyio_backend', ['trio'])\n"
            "@pytest.mark.anyio\nasync def test_it(moltin_session): ...",
            ANYIO,
            "moltin_session: it needs asyncio. Define a fixture anyio_backend that returns "
            "'asyncio'.",
        ),
        (
            "import pytest\n@pytest.mark.anyio\nasync def test_it(moltin_session): ..."
            + ANYIO_BACKEND,
            (*ASYNCIO, "--asyncio-mode=auto", *ANYIO),
            "moltin_session: two plugins run this async test. With pytest.mark.anyio, "
            "pytest-asyncio must be in strict mode.",
        ),
    ],
    ids=["synchronous", "no_plugin", "trio", "both_plugins"],
)
def test_moltin_session_without_an_event_loop_fails_with_one_line(
    test: str, options: tuple[str, ...], message: str, run: Run
) -> None:
    result = run(test, *options)
    result.assert_outcomes(errors=1)
    assert message in result.outlines


def test_fixtures_of_another_loop_scope_fail_with_the_message_of_the_session(
    run: Run,
) -> None:
    mark = '\npytestmark = pytest.mark.asyncio(loop_scope="session")\n'
    tests = ASYNC_TESTS.format(module_mark=mark)
    result = run(tests, *ASYNCIO)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines("*this JobsSession belongs to another event loop*")


def test_loop_scope_of_tests_and_fixtures_in_the_settings_is_that_of_moltin_session(
    run: Run,
) -> None:
    scopes = [f"asyncio_default_{name}_loop_scope=session" for name in ("test", "fixture")]
    options = ["--asyncio-mode=auto", *(part for scope in scopes for part in ("-o", scope))]
    tests = ASYNC_TESTS.format(module_mark="")
    run(tests, *ASYNCIO, *options).assert_outcomes(passed=2)


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


def test_moltin_simulator_runs_in_a_thread_of_its_own(moltin_simulator: Simulator) -> None:
    assert "moltin-simulator" in {thread.name for thread in threading.enumerate()}
    assert moltin_simulator.add_job("a") == "a"


async def test_moltin_simulator_without_marker_responds_while_the_loop_is_blocked(
    moltin_environment: dict[str, str], moltin_simulator: Simulator
) -> None:
    async def wait() -> str:
        async with JobsSession.from_env() as session:
            return (await session.wait_for_job("a")).status

    moltin_simulator.add_job("a", ["success"])
    thread = threading.Thread(target=lambda: statuses.append(asyncio.run(wait())))
    statuses: list[str] = []
    thread.start()
    thread.join(30)
    assert statuses == ["success"]


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
