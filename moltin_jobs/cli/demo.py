"""What needs no account: a simulated store to try things on, and a dozen waits to watch."""

from __future__ import annotations

import asyncio

import click
from rich.console import Console

from .._polling.intervals import Polling
from ..auth import ClientCredentials
from ..session import JobsSession
from ..testing.simulator import Simulator
from .progress import Board, counted, follow

SECONDS = (0.7, 1.2, 0.9, 0.8, 1.3, 1.0, 0.9, 0.8, 1.1, 0.9, 1.0, 0.8)
POLLING = Polling(initial=0.4, factor=1.1, max_interval=0.7)
_FAILS = 5
_DOCUMENTED_ERROR = "No results matched the supplied filter"
_SERVED_PACE = 3.0
_CREATED_SECONDS = 3.0


def _fill(simulator: Simulator, *, pace: float = 1.0) -> list[str]:
    """A dozen jobs, one of which will fail as the documents show."""
    return [
        simulator.add_job(
            f"order-export-{number:02}",
            duration=seconds * pace,
            error=_DOCUMENTED_ERROR if number == _FAILS else None,
        )
        for number, seconds in enumerate(SECONDS, start=1)
    ]


async def serve(port: int) -> int:
    """Serve a dozen jobs, and those that are created, for ever."""
    async with Simulator(port=port, creation_seconds=_CREATED_SECONDS) as simulator:
        ids = _fill(simulator, pace=_SERVED_PACE)
        click.echo(f"export EPCC_API_BASE_URL={simulator.url}")
        click.echo(f"export EPCC_CLIENT_ID={simulator.client_id}")
        click.echo(f"export EPCC_CLIENT_SECRET={simulator.client_secret}")
        click.echo(f"serving the jobs {' '.join(ids)}; Ctrl-C ends it", err=True)
        return await asyncio.Event().wait()


async def demo(console: Console) -> int:
    """Wait for a dozen jobs at once, and tell how they ended."""
    async with Simulator() as simulator:
        board = Board(console, _fill(simulator))
        credentials = ClientCredentials(simulator.client_id, simulator.client_secret)
        async with (
            counted(board) as http,
            JobsSession(credentials, base_url=simulator.url, polling=POLLING, http=http) as session,
        ):
            await follow(session, board, None, lambda _job_id, _outcome: None)
        requests = len(simulator.requests)
    click.echo(f"\n{len(SECONDS)} jobs waited for at once, in {requests} requests:\n")
    Console().print(board.result())
    return 0
