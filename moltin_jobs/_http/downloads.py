"""Destination of a download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

ProgressCallback = Callable[[int, int | None], object]
"""Called with the number of bytes saved so far, and the length of the file if it is known."""


@attrs.frozen
class Destination:
    """Path to save a file as, with the limit and the callback of the caller."""

    path: Path
    progress: ProgressCallback | None = None
    max_bytes: int | None = None
