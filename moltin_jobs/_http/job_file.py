"""The file of a job, read without a disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Self, TypeVar

from .._tasks.operations import Operation, Operations
from ..errors import raise_unchained
from .csv_rows import CsvParser, Row
from .file_response import FileResponse

T = TypeVar("T")

_ROWS_BETWEEN_PAUSES = 1000
"""Rows of less than 20 columns after which other tasks of the event loop run."""
_NOT_OPEN = "this JobFile is not open: use 'async with session.open_file(job) as file'"
_FAILED = "a read of this JobFile has failed or was cancelled: open the file again"
_CLOSED = "this JobFile is closed, since its 'async with' block has ended: open the file again"
_IN_USE = "this JobFile is in use by another task: open the file once for each task"
_OTHER_READER = "this JobFile is already being read as chunks or as rows: open the file again"


class JobFile(AsyncIterator[bytes]):
    """The file of a job, without a disk.

    An async context manager. Within its block, iterate over the file to get its bytes in chunks of
    up to 256 KiB, or call `read`, or iterate over `rows`. gzip and deflate are decoded. The block
    holds a connection and a download permit of the session.

    Entering the block requests the address and the headers of the file, and is retried within
    `Retry`. Reading is not retried: after an exception, cancellation included, open the file again.
    A file that is shorter than announced raises `TransportError` before its end. So does a read
    during which the host sends less than 1 KiB in ``request_timeout`` seconds. The time between
    reads does not count.
    """

    length: int | None = None
    """Size in bytes, or ``None`` if it is not known, as for a compressed file."""
    content_type: str | None = None
    """Media type in lower case and without parameters, for example ``text/csv``, or ``None``."""

    def __init__(
        self, operations: Operations, connect: Callable[[], Awaitable[FileResponse]]
    ) -> None:
        self._operations = operations
        self._connect = connect
        self._response: FileResponse | None = None
        self._unreadable = _NOT_OPEN
        """Reason why the file cannot be read, or an empty string."""
        self._reader: Callable[[], Awaitable[object]] | None = None
        self._is_in_use = False

    async def __aenter__(self) -> Self:
        if self._is_in_use or self._unreadable != _NOT_OPEN:
            raise RuntimeError("this JobFile was opened before: call open_file() again")
        self._is_in_use = True
        try:
            with Operation(self._operations):
                self._response = await self._connect()
        finally:
            self._is_in_use = False
        self._unreadable = ""
        self.length, self.content_type = self._response.length, self._response.content_type
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close(_CLOSED)

    async def __anext__(self) -> bytes:
        chunk = await self._read_from(self._opened().read)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def read(self) -> bytes:
        """Return all remaining bytes, in memory.

        Raises:
            TransportError: the file could not be received, or is larger than ``max_bytes``.
            SessionClosedError: the session was closed.
        """
        return b"".join([chunk async for chunk in self])

    def rows(self) -> AsyncIterator[Row]:
        """Return an async iterator of the rows of a CSV file in UTF-8.

        They are equal to those of ``csv.DictReader``. Do not read chunks of the same file too.
        Leaving the loop early does no harm.

        Raises:
            TransportError: in addition to the errors of `read`, the file is not UTF-8, a field is
                longer than ``csv.field_size_limit()``, or a row is longer than 8 times that.
        """
        return _Rows(self._opened(), self._read_from)

    def _opened(self) -> FileResponse:
        self._operations.get_loop()  # the session may be closed
        if self._unreadable or self._response is None:
            raise RuntimeError(self._unreadable)
        return self._response

    async def _read_from(self, reader: Callable[[], Awaitable[T]]) -> T:
        """Call ``reader``, which must be the only one of this file."""
        self._opened()
        if self._is_in_use:
            raise RuntimeError(_IN_USE)
        if self._reader not in (None, reader):
            raise RuntimeError(_OTHER_READER)
        self._reader = reader
        self._is_in_use = True
        try:
            return await reader()
        except BaseException:
            self._close(_FAILED)
            raise
        finally:
            self._is_in_use = False

    def _close(self, reason: str) -> None:
        self._unreadable = reason
        self._reader = None  # rows refer to this file, which would make a cycle
        if self._response is not None:
            self._response.disconnect()


class _Rows(AsyncIterator[Row]):
    """Rows of a file. ``read_from`` is the method of its `JobFile`."""

    def __init__(
        self,
        response: FileResponse,
        read_from: Callable[[Callable[[], Awaitable[Row | None]]], Awaitable[Row | None]],
    ) -> None:
        self._response = response
        self._read_from = read_from
        self._parser = CsvParser()
        self._parsed: Iterator[Row] = iter(())
        self._rows_since_pause = 0

    async def __anext__(self) -> Row:
        # One chunk may have 100,000 rows. A row of one byte has all columns of the header.
        self._rows_since_pause += 1 + len(self._parser.header or ()) // 20
        if self._rows_since_pause >= _ROWS_BETWEEN_PAUSES:
            self._rows_since_pause = 0
            await asyncio.sleep(0)
        row = await self._read_from(self._read_row)
        if row is None:
            raise StopAsyncIteration
        return row

    async def _read_row(self) -> Row | None:
        """Return the next row, or ``None`` at the end."""
        while True:
            try:
                for row in self._parsed:
                    return row
            except ValueError as error:
                reason, advice = f"it cannot be read as CSV: {error}", "Read its bytes instead."
                raise_unchained(self._response.error(reason, advice, retryable=False))
            if self._parser.is_at_end:
                return None
            self._parsed = self._parser.parse(await self._response.read())
