"""Reasons of the exceptions of aiohttp and of the operating system, for a `TransportError`.

No message contains bytes that the peer has sent, or an address with a signature.
"""

from __future__ import annotations

import aiohttp

from ..errors import single_line
from .addresses import host_of, join_host

_CERTIFICATE_ADVICE = (
    "Check base_url, or pass an http_session whose SSL context trusts the certificate."
)


def explain(error: Exception, host: str) -> tuple[str, str, bool]:
    """Return why a request to ``host`` failed, what to do, and whether a retry may succeed."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return _explain_connecting(error, host)
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        peer = join_host(error.host, error.port)
        return (
            f"the certificate of {peer} does not have the expected fingerprint",
            _CERTIFICATE_ADVICE,
            False,
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        proxy = host_of(error.request_info.real_url)
        reason = f"the proxy {proxy} responded with status {error.status}"
        return reason, "Check the proxy and its credentials.", error.status != 407
    if isinstance(error, aiohttp.ClientPayloadError):
        reason = f"the response of {host} is truncated, or cannot be decoded"
    elif isinstance(error, aiohttp.ClientResponseError):
        reason = f"the response of {host} is not valid HTTP"
    else:
        reason = f"the connection to {host} was lost before the response was complete"
    return f"{reason} ({type(error).__name__})", "Try again later.", True


def _explain_connecting(error: aiohttp.ClientConnectorError, host: str) -> tuple[str, str, bool]:
    peer = join_host(error.host, error.port)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        # Only OpenSSL's own exceptions have this attribute.
        cause = getattr(error.certificate_error, "verify_message", "unknown reason").rstrip(".")
        return (
            f"the certificate of {peer} could not be verified ({cause})",
            _CERTIFICATE_ADVICE,
            False,
        )
    cause = single_line(error.strerror or str(error.os_error))
    advice = "Check base_url and the network."
    # If a name cannot be resolved, aiohttp raises the same exception for the proxy as for the host.
    # Only the peer tells them apart.
    if isinstance(error, aiohttp.ClientProxyConnectionError) or peer != host:
        peer, advice = f"the proxy {peer}", "Check the proxy and the network."
    return f"cannot connect to {peer} ({cause})", advice, True
