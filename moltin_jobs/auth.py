"""Credentials, and the token that requests are sent with."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import logging
import math
import os
import traceback
from collections.abc import Awaitable, Callable
from typing import cast

import attrs

from ._tasks.single_flight import Flight, error_for_one_caller
from ._tasks.user_code import run_user_code
from .errors import (
    ConfigurationError,
    MoltinJobsError,
    SessionClosedError,
    TransportError,
    single_line,
)
from .settings import Secret, check_text, is_token, validator

_log = logging.getLogger("moltin_jobs.http")
_REFRESH_EARLY_SECONDS = 60.0
"""Seconds before the expiry of a token from which it is refreshed."""
_REFRESH_EARLY_FRACTION = 0.2
"""The same as a fraction of the token's lifetime. The shorter of the two is used."""
_RETRY_EARLY_REFRESH_SECONDS = 5.0
"""Seconds between a failed refresh and the next one, while the old token is still valid."""


def _to_secret(value: str) -> Secret:
    # attrs.evolve() passes the secret of the other instance.
    return value if isinstance(value, Secret) else Secret(value)


@attrs.frozen
class ClientCredentials:
    """Client id and secret of an application key. The session requests tokens with them.

    Raises:
        ConfigurationError: one of them is empty or not printable.
    """

    client_id: str = attrs.field(validator=validator(check_text))
    client_secret: Secret = attrs.field(converter=_to_secret, validator=validator(check_text))


Auth = str | ClientCredentials | Callable[[], Awaitable[str]]
"""A bearer token, client credentials, or an async callable that returns a token."""

FetchToken = Callable[[ClientCredentials], Awaitable[tuple[Secret, float]]]
"""Requests a token. Returns it with its lifetime in seconds, ``math.inf`` if that is unknown."""


def auth_from_env() -> Auth:
    """Return the credentials or the token that environment variables give.

    Raises:
        ConfigurationError: a variable is missing or invalid. The message names it.
    """
    client_id, client_secret = _variable("EPCC_CLIENT_ID"), _variable("EPCC_CLIENT_SECRET")
    if client_id and client_secret:
        return ClientCredentials(client_id.value, client_secret.value)
    if token := _variable("EPCC_ACCESS_TOKEN"):
        # Still a Secret: if another setting is invalid, the traceback shows the caller's locals.
        return cast("str", _check_token(token, "EPCC_ACCESS_TOKEN"))
    if client_id or client_secret:
        missing = "EPCC_CLIENT_SECRET" if client_id else "EPCC_CLIENT_ID"
        raise ConfigurationError(f"the environment variable {missing} is not set")
    raise ConfigurationError(
        "no credentials: set the environment variables EPCC_CLIENT_ID and EPCC_CLIENT_SECRET, or "
        "EPCC_ACCESS_TOKEN"
    )


def _variable(name: str) -> Secret | None:
    """Return the value of an environment variable, which no traceback with locals may show."""
    secret = Secret(os.environ.get(name, ""))
    if not secret.value.isprintable():
        raise ConfigurationError(f"{name} must consist of printable characters")
    return secret if secret.value else None


class TokenProvider:
    """Hold the token of one session, and refresh it.

    Only the request at the head of the queue calls `get`, so at most one refresh runs.
    ``queued_at`` is the moment of the loop's clock since which the calling attempt has waited.
    """

    def __init__(self, auth: Auth, request_token: FetchToken, *, timeout: float) -> None:
        self.token: Secret | None = None
        self.fresh_until = -math.inf
        """Moment of the loop's clock from which ``token`` should be refreshed."""
        self._expires_at = self._refreshed_at = self._failed_at = -math.inf
        self._fetch_token: Callable[[], Awaitable[tuple[Secret, float]]]
        self._make_refresh_error: Callable[[], BaseException] | None = None
        """Returns the exception of the last failed refresh, for one caller. ``None`` if there is
        none."""
        self.is_refreshable = not isinstance(auth, (str, Secret))
        """Whether a rejected token can be replaced."""
        if isinstance(auth, (str, Secret)):
            token = Secret(auth) if isinstance(auth, str) else auth
            self.token, self.fresh_until = _check_token(token, "auth"), math.inf
        elif callable(auth) and not isinstance(auth, type):
            self._fetch_token = functools.partial(_fetch_from_callable, auth, timeout)
        elif isinstance(auth, ClientCredentials):
            self._fetch_token = functools.partial(request_token, auth)
        else:
            raise ConfigurationError(
                f"auth must be a token, ClientCredentials or an async callable that returns a "
                f"token, not {type(auth).__name__}"
            )

    def reject(self, token: Secret, queued_at: float) -> None:
        """Drop a token that the service has rejected, so that no queued request is sent with it.

        A token that was refreshed after ``queued_at`` is kept. If it were dropped and the service
        rejected new tokens too, each queued request would cause another refresh.
        """
        if self.token is token and self._refreshed_at < queued_at:
            self.token = None
            self.fresh_until = self._expires_at = -math.inf

    async def get(self, queued_at: float, rejected: Secret | None) -> Secret:
        """Return a token that differs from ``rejected``, refreshed if necessary.

        A refresh that failed after ``queued_at`` fails this call too. Otherwise each queued
        request would repeat the refresh.
        """
        loop = asyncio.get_running_loop()
        token = self.token if self.token is not rejected else None
        if token is not None and loop.time() < self.fresh_until:
            return token
        if self._make_refresh_error is not None and self._failed_at >= queued_at:
            raise self._make_refresh_error()
        try:
            return await self._refresh()
        except SessionClosedError:
            raise
        except Exception as error:
            now = loop.time()
            if token is None or now >= self._expires_at:
                self._failed_at = now
                # Store a copy, since this caller may add a note to the exception it gets.
                shared = copy.copy(error) if isinstance(error, MoltinJobsError) else error
                self._make_refresh_error = functools.partial(
                    error_for_one_caller, shared, error.__traceback__
                )
                raise
            self.fresh_until = min(now + _RETRY_EARLY_REFRESH_SECONDS, self._expires_at)
            _log.warning(
                "early token refresh failed, retrying in %.1f s and using the token until then: %s",
                self.fresh_until - now,
                single_line(str(error)),
                extra={"error": type(error).__name__, "retry_in": self.fresh_until - now},
            )
            return token

    def forget_failure(self) -> None:
        """Drop the exception of a failed refresh, which keeps the frames of its callers alive."""
        self._make_refresh_error = None

    async def _refresh(self) -> Secret:
        token, lifetime = await self._fetch_token()
        self.forget_failure()
        now = self._refreshed_at = asyncio.get_running_loop().time()
        early = min(_REFRESH_EARLY_SECONDS, lifetime * _REFRESH_EARLY_FRACTION)
        self.token, self._expires_at = token, now + lifetime
        self.fresh_until = self._expires_at - early
        return token


def is_shared(error: BaseException) -> bool:
    """Return whether several calls may raise ``error`` itself.

    It is an auth callable's own, or the user's code has raised it in a request that waits share.
    """
    if isinstance(error, MoltinJobsError) or not isinstance(error, Exception):
        return False  # each call gets a copy, or its own cancellation
    codes = (_fetch_from_callable.__code__, Flight.run.__code__)
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def _check_token(token: Secret, source: str) -> Secret:
    if not is_token(token.value):
        raise ConfigurationError(
            f"{source} must be a bearer token: printable ASCII characters without spaces, and "
            f"without the word Bearer"
        )
    return token


async def _fetch_from_callable(
    function: Callable[[], Awaitable[str]], timeout: float
) -> tuple[Secret, float]:
    """Return the token that an auth callable returns. Its own exceptions are passed on."""
    awaitable = function()
    if not inspect.isawaitable(awaitable):
        del awaitable  # it may be the token
        raise ConfigurationError("the auth callable must be async: define it with 'async def'")
    try:
        async with asyncio.timeout(timeout) as limit:
            token = Secret(await run_user_code(awaitable))
    except TimeoutError:
        if not limit.expired():
            raise
    else:
        return _check_token(token, "the result of the auth callable"), math.inf
    raise TransportError(
        "the auth callable",
        f"it returned no token within {timeout:g} s",
        "Try again later, or use a longer request_timeout.",
    )
