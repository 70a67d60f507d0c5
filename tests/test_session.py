"""The session against the simulator, over real sockets, in virtual time."""

import asyncio
import importlib.metadata
import itertools
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from moltin_jobs import (
    AuthenticationError,
    ClientCredentials,
    ConfigurationError,
    InvalidJobIdError,
    Job,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    JobsSession,
    JobState,
    JobTimeoutError,
    Polling,
    RateLimitError,
    Retry,
    ServerError,
    TransportError,
    wait_for_job,
)
from moltin_jobs.testing.simulator import Fault, Simulator
from tests.raw_server import RawServer, http, job, send

pytestmark = pytest.mark.looptime

DOCUMENTED_ID = "974c9db4-38da-4dbf-90c2-33eed5f3e77c"
DOCUMENTED_ERROR = "No results matched the supplied filter"
EXACT = Polling(initial=1, factor=2, jitter=0)
TOKEN = "simulator-token"


def session_on(simulator: Simulator, auth: Any = TOKEN, **settings: Any) -> JobsSession:
    return JobsSession(auth, base_url=simulator.url, **settings)


def credentials(simulator: Simulator) -> ClientCredentials:
    return ClientCredentials(simulator.client_id, simulator.client_secret)


class TestLookup:
    async def test_a_job_is_fetched_whole(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job(DOCUMENTED_ID, ["failed"], error=DOCUMENTED_ERROR)
            job = await session.get_job(uuid.UUID(DOCUMENTED_ID))
        assert (job.id, job.type, job.job_type) == (DOCUMENTED_ID, "job", "order_export")
        assert (job.status, job.error) == ("failed", DOCUMENTED_ERROR)
        assert job.self_url == f"{simulator.url}/v2/jobs/{DOCUMENTED_ID}"
        assert job.created_at is not None

    async def test_five_hundred_by_gather_over_a_hundred_connections_in_order(self) -> None:
        async with (
            Simulator(rate_limit=None, latency=0.01) as simulator,
            session_on(simulator, rate_limit=None) as session,
        ):
            ids = [simulator.add_job(f"job-{number}", ["pending"]) for number in range(500)]
            jobs = await asyncio.gather(*(session.get_job(job_id) for job_id in ids))
            assert session._transport._own is not None
            connector = session._transport._own.connector
            assert connector is not None
            connections = sum(len(pool) for pool in connector._conns.values())
        assert [job.id for job in jobs] == ids
        assert len(simulator.requests) == 500
        assert 2 <= connections <= 100

    @pytest.mark.parametrize("not_found", ["bare", "list"])
    async def test_not_found_in_both_shapes(self, not_found: Any) -> None:
        async with Simulator(not_found=not_found) as simulator, session_on(simulator) as session:
            with pytest.raises(
                JobNotFoundError, match="The resource you are requesting does not exist"
            ) as caught:
                await session.get_job("nowhere")
        assert caught.value.job_id == "nowhere"
        assert len(simulator.requests) == 1

    async def test_a_passing_failure_is_retried_then_raised(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job("a", ["pending"])
            simulator.spoil(500, "reset", "garbage")
            assert (await session.get_job("a")).status == "pending"
            simulator.spoil(500, 503, 500, 502)
            with pytest.raises(ServerError) as caught:
                await session.get_job("a")
        assert caught.value.status == 502
        jobs = [request for request in simulator.requests if request.job_id == "a"]
        assert len(jobs) == 8

    async def test_no_retry_when_told_so(self) -> None:
        once = Retry(max_tries=1)
        async with Simulator() as simulator, session_on(simulator, retry=once) as session:
            simulator.spoil(500)
            with pytest.raises(ServerError) as caught:
                await session.get_job("a")
        assert caught.value.request_id
        assert len(simulator.requests) == 1

    async def test_a_too_long_retry_after_is_raised_at_once(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.spoil(Fault(429, {"Retry-After": "121"}, b""))
            with pytest.raises(RateLimitError) as caught:
                await session.get_job("a")
            assert asyncio.get_running_loop().time() < 1
        assert caught.value.retry_after == 121

    async def test_a_retry_after_within_reason_is_obeyed(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job("a", ["pending"])
            simulator.spoil(Fault(429, {"Retry-After": "60"}, b""))
            await session.get_job("a")
        first, second = simulator.requests
        assert 60 <= second.at - first.at <= 72.1

    async def test_a_redirect_is_not_followed(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.spoil(Fault(302, {"Location": "https://evil.example/"}, b""))
            with pytest.raises(Exception, match=r"https://evil\.example/") as caught:
                await session.get_job("a")
        assert simulator.url in str(caught.value)
        assert len(simulator.requests) == 1

    async def test_an_attempt_that_hangs_is_ended(self) -> None:
        async with (
            Simulator() as simulator,
            session_on(simulator, request_timeout=2, retry=Retry(max_tries=2)) as session,
        ):
            simulator.spoil("hang", "hang")
            with pytest.raises(TransportError, match="within 2 s"):
                await session.get_job("a")
            assert 4.2 <= asyncio.get_running_loop().time() <= 4.6


class TestMany:
    async def test_in_the_order_asked(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            ids = [simulator.add_job(statuses=["pending"]) for _ in range(5)]
            jobs = await session.get_jobs(reversed(ids))
            assert [job.id for job in jobs] == ids[::-1]
            assert await session.get_jobs([]) == []

    async def test_the_first_error_is_raised_when_the_others_have_finished(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job("slow", ["pending"])
            with pytest.raises(JobNotFoundError) as caught:
                await session.wait_for_jobs(["slow", "nowhere"])
            assert not session._scopes.running
        assert caught.value.job_id == "nowhere"
        assert caught.value.__context__ is None

    async def test_errors_in_their_places(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job("good", ["success"])
            simulator.add_job("bad", ["failed"], error="why")
            good, bad, gone = await session.wait_for_jobs(
                ["good", "bad", "nowhere"], return_exceptions=True
            )
            assert isinstance(good, Job)
            assert isinstance(bad, JobFailedError)
            assert isinstance(gone, JobNotFoundError)
            looked_up = await session.get_jobs(["bad", "nowhere"], return_exceptions=True)
        assert isinstance(looked_up[0], Job)
        assert isinstance(looked_up[1], JobNotFoundError)

    @pytest.mark.parametrize("many", ["get_jobs", "wait_for_jobs"])
    async def test_all_ids_are_checked_before_anything_is_sent(self, many: str) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            with pytest.raises(InvalidJobIdError):
                await getattr(session, many)(["good", ".."])
            for one in ("abc", uuid.uuid4()):
                with pytest.raises(TypeError, match="iterable of ids"):
                    await getattr(session, many)(one)
        assert simulator.requests == []


class TestWait:
    @pytest.mark.parametrize(
        "statuses",
        [
            ["PENDING", "STARTED", "SUCCESS"],
            ["pending", "processing", "complete"],
            ["pending", "processing", "completed"],
        ],
        ids=str,
    )
    async def test_every_dialect_ends_and_returns_the_job(self, statuses: list[str]) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job("a", statuses)
            job = await session.wait_for_job("a")
        assert (job.status, job.state) == (statuses[-1], JobState.SUCCEEDED)
        assert len(simulator.requests) == 3

    async def test_the_documented_failure_after_one_request(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job(DOCUMENTED_ID, ["failed"], error=DOCUMENTED_ERROR)
            with pytest.raises(JobFailedError, match=DOCUMENTED_ERROR) as caught:
                await session.wait_for_job(DOCUMENTED_ID)
        assert caught.value.error == DOCUMENTED_ERROR
        assert caught.value.job.id == DOCUMENTED_ID
        assert not isinstance(caught.value, JobCancelledError)
        assert len(simulator.requests) == 1

    async def test_a_cancelled_job_has_an_error_of_its_own(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job("a", ["cancelling", "cancelled"])
            with pytest.raises(JobCancelledError):
                await session.wait_for_job("a")

    async def test_the_function_is_the_same_wait(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job("a", ["pending", "success"])
            assert (await wait_for_job(session, "a", timeout=60, polling=EXACT)).status == "success"
        first, second = simulator.requests
        assert second.at - first.at == pytest.approx(1, abs=0.05)

    async def test_watching_yields_each_change(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job("a", ["pending", "pending", "started", "failed"])
            seen = [job.status async for job in session.watch_job("a")]
        assert seen == ["pending", "started", "failed"]
        assert len(simulator.requests) == 4

    async def test_watching_can_be_left(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job("a", ["pending", "started"])
            async for job in session.watch_job("a"):
                if job.status == "started":
                    break
        assert len(simulator.requests) == 2

    async def test_jobs_run_one_at_a_time_and_each_wait_ends_as_its_job_does(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            ids = [simulator.add_job(duration=20) for _ in range(3)]
            bad = simulator.add_job(duration=5, error="why")
            *good, failed = await session.wait_for_jobs([*ids, bad], return_exceptions=True)
        assert [job.id for job in good if isinstance(job, Job)] == ids
        assert isinstance(failed, JobFailedError)
        assert failed.error == "why"

    async def test_an_unknown_status_is_warned_of_once_a_spelling(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.add_job("a", ["dreaming", "dreaming", "Dozing", "success"])
            simulator.add_job("b", ["dreaming", "success"])
            await session.wait_for_jobs(["a", "b"])
        warned = [record.__dict__["job_status"] for record in caplog.records]
        assert sorted(warned) == ["Dozing", "dreaming"]

    async def test_the_spellings_kept_are_bounded(self, caplog: pytest.LogCaptureFixture) -> None:
        async with (
            Simulator(rate_limit=None) as simulator,
            session_on(simulator, rate_limit=None) as session,
        ):
            simulator.add_job("a", [*(f"odd-{number}" for number in range(150)), "success"])
            await session.wait_for_job("a")
        assert len(caplog.records) == 100

    async def test_a_server_that_never_answers(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            simulator.spoil(*["hang"] * 9)
            with pytest.raises(JobTimeoutError):
                await session.wait_for_job("a", timeout=0.5)
            assert asyncio.get_running_loop().time() < 0.6


class TestTokens:
    async def test_a_refused_static_token_is_not_tried_again(self) -> None:
        async with Simulator() as simulator, session_on(simulator, "not-the-token") as session:
            with pytest.raises(AuthenticationError, match="Unable to validate access token"):
                await session.wait_for_job("a")
        assert len(simulator.requests) == 1

    async def test_fifty_first_requests_make_one_token_request(self) -> None:
        async with (
            Simulator(rate_limit=None) as simulator,
            session_on(simulator, credentials(simulator), rate_limit=None) as session,
        ):
            ids = [simulator.add_job(statuses=["pending"]) for _ in range(50)]
            await session.get_jobs(ids)
        paths = [request.path for request in simulator.requests]
        assert paths[0] == "/oauth/access_token"
        assert paths.count("/oauth/access_token") == 1
        assert len(paths) == 51

    async def test_a_401_renews_once_and_repeats_the_request(self) -> None:
        async with (
            Simulator(rate_limit=None) as simulator,
            session_on(simulator, credentials(simulator), rate_limit=None) as session,
        ):
            ids = [simulator.add_job(statuses=["pending"]) for _ in range(20)]
            await session.get_jobs(ids)
            simulator.revoke_tokens()
            await session.get_jobs(ids)
        statuses = [r.status for r in simulator.requests if r.job_id is not None]
        assert statuses.count(401) == 20
        assert statuses.count(200) == 40
        assert len(simulator.requests) - len(statuses) == 2

    async def test_a_401_with_a_fresh_token_is_final(self) -> None:
        async with (
            Simulator() as simulator,
            session_on(simulator, credentials(simulator)) as session,
        ):
            simulator.spoil(401, 401)
            with pytest.raises(AuthenticationError):
                await session.wait_for_job("a")
        assert [request.job_id for request in simulator.requests] == [None, "a", None, "a"]

    async def test_refused_credentials_end_a_wait_at_once(self) -> None:
        async with Simulator() as simulator:
            wrong = ClientCredentials(simulator.client_id, "wrong-secret")
            async with session_on(simulator, wrong) as session:
                with pytest.raises(AuthenticationError, match="client id and secret") as caught:
                    await session.wait_for_job("a")
        assert caught.value.errors == ()
        assert "wrong-secret" not in str(caught.value)
        assert [request.path for request in simulator.requests] == ["/oauth/access_token"]

    async def test_a_token_outlived_by_the_wait_is_renewed_before_it_expires(self) -> None:
        async with (
            Simulator(token_lifetime=100) as simulator,
            session_on(simulator, credentials(simulator)) as session,
        ):
            simulator.add_job("a", duration=400)
            await session.wait_for_job("a")
        assert all(request.status == 200 for request in simulator.requests)
        asked = [r.at for r in simulator.requests if r.path == "/oauth/access_token"]
        assert len(asked) in (5, 6)
        # At the first poll after four fifths of its life.
        assert all(80 <= after - before < 100 for before, after in itertools.pairwise(asked))

    @pytest.mark.parametrize(
        "mine",
        [KeyError("vault"), TimeoutError("vault"), aiohttp.ServerDisconnectedError()],
        ids=repr,
    )
    async def test_a_callables_own_error_passes_through(self, mine: Exception) -> None:
        calls = 0

        async def token() -> str:
            nonlocal calls
            calls += 1
            raise mine

        async with Simulator() as simulator, session_on(simulator, token) as session:
            with pytest.raises(type(mine)) as caught:
                await session.wait_for_job("a", timeout=60)
        assert caught.value is mine
        assert mine.__cause__ is None
        assert calls == 1
        assert simulator.requests == []

    async def test_a_callable_is_asked_again_after_a_401(self) -> None:
        tokens = iter(["stale-token", TOKEN])

        async def token() -> str:
            return next(tokens)

        async with Simulator() as simulator, session_on(simulator, token) as session:
            simulator.add_job("a", ["success"])
            await session.wait_for_job("a")
        assert [request.status for request in simulator.requests] == [401, 200]


class TestClosing:
    async def test_fifty_waits_end_with_a_clear_error(self) -> None:
        loop = asyncio.get_running_loop()
        async with Simulator() as simulator:
            session = session_on(simulator)
            ids = [simulator.add_job(statuses=["pending"]) for _ in range(50)]
            waits = [asyncio.create_task(session.wait_for_job(job_id)) for job_id in ids]
            await asyncio.sleep(5)
            start = loop.time()
            await session.close()
            assert loop.time() - start < 1
            assert all(task.done() for task in waits)
            ended = await asyncio.gather(*waits, return_exceptions=True)
            await session.close()
        assert {str(error) for error in ended} == {
            "the JobsSession was closed while this call was in progress"
        }
        assert {type(error) for error in ended} == {RuntimeError}

    async def test_closing_twice_at_once_waits_twice(self) -> None:
        async with Simulator() as simulator:
            session = session_on(simulator)
            simulator.spoil("hang")
            lookup = asyncio.create_task(session.get_job("a"))
            await asyncio.sleep(1)
            await asyncio.gather(session.close(), session.close())
            assert lookup.done()
            with pytest.raises(RuntimeError):
                await lookup

    async def test_used_after_closing(self) -> None:
        async with session_on_nothing() as session:
            pass
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.get_job("a"),
            lambda: session.wait_for_job("a"),
            lambda: session.get_jobs(["a"]),
            lambda: anext(session.watch_job("a")),
            session.__aenter__,
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="is closed"):
                await call()

    def test_used_from_another_loop(self) -> None:
        session = session_on_nothing()

        async def use() -> None:
            async with session:
                pass

        asyncio.run(use())
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(use())

    async def test_a_watch_in_its_consumers_hands_ends_at_the_next_step(self) -> None:
        async with Simulator() as simulator:
            session = session_on(simulator)
            simulator.add_job("a", ["pending", "success"])
            changes = session.watch_job("a")
            await anext(changes)
            await session.close()
            with pytest.raises(RuntimeError, match="is closed"):
                await anext(changes)

    async def test_a_callers_http_session_is_used_and_left_open(self) -> None:
        async with Simulator() as simulator, aiohttp.ClientSession() as http:
            async with session_on(simulator, http=http, headers={"X-Mine": "1"}) as session:
                simulator.add_job("a", ["success"])
                assert (await session.wait_for_job("a")).status == "success"
            assert not http.closed


async def test_what_is_sent() -> None:
    headers = {"EP-Beta-Features": "a,b", "user-agent": "my-service/2"}
    async with RawServer([send(http(job()))] * 2) as server:
        async with aiohttp.ClientSession(
            headers={"X-Theirs": "1", "Authorization": "Basic theirs"}
        ) as theirs:
            for mine in (None, theirs):
                session = JobsSession(TOKEN, base_url=server.url, headers=headers, http=mine)
                async with session:
                    await session.get_job("a")
    own, foreign = ({line for line in r.decode().split("\r\n") if line} for r in server.requests)
    version = importlib.metadata.version("moltin-jobs")
    assert own == {
        "GET /v2/jobs/a HTTP/1.1",
        f"Host: {server.url.removeprefix('http://')}",
        "Accept: application/json",
        "EP-Beta-Features: a,b",
        f"User-Agent: moltin-jobs/{version} my-service/2",
        f"Authorization: Bearer {TOKEN}",
        next(line for line in own if line.startswith("Accept-Encoding: ")),
    }
    assert foreign == own | {"X-Theirs: 1"}


def session_on_nothing(**settings: Any) -> JobsSession:
    return JobsSession("some-token", base_url="http://127.0.0.1:9", **settings)


class TestRefusedBeforehand:
    @pytest.mark.parametrize(
        "job_id",
        ["", ".", "..", "a/b", "a b", "ä", "a" * 129, "a\n", "%2e", "a?b", None, 7, b"abc"],
        ids=repr,
    )
    async def test_what_is_no_id(self, job_id: Any) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            calls: list[Callable[..., Any]] = [
                session.get_job,
                session.wait_for_job,
                session.watch_job,
            ]
            for call in calls:
                with pytest.raises(InvalidJobIdError, match="not a job id"):
                    await call(job_id)
        assert simulator.requests == []

    async def test_an_id_at_the_bounds_is_sent(self) -> None:
        async with Simulator() as simulator, session_on(simulator) as session:
            for job_id in ("-", "_" * 128):
                simulator.add_job(job_id, ["success"])
                assert (await session.get_job(job_id)).id == job_id

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("base_url", "http://api.moltin.com"),
            ("base_url", "ftp://127.0.0.1"),
            ("base_url", "https://"),
            ("base_url", "https://user:hush@api.moltin.com"),
            ("base_url", "https://api.moltin.com?a=b"),
            ("base_url", "https://api.moltin.com#a"),
            ("base_url", "https://api.moltin.com:99999"),
            ("base_url", "https://api.molt in.com"),
            ("base_url", "api.moltin.com"),
            ("base_url", "http://127.0.0.1.evil.example"),
            ("base_url", None),
            ("request_timeout", 0),
            ("request_timeout", float("nan")),
            ("rate_limit", 0),
            ("retry", 4),
            ("polling", None),
            ("http", "session"),
            ("headers", {"Authorization": "Basic hush"}),
            ("headers", {"X-A": "b\r\nX-C: hush"}),
            ("headers", {"X A": "b"}),
            ("headers", {"X-Ä": "b"}),
            ("headers", {"": "b"}),
            ("headers", {"hOST": "b"}),
            ("headers", {"X-A": 5}),
            ("headers", ["X-A"]),
            ("auth", "Bearer hush"),
            ("auth", None),
        ],
        ids=repr,
    )
    def test_a_wrong_setting_is_named_and_no_secret_shown(self, setting: str, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=rf"^{setting}\b") as caught:
            JobsSession(**{"auth": "some-token"} | {setting: value})
        assert "hush" not in str(caught.value)
        assert "some-token" not in str(caught.value)

    @pytest.mark.parametrize("base_url", ["https://h/v2", "https://h/a/v2/"])
    def test_an_address_with_the_version_of_the_api(self, base_url: str) -> None:
        with pytest.raises(ConfigurationError, match="base_url must end before the /v2"):
            JobsSession("some-token", base_url=base_url)

    @pytest.mark.parametrize(
        "base_url",
        ["http://localhost:8000", "http://127.1.2.3", "http://[::1]:80/a", "https://h/x/"],
    )
    def test_addresses_where_a_token_may_go(self, base_url: str) -> None:
        session = JobsSession("some-token", base_url=base_url)
        url = str(session._transport.request("/v2/jobs/a", "").url)
        assert url == base_url.replace(":80/", "/").rstrip("/") + "/v2/jobs/a"

    @pytest.mark.parametrize(
        ("argument", "value"),
        [("timeout", 0), ("timeout", -1), ("timeout", float("inf")), ("polling", 5)],
    )
    async def test_a_waits_arguments(self, argument: str, value: Any) -> None:
        async with session_on_nothing() as session:
            calls: list[Callable[..., Any]] = [
                lambda **kw: session.wait_for_job("a", **kw),
                lambda **kw: session.wait_for_jobs([], **kw),
                lambda **kw: session.watch_job("a", **kw),
            ]
            for call in calls:
                with pytest.raises(ConfigurationError, match=rf"^{argument} must be"):
                    await call(**{argument: value})


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def _empty(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("API_BASE_URL", "CLIENT_ID", "CLIENT_SECRET", "ACCESS_TOKEN"):
            monkeypatch.delenv(f"EPCC_{name}", raising=False)

    async def test_credentials_and_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with Simulator() as simulator:
            monkeypatch.setenv("EPCC_API_BASE_URL", simulator.url)
            monkeypatch.setenv("EPCC_CLIENT_ID", simulator.client_id)
            monkeypatch.setenv("EPCC_CLIENT_SECRET", simulator.client_secret)
            monkeypatch.setenv("EPCC_ACCESS_TOKEN", "not-used")
            simulator.add_job("a", ["success"])
            async with JobsSession.from_env(rate_limit=5) as session:
                await session.wait_for_job("a")
        assert simulator.requests[0].path == "/oauth/access_token"

    async def test_a_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with Simulator() as simulator:
            monkeypatch.setenv("EPCC_ACCESS_TOKEN", TOKEN)
            monkeypatch.setenv("EPCC_CLIENT_ID", "")
            simulator.add_job("a", ["success"])
            async with JobsSession.from_env(base_url=simulator.url) as session:
                await session.wait_for_job("a")
        assert len(simulator.requests) == 1

    def test_an_override_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EPCC_API_BASE_URL", "nonsense")
        session = JobsSession.from_env(auth="some-token", base_url="https://a.example")
        assert str(session._transport.request("", "").url) == "https://a.example"

    @pytest.mark.parametrize(
        ("given", "missing"),
        [
            ({}, "EPCC_CLIENT_ID and EPCC_CLIENT_SECRET, or EPCC_ACCESS_TOKEN"),
            ({"EPCC_CLIENT_ID": "id"}, "EPCC_CLIENT_SECRET is not set"),
            ({"EPCC_CLIENT_SECRET": "hush"}, "EPCC_CLIENT_ID is not set"),
        ],
    )
    def test_what_is_missing_is_named(
        self, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], missing: str
    ) -> None:
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigurationError, match=missing) as caught:
            JobsSession.from_env()
        assert "hush" not in str(caught.value)
