"""One exchange over HTTP: everything that aiohttp does, raises or lacks ends in this module.

What must happen at each send, aiohttp's own hidden resends included, is done in a client
middleware: the turn, the token, the grant, and the start of the attempt's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import ipaddress
import logging
import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import aiohttp
import attrs
from yarl import URL

from .._api.parsing import MAX_BODY, Answer, decode_token, file_error
from .._polling.intervals import parse_retry_after
from .._tasks.operations import Scope, Scopes, closed
from ..auth import Auth, ClientCredentials, Secret, Tokens
from ..errors import ConfigurationError, TransportError, doubtful, one_line, shown
from .rate_limit import Pacer

_log = logging.getLogger("moltin_jobs")
_CONNECTIONS = 100
_USER_AGENT = f"moltin-jobs/{importlib.metadata.version('moltin-jobs')}"
_ADDRESS = re.compile(r"https?://\S+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_OURS = frozenset({"accept", "authorization", "connection", "content-length", "host"})
_UNTRUSTED = (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch)
_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ServerFingerprintMismatch)
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=None)
_KEPT_HEADERS = ("Location", "Retry-After", "X-Request-Id")
_MOST_REDIRECTS = 10
_CHUNK = 1 << 18
_SHORTEST_SECRET = 8  # to cut anything shorter out of an answer could change what it says


def parse_base_url(text: object) -> URL:
    """Raise `ConfigurationError` unless the token may be sent to this address."""
    try:
        if not isinstance(text, str) or any(c.isspace() or not c.isprintable() for c in text):
            raise ValueError  # noqa: TRY301 (one way out)
        url = URL(text)
        host = url.host or ""
        safe = url.scheme == "https" or (url.scheme == "http" and _is_loopback(host))
        if not host or not safe or url.user or url.password or url.query_string or url.fragment:
            raise ValueError  # noqa: TRY301 (one way out)
    except ValueError:
        told = text.rpartition("@")[2] if isinstance(text, str) else text
        raise ConfigurationError(
            f"base_url must be https://HOST[:PORT][/PATH] (or http:// to this machine's own "
            f"loopback), without credentials, query or fragment, not {shown(told)}"
        ) from None
    if url.path.rstrip("/").endswith("/v2"):
        raise ConfigurationError(
            f"base_url must end before the /v2 of the API, which is added: not {shown(text)}"
        )
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _request_headers(extra: Mapping[str, str]) -> dict[str, str]:
    headers = {"Accept": "application/json", "User-Agent": _USER_AGENT}
    if not isinstance(extra, Mapping):
        raise ConfigurationError(
            f"headers must be a mapping of names to values, not {shown(extra)}"
        )
    for name, value in extra.items():
        if not (isinstance(name, str) and isinstance(value, str) and value.isprintable()):
            raise ConfigurationError(f"headers: {shown(name)} and its value must be printable str")
        if name.lower() in _OURS or not _HEADER_NAME.fullmatch(name):
            raise ConfigurationError(f"headers: {shown(name)} is none that the caller may set")
        if name.lower() == "user-agent":
            headers["User-Agent"] = f"{_USER_AGENT} {value}"
        else:
            headers[name] = value
    return headers


@attrs.frozen
class Request:
    """What is asked; how it is sent is the transport's affair."""

    method: str
    url: URL
    about: str
    """What an error names."""
    json: object = None
    credentials: ClientCredentials | None = None
    """In place of a token: those that one is asked for with."""
    max_body: int = MAX_BODY

    @property
    def creates(self) -> bool:
        """Whether it must not arrive twice."""
        return self.json is not None


class _Attempt(Scope):
    """One exchange, and its client middleware, which is run for each send on the wire."""

    __slots__ = ("_noted_failures", "_pacer", "_rejected", "_tokens", "failure", "sent", "token")

    def __init__(
        self,
        scopes: Scopes,
        pacer: Pacer,
        tokens: Tokens | None = None,
        rejected: Secret | None = None,
        noted_failures: int = 0,
    ) -> None:
        super().__init__(scopes)
        self._pacer = pacer
        self._tokens = tokens
        self._rejected = rejected
        self._noted_failures = noted_failures
        self.token: Secret | None = None
        self.failure: Exception | None = None
        """What ended the way to the send, and did not happen on the wire."""
        self.sent = False

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if self.failure is not None:  # aiohttp takes some errors for a reason to send again
            raise self.failure
        self.until = math.inf  # nor does the time of one send count for the next
        try:
            sent_at = await self._grant()
        except Exception as error:
            self.failure = error
            raise
        try:
            self.start(sent_at)
            if self.token is None:
                request.headers.pop("Authorization", None)
            else:
                request.headers["Authorization"] = f"Bearer {self.token.value}"
            self.sent = True
            response = await handler(request)
        finally:
            self._pacer.settle()
        if response.status == 429:
            retry_after = parse_retry_after(response.headers.get("Retry-After"), time.time())
            self._pacer.pause(sent_at, retry_after)
        else:
            self._pacer.answered(sent_at)
        return response

    async def _grant(self) -> float:
        if self._tokens is None:
            return await self._pacer.grant()
        now = asyncio.get_running_loop().time()
        self.token = self._tokens.usable(now, self._rejected)
        if self.token is not None and self._pacer.grant_nowait(now):
            return now
        async with self._pacer.turn():
            await self._pacer.pause_over()
            self.token = await self._tokens.get(self._noted_failures, self._rejected)
            return await self._pacer.grant()


class Transport:
    """Sends the requests of one session, each within the rate limit and with a valid token."""

    def __init__(
        self,
        auth: Auth,
        *,
        base_url: str,
        scopes: Scopes,
        pacer: Pacer,
        http: aiohttp.ClientSession | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        if http is not None and not isinstance(http, aiohttp.ClientSession):
            raise ConfigurationError(f"http must be an aiohttp.ClientSession, not {shown(http)}")
        self._base = parse_base_url(base_url)
        self._prefix = self._base.raw_path.rstrip("/")
        self._headers = _request_headers({} if headers is None else headers)
        self._credentials = auth if isinstance(auth, ClientCredentials) else None
        self._tokens = Tokens(auth, self._request_token)
        self._scopes = scopes
        self._pacer = pacer
        self._foreign = http
        self._own: aiohttp.ClientSession | None = None
        # In aiohttp's own queue for a connection the attempt's time would already run.
        connections = _connections(http)
        self._connections = asyncio.Semaphore(connections)
        self._downloads = asyncio.Semaphore(max(connections // 2, 1))  # they may take long

    def request(self, path: str, about: str, method: str = "GET", **facts: Any) -> Request:
        """A request for ``path``, which is made of safe characters only."""
        return Request(
            method, self._base.with_path(self._prefix + path, encoded=True), about, **facts
        )

    async def send(self, request: Request) -> Answer:
        """Send the request, and after a 401 once more with a new token if there can be one.

        Raises `TransportError` if no whole answer came, what getting a token raises, and
        `RuntimeError` when the session is closed.
        """
        tokens = self._tokens
        failures, rejected = tokens.failures, None
        while True:
            attempt = _Attempt(self._scopes, self._pacer, tokens, rejected, failures)
            answer = await self._exchange(attempt, request)
            if answer.status != 401 or rejected is not None or not tokens.renewable:
                return answer
            rejected = attempt.token

    @contextlib.asynccontextmanager
    async def file(
        self, address: str, about: str
    ) -> AsyncIterator[tuple[AsyncIterator[bytes], int | None]]:
        """The chunks of a file on whatever host, and its length if told.

        It is asked without the token, the caller's headers and cookies, over https (or http to
        loopback, if the service is there too), and redirects are followed. Raises `APIError` and
        `TransportError`.
        """
        http = self._foreign or self._own or self._opened()
        async with (
            self._downloads,
            self._connections,
            aiohttp.ClientSession(
                connector=http.connector,
                connector_owner=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._scopes.seconds, sock_read=self._scopes.seconds
                ),
                trace_configs=http.trace_configs,
                trust_env=http.trust_env,
                proxy=http._default_proxy,  # noqa: SLF001 (there is no other way to it)
                proxy_auth=http._default_proxy_auth,  # noqa: SLF001
            ) as bare,
        ):
            response = await self._located(bare, address, about)
            try:
                coded = "Content-Encoding" in response.headers
                async with contextlib.aclosing(self._chunks(response, about)) as chunks:
                    yield chunks, None if coded else response.content_length
            finally:
                response.close()

    async def _located(
        self, http: aiohttp.ClientSession, address: str, about: str
    ) -> aiohttp.ClientResponse:
        for _ in range(_MOST_REDIRECTS + 1):
            url = _file_url(address, about, loopback=self._base.scheme == "http")
            failure: Exception
            try:
                response = await http.get(url, allow_redirects=False)
            except (aiohttp.ClientError, OSError, UnicodeError) as error:  # a host that is no name
                failure = self._failure(Request("GET", url, about), error, None)
            else:
                if response.status == 200:
                    return response
                response.close()
                location = response.headers.get("Location")
                if not 300 <= response.status <= 399 or location is None:
                    raise file_error(response.status, about)
                address = _joined(url, location)
                continue
            raise failure
        raise TransportError(
            about, f"it redirects more than {_MOST_REDIRECTS} times", "Ask for the file again."
        )

    async def _chunks(self, response: aiohttp.ClientResponse, about: str) -> AsyncGenerator[bytes]:
        failure: Exception
        try:
            async for chunk in response.content.iter_chunked(_CHUNK):
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            failure = self._failure(Request("GET", response.url, about), error, None)
        else:
            return
        raise failure

    async def close(self) -> None:
        """Close the connections, unless they are the caller's."""
        if self._own is not None:
            await self._own.close()

    async def _request_token(self) -> tuple[Secret, float | None]:
        request = self.request(
            "/oauth/access_token",
            "the request for a token",
            method="POST",
            credentials=self._credentials,
        )
        answer = await self._exchange(_Attempt(self._scopes, self._pacer), request)
        token, lifetime = decode_token(answer)
        return Secret(token), lifetime

    async def _exchange(self, attempt: _Attempt, request: Request) -> Answer:
        answer: Answer | None = None
        failure: Exception
        try:
            with attempt:
                answer = await self._connected(attempt, request)
            if answer is None:
                failure = self._too_late(request) if attempt.expired else closed()
        except (aiohttp.ClientError, OSError) as error:
            failure = attempt.failure or self._failure(request, error, attempt)
            if isinstance(error, _UNSENT):
                attempt.sent = False
        if answer is None:
            # Out here, since what is raised in there holds aiohttp's frames, and they the headers.
            raise doubtful(failure) if request.creates and attempt.sent else failure
        if answer.status == 429:
            with Scope(self._scopes):
                await self._pacer.share_pause()
        return answer

    async def _connected(self, attempt: _Attempt, request: Request) -> Answer:
        if request.credentials is not None:
            # The place of its caller serves: no request of that caller is out.
            return await self._answer(attempt, request)
        await self._connections.acquire()
        try:
            return await self._answer(attempt, request)
        finally:
            self._connections.release()

    async def _answer(self, attempt: _Attempt, request: Request) -> Answer:
        """The answer but for the secret it was asked with, or as much as shows it too long."""
        http = self._foreign or self._own or self._opened()
        credentials, max_body = request.credentials, request.max_body
        response = await http.request(
            request.method,
            request.url,
            data=None if credentials is None else credentials.form(),
            json=request.json,
            headers=None if http is self._own else self._headers,
            middlewares=(*http._middlewares, attempt),  # noqa: SLF001 (else it replaces them)
            allow_redirects=False,
            raise_for_status=False,
            timeout=_NO_TIMEOUT,
        )
        read, content = bytearray(), response.content
        try:
            while not content.at_eof() and len(read) <= max_body:
                read += await content.readany()
        except BaseException:
            response.close()
            raise
        if len(read) > max_body:
            response.close()  # else the connection is free already
        _log.debug("%s %s: %d", request.method, request.url, response.status)
        body, headers = bytes(read), {}
        if not 200 <= response.status <= 299:
            headers = {k: response.headers[k] for k in _KEPT_HEADERS if k in response.headers}
        secret = attempt.token if credentials is None else credentials.client_secret
        if secret is not None and len(secret.value) >= _SHORTEST_SECRET:
            body = body.replace(secret.value.encode(), b"***")
            headers = {k: v.replace(secret.value, "***") for k, v in headers.items()}
        return Answer(
            request.url, response.status, headers, body[: max_body + 1], time.time(), max_body
        )

    def _too_late(self, request: Request) -> TransportError:
        return TransportError(
            request.about,
            f"no whole answer came from {_host(request.url)} within {self._scopes.seconds:g} s",
            "Try again later, or with a longer request_timeout.",
        )

    def _failure(
        self, request: Request, error: Exception, attempt: _Attempt | None
    ) -> TransportError:
        about, host = request.about, _host(request.url)
        # Some tell the whole address, which may hold a signature.
        text = _ADDRESS.sub("…", one_line(f"{type(error).__name__}: {error}"))
        if attempt is not None and attempt.token is not None:
            text = text.replace(attempt.token.value, "***")
        if isinstance(error, _UNTRUSTED):
            return TransportError(
                about,
                f"the certificate of {host} could not be verified ({text})",
                "Check base_url, or give http= a ClientSession whose ssl context trusts that host.",
                temporary=False,
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            via_proxy = isinstance(error, aiohttp.ClientProxyConnectionError)
            host = f"{'the proxy ' if via_proxy else ''}{error.host}:{error.port}"
            reason = one_line(error.strerror or str(error.os_error))
            return TransportError(
                about, f"{host} could not be reached ({reason})", "Check base_url and the network."
            )
        if isinstance(error, aiohttp.ServerTimeoutError):  # of a file, whose times are aiohttp's
            return TransportError(
                about,
                f"nothing came from {host} within {self._scopes.seconds:g} s",
                "Try again later, or with a longer request_timeout.",
            )
        return TransportError(
            about, f"the answer of {host} broke off or is not HTTP ({text})", "Try again later."
        )

    def _opened(self) -> aiohttp.ClientSession:
        self._own = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
        )
        return self._own


def _file_url(address: str, about: str, *, loopback: bool) -> URL:
    """Where a file may be got from. The address may hold a signature, and is told by its host."""
    try:
        url = _as_signed(address)
        host = url.host or ""
        plain = url.scheme == "http" and loopback and _is_loopback(host)
        if host and (url.scheme == "https" or plain):
            return url
        told = f"{url.scheme}://{host}"
    except ValueError:
        told = "no address"
    raise TransportError(
        about,
        f"it would have to be got from {shown(told)}, and not by https",
        "Report this to the service's support.",
        temporary=False,
    )


def _as_signed(address: str) -> URL:
    """The address to the letter, if it can be sent so: a signature may be over its spelling."""
    return URL(address, encoded=address.isascii() and address.isprintable() and " " not in address)


def _joined(url: URL, location: str) -> str:
    try:
        return str(url.join(_as_signed(location)))
    except ValueError:
        return location


def _host(url: URL) -> str:
    return f"{url.host}:{url.port}"


def _connections(http: aiohttp.ClientSession | None) -> int:
    connector = None if http is None else http.connector
    limits = (connector.limit, connector.limit_per_host) if connector is not None else ()
    return min(_CONNECTIONS, *(limit for limit in limits if limit), _CONNECTIONS)
