"""The example for Airflow, run by its real scheduler, workers and triggerer."""

import collections
import itertools
import json
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from moltin_jobs.testing import Simulator
from tests.pipelines.airflow_processes import COMMAND, Airflow

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
WINDOWS = 50
EMPTY_WINDOW = 7
NO_RESULTS = "No results matched the supplied filter"
LOST_WORKER_DAG = """
import os
import signal
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG
from airflow_operator import ExportOrdersOperator


class LostOperator(ExportOrdersOperator):
    def defer(self, **arguments):
        lost = Path(self.destination).with_suffix(".lost")
        if not lost.exists():
            lost.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().defer(**arguments)


with DAG("lost", schedule=None):
    LostOperator(
        task_id="export",
        filter="eq(status,complete)",
        destination="{{ var.value.exports }}/lost.csv",
        conn_id="second_store",
        retries=2,
        retry_delay=timedelta(0),
    )
"""

pytestmark = pytest.mark.skipif(
    not COMMAND.exists(), reason="Airflow is not installed: run nox -f .ci/noxfile.py -s airflow"
)


@pytest.fixture(scope="module")
def store() -> Iterator[Simulator]:
    with Simulator.in_thread(rate_limit=None) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def second_store() -> Iterator[Simulator]:
    with Simulator.in_thread(rate_limit=None) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def airflow(
    store: Simulator,
    second_store: Simulator,
    exports: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Airflow]:
    """Airflow without a scheduler and a triggerer. All DAGs are paused."""
    home = tmp_path_factory.mktemp("airflow")
    for source, folder in (("dag", "dags"), ("operator", "plugins"), ("trigger", "plugins")):
        (home / folder).mkdir(exist_ok=True)
        shutil.copy(EXAMPLES / f"airflow_{source}.py", home / folder)
    (home / "dags" / "lost_worker_dag.py").write_text(LOST_WORKER_DAG)
    variables = {
        "AIRFLOW_CONN_MOLTIN_DEFAULT": connection(store),
        "AIRFLOW_CONN_SECOND_STORE": connection(second_store),
        "AIRFLOW_VAR_EXPORTS": str(exports),
    }
    with Airflow.open(home, variables, dags=2) as airflow:
        yield airflow


@pytest.fixture(autouse=True)
def _no_process_left(airflow: Airflow) -> Iterator[None]:
    yield
    airflow.kill("scheduler")
    airflow.kill("triggerer")


def connection(store: Simulator) -> str:
    parts = {"login": store.client_id, "password": store.client_secret, "host": store.url}
    return json.dumps({"conn_type": "http", **parts})


def test_windows_are_exported_once_when_the_triggerer_is_killed(
    airflow: Airflow, store: Simulator, exports: Path
) -> None:
    for number in range(WINDOWS):
        polls = ["pending"] * (3 if number < 20 else 12)
        if number == EMPTY_WINDOW:
            store.script_next_job([*polls, "failed"], error=NO_RESULTS)
        else:
            store.script_next_job([*polls, "success"])
    airflow.run("dags", "unpause", "orders")  # the scheduler then creates the run of yesterday
    span = ("--from-date", "2026-01-01", "--to-date", "2026-02-18")  # 49 days
    airflow.run("backfill", "create", "--dag-id=orders", *span, f"--max-active-runs={WINDOWS}")
    airflow.start("scheduler")
    airflow.wait(lambda: airflow.states("orders")["deferred"] == WINDOWS)
    assert count(store, "GET", "/v2/jobs") == 0

    airflow.start("triggerer")
    airflow.wait(lambda: airflow.states("orders")["deferred"] <= WINDOWS - 10)
    airflow.kill("triggerer")
    assert airflow.states("orders")["deferred"] >= 20
    airflow.start("triggerer")
    airflow.wait(lambda: not airflow.states("orders").keys() - {"success", "skipped", "failed"})

    assert airflow.states("orders") == {"success": WINDOWS - 1, "skipped": 1}
    assert count(store, "POST", "/v2/jobs") == WINDOWS
    # One for each worker that created a job, each that saved a file, and both triggerers.
    assert count(store, "POST", "/oauth/access_token") == WINDOWS + (WINDOWS - 1) + 2
    files = list(exports.glob("orders-*.csv"))
    assert len({file.read_bytes() for file in files}) == WINDOWS - 1  # each job has its own file
    rendered = airflow.query(
        "SELECT rendered_fields FROM rendered_task_instance_fields WHERE dag_id = 'orders'"
    )
    filters = {json.loads(fields)["filter"] for (fields,) in rendered}
    assert len(filters) == WINDOWS
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(WINDOWS)]
    windows = itertools.pairwise(days)
    assert filters > {f"ge(created_at,{start}):lt(created_at,{end})" for start, end in windows}


def test_retries_wait_for_the_job_of_a_killed_worker_until_it_has_failed(
    airflow: Airflow, second_store: Simulator, exports: Path
) -> None:
    second_store.script_next_job(["pending", "failed"], error="No disk")
    second_store.script_next_job(["pending", "success"])
    airflow.run("dags", "unpause", "lost")
    airflow.run("dags", "trigger", "lost")
    airflow.start("scheduler")
    airflow.start("triggerer")
    airflow.wait(lambda: airflow.states("lost")["success"] == 1)
    assert (exports / "lost.lost").exists()
    assert (exports / "lost.csv").exists()
    assert count(second_store, "POST", "/v2/jobs") == 2  # one for the first two tries
    assert airflow.query("SELECT try_number FROM task_instance WHERE dag_id = 'lost'") == [(3,)]


def count(store: Simulator, method: str, path: str) -> int:
    requests = collections.Counter((request.method, request.path) for request in store.requests)
    return requests[method, path]
