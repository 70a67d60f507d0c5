"""Options and fixtures for every test."""

import asyncio
import importlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import hypothesis
import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from moltin_jobs.testing import Simulator

pytest_plugins = ["moltin_jobs.testing.plugin", "pytester"]

DEFAULT_SEED = 1  # of the order of the tests, and of `random` in each; --randomly-seed sets another
NOOP_CYCLES = 5  # of looptime, whose default is 42; the tests pass with none

hypothesis.settings.register_profile("suite", deadline=None, max_examples=100, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--event-loop",
        choices=["asyncio", "eager", "uvloop"],
        default="asyncio",
        help="the loop that tests run on; eager: that of asyncio, with eager tasks (Python 3.12)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set the default seed of pytest-randomly, and replace the event loop if asked to.

    asyncio.Runner, which asyncio.run and pytest-asyncio use, calls asyncio.events.new_event_loop.
    """
    if config.getoption("randomly_seed", None) == "default":
        config.option.randomly_seed = DEFAULT_SEED
    event_loop = config.getoption("--event-loop")
    if event_loop == "eager":
        asyncio.events.new_event_loop = new_eager_event_loop
    elif event_loop == "uvloop":
        asyncio.events.new_event_loop = importlib.import_module("uvloop").new_event_loop


def new_eager_event_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    else:
        pytest.exit("there are no eager tasks before Python 3.12")
    return loop


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let looptime pass a few times through the idle loop before it moves its clock, not 42 times.

    Those passes take most of the time of a test on a virtual clock, above all under coverage.
    """
    for item in items:
        if item.get_closest_marker("looptime") is not None:
            item.add_marker(pytest.mark.looptime(noop_cycles=NOOP_CYCLES))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the seed, which the header of pytest-randomly does not show with ``-q``."""
    terminalreporter.write_line(f"--randomly-seed={config.getoption('randomly_seed', None)}")


@pytest.fixture(scope="session", autouse=True)
def _main_thread_event_loop() -> Iterator[None]:
    """Set an event loop that pytest-asyncio restores after each test.

    Without it, pytest-asyncio would create one itself and leave it open.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(scope="session", autouse=True)
def _default_sigint_handler() -> Iterator[None]:
    """Let SIGINT interrupt the tests and their child processes.

    A shell without job control starts background commands with SIGINT ignored.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    """Fail each test in which the package blocks the event loop."""
    with blockbuster_ctx("moltin_jobs") as guard:
        for name in ("os.stat", "os.listdir", "io.TextIOWrapper.read"):
            # redis-py looks up its own version for each connection that it opens.
            guard.functions[name].can_block_in("redis/utils.py", "get_lib_version")
        # The tracer of coverage waits for its own lock, in the code that runs as two threads meet.
        guard.functions["threading.Lock.acquire"].deactivate()
        yield guard


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A simulator without a rate limit."""
    async with Simulator(rate_limit=None) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def _no_epcc_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of the developer's own store from the environment."""
    for name in ("API_BASE_URL", "CLIENT_ID", "CLIENT_SECRET", "ACCESS_TOKEN"):
        monkeypatch.delenv(f"EPCC_{name}", raising=False)
