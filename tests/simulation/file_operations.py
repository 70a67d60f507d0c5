"""Operations of the actors that are about files, and checks that a file is whole."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moltin_jobs import Job, JobsSession, JobTimeoutError, SessionClosedError

from .actors import Actor
from .service import BIG, content_of_job
from .user_code import make_callback
from .worlds import BIG_JOB, JobPlan

MAX_CHUNK = 256 << 10
"""Bytes of the longest chunk of a file."""
MAX_ROWS = 3000
"""Rows of the longest file that is parsed again: a longer one would block the loop."""


async def export(
    actor: Actor,
    session: JobsSession,
    *,
    timeout: float | None,
    destination: bool,
    callback: str,
    **_: Any,
) -> Job:
    """Export orders."""
    actor.creation_key = f"eq(number,{actor.plan.number})"
    with checked_file(actor) as path:
        job = await session.export_orders(
            filter=actor.creation_key,
            destination=path if destination else None,
            timeout=timeout,
            on_created=make_callback(callback),
        )
        if destination:
            check_content(actor, path.read_bytes(), job.id)
    return job


async def download(
    actor: Actor,
    session: JobsSession,
    *,
    job: JobPlan,
    timeout: float | None,
    max_bytes: int | None,
    **_: Any,
) -> None:
    """Download a file."""
    with checked_file(actor) as path:
        await session.download(
            job.id,
            path,
            kind=job.kind,
            file_index=index_of(job),
            timeout=timeout,
            max_bytes=max_bytes,
        )
        check_content(actor, path.read_bytes(), job.id)
        check_size(actor, path.stat().st_size, max_bytes)


def check_size(actor: Actor, size: int, max_bytes: int | None) -> None:
    """Check that no more of a file was accepted than the caller allows."""
    if max_bytes is not None and size > max_bytes:
        actor.context.violate(f"{actor}: {size} bytes, at most {max_bytes} are allowed")


def index_of(job: JobPlan) -> int | None:
    """Return the number of the file to read."""
    return 1 if job.kind == "pxm" else None


def old_content(actor: Actor) -> bytes | None:
    """Return the content of the file before the call, or ``None`` if it is not there."""
    return b"old" if actor.plan.number % 2 else None


def saved_content(path: Path) -> bytes | None:
    """Return the content of a file, or ``None`` if it is not there."""
    return path.read_bytes() if path.exists() else None


@contextlib.contextmanager
def checked_file(actor: Actor) -> Iterator[Path]:
    """Give a path whose file is whole or unchanged at the end, with nothing beside it."""
    context = actor.context
    actor.path = path = context.directory / f"{actor.plan.number}" / "file.csv"
    path.parent.mkdir()
    old = old_content(actor)
    if old is not None:
        path.write_bytes(old)
    try:
        yield path
    except BaseException as error:
        # The last step, in a thread, cannot be interrupted. `check_saved_file` looks again.
        is_interrupted = isinstance(
            error, asyncio.CancelledError | JobTimeoutError | SessionClosedError
        )
        if saved_content(path) != old and not (is_interrupted and context.disk_seconds):
            context.violate(f"{actor} has failed, and a file is saved")
        raise
    finally:
        others = [one.name for one in path.parent.iterdir() if one != path]
        if others and not context.disk_seconds:  # else its removal may take a while
            context.violate(f"{actor} leaves {others}")


def check_saved_file(actor: Actor, job_ids: list[str]) -> None:
    """Check in the end that the file of an actor is unchanged, or that of one of these jobs."""
    if actor.path is None:
        return
    content = saved_content(actor.path)
    is_unchanged = content == old_content(actor)
    if content is None or is_unchanged:
        is_right = is_unchanged
    else:
        is_right = any(is_whole(actor, content, job_id) for job_id in job_ids)
    if not is_right:
        actor.context.violate(f"{actor}: the saved file is neither whole nor unchanged")


def is_whole(actor: Actor, content: bytes, job_id: str) -> bool:
    """Return whether a file is whole."""
    if job_id == BIG_JOB:
        return len(content) == BIG
    return any(content == content_of_job(job_id, part) for part in parts_of(actor))


def parts_of(actor: Actor) -> list[str]:
    """Return the names of the files that an actor may get."""
    if actor.plan.operation == "export":
        return ["1"]
    return ["delta", "2" if actor.plan.options["job"].kind == "pxm" else "1"]


def check_content(actor: Actor, content: bytes, job_id: str) -> None:
    """Check that a file is whole."""
    if not is_whole(actor, content, job_id):
        actor.context.violate(f"{actor}: {len(content)} bytes of {job_id} are not its file")


async def read_file(
    actor: Actor,
    session: JobsSession,
    *,
    job: JobPlan,
    reader: str,
    pause: float,
    max_bytes: int | None,
    leave_after: int | None,
    **_: Any,
) -> None:
    """Read a file without a disk."""
    async with session.open_file(
        job.id, kind=job.kind, file_index=index_of(job), max_bytes=max_bytes
    ) as file:
        if reader == "all":
            content = await file.read()
            check_content(actor, content, job.id)
            check_size(actor, len(content), max_bytes)
            return
        items: Any = file.rows() if reader == "rows" else file
        read: list[Any] = []
        size = 0
        async for item in items:
            if reader == "chunks":
                size += len(item)
                check_chunk(actor, len(item), size, max_bytes)
            read.append(None if job.id == BIG_JOB else item)
            if len(read) == leave_after:
                return
            if pause and len(read) < 5:
                await asyncio.sleep(pause)
        if job.id != BIG_JOB:
            check_items(actor, reader, read, job.id)
        elif reader == "chunks" and size != BIG:
            actor.context.violate(f"{actor}: {size} bytes of the big file")


def check_chunk(actor: Actor, length: int, size: int, max_bytes: int | None) -> None:
    """Check a chunk of a file. ``size`` is that of all chunks so far."""
    check_size(actor, size, max_bytes)
    if not 0 < length <= MAX_CHUNK:
        actor.context.violate(f"{actor}: a chunk of {length} bytes")


def check_items(actor: Actor, reader: str, items: list[Any], job_id: str) -> None:
    """Check that the chunks are those of a file, or the rows those of `csv.DictReader`."""
    if reader == "chunks":
        check_content(actor, b"".join(items), job_id)
        return
    texts = [content_of_job(job_id, part).decode() for part in parts_of(actor)]
    texts = [text for text in texts if len(items) == max(text.count("\n") - 1, 0)]
    is_right = bool(texts)
    if len(items) <= MAX_ROWS:
        is_right = any(items == [*csv.DictReader(io.StringIO(text))] for text in texts)
    if not is_right:
        actor.context.violate(f"{actor}: {len(items)} rows of {job_id} are not its rows")


async def address(actor: Actor, session: JobsSession, *, job: JobPlan, **_: Any) -> None:
    """Get the address of a file."""
    url = await session.get_file_url(job.id, kind=job.kind, file_index=index_of(job))
    if f"/files/{job.id}" not in url:
        actor.context.violate(f"{actor}: the address is that of another file")
