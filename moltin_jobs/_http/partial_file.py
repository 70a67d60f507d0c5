"""File on disk that appears under its name when it is complete, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self


async def check_destination(destination: Path) -> None:
    """Raise ``OSError`` if no file can be saved as ``destination``. Leaves nothing behind."""
    await PartialFile(destination).check()


class PartialFile:
    """Partial file beside its destination, which it replaces when it is committed.

    An async context manager. Without a commit, the partial file is removed at the end.
    """

    def __init__(self, destination: Path) -> None:
        self._destination = destination
        self._cleanup = contextlib.ExitStack()
        # Not the loop's default executor: while other work of the program occupies its threads, a
        # cancelled download would have to wait there before it could remove its partial file.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="moltin-jobs-disk")

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._open)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        # If a caller was cancelled, its call may still run in the thread. `_discard` runs after it.
        await self._run_last(self._discard)

    async def check(self) -> None:
        """Check that a file can be saved as the destination. Leaves nothing behind."""
        await self._run_last(self._check)

    async def write(self, chunk: bytes) -> None:
        """Append a chunk."""
        await self._run(self._file.write, chunk)

    async def commit(self) -> None:
        """Replace the destination. Its mode is kept, and a link to it remains a link."""
        await self._run(self._commit)

    async def _run(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the thread, after all earlier calls.

        Cancelling the caller does not stop the function. The next call waits for its end.
        """
        call = functools.partial(self._call, function, *arguments)
        future = asyncio.get_running_loop().run_in_executor(self._thread, call)
        # Otherwise asyncio reports the exception of a call whose caller was cancelled.
        future.add_done_callback(asyncio.Future.exception)
        await asyncio.wait([future])  # unlike shield(), wait() reports nothing if it is cancelled
        future.result()

    async def _run_last(self, function: Callable[[], object]) -> None:
        try:
            await self._run(function)
        finally:
            self._thread.shutdown(wait=False)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        try:
            function(*arguments)
        except OSError as error:  # it names the partial file, or no file
            raise OSError(error.errno, error.strerror, str(self._destination)) from None

    def _resolve(self) -> None:
        self._target = Path(os.path.realpath(self._destination))
        with contextlib.suppress(FileNotFoundError):
            mode = self._destination.stat().st_mode  # fails for a link to itself
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(mode):  # saving would replace the device or pipe
                raise OSError(errno.EINVAL, "Not a regular file")
            if _is_mount_point(self._target):  # a bind mount cannot be replaced
                raise OSError(errno.EBUSY, "Is a mount point")

    def _check(self) -> None:
        self._resolve()
        tempfile.TemporaryFile(dir=self._target.parent).close()

    def _open(self) -> None:
        self._resolve()
        self._path = self._target.with_name(f".{secrets.token_hex(8)}.part")
        # The partial file must be readable only to users who can read the destination.
        mode = stat.S_IMODE(self._target.stat().st_mode) if self._target.exists() else 0o666
        self._file = open(  # noqa: SIM115 (`_discard` closes it)
            self._path, "xb", opener=lambda path, flags: os.open(path, flags, mode)
        )
        self._cleanup.callback(self._path.unlink)
        self._cleanup.callback(self._file.close)

    def _commit(self) -> None:
        self._file.close()
        with contextlib.suppress(OSError):  # some file systems refuse to change a mode
            shutil.copymode(self._target, self._path)
        self._path.replace(self._target)

    def _discard(self) -> None:
        with contextlib.suppress(OSError):  # the disk may be full, or the file is committed
            self._cleanup.close()


def _is_mount_point(path: Path) -> bool:
    if os.path.ismount(path):
        return True
    # ismount() does not notice a bind mount within a file system. Linux lists it, with escapes.
    name = re.sub(rb"[ \t\n\\]", lambda match: b"\\%03o" % ord(match[0]), os.fsencode(path))
    mounts = b""
    with contextlib.suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_bytes()
    # splitlines() would also split at a carriage return, which may be part of a name.
    return any(line.split(b" ")[4:5] == [name] for line in mounts.split(b"\n"))
