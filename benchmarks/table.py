"""Markdown tables."""

from collections.abc import Iterable, Sequence


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a title and a Markdown table."""
    print(f"{title}\n")
    print(f"| {' | '.join(columns)} |")
    print(f"|{' --- |' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    print()


def verdict(ratio: float, goal: float | None) -> tuple[str, str]:
    """Return the cells for a goal, and for whether a ratio meets it. ``None`` means no goal."""
    return ("", "") if goal is None else (f"{goal:.2f}", ("no", "yes")[ratio <= goal])
