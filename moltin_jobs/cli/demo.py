"""Commands that need no account: a simulated service, and a dozen waits to watch."""

import asyncio

from ..auth import ClientCredentials
from ..session import JobsSession
from ..settings import Polling
from ..testing.simulator import Simulator
from .output import Output, write_line
from .progress import Wait, format_duration, wait_for_outcomes

DURATIONS = (0.7, 1.2, 0.9, 0.8, 1.3, 1.0, 0.9, 0.8, 1.1, 0.9, 1.0, 0.8)
"""Seconds that the jobs run, one after another."""
POLLING = Polling(initial_interval=0.4, multiplier=1.1, max_interval=0.7)
_FAILED_NUMBER = 5
_FAILURE = "No results matched the supplied filter"
_SERVE_SLOWDOWN = 3.0
_CREATION_SECONDS = 3.0


async def serve(output: Output, port: int) -> int:
    """Serve a dozen jobs, and those that are created, until the task is cancelled."""
    async with Simulator(port=port, creation_seconds=_CREATION_SECONDS) as simulator:
        job_ids = _add_jobs(simulator, slowdown=_SERVE_SLOWDOWN)
        for name, value in simulator.environment.items():
            write_line(f"export {name}={value}")
        output.print_note(f"serving the jobs {' '.join(job_ids)}. Press Ctrl-C to stop.")
        return await asyncio.Event().wait()


async def demo(output: Output) -> int:
    """Wait for a dozen jobs at the same time, and print how they ended."""
    async with Simulator() as simulator:
        auth = ClientCredentials(simulator.client_id, simulator.client_secret)
        async with JobsSession(auth, base_url=simulator.url, polling=POLLING) as session:
            started_at = asyncio.get_running_loop().time()
            waits = [Wait(job_id) for job_id in _add_jobs(simulator)]
            await wait_for_outcomes(session, waits, output)
    write_line(f"\n{len(waits)} waits at the same time, {len(simulator.requests)} requests:\n")
    write_line("job              ended as  after   error")
    for wait in waits:
        after = format_duration(wait.changed_at - started_at)
        error = getattr(wait.outcome, "error", None) or ""
        write_line(f"{wait.job_id}  {wait.status.plain:8}  {after:6}  {error}".rstrip())
    return 0


def _add_jobs(simulator: Simulator, *, slowdown: float = 1.0) -> list[str]:
    """Add a dozen jobs, one of which will fail."""
    return [
        simulator.add_job(
            f"order-export-{number:02}",
            duration=seconds * slowdown,
            error=_FAILURE if number == _FAILED_NUMBER else None,
        )
        for number, seconds in enumerate(DURATIONS, start=1)
    ]
