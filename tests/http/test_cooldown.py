"""The cooldown after a 429: its length, its bursts, and the requests after it."""

import asyncio
import itertools
import logging

import pytest

from moltin_jobs import ClientCredentials, JobsSession
from moltin_jobs._http.rate_limit import Cooldown, cooldown_seconds
from moltin_jobs.testing import Fault, Simulator

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def cooldown() -> Cooldown:
    return Cooldown()


async def send(cooldown: Cooldown) -> float:
    """Wait until a request may be sent, send it, and return the moment."""
    await cooldown.wait()
    cooldown.space_requests(now())
    return now()


async def measure(cooldown: Cooldown, retry_after: float | None = None) -> float:
    """Handle a 429 of a new request, and return the seconds until the next one may be sent."""
    sent_at = await send(cooldown)
    cooldown.on_429(sent_at, retry_after)
    await cooldown.wait()
    return now() - sent_at


async def test_before_the_first_429_requests_are_sent_at_once(cooldown: Cooldown) -> None:
    assert [await send(cooldown) for _ in range(3)] == [0] * 3
    assert cooldown.count == 0


async def test_after_cooldown_requests_are_sent_one_by_one_for_a_second(
    cooldown: Cooldown,
) -> None:
    cooldown.on_429(now(), None)
    sent_at = [await send(cooldown) for _ in range(50)]
    first = sent_at[0]
    assert 1 <= first <= 1.2
    gaps = [later - earlier for earlier, later in itertools.pairwise(sent_at[:20])]
    assert gaps == pytest.approx([0.05] * 19, abs=0.002)
    assert sent_at[21:] == pytest.approx([first + 1] * 29, abs=0.06)


async def test_429s_of_requests_sent_before_the_cooldown_are_one_burst(
    cooldown: Cooldown, caplog: pytest.LogCaptureFixture
) -> None:
    sent_at = await send(cooldown)
    await asyncio.sleep(0.1)
    for _ in range(50):
        cooldown.on_429(sent_at, None)
    (record,) = caplog.records
    seconds = vars(record)["retry_in"]
    assert (record.name, record.levelno) == ("moltin_jobs.http", logging.WARNING)
    assert record.getMessage() == (
        f"rate limit exceeded (429), no request is sent for {seconds:.1f} s"
    )
    assert 1 <= seconds <= 1.2
    await cooldown.wait()
    assert now() == pytest.approx(0.1 + seconds, abs=0.01)
    assert cooldown.count == 1


async def test_bursts_in_a_row_lengthen_the_cooldown_to_thirty_seconds(cooldown: Cooldown) -> None:
    for own in (1, 2, 4, 8, 16, 30, 30):
        assert own <= await measure(cooldown) <= own * 1.2
    assert cooldown.count == 7


@pytest.mark.parametrize("retry_after", [None, 100])
def test_cooldown_is_lengthened_by_up_to_a_fifth_at_random(retry_after: float | None) -> None:
    own = retry_after or 1
    lengths = [cooldown_seconds(1, retry_after) for _ in range(1000)]
    assert own <= min(lengths) < own * 1.01
    assert own * 1.19 < max(lengths) <= own * 1.2


async def test_longer_retry_after_replaces_the_cooldowns_own_length(cooldown: Cooldown) -> None:
    assert 7 <= await measure(cooldown, 7) <= 7 * 1.2
    assert 2 <= await measure(cooldown, 1) <= 2 * 1.2


async def test_response_to_a_later_request_ends_the_row(cooldown: Cooldown) -> None:
    await measure(cooldown)
    await measure(cooldown)
    cooldown.on_success(await send(cooldown))
    assert 1 <= await measure(cooldown) <= 1.25


async def test_response_to_an_earlier_request_does_not_end_the_row(cooldown: Cooldown) -> None:
    early = await send(cooldown)
    cooldown.on_429(early, None)
    cooldown.on_success(early)
    assert 2 <= await measure(cooldown) <= 2.4


async def test_longer_retry_after_in_the_same_burst_prolongs_the_cooldown(
    cooldown: Cooldown,
) -> None:
    sent_at = await send(cooldown)
    for retry_after in (None, 7, 2):
        cooldown.on_429(sent_at, retry_after)
    await cooldown.wait()
    assert now() == 7


async def test_late_429_of_the_same_burst_without_retry_after_changes_nothing(
    cooldown: Cooldown,
) -> None:
    sent_at = await send(cooldown)
    cooldown.on_429(sent_at, None)
    await asyncio.sleep(0.9)
    cooldown.on_429(sent_at, None)
    await cooldown.wait()
    assert 1 <= now() <= 1.2


@pytest.mark.parametrize("count", [1, 2])
async def test_retry_after_is_obeyed_for_at_most_two_minutes(
    count: int, cooldown: Cooldown
) -> None:
    sent_at = await send(cooldown)
    for _ in range(count):
        cooldown.on_429(sent_at, 1e9)
    await cooldown.wait()
    assert now() == 120


async def test_cooldown_that_is_prolonged_while_a_request_waits_delays_it(
    cooldown: Cooldown,
) -> None:
    cooldown.on_429(now(), None)
    waiting = asyncio.create_task(send(cooldown))
    await asyncio.sleep(0.5)
    cooldown.on_429(0, 5)
    assert await waiting == 5.5


class TestSession:
    async def test_fifty_429s_cause_one_cooldown_without_requests(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with (
            Simulator(rate_limit=None) as simulator,
            JobsSession(simulator.token, base_url=simulator.url, rate_limit=None) as session,
        ):
            job_ids = [simulator.add_job(statuses=["pending", "success"]) for _ in range(50)]
            simulator.add_faults(*[429] * 50)
            await session.wait_for_jobs(job_ids)
            assert session.stats().cooldowns == 1
        assert len([r for r in caplog.records if r.name == "moltin_jobs.http"]) == 1
        at = [request.at for request in simulator.requests]
        assert [request.status for request in simulator.requests[:50]] == [429] * 50
        assert at[50] - at[49] >= 1
        assert len([moment for moment in at if at[50] <= moment < at[50] + 0.5]) <= 11

    async def test_429_of_a_token_request_delays_all_requests(self) -> None:
        path = "/oauth/access_token"
        async with Simulator() as simulator:
            simulator.add_faults(Fault(429, {"Retry-After": "5"}), path=path)
            simulator.add_job("a", ["success"])
            auth = ClientCredentials(simulator.client_id, simulator.client_secret)
            async with JobsSession(auth, base_url=simulator.url) as session:
                await session.get_jobs(["a"] * 3)
                assert session.stats().cooldowns == 1
        first, second, *_ = simulator.requests
        assert [first.path, second.path] == [path] * 2
        assert 5 <= second.at - first.at <= 6.01
