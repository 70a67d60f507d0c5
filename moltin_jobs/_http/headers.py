"""Headers of the requests of the API."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .. import __version__
from ..errors import ConfigurationError, describe
from ..settings import require

USER_AGENT = f"moltin-jobs/{__version__}"
_RESERVED = {
    "accept",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2


def request_headers(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of each API request, the ``extra`` ones of the user included.

    Raises:
        ConfigurationError: a header is invalid, or must not be set by the user.
    """
    headers = {"Accept": "application/json", "User-Agent": USER_AGENT}
    require(isinstance(extra, Mapping), "headers", "a mapping of names to values", extra)
    for name, value in extra.items():
        problem = None
        if not (isinstance(name, str) and isinstance(value, str) and value.isprintable()):
            problem = "and its value must be printable str"
        elif not _NAME.fullmatch(name):
            problem = "is not a valid header name"
        elif name.lower() in _RESERVED:
            problem = "is set by the client and cannot be overridden"
        if problem is not None:
            raise ConfigurationError(f"headers: {describe(name)} {problem}")
        if name.lower() == "user-agent":
            headers["User-Agent"] = f"{USER_AGENT} {value}"
        else:
            headers[name] = value
    return headers
