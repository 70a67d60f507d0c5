"""The example for Celery, run by real workers."""

import collections
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moltin_jobs.testing import Simulator
from tests.redis_server import MISSING, RedisServer

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
EXPORTS = 20
EMPTY_EXPORT = 7
FAILING_EXPORT = 8
WORKER = """
import celery_exports

celery_exports.POLL_SECONDS = 0.5
celery_exports.app.worker_main(["worker", "--pool=prefork", "--concurrency=2"])
"""
SENDER = f"""
import celery_exports

celery_exports.POLL_SECONDS = 0.5
export = celery_exports.export_orders
results = [export("eq(status,complete)", f"{{number}}.csv") for number in range({EXPORTS})]
for result in results:
    result.get(timeout=60, propagate=False)
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("celery") is None,
    reason="Celery is not installed: run nox -f .ci/noxfile.py -s celery",
)


def script_exports(store: Simulator) -> None:
    for number in range(EXPORTS):
        error = {EMPTY_EXPORT: "No results matched the supplied filter", FAILING_EXPORT: "No disk"}
        end = "failed" if number in error else "success"
        store.script_next_job(["pending"] * 3 + [end], error=error.get(number))


def count(store: Simulator, method: str, path: str) -> int:
    requests = collections.Counter((request.method, request.path) for request in store.requests)
    return requests[method, path]


def test_one_process_polls_all_exports_by_turns(
    moltin_environment: dict[str, str],
    moltin_simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module("celery_exports")
    monkeypatch.setattr(example, "POLL_SECONDS", 0.2)
    example.app.conf.update(broker_url="memory://", result_backend="cache+memory://")
    testing = importlib.import_module("celery.contrib.testing.worker")
    script_exports(moltin_simulator)
    paths = [tmp_path / f"{number}.csv" for number in range(EXPORTS)]
    with testing.start_worker(example.app, pool="solo", perform_ping_check=False):
        results = [example.export_orders("eq(status,complete)", str(path)) for path in paths]
        outcomes = [result.get(timeout=60, propagate=False) for result in results]
    example.close_session()

    assert outcomes[EMPTY_EXPORT] is None
    assert "No disk" in str(outcomes[FAILING_EXPORT])
    saved = [path for path in paths if path.exists()]
    assert [Path(path) for path in outcomes if isinstance(path, str)] == saved
    assert len(saved) == EXPORTS - 2
    assert count(moltin_simulator, "POST", "/v2/jobs") == EXPORTS
    assert count(moltin_simulator, "POST", "/oauth/access_token") == 1
    polls = [request.job_id for request in moltin_simulator.requests if request.job_id]
    assert len(set(polls[:EXPORTS])) == EXPORTS  # no second poll of a job before the first of all


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_worker_with_two_processes_uses_a_session_in_each(
    moltin_environment: dict[str, str], moltin_simulator: Simulator, tmp_path: Path
) -> None:
    script_exports(moltin_simulator)
    with RedisServer() as redis:
        addresses = {"CELERY_BROKER_URL": redis.url, "CELERY_RESULT_BACKEND": redis.url}
        environment = os.environ | addresses | {"PYTHONPATH": str(EXAMPLES)}
        with (tmp_path / "log").open("wb") as log:
            worker = subprocess.Popen(  # noqa: S603
                [sys.executable, "-W", "default", "-c", WORKER],
                cwd=tmp_path,
                env=environment,
                stdout=log,
                stderr=log,
            )
            sender = [sys.executable, "-c", SENDER]
            subprocess.run(sender, cwd=tmp_path, env=environment, check=True)  # noqa: S603
            worker.terminate()
            assert worker.wait() == 0
    assert "Unclosed" not in (tmp_path / "log").read_text()
    assert len(list(tmp_path.glob("*.csv"))) == EXPORTS - 2
    assert count(moltin_simulator, "POST", "/v2/jobs") == EXPORTS
    assert count(moltin_simulator, "POST", "/oauth/access_token") == 2
