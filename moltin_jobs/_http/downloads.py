"""Download of files from the host that the service names.

The host gets no token, cookies or headers of the user. The proxy, TLS, header limits and tracing of
the user's HTTP session do apply.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import aiohttp
import attrs
from yarl import URL

from .._api.failures import parse_retry_after
from .._tasks.operations import Operation
from .._tasks.semaphore import Semaphore
from ..errors import APIError, ServerError, TransportError
from .addresses import check_file_url, host_of, join_redirect
from .connection_errors import timeout_error, transport_error
from .content_coding import Decoder
from .headers import USER_AGENT, strip_headers
from .partial_file import PartialFile
from .transport import NO_TIMEOUT, Transport

ProgressCallback = Callable[[int, int | None], object]
"""Called with the bytes received so far, and the length of the file if that is known."""

EXPIRED_STATUSES = (400, 403, 410)
"""Statuses with which file hosts respond to an address that has expired."""
_MAX_REDIRECTS = 10
_CHUNK_SIZE = 1 << 18
_MIN_PROGRESS = 1024
"""Bytes that must arrive within the request timeout."""
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}
_TRY_AGAIN = "Try again: nothing was saved."


@attrs.frozen
class Destination:
    """Path to save a file as, with the limit and the callback of the caller."""

    path: Path
    progress: ProgressCallback | None = None
    max_bytes: int | None = None


@attrs.define(eq=False)
class Transfer(Operation):
    """Download of one file, in one attempt."""

    job_id: str = attrs.field(kw_only=True)
    timeout: float = attrs.field(kw_only=True)
    host: str = attrs.field(default="", init=False)
    """Host of the present request, for messages."""
    has_response: bool = attrs.field(default=False, init=False)

    @property
    def description(self) -> str:
        """Subject of the messages about this download."""
        return f"the file of job {self.job_id}"

    def start_timer(self) -> None:
        """Start the timeout for the headers, or for the next bytes."""
        self.expire_at(asyncio.get_running_loop().time() + self.timeout)

    def stop_timer(self) -> None:
        """Stop the timeout while the client does not wait for the host."""
        self.expire_at(math.inf)

    def timeout_error(self) -> Exception:
        """Return the exception for a host that does not respond, or too slowly."""
        if not self.has_response:
            return timeout_error(self.description, self.host, self.timeout, self.job_id)
        return self.error(
            f"less than {_MIN_PROGRESS} bytes from {self.host} within {self.timeout:g} s",
            "Try again later, or use a longer request_timeout.",
        )

    def connection_error(self, error: Exception) -> TransportError:
        """Return the exception for one of aiohttp or of the operating system."""
        return transport_error(error, self.description, self.host, self.job_id)

    def status_error(self, response: aiohttp.ClientResponse) -> APIError:
        """Return the exception for a response that has no file."""
        cls: type[APIError] = APIError
        advice = "Its address may have expired. Download it again to request a new one."
        if 500 <= response.status <= 599:
            cls, advice = ServerError, _TRY_AGAIN
        return cls(
            response.status,
            f"{self.description} on {self.host}",
            retry_after=parse_retry_after(response.headers.get("Retry-After"), time.time()),
            job_id=self.job_id,
            advice=advice,
        )

    def error(
        self, reason: str, advice: str = _TRY_AGAIN, *, retryable: bool = True
    ) -> TransportError:
        """Return the exception for an unusable file."""
        return TransportError(
            self.description, reason, advice, retryable=retryable, job_id=self.job_id
        )


class FileBody:
    """Body of a file that is being received."""

    def __init__(self, response: aiohttp.ClientResponse, transfer: Transfer) -> None:
        coding = ",".join(response.headers.getall("Content-Encoding", []))
        try:
            self._decoder = Decoder(coding)
        except ValueError as reason:
            advice = "Report this to the service's support."
            raise transfer.error(str(reason), advice, retryable=False) from None
        self.length = None if coding else response.content_length
        """Length of the file in bytes, if it is known."""
        self._response = response
        self._transfer = transfer

    def check_size(self, size: int, max_bytes: int | None) -> None:
        """Raise `TransportError` if the file is larger than ``max_bytes``."""
        if max_bytes is not None and size > max_bytes:
            reason = f"it is larger than max_bytes={max_bytes}"
            raise self._transfer.error(reason, "Use a larger max_bytes.", retryable=False)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the decoded content. Raises `TransportError` if it is not complete."""
        transfer = self._transfer
        while chunk := await self._read():
            try:
                for part in self._decoder.decode(chunk):
                    yield part
            except ValueError as error:
                raise transfer.error(f"its content cannot be decoded: {error}") from None
        if not self._decoder.is_complete:
            raise transfer.error("its compressed content is truncated")

    async def _read(self) -> bytes:
        """Return the next chunk, which is empty at the end."""
        transfer = self._transfer
        parts: list[bytes] = []
        transfer.start_timer()
        try:
            # Require 1 KiB per timeout: otherwise each single byte would restart it.
            while sum(map(len, parts)) < _MIN_PROGRESS:
                part = await self._response.content.read(_CHUNK_SIZE)
                if not part:
                    break
                parts.append(part)
            return b"".join(parts)
        except (aiohttp.ClientError, OSError) as error:
            failure = transfer.connection_error(error)
        finally:
            transfer.stop_timer()
        raise failure


class Downloads:
    """Downloads of one session, which may occupy half of its connections."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._permits = Semaphore(max(transport.connection_limit // 2, 1))

    @contextlib.asynccontextmanager
    async def permit(self, deadline: float) -> AsyncIterator[None]:
        """Hold a download permit. The first caller that waits for one gets it first."""
        with Operation(self._transport.operations, deadline):
            await self._permits.acquire()
        try:
            yield
        finally:
            self._permits.release()

    async def save(
        self, address: str, destination: Destination, job_id: str, deadline: float
    ) -> None:
        """Save the file at ``address``. Nothing is left behind unless it is complete.

        Raises:
            APIError: the host responded with an error status.
            TransportError: the file could not be received, or is too large.
            OSError: the disk failed.
        """
        timeout = self._transport.request_timeout
        transfer = Transfer(self._transport.operations, deadline, job_id=job_id, timeout=timeout)
        with transfer:
            async with self._open(address, transfer) as body:
                body.check_size(body.length or 0, destination.max_bytes)
                async with PartialFile(destination.path) as file:
                    await _copy(body, file, destination)
                    await file.commit()

    @contextlib.asynccontextmanager
    async def _open(self, address: str, transfer: Transfer) -> AsyncIterator[FileBody]:
        connections = self._transport.connections
        await connections.acquire()
        try:
            response = await self._follow(address, transfer)
            try:
                transfer.has_response = True
                yield FileBody(response, transfer)
            finally:
                response.close()
        finally:
            connections.release()

    async def _follow(self, address: str, transfer: Transfer) -> aiohttp.ClientResponse:
        """Return the response with the file, after all redirects."""
        loopback = self._transport.base_url.scheme == "http"
        for _ in range(_MAX_REDIRECTS + 1):
            url = check_file_url(
                address, transfer.description, loopback=loopback, job_id=transfer.job_id
            )
            transfer.host = host_of(url)
            response = await self._get(url, transfer)
            if response.status == 200:
                return response
            response.close()
            location = response.headers.get("Location")
            if not 300 <= response.status <= 399 or location is None:
                raise transfer.status_error(response)
            address = join_redirect(url, location)
        raise transfer.error(f"more than {_MAX_REDIRECTS} redirects")

    async def _get(self, url: URL, transfer: Transfer) -> aiohttp.ClientResponse:
        http = self._transport.http_session()
        transfer.start_timer()
        try:
            return await http.get(
                url,
                allow_redirects=False,
                auto_decompress=False,
                headers=_HEADERS,
                middlewares=self._transport.middlewares(strip_headers),
                raise_for_status=False,
                timeout=NO_TIMEOUT,
            )
        except (aiohttp.ClientError, OSError) as error:
            failure = transfer.connection_error(error)
        finally:
            transfer.stop_timer()
        raise failure


async def _copy(body: FileBody, file: PartialFile, destination: Destination) -> None:
    size = 0
    async with contextlib.aclosing(body.chunks()) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            body.check_size(size, destination.max_bytes)
            await file.write(chunk)
            if destination.progress is not None:
                destination.progress(size, body.length)
