"""Search for secrets where none may be: messages, log records, pickles, locals of tracebacks."""

from __future__ import annotations

import logging
import pickle
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import moltin_jobs
from moltin_jobs import MoltinJobsError

TOKEN = "s3cr3t-token"
CLIENT_SECRET = "s3cr3t-client"
PACKAGE = str(Path(moltin_jobs.__file__).parent)
TESTING = str(Path(PACKAGE) / "testing")
_TOKEN = re.compile(r"s3cr3t-\w+|issued-\w{8}")
_SIGNATURE = re.compile(r"signature=\w{8}")


def find_secret(text: str) -> str | None:
    """Return the token, client secret or signature that a text contains."""
    match = _TOKEN.search(text) or _SIGNATURE.search(text)
    return None if match is None else match[0]


def find_secret_in_local(value: object) -> str | None:
    """Return the secret that a local of a traceback shows.

    The address of a file may be there, but not in the repr of an object of ours.
    """
    text = repr(value)
    match = _TOKEN.search(text)
    if match is None and type(value).__module__.startswith("moltin_jobs."):
        match = _SIGNATURE.search(text)
    return None if match is None else match[0]


def check_error(error: BaseException) -> str | None:
    """Return where an exception shows a secret, or how it fails to be pickled."""
    for one in _chain(error):
        if find_secret(f"{one} {one!r} {getattr(one, '__notes__', '')}"):
            return f"{one!r} shows a secret"
        for frame, _ in traceback.walk_tb(one.__traceback__):
            filename = frame.f_code.co_filename
            if not filename.startswith(PACKAGE) or filename.startswith(TESTING):
                continue
            for name, value in frame.f_locals.items():
                if find_secret_in_local(value):
                    return f"the local {name} of {frame.f_code.co_qualname} shows a secret"
    if isinstance(error, MoltinJobsError):
        content = pickle.dumps(error)
        if _TOKEN.search(content.decode("latin-1")):  # it may contain the address of a file
            return f"the pickle of {error!r} contains a secret"
        if str(pickle.loads(content)) != str(error):  # noqa: S301 (our own)
            return f"{error!r} is another one after pickling"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    todo = [error]
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.append(one)
        todo += [other for other in (one.__cause__, one.__context__) if other is not None]
        yield one


class LogCheck(logging.Handler):
    """Handler that checks each log record."""

    def __init__(
        self, violate: Callable[[str], None], log: Callable[[str], None], job_ids: set[str]
    ) -> None:
        super().__init__()
        self._violate = violate
        self._log = log
        self._job_ids = job_ids
        """Ids of the jobs that records above the level DEBUG name."""

    def emit(self, record: logging.LogRecord) -> None:
        """Check a record."""
        message = record.getMessage()
        texts = [message, str(record.__dict__)]
        if record.exc_info and record.exc_info[1] is not None:
            texts += traceback.format_exception(record.exc_info[1])
        if find_secret(" ".join(texts)):
            self._violate(f"a log record shows a secret: {message}")
        if record.levelno > logging.DEBUG:
            self._job_ids.add(getattr(record, "job_id", ""))
        if record.name in ("asyncio", "aiohttp.server") and record.levelno >= logging.WARNING:
            self._violate(f"{record.name} logs: {message}")
        elif record.levelno >= logging.WARNING:
            self._log(f"{record.name}: {message}")
