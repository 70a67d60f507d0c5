"""Neither the token nor the client secret is found in anything that a fault leaves behind."""

import asyncio
import contextlib
import copy
import json
import logging
import pickle
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import TracebackType

import pytest

import moltin_jobs
from moltin_jobs import (
    ClientCredentials,
    Job,
    JobsSession,
    JobTimeoutError,
    MoltinJobsError,
    Retry,
)
from tests.http.test_faults import FAULTS, TOKEN_FAULTS, raw
from tests.raw_server import RawServer, Script, hang, http, job, send

pytestmark = pytest.mark.looptime

OURS = str(Path(moltin_jobs.__file__).parent)
SECRET = "5ecret-0f-the-client"
TOKEN = "t0ken-that-was-issued"
ONCE = Retry(max_tries=1)
ECHOES: dict[str, Script] = {
    "401 that repeats the token": send(
        http(json.dumps({"errors": [{"title": TOKEN}]}).encode(), status="401 No")
    ),
    "500 that repeats the token": send(
        http(
            json.dumps({"title": "x", "detail": f"Bearer {TOKEN}", "request_id": TOKEN}).encode(),
            status="500 No",
        )
    ),
    "redirect that repeats the token": send(
        http(status="302 No", headers=f"Location: https://evil.example/?t={TOKEN}\r\n")
    ),
    "header that repeats the token": send(
        http(status="500 No", headers=f"X-Request-Id: {TOKEN}\r\n")
    ),
    "body that repeats the token": raw(b"<html>" + TOKEN.encode()),
    "garbage that repeats the token": send(f"{TOKEN} {TOKEN} {TOKEN}\r\n\r\n".encode()),
}


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and all that hangs on it."""
    if error is not None:
        yield error
        yield from chain(error.__cause__)
        yield from chain(error.__context__)


def locals_of_ours(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_filename.startswith(OURS):
            for name, value in frame.f_locals.items():
                yield f"{name}={value!r} {getattr(value, '__dict__', '')!r}"
        trace = trace.tb_next


def left_behind_by(error: MoltinJobsError) -> Iterator[str]:
    for link in chain(error):
        yield repr(link)
        yield str(link)
        yield repr(vars(link))
        yield from locals_of_ours(link.__traceback__)
    yield "".join(traceback.format_exception(error))
    yield "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format())
    yield repr(pickle.dumps(error))


@contextlib.contextmanager
def everything_recorded(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    caplog.set_level(logging.DEBUG)
    kept: list[str] = []
    with warnings.catch_warnings(record=True) as warned:
        yield kept
    kept += [str(warning) for warning in warned]
    kept += [f"{record.getMessage()} {vars(record)}" for record in caplog.records]


@pytest.mark.parametrize("name", [*FAULTS, *ECHOES])
async def test_nothing_of_the_token(name: str, caplog: pytest.LogCaptureFixture) -> None:
    script = ECHOES[name] if name in ECHOES else FAULTS[name][0]
    with everything_recorded(caplog) as kept:
        async with RawServer([script, script, *[hang] * 9]) as server:
            session = JobsSession(TOKEN, base_url=server.url, retry=ONCE)
            kept.append(f"{session!r} {vars(session)!r} {vars(session._transport)!r}")
            async with session:
                try:
                    await session.get_job("a")
                except MoltinJobsError as error:
                    kept.extend(left_behind_by(error))
                try:
                    await session.wait_for_job("a", timeout=30)
                except MoltinJobsError as error:
                    kept.extend(left_behind_by(error))
            assert TOKEN.encode() in b"".join(server.requests)
    assert kept
    assert [text for text in kept if TOKEN in text] == []


@pytest.mark.parametrize("name", TOKEN_FAULTS)
async def test_nothing_of_the_client_secret(name: str, caplog: pytest.LogCaptureFixture) -> None:
    auth = ClientCredentials("the-client", SECRET)
    good = raw(json.dumps({"access_token": TOKEN}).encode())
    with everything_recorded(caplog) as kept:
        async with RawServer([TOKEN_FAULTS[name][0], good, *[hang] * 9]) as server:
            session = JobsSession(auth, base_url=server.url, retry=ONCE)
            kept.append(f"{auth!r} {session!r} {vars(session)!r} {vars(session._transport)!r}")
            async with session:
                for _ in range(2):
                    try:
                        await session.wait_for_job("a", timeout=30)
                    except MoltinJobsError as error:
                        kept.extend(left_behind_by(error))
            kept.append(repr(vars(session._transport._tokens)))
    assert [text for text in kept if TOKEN in text or SECRET in text] == []


def _identity(error: MoltinJobsError) -> MoltinJobsError:
    return error


async def errors_as_raised() -> list[MoltinJobsError]:
    """One of each kind, out of a real session."""
    scripts = {type_.__name__: script for script, type_ in FAULTS.values() if type_ is not None}
    found: list[MoltinJobsError] = []

    async def collect(script: Script, call: str, *arguments: str) -> None:
        async with RawServer([script] * 3) as server:
            async with JobsSession(TOKEN, base_url=server.url, retry=ONCE) as session:
                try:
                    await getattr(session, call)(*arguments)
                except MoltinJobsError as error:
                    found.append(error)

    for script in scripts.values():
        await collect(script, "get_job", "a")
    for status in ("failed", "cancelled"):
        await collect(raw(job(status, error="why")), "wait_for_job", "a")
    await collect(hang, "get_job", "..")
    try:
        JobsSession(TOKEN, rate_limit=0)
    except MoltinJobsError as error:
        found.append(error)
    async with RawServer([raw(job()), hang]) as server:
        async with JobsSession(TOKEN, base_url=server.url) as session:
            try:
                await session.wait_for_job("a", timeout=25)
            except JobTimeoutError as error:
                found.append(error)
    return found


async def test_every_error_travels() -> None:
    errors = await errors_as_raised()
    raised = {type(error).__name__ for error in errors}
    defined = {name for name in moltin_jobs.__all__ if name.endswith("Error")}
    assert defined - raised == {"MoltinJobsError"}
    with ProcessPoolExecutor(1) as pool:
        elsewhere = list(pool.map(_identity, errors))
    for number, error in enumerate(errors):
        error.add_note("a note")
        copies = [pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)]  # noqa: S301 (our own)
        for other in [*copies, elsewhere[number]]:
            assert type(other) is type(error)
            assert str(other) == str(error)
            told = {key: str(value) for key, value in vars(other).items() if key != "__notes__"}
            assert told == {k: str(v) for k, v in vars(error).items() if k != "__notes__"}
        assert copies[0].__notes__ == ["a note"]
    caught: list[BaseException] = []
    try:
        raise ExceptionGroup("all of them", errors)
    except* MoltinJobsError as group:
        caught += group.exceptions
    assert caught == errors


async def test_settings_travel() -> None:
    auth = ClientCredentials("the-client", SECRET)
    assert pickle.loads(pickle.dumps(auth)) == auth  # noqa: S301 (our own)
    assert pickle.loads(pickle.dumps(ONCE)) == ONCE  # noqa: S301 (our own)
    finished = Job(id="a", status="success")
    assert pickle.loads(pickle.dumps(finished)) == finished  # noqa: S301 (our own)


async def test_asyncios_own_report_of_a_forgotten_error(caplog: pytest.LogCaptureFixture) -> None:
    async with RawServer([ECHOES["500 that repeats the token"]]) as server:
        async with JobsSession(TOKEN, base_url=server.url, retry=ONCE) as session:
            task = asyncio.create_task(session.get_job("a"))
            await asyncio.wait([task])
            del task
            await asyncio.sleep(0)
    reports = [record for record in caplog.records if record.name == "asyncio"]
    assert "never retrieved" in reports[0].getMessage()
    assert TOKEN not in f"{reports[0].getMessage()} {reports[0].exc_text} {vars(reports[0])}"
