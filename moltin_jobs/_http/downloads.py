"""Download of files from the host that the service names.

The host gets no token, cookies or headers of the user. The proxy, TLS, header limits and tracing of
the user's HTTP session do apply.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import attrs
from yarl import URL

from .._api.failures import parse_retry_after
from ..errors import RETRYABLE_STATUSES, APIError, ServerError, raise_unchained
from .addresses import check_file_url, host_of, join_redirect
from .connection_errors import explain
from .content_coding import Decoder
from .headers import USER_AGENT
from .partial_file import PartialFile
from .transport import NO_TIMEOUT, HttpOperation

ProgressCallback = Callable[[int, int | None], object]
"""Called with the number of bytes saved so far, and the length of the file if it is known."""

EXPIRED_STATUSES = (400, 403, 410)
"""Statuses with which file hosts respond to an address that has expired."""
_MAX_REDIRECTS = 10
_CHUNK_SIZE = 1 << 18
_MIN_PROGRESS = 1024
"""Bytes that must arrive within the request timeout."""
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


@attrs.frozen
class Destination:
    """Path to save a file as, with the limit and the callback of the caller."""

    path: Path
    progress: ProgressCallback | None = None
    max_bytes: int | None = None


@attrs.define(eq=False)
class Transfer(HttpOperation):
    """Download of one file, in one attempt. The caller holds a connection permit for it."""

    host: str = attrs.field(default="", init=False)
    _has_response: bool = attrs.field(default=False, init=False)

    async def save(self, address: str, destination: Destination) -> None:
        """Save the file at ``address``. Nothing is left behind unless it is complete.

        Raises:
            APIError: the host responded with an error status.
            TransportError: the file could not be received, or is too large.
            OSError: the disk failed.
        """
        with self:
            response = await self._follow(address)
            self._has_response = True
            try:
                await self._save_body(response, destination)
            finally:
                response.close()

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
                headers=_HEADERS,
                middlewares=self.transport.middlewares(strip_headers),
                raise_for_status=False,
                timeout=NO_TIMEOUT,
            )

    async def _save_body(self, response: aiohttp.ClientResponse, destination: Destination) -> None:
        coding = ",".join(response.headers.getall("Content-Encoding", []))
        try:
            decoder = Decoder(coding)
        except ValueError as reason:
            advice = "Report this to the service's support."
            raise self.error(str(reason), advice, retryable=False) from None
        length = None if coding else response.content_length
        self._check_size(length or 0, destination)
        size = 0
        async with PartialFile(destination.path) as file:
            while chunk := await self._read(response):
                for part in self._decode(decoder, chunk):
                    size += len(part)
                    self._check_size(size, destination)
                    await file.write(part)
                    if destination.progress is not None:
                        destination.progress(size, length)
            if not decoder.is_complete:
                raise self.error("its compressed content is truncated", _TRY_AGAIN)
            await file.commit()

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the next chunk, which is empty at the end."""
        parts: list[bytes] = []
        with self._request_timeout():
            # Require 1 KiB per timeout: otherwise each single byte would restart it.
            while sum(map(len, parts)) < _MIN_PROGRESS:
                part = await response.content.read(_CHUNK_SIZE)
                if not part:
                    break
                parts.append(part)
        return b"".join(parts)

    @contextlib.contextmanager
    def _request_timeout(self) -> Iterator[None]:
        """Bound the time for the headers, or for the next bytes, and translate exceptions."""
        self.start_timer()
        try:
            yield
        except (aiohttp.ClientError, OSError) as error:
            raise_unchained(self.error(*explain(error, self.host)))
        finally:
            self.end_at(math.inf)  # the timeout does not count the disk and the caller

    def _decode(self, decoder: Decoder, chunk: bytes) -> Iterator[bytes]:
        try:
            yield from decoder.decode(chunk)
        except ValueError as error:
            raise self.error(f"its content cannot be decoded: {error}", _TRY_AGAIN) from None

    def _check_size(self, size: int, destination: Destination) -> None:
        limit = destination.max_bytes
        if limit is not None and size > limit:
            reason = f"it is larger than max_bytes={limit}"
            raise self.error(reason, "Use a larger max_bytes.", retryable=False)

    def timeout_error(self) -> Exception:
        """Return the exception for a host that does not respond, or too slowly."""
        if not self._has_response:
            return super().timeout_error()
        return self.slow_error(f"less than {_MIN_PROGRESS} bytes")

    def _status_error(self, response: aiohttp.ClientResponse) -> APIError:
        status = response.status
        advice = "Its address may have expired. Download it again to request a new one."
        if status in RETRYABLE_STATUSES or 500 <= status <= 599:
            advice = _TRY_AGAIN
        return (ServerError if 500 <= status <= 599 else APIError)(
            status,
            self.request.description,
            sender=self.host,
            retry_after=parse_retry_after(response.headers.get("Retry-After"), time.time()),
            job_id=self.request.job_id,
            advice=advice,
        )
