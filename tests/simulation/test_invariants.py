"""Each check finds what it is there for."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from moltin_jobs import ConfigurationError, Job, JobTimeoutError
from moltin_jobs.redis_limiter import RESERVE_SCRIPT, RedisLimiter
from tests import redis_server as real_redis

from .loop import BusyLoopError, NothingScheduledError, SimulatedLoop, SocketLoop
from .redis_server import RedisServer
from .secrets_check import LogCheck, check_error, find_secret_in_local
from .wire import (
    TOKEN_PATH,
    WireRequest,
    check_cooldowns,
    check_rate,
    check_refreshes,
    find_cooldowns,
)


def make_requests(*rows: dict[str, Any]) -> list[WireRequest]:
    """Return requests, each answered at once unless the row says otherwise."""
    requests = []
    for number, row in enumerate(map(dict, rows)):
        at = row.pop("at")
        defaults = {
            "target": "/v2/jobs/a",
            "token": "t1",
            "arrived_at": at,
            "responded_at": at,
            "status": 200,
            "number": 3 * number,
            "response_number": 3 * number + 1,
            "end_number": 3 * number + 2,
            "completed_at": at,
        }
        values = {"session": 0, "method": "GET", "started_at": at, "sent_at": at}
        requests.append(WireRequest(**values, **(defaults | row)))
    return requests


@pytest.mark.parametrize(("last", "is_found"), [(0.99, True), (1.0, False)])
def test_too_many_requests_in_one_second_are_found(last: float, is_found: bool) -> None:
    requests = make_requests({"at": 0.0}, {"at": 0.5}, {"at": last})
    assert (check_rate(requests, 2) is not None) is is_found


def test_request_that_arrives_after_it_was_given_up_counts_before() -> None:
    late = {"at": 0.0, "arrived_at": 1.5, "closed_at": 0.5, "status": None}
    assert check_rate(make_requests(late, {"at": 1.5}), 1) is None
    assert check_rate(make_requests({**late, "closed_at": 0.6}, {"at": 1.5}), 1) is not None


@pytest.mark.parametrize(
    ("row", "start", "is_found"),
    [
        ({}, 1.9, True),
        ({}, 2.0, False),
        ({"retry_after": 5.0}, 5.9, True),
        ({"retry_after": 5.0}, 6.0, False),
        ({"closed_at": 1.0}, 1.5, False),
        ({"closed_at": 1.1}, 1.5, True),
        ({"closed_at": 1.0, "is_last": True}, 1.5, True),
        ({"closed_at": 1.0, "is_last": True, "completed_at": None}, 1.5, False),
    ],
)
def test_request_in_cooldown_is_found(row: dict[str, Any], start: float, is_found: bool) -> None:
    requests = make_requests({"at": 1.0, "status": 429, **row}, {"at": start})
    assert (check_cooldowns(requests, find_cooldowns(requests)) is not None) is is_found


def test_interrupted_429_may_be_unnoticed() -> None:
    row = {"at": 1.0, "status": 429, "closed_at": 1.0, "is_last": True}
    assert [*find_cooldowns(make_requests(row), [1.0])] == []
    assert [*find_cooldowns(make_requests(row), [0.9])] == [(1.0, 2.0)]


def test_second_429_of_a_burst_starts_no_cooldown() -> None:
    rows = [{"at": 1.0, "status": 429}, {"at": 0.9, "responded_at": 1.5, "status": 429}]
    requests = make_requests(*rows, {"at": 2.0})
    assert check_cooldowns(requests, find_cooldowns(requests)) is None


def test_cooldown_doubles_until_another_response() -> None:
    moments = [(1.0, 429), (3.0, 429), (6.0, 200), (7.0, 429)]
    requests = make_requests(*[{"at": at, "status": status} for at, status in moments])
    assert [*find_cooldowns(requests)] == [(1.0, 2.0), (3.0, 5.0), (7.0, 8.0)]


def refresh(at: float, **row: Any) -> dict[str, Any]:
    return {"at": at, "target": TOKEN_PATH, "token": "", "issued": "t1", **row}


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        ([refresh(0.0), refresh(48.0)], None),
        ([refresh(0.0), refresh(47.0)], "needless"),
        ([refresh(0.0), {"at": 0.0, "status": 401}, refresh(1.0)], None),
        ([refresh(0.0), {"at": 0.0, "status": 401, "token": "t0"}, refresh(1.0)], "needless"),
        ([refresh(0.0, closed_at=0.0), refresh(1.0)], None),
        ([refresh(0.0, issued=None), refresh(1.0)], None),
        ([refresh(0.0, end_number=9), refresh(0.0)], "at once"),
    ],
)
def test_needless_and_concurrent_refreshes_are_found(
    rows: list[dict[str, Any]], finding: str | None
) -> None:
    found = check_refreshes(make_requests(*rows), 60.0)
    assert found is None if finding is None else found is not None and finding in found


def test_refresh_for_each_rejection_of_the_same_token_is_found() -> None:
    rejected = {"at": 1.0, "status": 401}
    again = refresh(1.0, issued="t2")
    rows = [refresh(0.0), rejected, rejected, again, refresh(1.0)]
    found = check_refreshes(make_requests(*rows), 60.0)
    assert found is not None
    assert "needless" in found


def test_secret_in_a_local_of_the_package_is_found() -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisLimiter("http://:s3cr3t-token@redis", "store", rate_limit=1, processes=1)
    assert check_error(caught.value) == "the local url of RedisLimiter.__init__ shows a secret"


def test_signature_in_the_address_itself_is_allowed() -> None:
    assert find_secret_in_local("https://files.example?signature=0123456789") is None
    job = Job(id="a", kind="order", status="s", type=None, error="signature=0123456789")
    assert find_secret_in_local(job) == "signature=01234567"


def test_secret_in_a_message_is_found() -> None:
    assert check_error(ValueError("s3cr3t-token")) == "ValueError('s3cr3t-token') shows a secret"
    error = JobTimeoutError("a", timeout=1.0)
    error.add_note("https://files.example?signature=0123456789")
    assert check_error(error) is not None


def test_secret_in_a_log_record_is_found() -> None:
    found: list[str] = []
    handler = LogCheck(found.append, lambda _: None, set())
    handler.emit(logging.LogRecord("moltin_jobs", 20, "", 1, "%s", ("s3cr3t-token",), None))
    handler.emit(logging.LogRecord("moltin_jobs", 20, "", 1, "fine", (), None))
    error = ValueError("s3cr3t-token")
    handler.emit(logging.LogRecord("", 20, "", 1, "bad", (), (ValueError, error, None)))
    texts = ["s3cr3t-token", "bad"]
    assert found == [f"a log record shows a secret: {text}" for text in texts]


def test_loop_finds_that_everybody_waits() -> None:
    loop = SimulatedLoop(1)
    with pytest.raises(NothingScheduledError):
        loop.run_until_complete(loop.create_future())
    loop.close()


async def spin(seconds: float) -> None:
    while True:  # noqa: ASYNC110 (this is the point)
        await asyncio.sleep(seconds)


@pytest.mark.parametrize("make_loop", [SimulatedLoop, SocketLoop])
@pytest.mark.parametrize("seconds", [0.0, 1e-8])
def test_loop_finds_a_busy_loop(make_loop: Callable[[int], Any], seconds: float) -> None:
    loop = make_loop(1)
    task = loop.create_task(spin(seconds))
    with pytest.raises(BusyLoopError):
        loop.run_until_complete(task)
    task.cancel()
    loop.call_later(1.0, loop.stop)
    loop.run_forever()
    loop.close()


async def measure() -> list[int]:
    loop = asyncio.get_running_loop()
    order: list[int] = []
    for number in range(10):
        loop.call_at(5.0, order.append, number)
    await asyncio.sleep(6.0)
    return order


def test_loop_shuffles_callbacks_of_the_same_moment() -> None:
    orders = []
    for seed in (1, 1, 2):
        loop = SimulatedLoop(seed)
        orders.append(loop.run_until_complete(measure()))
        assert loop.time() == 6.0
        loop.close()
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == list(range(10))


@attrs.define
class Clock:
    """Wall clock that a test sets."""

    now: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


def reserve(pause: int = 0) -> list[str]:
    return ["EVAL", RESERVE_SCRIPT, "1", "key", "60000", "2", str(pause), "20"]


def test_redis_in_memory_reserves_like_a_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    server = RedisServer()
    replies = []
    for pause in (0, 0, 5_000_000):
        replies.append(server.execute(reserve(pause)))
        clock.now += 0.001
    assert replies[0] == b"*3\r\n:0\r\n:0\r\n:20\r\n"
    assert replies[1] == b"*3\r\n:119000\r\n:0\r\n:20\r\n"
    assert replies[2] == b"*3\r\n:5000000\r\n:5000000\r\n:20\r\n"
    clock.now -= 10
    assert server.execute(reserve()) == b"-ERR its clock stepped back\r\n"
    clock.now += 0.6
    assert server.execute(reserve()).startswith(b"*3\r\n:0\r\n")


@pytest.mark.skipif(bool(real_redis.MISSING), reason=real_redis.MISSING)
def test_real_redis_replies_in_the_same_form() -> None:
    with real_redis.RedisServer() as real:
        host, port = real.url.removeprefix("redis://").split(":")
        words = [word.encode() for word in reserve()]
        request = b"*%d\r\n" % len(words) + b"".join(
            b"$%d\r\n%s\r\n" % (len(word), word) for word in words
        )
        with socket.create_connection((host, int(port)), 1) as connection:
            connection.sendall(request)
            reply = connection.recv(1000)
    assert reply == RedisServer().execute(reserve())
