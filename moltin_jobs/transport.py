"""One exchange over HTTP: everything that aiohttp does, raises or lacks ends in this module.

What must happen at each send, aiohttp's own hidden resends included, is done in a client
middleware: the turn, the token, the grant, and the start of the attempt's time.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import ipaddress
import math
import re
import time
from collections.abc import Mapping

import aiohttp
from yarl import URL

from .auth import Auth, ClientCredentials, Secret, Tokens
from .decoding import MAX_BODY, Answer, decode_token
from .errors import ConfigurationError, TransportError, one_line, shown
from .pacing import Pacer
from .schedule import parse_retry_after
from .scope import Scope, Scopes, closed

_CONNECTIONS = 100
_USER_AGENT = f"moltin-jobs/{importlib.metadata.version('moltin-jobs')}"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_OURS = frozenset({"accept", "authorization", "connection", "content-length", "host"})
_UNTRUSTED = (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch)
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=None)
_KEPT_HEADERS = ("Location", "Retry-After", "X-Request-Id")
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


class _Attempt(Scope):
    """One exchange, and its client middleware, which is run for each send on the wire."""

    __slots__ = ("_noted_failures", "_pacer", "_rejected", "_tokens", "failure", "token")

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
        self._connections = asyncio.Semaphore(_connections(http))

    def url(self, path: str) -> URL:
        """The address of ``path``, which is made of safe characters only."""
        return self._base.with_path(self._prefix + path, encoded=True)

    async def get(self, url: URL, about: str) -> Answer:
        """One GET, and after a 401 one more with a new token if there can be one.

        Raises `TransportError` if no whole answer came, what getting a token raises, and
        `RuntimeError` when the session is closed.
        """
        tokens = self._tokens
        failures, rejected = tokens.failures, None
        while True:
            attempt = _Attempt(self._scopes, self._pacer, tokens, rejected, failures)
            answer = await self._exchange(attempt, "GET", url, about)
            if answer.status != 401 or rejected is not None or not tokens.renewable:
                return answer
            rejected = attempt.token

    async def close(self) -> None:
        """Close the connections, unless they are the caller's."""
        if self._own is not None:
            await self._own.close()

    async def _request_token(self) -> tuple[Secret, float | None]:
        url = self.url("/oauth/access_token")
        attempt = _Attempt(self._scopes, self._pacer)
        answer = await self._exchange(
            attempt, "POST", url, "the request for a token", self._credentials
        )
        token, lifetime = decode_token(answer)
        return Secret(token), lifetime

    async def _exchange(
        self,
        attempt: _Attempt,
        method: str,
        url: URL,
        about: str,
        credentials: ClientCredentials | None = None,
    ) -> Answer:
        failure: Exception
        try:
            with attempt:
                if credentials is not None:
                    # The place of its caller serves: no request of that caller is out.
                    return await self._answer(attempt, method, url, credentials)
                await self._connections.acquire()
                try:
                    return await self._answer(attempt, method, url, None)
                finally:
                    self._connections.release()
            failure = self._too_late(about, url) if attempt.expired else closed()
        except (aiohttp.ClientError, OSError) as error:
            failure = attempt.failure or self._failure(about, url, error, attempt)
        # Out here, since what is raised in there holds aiohttp's frames, and they the headers.
        raise failure

    async def _answer(
        self, attempt: _Attempt, method: str, url: URL, credentials: ClientCredentials | None
    ) -> Answer:
        """The answer but for the secret it was asked with, or as much as shows it too long."""
        http = self._foreign or self._own or self._opened()
        response = await http.request(
            method,
            url,
            data=None if credentials is None else credentials.form(),
            headers=None if http is self._own else self._headers,
            middlewares=(*http._middlewares, attempt),  # noqa: SLF001 (else it replaces them)
            allow_redirects=False,
            raise_for_status=False,
            timeout=_NO_TIMEOUT,
        )
        body, content = b"", response.content
        try:
            while not content.at_eof() and len(body) <= MAX_BODY:
                body += await content.readany()
        except BaseException:
            response.close()
            raise
        if len(body) > MAX_BODY:
            response.close()  # else the connection is free already
        headers = {}
        if not 200 <= response.status <= 299:
            headers = {k: response.headers[k] for k in _KEPT_HEADERS if k in response.headers}
        secret = attempt.token if credentials is None else credentials.client_secret
        if secret is not None and len(secret.value) >= _SHORTEST_SECRET:
            body = body.replace(secret.value.encode(), b"***")
            headers = {k: v.replace(secret.value, "***") for k, v in headers.items()}
        return Answer(url, response.status, headers, body[: MAX_BODY + 1], time.time())

    def _too_late(self, about: str, url: URL) -> TransportError:
        return TransportError(
            about,
            f"no whole answer came from {url.host}:{url.port} within {self._scopes.seconds:g} s",
            "Try again later, or with a longer request_timeout.",
        )

    def _failure(self, about: str, url: URL, error: Exception, attempt: _Attempt) -> TransportError:
        host = f"{url.host}:{url.port}"
        text = one_line(f"{type(error).__name__}: {error}")
        if attempt.token is not None:
            text = text.replace(attempt.token.value, "***")
        if isinstance(error, _UNTRUSTED):
            return TransportError(
                about,
                f"the certificate of {host} could not be verified ({text})",
                "Check base_url, or give http= a ClientSession whose ssl context trusts that host.",
                temporary=False,
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            return TransportError(
                about, f"{host} could not be reached ({text})", "Check base_url and the network."
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


def _connections(http: aiohttp.ClientSession | None) -> int:
    connector = None if http is None else http.connector
    limits = (connector.limit, connector.limit_per_host) if connector is not None else ()
    return min(_CONNECTIONS, *(limit for limit in limits if limit), _CONNECTIONS)
