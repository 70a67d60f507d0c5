"""A simulator in a thread of its own, used by synchronous code."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from moltin_jobs import JobsSession
from moltin_jobs.testing import Simulator

CREATION = json.dumps({"data": {"type": "job", "job_type": "order_export"}}).encode()


def send(simulator: Simulator, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Return the status and the JSON body of the response."""
    connection = http.client.HTTPConnection(simulator.url.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection):
        headers = {"Authorization": f"Bearer {simulator.token}"}
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        return response.status, json.load(response)


def test_in_thread_serves_synchronous_clients() -> None:
    with Simulator.in_thread() as simulator:
        simulator.add_job("a", ["pending", "success"])
        jobs = [send(simulator, "/v2/jobs/a")[1] for _ in range(2)]
    assert [job["data"]["status"] for job in jobs] == ["pending", "success"]
    assert [request.path for request in simulator.requests] == ["/v2/jobs/a"] * 2


def test_in_thread_serves_a_session_on_another_event_loop() -> None:
    async def wait(simulator: Simulator) -> str:
        async with JobsSession(simulator.token, base_url=simulator.url) as session:
            return (await session.wait_for_job("a")).status

    with Simulator.in_thread() as simulator:
        simulator.add_job("a", ["success"])
        assert asyncio.run(wait(simulator)) == "success"


async def test_simulator_that_is_opened_twice_is_an_error_and_stays_open() -> None:
    async with Simulator() as simulator:
        with pytest.raises(RuntimeError, match="it is already open"):
            await simulator.__aenter__()
        assert simulator.add_job("a") == "a"
    async with simulator:  # again, after it was closed
        assert simulator.add_job("b") == "b"


def test_in_thread_applies_settings() -> None:
    with Simulator.in_thread(dialect="older", creation_seconds=0) as simulator:
        code, created = send(simulator, "/v2/jobs", CREATION)
    assert (code, created["data"]["status"]) == (201, "complete")


def test_in_thread_methods_take_effect_when_called_from_the_caller() -> None:
    with Simulator.in_thread() as simulator:
        job_id = simulator.add_job(duration=0)
        simulator.script_next_job(["cancelled"])
        created = send(simulator, "/v2/jobs", CREATION)[1]["data"][0]
        simulator.add_faults(503, 503)
        faulty_code, _ = send(simulator, "/v2/jobs")
        simulator.clear_faults()
        simulator.remove_job(job_id)
        code, listed = send(simulator, "/v2/jobs")
    assert created["status"] == "cancelled"
    assert (faulty_code, code) == (503, 200)
    assert [job["id"] for job in listed["data"]] == [created["id"]]


def test_in_thread_method_that_fails_raises_in_the_caller() -> None:
    with Simulator.in_thread() as simulator:
        simulator.add_job("a")
        with pytest.raises(ValueError, match="there is already a job 'a'"):
            simulator.add_job("a")


def test_in_thread_of_a_subclass_gives_the_subclass() -> None:
    class Shop(Simulator):
        pass

    with Shop.in_thread(0, seed=1) as simulator:
        assert isinstance(simulator, Shop)


def test_in_thread_with_port_in_use_raises_and_leaves_no_thread() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="address already in use"):
            with Simulator.in_thread(port):
                pytest.fail("the port is taken")
    assert "moltin-simulator" not in {thread.name for thread in threading.enumerate()}


def test_in_thread_with_failing_body_closes_the_simulator_and_leaves_no_thread() -> None:
    with pytest.raises(KeyError):
        with Simulator.in_thread() as simulator:
            raise KeyError
    assert "moltin-simulator" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConnectionRefusedError):
        send(simulator, "/v2/jobs")


def test_in_thread_with_hanging_request_ends_and_disconnects_it() -> None:
    errors: list[Exception] = []

    def hang(simulator: Simulator) -> None:
        try:
            send(simulator, "/v2/jobs/a")
        except ConnectionError as error:
            errors.append(error)

    with Simulator.in_thread() as simulator:
        simulator.add_faults("hang")
        client = threading.Thread(target=hang, args=[simulator])
        client.start()
        while not simulator.requests:
            client.join(0.01)
    client.join(30)
    assert len(errors) == 1


async def test_simulator_in_async_with_takes_calls_from_other_threads() -> None:
    async with Simulator() as simulator:
        job_id = await asyncio.to_thread(simulator.add_job, "a", ["success"])
        code, job = await asyncio.to_thread(send, simulator, f"/v2/jobs/{job_id}")
    assert (code, job["data"]["status"]) == (200, "success")


@contextlib.contextmanager
def simulator_on_stopped_loop() -> Iterator[Simulator]:
    simulator = Simulator()
    with asyncio.Runner() as runner:
        runner.run(simulator.__aenter__())
        yield simulator
        runner.run(simulator.__aexit__())


NOT_RUNNING = (
    "^Simulator: the event loop that opened it is not running. Call it from code on that loop, "
    r"or use Simulator.in_thread\(\).$"
)


def test_method_while_the_loop_of_the_simulator_is_not_running_raises() -> None:
    with simulator_on_stopped_loop() as simulator:
        with pytest.raises(RuntimeError, match=NOT_RUNNING):
            simulator.add_job("a")


def test_method_in_a_thread_while_the_loop_of_the_simulator_is_not_running_raises() -> None:
    with simulator_on_stopped_loop() as simulator, ThreadPoolExecutor() as executor:
        call = executor.submit(simulator.add_job, "a")
        with pytest.raises(RuntimeError, match=NOT_RUNNING):
            call.result(30)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has several threads
def test_method_in_a_forked_process_raises_instead_of_waiting_for_ever() -> None:
    with Simulator.in_thread() as simulator:
        child = os.fork()
        if child == 0:
            try:
                simulator.add_job("a")
            except RuntimeError:
                os._exit(7)
            finally:
                os._exit(8)
        wait_for_exit = threading.Timer(30, os.kill, (child, signal.SIGKILL))
        wait_for_exit.start()
        _, status = os.waitpid(child, 0)
        wait_for_exit.cancel()
    assert os.waitstatus_to_exitcode(status) == 7


def test_requests_read_during_requests_are_those_in_the_order_of_arrival() -> None:
    def send_many() -> None:
        for number in range(50):
            send(simulator, f"/v2/jobs/{number}")

    with Simulator.in_thread(rate_limit=None) as simulator:
        client = threading.Thread(target=send_many)
        client.start()
        snapshots = [simulator.requests]
        while client.is_alive():
            snapshots.append(simulator.requests)
            client.join(0.001)
    paths = [f"/v2/jobs/{number}" for number in range(50)]
    assert [request.path for request in simulator.requests] == paths
    for snapshot in snapshots:
        assert [request.path for request in snapshot] == paths[: len(snapshot)]
