"""Standard output and standard error, which may be closed, full or unable to encode a character."""

import contextlib
import io
import os
import sys
from typing import TextIO


class SafeStream:
    """Stream whose failures are ignored: a broken stderr must not lose results on stdout."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.encoding = "utf-8" if stream is None else stream.encoding

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> None:
        """Write to the stream, or to nothing once it has failed."""
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                discard(self._stream)
                self._stream = None

    def flush(self) -> None:
        """Do nothing: each write is flushed."""


def discard(stream: TextIO) -> None:
    """Let a broken stream write to the null device. Its flush at exit would fail again."""
    with contextlib.suppress(OSError):  # not every stream has a descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def escape_unencodable() -> None:
    """Let stdout and stderr escape characters that they cannot encode, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_line(line: str) -> None:
    """Write a line to stdout."""
    # Not click.echo: it replaces an ASCII stdout, and with it our error handler.
    if sys.stdout is not None:  # it is None if it was closed before the start
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
