"""Headers of requests."""

from __future__ import annotations

import re
from collections.abc import Mapping

import aiohttp

from .. import __version__
from ..errors import ConfigurationError, describe

USER_AGENT = f"moltin-jobs/{__version__}"
_RESERVED = frozenset(
    {
        "accept",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
    }
)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_FILE_HEADERS = frozenset({"accept", "accept-encoding", "connection", "user-agent"})


def request_headers(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of each API request, the ``extra`` ones of the user included.

    Raises:
        ConfigurationError: a header is invalid, or must not be set by the user.
    """
    headers = {"Accept": "application/json", "User-Agent": USER_AGENT}
    if not isinstance(extra, Mapping):
        raise ConfigurationError(
            f"headers must be a mapping of names to values, not {describe(extra)}"
        )
    for name, value in extra.items():
        if not (isinstance(name, str) and isinstance(value, str) and value.isprintable()):
            raise ConfigurationError(
                f"headers: {describe(name)} and its value must be printable str"
            )
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"headers: {describe(name)} is not a valid header name")
        if name.lower() in _RESERVED:
            raise ConfigurationError(
                f"headers: {describe(name)} is set by the client and cannot be overridden"
            )
        if name.lower() == "user-agent":
            headers["User-Agent"] = f"{USER_AGENT} {value}"
        else:
            headers[name] = value
    return headers


async def strip_headers(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Client middleware that sends only the necessary headers to the host of a file.

    The user's ``http_session`` may add cookies, default headers and credentials of its own.
    """
    for name in list(request.headers):
        if name.lower() not in _FILE_HEADERS:
            request.headers.popall(name, None)  # a name that occurs twice is removed at once
    request.headers["Host"] = str(request.url.host_port_subcomponent)
    return await handler(request)
