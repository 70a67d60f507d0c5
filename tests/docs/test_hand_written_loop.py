"""The faults of a hand-written loop, and that `wait_for_job` has none of them.

The page has the code of the loops. The tables there show what both did, as computed here.
"""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import aiohttp
import attrs
import looptime
import pytest

from moltin_jobs import ClientCredentials, InvalidJobIdError, Job, JobsSession, Retry
from moltin_jobs.testing import Simulator

from .examples import read_page, run_block

T = TypeVar("T")
PAGE = "docs/why-not-a-loop.md"
FOR_EVER = 400.0
"""Seconds, on the virtual clock, after which a wait is taken to be endless."""
Wait = Callable[..., Awaitable[Any]]


@attrs.frozen
class Case:
    """What the store does, for one row of the first and the last table."""

    statuses: Iterable[str] = ("started", "started", "success")
    faults: tuple[Any, ...] = ()
    repeat: bool = False
    duration: float | None = None
    error: str | None = None
    job_id: str = "a"
    auth: str | None = None
    timeout: float | None = None
    store: dict[str, Any] = attrs.field(factory=dict)

    def make_store(self) -> Simulator:
        return Simulator(**{"rate_limit": None, **self.store})

    def add_job(self, store: Simulator) -> None:
        statuses = None if self.duration else list(self.statuses)
        store.add_job("a", statuses, duration=self.duration, error=self.error)
        store.add_faults(*self.faults, repeat=self.repeat)


CASES = {
    "one response has status 503": Case(faults=(503,)),
    "one response has status 429": Case(faults=(429,)),
    "the connection is lost twice": Case(faults=("reset", "reset")),
    "one response is the page of a proxy": Case(faults=("html",)),
    "one response never comes": Case(faults=("hang",)),
    "the token expires during the wait": Case(duration=100, store={"token_lifetime": 90}),
    "the job never ends, and the `timeout` is 60": Case(statuses=["started"], timeout=60),
    "the job is cancelled": Case(statuses=["started", "cancelled"]),
    "the job ends with the older status `complete`": Case(duration=3, store={"dialect": "older"}),
    "the job fails": Case(duration=3, error="The disk is full"),
}
RETRY_CASES = {
    "the job does not exist": Case(job_id="nowhere"),
    "the token is rejected": Case(auth="expired"),
    "one response never comes": CASES["one response never comes"],
    "every response has status 503": Case(faults=(503,), repeat=True),
}


def rows(number: int) -> dict[str, list[str]]:
    """Return the columns of a table of the page by the text of the first column."""
    table = re.findall(r"^\| --- .*\n((?:\|.*\n)+)", read_page(PAGE), re.MULTILINE)[number]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines}


def load_loop(name: str) -> Wait:
    return run_block(PAGE, name, "loop")["wait"]  # type: ignore[no-any-return]


def run_virtually(main: Awaitable[T]) -> T:
    loop = looptime.new_event_loop(noop_cycles=1)
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def run_loop(wait: Wait, store: Simulator, case: Case) -> tuple[str, float]:
    async with aiohttp.ClientSession() as http:
        token = case.auth or await request_token(http, store)
        return await describe(wait(http, store.url, token, case.job_id))


async def request_token(http: aiohttp.ClientSession, store: Simulator) -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": store.client_id,
        "client_secret": store.client_secret,
    }
    async with http.post(f"{store.url}/oauth/access_token", data=form) as response:
        return str((await response.json())["access_token"])


async def run_session(store: Simulator, case: Case) -> tuple[str, float]:
    auth = case.auth or ClientCredentials(store.client_id, store.client_secret)
    async with JobsSession(auth, base_url=store.url) as session:
        return await describe(session.wait_for_job(case.job_id, timeout=case.timeout))


async def describe(wait: Awaitable[Any]) -> tuple[str, float]:
    """Return how a wait ends, in the words of the tables, and how many seconds it took."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        async with asyncio.timeout(FOR_EVER) as limit:
            job = await wait
    except Exception as error:  # noqa: BLE001 (the result of the wait)
        if limit.expired():
            return "polls for ever", math.inf
        text = f"raises `{type(error).__name__}`"
    else:
        text = f"returns `{job.status if isinstance(job, Job) else job['status']}`"
    return text, loop.time() - start


async def run_both(name: str, case: Case) -> list[tuple[str, float]]:
    found = []
    for run in (partial(run_loop, load_loop(name)), run_session):
        async with case.make_store() as store:
            case.add_job(store)
            found.append(await run(store, case))
    return found


def check_row(cells: list[str], found: list[tuple[str, float]]) -> None:
    """Compare the columns of a row with what both did. Times may differ by a tenth."""
    for cell, (text, seconds) in zip(cells, found, strict=True):
        expected, _, time = cell.partition(" after ")
        assert text == expected
        if time:
            assert seconds == pytest.approx(float(time.removesuffix(" s")), rel=0.1)


@pytest.mark.parametrize("case", CASES)
def test_plain_loop_has_a_fault_that_wait_for_job_has_not(case: str) -> None:
    check_row(rows(0)[case], run_virtually(run_both("plain_loop.py", CASES[case])))


@pytest.mark.parametrize("case", RETRY_CASES)
def test_retrying_loop_has_a_fault_that_wait_for_job_has_not(case: str) -> None:
    check_row(rows(2)[case], run_virtually(run_both("retrying_loop.py", RETRY_CASES[case])))


def test_tables_have_a_row_for_each_case() -> None:
    assert list(rows(0)) == list(CASES)
    assert list(rows(2))[:-1] == list(RETRY_CASES)
    assert len(rows(1)) == 5


@attrs.frozen
class Outcome:
    """What many waits did, and which requests the store received."""

    results: list[Any]
    paths: list[str]
    statuses: list[int | None]

    @classmethod
    def of(cls, results: list[Any], store: Simulator) -> "Outcome":
        requests = [request for request in store.requests if "token" not in request.path]
        paths, statuses = [r.path for r in requests], [r.status for r in requests]
        return cls(results, paths, statuses)


def compare_many(
    name: str, job_ids: list[str], seconds: float = FOR_EVER, **store: Any
) -> list[Outcome]:
    """Run a loop for each job at the same time, then a session; return what both did.

    Jobs run for a second, one after another, unless ``duration`` is given.
    """
    duration = store.pop("duration", 1.0)
    wait = load_loop(name)

    async def with_loop(store: Simulator) -> list[Any]:
        async with aiohttp.ClientSession() as http:
            waits = [wait(http, store.url, store.token, job_id) for job_id in job_ids]
            return await asyncio.gather(*waits, return_exceptions=True)

    async def with_session(store: Simulator) -> list[Any]:
        async with JobsSession(store.token, base_url=store.url) as session:
            return await session.wait_for_jobs(job_ids, return_exceptions=True)

    async def main() -> list[Outcome]:
        found = []
        for run in (with_loop, with_session):
            async with Simulator(**{"rate_limit": None, **store}) as simulator:
                for job_id in dict.fromkeys(job_ids):
                    if "/" not in job_id:
                        simulator.add_job(job_id, duration=duration)
                try:
                    async with asyncio.timeout(seconds):
                        results = await run(simulator)
                except TimeoutError:
                    results = []
                found.append(Outcome.of(results, simulator))
        return found

    return run_virtually(main())


def test_plain_loop_sends_the_token_to_another_endpoint() -> None:
    loop, session = compare_many("plain_loop.py", ["../carts"])
    assert rows(1)["the id is `../carts`"] == [
        f"sends the token to `{loop.paths[0]}`",
        "sends nothing",
    ]
    assert not session.paths
    assert isinstance(session.results[0], InvalidJobIdError)


def test_error_of_the_plain_loop_contains_the_token() -> None:
    async def main() -> list[str]:
        async with Simulator() as store, aiohttp.ClientSession() as http:
            store.add_job("a", ["started"])
            store.add_faults(503, repeat=True)
            retry = Retry(max_attempts=1)
            async with JobsSession(store.token, base_url=store.url, retry=retry) as session:
                waits = [load_loop("plain_loop.py")(http, store.url, store.token, "a")]
                waits.append(session.get_job("a"))
                errors = await asyncio.gather(*waits, return_exceptions=True)
                return [
                    "logs the token" if store.token in repr(e) else "logs no token" for e in errors
                ]

    assert rows(1)["the error of a 503 is logged with `repr`"] == run_virtually(main())


@pytest.mark.parametrize(
    ("case", "tasks", "seconds"),
    [
        ("the job takes ten minutes", 1, 600),
        ("ten tasks wait for the same job, which takes a minute", 10, 60),
    ],
)
def test_plain_loop_needs_more_requests(case: str, tasks: int, seconds: float) -> None:
    loop, session = compare_many("plain_loop.py", ["a"] * tasks, 1000, duration=seconds)
    of_loop, of_session = rows(1)[case]
    assert of_loop == f"{len(loop.paths)} requests"
    assert len(session.paths) < int(of_session.split()[2])
    assert all(isinstance(job, Job) for job in session.results)


MANY = [f"job-{number}" for number in range(100)]


def test_many_plain_loops_end_with_a_429() -> None:
    loop, session = compare_many("plain_loop.py", MANY, rate_limit=25)
    failed = [error for error in loop.results if getattr(error, "status", None) == 429]
    case = "100 waits start together, and the store accepts 25 requests a second"
    assert rows(1)[case] == [
        f"{len(failed)} of 100 end with status 429",
        "all succeed, without a 429",
    ]
    assert all(isinstance(job, Job) for job in session.results)
    assert 429 not in session.statuses


def test_many_retrying_loops_flood_the_service() -> None:
    loop, session = compare_many("retrying_loop.py", MANY, 20, rate_limit=25)
    share = loop.statuses.count(429) / len(loop.statuses)
    case = "100 waits run for 20 s, and the store accepts 25 requests a second"
    assert share > 0.7
    expected = ["more than 70 % of the requests get a 429", "no request gets a 429"]
    assert rows(2)[case] == expected
    assert 429 not in session.statuses
