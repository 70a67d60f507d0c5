"""Decoding of files that have a ``Content-Encoding``.

aiohttp leaves some codings undecoded, and does not notice a gzip stream that ends early.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator

from ..errors import describe

_MAX_CHUNK = 1 << 18
"""Largest piece of decoded data: a small chunk of the body may decode to a gigabyte."""
_WBITS_DETECT_HEADER = zlib.MAX_WBITS + 32  # zlib detects gzip or zlib from the header
_WBITS_NO_HEADER = -zlib.MAX_WBITS
_ZLIB_METHOD = 8
_IGNORED_NAMES = ("", "identity", "aws-chunked")  # S3 names the last one, but does not apply it


class Decoder:
    """Decoder of content with zero or more codings.

    Args:
        content_encoding: value of the ``Content-Encoding`` header, which names the codings in the
            order in which they were applied.

    Raises:
        ValueError: a coding is not supported.
    """

    def __init__(self, content_encoding: str) -> None:
        names = [name.strip() for name in content_encoding.lower().split(",")]
        self._streams = [_Inflate(name) for name in reversed(names) if name not in _IGNORED_NAMES]

    @property
    def is_complete(self) -> bool:
        """Whether the content may end here."""
        return all(stream.is_complete for stream in self._streams)

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Decode the next chunk. Raises `ValueError` for data that is invalid."""
        chunks: Iterator[bytes] = iter((data,))
        for stream in self._streams:
            chunks = itertools.chain.from_iterable(map(stream.decode, chunks))
        return chunks


class _Inflate:
    """Decoder of gzip, which may have several members, or of deflate.

    Some servers send deflate without the zlib header that the standard requires.
    """

    def __init__(self, coding: str) -> None:
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise ValueError(f"the content encoding {describe(coding)} is not supported")
        self._is_gzip = coding != "deflate"
        self._stream: zlib._Decompress | None = None

    @property
    def is_complete(self) -> bool:
        return self._stream is not None and self._stream.eof

    def decode(self, data: bytes) -> Iterator[bytes]:
        chunk = b""
        # After a full chunk, the stream may have more output although all data is consumed.
        while data or (len(chunk) == _MAX_CHUNK and not self.is_complete):
            if self._stream is None or (self._is_gzip and self._stream.eof):
                has_header = self._is_gzip or data[0] & 0xF == _ZLIB_METHOD
                self._stream = zlib.decompressobj(
                    _WBITS_DETECT_HEADER if has_header else _WBITS_NO_HEADER
                )
            elif self._stream.eof:
                raise ValueError("there is data after its end")
            try:
                chunk = self._stream.decompress(data, _MAX_CHUNK)
            except zlib.error as error:
                raise ValueError(str(error)) from None
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if chunk:
                yield chunk
