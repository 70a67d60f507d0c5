"""A download to disk: whole under its name, or not there at all."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from ..errors import TransportError

Progress = Callable[[int, int | None], object]
"""Is told the bytes that have come, and how many there will be if that is known."""


async def check(destination: Path) -> None:
    """Raise ``OSError`` where nothing can be saved as ``destination``; nothing is left there."""
    await _to_the_end(lambda: _check(destination))


def _check(destination: Path) -> None:
    target = Path(os.path.realpath(destination))
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "Not a regular file")  # noqa: TRY301 (it would be replaced)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(destination)) from None


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
    part = _Part(destination)
    received = 0
    try:
        await _to_the_end(part.open)
        async for chunk in chunks:
            received += len(chunk)
            if max_bytes is not None and max(received, length or 0) > max_bytes:
                raise TransportError(
                    about,
                    f"it is larger than max_bytes={max_bytes}",
                    "Allow more if that is right.",
                    temporary=False,
                )
            await _to_the_end(functools.partial(part.write, chunk))
            if progress is not None:
                progress(received, length)
        if length is not None and received != length:
            raise TransportError(
                about, f"{received} of {length} bytes came", "Try again: nothing was kept."
            )
        await _to_the_end(part.keep)
    finally:
        await _to_the_end(part.discard)


class _Part:
    """What is there of a file, beside the place where it will be."""

    def __init__(self, destination: Path) -> None:
        self._destination = destination
        self._path = self._target = destination
        self._file: BinaryIO | None = None

    def open(self) -> None:
        self._target = Path(os.path.realpath(self._destination))  # a link stays one
        self._path = self._target.with_name(f".{secrets.token_hex(8)}.part")
        self._file = self._path.open("xb")

    def write(self, chunk: bytes) -> None:
        assert self._file is not None, "it is open"  # noqa: S101 (for mypy)
        self._file.write(chunk)

    def keep(self) -> None:
        assert self._file is not None, "it is open"  # noqa: S101 (for mypy)
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(self._target, self._path)
        self._path.replace(self._target)

    def discard(self) -> None:
        """Remove what was not kept."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # it may be that the disk has no room for the rest
                self._file.close()
            self._path.unlink(missing_ok=True)


async def _to_the_end(call: Callable[[], object]) -> None:
    """Call in a thread, and wait for its end even if cancelled: it would go on by itself."""
    done = asyncio.get_running_loop().run_in_executor(None, call)
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        done.exception()  # seen, since nobody else will look
        raise cancelled
    done.result()
