"""Content of a response: its JSON, without the secret that the request was sent with."""

from __future__ import annotations

import json
from typing import Any

from .endpoints import Request, Response
from .masking import mask_document

_WHITE_SPACE = " \t\n\r"
"""White space that RFC 8259 allows around a document."""
_MAX_DEPTH = 32
LARGE_BODY = 1 << 17
"""Size in bytes from which a document is parsed in a thread. A list of this size takes some 4 ms,
and up to 40 ms if its items are tiny."""


def load_json(response: Response, request: Request) -> Any:
    """Return the JSON document of a response.

    Raises:
        ValueError: the body is too large or is not JSON. The message is the reason.
    """
    if len(response.body) > request.max_body:
        raise ValueError(f"the body is larger than {request.max_body} bytes")
    try:
        text = response.body.decode().removeprefix("\ufeff").strip(_WHITE_SPACE)
        is_large = len(response.body) > LARGE_BODY
        decoder = _gil_releasing_decoder if is_large else _decoder
        document, end = decoder.raw_decode(text)  # decode() searches for white space again
        if end < len(text):
            raise json.JSONDecodeError("Extra data", text, end)
        secret = response.secret
        # JSON may escape a slash as "\/", so a secret may be in the document without being
        # literally in the text.
        if secret is not None and (secret.value in text or "\\" in text):
            document = mask_document(document, secret, request.job_id)
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


def is_shallow(value: object, depth: int = _MAX_DEPTH) -> bool:
    """Return whether a JSON value is nested less deeply than pickle, which recurses, can follow."""
    if isinstance(value, (dict, list)):
        items = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(is_shallow(item, depth - 1) for item in items)
    return True


def _parse_int(digits: str) -> float:
    try:
        return int(digits)
    except ValueError:  # it has more digits than int() accepts
        return float(digits)


def _return_unchanged(value: dict[str, Any]) -> dict[str, Any]:
    return value


_decoder = json.JSONDecoder(parse_int=_parse_int)
# Without a hook in Python, the decoder holds the GIL until it has finished.
_gil_releasing_decoder = json.JSONDecoder(parse_int=_parse_int, object_hook=_return_unchanged)
