"""Tables of the documentation agree with the code."""

import re

import attrs
import pytest

from moltin_jobs import Job, JobKind, JobState, Polling, Retry, kinds
from moltin_jobs.testing import Fault, RecordedRequest, Simulator
from moltin_jobs.testing.faults import FAULT_NAMES
from tests.docs.examples import read_page


@pytest.mark.parametrize(
    ("page", "settings"),
    [("docs/waiting.md", Polling()), ("docs/rate-limits.md", Retry())],
    ids=["Polling", "Retry"],
)
def test_table_of_settings_shows_the_defaults(page: str, settings: Polling | Retry) -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+)(?: s)? \|", read_page(page), re.MULTILINE)
    assert {name: float(value) for name, value in rows} == attrs.asdict(settings)


def test_table_of_states_shows_statuses_of_every_state() -> None:
    page = read_page("docs/compatibility.md")
    rows = re.findall(r"^\| `([A-Z]+)` \| (.+) \|", page, re.MULTILINE)
    assert [state for state, _ in rows] == [state.name for state in JobState]
    for state, statuses in rows:
        for status in re.findall(r"`(\w+)`", statuses):
            assert Job(id="a", status=status).state.name == state


KINDS = [
    kinds.catalog_releases("CATALOG_ID") if name.startswith("release:") else kinds.parse(name)
    for name in kinds.NAMES
]


def rows_of_kind(kind: JobKind) -> list[list[str]]:
    """Return the cells of each row of docs/kinds.md whose first cell has the name of a kind."""
    lines = [line for line in read_page("docs/kinds.md").splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]
    names = {kind.name, kind.name.partition(":")[0]}
    return [row for row in rows if names & set(re.findall(r"`\"?([\w:-]+)", row[0]))]


@pytest.mark.parametrize("kind", KINDS, ids=kinds.NAMES)
def test_tables_of_kinds_agree_with_the_kind(kind: JobKind) -> None:
    rows = rows_of_kind(kind)
    abilities = rows[1]
    assert rows[0][0] == f'`"{kind.name}"`'
    assert (abilities[1] != "no") == kind.can_cancel
    assert (abilities[2] != "no") == bool(kind.problem_message or "error" in kind.fields)
    assert ("line" in abilities[2]) == bool(kind.problem_line)
    assert (abilities[3] != "no") == ("file_urls" in kind.fields)
    fields = ("job_type", "error", "started_at", "ended_at", "file_urls")
    shown = [name for name, cell in zip(fields, rows[2][1:], strict=True) if cell]
    assert shown == [name for name in fields if name in kind.fields]
    details = re.findall(r"`(\w+)`", rows[3][1])
    assert details == [path.rpartition(".")[2] for path in kind.details]


def test_table_of_faults_shows_all_of_them() -> None:
    section = read_page("docs/testing-your-code.md").partition("### Faults")[2].partition("###")[0]
    rows = re.findall(r"^\| (?:an )?`(.+?)` \| .+ \|$", section, re.MULTILINE)
    names = [f'"{name}"' for name in FAULT_NAMES]
    fault = f"Fault({', '.join(field.name for field in attrs.fields(Fault))})"
    assert sorted(rows) == sorted(["int", *names, fault])


def test_table_of_attributes_shows_attributes_of_the_simulator() -> None:
    page = read_page("docs/testing-your-code.md")
    section = page.partition("### Attributes")[2].partition("## FastAPI")[0]
    table, _, text = section.partition("A `RecordedRequest` has ")
    with Simulator.in_thread() as simulator:
        for cell in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE):
            for name in re.findall(r"`(\w+)`", cell):
                assert getattr(simulator, name) is not None
        assert re.findall(r"`(EPCC_\w+)`", table) == list(simulator.environment)
    names = re.findall(r"`(\w+)`", text.partition(".")[0])
    assert set(names) == {field.name for field in attrs.fields(RecordedRequest)}
