"""File on disk that appears under its name when it is complete, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

T = TypeVar("T")


async def check_destination(destination: Path) -> None:
    """Raise ``OSError`` if no file can be saved as ``destination``. Leaves nothing behind."""
    with _DiskThread() as disk:
        await disk.run(functools.partial(_check_destination, destination))


def _check_destination(destination: Path) -> None:
    target = Path(os.path.realpath(destination))
    with _errors_of(destination):
        with contextlib.suppress(FileNotFoundError):
            mode = destination.stat().st_mode  # fails for a link to itself
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(mode):  # saving would replace the device or pipe
                raise OSError(errno.EINVAL, "Not a regular file")
            if os.path.ismount(target):  # a bind mount cannot be replaced
                raise OSError(errno.EBUSY, "Is a mount point")
        tempfile.TemporaryFile(dir=target.parent).close()


class PartialFile:
    """Partial file beside its destination, which it replaces when it is committed.

    An async context manager. Without a commit, the partial file is removed at the end.
    """

    def __init__(self, destination: Path) -> None:
        self._destination = destination
        self._target = self._path = destination
        self._file: BinaryIO | None = None
        self._disk = _DiskThread()

    async def __aenter__(self) -> Self:
        try:
            await self._disk.run(self._open)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._disk:
            await self._disk.run(self._discard)  # after a call that was cancelled has ended

    async def write(self, chunk: bytes) -> None:
        """Append a chunk."""
        await self._disk.run(functools.partial(self._write, chunk))

    async def commit(self) -> None:
        """Replace the destination. Its mode is kept, and a link to it remains a link."""
        await self._disk.run(self._commit)

    def _open(self) -> None:
        self._target = Path(os.path.realpath(self._destination))
        self._path = self._target.with_name(f".{secrets.token_hex(8)}.part")
        with _errors_of(self._destination):
            self._file = self._path.open("xb")

    def _write(self, chunk: bytes) -> None:
        assert self._file is not None, "the file is open"  # noqa: S101
        with _errors_of(self._destination):
            self._file.write(chunk)

    def _commit(self) -> None:
        assert self._file is not None, "the file is open"  # noqa: S101
        with _errors_of(self._destination):
            self._file.close()
            with contextlib.suppress(OSError):  # some file systems refuse to change a mode
                shutil.copymode(self._target, self._path)
            self._path.replace(self._target)

    def _discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # the disk may be full
                self._file.close()
            self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def _errors_of(destination: Path) -> Iterator[None]:
    """Make an ``OSError`` name the destination, not the partial file or nothing."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(destination)) from None


class _DiskThread:
    """A thread that runs calls in order.

    A call that waits in the loop's default executor could not be cancelled while other work of
    the program occupies all threads of it.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="moltin-jobs-disk")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=False)

    async def run(self, function: Callable[[], T]) -> T:
        """Call in the thread, and return the result.

        Cancelling the caller does not stop the function. The next call waits for it.
        """
        call = asyncio.get_running_loop().run_in_executor(self._executor, function)
        # Otherwise asyncio reports the exception of a call whose caller was cancelled.
        call.add_done_callback(asyncio.Future.exception)
        return await asyncio.shield(call)
