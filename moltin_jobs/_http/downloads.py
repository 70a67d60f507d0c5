"""Saving of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from .job_file import JobFile
from .partial_file import PartialFile

ProgressCallback = Callable[[int, int | None], object]
"""Called with the number of bytes saved so far, and the length of the file if it is known."""


@attrs.frozen
class Destination:
    """Path to save a file as, with the limit and the callback of the caller."""

    path: Path
    progress: ProgressCallback | None = None
    max_bytes: int | None = None


async def save(file: JobFile, destination: Destination) -> None:
    """Save a file. Nothing is left behind unless it is complete.

    Raises:
        MoltinJobsError: the file could not be received.
        OSError: the disk failed.
    """
    size = 0
    async with file, PartialFile(destination.path) as partial_file:
        async for chunk in file:
            await partial_file.write(chunk)
            size += len(chunk)
            if destination.progress is not None:
                destination.progress(size, file.length)
        await partial_file.commit()
