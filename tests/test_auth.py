"""The token of a session: settings, refreshes, failed refreshes, and its use by requests."""

import asyncio
import gc
import itertools
import json
import logging
import math
import pickle
import traceback
import weakref
from typing import Any

import aiohttp
import attrs
import pytest

from moltin_jobs import (
    AuthenticationError,
    ClientCredentials,
    ConfigurationError,
    Job,
    JobsSession,
    JobTimeoutError,
    Retry,
    ServerError,
    SessionClosedError,
    TransportError,
)
from moltin_jobs.auth import Auth, TokenProvider
from moltin_jobs.settings import Secret
from moltin_jobs.testing import Fault, Simulator
from tests.raw_server import RawServer, Script, delayed, hang, job, respond, send
from tests.sessions import ONCE, assert_idle

pytestmark = pytest.mark.looptime

CREDENTIALS = ClientCredentials("the-id", "the-secret")
TOKEN_PATH = "/oauth/access_token"


def now() -> float:
    return asyncio.get_running_loop().time()


def credentials(simulator: Simulator) -> ClientCredentials:
    return ClientCredentials(simulator.client_id, simulator.client_secret)


def issue(token: str, **fields: Any) -> Script:
    """Respond to a token request."""
    return respond(json.dumps({"access_token": token, **fields}).encode())


UNAUTHORIZED = respond(b'{"errors": [{"title": "no such token"}]}', "401 Unauthorized")


class TestSettings:
    @pytest.mark.parametrize(
        "auth", ["", " ", "two words", "Bearer abc", "new\nline", "tëst", "tab\t"], ids=repr
    )
    def test_token_that_cannot_be_sent_is_rejected_and_hidden(self, auth: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^auth must be a bearer token") as caught:
            JobsSession(auth)
        assert auth.strip() == "" or auth not in str(caught.value)

    @pytest.mark.parametrize("auth", [None, 5, b"token", ("id", "secret")], ids=repr)
    def test_auth_of_another_type_is_rejected(self, auth: Auth) -> None:
        with pytest.raises(ConfigurationError, match=r"^auth must be a token, ClientCredentials"):
            JobsSession(auth)

    @pytest.mark.parametrize(
        ("client_id", "client_secret", "name"),
        [
            ("", "secret", "client_id"),
            ("id", "", "client_secret"),
            ("id", None, "client_secret"),
            (7, "secret", "client_id"),
            ("id", "hidden\n", "client_secret"),
        ],
    )
    def test_invalid_credentials_are_named_and_hidden(
        self, client_id: str, client_secret: Any, name: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=rf"^ClientCredentials\.{name} ") as caught:
            ClientCredentials(client_id, client_secret)
        assert "hidden" not in str(caught.value)

    def test_repr_of_credentials_hides_the_secret(self) -> None:
        assert "the-secret" not in repr(CREDENTIALS)
        assert repr(Secret("hidden")) == str(Secret("hidden")) == "Secret(...)"

    def test_credentials_are_equal_after_pickling(self) -> None:
        assert pickle.loads(pickle.dumps(CREDENTIALS)) == CREDENTIALS  # noqa: S301 (made here)

    async def test_token_request_has_the_documented_form(self) -> None:
        auth = ClientCredentials("the id&", "the=secret/ä")
        async with (
            RawServer([issue("issued"), respond(job())]) as server,
            JobsSession(auth, base_url=server.url) as session,
        ):
            await session.get_job("a")
        head = server.requests[0].lower()
        assert head.startswith(b"post /oauth/access_token http/1.1\r\n")
        assert b"\r\ncontent-type: application/x-www-form-urlencoded\r\n" in head
        assert b"\r\nauthorization:" not in head
        assert server.bodies[0] == (
            b"grant_type=client_credentials&client_id=the+id%26&client_secret=the%3Dsecret%2F%C3%A4"
        )


class FakeTokenRequest:
    """Token request that takes a second, and returns a new token with ``lifetime``."""

    def __init__(self, lifetime: float = math.inf) -> None:
        self.lifetime = lifetime
        self.requests = 0
        self.failures: list[Exception] = []

    async def __call__(self, _: ClientCredentials) -> tuple[Secret, float]:
        self.requests += 1
        token = Secret(f"token-{self.requests}")
        await asyncio.sleep(1)
        if self.failures:
            raise self.failures.pop(0)
        return token, self.lifetime


class TestTokenProvider:
    @staticmethod
    def provider(request: FakeTokenRequest) -> TokenProvider:
        return TokenProvider(CREDENTIALS, request, timeout=10)

    async def test_static_token_is_never_refreshed(self) -> None:
        request = FakeTokenRequest()
        tokens = TokenProvider("static", request, timeout=10)
        assert (await tokens.get(now(), None)).value == "static"
        assert not tokens.is_refreshable
        assert request.requests == 0

    @pytest.mark.parametrize(
        ("lifetime", "fresh_for"), [(3600.0, 3540), (300.0, 240), (100.0, 80), (5.0, 4)]
    )
    async def test_token_is_refreshed_in_its_last_minute_or_fifth(
        self, lifetime: float, fresh_for: float
    ) -> None:
        tokens = self.provider(FakeTokenRequest(lifetime))
        assert tokens.is_refreshable
        await tokens.get(now(), None)
        received_at = now()
        await asyncio.sleep(fresh_for - 0.1)
        assert (await tokens.get(now(), None)).value == "token-1"
        assert tokens.fresh_until == pytest.approx(received_at + fresh_for)
        await asyncio.sleep(0.2)
        assert (await tokens.get(now(), None)).value == "token-2"

    async def test_token_without_known_lifetime_is_kept_until_it_is_rejected(self) -> None:
        tokens = self.provider(FakeTokenRequest())
        first = await tokens.get(now(), None)
        await asyncio.sleep(1e6)
        assert await tokens.get(now(), None) is first
        tokens.reject(first, now())
        assert (await tokens.get(now(), None)).value == "token-2"

    async def test_rejection_of_an_old_token_does_not_refresh_again(self) -> None:
        request = FakeTokenRequest()
        tokens = self.provider(request)
        first = await tokens.get(now(), None)
        await asyncio.sleep(1)
        queued_at = now()
        for _ in range(50):
            tokens.reject(first, queued_at)
            assert (await tokens.get(queued_at, first)).value == "token-2"
        assert request.requests == 2

    async def test_rejection_of_a_new_token_concerns_only_the_rejected_request(self) -> None:
        tokens = self.provider(FakeTokenRequest())
        queued_at = now()
        first = await tokens.get(queued_at, None)
        tokens.reject(first, queued_at)
        assert await tokens.get(queued_at, None) is first
        assert (await tokens.get(queued_at, first)).value == "token-2"

    async def test_failed_refresh_fails_each_request_queued_before_it_by_a_copy(self) -> None:
        request = FakeTokenRequest()
        request.failures = [ServerError(500, "the token request")]
        tokens = self.provider(request)
        queued_at = now()
        errors = []
        for _ in range(3):
            with pytest.raises(ServerError) as caught:
                await tokens.get(queued_at, None)
            errors.append(caught.value)
        assert [str(error) for error in errors] == [str(errors[0])] * 3
        assert len({id(error) for error in errors}) == 3
        assert request.requests == 1

    async def test_failed_refresh_does_not_fail_requests_queued_after_it(self) -> None:
        request = FakeTokenRequest()
        request.failures = [ServerError(500, "the token request") for _ in range(2)]
        tokens = self.provider(request)
        for _ in range(2):
            with pytest.raises(ServerError):
                await tokens.get(now(), None)
            await asyncio.sleep(0.1)
        assert (await tokens.get(now(), None)).value == "token-3"

    async def test_successful_refresh_drops_the_earlier_failure(self) -> None:
        request = FakeTokenRequest()
        request.failures = [ServerError(500, "the token request")]
        tokens = self.provider(request)
        queued_at = now()
        with pytest.raises(ServerError):
            await tokens.get(queued_at, None)
        await asyncio.sleep(0.1)
        second = await tokens.get(now(), None)
        assert (await tokens.get(queued_at, second)).value == "token-3"

    async def test_failed_early_refresh_keeps_the_token_until_it_expires(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        request = FakeTokenRequest(lifetime=100)
        tokens = self.provider(request)
        first = await tokens.get(now(), None)
        expires_at = now() + 100
        request.failures = [ServerError(503, "the token request")] * 10
        refreshed_at = []
        while now() < expires_at - 6:
            await asyncio.sleep(0.5)
            requests = request.requests
            assert await tokens.get(now(), None) is first
            if request.requests > requests:
                refreshed_at.append(now())
        assert refreshed_at[0] == pytest.approx(expires_at - 19, abs=0.6)
        gaps = [after - before for before, after in itertools.pairwise(refreshed_at)]
        assert gaps == pytest.approx([6.5] * len(gaps), abs=0.51)
        assert {record.name for record in caplog.records} == {"moltin_jobs.http"}
        assert {record.levelno for record in caplog.records} == {logging.WARNING}
        record = caplog.records[0]
        assert record.getMessage().startswith(
            "early token refresh failed, retrying in 5.0 s and using the token until then: "
            "the token request: "
        )
        assert (vars(record)["error"], vars(record)["retry_in"]) == ("ServerError", 5)
        await asyncio.sleep(expires_at - now())
        with pytest.raises(ServerError):
            await tokens.get(now(), None)

    async def test_failed_refresh_of_a_rejected_token_is_raised_before_it_expires(self) -> None:
        request = FakeTokenRequest(lifetime=100)
        tokens = self.provider(request)
        first = await tokens.get(now(), None)
        request.failures = [ServerError(503, "the token request")]
        await asyncio.sleep(1)
        tokens.reject(first, now())
        with pytest.raises(ServerError):
            await tokens.get(now(), None)


class TestRequests:
    async def test_fifty_first_requests_cause_one_token_request_before_them(self) -> None:
        async with (
            Simulator(rate_limit=None) as simulator,
            JobsSession(credentials(simulator), base_url=simulator.url, rate_limit=None) as session,
        ):
            job_ids = [simulator.add_job(statuses=["pending"]) for _ in range(50)]
            await session.get_jobs(job_ids)
        paths = [request.path for request in simulator.requests]
        assert paths[0] == TOKEN_PATH
        assert paths.count(TOKEN_PATH) == 1
        assert len(paths) == 51

    async def test_requests_in_flight_with_a_revoked_token_cause_one_refresh(self) -> None:
        async with (
            Simulator(rate_limit=None, latency=0.1) as simulator,
            JobsSession(credentials(simulator), base_url=simulator.url, rate_limit=None) as session,
        ):
            job_ids = [simulator.add_job(statuses=["pending"]) for _ in range(20)]
            await session.get_jobs(job_ids)
            simulator.revoke_tokens()
            await session.get_jobs(job_ids)
            assert_idle(session)
        statuses = [request.status for request in simulator.requests if request.job_id]
        assert statuses.count(401) == 20
        assert statuses.count(200) == 40
        assert len(simulator.requests) - len(statuses) == 2

    async def test_requests_queued_behind_a_401_are_sent_with_the_next_token(self) -> None:
        async with (
            Simulator() as simulator,
            JobsSession(credentials(simulator), base_url=simulator.url, rate_limit=1) as session,
        ):
            job_ids = [simulator.add_job(statuses=["pending"]) for _ in range(10)]
            await session.get_job(job_ids[0])
            simulator.revoke_tokens()
            await session.get_jobs(job_ids)
        statuses = [request.status for request in simulator.requests]
        # The second one had its token already, and waited for a slot.
        assert statuses == [200, 200, 401, 401, *[200] * 11]

    async def test_token_request_is_sent_before_queued_requests(self) -> None:
        async with (
            Simulator(token_lifetime=5) as simulator,
            JobsSession(credentials(simulator), base_url=simulator.url, rate_limit=1) as session,
        ):
            job_ids = [simulator.add_job(statuses=["pending"]) for _ in range(9)]
            await session.get_jobs(job_ids)
        assert all(request.status == 200 for request in simulator.requests)
        requests = [request.job_id or "token" for request in simulator.requests]
        # A token is fresh for four seconds, and one request is sent in each second.
        assert requests == ["token", *job_ids[:4], "token", *job_ids[4:8], "token", *job_ids[8:]]

    async def test_token_that_expires_during_a_cooldown_is_refreshed_after_it(self) -> None:
        async with (
            Simulator(token_lifetime=10) as simulator,
            JobsSession(credentials(simulator), base_url=simulator.url) as session,
        ):
            simulator.add_job("a", ["pending"])
            simulator.add_faults(Fault(429, {"Retry-After": "30"}))
            await session.get_job("a")
        statuses = [(request.job_id, request.status) for request in simulator.requests]
        assert statuses == [(None, 200), ("a", 429), (None, 200), ("a", 200)]

    async def test_401_of_a_static_token_is_final(self) -> None:
        async with RawServer([UNAUTHORIZED] * 2) as server:
            async with JobsSession("a-wrong-token", base_url=server.url) as session:
                with pytest.raises(AuthenticationError, match="no such token"):
                    await session.wait_for_job("a")
        assert len(server.requests) == 1

    async def test_401_of_a_new_token_is_final_after_one_refresh(self) -> None:
        scripts = [issue("one"), UNAUTHORIZED, issue("two"), UNAUTHORIZED]
        async with RawServer(scripts) as server:
            async with JobsSession(CREDENTIALS, base_url=server.url) as session:
                with pytest.raises(AuthenticationError) as caught:
                    await session.wait_for_job("a")
                assert_idle(session)
        assert len(server.requests) == 4
        assert caught.value.__context__ is None

    async def test_queue_of_requests_whose_tokens_are_all_rejected_refreshes_seldom(self) -> None:
        async with (
            Simulator(rate_limit=None) as simulator,
            JobsSession(credentials(simulator), base_url=simulator.url, rate_limit=10) as session,
        ):
            job_ids = [simulator.add_job(statuses=["pending"]) for _ in range(30)]
            simulator.add_faults(401, repeat=True)
            outcomes = await session.get_jobs(job_ids, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {AuthenticationError}
        assert [request.path for request in simulator.requests].count(TOKEN_PATH) <= 3
        assert [request.status for request in simulator.requests].count(401) == 60

    async def test_creation_is_repeated_with_its_body_after_a_401(self) -> None:
        scripts = [
            issue("one"),
            respond(job()),
            UNAUTHORIZED,
            issue("two"),
            respond(job(), "201 Created"),
        ]
        async with (
            RawServer(scripts) as server,
            JobsSession(CREDENTIALS, base_url=server.url) as session,
        ):
            await session.get_job("a")
            assert (await session.create_job()).id == "a"
        *_, rejected, _, repeated = server.requests
        assert rejected.replace(b"Bearer one", b"Bearer two") == repeated
        assert server.bodies[2] == server.bodies[4] != b""

    async def test_repetition_after_a_401_has_the_whole_request_timeout(self) -> None:
        scripts = [
            issue("one"),
            delayed(7, UNAUTHORIZED),
            delayed(7, issue("two")),
            delayed(7, respond(job())),
        ]
        async with (
            RawServer(scripts) as server,
            JobsSession(CREDENTIALS, base_url=server.url, retry=ONCE) as session,
        ):
            assert (await session.get_job("a")).id == "a"
        assert now() == pytest.approx(21, abs=1.1)

    async def test_repetition_with_a_token_refreshed_by_another_has_the_whole_timeout(self) -> None:
        good = respond(job())
        scripts = [
            issue("one"),
            delayed(1, UNAUTHORIZED),  # the other request has been sent by then
            delayed(7, UNAUTHORIZED),
            issue("two"),
            good,
            delayed(7, good),
        ]
        async with (
            RawServer(scripts) as server,
            JobsSession(CREDENTIALS, base_url=server.url, retry=ONCE) as session,
        ):
            await session.get_jobs(["a", "a"])
        assert len(server.requests) == 6
        assert now() == pytest.approx(14, abs=0.1)

    async def test_request_that_waits_for_a_refresh_is_queued_and_not_in_flight(self) -> None:
        async with (
            RawServer([issue("one"), UNAUTHORIZED, hang]) as server,
            JobsSession(CREDENTIALS, base_url=server.url) as session,
        ):
            creation = asyncio.create_task(session.create_job())
            await asyncio.sleep(1)
            stats = session.stats()
            assert len(server.requests) == 3
            assert (stats.requests_queued, stats.requests_in_flight) == (1, 1)
            assert (stats.slots_held, stats.connections, stats.requests) == (1, 1, 3)
            creation.cancel()

    async def test_401_whose_body_does_not_end_leaves_no_connection_behind(self) -> None:
        without_end = send(b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n")
        scripts = [issue("one"), without_end, issue("two"), respond(job())]
        connector = aiohttp.TCPConnector(limit=1)
        async with (
            RawServer(scripts) as server,
            aiohttp.ClientSession(connector=connector) as http_session,
            JobsSession(
                CREDENTIALS, base_url=server.url, http_session=http_session, retry=ONCE
            ) as session,
        ):
            assert (await session.get_job("a")).id == "a"
            assert server.open_connections == 1

    async def test_middleware_that_skips_authorization_does_not_cause_a_loop(self) -> None:
        async def replay(
            request: aiohttp.ClientRequest, _: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            return await recorder.get(recording.url)

        async with (
            RawServer([UNAUTHORIZED] * 5) as recording,
            aiohttp.ClientSession() as recorder,
            aiohttp.ClientSession(middlewares=(replay,)) as http_session,
            JobsSession(
                CREDENTIALS, base_url="https://api.example", http_session=http_session
            ) as session,
        ):
            with pytest.raises(AuthenticationError):
                await session.get_job("a")
            assert_idle(session)
        assert len(recording.requests) == 1

    async def test_failed_early_refresh_fails_no_request(self) -> None:
        async with (
            Simulator(token_lifetime=100) as simulator,
            JobsSession(credentials(simulator), base_url=simulator.url, retry=ONCE) as session,
        ):
            simulator.add_job("a", ["pending"])
            await session.get_job("a")
            simulator.add_faults(503, path=TOKEN_PATH, repeat=True)
            for _ in range(19):
                await asyncio.sleep(5)
                await session.get_job("a")
            await asyncio.sleep(5)
            with pytest.raises(ServerError, match=r"^the token request: "):
                await session.get_job("a")
            simulator.clear_faults()
            await session.get_job("a")
        assert 401 not in [request.status for request in simulator.requests]

    async def test_cancelling_the_request_that_refreshes_fails_no_other(self) -> None:
        async with (
            RawServer([hang, issue("issued"), *[respond(job())] * 2]) as server,
            JobsSession(CREDENTIALS, base_url=server.url) as session,
        ):
            tasks = [asyncio.create_task(session.get_job("a")) for _ in range(3)]
            await asyncio.sleep(1)
            tasks[0].cancel()
            jobs = await asyncio.gather(*tasks[1:])
            assert [job.id for job in jobs] == ["a", "a"]
            assert tasks[0].cancelled()
            assert now() == pytest.approx(1, abs=0.1)

    async def test_deadline_of_the_request_that_refreshes_fails_no_other(self) -> None:
        async with (
            RawServer([hang, issue("issued"), respond(job("success", "b"))]) as server,
            JobsSession(CREDENTIALS, base_url=server.url) as session,
        ):
            timed_out = asyncio.create_task(session.wait_for_job("a", timeout=2))
            await asyncio.sleep(0)
            assert (await session.wait_for_job("b")).status == "success"
            with pytest.raises(JobTimeoutError):
                await timed_out
            assert now() == pytest.approx(2, abs=0.1)

    async def test_wait_goes_on_after_retryable_failures_of_token_requests(self) -> None:
        async with (
            Simulator() as simulator,
            JobsSession(credentials(simulator), base_url=simulator.url) as session,
        ):
            simulator.add_job("a", ["success"])
            simulator.add_faults(503, "reset", "garbage", 429, path=TOKEN_PATH)
            assert (await session.wait_for_job("a")).status == "success"

    async def test_rejected_credentials_end_a_wait_at_once(self) -> None:
        async with Simulator() as simulator:
            wrong = ClientCredentials(simulator.client_id, "the-wrong-secret")
            async with JobsSession(wrong, base_url=simulator.url) as session:
                with pytest.raises(AuthenticationError, match="Check the client id") as caught:
                    await session.wait_for_job("a")
        assert caught.value.errors == ()
        assert [request.path for request in simulator.requests] == [TOKEN_PATH]


class VaultError(Exception):
    """Exception of the user's own code."""


def depth(error: BaseException) -> int:
    return len(list(traceback.walk_tb(error.__traceback__)))


class TestCallable:
    async def test_callable_is_called_once_and_again_after_a_401(self) -> None:
        values = iter(["an-expired-token", "simulator-token"])

        async def token() -> str:
            return next(values)

        async with (
            Simulator() as simulator,
            JobsSession(token, base_url=simulator.url) as session,
        ):
            simulator.add_job("a", ["pending", "success"])
            await session.wait_for_job("a")
        assert [request.status for request in simulator.requests] == [401, 200, 200]

    @pytest.mark.parametrize("value", [None, "", "Bearer abc", b"abc"], ids=repr)
    async def test_invalid_result_of_callable_is_rejected_and_hidden(self, value: str) -> None:
        async def token() -> str:
            return value

        async with JobsSession(token, base_url="http://127.0.0.1:9") as session:
            with pytest.raises(
                ConfigurationError, match=r"^the result of the auth callable must be a bearer token"
            ) as caught:
                await session.get_job("a")
        assert "Bearer abc" not in "".join(traceback.format_exception(caught.value))

    async def test_callable_that_is_not_async_is_rejected(self) -> None:
        def token() -> str:
            return "token"

        async with JobsSession(token, base_url="http://127.0.0.1:9") as session:  # type: ignore[arg-type]
            with pytest.raises(
                ConfigurationError,
                match=r"^the auth callable must be async: define it with 'async def'$",
            ):
                await session.get_job("a")

    @pytest.mark.parametrize(
        "error",
        [
            VaultError("sealed"),
            TimeoutError("sealed"),
            ConnectionResetError("sealed"),
            RuntimeError("sealed"),
            aiohttp.ServerDisconnectedError(),
            aiohttp.InvalidURL("sealed"),
        ],
        ids=repr,
    )
    async def test_exception_of_callable_is_passed_on_unchanged(self, error: Exception) -> None:
        calls = 0

        async def token() -> str:
            nonlocal calls
            calls += 1
            raise error

        async with (
            Simulator() as simulator,
            JobsSession(token, base_url=simulator.url) as session,
        ):
            with pytest.raises(type(error)) as caught:
                await session.wait_for_job("a", timeout=60)
            assert_idle(session)
        assert caught.value is error
        assert error.__cause__ is None
        assert calls == 1
        assert simulator.requests == []

    @pytest.mark.parametrize("connections", [100, 1])
    async def test_failing_callable_with_400_callers_is_called_once(self, connections: int) -> None:
        calls = 0

        async def token() -> str:
            nonlocal calls
            calls += 1
            await asyncio.sleep(1)
            raise VaultError

        depths: list[int] = []
        errors: set[int] = set()

        async def look_up(session: JobsSession) -> weakref.ref[VaultError]:
            try:
                await session.get_job("a")
            except VaultError as error:
                depths.append(depth(error))
                errors.add(id(error))
                return weakref.ref(error)
            raise AssertionError

        connector = aiohttp.TCPConnector(limit=connections)
        async with (
            aiohttp.ClientSession(connector=connector) as http_session,
            JobsSession(token, base_url="http://127.0.0.1:9", http_session=http_session) as session,
        ):
            references = await asyncio.gather(*(look_up(session) for _ in range(400)))
            gc.collect()
            assert {reference() for reference in references} == {None}
            assert_idle(session)
        assert calls == 1
        assert len(errors) == 1
        # The first caller's traceback leads into the callable by the same number of frames.
        assert len(depths) == 400
        assert len(set(depths[1:])) == 1
        assert max(depths) < 40

    async def test_callable_that_hangs_is_bounded_by_request_timeout(self) -> None:
        calls = 0

        async def token() -> str:
            nonlocal calls
            calls += 1
            await asyncio.Event().wait()
            raise AssertionError

        async with JobsSession(
            token, base_url="http://127.0.0.1:9", request_timeout=3, retry=Retry(max_attempts=2)
        ) as session:
            with pytest.raises(TransportError) as caught:
                await session.get_job("a")
        assert caught.value.retryable
        assert str(caught.value) == (
            "the auth callable: it returned no token within 3 s. Try again later, or use a longer "
            "request_timeout."
        )
        assert calls == 2
        assert 6 < now() < 7

    async def test_callable_that_hangs_is_bounded_by_the_timeout_of_a_wait(self) -> None:
        async def token() -> str:
            await asyncio.Event().wait()
            raise AssertionError

        async with JobsSession(token, base_url="http://127.0.0.1:9") as session:
            with pytest.raises(JobTimeoutError):
                await session.wait_for_job("a", timeout=5)
            assert_idle(session)
        assert now() == pytest.approx(5, abs=0.01)

    async def test_closing_the_session_ends_a_callable_that_hangs(self) -> None:
        ended: list[BaseException] = []

        async def token() -> str:
            try:
                await asyncio.Event().wait()
            except BaseException as error:
                ended.append(error)
                raise
            raise AssertionError

        session = JobsSession(token, base_url="http://127.0.0.1:9")
        lookups = [asyncio.create_task(session.get_job("a")) for _ in range(3)]
        await asyncio.sleep(1)
        await session.close()
        outcomes = await asyncio.gather(*lookups, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {SessionClosedError}
        assert [type(error) for error in ended] == [asyncio.CancelledError]

    async def test_timeout_error_of_the_callable_itself_is_not_taken_for_the_limit(self) -> None:
        async def token() -> str:
            async with asyncio.timeout(1):
                await asyncio.Event().wait()
            raise AssertionError

        async with JobsSession(token, base_url="http://127.0.0.1:9") as session:
            with pytest.raises(TimeoutError) as caught:
                await session.get_job("a")
        assert type(caught.value) is TimeoutError
        assert now() == pytest.approx(1)


async def test_calls_that_meet_one_failed_refresh_have_notes_of_their_own() -> None:
    async def wait(session: JobsSession, job_id: str) -> AuthenticationError:
        with pytest.raises(AuthenticationError) as caught:
            await session.wait_for_job(job_id)
        caught.value.add_note(f"note of {job_id}")
        return caught.value

    async with RawServer([respond(b"{}", "401 Unauthorized")]) as server:
        async with JobsSession(CREDENTIALS, base_url=server.url) as session:
            errors = await asyncio.gather(*(wait(session, job_id) for job_id in "abc"))
    assert [error.__notes__ for error in errors] == [[f"note of {job_id}"] for job_id in "abc"]


@pytest.mark.parametrize("error", [ConnectionError, TimeoutError, LookupError])
async def test_exception_of_an_auth_callable_gets_no_note(error: type[Exception]) -> None:
    tokens = iter(["good"])

    async def get_token() -> str:
        for token in tokens:
            return token
        await asyncio.sleep(1)
        raise error

    scripts = [respond(job("pending", job_id), "201 Created") for job_id in "ab"]
    async with RawServer([*scripts, UNAUTHORIZED, UNAUTHORIZED]) as server:
        async with JobsSession(get_token, base_url=server.url) as session:
            exports = (session.export_orders() for _ in range(2))
            errors = await asyncio.gather(*exports, return_exceptions=True)
    assert type(errors[0]) is error
    assert errors[1] is errors[0]
    assert not hasattr(errors[0], "__notes__")


async def test_invalid_result_of_an_auth_callable_gets_the_note_of_the_export() -> None:
    tokens = iter(["good", "not good"])

    async def get_token() -> str:
        return next(tokens)

    scripts = [respond(job("pending"), "201 Created"), UNAUTHORIZED]
    async with RawServer(scripts) as server:
        async with JobsSession(get_token, base_url=server.url) as session:
            with pytest.raises(ConfigurationError) as caught:
                await session.export_orders()
    assert caught.value.__notes__ == ["The job of this export is a."]


async def test_exception_of_on_created_gets_the_note_of_the_export() -> None:
    def on_created(_: Job) -> None:
        raise LookupError

    async with RawServer([respond(job("pending"), "201 Created")]) as server:
        async with JobsSession("token", base_url=server.url) as session:
            with pytest.raises(LookupError) as caught:
                await session.export_orders(on_created=on_created)
    assert caught.value.__notes__ == ["The job of this export is a."]


def test_class_is_no_auth_callable() -> None:
    with pytest.raises(ConfigurationError, match="auth must be a token, ClientCredentials or"):
        JobsSession(ClientCredentials)  # type: ignore[arg-type]


def test_credentials_can_be_made_from_others() -> None:
    evolved = attrs.evolve(CREDENTIALS, client_id="another-id")
    assert evolved == ClientCredentials("another-id", "the-secret")


async def test_close_during_an_early_refresh_ends_the_call() -> None:
    scripts = [issue("first", expires_in=100), respond(job("pending")), hang]
    async with RawServer(scripts) as server:
        session = JobsSession(CREDENTIALS, base_url=server.url)
        await session.get_job("a")
        await asyncio.sleep(90)  # the token is valid, and due for a refresh
        call = asyncio.create_task(session.get_job("a"))
        await asyncio.sleep(1)
        await session.close()
        with pytest.raises(SessionClosedError, match="closed during this call"):
            await call
        assert len(server.requests) == 3
