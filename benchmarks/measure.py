"""Processor time of contenders that take turns, so that whatever disturbs one disturbs all."""

import contextlib
import gc
import random
import resource
import statistics
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path

from benchmarks.table import show

OURS = "this client"

Batch = Callable[[], Awaitable[object]]


def processor() -> float:
    """Seconds of processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@contextlib.contextmanager
def if_installed(name: str) -> Iterator[None]:
    """Leave a contender out, and say so, if its package is not there."""
    try:
        yield
    except ModuleNotFoundError as missing:
        print(f"skipped {name}: {missing}; see the extra `bench`\n")


async def interleaved(batches: Mapping[str, Batch], rounds: int) -> dict[str, list[float]]:
    """Seconds of processor time of each contender's batch, in each of the rounds."""
    spent: dict[str, list[float]] = {name: [] for name in batches}
    turns = list(batches.items())
    for _, batch in turns:  # for what is done once: connections, caches
        await batch()
    for _ in range(rounds):
        random.shuffle(turns)
        for name, batch in turns:
            gc.collect()
            start = processor()
            await batch()
            spent[name].append(processor() - start)
    return spent


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def show_ratios(
    title: str, what: str, spent: Mapping[str, list[float]], base: str, of: int
) -> None:
    """A table of what each costs for one of the ``of`` in a batch, and against ``base``."""
    rows = []
    for name, values in spent.items():
        ratios = [mine / theirs for mine, theirs in zip(values, spent[base], strict=True)]
        low, middle, high = quartiles(ratios)
        each = statistics.median(values) / of * 1e6
        rows.append((name, f"{each:.1f} µs", f"{middle:.2f}", f"{low:.2f} to {high:.2f}"))
    show(title, (what, "processor time", f"against {base}", "quartiles"), rows)
