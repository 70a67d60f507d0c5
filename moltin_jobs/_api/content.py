"""Content of a response: its JSON, without the secret that the request was sent with."""

from __future__ import annotations

import json
import re
from typing import Any

from ..settings import Secret
from .endpoints import Request, Response

LARGE_BODY = 1 << 20
"""Size in bytes from which a document is parsed in a thread."""
_MASK = "***"
_MIN_SECRET_LENGTH = 8
"""A shorter secret is masked only as a whole word, since it may be a part of ordinary words."""


def load_json(response: Response, request: Request) -> Any:
    """Return the JSON document of a response.

    Raises:
        ValueError: the body is too large, or no JSON. The message is the reason.
    """
    if len(response.body) > request.max_body:
        raise ValueError(f"the body is larger than {request.max_body} bytes")
    try:
        text = response.body.decode().removeprefix("\ufeff")
        is_large = len(response.body) > LARGE_BODY
        document = (_yielding_decoder if is_large else _decoder).decode(text)
        secret = response.secret
        # JSON may write a slash as "\/", so that the text does not contain the secret as it is.
        if secret is not None and (secret.value in text or "\\" in text):
            document = _mask_document(document, secret, request.job_id)
    except UnicodeDecodeError:
        raise ValueError("the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        reason = f"the body is not JSON ({error})" if text.strip() else "the body is empty"
        raise ValueError(reason) from None
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    return document


def as_object(value: object) -> dict[str, Any]:
    """Return a JSON object. Anything else counts as an empty one."""
    return value if isinstance(value, dict) else {}


def mask(text: str, secret: Secret | None) -> str:
    """Replace the secret in ``text``."""
    if secret is None or secret.value not in text:
        return text
    return re.sub(_delimit(re.escape(secret.value), secret), _MASK, text)


def mask_body(response: Response) -> bytes:
    """Return the body without the secret, for an exception."""
    secret = response.secret
    if secret is None:
        return response.body
    # JSON may write any character as an escape.
    pattern = "".join(rf"(?:\\?{re.escape(c)}|\\u00{ord(c):02x})" for c in secret.value)
    text = response.body.decode("latin-1")
    masked = re.sub(_delimit(pattern, secret), _MASK, text, flags=re.IGNORECASE)
    return masked.encode("latin-1")


def _delimit(pattern: str, secret: Secret) -> str:
    is_long = len(secret.value) >= _MIN_SECRET_LENGTH
    return pattern if is_long else rf"(?<![\w-]){pattern}(?![\w-])"


def _parse_int(digits: str) -> float:
    try:
        return int(digits)
    except ValueError:  # it has more digits than int() accepts
        return float(digits)


def _keep(value: dict[str, Any]) -> dict[str, Any]:
    return value


_decoder = json.JSONDecoder(parse_int=_parse_int)
# Without a hook in Python, the decoder holds the GIL until it has finished.
_yielding_decoder = json.JSONDecoder(parse_int=_parse_int, object_hook=_keep)


def _mask_document(value: Any, secret: Secret, job_id: str | None) -> Any:
    """Mask all strings, except the requested id: a masked id would not match the request."""
    if isinstance(value, str):
        return value if value == job_id else mask(value, secret)
    if isinstance(value, list):
        return [_mask_document(item, secret, job_id) for item in value]
    if isinstance(value, dict):
        return {
            mask(key, secret): _mask_document(item, secret, job_id) for key, item in value.items()
        }
    return value
