"""What each spelling of a status means, and what kind of data a job is."""

import copy
import datetime
import pickle
from typing import Any

import attrs
import pytest

from moltin_jobs.models import Job, JobState

DIALECTS = [
    ("pending", JobState.PENDING, False),
    ("started", JobState.RUNNING, False),
    ("processing", JobState.RUNNING, False),
    ("success", JobState.SUCCEEDED, True),
    ("complete", JobState.SUCCEEDED, True),
    ("completed", JobState.SUCCEEDED, True),
    ("failed", JobState.FAILED, True),
    ("cancelling", JobState.CANCELLING, False),
    ("cancelled", JobState.CANCELLED, True),
]
SPELLINGS = [
    pytest.param(spelled, state, terminal, id=spelled)
    for status, state, terminal in DIALECTS
    for spelled in (status, status.upper(), status.title(), status[:-1] + status[-1].upper())
]
MOMENT = datetime.datetime(2018, 10, 4, 11, 8, 49, 156490, tzinfo=datetime.UTC)


def full_job() -> Job:
    return Job(
        id="974c9db4-38da-4dbf-90c2-33eed5f3e77c",
        type="job",
        job_type="order_export",
        status="failed",
        error="No results matched the supplied filter",
        created_at=MOMENT,
        updated_at=MOMENT + datetime.timedelta(seconds=1),
        self_url="https://useast.api.elasticpath.com/v2/jobs/974c9db4",
        file_url="https://files.example.com/export.csv",
    )


@pytest.mark.parametrize(("spelled", "state", "terminal"), SPELLINGS)
def test_every_dialect_is_understood_in_any_case(
    spelled: str, state: JobState, *, terminal: bool
) -> None:
    job = Job(id="a", status=spelled)
    assert job.state is state
    assert job.is_terminal is terminal
    assert job.status == spelled


@pytest.mark.parametrize(
    "status",
    ["", "archived", "canceled", "succeeded", "running", "unknown", "fail", " failed", "failed\n"],
    ids=ascii,
)
def test_any_other_spelling_is_unknown_and_not_terminal(status: str) -> None:
    job = Job(id="a", status=status)
    assert job.state is JobState.UNKNOWN
    assert job.is_terminal is False


def test_the_states_are_these_strings() -> None:
    assert {state.name: str(state) for state in JobState} == {
        "PENDING": "pending",
        "RUNNING": "running",
        "SUCCEEDED": "succeeded",
        "FAILED": "failed",
        "CANCELLING": "cancelling",
        "CANCELLED": "cancelled",
        "UNKNOWN": "unknown",
    }
    assert all(isinstance(state, str) for state in JobState)


def test_all_but_id_and_status_may_be_absent() -> None:
    assert attrs.asdict(Job(id="a", status="pending")) == {
        "id": "a",
        "type": None,
        "job_type": None,
        "status": "pending",
        "error": None,
        "created_at": None,
        "updated_at": None,
        "self_url": None,
        "file_url": None,
    }


@pytest.mark.parametrize("given", [{"id": "a"}, {"status": "pending"}, {}], ids=str)
def test_id_and_status_may_not_be_absent(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"missing .* required keyword-only argument"):
        Job(**given)


def test_fields_are_given_by_name_only() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        Job("a", status="pending")  # type: ignore[call-arg]  # refusing it is the point


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(Job)])
def test_no_field_can_be_set_or_deleted(name: str) -> None:
    job = full_job()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(job, name, "other")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delattr(job, name)
    assert job == full_job()


def test_it_is_slotted() -> None:
    assert not hasattr(full_job(), "__dict__")


def test_equal_data_are_equal_jobs_and_hash_alike() -> None:
    assert full_job() is not full_job()
    assert {full_job(), full_job()} == {full_job()}
    assert full_job() != attrs.evolve(full_job(), status="pending")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_pickles_and_copies(protocol: int) -> None:
    job = full_job()
    assert pickle.loads(pickle.dumps(job, protocol)) == job  # noqa: S301 (made on this line)
    assert copy.deepcopy(copy.copy(job)) == job
