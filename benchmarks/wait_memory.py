"""Memory of a wait between its polls.

Each figure comes from a process of its own, since Python does not return all memory that was freed.
All waits poll once, sleep during the measurement, and then poll twice more.
"""

import asyncio
import gc
import multiprocessing
import statistics
import time
import tracemalloc
from multiprocessing.connection import Connection
from typing import NamedTuple

from benchmarks.measure import OURS, resident_bytes, skip_if_missing
from benchmarks.table import print_table, verdict
from benchmarks.wait_contenders import CONTENDERS, HAND_WRITTEN, Body, Wait, make_body

POLLS = 3
WAITS = 10_000
GOAL = 1.0
"""The largest ratio of this client's heap to that of the hand-written loop."""


class Figures(NamedTuple):
    """Figures of one wait."""

    resident: float
    """In bytes."""
    heap: float
    """In bytes; 0 if it was not traced."""
    poll: float
    """Processor time of a poll in seconds."""


async def measure_waits(name: str, count: int, *, traced: bool) -> Figures:
    interval = max(1.0, count * 1.5e-4)  # longer than the polls of all waits take
    wait = CONTENDERS[name](interval)
    warm_up = [f"warm-up-{number}" for number in range(10)]
    await asyncio.gather(*(wait(job_id, make_body(job_id, POLLS)) for job_id in warm_up))
    ids = [f"job-{number}" for number in range(count)]
    bodies = [make_body(job_id, POLLS) for job_id in ids]
    gc.collect()
    if traced:
        tracemalloc.start()
    memory, start = resident_bytes(), time.process_time()
    waits = [asyncio.create_task(_run(wait, *job)) for job in zip(ids, bodies, strict=True)]
    await asyncio.sleep(interval * 0.7)
    resident = (resident_bytes() - memory) / count
    heap = tracemalloc.get_traced_memory()[0] / count if traced else 0.0
    await asyncio.gather(*waits)
    return Figures(resident, heap, (time.process_time() - start) / count / POLLS)


async def _run(wait: Wait, job_id: str, body: Body) -> None:
    await wait(job_id, body)


def measure_in_process(name: str, count: int, *, traced: bool = False) -> Figures:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_child, args=(name, count, traced, sender))
    process.start()
    sender.close()
    figures: Figures = receiver.recv()
    process.join()
    return figures


def _run_child(name: str, count: int, traced: bool, connection: Connection) -> None:
    connection.send(asyncio.run(measure_waits(name, count, traced=traced)))


def print_memory() -> None:
    """Print the memory of a wait of each contender, and the goal of this client."""
    names = []
    for name, make_wait in CONTENDERS.items():
        with skip_if_missing(name):
            make_wait(1.0)
            names.append(name)
    resident = {name: measure_in_process(name, WAITS).resident for name in names}
    heap = {name: measure_in_process(name, WAITS, traced=True).heap for name in names}
    rows = []
    for name in names:
        ratio = round(heap[name] / heap[HAND_WRITTEN], 2)
        goal = verdict(ratio, GOAL if name == OURS else None)
        kib = (f"{size / 1024:.1f} KiB" for size in (resident[name], heap[name]))
        rows.append((name, *kib, f"{ratio:.2f}", *goal))
    print_table(
        f"Memory of a wait between its polls: the mean of {WAITS:,} waits in a process of their "
        "own, without network. The heap is that of tracemalloc.",
        ("wait", "resident", "heap", f"heap against {HAND_WRITTEN}", "goal: at most", "met"),
        rows,
    )


def print_growth() -> None:
    """Print the cost of a wait of this client, for small and large numbers of waits."""
    rows = []
    for count, runs in ((1000, 5), (10_000, 5), (100_000, 1)):
        figures = [measure_in_process(OURS, count) for _ in range(runs)]
        resident = statistics.median(figure.resident for figure in figures)
        poll = statistics.median(figure.poll for figure in figures)
        rows.append((f"{count:,}", runs, f"{resident / 1024:.2f} KiB", f"{poll * 1e6:.0f} µs"))
    print_table(
        f"Cost of a wait of {OURS}, without network, by the number of waits: medians of the runs.",
        ("waits", "runs", "resident memory of a wait", "processor time of a poll"),
        rows,
    )
