"""Commands that need no account: a simulated service, and a dozen waits to watch."""

import asyncio
from typing import Any

from ..kinds import parse
from ..session import JobsSession
from ..settings import Polling
from ..testing.simulator import Simulator
from .output import Output, reason_of, write_line
from .progress import wait_for_outcomes
from .table import Wait
from .times import format_duration

JOB_SECONDS = 1.2
"""Time that each order job of the demo runs. Those of one kind run one after another."""
POLLING = Polling(initial_interval=0.4, multiplier=1.1, max_interval=0.7)
NO_RESULTS = "No results matched the supplied filter"
_MAX_PRINTED_IDS = 12
_FIRST_FAILURE = 5
"""Number of the first order job that fails."""
_BAD_ROWS = ["line 3: the sku is missing", "line 7: the price is not a number"]
JOBS_OF_OTHER_KINDS: tuple[dict[str, Any], ...] = (
    {"job_id": "import-01", "statuses": ["pending", "started", "success"], "kind": "pxm"},
    {
        "job_id": "import-02",
        "statuses": ["started", "failed"],
        "kind": "pxm",
        "problems": _BAD_ROWS,
    },
    {"job_id": "import-03", "statuses": ["success"], "kind": "pxm", "problems": _BAD_ROWS[:1]},
    {
        "job_id": "export-01",
        "statuses": ["success"],
        "kind": "pxm",
        "job_type": "product-export",
        "file": [b"sku\nshirt\n", b"sku\nshoes\n"],
    },
    {
        "job_id": "release-01",
        "statuses": ["IN_PROGRESS", "PUBLISHED"],
        "kind": "release:summer",
    },
    {"job_id": "release-02", "statuses": ["IN_PROGRESS", "FAILED"], "kind": "release:summer"},
    {
        "job_id": "billing-01",
        "statuses": ["started", "success"],
        "kind": "subscription",
        "details": {"report": {"invoices_ready_for_payment": 98, "invoice_failures": 2}},
    },
    {
        "job_id": "subscribers-01",
        "statuses": ["failed"],
        "kind": "subscription-import",
        "problems": [("is not an email address", "email", 12), ("is missing", "name", 30)],
    },
    {
        "job_id": "stock-01",
        "statuses": ["started", "success"],
        "kind": "inventory-import",
        "details": {"records": {"uploaded": {"stock": 500}, "imported": {"stock": 497}}},
    },
)
"""Arguments of `Simulator.add_job` for the jobs of ``serve`` that are no exports of orders."""


async def serve(output: Output, *, port: int, jobs: int, fail: int, faults: float) -> int:
    """Serve jobs of all kinds, and those that are created, until the task is cancelled."""
    async with Simulator(port=port, creation_seconds=3.0, chaos=faults) as simulator:
        job_ids: dict[str, list[str]] = {}  # by kind
        for job in (*_order_jobs(jobs, fail), *JOBS_OF_OTHER_KINDS):
            kind = job.get("kind", "order")
            job_ids.setdefault(kind, []).append(simulator.add_job(**job))
        for name, value in simulator.environment.items():
            write_line(f"export {name}={value}")
        for kind, ids in job_ids.items():
            printed = ids if len(ids) <= _MAX_PRINTED_IDS else [ids[0], "...", ids[-1]]
            output.print_note(f"serving {kind} jobs: {' '.join(printed)}")
        output.print_note("Press Ctrl-C to stop.")
        return int(await asyncio.Event().wait())  # until it is cancelled


def _order_jobs(number: int, failures: int) -> list[dict[str, Any]]:
    first = min(_FIRST_FAILURE, number) - 1
    failing = {(first + index) % number for index in range(failures)}
    return [
        {
            "job_id": f"order-export-{index + 1:02}",
            "duration": 3.0,
            "error": NO_RESULTS if index in failing else None,
        }
        for index in range(number)
    ]


async def demo(output: Output) -> int:
    """Wait for a dozen jobs at the same time, and print how they ended."""
    async with (
        Simulator() as simulator,
        JobsSession(simulator.token, base_url=simulator.url, polling=POLLING) as session,
    ):
        started_at = asyncio.get_running_loop().time()
        waits = _add_waits(simulator)
        await wait_for_outcomes(session, waits, output)
    write_line(f"\n{len(waits)} waits at the same time, {len(simulator.requests)} requests:\n")
    write_line("job         kind     ended as   after   error")
    for wait in waits:
        kind = wait.kind.name.partition(":")[0]
        after = format_duration(wait.changed_at - started_at)
        columns = f"{wait.job_id:10}  {kind:7}  {wait.status[0]:9}  {after:6}"
        write_line(f"{columns}  {reason_of(wait.outcome)}".rstrip())
    return 0


def _add_waits(simulator: Simulator) -> list[Wait]:
    """Add eight exports, two imports and two releases. Their queues end at about the same time."""
    waits = []

    def add(job_id: str, kind: str, seconds: float, **failure: Any) -> None:
        simulator.add_job(job_id, kind=kind, duration=seconds * JOB_SECONDS, **failure)
        waits.append(Wait(job_id, kind=parse(kind)))

    for number in range(1, 9):
        add(f"export-{number:02}", "order", 1.0, error=NO_RESULTS if number == 5 else None)
    add("import-01", "pxm", 3.5, problems=["row 3: the sku is missing"])
    add("import-02", "pxm", 3.5)
    add("release-01", "release:summer", 2.5)
    add("release-02", "release:summer", 2.5)
    return waits
