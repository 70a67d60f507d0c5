"""The examples that export metrics, with the real libraries."""

import importlib
import importlib.util
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import prometheus_client
import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from moltin_jobs import SessionStats
from moltin_jobs.testing import Simulator
from tests.docs.examples import blocks, named_block

PAGE = "docs/operations.md"
FILES = ("snapshots.py", "jobs_prometheus.py", "jobs_opentelemetry.py")

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("moltin_environment")]


@pytest.fixture(autouse=True)
def _saved_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in FILES:
        (tmp_path / name).write_text(named_block(PAGE, name))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


async def run_main(name: str, simulator: Simulator) -> ModuleType:
    """Run an example while a job runs for 60 s, and return its module."""
    simulator.add_job("order-export-01", duration=60)
    module = importlib.import_module(name)
    await module.main()
    return module


def check(values: dict[str, Any], prefix: str, simulator: Simulator) -> None:
    """Check the values of the last snapshot, of at most 5 s before the last poll."""
    names = {prefix + field.name for field in attrs.fields(SessionStats)}
    assert set(values) == names
    assert values[f"{prefix}waits"] == 1
    polls = values[f"{prefix}polls"]
    assert 0 < polls < len(simulator.requests)
    assert values[f"{prefix}requests"] == polls + 1  # and the one for the token


async def test_prometheus_recipe_serves_the_statistics(
    moltin_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = CollectorRegistry(auto_describe=True)
    servers: list[Any] = []

    def start_http_server(port: int) -> None:
        assert port == 8001
        servers.extend(prometheus_server(0, "127.0.0.1", registry))

    prometheus_server = prometheus_client.start_http_server
    monkeypatch.setattr(prometheus_client, "REGISTRY", registry)
    monkeypatch.setattr(prometheus_client, "start_http_server", start_http_server)
    await run_main("jobs_prometheus", moltin_simulator)
    server, thread = servers
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}") as response:  # noqa: ASYNC210
        text = response.read().decode()
    server.shutdown()
    server.server_close()
    thread.join()
    (sample_output,) = (block for block in blocks(PAGE, "text") if block.startswith("# HELP"))
    assert set(sample_output.splitlines()) <= set(text.splitlines())
    families = list(text_string_to_metric_families(text))
    values = {family.name: sample.value for family in families for sample in family.samples}
    check(values, "moltin_jobs_", moltin_simulator)
    counters = {family.name for family in families if family.type == "counter"}
    assert counters == {f"moltin_jobs_{name}" for name in sys.modules["snapshots"].COUNTERS}


async def test_opentelemetry_recipe_observes_the_statistics(
    moltin_simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    await run_main("jobs_opentelemetry", moltin_simulator)
    data: Any = reader.get_metrics_data()
    found = data.resource_metrics[0].scope_metrics[0].metrics
    values = {metric.name: metric.data.data_points[0].value for metric in found}
    check(values, "moltin_jobs.", moltin_simulator)
    provider.shutdown()
    assert all(metric.description for metric in found)
    counters = {metric.name for metric in found if metric.data.is_monotonic}
    assert counters == {f"moltin_jobs.{name}" for name in sys.modules["snapshots"].COUNTERS}
