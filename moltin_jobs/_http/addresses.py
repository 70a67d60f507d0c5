"""Addresses to which the client sends requests, and their validation."""

from __future__ import annotations

import ipaddress
import string
import urllib.parse

from yarl import URL

from ..errors import ConfigurationError, TransportError, describe, single_line

_INVALID_URL_ERRORS = (ValueError, IndexError)
"""Exceptions of yarl for an invalid URL. The second one is for ``https://[::1]@``."""


def parse_base_url(text: object, name: str = "base_url") -> URL:
    """Return the base URL of the API, to which tokens are sent.

    Raises:
        ConfigurationError: a token must not be sent there. The message names the setting, ``name``.
    """
    url = parse_url(text) if isinstance(text, str) else None
    if url is None or not _is_valid_base_url(url):
        # Credentials in the URL must not get into the message.
        value = describe(text.rpartition("@")[2]) if isinstance(text, str) else type(text).__name__
        raise ConfigurationError(
            f"{name} must be https://HOST[:PORT][/PATH], or http:// to a loopback address, "
            f"without credentials, query or fragment, not {value}"
        )
    if url.path.rstrip("/").endswith("/v2"):
        raise ConfigurationError(
            f"{name} must not end with /v2, which the client adds itself: {describe(text)}"
        )
    return url


def parse_url(text: str) -> URL | None:
    """Return the URL, or ``None`` if no request can be sent to it."""
    try:
        url = URL(text)
        _check_host(url)
    except _INVALID_URL_ERRORS:
        return None
    return url if text.isprintable() and " " not in text else None


def _is_valid_base_url(url: URL) -> bool:
    has_more = url.user is not None or url.password is not None or url.query_string or url.fragment
    return not has_more and _is_allowed(url, loopback=True)


def check_file_url(
    address: str, description: str, *, loopback: bool, job_id: str | None = None
) -> URL:
    """Return the address of a file, exactly as received, since a signature may depend on it.

    ``loopback`` allows http to loopback.

    Raises:
        TransportError: the address is invalid or not allowed. The message names the host only.
    """
    reason = "its address is invalid"
    try:
        url = _exact_url(address)
        _check_host(url)
        if _is_allowed(url, loopback=loopback):
            return url
        if url.scheme and url.host:
            origin = single_line(f"{url.scheme}://{url.raw_host}")
            reason = f"refusing to download from {origin}: only https is allowed"
    except _INVALID_URL_ERRORS:
        pass
    advice = "Report this to the service's support."
    raise TransportError(description, reason, advice, retryable=False, job_id=job_id)


def join_redirect(url: URL, location: str) -> str:
    """Return the target of a redirect from ``url``."""
    try:
        return str(url.join(_exact_url(location)))
    except _INVALID_URL_ERRORS:
        return location


def host_of(url: URL) -> str:
    """Return the host and the port, for messages."""
    return join_host(url.raw_host or "", url.port)


def join_host(host: str, port: int | None) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _exact_url(address: str) -> URL:
    # Only the characters that cannot be sent are quoted. URL() by itself would also decode some.
    return URL(urllib.parse.quote(address.strip(), safe=string.punctuation), encoded=True)


def _is_allowed(url: URL, *, loopback: bool) -> bool:
    if url.scheme == "http":
        return loopback and _is_loopback(url.host or "")
    return url.scheme == "https" and bool(url.host)


def _check_host(url: URL) -> None:
    """Raise ``ValueError`` for a host with an empty or a too long label."""
    # The resolver of aiohttp would raise a bare UnicodeError.
    (url.host or "").encode("idna")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
