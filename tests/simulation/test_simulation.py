"""Worlds violate no invariant, and a seed gives the same world each time."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .faults import FAULTS, changed_copy
from .run import run_world
from .shrink import shrink
from .worlds import draw_world

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("seed", range(24))
def test_world_violates_no_invariant(seed: int) -> None:
    assert run_world(draw_world(seed)).violations == []


@pytest.mark.parametrize("on", ["debug", "sockets"])
def test_world_on_other_loop_violates_no_invariant(on: str) -> None:
    assert run_world(draw_world(24), on).violations == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_world_with_eager_tasks_violates_no_invariant() -> None:
    assert run_world(draw_world(24), "eager").violations == []


def test_world_is_the_same_in_another_process() -> None:
    report = run_world(draw_world(7))
    environment = {**os.environ, "PYTHONHASHSEED": "12"}
    command = [sys.executable, "-m", "tests.simulation", "7"]
    result = subprocess.run(  # noqa: S603 (this program itself)
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("\n".join(report.trace))
    assert f"trace {report.digest}" in result.stdout


def test_memory_is_flat() -> None:
    world = draw_world(8)
    sizes = []
    for _ in range(4):
        assert run_world(world).violations == []
        gc.collect()
        sizes.append(sys.getallocatedblocks())
    assert sizes[3] - sizes[1] < 300, sizes


def test_other_world_has_another_trace() -> None:
    assert run_world(draw_world(1)).digest != run_world(draw_world(2)).digest


def test_world_without_features_and_actors_is_smaller() -> None:
    world, smaller = draw_world(0), draw_world(0, without=["latency"], actors=[1])
    assert [actor.number for actor in smaller.actors] == [1]
    assert smaller.actors[0] == world.actors[1]
    assert smaller.features == world.features - {"latency"}
    assert (smaller.jobs, smaller.sessions) == (world.jobs, world.sessions)


def test_deliberate_fault_is_found_and_shrunk() -> None:
    (fault,) = [one for one in FAULTS if one.name == "slot-reused-too-early"]
    with changed_copy(fault, ROOT) as copy:
        result = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "0-5", "--stop"],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 1, result.stderr
    assert "more than 1 requests in the second" in result.stdout
    assert "python -m tests.simulation 0 --actors" in result.stdout


def test_world_without_violation_is_not_shrunk() -> None:
    assert shrink(0) == ""
