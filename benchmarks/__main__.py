"""Run benchmarks, and print their results as Markdown tables.

Costs are instructions, compared with goals, where valgrind is installed: run alone, `lookup` and
`waits` take about five minutes each then. Elsewhere, costs are processor time.
"""

import argparse
import importlib
import importlib.metadata
import os
import platform
from pathlib import Path

PARTS = {
    "lookup": "cost of a lookup, beside other clients",
    "calls": "the functions of this client that one poll enters",
    "lag": "lag behind the ends of jobs, and requests, of three ways to poll (a simulation); for "
    "1,000 waits too with --full, which takes ten minutes",
    "pace": "number of polls against detection lag, for several schedules (a simulation)",
    "scale": "processor time, memory and longest callback of 10,000 waits over 10 sessions; ten "
    "times as many of both with --full",
    "shared": "one rate limit for three processes over Redis, beside other libraries",
    "soak": "memory during 20,000 lookups and 2,000 waits with faults; ten times as many with "
    "--full",
    "waits": "memory of a wait and cost of a poll, beside other loops",
}

PACKAGES = ("aiohttp", "attrs", "cattrs", "backoff")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="\n".join(["parts:", *(f"  {name:<7} {text}" for name, text in PARTS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="NAME", help="parts to run (default: all)")
    parser.add_argument("--full", action="store_true", help="measure more rounds or larger sizes")
    parser.add_argument(
        "--plot", type=Path, metavar="DIR", help="write plots of `pace` and `lag` there"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part: {', '.join(sorted(unknown))}. Choose from {', '.join(PARTS)}")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    print(f"Python {platform.python_version()}, {versions}, {os.cpu_count()} cores\n")
    for name in arguments.parts or PARTS:
        importlib.import_module(f"benchmarks.{name}").run(full=arguments.full)
    if arguments.plot is not None:
        importlib.import_module("benchmarks.plots").draw(arguments.plot)


if __name__ == "__main__":
    main()
