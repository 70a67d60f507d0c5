"""Commands that need no account: a simulated service, and a dozen waits to watch."""

import asyncio

from ..session import JobsSession
from ..settings import Polling
from ..testing.simulator import Simulator
from .output import Output, write_line
from .progress import Wait, format_duration, wait_for_outcomes

JOB_SECONDS = 1.0
"""Time that each job runs, one after another."""
POLLING = Polling(initial_interval=0.4, multiplier=1.1, max_interval=0.7)


async def serve(output: Output, port: int) -> int:
    """Serve a dozen jobs, and those that are created, until the task is cancelled."""
    async with Simulator(port=port, creation_seconds=3.0) as simulator:
        job_ids = _add_jobs(simulator, 3 * JOB_SECONDS)
        for name, value in simulator.environment.items():
            write_line(f"export {name}={value}")
        output.print_note(f"serving the jobs {' '.join(job_ids)}. Press Ctrl-C to stop.")
        return int(await asyncio.Event().wait())  # until it is cancelled


async def demo(output: Output) -> int:
    """Wait for a dozen jobs at the same time, and print how they ended."""
    async with (
        Simulator() as simulator,
        JobsSession(simulator.token, base_url=simulator.url, polling=POLLING) as session,
    ):
        started_at = asyncio.get_running_loop().time()
        waits = [Wait(job_id) for job_id in _add_jobs(simulator, JOB_SECONDS)]
        await wait_for_outcomes(session, waits, output)
    write_line(f"\n{len(waits)} waits at the same time, {len(simulator.requests)} requests:\n")
    write_line("job              ended as  after   error")
    for wait in waits:
        after = format_duration(wait.changed_at - started_at)
        error = getattr(wait.outcome, "error", None) or ""
        write_line(f"{wait.job_id}  {wait.status[0]:8}  {after:6}  {error}".rstrip())
    return 0


def _add_jobs(simulator: Simulator, seconds: float) -> list[str]:
    """Add a dozen jobs, the fifth of which will fail."""
    errors = [None] * 4 + ["No results matched the supplied filter"] + [None] * 7
    return [
        simulator.add_job(f"order-export-{number:02}", duration=seconds, error=error)
        for number, error in enumerate(errors, start=1)
    ]
