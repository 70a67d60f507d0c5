"""Processor time and memory of contenders.

The batches of the contenders are interleaved, so that a disturbance affects all of them.
"""

import asyncio
import contextlib
import gc
import random
import resource
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from benchmarks.table import print_table

OURS = "this client"

T = TypeVar("T")

Batch = Callable[[], Awaitable[object]]


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@contextlib.contextmanager
def skip_if_missing(name: str) -> Iterator[None]:
    """Skip a contender, and print the reason, if its package is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        print(f"skipped {name}: {error}; install the extra `bench`\n")


async def run_concurrently(
    operation: Callable[[T], Awaitable[object]], arguments: Iterable[T], concurrency: int
) -> None:
    """Run an operation with each of the arguments, at most ``concurrency`` at a time."""
    remaining = iter(arguments)

    async def work() -> None:
        for argument in remaining:
            await operation(argument)

    await asyncio.gather(*(work() for _ in range(concurrency)))


async def measure_interleaved(batches: Mapping[str, Batch], rounds: int) -> dict[str, list[float]]:
    """Return the processor time in seconds of each contender's batch in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in batches}
    contenders = list(batches.items())
    for _, batch in contenders:  # opens connections and fills caches
        await batch()
    for _ in range(rounds):
        random.shuffle(contenders)
        for name, batch in contenders:
            gc.collect()
            start = time.process_time()
            await batch()
            seconds[name].append(time.process_time() - start)
    return seconds


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def print_ratios(
    title: str,
    contenders: str,
    seconds: Mapping[str, list[float]],
    baseline: str,
    operations: int,
) -> None:
    """Print the processor time of one operation, and its ratio to that of the baseline.

    Args:
        title: title of the table.
        contenders: heading of the first column.
        seconds: processor time of each contender's batches.
        baseline: name of the contender whose ratio is 1.
        operations: operations in a batch.
    """
    rows = []
    for name, values in seconds.items():
        ratios = [value / base for value, base in zip(values, seconds[baseline], strict=True)]
        low, middle, high = quartiles(ratios)
        microseconds = statistics.median(values) / operations * 1e6
        rows.append((name, f"{microseconds:.1f} µs", f"{middle:.2f}", f"{low:.2f} to {high:.2f}"))
    print_table(title, (contenders, "processor time", f"against {baseline}", "quartiles"), rows)
