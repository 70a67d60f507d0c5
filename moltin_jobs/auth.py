"""Where tokens come from, and when they are renewed: by one caller while the others wait.

There is no task that could be cancelled under somebody else: whoever holds the lock renews, and
when its caller is cancelled, the next in the queue does.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from ._api.parsing import is_token
from .errors import ConfigurationError, copied

_EARLY_SECONDS = 60.0
_EARLY_PART = 0.2

Renewal = Callable[[], Awaitable[tuple["Secret", float | None]]]
"""Gets a new token and the seconds that it lives, if known."""


@attrs.frozen(repr=False)
class Secret:
    """A string that is shown by no repr, so neither by a log nor by a traceback's locals."""

    value: str

    def __repr__(self) -> str:
        return "Secret(...)"


def _text(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    text = value.value if isinstance(value, Secret) else value
    if not isinstance(text, str) or not text or not text.isprintable():
        raise ConfigurationError(
            f"ClientCredentials.{attribute.name} must be a non-empty str of printable characters"
        )


@attrs.frozen
class ClientCredentials:
    """What an application key of the store gives; tokens are got with it, and renewed."""

    client_id: str = attrs.field(validator=_text)
    client_secret: Secret = attrs.field(converter=Secret, validator=_text)

    def form(self) -> dict[str, str]:
        """The documented body of ``POST /oauth/access_token``."""
        return {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret.value,
        }


Auth = str | ClientCredentials | Callable[[], Awaitable[str]]


def _checked(token: object, origin: str) -> Secret:
    if not isinstance(token, str) or not is_token(token):
        raise ConfigurationError(
            f"{origin} must be a bearer token: a non-empty str of printable ASCII without spaces, "
            f"the token alone without the word Bearer before it"
        )
    return Secret(token)


class Tokens:
    """The token that the requests of one session are sent with."""

    def __init__(self, auth: Auth, request_token: Renewal) -> None:
        self._held: Secret | None = None
        self._renew: Renewal | None = None
        if isinstance(auth, ClientCredentials):
            self._renew = request_token
        elif isinstance(auth, str):
            self._held = _checked(auth, "auth")
        elif callable(auth):
            self._renew = _from_callable(auth)
        else:
            raise ConfigurationError(
                f"auth must be a token, ClientCredentials or an async callable that returns a "
                f"token, not {type(auth).__name__}"
            )
        self._renew_at = math.inf
        self._lock = asyncio.Lock()
        self.failures = 0
        """How many renewals have failed. Whoever may ask for the token notes it beforehand."""
        self._failure: Exception | None = None

    @property
    def renewable(self) -> bool:
        """Whether a refused token can be replaced."""
        return self._renew is not None

    def usable(self, now: float, rejected: Secret | None) -> Secret | None:
        """The token to send ``now``, unless it has to be renewed first."""
        fresh = now < self._renew_at
        return self._held if fresh and self._held is not rejected else None

    async def get(self, noted_failures: int, rejected: Secret | None = None) -> Secret:
        """The token to send now, which is not the one that was ``rejected``.

        A renewal that failed since ``noted_failures`` fails this call too, instead of each caller
        trying again in turn.
        """
        loop = asyncio.get_running_loop()
        if token := self.usable(loop.time(), rejected):
            return token
        async with self._lock:
            if token := self.usable(loop.time(), rejected):
                return token
            if self._failure is not None and self.failures > noted_failures:
                raise copied(self._failure)
            return await self._renewed()

    async def _renewed(self) -> Secret:
        assert self._renew is not None, "a static token is always usable"  # noqa: S101 (for mypy)
        try:
            token, lifetime = await self._renew()
        except Exception as error:
            self.failures += 1
            self._failure = error
            raise
        self._failure = None
        self._held = token
        self._renew_at = math.inf
        if lifetime is not None:
            early = min(_EARLY_SECONDS, lifetime * _EARLY_PART)
            self._renew_at = asyncio.get_running_loop().time() + lifetime - early
        return token


def _from_callable(call: Callable[[], Awaitable[str]]) -> Renewal:
    async def renew() -> tuple[Secret, float | None]:
        awaitable = call()
        if not inspect.isawaitable(awaitable):
            raise ConfigurationError(
                "the callable given as auth must be async: define it by 'async def'"
            )
        return _checked(await awaitable, "what the callable given as auth returns"), None

    return renew
