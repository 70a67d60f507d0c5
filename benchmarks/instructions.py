"""Instructions that a contender executes for one operation, counted by callgrind.

Unlike processor time, the count hardly depends on the machine or its load. A child process runs
the contender twice, for few operations and for many, so that the difference excludes the start.
"""

import asyncio
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

from benchmarks.table import print_table

FEW, MANY = 100, 600
"""Operations of the two runs; multiples of the polls of a wait."""

Execute = Callable[[str, str, int], Coroutine[object, object, None]]
"""Takes the name of a contender, the URL of the server and the number of operations."""


def is_available() -> bool:
    """Return whether callgrind is installed."""
    return shutil.which("valgrind") is not None


def instructions_per_operation(target: str, contender: str, url: str) -> float:
    """Return the instructions of one operation. ``target`` is ``module:function``, an `Execute`."""
    few, many = (count_instructions(target, contender, url, number) for number in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def count_instructions(target: str, contender: str, url: str, number: int) -> int:
    """Return the instructions of a whole child process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        subprocess.run(  # noqa: S603 (our own module)
            [
                shutil.which("valgrind") or "valgrind",
                "--tool=callgrind",
                f"--callgrind-out-file={out}",
                sys.executable,
                "-m",
                "benchmarks.instructions",
                target,
                contender,
                url,
                str(number),
            ],
            check=True,
            capture_output=True,
            env=os.environ | {"PYTHONHASHSEED": "0"},
        )
        summary = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
        assert summary is not None, "callgrind writes a summary"
        return int(summary[1])


def print_instructions(
    title: str,
    contenders: str,
    counts: Mapping[str, float],
    baseline: str,
    goals: Mapping[str, float],
) -> None:
    """Print the instructions of one operation, their ratio to the baseline, and the goals.

    Args:
        title: title of the table.
        contenders: heading of the first column.
        counts: instructions of one operation of each contender.
        baseline: name of the contender whose ratio is 1.
        goals: the largest ratio that some contenders may have.
    """
    rows = []
    for name, count in counts.items():
        ratio = round(count / counts[baseline], 2)
        goal = goals.get(name)
        verdict = "" if goal is None else f"{goal:.2f}: {'yes' if ratio <= goal else 'no'}"
        rows.append((name, f"{count / 1000:.1f} kI", f"{ratio:.2f}", verdict))
    columns = (contenders, "instructions", f"against {baseline}", "goal: at most")
    print_table(title, columns, rows)


def print_unavailable(title: str) -> None:
    """Print that there are no counts."""
    print(f"{title}\n\nskipped: valgrind is not installed\n")


def main() -> None:
    target, contender, url, number = sys.argv[1:]
    module, _, function = target.partition(":")
    execute: Execute = getattr(importlib.import_module(module), function)
    asyncio.run(execute(contender, url, int(number)))


if __name__ == "__main__":
    main()
