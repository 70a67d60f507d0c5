"""Runs the parts that are named, or all; each prints Markdown tables."""

import argparse
import importlib
import importlib.metadata
import os
import platform
from pathlib import Path

PARTS = {
    "lookup": "processor time of a lookup, beside what else people use",
    "calls": "the profile of a lookup: whose functions are called how often",
    "decode": "processor time of making a job of a body",
    "limiter": "the rate limit: what a turn costs, and how exactly the rate is kept",
    "lists": "waits polled by id and by lists, in virtual time (--full: 1,000 waits; else 300)",
    "pace": "polls spent against detection lag, of our schedule and of others (simulation)",
    "shared": "one limit for three processes over Redis, beside other libraries; its cost",
    "soak": "memory over 200,000 lookups and 20,000 waits with faults (--full; else a tenth)",
    "waits": "memory of a pending wait and processor time of a poll, by the thousand",
}

VERSIONS = ("aiohttp", "attrs", "cattrs", "backoff")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    listed = ", ".join(f"{name}: {what}" for name, what in PARTS.items())
    parser.add_argument("parts", nargs="*", metavar="NAME", help=listed)
    parser.add_argument("--full", action="store_true", help="the large sizes too")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw the pace there, as PNG")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS)
    print(f"Python {platform.python_version()}, {versions}, {os.cpu_count()} cores\n")
    for name in arguments.parts or PARTS:
        importlib.import_module(f"benchmarks.{name}").run(full=arguments.full)
    if arguments.plot is not None:
        importlib.import_module("benchmarks.plots").draw(arguments.plot)


if __name__ == "__main__":
    main()
