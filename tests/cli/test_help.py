"""Help, version, usage errors, and the completion of a shell."""

import pytest

import moltin_jobs
from moltin_jobs.cli.commands import commands

from .harness import run


def test_version_is_that_of_the_package() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout == f"moltin-jobs, version {moltin_jobs.__version__}\n"


@pytest.mark.parametrize("command", [[], *[[name] for name in commands.commands]])
def test_help_fits_on_a_terminal_of_80_by_24_and_is_ascii(command: list[str]) -> None:
    result = run(*command, "--help")
    assert run(*command, "-h").stdout == result.stdout
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0].startswith(f"Usage: {' '.join(['moltin-jobs', *command])} ")
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    assert result.stdout.isascii(), "click does not escape what stdout cannot encode"


def test_help_lists_exit_codes_and_variables() -> None:
    words = " ".join(run("--help").stdout.split())
    assert (
        "0 all succeeded, 1 a job failed, 2 usage or configuration, 3 timed out, "
        "4 authentication, 5 not found, 6 network or service, 130 interrupted"
    ) in words
    for name in ("EPCC_CLIENT_ID", "EPCC_CLIENT_SECRET", "EPCC_ACCESS_TOKEN"):
        assert name in words
    assert "..." not in words.partition("Commands:")[2], "the summary of a command is cut"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("list", "--state STATE,... Only jobs in one of these: pending, running, succeeded, "),
        ("list", "--ids Print ids only."),
        ("wait", "--all All jobs that have not ended."),
        ("wait", "--first Stop when the first job has ended."),
        ("wait", "--timeout TIME Limit for each wait: seconds, or like 10m or 1h30m. Default: no"),
        ("export", "--empty-ok Exit with 0 if no order matches."),
        ("serve", "On the loopback interface. Default: a free one."),
        ("serve", "Order jobs. [default: 12; x>=1]"),
        ("serve", "Order jobs that fail, from number 5 on. [default: 1; x>=0]"),
        ("serve", "--faults SHARE Share of requests that get a random fault, from 0 to 1."),
    ],
)
def test_help_of_a_command_describes_its_options(command: str, text: str) -> None:
    assert text in " ".join(run(command, "--help").stdout.split())


def test_unknown_command_is_a_usage_error() -> None:
    result = run("fetch")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such command 'fetch'" in result.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("w", "plain,wait"),
        ("wait --q", "plain,--quiet"),
        ("wait - --j", "plain,--json"),
        ("download ID ord", "file,ord"),
    ],
)
def test_bash_completion_offers_commands_options_and_files(
    monkeypatch: pytest.MonkeyPatch, typed: str, offered: str
) -> None:
    words = f"moltin-jobs {typed}"
    monkeypatch.setenv("_MOLTIN_JOBS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert run().stdout == f"{offered}\n"
