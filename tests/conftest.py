"""What every test needs."""

import asyncio
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
