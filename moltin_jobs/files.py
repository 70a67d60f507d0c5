"""A download to disk: whole under its name, or not there at all."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from .errors import TransportError

Progress = Callable[[int, int | None], object]
"""Is told the bytes that have come, and how many there will be if that is known."""


async def check(destination: Path) -> None:
    """Raise ``OSError`` where nothing can be saved as ``destination``; nothing is left there."""
    await asyncio.to_thread(_check, destination)


def _check(destination: Path) -> None:
    told = str(destination)
    if destination.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), told)
    try:
        tempfile.TemporaryFile(dir=destination.parent).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, told) from None


async def save(
    chunks: AsyncIterator[bytes],
    length: int | None,
    destination: Path,
    *,
    about: str,
    progress: Progress | None,
    max_bytes: int | None,
) -> None:
    """Write ``chunks`` beside ``destination``, and rename when ``length`` bytes are there.

    Raises `TransportError` for a file that is cut or has more than ``max_bytes``, ``OSError`` of
    the disk. Whatever is raised, and if cancelled, what was written is removed.
    """
    part = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.part")
    received = 0
    file = await asyncio.to_thread(part.open, "xb")
    try:
        try:
            async for chunk in chunks:
                received += len(chunk)
                if max_bytes is not None and max(received, length or 0) > max_bytes:
                    raise TransportError(
                        about,
                        f"it is larger than max_bytes={max_bytes}",
                        "Allow more if that is right.",
                        temporary=False,
                    )
                await asyncio.to_thread(file.write, chunk)
                if progress is not None:
                    progress(received, length)
        finally:
            await asyncio.to_thread(file.close)
        if length is not None and received != length:
            raise TransportError(
                about, f"{received} of {length} bytes came", "Try again: nothing was kept."
            )
        await asyncio.to_thread(os.replace, part, destination)
    finally:
        await asyncio.to_thread(part.unlink, missing_ok=True)
