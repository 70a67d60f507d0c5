"""Plots of the part ``pace``, by matplotlib."""

import importlib
import statistics
from pathlib import Path
from typing import Any

from benchmarks.pace import (
    COMPARED,
    JOB_COUNTS,
    OURS,
    RATE_LIMIT,
    SCHEDULES,
    mean_lag_under_rate_limit,
    simulate_waits,
)


def draw(folder: Path) -> None:
    """Write ``pace.png`` and ``scaling.png``."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    folder.mkdir(parents=True, exist_ok=True)

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
    _save(figure, folder / "pace.png")

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name in COMPARED:
        lags = [mean_lag_under_rate_limit(SCHEDULES[name], count) for count in JOB_COUNTS]
        axes.plot(JOB_COUNTS, lags, marker="o", label=name.replace("`", ""))
    axes.set(xscale="log", xlabel="concurrent waits", ylabel="mean lag in seconds")
    axes.set_title(f"Concurrent waits at {RATE_LIMIT} requests a second")
    axes.legend()
    _save(figure, folder / "scaling.png")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"written: {path}")
