"""Removal of a token or a client secret from the response to a request that was sent with it."""

from __future__ import annotations

import re
from typing import Any

from ..settings import Secret
from .endpoints import Response

_MASK = "***"
_MIN_SECRET_LENGTH = 8
"""A shorter secret may be an ordinary word. It is masked only as a separate word."""


def mask(text: str, secret: Secret | None) -> str:
    """Replace the secret in ``text``."""
    if secret is None or secret.value not in text:
        return text
    return re.sub(_match_word_if_short(re.escape(secret.value), secret), _MASK, text)


def mask_body(response: Response) -> bytes:
    """Return the body without the secret, for an exception."""
    secret = response.secret
    if secret is None:
        return response.body
    # JSON may write any character as an escape.
    pattern = "".join(rf"(?:\\?{re.escape(c)}|\\u00{ord(c):02x})" for c in secret.value)
    text = response.body.decode("latin-1")
    masked = re.sub(_match_word_if_short(pattern, secret), _MASK, text, flags=re.IGNORECASE)
    return masked.encode("latin-1")


def mask_document(value: Any, secret: Secret, job_id: str | None) -> Any:
    """Replace the secret in all strings of a JSON document.

    The requested id is not masked, since a masked id would not match the request. A short secret is
    not masked in a string without spaces, which may be a key, a status or an address.
    """
    if isinstance(value, str):
        is_one_word = len(secret.value) < _MIN_SECRET_LENGTH and " " not in value
        return value if is_one_word or value == job_id else mask(value, secret)
    if isinstance(value, list):
        return [mask_document(item, secret, job_id) for item in value]
    if isinstance(value, dict):
        return {
            mask_document(key, secret, None): mask_document(item, secret, job_id)
            for key, item in value.items()
        }
    return value


def _match_word_if_short(pattern: str, secret: Secret) -> str:
    """Return the pattern of a secret. For a short secret, it matches only a separate word."""
    is_long = len(secret.value) >= _MIN_SECRET_LENGTH
    return pattern if is_long else rf"(?<![\w-]){pattern}(?![\w-])"
