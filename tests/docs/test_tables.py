"""Tables of the documentation agree with the code."""

import re

import attrs
import pytest

from moltin_jobs import Job, JobState, Polling, Retry
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
