import copy
import datetime
import json
import pickle
from typing import Any

import attrs
import pytest

from moltin_jobs.models import Job, JobState, SessionStats

STATUSES = [
    ("pending", JobState.PENDING, False),
    ("started", JobState.RUNNING, False),
    ("processing", JobState.RUNNING, False),
    ("in_progress", JobState.RUNNING, False),
    ("success", JobState.SUCCEEDED, True),
    ("complete", JobState.SUCCEEDED, True),
    ("completed", JobState.SUCCEEDED, True),
    ("published", JobState.SUCCEEDED, True),
    ("failed", JobState.FAILED, True),
    ("cancelling", JobState.CANCELLING, False),
    ("cancelled", JobState.CANCELLED, True),
    ("canceled", JobState.CANCELLED, True),
]
SPELLINGS = [
    pytest.param(spelling, state, terminal, id=spelling)
    for status, state, terminal in STATUSES
    for spelling in (status, status.upper(), status.title(), status[:-1] + status[-1].upper())
]
MOMENT = datetime.datetime(2018, 10, 4, 11, 8, 49, 156490, tzinfo=datetime.UTC)
SIGNED_URL = "https://files.example.com/export.csv?signature=abc"


@pytest.fixture
def job() -> Job:
    """Return a job with a value in every field."""
    return make_job()


def make_job() -> Job:
    return Job(
        id="974c9db4-38da-4dbf-90c2-33eed5f3e77c",
        type="job",
        job_type="order_export",
        status="failed",
        error="No results matched the supplied filter",
        created_at=MOMENT,
        updated_at=MOMENT + datetime.timedelta(seconds=1),
        self_url="https://useast.api.elasticpath.com/v2/jobs/974c9db4",
        file_urls=(SIGNED_URL,),
    )


class TestState:
    @pytest.mark.parametrize(("spelling", "state", "terminal"), SPELLINGS)
    def test_state_of_documented_status_ignores_case(
        self, spelling: str, state: JobState, *, terminal: bool
    ) -> None:
        job = Job(id="a", status=spelling)
        assert job.state is state
        assert job.is_terminal is terminal
        assert job.status == spelling

    @pytest.mark.parametrize(
        "status",
        [
            "",
            "archived",
            "succeeded",
            "running",
            "unknown",
            "fail",
            " failed",
            "failed\n",
        ],
        ids=ascii,
    )
    def test_state_of_any_other_status_is_unknown_and_not_terminal(self, status: str) -> None:
        job = Job(id="a", status=status)
        assert job.state is JobState.UNKNOWN
        assert job.is_terminal is False

    def test_state_is_string_of_its_own_name(self) -> None:
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


class TestFields:
    def test_job_needs_only_id_and_status(self) -> None:
        assert attrs.asdict(Job(id="a", status="pending")) == {
            "id": "a",
            "kind": "order",
            "type": None,
            "job_type": None,
            "status": "pending",
            "error": None,
            "created_at": None,
            "updated_at": None,
            "self_url": None,
            "started_at": None,
            "ended_at": None,
            "file_urls": (),
            "details": {},
        }

    @pytest.mark.parametrize("fields", [{"id": "a"}, {"status": "pending"}, {}], ids=str)
    def test_job_without_id_or_status_is_type_error(self, fields: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match=r"missing .* required keyword-only argument"):
            Job(**fields)

    def test_job_with_positional_argument_is_type_error(self) -> None:
        with pytest.raises(TypeError, match="positional argument"):
            Job("a", status="pending")  # type: ignore[call-arg]  # refusing it is the point

    @pytest.mark.parametrize("name", [field.name for field in attrs.fields(Job)])
    def test_job_is_immutable(self, job: Job, name: str) -> None:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(job, name, "other")
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(job, name)
        assert job == make_job()

    def test_equal_jobs_have_equal_hashes(self, job: Job) -> None:
        assert job is not make_job()
        assert {job, make_job()} == {job}
        assert job != attrs.evolve(job, status="pending")

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_job_pickles_and_copies_with_file_address(self, job: Job, protocol: int) -> None:
        assert pickle.loads(pickle.dumps(job, protocol)) == job  # noqa: S301 (made on this line)
        assert copy.deepcopy(copy.copy(job)) == job
        assert copy.copy(job).file_url == SIGNED_URL

    def test_repr_of_job_has_every_field_but_file_address(self, job: Job) -> None:
        assert repr(job) == (
            "Job(id='974c9db4-38da-4dbf-90c2-33eed5f3e77c', kind='order', type='job', "
            "job_type='order_export', status='failed', "
            "error='No results matched the supplied filter', "
            "created_at=datetime.datetime(2018, 10, 4, 11, 8, 49, 156490, "
            "tzinfo=datetime.timezone.utc), updated_at=datetime.datetime(2018, 10, 4, 11, 8, 50, "
            "156490, tzinfo=datetime.timezone.utc), "
            "started_at=None, ended_at=None, "
            "self_url='https://useast.api.elasticpath.com/v2/jobs/974c9db4', details={})"
        )
        assert "signature" not in f"{job}{job!r}{job!s}{[job]}"


class TestToDict:
    def test_to_dict_has_every_field_and_state_ready_for_json(self, job: Job) -> None:
        document = job.to_dict()
        assert document == {
            "id": "974c9db4-38da-4dbf-90c2-33eed5f3e77c",
            "kind": "order",
            "type": "job",
            "job_type": "order_export",
            "status": "failed",
            "error": "No results matched the supplied filter",
            "created_at": "2018-10-04T11:08:49.156490+00:00",
            "updated_at": "2018-10-04T11:08:50.156490+00:00",
            "self_url": "https://useast.api.elasticpath.com/v2/jobs/974c9db4",
            "started_at": None,
            "ended_at": None,
            "file_urls": [SIGNED_URL],
            "file_url": SIGNED_URL,
            "details": {},
            "state": "failed",
        }
        assert json.loads(json.dumps(document)) == document
        assert type(document["state"]) is str

    def test_to_dict_of_job_without_optional_fields_has_null(self) -> None:
        assert Job(id="a", status="COMPLETE").to_dict() == {
            "id": "a",
            "kind": "order",
            "type": None,
            "job_type": None,
            "status": "COMPLETE",
            "error": None,
            "created_at": None,
            "updated_at": None,
            "self_url": None,
            "started_at": None,
            "ended_at": None,
            "file_urls": [],
            "file_url": None,
            "details": {},
            "state": "succeeded",
        }


class TestSessionStats:
    def test_session_stats_is_frozen_with_named_counts(self) -> None:
        names = [field.name for field in attrs.fields(SessionStats)]
        assert names == [
            "waits",
            "requests_in_flight",
            "requests_queued",
            "slots_held",
            "tasks",
            "connections",
            "requests",
            "polls",
            "failed_polls",
            "cooldowns",
        ]
        stats = SessionStats(**dict.fromkeys(names, 1))
        assert stats == SessionStats(**dict.fromkeys(names, 1))
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            stats.waits = 2  # type: ignore[misc]  # refusing it is the point


class TestDetails:
    def test_change_of_a_dict_leaves_the_job_as_it_is(self) -> None:
        job = Job(id="a", status="success", details={"report": {"failures": 1}})
        job.to_dict()["details"]["report"]["failures"] = 0
        assert job.details["report"] == {"failures": 1}
