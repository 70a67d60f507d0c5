"""Messages of the library in the words of the command line."""

import re

from .. import errors
from .._api.endpoints import MAY_EXIST

_PHRASES = {
    errors.AuthenticationError.advice: "Set EPCC_ACCESS_TOKEN to a token that has not expired "
    "(tokens live one hour), or set EPCC_CLIENT_ID and EPCC_CLIENT_SECRET.",
    errors.RateLimitError.advice: "Other clients may share the store's limit. Try again later, "
    "or ask the service's support for a higher limit.",
    MAY_EXIST: "The job may have been created: run 'moltin-jobs list' before you create it again.",
    "the client id and secret": "EPCC_CLIENT_ID and EPCC_CLIENT_SECRET",
    "use ClientCredentials of": "set EPCC_CLIENT_ID and EPCC_CLIENT_SECRET of",
    "pass an http_session whose SSL context trusts the certificate": "set SSL_CERT_FILE to a file "
    "with the certificate of its authority",
    ", or use a longer request_timeout": "",
    "Check the proxy": "Check the proxy (HTTPS_PROXY)",
    "a longer timeout": "a longer --timeout",
    "filter must be": "--filter must be",
    " Use poll_by='list'.": "",
    " Use a longer max_interval, or a higher rate_limit.": "",
    "the max_interval of the session's Polling": "20 s",
    "pass its kind:": "pass its --kind:",
    "kind must be": "--kind must be",
    "file_index must be": "--file-index must be",
    ", not None: ": ": ",
    "catalog_id must be": "CATALOG_ID must be",
    "job_type must be": "--type must be",
    "printable str": "printable text",
}
_EXCEPTION_NAME = re.compile(r" \([A-Z]\w+Error\)")
_BASE_URL = re.compile(r"\bbase_url\b(?![./]\w)")  # not in the name of a file
_LABELS = {
    errors.InvalidJobIdError: "invalid id",
    errors.JobTimeoutError: "timed out",
    errors.JobNotFoundError: "not found",
    errors.InvalidResponseError: "unreadable",
    errors.TransportError: "no response",
}


def reword(text: str, base_url_name: str) -> str:
    """Replace the names of the library by those that the user of a shell knows.

    Args:
        text: a message of the library.
        base_url_name: the option or variable that set the base URL.
    """
    for phrase, replacement in _PHRASES.items():
        text = text.replace(phrase, replacement)
    return _EXCEPTION_NAME.sub("", _BASE_URL.sub(base_url_name, text))


def label(error: errors.MoltinJobsError) -> str:
    """Return a few words for an error, for a column of a table."""
    default = f"status {error.status}" if isinstance(error, errors.APIError) else "error"
    return _LABELS.get(type(error), default)
