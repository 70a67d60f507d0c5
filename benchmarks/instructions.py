"""Instructions that a contender executes for one operation, counted by callgrind.

A child process runs the contender twice, for few operations and for many, so that the difference
excludes the start. The kernel's instructions do not count.
"""

import asyncio
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

FEW, MANY = 100, 600
"""Operations of the two runs; multiples of the polls of a wait."""

Operate = Callable[[int], Awaitable[object]]
"""Does a number of operations."""
Contender = Callable[[str], AbstractAsyncContextManager[Operate]]
"""Takes the URL of the server."""


def is_available() -> bool:
    """Return whether callgrind is installed."""
    return shutil.which("valgrind") is not None


def find_contenders(target: str) -> Mapping[str, Contender]:
    """Return the contenders by their names. ``target`` is ``module:name``."""
    module, _, name = target.partition(":")
    contenders: Mapping[str, Contender] = getattr(importlib.import_module(module), name)
    return contenders


def instructions_per_operation(target: str, contender: str, url: str) -> float:
    """Return the instructions of one operation."""
    few, many = (count_instructions(target, contender, url, number) for number in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def count_instructions(target: str, contender: str, url: str, number: int) -> int:
    """Return the instructions of a whole child process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        child = [sys.executable, "-m", "benchmarks.instructions"]
        subprocess.run(  # noqa: S603 (our own module)
            [*tool, *child, target, contender, url, str(number)],
            check=True,
            capture_output=True,
            env=os.environ | {"PYTHONHASHSEED": "0"},
        )
        summary = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
        assert summary is not None, "callgrind writes a summary"
        return int(summary[1])


async def execute(target: str, contender: str, url: str, number: int) -> None:
    """Do a number of operations."""
    async with find_contenders(target)[contender](url) as operate:
        await operate(number)


if __name__ == "__main__":
    target, contender, url, number = sys.argv[1:]
    asyncio.run(execute(target, contender, url, int(number)))
