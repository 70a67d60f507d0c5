"""Send requests within the rate limit, with a valid token, and each within its timeout.

A client middleware queues the attempt, sets its token and holds its slot of the rate limit.
aiohttp also calls it when it resends a request on its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import attrs
from aiohttp.abc import AbstractStreamWriter

from .._api import endpoints
from .._api.content import LARGE_BODY
from .._api.endpoints import MAX_BODY, Request, Response
from .._api.failures import mark_uncertain, parse_retry_after
from .._api.parsing import parse_token
from .._tasks.operations import Operation, Operations
from .._tasks.semaphore import Semaphore
from .._tasks.threads import run_in_thread
from ..auth import Auth, ClientCredentials, TokenProvider
from ..errors import MoltinJobsError, SessionClosedError, TransportError, raise_unchained
from ..settings import RateLimiter, Secret, require
from .addresses import host_of, parse_base_url
from .connection_errors import explain
from .headers import request_headers
from .rate_limit import Throttle

if TYPE_CHECKING:
    from .file_response import FileResponse

MAX_CONNECTIONS = 100
"""Largest number of connections of one session."""
NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=None)
"""No timeouts of aiohttp. Its total timeout also counts the time queued for a connection, and its
read timeout never fires on a body that trickles."""
HTTP_SESSION_CLOSED = "the http_session passed to JobsSession is closed: pass one that stays open."

E = TypeVar("E", bound=MoltinJobsError)

_log = logging.getLogger("moltin_jobs.http")
_current_attempt: contextvars.ContextVar[Attempt] = contextvars.ContextVar("attempt")


@attrs.define(eq=False)
class HttpOperation(Operation):
    """Operation that sends a request to one host, and receives the response."""

    request: Request = attrs.field(kw_only=True)
    """Request that the messages name. For a download, the API request that returned the file's
    address."""
    transport: Transport = attrs.field(kw_only=True, repr=False)

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return self.transport.host

    def start_timer(self) -> None:
        """Start the request timeout, or restart it."""
        self.end_at(asyncio.get_running_loop().time() + self.transport.request_timeout)

    def timeout_error(self) -> Exception:
        """Return the exception for a request timeout."""
        return self.slow_error("no complete response")

    def slow_error(self, received: str) -> TransportError:
        """Return the exception for a request timeout.

        ``received`` states how much has arrived, for example "no complete response".
        """
        reason = f"{received} from {self.host} within {self.transport.request_timeout:g} s"
        return self.error(reason, "Try again later, or use a longer request_timeout.")

    def error(self, reason: str, advice: str, retryable: bool = True) -> TransportError:
        """Return the exception for the lack of a complete response."""
        request = self.request
        return TransportError(
            request.description, reason, advice, retryable=retryable, job_id=request.job_id
        )


@attrs.define(eq=False)
class Attempt(HttpOperation):
    """One execution of a request. Its timeout does not run while it is queued."""

    queued_at: float = attrs.field(kw_only=True)
    """Moment from which the attempt waits for a connection, a token or a slot."""
    received_at: float = attrs.field(default=0.0, init=False)
    """Moment at which the response began."""
    token: Secret | None = attrs.field(default=None, init=False)
    rejected: Secret | None = attrs.field(default=None, init=False)
    """Token that the service has rejected in this attempt."""
    final_error: Exception | None = attrs.field(default=None, init=False)
    """Exception raised while the attempt waited for its token or slot. The attempt ends with it,
    even if aiohttp calls the middleware again or raises another exception."""
    was_sent: bool = attrs.field(default=False, init=False)
    """Whether the request may have reached the service."""

    def error(self, reason: str, advice: str, retryable: bool = True) -> TransportError:
        """Return the exception for the lack of a complete response."""
        return self.mark_if_sent(super().error(reason, advice, retryable))

    def to_error(self, error: Exception) -> Exception:
        """Return the exception for an attempt that aiohttp ended with ``error``."""
        if self.final_error is not None:
            return self.final_error
        if isinstance(error, RuntimeError):  # SessionClosedError, or aiohttp's "Session is closed"
            is_closed = not isinstance(error, SessionClosedError) and self.transport.is_http_closed
            return SessionClosedError(HTTP_SESSION_CLOSED) if is_closed else error
        return self.error(*explain(error, self.host))

    def closed_error(self) -> SessionClosedError:
        """Return the exception for an attempt during which the session was closed."""
        return self.mark_if_sent(super().closed_error())

    def mark_if_sent(self, error: E) -> E:
        """If a request that is not idempotent may have arrived, state that in ``error``."""
        if self.was_sent and not self.request.is_idempotent:
            mark_uncertain(error, self.request)
        return error


class Transport:
    """Send the requests of one session."""

    def __init__(
        self,
        auth: Auth,
        *,
        base_url: str,
        operations: Operations,
        rate_limit: int | RateLimiter | None,
        request_timeout: float,
        http_session: aiohttp.ClientSession | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        is_valid = http_session is None or isinstance(http_session, aiohttp.ClientSession)
        require(is_valid, "http_session", "an aiohttp.ClientSession", http_session)
        self.base_url = parse_base_url(base_url)
        self.operations = operations
        self.request_timeout = request_timeout
        self.throttle = Throttle(rate_limit)
        self.connection_limit = _connection_limit(http_session)
        # Wait for a connection here: in aiohttp's queue the attempt would hold its slot.
        self.connections = Semaphore(self.connection_limit)
        self.requests = 0
        """Attempts sent."""
        self.open_files: set[FileResponse] = set()
        """Files that the user has opened. Between two reads, no operation is in progress."""
        self._path_prefix = self.base_url.raw_path.rstrip("/")
        self._headers = request_headers({} if headers is None else headers)
        self._tokens = TokenProvider(auth, self._request_token, timeout=request_timeout)
        self.host = host_of(self.base_url)
        self._user_session = http_session
        self._http: aiohttp.ClientSession | None = None
        self._options: dict[str, Any] = {}

    async def send(self, request: Request, *, has_connection: bool = False) -> Response:
        """Send a request in one attempt, which is repeated once with a new token after a 401.

        Args:
            request: the request.
            has_connection: whether the request uses a permit of `connections` that the caller
                already holds.

        Raises:
            TransportError: there was no complete response.
            SessionClosedError: the session was closed.
            MoltinJobsError: the token could not be refreshed.
        """
        http = self._http or self.http_session()
        url = self.base_url.with_path(self._path_prefix + request.path, encoded=True)
        if request.query is not None:
            url = url.with_query(request.query)
        now = asyncio.get_running_loop().time()
        attempt = Attempt(
            self.operations,
            now + self.request_timeout,
            request=request,
            transport=self,
            queued_at=now,
        )
        options = self._options
        if request.body is not None or request.kind.headers:
            options = self._request_options(attempt)
        context_token = _current_attempt.set(attempt)
        try:
            with attempt:
                if not has_connection and not self.connections.try_acquire():
                    attempt.end_at(math.inf)
                    await self.connections.acquire()
                    attempt.start_timer()
                try:
                    # Neither the response nor the body is bound to a local, which a traceback
                    # may show: their reprs may contain a secret.
                    return await self._receive(
                        attempt, await http.request(request.method, url, **options)
                    )
                finally:
                    if not has_connection:
                        self.connections.release()
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise_unchained(attempt.to_error(error))
        finally:
            _current_attempt.reset(context_token)
            # Timer handles copy the context and keep the attempt alive, so drop its secrets.
            attempt.token = attempt.rejected = attempt.final_error = None

    def _request_options(self, attempt: Attempt) -> dict[str, Any]:
        """Return the options of a request with a body, or with headers of its own."""
        request = attempt.request
        headers = {**self._headers, **dict(request.kind.headers)}
        options = {**self._options, "headers": headers}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
            options["data"] = _Body(attempt, request.body)
        if request.method == "POST" and request.client_secret is None:
            # Use a connection that no lookup has used: a late response to a lookup would be taken
            # for the response to this request. The server_hostname, which is part of the key of
            # aiohttp's pool, selects another pool.
            headers["Connection"] = "close"
            options["server_hostname"] = self.base_url.raw_host
        return options

    def http_session(self) -> aiohttp.ClientSession:
        """Return the user's HTTP session, or our own, which is opened at its first use.

        The first call also sets the options of all requests.
        """
        if self._http is None:
            self.operations.get_loop()
            settings: dict[str, Any] = {
                "headers": self._headers,
                "middlewares": self.middlewares(self._send_attempt),
                "timeout": NO_TIMEOUT,
            }
            self._options = {"allow_redirects": False}
            if self._user_session is None:
                self._http = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    **settings,
                )
            else:
                self._http = self._user_session
                self._options |= settings | {"auto_decompress": True, "raise_for_status": False}
        if self.is_http_closed:
            raise SessionClosedError(HTTP_SESSION_CLOSED)
        return self._http

    def middlewares(self, ours: aiohttp.ClientMiddlewareType) -> Any:
        """Return the middlewares of the user's HTTP session, and ours as the innermost one.

        The middlewares of a request replace those of the HTTP session.
        """
        if self._user_session is None:
            return (ours,)
        return (*self._user_session._middlewares, ours)  # noqa: SLF001 (not public)

    @property
    def queued(self) -> int:
        """Number of attempts that wait for a connection, the cooldown, a token or a slot."""
        return self.connections.waiting + self.throttle.queued

    @property
    def is_http_closed(self) -> bool:
        """Whether the HTTP session of the user is closed."""
        return self._user_session is not None and self._user_session.closed

    @property
    def in_flight(self) -> int:
        """Number of attempts that were sent and have no complete response yet."""
        running = self.operations.running.values()
        return sum(isinstance(one, Attempt) and one.was_sent for one in running)

    async def close(self) -> None:
        """Close the connections of open files, and all others unless the user has made them."""
        for file in tuple(self.open_files):
            file.disconnect()
        if self._http is not None and self._http is not self._user_session:
            await self._http.close()

    async def _send_attempt(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Queue, authorize and send an attempt. aiohttp calls it again if it resends a request."""
        attempt, tokens, throttle = _current_attempt.get(), self._tokens, self.throttle
        if attempt.final_error is not None:  # aiohttp repeats a request after some exceptions
            raise attempt.final_error
        while True:
            now = asyncio.get_running_loop().time()
            if (
                now < tokens.fresh_until
                and tokens.token is not attempt.rejected
                and attempt.request.client_secret is None
                and throttle.try_acquire(now)
            ):
                attempt.token = tokens.token
            else:
                now = await self._wait_for_permission(attempt)
            if attempt.token is None:  # http_session may add credentials of its own
                request.headers.pop("Authorization", None)
            else:
                request.headers["Authorization"] = attempt.token.authorization
            attempt.was_sent = attempt.request.body is None  # otherwise `_Body` sets it
            self.requests += 1
            try:
                response = await handler(request)
            finally:
                attempt.received_at = asyncio.get_running_loop().time()
                throttle.release(attempt.received_at)
            if response.status == 429:
                await self._cool_down(attempt, response, now)
            elif throttle.cooldown.bursts:
                throttle.cooldown.on_success(now)
            if response.status != 401 or not self._reject_token(attempt):
                return response
            response.release()
            # If the refresh fails, its traceback must not lead to the rejected token.
            del response, request.headers["Authorization"]

    def _reject_token(self, attempt: Attempt) -> bool:
        """Handle a 401, and return whether to repeat the request with another token."""
        if attempt.token is None or attempt.rejected is not None or not self._tokens.is_refreshable:
            return False
        self._tokens.reject(attempt.token, attempt.queued_at)
        attempt.rejected = attempt.token
        attempt.queued_at = asyncio.get_running_loop().time()
        attempt.start_timer()
        return True

    async def _wait_for_permission(self, attempt: Attempt) -> float:
        """Wait until the attempt has a token and a slot, and return that moment."""
        attempt.end_at(math.inf)
        attempt.was_sent = False
        try:
            if attempt.request.client_secret is not None:
                now = await self.throttle.acquire()
            else:
                async with self.throttle.head_of_queue:
                    await self.throttle.cooldown.wait()
                    attempt.token = await self._tokens.get(attempt.queued_at, attempt.rejected)
                    now = await self.throttle.acquire()
            if self.is_http_closed:
                self.throttle.release(now)
                raise SessionClosedError(HTTP_SESSION_CLOSED)
        except Exception as error:
            attempt.final_error = error
            raise
        finally:
            if not self.queued:
                self._tokens.forget_failure()
        attempt.start_timer()
        return now

    async def _cool_down(
        self, attempt: Attempt, response: aiohttp.ClientResponse, sent_at: float
    ) -> None:
        retry_after = parse_retry_after(response.headers.get("Retry-After"), time.time())
        self.throttle.cooldown.on_429(sent_at, retry_after)
        attempt.end_at(math.inf)
        try:
            await self.throttle.share_cooldown()
        except BaseException as error:
            response.close()
            if isinstance(error, Exception):
                attempt.final_error = error
            raise
        attempt.start_timer()

    async def _receive(self, attempt: Attempt, response: aiohttp.ClientResponse) -> Response:
        max_body, content = attempt.request.max_body, response.content
        chunks: list[bytes] = []
        size = 0
        try:
            while not content.at_eof() and size <= max_body:
                chunks.append(await content.readany())
                size += len(chunks[-1])
            body = await run_in_thread(_join, chunks) if size > LARGE_BODY else _join(chunks)
        except BaseException:
            chunks.clear()  # the traceback of a cancellation keeps this frame
            response.close()
            raise
        if size > max_body:
            response.close()  # otherwise the connection has been released already
        status = response.status
        if _log.isEnabledFor(logging.DEBUG):
            request = attempt.request
            extra = {} if request.client_secret is not None else {"job_kind": request.kind.name}
            if request.job_id is not None:
                extra["job_id"] = request.job_id
            _log.debug("%s %s: %d", response.method, response.url, status, extra=extra)
        secret = attempt.token or attempt.request.client_secret
        # A middleware of the user may have responded without calling ours.
        received_at = attempt.received_at or attempt.queued_at
        if 200 <= status <= 299:
            if max_body == MAX_BODY:
                return Response(status, body, received_at, secret)
            # A list: estimates of the job queue need the service's time, but no other header.
            date = {"Date": response.headers.get("Date", "")}
            return Response(status, body, received_at, secret, date, timestamp=time.time())
        headers, url = response.headers, str(response.url)
        return Response(status, body, received_at, secret, headers, url, time.time())

    async def _request_token(self, credentials: ClientCredentials) -> tuple[Secret, float]:
        request = endpoints.request_token(credentials.client_id, credentials.client_secret)
        # The attempt that needs the token holds a permit for a connection.
        return parse_token(await self.send(request, has_connection=True), request)


class _Body(aiohttp.BytesPayload):
    """Body that sets `Attempt.was_sent` when aiohttp writes it: only once there is a connection.

    It also hides its bytes: a traceback through aiohttp would show those of a token request.
    """

    def __init__(self, attempt: Attempt, content: bytes) -> None:
        super().__init__(content)
        self._attempt = attempt

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Write the body."""
        self._attempt.was_sent = True
        await super().write_with_length(writer, content_length)


def _join(chunks: list[bytes]) -> bytes:
    """Join the chunks of a body, and free them. For 16 MiB this takes up to 50 ms."""
    body = b"".join(chunks)  # a single chunk is returned itself
    chunks.clear()
    return body


def _connection_limit(http_session: aiohttp.ClientSession | None) -> int:
    connector = None if http_session is None else http_session.connector
    limits = [] if connector is None else [connector.limit, connector.limit_per_host]
    return min([MAX_CONNECTIONS, *filter(None, limits)])  # 0 means no limit
