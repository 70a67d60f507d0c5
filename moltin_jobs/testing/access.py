"""Access to the simulator: its tokens and its rate limit."""

import collections
import math
import random
from collections.abc import Mapping

import attrs

from .jobs import loop_time

ROUNDING = 1e-6  # sums of times are inexact on a virtual clock


@attrs.define(repr=False)
class TokenIssuer:
    """Issue and check access tokens. One token is fixed and never expires."""

    _random: random.Random
    _fixed_token: str
    _client_id: str
    _client_secret: str
    lifetime: float
    _expiry: dict[str, float] = attrs.field(factory=dict, init=False)

    def issue(self) -> str:
        """Return a new token."""
        token = f"issued-{self._random.getrandbits(128):032x}"
        self._expiry[token] = loop_time() + self.lifetime
        return token

    def revoke_all(self) -> None:
        """Make every issued token invalid."""
        self._expiry.clear()

    def has_credentials(self, form: Mapping[str, object]) -> bool:
        """Return whether a form contains the right client id and secret."""
        credentials = (form.get("client_id"), form.get("client_secret"))
        return credentials == (self._client_id, self._client_secret)

    def is_authorized(self, header: str) -> bool:
        """Return whether an ``Authorization`` header contains a valid token."""
        scheme, _, token = header.partition(" ")
        is_valid = token == self._fixed_token or self._expiry.get(token, 0.0) > loop_time()
        return scheme == "Bearer" and is_valid


class RateWindow:
    """Count the requests of the last second."""

    def __init__(self, rate_limit: int | None) -> None:
        if rate_limit is not None and rate_limit < 1:
            raise ValueError(f"rate_limit must be at least 1, or None, not {rate_limit!r}")
        self._rate_limit = math.inf if rate_limit is None else rate_limit
        self._times: collections.deque[float] = collections.deque()

    def admit(self) -> bool:
        """Return whether a request is within the limit. Refused requests do not count."""
        now = loop_time()
        while self._times and self._times[0] <= now - 1 + ROUNDING:
            self._times.popleft()
        if len(self._times) >= self._rate_limit:
            return False
        self._times.append(now)
        return True
