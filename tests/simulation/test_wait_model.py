"""Every short sequence of responses to one wait: the session does what the model predicts.

The bound, about 10,000 sequences: those of two responses of 21 kinds in 23 settings, of three
responses of 13 kinds, and of four or six responses of the kinds that matter in cooldowns and
outages. The job has then succeeded, or if there is a deadline, it never ends. Deadlines fall in
sleeps, requests, queues and cooldowns, and on the moments at which these begin or end.

The session is real down to its requests to aiohttp, which have no sockets. A sample of the
sequences is repeated with real sockets.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import math
import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import aiohttp
import attrs
import pytest
import yarl

from moltin_jobs import ClientCredentials, JobsSession, MoltinJobsError, Polling
from tests.raw_server import RawServer, http
from tests.sessions import assert_idle

from . import wait_model as model
from .wait_model import Ended, Event, Polled, PollFailed, Received, Response, Sent, Settings

ALL = (
    *(model.PENDING, model.RUNNING, model.SLOW),
    *(model.SUCCEEDED, model.LATE, model.FAILED, model.CANCELLED),
    *(model.UNREADABLE, model.UNAVAILABLE, model.UNAVAILABLE_6, model.HANG),
    *(model.FORBIDDEN, model.NOT_FOUND, model.GATEWAY),
    *(model.THROTTLED, model.THROTTLED_5),
    *(model.UNAUTHORIZED, model.UNAUTHORIZED_401, model.UNAUTHORIZED_429),
    *(model.UNAUTHORIZED_503, model.UNAUTHORIZED_HANG),
)
MAIN = (
    *(model.PENDING, model.RUNNING, model.SUCCEEDED, model.FAILED),
    *(model.UNAVAILABLE, model.UNAVAILABLE_6, model.HANG, model.FORBIDDEN, model.GATEWAY),
    *(model.THROTTLED, model.UNAUTHORIZED, model.UNAUTHORIZED_429, model.UNAUTHORIZED_HANG),
)
OUTAGES = (model.RUNNING, model.UNAVAILABLE, model.GATEWAY, model.HANG)
COOLDOWNS = (
    *(model.RUNNING, model.THROTTLED, model.THROTTLED_5),
    *(model.UNAUTHORIZED, model.UNAUTHORIZED_429),
)

# With multiples of 1.25 s, and from 10 s on with multiples of 0.25 s, the final poll too is at a
# moment at which a response may arrive.
TIMEOUTS = (math.inf, 0.5, 1.25, 2.5, 3.75, 5.0, 7.5, 8.75, 10.0, 11.75)
STANDARD = Settings(max_outage=3.0)
SHORT = Settings(
    max_outage=6.0, initial_interval=1.5, multiplier=1.0, request_timeout=1.0, token_lifetime=5.0
)
RATE_LIMITED = attrs.evolve(SHORT, rate_limit=1)


class Bound(NamedTuple):
    """Sequences to explore."""

    settings: Settings
    alphabet: Sequence[Response]
    length: int

    def sequences(self) -> list[tuple[tuple[Response, ...], list[Event]]]:
        """Return the sequences, with the events that the model predicts."""
        then = model.SUCCEEDED if self.settings.timeout == math.inf else model.RUNNING
        return list(model.explore(*self, then))


BOUNDS = [
    *(Bound(attrs.evolve(STANDARD, timeout=timeout), ALL, 2) for timeout in TIMEOUTS),
    *(Bound(attrs.evolve(SHORT, timeout=timeout), ALL, 2) for timeout in TIMEOUTS),
    *(Bound(attrs.evolve(RATE_LIMITED, timeout=timeout), ALL, 2) for timeout in TIMEOUTS[::4]),
    Bound(Settings(timeout=10.0, initial_interval=1.75, max_outage=5.75), MAIN, 3),
    Bound(Settings(max_outage=7.75), OUTAGES, 6),
    Bound(Settings(timeout=12.5, max_outage=9.0, request_timeout=1.0), OUTAGES, 6),
    Bound(Settings(), COOLDOWNS, 4),
    Bound(Settings(timeout=20.0), COOLDOWNS, 4),
]
each_bound = pytest.mark.parametrize(
    "bound",
    BOUNDS,
    ids=[f"{n}, timeout {bound.settings.timeout:g}" for n, bound in enumerate(BOUNDS)],
)


@pytest.fixture(autouse=True)
def _no_random_cooldowns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each cooldown have its shortest length."""
    monkeypatch.setattr(random, "uniform", lambda low, _: low)


@pytest.fixture(autouse=True)
def _no_warnings_of_waits(caplog: pytest.LogCaptureFixture) -> None:
    """Spare the time for thousands of records."""
    caplog.set_level(logging.ERROR, "moltin_jobs")


@attrs.frozen
class Outcome:
    """Requests of one wait, and its end."""

    moments: list[float] = attrs.field(eq=False)
    """Moments of the requests, and of the end."""
    paths: list[str]
    error: str
    polls: int
    failed_polls: int
    job_status: str
    last_error: str

    def is_close(self, other: Outcome) -> bool:
        """Return whether the other outcome is the same. A moment may be rounded, up to 1 ms."""
        return self == other and all(
            abs(a - b) < 0.01 for a, b in zip(self.moments, other.moments, strict=True)
        )


def predicted_outcome(events: Sequence[Event]) -> Outcome:
    """Return the outcome that the model predicts."""
    end = end_of(events)
    sent = [event for event in events if isinstance(event, Sent)]
    moments, paths = [event.at for event in sent], [event.path for event in sent]
    return Outcome([*moments, end.at], paths, *attrs.astuple(end)[1:])


def end_of(events: Sequence[Event]) -> Ended:
    end = events[-1]
    assert isinstance(end, Ended)
    return end


class ScriptedService:
    """Service with one job, which responds as the script says."""

    def __init__(self, settings: Settings, responses: Iterable[Response]) -> None:
        self._lifetime = settings.token_lifetime
        self._responses = iter(responses)
        self._refresh: Response | None = None
        self.moments: list[float] = []
        """Moments of the requests."""
        self.paths: list[str] = []

    async def respond(self, path: str) -> tuple[Response, bytes]:
        """Return the response to a request, and its body."""
        is_token = path.endswith("/access_token")
        self.moments.append(loop_time())
        self.paths.append("token" if is_token else "job")
        if is_token:
            response, self._refresh = self._refresh or model.TOKEN, None
        else:
            response = next(self._responses)
            self._refresh = response.refresh
        await asyncio.sleep(min(response.latency, 1000.0))
        return response, self._body_of(response)

    def _body_of(self, response: Response) -> bytes:
        if response.from_gateway or response is model.UNREADABLE:
            return b"<html>"
        body: dict[str, Any] = {"errors": [{"title": "An error"}]}
        if response is model.TOKEN:
            body = {"access_token": f"token-{len(self.paths)}", "expires_in": self._lifetime}
        elif response.job_status:
            body = {"data": {"id": "a", "type": "job", "status": response.job_status}}
        return json.dumps(body).encode()


@attrs.define
class InMemoryRequest:
    """The part of `aiohttp.ClientRequest` that the session uses."""

    path: str
    headers: dict[str, str] = attrs.field(factory=dict)


@attrs.define
class InMemoryResponse:
    """The part of `aiohttp.ClientResponse` that the session uses, its content included."""

    url: yarl.URL
    status: int
    headers: dict[str, str]
    body: bytes | None
    method: str = "GET"

    @property
    def content(self) -> InMemoryResponse:
        return self

    def at_eof(self) -> bool:
        return self.body is None

    async def readany(self) -> bytes:
        assert self.body is not None
        body, self.body = self.body, None
        return body

    def close(self) -> None:
        pass

    release = close


class InMemoryHttp:
    """The part of `aiohttp.ClientSession` that the session uses, without sockets."""

    _middlewares = ()
    closed = False
    connector = None

    def __init__(self, service: ScriptedService) -> None:
        self._service = service

    @property  # type: ignore[misc]
    def __class__(self) -> type[aiohttp.ClientSession]:  # type: ignore[override]
        # aiohttp warns of subclasses.
        return aiohttp.ClientSession

    async def request(
        self, method: str, url: yarl.URL, *, middlewares: Sequence[Any], **_: Any
    ) -> InMemoryResponse:
        """Send a request through the middleware of the session."""

        async def handler(request: InMemoryRequest) -> InMemoryResponse:
            response, body = await self._service.respond(request.path)
            return InMemoryResponse(url, response.status, headers_of(response), body, method)

        (middleware,) = middlewares
        received: InMemoryResponse = await middleware(InMemoryRequest(url.path), handler)
        return received


def headers_of(response: Response) -> dict[str, str]:
    return {} if response.retry_after is None else {"Retry-After": f"{response.retry_after:g}"}


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def wait(settings: Settings, service: ScriptedService, **options: Any) -> Outcome:
    """Wait for the job of ``service`` in a session of its own."""
    polling = Polling(
        initial_interval=settings.initial_interval,
        multiplier=settings.multiplier,
        max_interval=settings.max_interval,
        jitter=0,
        max_outage=settings.max_outage,
    )
    async with JobsSession(
        ClientCredentials("id", "secret"),
        polling=polling,
        rate_limit=settings.rate_limit,
        request_timeout=settings.request_timeout,
        **options,
    ) as session:
        timeout = None if settings.timeout == math.inf else settings.timeout
        watch = session.watch_job("a", timeout=timeout)
        error: MoltinJobsError | None = None
        try:
            await watch.wait()
        except MoltinJobsError as caught:
            error = caught
        ended_at = loop_time()
        assert_idle(session)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
    return Outcome(
        [*service.moments, ended_at],
        service.paths,
        name_of(error),
        watch.polls,
        watch.failed_polls,
        watch.job.status if watch.job is not None else "",
        name_of(watch.last_error),
    )


def name_of(error: object) -> str:
    return "" if error is None else type(error).__name__


@attrs.define
class PollRecord:
    """One poll among the events of the model."""

    started_at: float
    ended_at: float = math.inf
    """Infinite if the deadline ended it."""
    failure: PollFailed | None = None


def polls_of(events: Sequence[Event]) -> list[PollRecord]:
    polls: list[PollRecord] = []
    for event in events:
        if isinstance(event, Polled):
            polls.append(PollRecord(event.at))
        elif isinstance(event, PollFailed):
            polls[-1].ended_at, polls[-1].failure = event.at, event
        elif isinstance(event, Received) and event.response.job_status:
            polls[-1].ended_at = event.at
    return polls


def assert_deadline_holds(settings: Settings, events: Sequence[Event], end: Ended) -> None:
    """The final poll starts at its moment, or when the poll that is in flight then has ended."""
    assert end.at <= settings.timeout
    final_at, polls = settings.final_poll_at, polls_of(events)
    if end.error == "JobTimeoutError":
        assert polls[-1].started_at >= final_at or polls[-1].ended_at == math.inf
    late = [poll.started_at for poll in polls if poll.started_at >= final_at]
    assert len(late) <= 1
    in_flight = [poll.ended_at for poll in polls if poll.started_at < final_at <= poll.ended_at]
    expected = in_flight[0] if in_flight else final_at
    if end.at > expected:
        assert late == [expected]


def assert_end_is_noticed(settings: Settings, events: Sequence[Event], end: Ended) -> None:
    """A job whose end arrives before the deadline is the result, never a `JobTimeoutError`."""
    errors = {"success": "", "failed": "JobFailedError", "cancelled": "JobCancelledError"}
    for event in events:
        if isinstance(event, Sent) and event.response.is_terminal:
            received_at = event.at + event.response.latency
            if received_at < min(settings.timeout, event.at + settings.request_timeout):
                assert (end.at, end.error) == (received_at, errors[event.response.job_status])


def assert_cooldowns_hold(events: Sequence[Event]) -> None:
    """No request is sent in a cooldown, whose length doubles with each consecutive 429."""
    bursts, cooldown_ends_at = 0, -math.inf
    for event in events:
        if isinstance(event, Sent):
            assert event.at >= cooldown_ends_at
        elif isinstance(event, Received):
            bursts = bursts + 1 if event.response.status == 429 else 0
            if bursts:
                seconds = max(2.0 ** (bursts - 1), event.response.retry_after or 0.0)
                cooldown_ends_at = event.at + seconds


def assert_failures_end_the_wait_in_time(
    settings: Settings, events: Sequence[Event], end: Ended
) -> None:
    """A failure ends the wait if it is not retryable, or ends an outage of some length."""
    failed: list[PollRecord] = []
    for poll in polls_of(events):
        failure = poll.failure
        if failure is None:
            failed.clear()
            continue
        failed.append(poll)
        is_outage = (
            settings.max_outage is not None
            and len(failed) >= 3
            and poll.ended_at - failed[0].ended_at >= settings.max_outage
        )
        is_end = (end.at, end.error) == (failure.at, failure.error)
        assert is_end == (is_outage or not failure.is_retryable)


@each_bound
def test_model_keeps_the_contract(bound: Bound) -> None:
    for _, events in bound.sequences():
        end = end_of(events)
        assert_deadline_holds(bound.settings, events, end)
        assert_end_is_noticed(bound.settings, events, end)
        assert_cooldowns_hold(events)
        assert_failures_end_the_wait_in_time(bound.settings, events, end)


@pytest.mark.looptime
@each_bound
async def test_wait_does_what_the_model_predicts(bound: Bound) -> None:
    sequences = bound.sequences()
    services = [ScriptedService(bound.settings, responses) for responses, _ in sequences]
    outcomes = await asyncio.gather(
        *(wait(bound.settings, service, http_session=InMemoryHttp(service)) for service in services)
    )
    differences = [
        (responses, expected, outcome)
        for (responses, events), outcome in zip(sequences, outcomes, strict=True)
        if not outcome.is_close(expected := predicted_outcome(events))
    ]
    assert differences == []


@pytest.mark.looptime
async def test_wait_over_sockets_does_what_the_model_predicts() -> None:
    sequences = [
        (bound.settings, responses, events)
        for bound in BOUNDS
        for responses, events in random.sample(bound.sequences(), 10)
    ]
    outcomes = await asyncio.gather(
        *(wait_over_socket(settings, responses) for settings, responses, _ in sequences)
    )
    for (settings, responses, events), outcome in zip(sequences, outcomes, strict=True):
        assert outcome.is_close(predicted_outcome(events)), (settings, responses)


async def wait_over_socket(settings: Settings, responses: Sequence[Response]) -> Outcome:
    """Wait for the job of a server of its own."""
    service = ScriptedService(settings, responses)

    async def script(writer: asyncio.StreamWriter) -> None:
        path = server.requests[-1].split()[1].decode()
        response, body = await service.respond(path)
        headers = "".join(f"{name}: {value}\r\n" for name, value in headers_of(response).items())
        writer.write(http(body, f"{response.status} Status", headers))

    async with RawServer(itertools.repeat(script)) as server:
        return await wait(settings, service, base_url=server.url)
