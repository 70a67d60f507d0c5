"""Shrink a world that violates an invariant: fewer actors, fewer features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .run import run_world
from .worlds import draw_world

Changes = dict[str, Any]
"""Arguments of `draw_world` that make a world smaller."""


def shrink(seed: int) -> str:
    """Return the arguments of the command line for the smallest world that still fails."""
    changes: Changes = {}
    if not fails(seed, changes):
        return ""
    world = draw_world(seed)
    actors = [actor.number for actor in world.actors]
    for smaller in halves(actors):
        if fails(seed, {"actors": smaller}):
            actors, changes = smaller, {"actors": smaller}
            break
    for number in [*actors]:
        rest = [one for one in actors if one != number]
        if rest and fails(seed, {"actors": rest}):
            actors, changes = rest, {"actors": rest}
    without: list[str] = []
    for feature in sorted(world.features):
        if fails(seed, changes | {"without": [*without, feature]}):
            without.append(feature)
    return describe(actors if changes else None, without)


def halves(items: Sequence[int]) -> Iterator[list[int]]:
    """Give parts of a sequence, the smallest first."""
    size = 1
    while size < len(items):
        for start in range(0, len(items), size):
            yield list(items[start : start + size])
        size *= 2


def fails(seed: int, changes: Changes) -> bool:
    """Return whether a world violates an invariant."""
    return bool(run_world(draw_world(seed, **changes)).violations)


def describe(actors: Sequence[int] | None, without: Sequence[str]) -> str:
    """Return arguments of the command line."""
    parts = []
    if actors is not None:
        parts.append("--actors " + ",".join(map(str, actors)))
    if without:
        parts.append("--without " + ",".join(without))
    return " ".join(parts)
