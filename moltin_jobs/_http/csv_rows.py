"""Parsing of CSV files that arrive in chunks. Pure: no asyncio, no aiohttp."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
from collections.abc import Iterator
from typing import Any

Row = dict[str | Any, str | Any]
"""A row by the names of the header, as ``csv.DictReader`` returns it: a missing column is ``None``,
and the key ``None`` has the list of the extra columns."""


_MAX_FIELDS = 8
"""Fields of the longest size that a row may have. The parser keeps a row in memory, and parses it
in one step."""


class CsvParser:
    """Parser of one file in UTF-8, with or without a byte order mark.

    The rows are equal to those of ``csv.DictReader(io.StringIO(text, newline=""))``, wherever the
    chunks are cut.
    """

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        # It holds back a "\r" at the end of a chunk, since the next chunk may begin with "\n".
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=False)
        self._received = 0
        self._max_row_size = _MAX_FIELDS * csv.field_size_limit()
        self._size = self._size_parsed = 0
        """Number of characters, as all sizes here."""
        self._max_size = self._max_row_size
        """Size at which the next row must have ended."""
        self._line_parts: list[str] = []
        """Parts of the last line, whose end has not arrived."""
        self._lines: list[str] = []
        """Complete lines of which no row was returned."""
        self._lines_needed = 0
        """Number of lines without which it is not worthwhile to parse."""
        self._lines_parsed = 0
        self.header: list[str] | None = None
        self.is_at_end = False

    def parse(self, chunk: bytes) -> Iterator[Row]:
        """Yield the rows that ``chunk`` completes. An empty chunk is the end of the file.

        Raises:
            ValueError: the file is not UTF-8, a field is longer than ``csv.field_size_limit()``, or
                a row with its line ends is longer than 8 times that. The message has the number of
                the first line of the row, and nothing of the file.
        """
        self.is_at_end = not chunk
        self._split(self._decode(chunk))
        if self.is_at_end or self._size > self._max_size or len(self._lines) >= self._lines_needed:
            yield from self._rows()

    def _decode(self, chunk: bytes) -> str:
        self._received += len(chunk)
        try:
            return self._decoder.decode(chunk, final=self.is_at_end)
        except UnicodeDecodeError as error:
            # The decoder has put bytes of the chunk before in front of this one.
            offset = self._received - len(error.object) + error.start
            raise ValueError(f"the byte at offset {offset} is not valid UTF-8") from None

    def _split(self, text: str) -> None:
        """Split the text into lines, at the same characters as ``io.StringIO``."""
        self._line_parts.append(text)
        self._size += len(text)
        if self.is_at_end or "\n" in text or "\r" in text:
            lines = io.StringIO("".join(self._line_parts), newline="").readlines()
            is_complete = self.is_at_end or lines[-1].endswith("\n")
            self._line_parts = [] if is_complete else [lines.pop()]
            self._lines += lines

    def _rows(self) -> Iterator[Row]:
        """Yield the complete rows, and remove their lines."""
        records = csv.reader(self._read_lines())
        complete = 0
        try:
            for record in records:
                complete = records.line_num
                self._max_size = self._size_parsed + self._max_row_size
                if self.header is None:
                    self.header = record
                elif record:  # an empty line is no row
                    # A missing field has the value None, and an extra field has the key None.
                    row: Row = dict(itertools.zip_longest(self.header, record))
                    if len(record) > len(self.header):
                        row[None] = record[len(self.header) :]
                    yield row
        except _IncompleteRecordError:
            pass
        except csv.Error as error:
            raise ValueError(f"line {self._lines_parsed + complete + 1}: {error}") from None
        self._lines_parsed += complete
        del self._lines[:complete]
        # A record of many lines is parsed again when it has twice as many, not for each chunk.
        self._lines_needed = 2 * len(self._lines)

    def _read_lines(self) -> Iterator[str]:
        """Yield the lines. At their end, csv.reader would return an incomplete record."""
        self._size_parsed = self._max_size - self._max_row_size
        for line in self._lines:
            self._size_parsed += len(line)
            if self._size_parsed > self._max_size:
                break
            yield line
        if self._size > self._max_size:  # it includes a last line whose end has not arrived
            raise csv.Error("the row is too long")
        if not self.is_at_end:
            raise _IncompleteRecordError


class _IncompleteRecordError(Exception):
    """The lines of a record have not arrived."""
