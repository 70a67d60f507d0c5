"""Messages of the library in the words of the command line."""

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from moltin_jobs import JobsSession
from moltin_jobs.testing import AnyFault, Simulator

from .harness import PATIENCE, run

PYTHON_WORDS = re.compile(
    r"\w+\(\)|\b[a-z]+_[a-z]+\b|\b[A-Z][a-z]+[A-Z]\w+|\bUUID\b|\b(?:str|int|float|None|callable)\b"
)

ALLOWED_WORDS = ("client_credentials", "moltin_jobs")
"""A word of the service, and the name of a logger."""


def python_words(text: str) -> list[str]:
    return [word for word in PYTHON_WORDS.findall(text) if word not in ALLOWED_WORDS]


@pytest.fixture
def untrusted_server() -> Iterator[str]:
    """URL of a server whose certificate nobody trusts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                    with context.wrap_socket(connection, server_side=True):
                        pass
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


@pytest.mark.parametrize(
    ("command", "faults"),
    [
        (["get", "a"], [301, 400, 401, 403, 404, 408, 429, 503, "garbage", "html", "reset"]),
        (["wait", "a"], [400, 401, 404, 503, "html", "reset", "truncate"]),
        (["create"], [301, 400, 401, 503, "html", "lost"]),
        (["list"], [400, 401, 404, 503, "html"]),
        (["get", "--kind", "release:shoes", "a"], [404, 503, "garbage"]),
        (["cancel", "--kind", "pxm", "a"], [400, 404, 422, 503, "html", "lost"]),
        (["problems", "--kind", "inventory-import", "a"], [400, 404, 503, "html"]),
        (["publish", "shoes"], [400, 404, 503, "html", "lost"]),
    ],
)
def test_error_of_a_command_has_no_python_words(
    store: Simulator, command: list[str], faults: list[AnyFault]
) -> None:
    for fault in faults:
        store.clear_faults()
        store.add_faults(fault, repeat=True)
        result = run(*command)
        assert result.exit_code >= 4
        assert "error: " in result.stderr
        assert python_words(result.stderr) == []


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "command",
    [
        ["get", "a/b"],
        ["get", "--base-url", "http://example.com", "a"],
        ["get", "--base-url", "https://example.com/v2", "a"],
        ["wait", "--timeout", "soon", "a"],
        ["get", "--kind", "orders", "a"],
        ["get", "--kind", "release:shoes", "latestPublished"],
        ["problems", "--kind", "subscription", "a"],
        ["cancel", "a"],
        ["publish", "a/b"],
        ["download", "--kind", "subscription", "a", "file"],
        ["download", "--file-index", "1", "a", "file"],
        ["create", "--filter", ""],
        ["create", "--type", "\n"],
        ["download", "--json", "a", "-"],
        ["export", "--json", "-"],
        ["download", "a", "/nowhere/orders.csv"],
        ["export", "/nowhere/orders.csv"],
    ],
)
def test_error_of_the_usage_has_no_python_words(command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 2
    assert python_words(result.stderr) == []


def test_error_of_a_certificate_names_option_and_variable(untrusted_server: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPCC_ACCESS_TOKEN", "token")
        result = run("get", "--base-url", untrusted_server, "a")
    assert result.exit_code == 6
    assert "Check --base-url, or set SSL_CERT_FILE to a file with " in result.stderr
    assert python_words(result.stderr) == []


def test_error_of_a_request_that_hangs_has_no_python_words(
    store: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_env = JobsSession.from_env

    def with_short_timeout(**options: Any) -> JobsSession:
        return from_env(request_timeout=0.1, **options)

    monkeypatch.setattr(JobsSession, "from_env", with_short_timeout)
    store.add_faults("hang", repeat=True)
    result = run("get", "-q", "a")
    assert result.exit_code == 6
    assert "within 0.1 s. Try again later." in result.stderr
    assert python_words(result.stderr) == []


def test_python_words_are_found() -> None:
    text = "set base_url, call list_jobs(), give a uuid.UUID or str to a JobsSession"
    assert python_words(text) == ["base_url", "list_jobs()", "UUID", "str", "JobsSession"]
