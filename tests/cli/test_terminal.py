"""What a terminal shows: the live table, the progress bar, and what is left at the end."""

import json
import re
import signal
import subprocess
import threading
import uuid
from pathlib import Path

import pytest

from moltin_jobs.cli import progress
from moltin_jobs.testing import Fault, Simulator

from .harness import (
    FAILURE,
    PATIENCE,
    Terminal,
    list_requests,
    looked_up,
    process,
    run,
    signal_when,
    wait_until,
)

SHOW_CURSOR = "\x1b[?25h"


def table_rows(screen: list[str]) -> list[list[str]]:
    """Return the words of each row of the table, which is at the end of the screen."""
    header = next(i for i, line in enumerate(screen) if line.split() == HEADER)
    return [line.split() for line in screen[header + 1 :] if not line.startswith(HINT)]


HEADER = ["job", "status", "time", "polls"]
HINT = "Ctrl-C stops the wait, "


def test_wait_on_a_terminal_shows_a_table_instead_of_lines(store: Simulator) -> None:
    store.add_job("good", ["pending", "success"])
    store.add_job("bad", ["started", "failed"], error=FAILURE)
    store.add_job("odd", ["cancelling", "cancelled"])
    with Terminal(width=100) as terminal:
        code, stdout = terminal.run("wait", "good", "bad", "odd", "nowhere")
    assert code == 5
    assert sorted(line.split("\t")[0] for line in stdout.splitlines()) == ["bad", "good", "odd"]
    screen = terminal.screen()
    assert screen[0].startswith("error: job nowhere: the service responded with status 404")
    assert [row[:2] for row in table_rows(screen)] == [
        ["good", "success"],
        ["bad", "failed"],
        ["odd", "cancelled"],
        ["nowhere", "not"],
    ]
    assert any("4 of 4 jobs ended" in line for line in screen)
    assert any(FAILURE in line for line in screen)
    assert terminal.close().rindex(SHOW_CURSOR) > terminal.close().rindex("4 of 4 jobs ended")


def test_results_are_above_the_table_if_stdout_is_the_terminal_too(store: Simulator) -> None:
    store.add_job("a", ["failed"], error="[bold]" + "long " * 30)
    with Terminal() as terminal:
        code, _ = terminal.run("wait", "a", with_stdout=True)
    assert code == 1
    screen = "\n".join(terminal.screen())
    result, table = screen.split("1 of 1 jobs ended")
    assert result.replace("\n", "").startswith(f"a       failed  [bold]{'long ' * 30}".rstrip())
    assert re.search(r"a +failed +0\.\d s +1 +\[bold\]long long .*…", table)


def test_quiet_wait_on_a_terminal_shows_errors_only(store: Simulator) -> None:
    store.add_job("a", ["success"])
    with Terminal(width=200) as terminal:
        code, stdout = terminal.run("wait", "-q", "a", "nowhere")
    assert code == 5
    (error,) = "".join(terminal.screen()).split("error: ")[1:]
    assert error.startswith("job nowhere")
    assert stdout.startswith("a\tsuccess")


def test_log_is_above_the_table(store: Simulator) -> None:
    store.add_job("a", ["success"])
    with Terminal() as terminal:
        terminal.run("wait", "-v", "a")
    screen = "\n".join(terminal.screen())
    log, table = screen.split("1 of 1 jobs ended")
    assert "DEBUG moltin_jobs.polling: job a: success (poll 1)\n" in log
    assert "DEBUG" not in table


def test_dumb_terminal_gets_lines(store: Simulator) -> None:
    store.add_job("a", ["pending", "success"])
    with Terminal() as terminal:
        with process("wait", "a", env={"TERM": "dumb"}, stderr=terminal.end) as waiting:
            waiting.communicate(timeout=PATIENCE)
        assert "\x1b" not in terminal.close()
    assert [line.split()[3] for line in terminal.screen()] == ["pending", "success"]


def test_wait_that_reaches_no_service_shows_its_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPCC_ACCESS_TOKEN", "token")
    ids = [f"order-export-{number:02}" for number in range(1, 13)]
    arguments = ["wait", "--base-url", "http://127.0.0.1:9", *ids]
    with Terminal() as terminal:
        with process(*arguments, env={"TERM": "xterm"}, stderr=terminal.end) as waiting:

            def all_have_failed_twice() -> bool:
                screen = "\n".join(terminal.screen())
                return len(re.findall(r" x[2-9]\d*, retrying", screen)) == 12

            wait_until(all_have_failed_twice)
            screen = terminal.screen()
            waiting.send_signal(signal.SIGINT)
            waiting.communicate(timeout=PATIENCE)
    assert any(re.search(r"^0 of 12 jobs ended, .*, 12 retrying$", line) for line in screen)
    for job_id, row in zip(ids, table_rows(screen), strict=True):
        assert row[0] == job_id
        assert re.match(r"no response [0-9.]+ s \d+ x\d+, retrying", " ".join(row[1:]))


def test_table_of_twelve_jobs_at_three_moments(store: Simulator) -> None:
    ids = [f"order-export-{number:02}" for number in range(1, 13)]
    for number, job_id in enumerate(ids, 1):
        error = FAILURE if number == 5 else None
        store.add_job(job_id, duration=0.4 if number > 1 else 1.5, error=error)
    store.add_faults(503, job_id=ids[2])
    moments: list[list[str]] = []

    def look_when(ended: int) -> None:
        def has_ended() -> bool:
            screen = "\n".join(terminal.screen())
            found = re.search(r"(\d+) of 12 jobs ended", screen)
            return found is not None and int(found[1]) >= ended and "…" not in screen

        while not has_ended():
            assert waiting.poll() is None, terminal.screen()
            threading.Event().wait(0.02)
        moments.append(terminal.screen())

    with Terminal() as terminal:
        with process("wait", *ids, env={"TERM": "xterm"}, stderr=terminal.end) as waiting:
            look_when(0)
            look_when(6)
            stdout, _ = waiting.communicate(timeout=PATIENCE)
    moments.append(terminal.screen())

    for moment in moments:
        print("\n".join(moment), end="\n\n")  # noqa: T201 (pytest -s shows the recording)
        if moment is moments[-1]:
            assert not any(line.startswith(HINT) for line in moment)
        else:
            assert moment.pop() == f"{HINT}the jobs go on"
        assert moment[0].startswith("WARNING moltin_jobs.polling: poll 1 failed, retrying in ")
        table = moment[-13:]
        assert table[0].split() == HEADER
        assert [row.split()[0] for row in table[1:]] == ids
        assert all(re.search(r"  [1-9]\d*( |$)", row) for row in table[1:])
        assert re.search(
            r"^\d+ of 12 jobs ended, \d+\.\d s, \d+\.\d requests/s(, 1 retrying)?$", moment[-14]
        )
    assert re.search(r"status 503 .* x1, retrying", moments[0][-10])
    first, second, last = ([row[1] for row in table_rows(moment)] for moment in moments)
    assert first.count("pending") > second.count("pending") > 0
    assert "started" in first + second
    assert last == ["success"] * 4 + ["failed"] + ["success"] * 7
    assert re.search(f"failed  .*  {FAILURE}", moments[-1][-8])
    assert waiting.returncode == 1
    assert sorted(line.split("\t")[0] for line in stdout.splitlines()) == ids


@pytest.mark.parametrize("width", [40, 60])
def test_narrow_terminal_shows_status_and_duration(store: Simulator, width: int) -> None:
    ids = [store.add_job(str(uuid.UUID(int=number)), ["pending"]) for number in range(3)]
    with (
        Terminal(width) as terminal,
        signal_when(lambda: len(looked_up(store)) > 6),
    ):
        code, _ = terminal.run("wait", *ids)
    assert code == 130
    rows = [line for line in terminal.screen() if "pending" in line]
    assert len(rows) == 3
    assert all(re.search(r"^00000000-.* pending +\d\.\d s( +[123]..)?$", row) for row in rows)


def test_interrupt_shows_the_cursor_again(store: Simulator) -> None:
    store.add_job("a", ["pending"])
    with Terminal() as terminal:
        with process(
            "wait", "a", env={"TERM": "xterm"}, stdout=subprocess.PIPE, stderr=terminal.end
        ) as waiting:
            wait_until(lambda: "a" in looked_up(store))
            waiting.send_signal(signal.SIGTERM)
            stdout, _ = waiting.communicate(timeout=PATIENCE)
        written = terminal.close()
    assert (waiting.returncode, stdout) == (143, "")
    assert "interrupted. To continue: moltin-jobs wait a\r\n" in written.rpartition(SHOW_CURSOR)[2]
    assert "Traceback" not in written


def test_export_on_a_terminal_shows_a_progress_bar(store: Simulator, tmp_path: Path) -> None:
    path = tmp_path / "[red]orders.csv"
    with Terminal() as terminal:
        code, stdout = terminal.run("export", str(path))
    assert code == 0
    *_, row, bar = terminal.screen()
    assert row.split()[:2] == [stdout.split("\t")[0], "success"]
    size = path.stat().st_size / 1000
    assert re.fullmatch(rf"\[red\]orders\.csv ━+ {size:.1f}/{size:.1f} kB \S.* 0:00:00", bar)


@pytest.mark.parametrize("width", [100, 60, 40])
def test_progress_bar_has_one_line_with_speed_and_time_at_any_width(
    store: Simulator, tmp_path: Path, width: int
) -> None:
    store.add_job("a", ["success"], file=b"order_id\n" * 300_000)
    path = tmp_path / "orders-of-the-whole-year-in-one-file.csv"
    with Terminal(width) as terminal:
        code, _ = terminal.run("download", "a", str(path))
    assert code == 0
    (bar,) = terminal.screen()
    assert bar.startswith("orders-o")
    assert bar.endswith(" 0:00:00")
    assert "2.7/2.7 MB " in bar
    assert ("━" in bar) == (width >= 60)


def test_wait_for_one_job_says_that_the_job_goes_on(store: Simulator) -> None:
    store.add_job("a", ["pending"])
    with Terminal(40) as terminal:
        with process("wait", "a", env={"TERM": "xterm"}, stderr=terminal.end) as waiting:
            wait_until(lambda: terminal.screen()[-1:] == [f"{HINT}the job goes on"])
            waiting.send_signal(signal.SIGINT)
            waiting.communicate(timeout=PATIENCE)
    assert not any(line.startswith(HINT) for line in terminal.screen())


def test_first_on_a_terminal_leaves_the_table_as_it_was(store: Simulator) -> None:
    store.add_job("a", ["pending"])
    store.add_job("b", ["started", "success"])
    with Terminal() as terminal:
        code, stdout = terminal.run("wait", "--first", "a", "b")
    assert code == 0
    assert stdout.startswith("b\tsuccess\t")
    *table, note = terminal.screen()
    assert [row[:2] for row in table_rows(table)] == [["a", "pending"], ["b", "success"]]
    assert note == "to wait for the rest: moltin-jobs wait a"


def test_interrupted_download_on_a_terminal_prints_below_the_bar(
    store: Simulator, tmp_path: Path
) -> None:
    store.add_job("a", ["success"])
    store.add_faults("hang", job_id="a")
    with Terminal(width=200) as terminal, signal_when(lambda: "a" in looked_up(store)):
        code, _ = terminal.run("download", "a", str(tmp_path / "orders.csv"))
    assert code == 130
    assert terminal.screen()[-1].startswith("interrupted. Nothing was saved. To try again: ")


PLACE = re.compile(r"in the queue|running")


def test_wait_on_a_terminal_shows_the_job_queue_from_one_list(store: Simulator) -> None:
    for job_id in ("ended", "bad", "a", "b"):
        store.add_job(job_id, duration=0.2 if job_id in ("ended", "bad") else 30)
    wait_until(lambda: run("get", "bad").stdout.startswith("bad\tsuccess"))
    with (
        Terminal(width=100) as terminal,
        signal_when(lambda: sum(bool(PLACE.search(line)) for line in terminal.screen()) == 2),
    ):
        code, _ = terminal.run("wait", "a", "b")
    assert code == 130
    first, second = table_rows(terminal.screen()[:-1])
    assert re.fullmatch(r"a started .* running, done in about \d+ s", " ".join(first))
    assert re.fullmatch(r"b pending .* 2nd in the queue, done in about \d+ s", " ".join(second))
    assert list_requests(store) == 1


def test_job_queue_is_requested_again_until_the_wait_ends(
    store: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "QUEUE_SECONDS", 0.01)
    store.add_job("a", ["pending"])
    with (
        Terminal() as terminal,
        signal_when(lambda: list_requests(store) > 3),
    ):
        code, _ = terminal.run("wait", "a")
    assert code == 130
    lists = list_requests(store)
    threading.Event().wait(0.1)
    assert list_requests(store) == lists


def test_long_job_queue_is_not_requested_again_soon(
    store: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "QUEUE_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LONG_LIST", 1)
    for job_id in ("a", "b"):
        store.add_job(job_id, ["pending"])
    with (
        Terminal() as terminal,
        signal_when(lambda: len(looked_up(store)) > 30),
    ):
        terminal.run("wait", "a")
    assert any("1st in the queue" in line for line in terminal.screen())
    assert list_requests(store) == 1


@pytest.mark.parametrize(
    ("fault", "is_repeated"), [(503, True), ("reset", True), ("hang", False), (403, False)]
)
def test_job_queue_that_cannot_be_listed_is_left_out(
    store: Simulator, monkeypatch: pytest.MonkeyPatch, fault: int | str, is_repeated: bool
) -> None:
    monkeypatch.setattr(progress, "QUEUE_SECONDS", 0.01)
    store.add_job("a", duration=0.8)
    store.add_faults(fault, path="/v2/jobs", repeat=True)
    with Terminal() as terminal:
        code, stdout = terminal.run("wait", "a")
    assert code == 0
    assert stdout.startswith("a\tsuccess")
    title, *_ = terminal.screen()
    assert title.startswith("1 of 1 jobs ended"), "there is no warning above it"
    assert (list_requests(store) > 2) == is_repeated
    assert list_requests(store) >= 1


def test_verbose_wait_logs_why_the_job_queue_is_left_out(store: Simulator) -> None:
    store.add_job("a", ["pending"])
    store.add_faults(503, path="/v2/jobs", repeat=True)
    with Terminal() as terminal, signal_when(lambda: list_requests(store) > 1):
        terminal.run("wait", "-v", "a")
    assert "WARNING moltin_jobs.polling: attempt 1 failed, retrying" in terminal.close()


@pytest.mark.parametrize(
    ("kind", "options"), [("pxm", ["--kind", "pxm"]), ("order", ["-q"])], ids=["pxm", "quiet"]
)
def test_job_queue_is_not_requested_if_it_is_not_shown(
    store: Simulator, kind: str, options: list[str]
) -> None:
    store.add_job("a", [*["pending"] * 30, "success"], kind=kind)
    with Terminal() as terminal:
        code, _ = terminal.run("wait", *options, "a")
    assert code == 0
    assert len(looked_up(store)) == 31
    assert not list_requests(store)
    assert not any(PLACE.search(line) for line in terminal.screen())


def test_job_queue_is_not_requested_for_jobs_that_have_ended(store: Simulator) -> None:
    store.add_job("a", ["success"])
    with Terminal() as terminal:
        code, _ = terminal.run("wait", "a", "nowhere", "a/b")
    assert code == 5
    assert not list_requests(store)


def test_wait_for_a_uuid_in_capitals_shows_its_place(store: Simulator) -> None:
    job_id = store.add_job(str(uuid.uuid4()), ["pending"])
    lookup = json.dumps({"data": {"id": job_id, "status": "pending"}}).encode()
    store.add_faults(Fault(body=lookup), job_id=job_id.upper(), repeat=True)
    with (
        Terminal(width=100) as terminal,
        signal_when(lambda: any("1st in the queue" in line for line in terminal.screen())),
    ):
        code, _ = terminal.run("wait", job_id.upper())
    assert code == 130
