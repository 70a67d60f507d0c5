"""The vendor's own JavaScript SDK as a client of the simulator.

The test needs node and the SDK. Install the SDK by ``npm install --no-save @moltin/sdk`` at the top
of the repository.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from moltin_jobs.testing import Simulator

ROOT = Path(__file__).parent.parent.parent
SCRIPT = Path(__file__).parent / "sdk" / "jobs.mjs"
NODE = shutil.which("node")


def find_missing() -> str:
    """Return what the test lacks on this machine, or an empty string."""
    if NODE is None:
        return "node is not installed"
    run = subprocess.run(  # noqa: S603 (the path is from which())
        [NODE, "-e", "require.resolve('@moltin/sdk')"], cwd=ROOT, capture_output=True, check=False
    )
    return "@moltin/sdk is not installed" if run.returncode else ""


MISSING = find_missing()


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_sdk_creates_lists_polls_and_downloads_a_job() -> None:
    assert NODE is not None
    with Simulator.in_thread(creation_seconds=2) as simulator:
        earlier = simulator.add_job(duration=0)
        run = subprocess.run(  # noqa: S603 (a script of ours)
            [NODE, SCRIPT],
            cwd=ROOT,
            env=os.environ | simulator.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])  # the SDK prints lines of its own before
    assert report["listed"] == [earlier, report["id"]]
    assert report["statuses"][-1] == "success"
    assert set(report["statuses"]) <= {"pending", "started", "success"}
    assert report["href"] == f"{simulator.files_url}/{report['id']}.csv"
    assert report["csv"].startswith("order_id,currency,amount\r\n")
    assert report["missing"] == {
        "title": "Resource Not Found",
        "status": 404,
        "detail": "The resource you are requesting does not exist",
    }
