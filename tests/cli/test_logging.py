"""Log records on stderr: warnings, nothing with -q, everything with -v."""

import logging

import pytest

from moltin_jobs.testing import Simulator

from .harness import looked_up, progress_texts, run, signal_when


def test_warning_is_printed_by_default(store: Simulator) -> None:
    store.add_job("a", ["success"])
    store.add_faults(503)
    result = run("get", "a")
    (line,) = result.stderr.splitlines()
    assert line.startswith("WARNING moltin_jobs.polling: attempt 1 failed, retrying in ")
    assert result.stdout.startswith("a\tsuccess")


@pytest.mark.parametrize("command", ["get", "wait"])
def test_quiet_prints_no_warning(store: Simulator, command: str) -> None:
    store.add_job("a", ["success"])
    store.add_faults(503)
    result = run(command, "-q", "a")
    assert (result.exit_code, result.stderr) == (0, "")


def test_same_error_of_many_waits_is_logged_once(store: Simulator) -> None:
    ids = [store.add_job(f"job-{number}", ["success"]) for number in range(5)]
    for job_id in ids:
        store.add_faults(503, "reset", job_id=job_id)
    stderr = run("wait", *ids).stderr
    assert stderr.count("WARNING") == 1
    assert progress_texts(stderr).count("status 503, retrying") == 5


def test_verbose_logs_the_same_error_of_each_wait(store: Simulator) -> None:
    ids = [store.add_job(f"job-{number}", ["success"]) for number in range(5)]
    for job_id in ids:
        store.add_faults(503, job_id=job_id)
    assert run("wait", "-v", *ids).stderr.count("WARNING") == 5


@pytest.mark.parametrize("option", ["-v", "--verbose"])
@pytest.mark.parametrize("command", ["get", "wait"])
def test_verbose_logs_requests_and_polls_without_secrets(
    store: Simulator, command: str, option: str
) -> None:
    result = run(command, option, store.add_job("a", ["success"]))
    assert result.stderr.splitlines()[:2] == [
        f"DEBUG moltin_jobs.http: POST {store.url}/oauth/access_token: 200",
        f"DEBUG moltin_jobs.http: GET {store.url}/v2/jobs/a: 200",
    ]
    if command == "wait":
        assert "DEBUG moltin_jobs.polling: job a: success (poll 1)\n" in result.stderr
    assert "issued-" not in result.output
    assert store.client_secret not in result.output


def test_quiet_with_verbose_is_a_usage_error(store: Simulator) -> None:
    result = run("wait", "-q", "-v", store.add_job("a"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--quiet and --verbose exclude each other" in result.stderr
    assert not store.requests


@pytest.mark.parametrize("options", [[], ["-q"], ["-v"]])
def test_logger_is_the_same_after_a_command(store: Simulator, options: list[str]) -> None:
    logger = logging.getLogger("moltin_jobs")
    before = logger.handlers[:], logger.level
    run("get", *options, store.add_job("a"))
    assert (logger.handlers, logger.level) == before


@pytest.mark.parametrize("options", [[], ["-q"]])
def test_debug_records_are_not_made_without_verbose(store: Simulator, options: list[str]) -> None:
    logger = logging.getLogger("moltin_jobs.polling")
    levels = []

    def note_level() -> bool:
        if looked_up(store):
            levels.append(logger.getEffectiveLevel())
        return bool(levels)

    store.add_job("a", ["pending"])
    with signal_when(note_level):
        run("wait", *options, "a")
    assert levels == [logging.WARNING]


def test_warning_uses_the_words_of_the_command_line(store: Simulator) -> None:
    store.add_job("a", ["pending", "success"])
    store.add_faults("html", job_id="a")
    stderr = run("wait", "a").stderr
    assert "check that EPCC_API_BASE_URL and all proxies lead to the service" in stderr
    assert "base_url" not in stderr
