"""Tokens and client secrets are in nothing that a failed request leaves behind.

Examined are messages, reprs, attributes, pickles, tracebacks with locals, logs and warnings.
"""

import asyncio
import contextlib
import copy
import itertools
import json
import logging
import pickle
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import moltin_jobs
from moltin_jobs import (
    ClientCredentials,
    ConfigurationError,
    InvalidJobIdError,
    JobsSession,
    MoltinJobsError,
    Retry,
    SessionClosedError,
    TransportError,
)
from tests.http.test_faults import FAULTS, TOKEN_FAULTS
from tests.raw_server import RawServer, Script, hang, job, respond, send
from tests.sessions import ONCE, lookup_error

pytestmark = pytest.mark.looptime

PACKAGE = str(Path(moltin_jobs.__file__).parent)
SECRET = "5ecret-0f-the-client"
TOKEN = "t0ken-that-was-issued"
CREDENTIALS = ClientCredentials("the-client", SECRET)
ISSUED = respond(json.dumps({"access_token": TOKEN}).encode())
ECHOES: dict[str, Script] = {
    "401 with the token": respond(
        json.dumps({"errors": [{"title": TOKEN}]}).encode(), "401 Unauthorized"
    ),
    "500 with the token": respond(
        json.dumps({"title": "x", "detail": f"Bearer {TOKEN}", "request_id": TOKEN}).encode(),
        "500 Failure",
    ),
    "redirect with the token": respond(
        status="302 Found", headers=f"Location: https://evil.example/?t={TOKEN}\r\n"
    ),
    "request id with the token": respond(
        status="500 Failure", headers=f"X-Request-Id: {TOKEN}\r\n"
    ),
    "body with the token": respond(b"<html>" + TOKEN.encode()),
    "reason phrase with the token": respond(status=f"1000 {TOKEN}"),
    "garbage with the token": send(f"{TOKEN} {TOKEN} {TOKEN}\r\n\r\n".encode()),
}


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, its causes and its contexts."""
    if error is not None:
        yield error
        yield from chain(error.__cause__)
        yield from chain(error.__context__)


def locals_of_package(trace: TracebackType | None) -> Iterator[str]:
    """Yield the locals of the package's frames, and the attributes of their values."""
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_filename.startswith(PACKAGE):
            for name, value in frame.f_locals.items():
                yield f"{name}={value!r} {getattr(value, '__dict__', '')!r}"
        trace = trace.tb_next


def texts_of(error: BaseException) -> Iterator[str]:
    """Yield everything that may be printed, logged or sent elsewhere because of ``error``."""
    for link in chain(error):
        yield repr(link)
        yield str(link)
        yield repr(vars(link))
        yield from locals_of_package(link.__traceback__)
    yield "".join(traceback.format_exception(error))
    with_locals = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in with_locals.stack:
        if frame.filename != __file__:
            yield repr(frame.locals)
    yield repr(pickle.dumps(error))


@contextlib.contextmanager
def recorded_texts(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Collect texts, those of logs and warnings included."""
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        yield texts
    texts += [str(warning) for warning in caught]
    texts += [f"{record.getMessage()} {vars(record)}" for record in caplog.records]


async def fail(session: JobsSession, texts: list[str]) -> None:
    """Make calls on ``session``, and collect what their exceptions leave behind."""
    calls = [
        session.get_job("a"),
        session.wait_for_job("a", timeout=30),
        session.list_jobs(),
        session.get_file_url("a"),
        session.create_job(),
    ]
    for call in calls:
        try:
            await call
        except MoltinJobsError as error:
            texts.extend(texts_of(error))
        texts.append(f"{session!r} {vars(session)!r} {session.stats()!r}")


@pytest.mark.parametrize("name", [*FAULTS, *ECHOES])
async def test_failed_request_leaves_nothing_of_the_token(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    script = ECHOES[name] if name in ECHOES else FAULTS[name][0]
    with recorded_texts(caplog) as texts:
        async with (
            RawServer([*[script] * 6, *[hang] * 9]) as server,
            JobsSession(TOKEN, base_url=server.url, retry=ONCE) as session,
        ):
            await fail(session, texts)
        assert TOKEN.encode() in b"".join(server.requests)
    assert texts
    assert [text for text in texts if TOKEN in text] == []


@pytest.mark.parametrize("name", TOKEN_FAULTS)
async def test_failed_token_request_leaves_nothing_of_the_secrets(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    scripts = [TOKEN_FAULTS[name][0], ISSUED, *[hang] * 9]
    with recorded_texts(caplog) as texts:
        async with (
            RawServer(scripts) as server,
            JobsSession(CREDENTIALS, base_url=server.url, retry=ONCE) as session,
        ):
            texts.append(repr(CREDENTIALS))
            await fail(session, texts)
        assert SECRET.encode() in b"".join(server.bodies)
    assert [text for text in texts if TOKEN in text or SECRET in text] == []


@pytest.mark.parametrize("name", ["401", "500", "no response", "no token"])
async def test_failed_refresh_leaves_nothing_of_the_rejected_token(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    fault = {**TOKEN_FAULTS, "401": TOKEN_FAULTS["401 that repeats the secret"]}[name][0]
    scripts = [ISSUED, ECHOES["401 with the token"], fault, *[hang] * 9]
    with recorded_texts(caplog) as texts:
        async with (
            RawServer(scripts) as server,
            JobsSession(CREDENTIALS, base_url=server.url, retry=ONCE) as session,
        ):
            await fail(session, texts)
        assert len(server.requests) >= 3
    assert [text for text in texts if TOKEN in text or SECRET in text] == []


async def test_invalid_result_of_auth_callable_is_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def token() -> str:
        return f"Bearer {TOKEN}"

    with recorded_texts(caplog) as texts:
        async with JobsSession(token, base_url="http://127.0.0.1:9") as session:
            try:
                await session.get_job("a")
            except ConfigurationError as error:
                texts.extend(texts_of(error))
    assert len(texts) > 10
    assert [text for text in texts if TOKEN in text] == []


@pytest.mark.parametrize(
    ("variables", "options", "message"),
    [
        pytest.param({"CLIENT_ID": "me"}, {"rate_limit": 0}, "rate_limit must", id="credentials"),
        pytest.param({}, {"rate_limit": 0}, "rate_limit must", id="token"),
        pytest.param({}, {"headers": 7}, "headers must", id="other-option"),
        pytest.param({"API_BASE_URL": "ftp://x"}, {}, "EPCC_API_BASE_URL must", id="base-url"),
        pytest.param({"CLIENT_ID": "\n"}, {}, "EPCC_CLIENT_ID must", id="invalid-id"),
        pytest.param({"CLIENT_SECRET": f"{SECRET}\n"}, {}, "CLIENT_SECRET must", id="secret"),
        pytest.param({"ACCESS_TOKEN": f"Bearer {TOKEN}"}, {}, "ACCESS_TOKEN must", id="bearer"),
        pytest.param({"ACCESS_TOKEN": ""}, {}, "EPCC_CLIENT_ID is not set", id="no-id"),
    ],
)
def test_setting_rejected_by_from_env_shows_no_value_of_a_variable(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    options: dict[str, Any],
    message: str,
) -> None:
    for name, value in {"CLIENT_SECRET": SECRET, "ACCESS_TOKEN": TOKEN, **variables}.items():
        monkeypatch.setenv(f"EPCC_{name}", value)
    with pytest.raises(ConfigurationError, match=message) as caught:
        JobsSession.from_env(**options)
    texts = list(texts_of(caught.value))
    assert [text for text in texts if TOKEN in text or SECRET in text] == []


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 2000 ",
        b"HTTP/1.1 200 OK\r\nContent-Length: ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_form_that_the_token_endpoint_echoes_in_invalid_http_is_nowhere(
    start: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def echo(writer: asyncio.StreamWriter) -> None:
        await send(start + server.bodies[-1] + b"\r\n\r\n", close=True)(writer)

    caplog.set_level(logging.DEBUG)
    async with (
        RawServer(itertools.repeat(echo)) as server,
        JobsSession(CREDENTIALS, base_url=server.url, retry=Retry(max_attempts=2)) as session,
    ):
        with pytest.raises(TransportError) as caught:
            await session.get_job("a")
    assert SECRET.encode() in server.bodies[0]
    assert "retrying" in caplog.text
    assert SECRET not in f"{caught.value!r} {vars(caught.value)} {caplog.text}"


@pytest.mark.parametrize("limit", ["timeout", "cancellation"])
async def test_traceback_of_a_hanging_token_request_hides_the_form(limit: str) -> None:
    async with RawServer([hang]) as server:
        session = JobsSession(CREDENTIALS, base_url=server.url, request_timeout=60)
        call = asyncio.create_task(asyncio.wait_for(session.get_job("a"), 5))
        if limit == "cancellation":
            await asyncio.sleep(1)
            call.cancel()
        with pytest.raises((TimeoutError, asyncio.CancelledError)) as caught:
            await call
        await session.close()
    assert SECRET.encode() in server.bodies[0]
    lines = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert SECRET not in "".join(lines)


async def test_asyncios_report_of_a_forgotten_error_hides_the_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        RawServer([ECHOES["500 with the token"]]) as server,
        JobsSession(TOKEN, base_url=server.url, retry=ONCE) as session,
    ):
        task = asyncio.create_task(session.get_job("a"))
        await asyncio.wait([task])
        del task
        await asyncio.sleep(0)
    (report,) = [record for record in caplog.records if record.name == "asyncio"]
    assert "never retrieved" in report.getMessage()
    assert TOKEN not in f"{report.getMessage()} {report.exc_text} {vars(report)}"


def identity(error: MoltinJobsError) -> MoltinJobsError:
    return error


async def wait_error(*scripts: Script, timeout: float | None = None) -> MoltinJobsError:
    async with (
        RawServer(scripts) as server,
        JobsSession(TOKEN, base_url=server.url) as session,
    ):
        with pytest.raises(MoltinJobsError) as caught:
            await session.wait_for_job("a", timeout=timeout)
    return caught.value


async def raise_each_error() -> list[MoltinJobsError]:
    """Return at least one exception of each class, as sessions raise them."""
    scripts = {expected: script for script, expected in FAULTS.values() if expected is not None}
    errors = []
    for script in scripts.values():
        async with RawServer([script] * 2) as server:
            errors.append(await lookup_error(server.url))
    errors.append(await wait_error(respond(job("failed", error="out of space"))))
    errors.append(await wait_error(respond(job("failed", error="no results matched"))))
    errors.append(await wait_error(respond(job("cancelled"))))
    errors.append(await wait_error(respond(job()), hang, timeout=25))
    with pytest.raises(ConfigurationError) as invalid_setting:
        JobsSession(TOKEN, rate_limit=0)
    async with JobsSession(TOKEN) as session:
        with pytest.raises(InvalidJobIdError) as invalid_id:
            await session.get_job("..")
    with pytest.raises(SessionClosedError) as closed:
        await session.get_job("a")
    return [*errors, invalid_setting.value, invalid_id.value, closed.value]


async def test_each_raised_error_is_the_same_after_pickling_and_copying() -> None:
    errors = await raise_each_error()
    raised = {type(error).__name__ for error in errors}
    defined = {name for name in moltin_jobs.__all__ if name.endswith("Error")}
    assert defined - raised == {"MoltinJobsError"}
    with ProcessPoolExecutor(1) as pool:
        from_process = list(pool.map(identity, errors))
    for error, returned in zip(errors, from_process, strict=True):
        attributes = {name: str(value) for name, value in vars(error).items()}
        error.add_note("a note")
        copies = [pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)]  # noqa: S301 (made here)
        for other in [*copies, returned]:
            assert (type(other), str(other)) == (type(error), str(error))
            assert attributes == {
                name: str(value) for name, value in vars(other).items() if name != "__notes__"
            }
        assert [other.__notes__ for other in copies] == [["a note"]] * 3


async def test_raised_errors_can_be_caught_as_a_group() -> None:
    errors = await raise_each_error()
    caught: list[BaseException] = []
    try:
        raise ExceptionGroup("all", errors)
    except* MoltinJobsError as group:
        caught += group.exceptions
    assert caught == errors
