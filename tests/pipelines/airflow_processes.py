"""The processes of a real Airflow, with a database of their own."""

import collections
import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

COMMAND = Path(sys.executable).with_name("airflow")
SECONDS = 300.0


class Airflow:
    """Airflow in a directory. Its processes end with the block ``with Airflow.open(...)``."""

    def __init__(self, home: Path, variables: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = str(free.getsockname()[1])
        options = {
            "API__PORT": self._port,
            "API__WORKERS": "1",
            "API_AUTH__JWT_SECRET": "of these processes only" * 3,
            "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self._port}/execution/",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__MAX_ACTIVE_TASKS_PER_DAG": "50",
            "CORE__NUM_DAG_RUNS_TO_RETAIN_RENDERED_FIELDS": "100",
            "CORE__PARALLELISM": "4",
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
            "SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "100",
            "TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",  # then another one takes over
        }
        settings = {f"AIRFLOW__{name}": value for name, value in options.items()}
        self._environment = os.environ | {"AIRFLOW_HOME": str(home)} | settings | variables
        self._home = home
        self._processes: dict[str, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}

    @classmethod
    @contextlib.contextmanager
    def open(cls, home: Path, variables: dict[str, str], dags: int) -> Iterator["Airflow"]:
        """Create the database, read the DAGs into it, and start the API server."""
        airflow = cls(home, variables)
        airflow.run("db", "migrate")
        with contextlib.closing(sqlite3.connect(home / "airflow.db")) as database:
            database.execute("PRAGMA journal_mode = WAL")  # readers do not block the writer
        try:
            airflow.start("dag-processor")
            airflow.wait(lambda: len(airflow.query("SELECT dag_id FROM serialized_dag")) == dags)
            airflow.kill("dag-processor")  # a second writer would make commands fail
            airflow.start("api-server")
            airflow.wait(airflow._api_responds)
            yield airflow
        finally:
            for name in list(airflow._processes):
                airflow.kill(name)

    def run(self, *arguments: str) -> None:
        """Run a command to its end."""
        subprocess.run(  # noqa: S603
            [COMMAND, *arguments],
            cwd=self._home,
            env=self._environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def start(self, name: str) -> None:
        """Start a process. Its output is appended to a file in the directory."""
        log = (self._home / f"{name}.log").open("ab")
        process = subprocess.Popen(  # noqa: S603
            [COMMAND, name],
            cwd=self._home,
            env=self._environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._processes[name] = process, log

    def kill(self, name: str) -> None:
        """Kill a process and its children, if it was started."""
        if name not in self._processes:
            return
        process, log = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Read from the database."""
        address = f"file:{self._home}/airflow.db?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            return database.execute(statement).fetchall()

    def states(self, dag_id: str) -> collections.Counter[str | None]:
        """Return the number of tasks of a DAG in each state."""
        rows = self.query(f"SELECT state FROM task_instance WHERE dag_id = '{dag_id}'")  # noqa: S608
        return collections.Counter(state for (state,) in rows)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, f"see the logs in {self._home}"
            time.sleep(0.2)

    def _api_responds(self) -> bool:
        address = f"http://127.0.0.1:{self._port}/api/v2/monitor/health"
        with contextlib.suppress(OSError), urlopen(address) as response:
            return bool(response.status == 200)
        return False
