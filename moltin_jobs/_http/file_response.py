"""Responses of the host of a file, which the service names.

The host gets no token, cookies or headers of the user. The proxy, TLS, header limits and tracing of
the user's HTTP session do apply.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator

import aiohttp
import attrs
from yarl import URL

from .._api.failures import parse_retry_after
from ..errors import RETRYABLE_STATUSES, APIError, ServerError, SessionClosedError, raise_unchained
from .addresses import check_file_url, host_of, join_redirect
from .connection_errors import explain
from .content_coding import Decoder
from .headers import USER_AGENT
from .transport import HTTP_SESSION_CLOSED, NO_TIMEOUT, HttpOperation

EXPIRED_STATUSES = (400, 403, 410)
"""Statuses with which file hosts respond to an address that has expired."""
_MAX_REDIRECTS = 10
_MIN_PROGRESS = 1024
"""Bytes that must arrive within the request timeout."""
_READ_SIZE = (1 << 18) - _MIN_PROGRESS
"""Largest part of a chunk. With the smaller parts before it, a chunk has at most 256 KiB."""
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}
_TRY_AGAIN = "Try again: nothing was saved."


async def strip_headers(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Client middleware that sends only the necessary headers to the host of a file.

    The user's ``http_session`` may add cookies, default headers and credentials of its own.
    """
    request.headers.clear()
    request.headers.update(_HEADERS, Host=str(request.url.host_port_subcomponent))
    return await handler(request)


@attrs.define(eq=False)
class FileResponse(HttpOperation):
    """Response with a file. Connecting and each read are operations."""

    max_bytes: int | None = attrs.field(kw_only=True)
    """Largest size of the file after decoding, or ``None``."""
    cleanup: contextlib.ExitStack = attrs.field(kw_only=True, repr=False)
    """Closes the connection, and releases its permits."""
    length: int | None = attrs.field(default=None, init=False)
    content_type: str | None = attrs.field(default=None, init=False)
    host: str = attrs.field(default="", init=False)
    _size: int = attrs.field(default=0, init=False)
    # The repr of the response contains the address.
    _response: aiohttp.ClientResponse | None = attrs.field(default=None, init=False, repr=False)
    _decoder: Decoder = attrs.field(factory=lambda: Decoder(""), init=False, repr=False)
    _pieces: Iterator[bytes] = attrs.field(factory=lambda: iter(()), init=False, repr=False)

    async def connect(self, address: str) -> None:
        """Request the file at ``address``, and receive the headers.

        The caller closes `cleanup` after an exception.

        Raises:
            APIError: the host responded with an error status.
            TransportError: there was no acceptable response, or the file is too large.
        """
        with self:
            response = await self._follow(address)
        self.cleanup.callback(response.close)
        self._read_headers(response)
        self._response = response
        self.transport.open_files.add(self)

    async def read(self) -> bytes:
        """Return the next bytes of the file, after decoding. They are empty at its end.

        Raises:
            TransportError: the file could not be received, or is too large.
        """
        with self:
            while not (piece := next(self._pieces, None)):
                if piece is not None:
                    await asyncio.sleep(0)  # thousands of empty pieces may follow
                elif chunk := await self._receive():
                    self._pieces = self._decode(chunk)
                else:
                    piece = b""
                    break
            if piece:
                await asyncio.sleep(0)  # decoded bytes may be a thousand times those received
        if not piece and not self._decoder.is_complete:
            raise self.error("its compressed content is truncated", _TRY_AGAIN)
        self._size += len(piece)
        self._check_size(self._size)
        return piece

    def disconnect(self) -> None:
        """Close the connection if it is in use, and release its permits. Can be repeated."""
        self.transport.open_files.discard(self)
        self.cleanup.close()

    async def _follow(self, address: str) -> aiohttp.ClientResponse:
        """Return the response with the file, after all redirects."""
        loopback = self.transport.base_url.scheme == "http"
        for _ in range(_MAX_REDIRECTS + 1):
            request = self.request
            url = check_file_url(
                address, request.description, loopback=loopback, job_id=request.job_id
            )
            self.host = host_of(url)
            response = await self._get(url)
            if response.status == 200:
                return response
            response.close()
            location = response.headers.get("Location")
            if not 300 <= response.status <= 399 or location is None:
                raise self._status_error(response)
            address = join_redirect(url, location)
        raise self.error(f"more than {_MAX_REDIRECTS} redirects", _TRY_AGAIN)

    async def _get(self, url: URL) -> aiohttp.ClientResponse:
        with self._request_timeout():
            return await self.transport.http_session().get(
                url,
                allow_redirects=False,
                auto_decompress=False,
                middlewares=self.transport.middlewares(strip_headers),
                raise_for_status=False,
                timeout=NO_TIMEOUT,
            )

    def _read_headers(self, response: aiohttp.ClientResponse) -> None:
        coding = ",".join(response.headers.getall("Content-Encoding", []))
        try:
            self._decoder = Decoder(coding)
        except ValueError as reason:
            advice = "Report this to the service's support."
            raise self.error(str(reason), advice, retryable=False) from None
        self.length = None if coding else response.content_length
        self._check_size(self.length or 0)
        media_type = response.headers.get("Content-Type", "").partition(";")[0]
        self.content_type = media_type.strip().lower() or None

    async def _receive(self) -> bytes:
        """Return the next bytes as sent. They are empty at the end."""
        assert self._response is not None, "it is connected"  # noqa: S101
        content = self._response.content
        parts: list[bytes] = []
        with self._request_timeout():
            # Require 1 KiB per timeout: otherwise each single byte would restart it.
            while sum(map(len, parts)) < _MIN_PROGRESS and not content.at_eof():
                parts.append(await content.read(_READ_SIZE))
        return b"".join(parts)

    @contextlib.contextmanager
    def _request_timeout(self) -> Iterator[None]:
        """Bound the time for the headers, or for the next bytes, and translate exceptions."""
        self.start_timer()
        try:
            yield
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise_unchained(self._to_error(error))
        finally:
            self.end_at(math.inf)  # the timeout does not count the disk and the caller

    def _to_error(self, error: Exception) -> Exception:
        """Return the exception for a request or a read that aiohttp ended with ``error``.

        A read after the user's HTTP session was closed raises a bare RuntimeError.
        """
        if self.transport.is_http_closed:
            return SessionClosedError(HTTP_SESSION_CLOSED)
        if isinstance(error, RuntimeError):  # of a middleware of the user
            return error
        return self.error(*explain(error, self.host))

    def _decode(self, chunk: bytes) -> Iterator[bytes]:
        try:
            yield from self._decoder.decode(chunk)
        except ValueError as error:
            raise self.error(f"its content cannot be decoded: {error}", _TRY_AGAIN) from None

    def _check_size(self, size: int) -> None:
        if self.max_bytes is not None and size > self.max_bytes:
            reason = f"it is larger than max_bytes={self.max_bytes}"
            raise self.error(reason, "Use a larger max_bytes.", retryable=False)

    def timeout_error(self) -> Exception:
        """Return the exception for a host that does not respond, or too slowly."""
        if self._response is None:
            return super().timeout_error()
        return self.slow_error(f"less than {_MIN_PROGRESS} bytes")

    def _status_error(self, response: aiohttp.ClientResponse) -> APIError:
        status = response.status
        is_server_error = 500 <= status <= 599
        advice = "Its address may have expired. Download it again to request a new one."
        if is_server_error or status in RETRYABLE_STATUSES:
            advice = _TRY_AGAIN
        return (ServerError if is_server_error else APIError)(
            status,
            self.request.description,
            sender=self.host,
            retry_after=parse_retry_after(response.headers.get("Retry-After"), time.time()),
            job_id=self.request.job_id,
            advice=advice,
        )
