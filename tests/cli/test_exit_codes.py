"""Exit codes of lookups and waits that fail."""

import socket

import pytest

from moltin_jobs.testing import AnyFault, Simulator

from .harness import json_lines, looked_up, run

BOTH_COMMANDS = pytest.mark.parametrize("command", ["get", "wait"])


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (401, 4, "responded with status 401"),
        (403, 4, "responded with status 403: Forbidden"),
        (404, 5, "responded with status 404"),
        (400, 6, "responded with status 400"),
        (500, 6, "request id"),
        ("garbage", 6, "error: job a: "),
        ("html", 6, "error: job a: invalid response with status 200"),
    ],
)
@BOTH_COMMANDS
def test_error_of_the_service_has_its_exit_code(
    store: Simulator, command: str, fault: AnyFault, code: int, message: str
) -> None:
    store.add_faults(fault, repeat=True)
    result = run(command, "a")
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


@BOTH_COMMANDS
def test_exit_code_is_the_highest_that_applies(store: Simulator, command: str) -> None:
    store.add_job("good", ["success"])
    store.add_job("bad", ["failed"])
    store.add_job("odd")
    store.add_faults(400, job_id="odd", repeat=True)
    ids = ["good", "bad", "nowhere", "odd"]
    for number, code in ((1, 0), (2, 1), (3, 5), (4, 6)):
        assert run(command, *ids[:number][::-1]).exit_code == code


def test_rejected_credentials_exit_with_4(
    store: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPCC_CLIENT_ID", "someone-else")
    result = run("get", store.add_job("a"))
    assert result.exit_code == 4
    assert result.stderr.startswith(
        "error: the token request: the service responded with status 401. "
        "Check EPCC_CLIENT_ID and EPCC_CLIENT_SECRET, and that EPCC_API_BASE_URL is "
    )
    assert not looked_up(store)


@BOTH_COMMANDS
def test_rejected_credentials_are_reported_once_for_many_ids(
    store: Simulator, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("EPCC_CLIENT_SECRET", "wrong")
    ids = [store.add_job() for _ in range(5)]
    result = run(command, "--json", *ids)
    assert result.exit_code == 4
    assert result.stderr.count("error: ") == 1
    assert {document["id"] for document in json_lines(result)} == set(ids)


@BOTH_COMMANDS
def test_rejected_token_is_reported_once_for_many_ids(
    store: Simulator, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("EPCC_CLIENT_ID")
    monkeypatch.delenv("EPCC_CLIENT_SECRET")
    monkeypatch.setenv("EPCC_ACCESS_TOKEN", "expired")
    result = run(command, *[store.add_job() for _ in range(5)])
    assert result.exit_code == 4
    assert result.stderr.count("error: ") == 1
    assert "Set EPCC_ACCESS_TOKEN to a token that has not expired" in result.stderr


@BOTH_COMMANDS
def test_unreachable_host_exits_with_6_and_is_named(store: Simulator, command: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # does not listen
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        result = run(command, "--base-url", f"http://{address}", "a")
    assert (result.exit_code, result.stdout) == (6, "")
    assert address in result.stderr.splitlines()[-1]
    assert not store.requests
