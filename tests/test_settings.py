"""What a setting may be, wherever it is given."""

import pytest

from moltin_jobs import ConfigurationError, Job
from moltin_jobs.settings import check_count, check_number, check_seconds, check_text, instance
from tests.polling.test_intervals import NEVER_SECONDS


@pytest.mark.parametrize("value", [*NEVER_SECONDS, pytest.param(None, id="none")])
def test_of_seconds(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^timeout must be a finite number of sec"):
        check_seconds("timeout", value)


@pytest.mark.parametrize("value", [5e-324, 1, 1.5, 1.7976931348623157e308], ids=str)
def test_of_seconds_that_can_pass(value: float) -> None:
    check_seconds("timeout", value)


def test_of_a_number() -> None:
    check_number("size", 7, "seven", lambda number: number == 7)
    with pytest.raises(ConfigurationError) as caught:
        check_number("size", 8, "seven", lambda number: number == 7)
    assert str(caught.value) == "size must be seven, not 8"


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None], ids=repr)
def test_of_a_count(value: object) -> None:
    check_count("size", 1)
    with pytest.raises(ConfigurationError) as caught:
        check_count("size", value)
    assert str(caught.value) == f"size must be an int from 1, not {value!r}"


@pytest.mark.parametrize("value", ["", "\n", b"a", 1, None], ids=repr)
def test_of_a_text(value: object) -> None:
    check_text("name", "ä b")
    with pytest.raises(ConfigurationError) as caught:
        check_text("name", value)
    assert str(caught.value) == f"name must be a non-empty printable str, not {value!r}"


def test_of_a_kind() -> None:
    job = Job(id="a", status="pending")
    assert instance("job", job, Job) is job
    with pytest.raises(ConfigurationError) as caught:
        instance("job", "a", Job)
    assert str(caught.value) == "job must be a Job, not 'a'"
