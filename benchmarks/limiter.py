"""The rate limit of one process: the cost of a slot for queues of several lengths, and accuracy."""

import asyncio
import time

from benchmarks.measure import measure_interleaved, print_ratios
from benchmarks.table import print_table
from moltin_jobs._http.rate_limit import Throttle

SLOTS = 20_000
QUEUE_LENGTHS = (1, 100, 10_000)
RATES = (20, 100, 1000)
SECONDS = 5.0


async def use_slot(throttle: Throttle) -> None:
    """Queue for a slot, acquire it and release it, as an attempt that gets its response at once."""
    async with throttle.head_of_queue:
        await throttle.acquire()
        await asyncio.sleep(0)  # lets other callers join the queue, as a token request does
    throttle.release(asyncio.get_running_loop().time())


async def use_slots(queue_length: int) -> None:
    """Use all slots of a second, with the queue at the same length until the slots run out."""
    throttle = Throttle(SLOTS)
    remaining = iter(range(SLOTS - queue_length - 1))

    async def work() -> None:
        await use_slot(throttle)
        for _ in remaining:
            await use_slot(throttle)

    async with throttle.head_of_queue:  # all join the queue before the first slot is acquired
        tasks = [asyncio.create_task(work()) for _ in range(queue_length + 1)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)


async def measure_rate(rate_limit: int) -> tuple[float, int]:
    """Return the mean slots in a second, and the most slots in any one second."""
    throttle, acquired_at = Throttle(rate_limit), []
    end = time.monotonic() + SECONDS

    async def work() -> None:
        while time.monotonic() < end:
            await use_slot(throttle)
            acquired_at.append(time.monotonic())

    await asyncio.gather(*(work() for _ in range(2 * rate_limit)))
    first, most = 0, 0
    for last, moment in enumerate(acquired_at):
        while acquired_at[first] <= moment - 1:
            first += 1
        most = max(most, last - first + 1)
    in_time = [moment for moment in acquired_at if moment <= end]
    return len(in_time) / SECONDS, most


def run(*, full: bool) -> None:
    names = {length: f"{length:,}" for length in QUEUE_LENGTHS}
    batches = {names[length]: lambda length=length: use_slots(length) for length in QUEUE_LENGTHS}
    seconds = asyncio.run(measure_interleaved(batches, 50 if full else 10))
    title = f"Queueing for, acquiring and releasing {SLOTS:,} slots:"
    print_ratios(title, "queue length", seconds, names[1], SLOTS)

    rows = []
    for rate_limit in RATES:
        mean, most = asyncio.run(measure_rate(rate_limit))
        rows.append((f"{rate_limit:,} a second", f"{mean:,.1f}", f"{most:,}"))
    title = f"Slots acquired in {SECONDS:g} s by twice as many tasks as the rate limit:"
    print_table(title, ("rate limit", "mean per second", "most in any one second"), rows)
