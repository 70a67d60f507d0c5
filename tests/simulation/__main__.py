"""Run worlds, and look for violations of the invariants.

::

    python -m tests.simulation 7                   # one world, with its trace
    python -m tests.simulation 0-20000             # worlds 0 to 19,999, on all processors
    python -m tests.simulation 0-200 --on sockets  # over sockets of loopback
    python -m tests.simulation 0-2000 --fault slot-reused-too-early
    python -m tests.simulation 7 --without latency,clock --actors 3,8 --seconds 12.5
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import functools
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .faults import FAULTS, DeliberateFault, changed_copy
from .loop import LOOPS
from .run import Report, run_world
from .shrink import shrink
from .worlds import draw_world

ROOT = Path(__file__).parent.parent.parent
REAL_SECONDS = 3.0
"""Length of a world on a real clock."""
CHUNK = 4
"""Seeds that a process takes at a time."""


def main() -> int:
    """Run the worlds that the arguments name, and return the exit code."""
    arguments = parse_arguments()
    first, _, last = arguments.seeds.partition("-")
    if arguments.fault:
        return find_faults(arguments.fault, arguments.seeds)
    if not last:
        return run_one(int(first), arguments)
    if arguments.without or arguments.actors or arguments.seconds:
        sys.exit("--without, --actors and --seconds are for a single seed")
    seeds = range(int(first), int(last))
    return run_many(seeds, arguments)


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("seeds", help="a seed, or a range such as 0-20000")
    parser.add_argument("--on", choices=LOOPS, default="memory", help="event loop and network")
    parser.add_argument("--hours", type=float, help="run further seeds for this long")
    parser.add_argument("--without", default="", help="features to leave out, with commas")
    parser.add_argument("--actors", default="", help="numbers of the only actors, with commas")
    parser.add_argument("--seconds", type=float, help="moment at which all sessions are closed")
    parser.add_argument("--stop", action="store_true", help="stop at the first violation")
    parser.add_argument("--no-shrink", action="store_true", help="do not look for a smaller world")
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--fault", choices=["all", *names], help="deliberate fault to find")
    return parser.parse_args()


def run_one(seed: int, arguments: argparse.Namespace) -> int:
    """Run one world, and print its trace."""
    world = draw_world(
        seed,
        without=arguments.without.split(","),
        actors=[int(number) for number in arguments.actors.split(",") if number] or None,
        horizon=arguments.seconds,
    )
    report = run_world(world, arguments.on)
    print("\n".join(report.trace))
    print(f"features: {', '.join(sorted(world.features)) or 'none'}; trace {report.digest}")
    print("\n".join(f"VIOLATION {text}" for text in report.violations))
    return bool(report.violations)


def run_many(seeds: range, arguments: argparse.Namespace) -> int:
    """Run worlds on all processors, and print what was counted."""
    started_at = time.monotonic()
    total = collections.Counter[str]()
    bad: list[int] = []
    seconds = 0.0
    # On a real clock, a world waits most of the time.
    count = 10 if arguments.on == "uvloop" else os.cpu_count()
    deadline = started_at + (arguments.hours or 0) * 3600
    with concurrent.futures.ProcessPoolExecutor(count, initializer=gc.freeze) as pool:
        for chunk in chunks(seeds, deadline if arguments.hours else None):
            run = functools.partial(run_seed, on=arguments.on)
            for seed, report in pool.map(run, chunk, chunksize=CHUNK):
                total.update(report.counts)
                seconds += report.virtual_seconds
                if report.violations:
                    bad.append(seed)
                    print_violations(seed, report, arguments)
                    if arguments.stop:
                        pool.shutdown(cancel_futures=True)
                        return 1
    elapsed = time.monotonic() - started_at
    print_counts(total, seconds, elapsed)
    print(f"{len(bad)} of {total['worlds']} worlds violate an invariant")
    return bool(bad)


def chunks(seeds: range, deadline: float | None) -> Iterator[range]:
    """Give the seeds in parts, and then further ones until the deadline."""
    size = CHUNK * 50 * (os.cpu_count() or 1)
    for start in range(seeds.start, seeds.stop, size):
        yield range(start, min(start + size, seeds.stop))
    start = seeds.stop
    while deadline is not None and time.monotonic() < deadline:
        yield range(start, start + size)
        start += size


def run_seed(seed: int, on: str) -> tuple[int, Report]:
    """Run one world, in a process of the pool."""
    horizon = REAL_SECONDS if on == "uvloop" else None
    try:
        report = run_world(draw_world(seed, horizon=horizon), on)
    except Exception as error:
        error.add_note(f"world of seed {seed}")
        raise
    report.trace.clear()
    return seed, report


def print_violations(seed: int, report: Report, arguments: argparse.Namespace) -> None:
    """Print what is wrong in a world, and how to repeat it in a smaller one."""
    print(f"seed {seed}:")
    for text in report.violations[:5]:
        print(f"  {text}")
    on = "" if arguments.on == "memory" else f"--on {arguments.on}"
    smaller = "" if on or arguments.no_shrink else shrink(seed)
    print(f"  python -m tests.simulation {seed} {on or smaller}".rstrip(), flush=True)


def print_counts(total: collections.Counter[str], virtual: float, elapsed: float) -> None:
    """Print the numbers of worlds, operations, requests and faults."""
    print(f"{total['worlds']} worlds in {elapsed:.0f} s: {virtual / 3600:.1f} virtual hours")
    for name, number in sorted(total.items()):
        print(f"  {number:>10,}  {name}")


def find_faults(name: str, seeds: str) -> int:
    """Look for deliberate faults in changed copies of the package."""
    missed = 0
    for fault in FAULTS:
        if name in ("all", fault.name):
            found = find_fault(fault, seeds)
            missed += not found
            print(f"{fault.name}: {found or 'NOT FOUND'}", flush=True)
    return bool(missed)


def find_fault(fault: DeliberateFault, seeds: str) -> str | None:
    """Return the first violation that a fault causes."""
    with changed_copy(fault, ROOT) as copy:
        command = [sys.executable, "-m", "tests.simulation", seeds, "--stop", "--no-shrink"]
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        result = subprocess.run(  # noqa: S603 (this program itself)
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
    if result.returncode not in (0, 1):
        raise RuntimeError(result.stderr)
    with contextlib.suppress(ValueError):
        start = result.stdout.index("seed ")
        return " ".join(result.stdout[start:].splitlines()[:2])
    return None


if __name__ == "__main__":
    sys.exit(main())
