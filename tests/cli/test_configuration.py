"""Credentials and the base URL, from the environment and from options."""

from collections.abc import Mapping

import pytest

from moltin_jobs.cli.commands import commands
from moltin_jobs.testing import Fault, Simulator

from .harness import run

VARIABLES = ("EPCC_API_BASE_URL", "EPCC_CLIENT_ID", "EPCC_CLIENT_SECRET", "EPCC_ACCESS_TOKEN")
BOTH_COMMANDS = pytest.mark.parametrize("command", ["get", "wait"])


@BOTH_COMMANDS
@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, ["EPCC_CLIENT_ID", "EPCC_CLIENT_SECRET", "EPCC_ACCESS_TOKEN"]),
        ({"EPCC_CLIENT_ID": "me"}, ["EPCC_CLIENT_SECRET"]),
        ({"EPCC_CLIENT_SECRET": "mine"}, ["EPCC_CLIENT_ID"]),
    ],
)
def test_missing_credentials_exit_with_2_and_are_named(
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    environment: Mapping[str, str],
    named: list[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = run(command, "a")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert [name for name in VARIABLES if name in result.stderr] == named


@pytest.mark.parametrize("name", ["EPCC_CLIENT_ID", "EPCC_CLIENT_SECRET", "EPCC_ACCESS_TOKEN"])
def test_unprintable_credentials_exit_with_2_and_are_named_without_their_value(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name != "EPCC_ACCESS_TOKEN":
        monkeypatch.setenv("EPCC_CLIENT_ID", "me")
        monkeypatch.setenv("EPCC_CLIENT_SECRET", "mine")
    monkeypatch.setenv(name, "hush\n")
    result = run("get", "a")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {name} must ")
    assert "hush" not in result.stderr


def test_access_token_needs_no_token_request(
    store: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EPCC_CLIENT_ID")
    monkeypatch.delenv("EPCC_CLIENT_SECRET")
    monkeypatch.setenv("EPCC_ACCESS_TOKEN", store.token)
    assert run("get", store.add_job("a", ["success"])).exit_code == 0
    assert len(store.requests) == 1


@BOTH_COMMANDS
def test_base_url_option_overrides_the_variable(
    store: Simulator, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("EPCC_API_BASE_URL", "http://127.0.0.1:1")
    result = run(command, "--base-url", store.url, store.add_job("a", ["success"]))
    assert result.exit_code == 0


def test_invalid_base_url_option_exits_with_2_and_is_named(store: Simulator) -> None:
    result = run("get", "--base-url", "http://example.com", store.add_job("a"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: --base-url must be https://HOST")
    assert not store.requests


@pytest.mark.parametrize("address", ["http://example.com", "https://[::1]@"])
def test_invalid_base_url_variable_exits_with_2_and_is_named(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("EPCC_ACCESS_TOKEN", "token")
    monkeypatch.setenv("EPCC_API_BASE_URL", address)
    result = run("get", "a")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: EPCC_API_BASE_URL must be https://HOST")


@pytest.mark.parametrize("option", [True, False])
def test_redirect_names_what_has_set_the_base_url(store: Simulator, option: bool) -> None:
    store.add_faults(Fault(301, {"Location": "https://elsewhere.example"}))
    arguments = ["--base-url", store.url] if option else []
    result = run("get", *arguments, "a")
    name = "--base-url" if option else "EPCC_API_BASE_URL"
    assert f"set {name} to the address of the service" in result.stderr
    assert "base_url" not in result.stderr


def test_credentials_are_no_options() -> None:
    names = {
        name
        for command in (commands, *commands.commands.values())
        for parameter in command.params
        for name in parameter.opts
    }
    assert names == {
        "--version",
        "-v",
        "--verbose",
        "-q",
        "--quiet",
        "--base-url",
        "--json",
        "--timeout",
        "--port",
        "--filter",
        "--type",
        "--kind",
        "--file-index",
        "--full-delta",
        "--all",
        "--first",
        "--wait",
        "--state",
        "--ids",
        "--empty-ok",
        "--jobs",
        "--fail",
        "--faults",
        "catalog_id",
        "path",
        "job_id",
        "job_ids",
    }
