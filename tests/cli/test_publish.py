"""`moltin-jobs publish`."""

import json
import re

import pytest

from moltin_jobs.testing import Fault, Simulator

from .harness import Terminal, json_lines, progress_texts, run, signal_when

RELEASES = "/pcm/catalogs/shoes/releases"


def release_ids(store: Simulator) -> list[str]:
    """Return the ids of the releases that were polled."""
    paths = [re.fullmatch(f"{RELEASES}/(.+)", request.path) for request in store.requests]
    return [found[1] for found in paths if found]


def test_publish_creates_a_release_and_prints_it_when_it_is_published(store: Simulator) -> None:
    result = run("publish", "shoes")
    assert result.exit_code == 0
    release_id, status, address = result.stdout.rstrip("\n").split("\t")
    assert (release_id, status) == (release_ids(store)[0], "PUBLISHED")
    assert address.startswith(store.files_url)
    assert progress_texts(result.stderr) == ["IN_PROGRESS", "PUBLISHED"]


def test_publish_with_full_delta_requests_it(store: Simulator) -> None:
    for options in ([], ["--full-delta"]):
        (release,) = json_lines(run("publish", "--json", *options, "shoes"))
        assert (release["kind"], release["state"]) == ("release:shoes", "succeeded")
        assert release["details"]["is_full_delta"] is bool(options)


def test_publish_shows_a_table_in_a_terminal(store: Simulator) -> None:
    with Terminal() as terminal:
        code, stdout = terminal.run("publish", "shoes")
        screen = terminal.close()
    assert code == 0
    assert stdout.startswith(release_ids(store)[0])
    assert "1 of 1 jobs ended" in screen
    assert "IN_PROGRESS" in screen


def test_publish_that_fails_prints_the_release_and_exits_with_1(store: Simulator) -> None:
    store.script_next_job(["PENDING", "FAILED"])
    result = run("publish", "-q", "shoes")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == f"{release_ids(store)[0]}\tFAILED\n"


def test_publish_that_times_out_names_the_command_to_continue(store: Simulator) -> None:
    store.script_next_job(["PENDING"])
    result = run("publish", "-q", "--timeout", "0.8", "shoes")
    assert (result.exit_code, result.stdout) == (3, "")
    release_id = release_ids(store)[0]
    error, hint = result.stderr.splitlines()
    assert error.startswith(f"error: release job {release_id} did not end within 0.8 s ")
    assert hint == f"to continue: moltin-jobs wait --kind release:shoes {release_id}"


def test_publish_whose_wait_ends_in_an_outage_names_the_command_to_continue(
    store: Simulator,
) -> None:
    created = {"data": {"id": "a", "meta": {"release_status": "PENDING"}}}
    store.add_faults(Fault(201, body=json.dumps(created).encode()), path=RELEASES)
    store.add_faults(503, path=f"{RELEASES}/a", repeat=True)
    result = run("publish", "-q", "--json", "shoes")
    (document,) = json_lines(result)
    assert (document["id"], document["exception"]) == ("a", "ServerError")
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: release job a: the service responded with status 503")
    assert hint == "to continue: moltin-jobs wait --kind release:shoes a"
    assert result.exit_code == 6


def test_interrupted_publish_names_the_command_to_continue(store: Simulator) -> None:
    store.script_next_job(["PENDING"])
    with signal_when(lambda: bool(release_ids(store))):
        result = run("publish", "-q", "--base-url", store.url, "shoes")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == (
        f"interrupted. To continue: moltin-jobs wait --base-url {store.url} --kind release:shoes "
        f"{release_ids(store)[0]}\n"
    )


def test_interrupted_creation_of_a_release_warns_that_it_may_exist(store: Simulator) -> None:
    store.add_faults("hang")
    with signal_when(lambda: bool(store.requests)):
        result = run("publish", "-q", "shoes")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.startswith("interrupted. A release may have been created: ")


def test_timeout_of_the_creation_of_a_release_warns_that_it_may_exist(store: Simulator) -> None:
    store.add_faults("hang")
    result = run("publish", "-q", "--timeout", "0.8", "shoes")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(
        "error: the release of this publication was not confirmed within 0.8 s. A release may "
    )


def test_publish_of_an_unknown_catalog_exits_with_6(store: Simulator) -> None:
    store.add_faults(404)
    result = run("publish", "shoes")
    assert (result.exit_code, result.stdout) == (6, "")
    assert result.stderr.startswith("error: the publication of catalog shoes: the service ")
    assert not release_ids(store)


@pytest.mark.parametrize("command", [["publish", "a/b"], ["publish", "--json", ""]])
def test_publish_with_an_invalid_id_is_a_usage_error(store: Simulator, command: list[str]) -> None:
    result = run(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: CATALOG_ID must be 1 to 128 ASCII letters, ")
    assert not store.requests
