"""Plots of the parts ``pace`` and ``lag``, by matplotlib."""

import importlib
import statistics
from pathlib import Path
from typing import Any

from benchmarks.lag import WAITS, measure
from benchmarks.pace import OURS, SCHEDULES, simulate_waits
from benchmarks.store import LENGTHS
from moltin_jobs import Polling

WAITS_OF_LAG = 100
MAX_INTERVALS = (2, 5, 10, 20)


def draw(folder: Path) -> None:
    """Write ``pace.png`` and ``lag.png``."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    folder.mkdir(parents=True, exist_ok=True)
    draw_pace(pyplot, folder / "pace.png")
    draw_lag(pyplot, folder / "lag.png")


def draw_pace(pyplot: Any, path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name, schedule in SCHEDULES.items():
        waits = simulate_waits(schedule)
        polls = statistics.fmean(polls for polls, _, _ in waits)
        lag = statistics.fmean(lag / duration for _, lag, duration in waits)
        axes.scatter(polls, lag, s=90 if name == OURS else 35, label=name.replace("`", ""))
    axes.set(
        xscale="log", yscale="log", xlabel="mean polls per job", ylabel="mean lag / duration of job"
    )
    axes.set_title("Number of polls against relative detection lag")
    axes.legend()
    _save(figure, path)


def draw_lag(pyplot: Any, path: Path) -> None:
    figure, panels = pyplot.subplots(1, len(LENGTHS), figsize=(11, 4), sharex=True, sharey=True)
    pollings = [Polling(initial_interval=2, max_interval=seconds) for seconds in MAX_INTERVALS]
    for axes, lengths in zip(panels, LENGTHS, strict=True):
        for name, wait in WAITS.items():
            results = [measure(wait, lengths, WAITS_OF_LAG, polling) for polling in pollings]
            requests = [result.requests / WAITS_OF_LAG for result in results]
            axes.plot(requests, [result.mean_lag for result in results], marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel="requests per job")
        axes.set_title(lengths)
    ticks = (0.5, 1, 2, 5)
    panels[0].set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    panels[0].tick_params(axis="y", which="minor", labelleft=False)
    panels[0].set_ylabel("mean lag in seconds")
    panels[0].legend()
    figure.suptitle(f"{WAITS_OF_LAG} waits, max_interval from 2 s to 20 s")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"written: {path}")
