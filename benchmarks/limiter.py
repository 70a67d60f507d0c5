"""The rate limit: what a turn costs however long the queue, and how exactly the rate is kept."""

import asyncio
import time

from benchmarks.measure import interleaved, show_ratios
from benchmarks.table import show
from moltin_jobs._http.rate_limit import Pacer

TURNS = 20_000
QUEUES = (1, 100, 10_000)
RATES = (20, 100, 1000)
SECONDS = 5.0


async def turn(pacer: Pacer) -> None:
    async with pacer.turn():
        await pacer.grant()
        await asyncio.sleep(0)  # as for a token: the others stand in line meanwhile
    pacer.settle()


async def queued(length: int) -> None:
    """While one has its turn, so many others stand in line, again and again."""
    pacer = Pacer(TURNS)
    left = iter(range(TURNS - length - 1))

    async def stand() -> None:
        await turn(pacer)
        for _ in left:
            await turn(pacer)

    async with pacer.turn():  # so that all stand there before the first is granted
        tasks = [asyncio.create_task(stand()) for _ in range(length + 1)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)


async def kept(rate: int) -> tuple[float, int]:
    """Grants a second over some seconds, and the most in any one second."""
    pacer, granted = Pacer(rate), []
    end = time.monotonic() + SECONDS

    async def send() -> None:
        while time.monotonic() < end:
            await turn(pacer)
            granted.append(time.monotonic())

    await asyncio.gather(*(send() for _ in range(2 * rate)))
    first, worst = 0, 0
    for last, moment in enumerate(granted):
        while granted[first] <= moment - 1:
            first += 1
        worst = max(worst, last - first + 1)
    inside = [moment for moment in granted if moment <= end]
    return len(inside) / SECONDS, worst


def run(*, full: bool) -> None:
    names = {length: f"{length:,} in the queue" for length in QUEUES}
    batches = {names[length]: lambda length=length: queued(length) for length in QUEUES}
    spent = asyncio.run(interleaved(batches, 50 if full else 10))
    show_ratios(f"{TURNS:,} turns, waking and all:", "a turn with", spent, names[1], TURNS)

    rows = []
    for rate in RATES:
        mean, worst = asyncio.run(kept(rate))
        rows.append((f"{rate:,} a second", f"{mean:,.1f} a second", f"{worst:,}"))
    title = f"Kept over {SECONDS:g} s, by twice as many tasks as the rate, answered at once:"
    show(title, ("limit", "granted", "most in any one second"), rows)
