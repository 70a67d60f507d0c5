"""The example for Prefect, run with Prefect's own temporary server."""

import asyncio
import collections
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moltin_jobs import JobsSession
from moltin_jobs.testing import Simulator

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
DAYS = 50
EMPTY_DAY = 7
PROGRAM = f"""
import asyncio
from datetime import date
from pathlib import Path

from prefect_exports import export_days

asyncio.run(export_days.with_options(retry_delay_seconds=0)(date(2026, 1, 1), {DAYS}, Path("out")))
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("prefect") is None,
    reason="Prefect is not installed: run nox -f .ci/noxfile.py -s prefect",
)


def test_days_are_exported_once_when_the_flow_is_retried(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with Simulator.in_thread(rate_limit=None) as store:
        for number in range(DAYS):
            if number == EMPTY_DAY:
                error = "No results matched the supplied filter"
                store.script_next_job(["pending"] * 10 + ["failed"], error=error)
            else:
                store.script_next_job(["pending"] * 10 + ["success"])
        settings = {
            "PREFECT_HOME": str(tmp_path),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
            "PYTHONPATH": str(EXAMPLES),
        }
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", PROGRAM],
                cwd=tmp_path,
                env=os.environ | store.environment | settings,
                stdout=log,
                stderr=log,
            )
            while count(store)["POST", "/v2/jobs"] < DAYS:
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
            job_id = asyncio.run(first_job(store))
            store.add_faults(403, path=f"/v2/jobs/{job_id}/file")
            assert process.wait() == 0, (tmp_path / "log").read_text()

    assert count(store)["POST", "/v2/jobs"] == DAYS
    # One for each run of the flow, and one for `first_job`.
    assert count(store)["POST", "/oauth/access_token"] == 2  # one session for each run of the flow
    files = list((tmp_path / "out").iterdir())
    assert len({file.read_bytes() for file in files}) == DAYS - 1
    assert (tmp_path / "log").read_text().count("Finished in state Skipped") >= 1


async def first_job(store: Simulator) -> str:
    async with JobsSession(store.token, base_url=store.url) as session:
        return (await session.list_jobs())[0].id


def count(store: Simulator) -> collections.Counter[tuple[str, str]]:
    return collections.Counter((request.method, request.path) for request in store.requests)
