"""The vendor's own JavaScript SDK against the simulator: is this what a client expects?

It is run where node is and ``npm install --no-save @moltin/sdk`` was done at the top of the tree.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = Path(__file__).parent / "sdk" / "jobs.mjs"
NODE = shutil.which("node")


def _missing() -> str:
    if NODE is None:
        return "there is no node on this machine"
    found = subprocess.run(  # noqa: S603 (the line above)
        [NODE, "-e", "require.resolve('@moltin/sdk')"], cwd=ROOT, capture_output=True, check=False
    )
    return "npm install --no-save @moltin/sdk was not done" if found.returncode else ""


MISSING = _missing()


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_create_list_get_until_done_and_the_file() -> None:
    assert NODE is not None
    serve = [sys.executable, "-m", "moltin_jobs", "serve", "--port", "0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as serving:  # noqa: S603 (our own)
        try:
            assert serving.stdout is not None
            exports = [serving.stdout.readline().removeprefix("export ") for _ in range(3)]
            settings = dict(line.rstrip("\n").split("=", 1) for line in exports)
            run = subprocess.run(  # noqa: S603 (our own)
                [NODE, SCRIPT],
                cwd=ROOT,
                env=os.environ | settings,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        finally:
            serving.terminate()
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])  # it has its own to say before
    assert told["listed"] == [*(f"order-export-{n:02}" for n in range(1, 13)), told["id"]]
    assert told["statuses"][-1] == "success"
    assert set(told["statuses"]) <= {"pending", "started", "success"}
    assert told["href"].endswith(f"/files/{told['id']}.csv")
    assert told["csv"].startswith("order_id,currency,amount\r\n")
    assert told["missing"] == {
        "title": "Resource Not Found",
        "status": 404,
        "detail": "The resource you are requesting does not exist",
    }
