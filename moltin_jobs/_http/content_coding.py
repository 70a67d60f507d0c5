"""Decoding of files that have a ``Content-Encoding``.

aiohttp leaves some codings undecoded, and does not notice a gzip stream that ends early.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator

from ..errors import describe

_MAX_CHUNK = 1 << 20
"""Largest piece of decoded data: a small chunk of the body may decode to a gigabyte."""
_GZIP_WINDOW = 31
_DEFLATE_METHOD = 8
_GZIP_NAMES = ("gzip", "x-gzip")
_IGNORED_NAMES = ("", "identity", "aws-chunked")  # S3 names the last one, but does not apply it


class Decoder:
    """Decoder of content with any number of codings, none included.

    Args:
        content_encoding: value of the ``Content-Encoding`` header, which names the codings in the
            order in which they were applied.

    Raises:
        ValueError: a coding is not supported.
    """

    def __init__(self, content_encoding: str) -> None:
        self._streams: list[Inflate] = []
        for name in content_encoding.lower().split(","):
            coding = name.strip()
            if coding in _GZIP_NAMES:
                self._streams.insert(0, Inflate(gzip=True))
            elif coding == "deflate":
                self._streams.insert(0, Inflate(gzip=False))
            elif coding not in _IGNORED_NAMES:
                raise ValueError(f"the content encoding {describe(coding)} is not supported")

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


class Inflate:
    """Decoder of gzip, which may have several members, or of deflate.

    Some servers send deflate without the zlib header that the standard requires.
    """

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._stream: zlib._Decompress | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the last stream has ended."""
        return self._stream is not None and self._stream.eof

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Decode the next chunk. Raises `ValueError` for data that is invalid."""
        chunk = b""
        # After a full chunk, the stream may have more output although all data is consumed.
        while data or (len(chunk) == _MAX_CHUNK and not self.is_complete):
            if self._stream is None or (self._gzip and self._stream.eof):
                self._stream = zlib.decompressobj(self._window(data))
            elif self._stream.eof:
                raise ValueError("there is data after its end")
            try:
                chunk = self._stream.decompress(data, _MAX_CHUNK)
            except zlib.error as error:
                raise ValueError(str(error)) from None
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if chunk:
                yield chunk

    def _window(self, data: bytes) -> int:
        if self._gzip:
            return _GZIP_WINDOW
        has_header = data[0] & 0xF == _DEFLATE_METHOD
        return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
