"""The pace as pictures, by matplotlib."""

import importlib
import statistics
from pathlib import Path
from typing import Any

from benchmarks.pace import CHOSEN, COUNTS, RATE, SCHEDULES, mean_lag_under_a_limit, waits_by


def draw(folder: Path) -> None:
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    folder.mkdir(parents=True, exist_ok=True)

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name, schedule in SCHEDULES.items():
        waits = waits_by(schedule)
        polls = statistics.fmean(polls for polls, _, _ in waits)
        lag = statistics.fmean(lag / length for _, lag, length in waits)
        axes.scatter(polls, lag, s=90 if name == CHOSEN[0] else 35, label=name.replace("`", ""))
    axes.set(xscale="log", yscale="log", xlabel="polls a job", ylabel="lag / length of the job")
    axes.set_title("What a schedule spends, and how late it sees the end")
    axes.legend()
    _save(figure, folder / "pace.png")

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name in CHOSEN:
        lags = [mean_lag_under_a_limit(SCHEDULES[name], count) for count in COUNTS]
        axes.plot(COUNTS, lags, marker="o", label=name.replace("`", ""))
    axes.set(xscale="log", xlabel="jobs waited for at once", ylabel="mean lag, s")
    axes.set_title(f"Many jobs under one limit of {RATE} requests a second")
    axes.legend()
    _save(figure, folder / "scaling.png")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"drawn: {path}")
