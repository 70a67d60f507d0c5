"""What every test needs."""

import asyncio
import signal
from collections.abc import Iterator

import hypothesis
import pytest
from blockbuster import blockbuster_ctx

hypothesis.settings.register_profile("suite", deadline=None, max_examples=100, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _loop_of_the_main_thread() -> Iterator[None]:
    """Have a loop for pytest-asyncio to put back after each test; it would leave its own open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_interrupts() -> Iterator[None]:
    """A shell without job control has what it runs with ``&`` ignore SIGINT, children included."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _no_blocking_call() -> Iterator[None]:
    """Fail whatever blocks the event loop from within our modules."""
    with blockbuster_ctx("moltin_jobs") as guard:
        for name in ("os.stat", "os.listdir", "io.TextIOWrapper.read"):
            # redis-py looks up its own version for each connection that it opens.
            guard.functions[name].can_block_in("redis/utils.py", "get_lib_version")
        yield


@pytest.fixture(autouse=True)
def _no_store_of_the_developers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tried the README's examples has set these."""
    for name in ("API_BASE_URL", "CLIENT_ID", "CLIENT_SECRET", "ACCESS_TOKEN"):
        monkeypatch.delenv(f"EPCC_{name}", raising=False)
