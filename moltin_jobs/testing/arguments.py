"""Check of the arguments with which a simulated job is created."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .jobs import AnyProblem, Problem
from .kinds import Kind

AnyFile = bytes | Sequence[bytes]
"""Content of one file, or of each of several."""


def read_files(kind: Kind, file: AnyFile | None) -> tuple[bytes, ...] | None:
    """Return the content of each file, ``None`` for the default of the kind."""
    if file is None:
        return None
    if kind.files == "none":
        raise ValueError(f"file: a job of the kind {kind.display_name!r} has no file")
    if isinstance(file, bytes):
        return (file,)
    if kind.files == "one":
        raise ValueError(f"file: a job of the kind {kind.display_name!r} has one file, as bytes")
    return tuple(file)


def read_problems(kind: Kind, problems: Iterable[AnyProblem]) -> tuple[Problem, ...]:
    """Return the problems. Only the problems of imports have a field and a line."""
    if isinstance(problems, str):
        raise ValueError(f"problems must be a list, not {problems!r}")
    read = tuple(
        Problem(problem) if isinstance(problem, str) else Problem(*problem) for problem in problems
    )
    if read and "errors" not in kind.subresources:
        raise ValueError(f"problems: a job of the kind {kind.display_name!r} has no problems")
    has_lines = any((problem.field, problem.line) != (None, None) for problem in read)
    if has_lines and not kind.has_problem_lines:
        raise ValueError(f"problems of a job of the kind {kind.name!r} are messages only")
    return read


def read_details(kind: Kind, details: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the details, each of which must be one of the kind."""
    unknown = [name for name in details or () if name not in kind.details]
    if unknown:
        names = ", ".join(kind.details) or "none"
        raise ValueError(
            f"details: {unknown[0]!r} is not a detail of the kind {kind.display_name!r}. "
            f"It has: {names}."
        )
    return dict(details or {})
