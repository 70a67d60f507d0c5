"""Tables of what contenders cost the processor while they do the same work.

Where valgrind is installed, a table counts the instructions of each contender, and compares them
with goals. The counts hardly depend on the machine or its load, so a goal is met or it is not.
Elsewhere, a table shows processor time. It varies with the load, so there are no goals.
"""

import asyncio
import contextlib
import functools
import importlib.metadata
from collections.abc import Collection, Mapping

import attrs

from benchmarks.instructions import (
    FEW,
    MANY,
    Contender,
    find_contenders,
    instructions_per_operation,
    is_available,
)
from benchmarks.measure import measure_interleaved, print_ratios, skip_if_missing
from benchmarks.table import print_table, verdict

BATCH = 500
"""Operations of a contender in a round; a multiple of the polls of a wait."""
ROUNDS, FULL_ROUNDS = 20, 100


@attrs.frozen
class Comparison:
    """Contenders that do the same work."""

    title: str
    """What is compared, and under which circumstances."""
    operation: str
    """The work that is counted, for example ``poll``."""
    target: str
    """``module:name`` of a mapping of names to contenders."""
    baseline: str
    """Name of the contender whose ratio is 1."""
    goals: Mapping[str, float]
    """The largest ratio of instructions that some contenders may have."""
    packages: Collection[str]
    """The packages whose versions are printed."""
    slow: Collection[str] = ()
    """Contenders for which callgrind takes minutes. They are counted with ``--full`` only."""

    def print_costs(self, url: str, *, full: bool) -> None:
        """Measure all contenders, and print the table."""
        print(f"## {self.title}\n\n{versions(self.packages)}\n")
        contenders = asyncio.run(installed(find_contenders(self.target), url))
        if self.baseline not in contenders:
            print(f"skipped this table: nothing to compare with but {self.baseline}\n")
        elif is_available():
            self._print_instructions(contenders, url, full=full)
        else:
            self._print_processor_time(contenders, url, FULL_ROUNDS if full else ROUNDS)

    def _print_instructions(self, names: Collection[str], url: str, *, full: bool) -> None:
        skipped = [name for name in names if name in self.slow and not full]
        if skipped:
            print(f"counted with `--full` only, since it takes minutes: {', '.join(skipped)}\n")
        counts = {
            name: instructions_per_operation(self.target, name, url)
            for name in names
            if name not in skipped
        }
        rows = []
        for name, count in counts.items():
            ratio = round(count / counts[self.baseline], 2)  # counts repeat within about 0.5 %
            goal = verdict(ratio, self.goals.get(name))
            rows.append((name, f"{count / 1000:,.1f} thousand", f"{ratio:.2f}", *goal))
        print_table(
            f"Instructions of a {self.operation}, counted by callgrind: those of a process for "
            f"{MANY} without those of one for {FEW}, divided by {MANY - FEW}.",
            (self.operation, "instructions", f"against {self.baseline}", "goal: at most", "met"),
            rows,
        )

    def _print_processor_time(
        self, contenders: Mapping[str, Contender], url: str, rounds: int
    ) -> None:
        seconds = asyncio.run(measure_processor_time(contenders, url, rounds))
        title = (
            f"Processor time of a {self.operation}: the median of {rounds} rounds of {BATCH} for "
            "each. Without valgrind, instructions are not counted, so there are no goals."
        )
        print_ratios(title, self.operation, seconds, self.baseline, BATCH)


def versions(packages: Collection[str]) -> str:
    """Return the versions of packages, as a sentence."""
    texts = []
    for name in packages:
        try:
            texts.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            texts.append(f"{name} (not installed)")
    return f"Versions: {', '.join(texts)}."


async def installed(contenders: Mapping[str, Contender], url: str) -> dict[str, Contender]:
    """Return the contenders whose packages are installed, and print which are not."""
    found = {}
    for name, contender in contenders.items():
        with skip_if_missing(name):
            async with contender(url):
                found[name] = contender
    return found


async def measure_processor_time(
    contenders: Mapping[str, Contender], url: str, rounds: int
) -> dict[str, list[float]]:
    async with contextlib.AsyncExitStack() as stack:
        batches = {}
        for name, contender in contenders.items():
            operate = await stack.enter_async_context(contender(url))
            batches[name] = functools.partial(operate, BATCH)
        return await measure_interleaved(batches, rounds)
