"""Requests of one session: time limits, connections, cancellation, and a user's HTTP session."""

import asyncio
import base64
import contextlib
import email.utils
import gc
import gzip
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from moltin_jobs import (
    ClientCredentials,
    ConfigurationError,
    InvalidResponseError,
    JobNotFoundError,
    JobsSession,
    JobTimeoutError,
    MoltinJobsError,
    Polling,
    Retry,
    ServerError,
    SessionClosedError,
    TransportError,
)
from moltin_jobs.testing import Simulator
from tests.interruption import InterruptAt
from tests.raw_server import (
    RawServer,
    Script,
    delayed,
    hang,
    job,
    reset_after,
    respond,
    send,
    send_in_parts,
)
from tests.sessions import ONCE, HangingLimiter, assert_idle, lookup_error

pytestmark = pytest.mark.looptime

TOKEN = "the-bearer-token"
GOOD = respond(job())


def now() -> float:
    return asyncio.get_running_loop().time()


def header(request: bytes, name: str) -> str | None:
    """Return the value of a header of a recorded request."""
    for line in request.decode().split("\r\n")[1:]:
        key, _, value = line.partition(": ")
        if key.lower() == name.lower():
            return value
    return None


class TestRequestTimeout:
    async def test_attempt_without_response_fails_after_request_timeout(self) -> None:
        async with RawServer([hang]) as server:
            error = await lookup_error(server.url, request_timeout=2.5)
        assert type(error) is TransportError
        assert "no complete response from 127.0.0.1:" in str(error)
        assert " within 2.5 s. " in str(error)
        assert now() == pytest.approx(2.5, abs=0.01)

    async def test_each_attempt_has_its_own_timeout(self) -> None:
        async with RawServer([hang, GOOD]) as server:
            async with JobsSession(TOKEN, base_url=server.url, request_timeout=2) as session:
                assert (await session.get_job("a")).id == "a"
        assert 2.25 <= now() <= 2.6

    async def test_interval_of_polls_begins_with_the_response(self) -> None:
        polling = Polling(initial_interval=5, multiplier=1, jitter=0)
        scripts = [delayed(2, GOOD), delayed(2, GOOD), delayed(2, respond(job("success")))]
        async with RawServer(scripts) as server:
            async with JobsSession(TOKEN, base_url=server.url, polling=polling) as session:
                await session.wait_for_job("a")
        assert now() == pytest.approx(2 + 7 + 7, abs=0.01)

    async def test_time_in_the_queue_for_the_rate_limit_does_not_count(self) -> None:
        slow = delayed(0.4, GOOD)
        async with RawServer([slow] * 6) as server:
            async with JobsSession(
                TOKEN, base_url=server.url, rate_limit=1, request_timeout=0.5, retry=ONCE
            ) as session:
                await session.get_jobs(["a"] * 6)
        assert now() > 6

    async def test_time_in_the_queue_for_a_connection_does_not_count(self) -> None:
        slow = delayed(0.4, GOOD)
        connector = aiohttp.TCPConnector(limit=1)
        async with (
            RawServer([slow] * 6) as server,
            aiohttp.ClientSession(connector=connector) as http_session,
            JobsSession(
                TOKEN,
                base_url=server.url,
                http_session=http_session,
                request_timeout=0.5,
                retry=ONCE,
            ) as session,
        ):
            await session.get_jobs(["a"] * 6)
        assert now() == pytest.approx(2.4, abs=0.1)

    async def test_time_of_a_token_request_and_a_cooldown_does_not_count(self) -> None:
        scripts = [
            delayed(0.4, respond(status="429 Too Many Requests")),
            delayed(0.4, respond(json.dumps({"access_token": "issued"}).encode())),
            delayed(0.4, GOOD),
        ]
        auth = ClientCredentials("the-id", "the-secret")
        async with RawServer(scripts) as server:
            async with JobsSession(
                auth, base_url=server.url, request_timeout=0.5, retry=Retry(max_attempts=2)
            ) as session:
                assert (await session.get_job("a")).id == "a"

    async def test_time_of_a_limiter_does_not_count(self) -> None:
        class SlowLimiter:
            async def acquire(self) -> None:
                await asyncio.sleep(50)

            async def pause(self, _: float) -> None:
                await asyncio.sleep(50)

        async with RawServer([respond(status="429 Too Many Requests"), GOOD]) as server:
            async with JobsSession(
                TOKEN, base_url=server.url, rate_limit=SlowLimiter(), request_timeout=1
            ) as session:
                assert (await session.get_job("a")).id == "a"
        assert 150 <= now() <= 152

    async def test_timeout_of_a_wait_bounds_a_limiter_that_hangs(self) -> None:
        async with JobsSession(
            TOKEN, base_url="http://127.0.0.1:9", rate_limit=HangingLimiter()
        ) as session:
            with pytest.raises(JobTimeoutError):
                await session.wait_for_job("a", timeout=20)
            assert_idle(session)
        assert now() == pytest.approx(20, abs=0.01)


class LimiterError(Exception):
    """Exception of the user's own code."""


class TestLimiter:
    async def test_exception_of_acquire_is_passed_on(self) -> None:
        class BrokenLimiter:
            async def acquire(self) -> None:
                raise error

        async with JobsSession(
            TOKEN, base_url="http://127.0.0.1:9", rate_limit=BrokenLimiter()
        ) as session:
            for error in (LimiterError(), ConnectionResetError("no Redis")):
                with pytest.raises(type(error)) as caught:
                    await session.get_job("a")
                assert caught.value is error
                assert_idle(session)

    async def test_exception_of_pause_is_passed_on_and_the_connection_closed(self) -> None:
        class BrokenLimiter:
            async def acquire(self) -> None: ...

            async def pause(self, _: float) -> None:
                raise error

        without_end = send(b"HTTP/1.1 429 Too Many\r\nTransfer-Encoding: chunked\r\n\r\n")
        async with RawServer([without_end] * 2) as server:
            async with JobsSession(
                TOKEN, base_url=server.url, rate_limit=BrokenLimiter()
            ) as session:
                for error in (LimiterError(), ConnectionResetError("no Redis")):
                    with pytest.raises(type(error)) as caught:
                        await session.get_job("a")
                    assert caught.value is error
                    assert_idle(session)
                    await asyncio.sleep(0.1)
                    assert server.open_connections == 0
        assert len(server.requests) == 2


class TestLimiterWithCooldown:
    async def test_permission_from_before_a_cooldown_is_not_used(self) -> None:
        class SlowLimiter:
            async def acquire(self) -> None:
                await asyncio.sleep(1)
                permitted_at.append(now())

        permitted_at: list[float] = []
        scripts = [delayed(0.5, respond(status="429 Too Many Requests")), GOOD]
        async with RawServer(scripts) as server:
            async with JobsSession(
                TOKEN, base_url=server.url, rate_limit=SlowLimiter(), retry=Retry(max_attempts=1)
            ) as session:
                lookups = [session.get_job("a"), session.get_job("b")]
                await asyncio.gather(*lookups, return_exceptions=True)
        assert len(server.requests) == 2
        first, before, after = permitted_at
        assert [first, before] == [1.0, 2.0]
        assert 3.5 <= after == now()


class StubbornLimiter:
    """Limiter that ignores a cancellation, and still takes a moment."""

    async def acquire(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(50)
        await asyncio.sleep(0.1)


async def cancel_lookup(session: JobsSession) -> None:
    """Cancel a lookup after a second, and check that nothing is left of it."""
    lookup = asyncio.ensure_future(session.get_job("a"))
    await asyncio.sleep(1)
    lookup.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lookup
    assert_idle(session)


class TestCodeThatIgnoresCancellation:
    """Without a check, a request would be sent that nothing can end any more."""

    async def test_close_sends_nothing_and_returns(self, simulator: Simulator) -> None:
        simulator.add_faults("hang", repeat=True)
        session = JobsSession(simulator.token, base_url=simulator.url, rate_limit=StubbornLimiter())
        lookup = asyncio.ensure_future(session.get_job("a"))
        await asyncio.sleep(1)
        await session.close()
        assert now() == pytest.approx(1.1, abs=0.01)
        with pytest.raises(SessionClosedError):
            await lookup
        assert_idle(session)
        assert simulator.requests == []

    async def test_wait_ends_at_its_timeout(self, simulator: Simulator) -> None:
        simulator.add_faults("hang", repeat=True)
        async with JobsSession(
            simulator.token, base_url=simulator.url, rate_limit=StubbornLimiter()
        ) as session:
            with pytest.raises(JobTimeoutError):
                await session.wait_for_job("a", timeout=2)
            assert now() == pytest.approx(2.1, abs=0.01)
            assert_idle(session)
        assert simulator.requests == []

    async def test_cancelled_caller_sends_nothing(self, simulator: Simulator) -> None:
        async with JobsSession(
            simulator.token, base_url=simulator.url, rate_limit=StubbornLimiter()
        ) as session:
            await cancel_lookup(session)
        assert simulator.requests == []

    async def test_cancelled_caller_of_an_auth_callable_takes_no_slot(
        self, simulator: Simulator
    ) -> None:
        async def token() -> str:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(5)
            return simulator.token

        simulator.add_job("a", ["pending"])
        async with JobsSession(token, base_url=simulator.url, rate_limit=1) as session:
            await cancel_lookup(session)
            await session.get_job("a")
        assert len(simulator.requests) == 1
        assert now() == pytest.approx(6, abs=0.01)  # the callable was called again

    async def test_cancelled_caller_does_not_wait_for_the_limiter(
        self, simulator: Simulator
    ) -> None:
        async def auth() -> str:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(50)
            return simulator.token

        async with JobsSession(
            auth, base_url=simulator.url, rate_limit=StubbornLimiter(), request_timeout=60
        ) as session:
            await cancel_lookup(session)
            assert now() == pytest.approx(1, abs=0.01)
        assert simulator.requests == []


class TestConnections:
    async def test_at_most_a_hundred_connections_are_used(self) -> None:
        async with (
            Simulator(rate_limit=None, latency=1) as simulator,
            JobsSession(simulator.token, base_url=simulator.url, rate_limit=None) as session,
        ):
            job_ids = [simulator.add_job(statuses=["pending"]) for _ in range(250)]
            lookups = asyncio.ensure_future(session.get_jobs(job_ids))
            await asyncio.sleep(0.5)
            stats = session.stats()
            assert (stats.connections, stats.requests_in_flight) == (100, 100)
            assert (stats.requests_queued, stats.slots_held) == (150, 100)
            assert stats.requests == 100
            await lookups
            assert_idle(session)
            assert session.stats().requests == 250

    @pytest.mark.parametrize(
        ("limits", "expected"),
        [
            ({"limit": 3}, 3),
            ({"limit": 0, "limit_per_host": 2}, 2),
            ({"limit": 5, "limit_per_host": 2}, 2),
            ({"limit": 0}, 100),
            ({"limit": 1000}, 100),
        ],
    )
    async def test_limits_of_the_connector_bound_the_connections(
        self, limits: dict[str, Any], expected: int
    ) -> None:
        async with (
            Simulator(rate_limit=None, latency=1) as simulator,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(**limits)) as http_session,
            JobsSession(
                simulator.token, base_url=simulator.url, http_session=http_session, rate_limit=None
            ) as session,
        ):
            job_ids = [simulator.add_job(statuses=["pending"]) for _ in range(120)]
            lookups = asyncio.ensure_future(session.get_jobs(job_ids))
            await asyncio.sleep(0.5)
            assert session.stats().connections == expected
            lookups.cancel()
            await asyncio.wait([lookups])
            assert_idle(session)

    async def test_connection_is_used_again(self) -> None:
        async with RawServer([GOOD] * 20) as server:
            async with JobsSession(TOKEN, base_url=server.url) as session:
                for _ in range(20):
                    await session.get_job("a")
        assert server.connections == 1

    async def test_creation_uses_no_connection_of_a_lookup(self) -> None:
        async with RawServer([GOOD, respond(job(), "201 Created")]) as server:
            async with JobsSession(TOKEN, base_url=server.url) as session:
                await session.get_job("a")
                await session.create_job()
        assert server.connections == 2

    @pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
    async def test_connection_of_a_body_that_is_too_large_is_closed(self, status: str) -> None:
        too_large = respond(b" " * (2 << 20), status)
        async with RawServer([too_large]) as server:
            async with JobsSession(TOKEN, base_url=server.url, retry=ONCE) as session:
                with pytest.raises((InvalidResponseError, JobNotFoundError)):
                    await session.get_job("a")
                await asyncio.sleep(1)
                assert server.open_connections == 0
                assert_idle(session)

    async def test_connection_of_the_largest_body_is_used_again(self) -> None:
        async def send_slowly(writer: asyncio.StreamWriter) -> None:
            body = job().ljust(1 << 20)
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(b"%s%x\r\n%s\r\n" % (head, len(body), body))
            await asyncio.sleep(0.1)
            writer.write(b"0\r\n\r\n")

        async with RawServer([send_slowly, GOOD]) as server:
            async with JobsSession(TOKEN, base_url=server.url, retry=ONCE) as session:
                for _ in range(2):
                    assert (await session.get_job("a")).id == "a"
        assert server.connections == 1

    async def test_list_may_be_larger_than_a_job(self) -> None:
        padding = b" " * (15 << 20)
        async with RawServer([respond(b'{"data": []}' + padding)]) as server:
            async with JobsSession(TOKEN, base_url=server.url) as session:
                assert await session.list_jobs() == []

    async def test_request_that_aiohttp_resends_is_counted_twice(self) -> None:
        async with RawServer([GOOD, reset_after(b""), GOOD]) as server:
            async with JobsSession(TOKEN, base_url=server.url, retry=ONCE) as session:
                await session.get_job("a")
                await session.get_job("a")
                assert session.stats().requests == 3
        assert len(server.requests) == 3


class TestResponses:
    @pytest.mark.parametrize("parts", [1, 2, 3])
    async def test_body_that_arrives_in_parts_is_complete(self, parts: int) -> None:
        body = job(padding="x" * 100)
        script = send_in_parts(body, -(-len(body) // parts), seconds=0.1)
        async with RawServer([script]) as server:
            async with JobsSession(TOKEN, base_url=server.url, retry=ONCE) as session:
                assert (await session.get_job("a")).status == "pending"
        assert now() == pytest.approx(parts * 0.1, abs=0.01)

    async def test_token_that_a_job_or_a_list_repeats_is_masked(self) -> None:
        document = json.loads(job(f"rejects {TOKEN}"))["data"]
        bodies = [json.dumps({"data": data}).encode() for data in (document, [document])]
        async with RawServer([respond(body) for body in bodies]) as server:
            async with JobsSession(TOKEN, base_url=server.url) as session:
                jobs = [await session.get_job("a"), *await session.list_jobs()]
        assert [one.status for one in jobs] == ["rejects ***"] * 2

    async def test_redirect_is_named_with_both_addresses(self) -> None:
        redirect = respond(status="300 Multiple Choices", headers="Location: /b\r\n")
        async with RawServer([redirect]) as server:
            error = await lookup_error(server.url)
            assert f"It redirects {server.url}/v2/jobs/a to /b. " in str(error)

    async def test_retry_after_with_a_date_counts_from_the_local_clock(self) -> None:
        date = email.utils.formatdate(time.time() + 100, usegmt=True)
        failure = respond(status="503 Unavailable", headers=f"Retry-After: {date}\r\n")
        async with RawServer([failure]) as server:
            error = await lookup_error(server.url)
        assert isinstance(error, ServerError)
        assert error.retry_after == pytest.approx(98, abs=2)

    async def test_cookies_of_the_service_are_not_sent_back(self) -> None:
        set_cookie = respond(job(), headers="Set-Cookie: a=b; Path=/\r\n")
        async with RawServer([set_cookie, GOOD]) as server:
            url = server.url.replace("127.0.0.1", "localhost")
            async with JobsSession(TOKEN, base_url=url) as session:
                for _ in range(2):
                    await session.get_job("a")
        assert [header(request, "Cookie") for request in server.requests] == [None, None]


class TestClosing:
    async def test_close_ends_requests_in_flight_and_queued_ones(self) -> None:
        async with RawServer([hang] * 9) as server:
            session = JobsSession(TOKEN, base_url=server.url, rate_limit=3)
            lookups = [asyncio.create_task(session.get_job("a")) for _ in range(200)]
            await asyncio.sleep(1)
            await session.close()
            outcomes = await asyncio.gather(*lookups, return_exceptions=True)
            assert_idle(session)
            await asyncio.sleep(0.1)
            assert server.open_connections == 0
        assert {type(outcome) for outcome in outcomes} == {SessionClosedError}
        assert {outcome.__context__ for outcome in outcomes if isinstance(outcome, Exception)} == {
            None
        }

    async def test_creation_that_waits_for_its_repetition_after_a_401_is_not_uncertain(
        self,
    ) -> None:
        auth = ClientCredentials("the-id", "the-secret")
        async with RawServer([ISSUED, UNAUTHORIZED, ISSUED]) as server:
            session = JobsSession(auth, base_url=server.url, rate_limit=1)
            creation = asyncio.create_task(session.create_job())
            await asyncio.sleep(2.5)
            assert len(server.requests) == 3
            stats = session.stats()
            assert (stats.requests_queued, stats.requests_in_flight) == (1, 0)
            await session.close()
            with pytest.raises(SessionClosedError) as caught:
                await creation
        assert "may have been created" not in str(caught.value)

    async def test_close_of_a_session_that_sent_nothing_opens_nothing(self) -> None:
        session = JobsSession(TOKEN)
        await session.close()
        with pytest.raises(SessionClosedError, match=r"^the JobsSession is closed: "):
            await session.get_job("a")


class TestHttpSession:
    @pytest.mark.parametrize("http_session", [object(), aiohttp.ClientSession, "session"])
    def test_object_that_is_no_client_session_is_rejected(self, http_session: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            JobsSession(TOKEN, http_session=http_session)
        expected = f"http_session must be an aiohttp.ClientSession, not {http_session!r}"
        assert str(caught.value) == expected

    async def test_http_session_is_used_and_never_closed(self) -> None:
        async with RawServer([GOOD, GOOD]) as server, aiohttp.ClientSession() as http_session:
            async with JobsSession(
                TOKEN, base_url=server.url, http_session=http_session
            ) as session:
                await session.get_job("a")
            assert not http_session.closed
            await (await http_session.get(server.url)).read()
        assert server.connections == 1

    async def test_its_middlewares_run_outside_of_ours(self) -> None:
        seen: list[bool] = []

        async def middleware(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            seen.append("Authorization" in request.headers)
            request.headers["X-Trace"] = "1"
            return await handler(request)

        async with (
            RawServer([GOOD]) as server,
            aiohttp.ClientSession(middlewares=(middleware,)) as http_session,
            JobsSession(TOKEN, base_url=server.url, http_session=http_session) as session,
        ):
            await session.get_job("a")
        assert seen == [False]
        assert header(server.requests[0], "X-Trace") == "1"
        assert header(server.requests[0], "Authorization") == f"Bearer {TOKEN}"

    async def test_exception_of_its_middleware_is_passed_on_and_nothing_left_behind(self) -> None:
        class BudgetError(Exception):
            pass

        async def middleware(
            _: aiohttp.ClientRequest, __: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            raise error

        async with (
            aiohttp.ClientSession(middlewares=(middleware,)) as http_session,
            JobsSession(TOKEN, base_url="http://127.0.0.1:9", http_session=http_session) as session,
        ):
            for error in (BudgetError(), RuntimeError("spent")):
                with pytest.raises(type(error)) as caught:
                    await session.get_job("a")
                assert caught.value is error
                assert_idle(session)

    async def test_middleware_that_sends_twice_takes_a_slot_for_each(self) -> None:
        async def send_twice(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            (await handler(request)).release()
            return await handler(request)

        async with (
            RawServer([GOOD] * 2) as server,
            aiohttp.ClientSession(middlewares=(send_twice,)) as http_session,
            JobsSession(
                TOKEN, base_url=server.url, http_session=http_session, rate_limit=1
            ) as session,
        ):
            await session.get_job("a")
            assert session.stats().requests == 2
        assert now() == pytest.approx(1.001, abs=0.01)

    @pytest.mark.parametrize("auth", [TOKEN, ClientCredentials("the-id", "the-secret")])
    @pytest.mark.parametrize("source", ["auth", "headers", "netrc"])
    async def test_its_own_credentials_are_never_sent(
        self, source: str, auth: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scripts = [GOOD]
        if auth is not TOKEN:
            scripts.insert(0, respond(json.dumps({"access_token": TOKEN}).encode()))
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login other password the-other-password\n")
        monkeypatch.setenv("NETRC", str(netrc))
        basic = f"Basic {base64.b64encode(b'other:the-other-password').decode()}"
        async with RawServer(scripts) as server:
            if source == "auth":
                with pytest.warns(DeprecationWarning, match="auth"):
                    http_session = aiohttp.ClientSession(
                        auth=aiohttp.BasicAuth("other", "the-other-password")
                    )
            elif source == "headers":
                http_session = aiohttp.ClientSession(headers={"authorization": basic})
            else:
                http_session = aiohttp.ClientSession(trust_env=True)
            async with (
                http_session,
                JobsSession(auth, base_url=server.url, http_session=http_session) as session,
            ):
                await session.get_job("a")
        *token_requests, lookup = [header(one, "Authorization") for one in server.requests]
        assert lookup == f"Bearer {TOKEN}"
        assert token_requests == [None] * (auth is not TOKEN)

    @pytest.mark.parametrize(
        "options",
        [
            {"raise_for_status": True},
            {"auto_decompress": False},
            {"timeout": aiohttp.ClientTimeout(total=0.01)},
            {"json_serialize": lambda _: "nonsense"},
            {"requote_redirect_url": False},
        ],
        ids=lambda options: next(iter(options)),
    )
    async def test_its_options_for_requests_do_not_disturb(self, options: dict[str, Any]) -> None:
        scripts = [
            delayed(1, respond(gzip.compress(job()), "201 Created", "Content-Encoding: gzip\r\n")),
            delayed(1, respond(status="404 Not Found")),
            respond(status="302 Found", headers="Location: /v2/jobs/b\r\n"),
        ]
        async with (
            RawServer(scripts) as server,
            aiohttp.ClientSession(**options) as http_session,
            JobsSession(TOKEN, base_url=server.url, http_session=http_session) as session,
        ):
            assert (await session.create_job()).id == "a"
            with pytest.raises(JobNotFoundError):
                await session.get_job("unknown")
            with pytest.raises(MoltinJobsError, match="redirects"):
                await session.get_job("a")
        assert json.loads(server.bodies[0]) == {"data": {"type": "job", "job_type": "order_export"}}
        assert header(server.requests[0], "Content-Type") == "application/json"
        assert len(server.requests) == 3

    async def test_its_base_url_has_no_effect(self) -> None:
        async with (
            RawServer([GOOD]) as server,
            aiohttp.ClientSession(base_url="https://other.example/x/") as http_session,
            JobsSession(
                TOKEN, base_url=f"{server.url}/prefix", http_session=http_session
            ) as session,
        ):
            await session.get_job("a")
        assert server.requests[0].startswith(b"GET /prefix/v2/jobs/a ")

    async def test_its_proxy_is_used(self) -> None:
        async with (
            RawServer([GOOD]) as proxy,
            aiohttp.ClientSession(proxy=proxy.url) as http_session,
            JobsSession(TOKEN, base_url="http://localhost:9", http_session=http_session) as session,
        ):
            await session.get_job("a")
        assert proxy.requests[0].startswith(b"GET http://localhost:9/v2/jobs/a HTTP/1.1")

    async def test_closed_http_session_ends_each_call(self) -> None:
        http_session = aiohttp.ClientSession()
        await http_session.close()
        async with JobsSession(TOKEN, http_session=http_session) as session:
            for call in (session.get_job("a"), session.wait_for_job("a"), session.list_jobs()):
                with pytest.raises(SessionClosedError) as caught:
                    await call
                assert str(caught.value) == (
                    "the http_session passed to JobsSession is closed: pass one that stays open."
                )
            assert_idle(session)

    async def test_http_session_closed_while_a_call_waits_for_a_slot_ends_it(self) -> None:
        async with RawServer([GOOD]) as server:
            http_session = aiohttp.ClientSession()
            async with JobsSession(
                TOKEN, base_url=server.url, http_session=http_session, rate_limit=1
            ) as session:
                await session.get_job("a")
                queued = asyncio.create_task(session.get_job("a"))
                await asyncio.sleep(0.1)
                await http_session.close()
                with pytest.raises(SessionClosedError, match=r"^the http_session passed to "):
                    await queued
                assert_idle(session)

    async def test_call_after_close_names_the_session(self) -> None:
        async with RawServer([GOOD]) as server:
            async with JobsSession(TOKEN, base_url=server.url) as session:
                await session.get_job("a")
            with pytest.raises(SessionClosedError, match=r"^the JobsSession is closed: "):
                await session.get_job("a")

    async def test_http_session_closed_during_calls_ends_all_of_them(self) -> None:
        connector = aiohttp.TCPConnector(limit=2)
        async with RawServer([GOOD, hang, hang]) as server:
            http_session = aiohttp.ClientSession(connector=connector)
            async with JobsSession(
                TOKEN, base_url=server.url, http_session=http_session
            ) as session:
                resting = asyncio.create_task(session.wait_for_job("a"))
                await asyncio.sleep(0.1)
                lookups = [asyncio.create_task(session.get_job("a")) for _ in range(5)]
                await asyncio.sleep(0.1)
                await http_session.close()
                outcomes = await asyncio.gather(resting, *lookups, return_exceptions=True)
                assert_idle(session)
        assert {type(outcome) for outcome in outcomes} == {SessionClosedError}
        assert {str(outcome).split(" is closed")[0] for outcome in outcomes} == {
            "the http_session passed to JobsSession"
        }


async def run(sweep: InterruptAt) -> tuple[object, int]:
    """Return the outcome, and how often the task was cancelled."""
    outcome: object
    try:
        outcome = await sweep
    except BaseException as error:  # noqa: BLE001 (the outcome)
        outcome = error
    task = asyncio.current_task()
    assert task is not None
    return outcome, task.cancelling()


ISSUED = respond(json.dumps({"access_token": "issued"}).encode())
UNAUTHORIZED = respond(b"{}", "401 Unauthorized")
TOO_MANY = respond(b"{}", "429 Too Many Requests")
BIG = respond(job() + b" " * 300_000)
SCENARIOS: dict[str, list[Script]] = {
    "success": [ISSUED, BIG],
    "slow": [delayed(1, ISSUED), delayed(1, BIG)],
    "refused and rejected": [ISSUED, TOO_MANY, UNAUTHORIZED, ISSUED, BIG],
    "broken": [reset_after(b""), ISSUED, send(b"nonsense\r\n\r\n"), reset_after(b""), hang, BIG],
}


class PausableLimiter:
    """Limiter that suspends its callers."""

    def __init__(self) -> None:
        self.acquired = 0

    async def acquire(self) -> None:
        await asyncio.sleep(0.1)
        self.acquired += 1

    async def pause(self, _: float) -> None:
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("limiter", [1, None, PausableLimiter], ids=["1", "None", "pausable"])
async def test_lookup_cancelled_at_any_await_leaves_nothing_behind(
    scenario: str, limiter: Any, caplog: pytest.LogCaptureFixture
) -> None:
    auth = ClientCredentials("the-id", "the-secret")
    number = 0
    while True:
        rate_limit = limiter() if isinstance(limiter, type) else limiter
        connector = aiohttp.TCPConnector(limit=1)
        async with (
            RawServer([*SCENARIOS[scenario], *[ISSUED, GOOD] * 9]) as server,
            aiohttp.ClientSession(connector=connector) as http_session,
            JobsSession(
                auth,
                base_url=server.url,
                http_session=http_session,
                rate_limit=rate_limit,
                request_timeout=3,
            ) as session,
        ):
            sweep = InterruptAt(session.get_job("a"), number)

            outcome, cancelling = await asyncio.create_task(run(sweep))
            assert_idle(session)
            if not isinstance(outcome, asyncio.CancelledError):
                break
            assert cancelling == 1
            await asyncio.sleep(0.1)
            assert server.open_connections <= 1  # an idle one may be kept
        number += 1
    assert number >= 4
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []
