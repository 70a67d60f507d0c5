"""Where tokens come from: static, from a callable, from a scripted token request."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable

import pytest

from moltin_jobs import ClientCredentials, ConfigurationError, ServerError
from moltin_jobs.auth import Auth, Secret, Tokens

pytestmark = pytest.mark.looptime

CREDENTIALS = ClientCredentials("the-id", "the-secret")


class Endpoint:
    """A token request that takes a second; tokens live as long as it says."""

    def __init__(self, lifetime: float | None = None) -> None:
        self.lifetime = lifetime
        self.requests = 0
        self.failures: list[Exception] = []

    async def __call__(self) -> tuple[Secret, float | None]:
        self.requests += 1
        token = Secret(f"token-{self.requests}")
        await asyncio.sleep(1)
        if self.failures:
            raise self.failures.pop(0)
        return token, self.lifetime


def tokens_of(endpoint: Endpoint) -> Tokens:
    return Tokens(CREDENTIALS, endpoint)


def from_callable(call: Callable[[], Awaitable[str]]) -> Tokens:
    return Tokens(call, Endpoint())


class TestSettings:
    @pytest.mark.parametrize(
        "auth", ["", " ", "two words", "Bearer abc", "new\nline", "tëst", "tab\t"], ids=repr
    )
    def test_what_cannot_be_sent_is_refused_and_not_shown(self, auth: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^auth must be a bearer token") as caught:
            Tokens(auth, Endpoint())
        assert auth.strip() == "" or auth not in str(caught.value)

    @pytest.mark.parametrize("auth", [None, 5, b"token", ("id", "secret")], ids=repr)
    def test_other_types_are_refused(self, auth: Auth) -> None:
        with pytest.raises(ConfigurationError, match=r"^auth must be a token, ClientCredentials"):
            Tokens(auth, Endpoint())

    @pytest.mark.parametrize(("client_id", "client_secret", "named"), [
        ("", "secret", "client_id"),
        ("id", "", "client_secret"),
        ("id", None, "client_secret"),
        (7, "secret", "client_id"),
        ("id", "hush\n", "client_secret"),
    ])  # fmt: skip
    def test_credentials_are_checked(self, client_id: str, client_secret: str, named: str) -> None:
        with pytest.raises(ConfigurationError, match=rf"^ClientCredentials\.{named} ") as caught:
            ClientCredentials(client_id, client_secret)
        assert "hush" not in str(caught.value)

    def test_secrets_are_silent(self) -> None:
        assert "the-secret" not in repr(CREDENTIALS)
        assert repr(Secret("hush")) == str(Secret("hush")) == "Secret(...)"
        assert CREDENTIALS.form() == {
            "grant_type": "client_credentials",
            "client_id": "the-id",
            "client_secret": "the-secret",
        }


async def test_a_static_token_is_never_renewed() -> None:
    endpoint = Endpoint()
    tokens = Tokens("static", endpoint)
    assert (await tokens.get(tokens.failures)).value == "static"
    assert not tokens.renewable
    assert endpoint.requests == 0


async def test_fifty_first_requests_make_one_renewal() -> None:
    endpoint = Endpoint()
    tokens = tokens_of(endpoint)
    got = await asyncio.gather(*(tokens.get(0) for _ in range(50)))
    assert {token.value for token in got} == {"token-1"}
    assert endpoint.requests == 1
    assert tokens.renewable


@pytest.mark.parametrize(
    ("lifetime", "fresh", "old"),
    [(3600.0, 3539.9, 3540.1), (300.0, 239.9, 240.1), (100.0, 79.9, 80.1), (5.0, 3.9, 4.1)],
)
async def test_renewed_in_its_last_minute_or_fifth(
    lifetime: float, fresh: float, old: float
) -> None:
    tokens = tokens_of(Endpoint(lifetime))
    await tokens.get(0)
    got_at = asyncio.get_running_loop().time()
    await asyncio.sleep(fresh)
    assert (await tokens.get(tokens.failures)).value == "token-1"
    await asyncio.sleep(got_at + old - asyncio.get_running_loop().time())
    assert (await tokens.get(tokens.failures)).value == "token-2"


async def test_without_a_known_lifetime_it_is_kept_until_rejected() -> None:
    tokens = tokens_of(Endpoint(None))
    first = await tokens.get(0)
    await asyncio.sleep(1e6)
    assert await tokens.get(tokens.failures) is first
    assert (await tokens.get(tokens.failures, rejected=first)).value == "token-2"


async def test_one_renewal_for_a_token_however_many_meet_its_rejection() -> None:
    endpoint = Endpoint()
    tokens = tokens_of(endpoint)
    first = await tokens.get(0)
    noted = tokens.failures
    got = await asyncio.gather(*(tokens.get(noted, first) for _ in range(50)))
    late = await tokens.get(noted, first)
    assert {token.value for token in [*got, late]} == {"token-2"}
    assert endpoint.requests == 2


async def test_a_failed_renewal_fails_each_who_waited_once_by_a_copy() -> None:
    endpoint = Endpoint()
    endpoint.failures = [ServerError(500, "the request for a token")]
    tokens = tokens_of(endpoint)
    noted = tokens.failures
    failed = await asyncio.gather(*(tokens.get(noted) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in failed] == [str(failed[0])] * 3
    assert len({id(error) for error in failed}) == 3
    with pytest.raises(ServerError):  # noted before the failure, asked after it
        await tokens.get(noted)
    assert endpoint.requests == 1
    assert (await tokens.get(tokens.failures)).value == "token-2"
    assert (await tokens.get(noted)).value == "token-2"


async def test_a_later_success_forgets_the_failure() -> None:
    endpoint = Endpoint()
    endpoint.failures = [ServerError(500, "the request for a token")]
    tokens = tokens_of(endpoint)
    with pytest.raises(ServerError):
        await tokens.get(0)
    second = await tokens.get(tokens.failures)
    assert (await tokens.get(0, rejected=second)).value == "token-3"


async def test_each_failure_fails_those_who_waited_for_it() -> None:
    endpoint = Endpoint()
    endpoint.failures = [ServerError(500, "the request for a token") for _ in range(3)]
    tokens = tokens_of(endpoint)
    for requests in (1, 2, 3):
        failed = await asyncio.gather(
            *(tokens.get(tokens.failures) for _ in range(3)), return_exceptions=True
        )
        assert [type(error) for error in failed] == [ServerError] * 3
        assert endpoint.requests == requests


async def test_who_asks_after_a_failure_is_not_failed_by_it() -> None:
    endpoint = Endpoint()
    tokens = tokens_of(endpoint)
    first = await tokens.get(tokens.failures)
    second = await tokens.get(tokens.failures, first)
    endpoint.failures = [ServerError(500, "the request for a token")]
    with pytest.raises(ServerError):
        await tokens.get(tokens.failures, second)
    assert (await tokens.get(tokens.failures, second)).value == "token-4"


async def test_cancelling_who_renews_fails_no_other() -> None:
    endpoint = Endpoint()
    tokens = tokens_of(endpoint)
    first, second, third = (asyncio.create_task(tokens.get(0)) for _ in range(3))
    await asyncio.sleep(0.5)
    first.cancel()
    assert (await second).value == (await third).value == "token-2"
    assert first.cancelled()
    assert endpoint.requests == 2


class TestCallable:
    async def test_its_own_errors_pass_through_unchanged(self) -> None:
        mine = KeyError("vault")

        async def call() -> str:
            await asyncio.sleep(1)
            raise mine

        tokens = from_callable(call)
        failed = await asyncio.gather(tokens.get(0), tokens.get(0), return_exceptions=True)
        assert [error is mine for error in failed] == [True, True]
        assert mine.__cause__ is None

    @pytest.mark.parametrize("returned", [None, "", "Bearer abc", b"abc"], ids=repr)
    async def test_what_it_returns_is_checked_and_not_shown(self, returned: str) -> None:
        async def call() -> str:
            return returned

        with pytest.raises(ConfigurationError, match=r"^what the callable") as caught:
            await from_callable(call).get(0)
        shown = "".join(traceback.format_exception(caught.value))
        assert "Bearer abc" not in shown

    async def test_it_must_be_async(self) -> None:
        with pytest.raises(
            ConfigurationError,
            match=r"^the callable given as auth must be async: define it by 'async def'$",
        ):
            await from_callable(lambda: "token").get(0)  # type: ignore[arg-type,return-value]  # the point of it

    async def test_called_once_and_again_after_a_rejection(self) -> None:
        calls = iter(["one", "two"])

        async def call() -> str:
            return next(calls)

        tokens = from_callable(call)
        one = await tokens.get(0)
        assert await tokens.get(0) is one
        assert (await tokens.get(0, rejected=one)).value == "two"
