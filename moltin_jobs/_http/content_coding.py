"""Decoding of files that have a ``Content-Encoding``.

aiohttp leaves some codings undecoded, and does not notice a gzip stream that ends early.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from ..errors import describe

_MAX_PIECE = 1 << 18
"""Largest piece of decoded data: a small chunk of the body may decode to a gigabyte."""
_WBITS_DETECT_HEADER = zlib.MAX_WBITS + 32  # zlib detects gzip or zlib from the header
_WBITS_NO_HEADER = -zlib.MAX_WBITS
_ZLIB_METHOD = 8
_IGNORED_NAMES = ("", "identity", "aws-chunked")  # S3 names the last one, but does not apply it


class Decoder:
    """Decoder of content with at most one coding: gzip, which may have several members, or deflate.

    Some servers send deflate without the zlib header that the standard requires.

    Args:
        content_encoding: value of the ``Content-Encoding`` header.

    Raises:
        ValueError: the coding is not supported, or there are several. Each of them could multiply
            the data by a thousand.
    """

    def __init__(self, content_encoding: str) -> None:
        names = [name.strip() for name in content_encoding.lower().split(",")]
        coding = ", ".join(name for name in names if name not in _IGNORED_NAMES)
        if coding not in ("", "gzip", "x-gzip", "deflate"):
            raise ValueError(f"the content encoding {describe(coding)} is not supported")
        self._coding = coding
        self._stream: zlib._Decompress | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the content may end here."""
        return not self._coding or (self._stream is not None and self._stream.eof)

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield the pieces of the next chunk, of which some are empty.

        Each takes a short time, but a chunk can have thousands of pieces.

        Raises:
            ValueError: the data is invalid.
        """
        if not self._coding:
            yield data
            return
        piece = b""
        # After a full piece, the stream may have more output although all data is consumed.
        while data or (len(piece) == _MAX_PIECE and not self.is_complete):
            if self._stream is None or (self._coding != "deflate" and self._stream.eof):
                has_header = self._coding != "deflate" or data[0] & 0xF == _ZLIB_METHOD
                wbits = _WBITS_DETECT_HEADER if has_header else _WBITS_NO_HEADER
                self._stream = zlib.decompressobj(wbits)
            elif self._stream.eof:
                raise ValueError("there is data after its end")
            try:
                piece = self._stream.decompress(data, _MAX_PIECE)
            except zlib.error as error:
                raise ValueError(str(error)) from None
            data = self._stream.unconsumed_tail or self._stream.unused_data
            yield piece
