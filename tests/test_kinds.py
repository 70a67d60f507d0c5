"""The table of the kinds of job, and how a call finds the kind of its job."""

import copy
import pickle
import uuid
from pathlib import Path
from typing import Any

import attrs
import pytest

from moltin_jobs import (
    ConfigurationError,
    InvalidJobIdError,
    Job,
    JobKind,
    JobNotFoundError,
    JobsSession,
    kinds,
)
from moltin_jobs.testing import Simulator

pytestmark = pytest.mark.looptime

CATALOG = uuid.UUID("0194f54d-f2a1-4e33-9a6e-9ec366152490")
NAMES = ["order", "pxm", "subscription", "subscription-import", "inventory-import", "release:c"]
OTHERS = NAMES[1:]
WITHOUT_FILES = ["subscription", "subscription-import", "inventory-import"]
JOB_CALLS = [
    "get_job",
    "wait_for_job",
    "watch_job",
    "get_job_problems",
    "cancel_job",
    "get_file_url",
    "download",
]
INVALID_IDS: list[Any] = ["", "a/b", "..", "a b", "ä", "a" * 129, "a\n", None, 5, b"a"]


async def call(session: JobsSession, name: str, job: Any, **options: Any) -> Any:
    """Call a method of the session that takes a job."""
    arguments = {"download": (job, Path("unused")), "list_jobs": ()}.get(name, (job,))
    result = getattr(session, name)(*arguments, **options)
    return await (anext(result) if name == "watch_job" else result)


class TestTable:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("order", kinds.ORDERS),
            ("pxm", kinds.PXM),
            ("subscription", kinds.SUBSCRIPTIONS),
            ("subscription-import", kinds.SUBSCRIPTION_IMPORTS),
            ("inventory-import", kinds.INVENTORY_IMPORTS),
            ("release:c", kinds.catalog_releases("c")),
            (f"release:{CATALOG}", kinds.catalog_releases(CATALOG)),
        ],
    )
    def test_name_is_parsed_to_its_kind(self, name: str, kind: JobKind) -> None:
        assert kind.name == name
        assert kinds.parse(name) is kind
        assert kinds.parse("".join(name)) == kind

    @pytest.mark.parametrize(
        "name",
        ["", "orders", "PXM", " pxm", "release", "Release:c", "order:c", "pxm\n", None, 5, []],
    )
    def test_name_of_no_kind_is_rejected_with_all_names(self, name: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            kinds.parse(name)
        assert str(caught.value) == (
            "kind must be order, pxm, subscription, subscription-import, inventory-import or "
            f"release:CATALOG_ID, not {name!r}"
        )

    def test_long_name_is_cut_in_the_message(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            kinds.parse("x" * 10_000)
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize("catalog_id", INVALID_IDS)
    def test_invalid_id_of_a_catalog_is_rejected(self, catalog_id: Any) -> None:
        with pytest.raises(ConfigurationError, match="catalog_id must be 1 to 128 ASCII letters"):
            kinds.catalog_releases(catalog_id)

    @pytest.mark.parametrize("catalog_id", ["", "a/b", "..", "a b", "a:b", "a?b", "a" * 129])
    def test_name_with_an_invalid_id_of_a_catalog_is_rejected(self, catalog_id: str) -> None:
        with pytest.raises(ConfigurationError, match="catalog_id must be 1 to 128 ASCII letters"):
            kinds.parse(f"release:{catalog_id}")

    def test_id_of_a_catalog_is_the_parent(self) -> None:
        kind = kinds.catalog_releases(CATALOG)
        assert kind.parent_id == str(CATALOG)
        assert kind.collection == f"/pcm/catalogs/{CATALOG}/releases"
        assert kinds.PXM.parent_id == ""

    @pytest.mark.parametrize("name", NAMES)
    def test_kind_can_be_pickled_copied_compared_and_hashed(self, name: str) -> None:
        kind = kinds.parse(name)
        copies = [
            pickle.loads(pickle.dumps(kind)),  # noqa: S301 (our own data)
            copy.copy(kind),
            copy.deepcopy(kind),
        ]
        assert all(one == kind and hash(one) == hash(kind) for one in copies)
        assert {kind, *copies} == {kind}
        assert [other for other in map(kinds.parse, NAMES) if other == kind] == [kind]
        assert repr(kind).startswith(f"JobKind(name='{name}'")

    def test_kind_is_immutable(self) -> None:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            kinds.PXM.name = "other"  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("kind", "label"),
        [(kinds.ORDERS, "job"), (kinds.PXM, "pxm job"), (kinds.parse("release:c"), "release job")],
    )
    def test_label_is_what_messages_call_a_job(self, kind: JobKind, label: str) -> None:
        assert kind.label == label

    @pytest.mark.parametrize("name", NAMES)
    def test_advice_of_a_404_names_the_other_kinds(self, name: str) -> None:
        advice = kinds.parse(name).not_found_advice
        shown = name.replace("release:c", "release:CATALOG_ID")
        listed = (
            advice.partition("pass its kind: ")[2].rstrip(".").replace(" or ", ", ").split(", ")
        )
        assert set(listed) == set(kinds.NAMES) - {shown}


class TestKindOfACall:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("form", ["name", "JobKind", "Job"])
    async def test_kind_is_taken_in_each_form(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, name: str, form: str
    ) -> None:
        moltin_simulator.add_job("a", kind=name, duration=0)
        options: dict[str, Any] = {"name": {"kind": name}, "JobKind": {"kind": kinds.parse(name)}}
        job: Any = Job(id="a", kind=name, status="pending") if form == "Job" else "a"
        found = await moltin_session.get_job(job, **options.get(form, {}))
        assert (found.id, found.kind, found.is_terminal) == ("a", name, True)
        again = [await moltin_session.wait_for_job(found, kind=name)]
        again += await moltin_session.get_jobs([found])
        assert {(one.id, one.kind, one.ended_at) for one in again} == {("a", name, found.ended_at)}

    async def test_id_without_a_kind_is_that_of_an_order_job(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("a", kind="pxm")
        with pytest.raises(JobNotFoundError, match="For a job of another kind, pass its kind: pxm"):
            await moltin_session.get_job("a")
        assert [request.path for request in moltin_simulator.requests] == ["/v2/jobs/a"]

    @pytest.mark.parametrize("name", JOB_CALLS)
    @pytest.mark.parametrize("kind", ["pxm", kinds.PXM, "order", "release:other"])
    async def test_job_of_another_kind_is_rejected(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, name: str, kind: Any
    ) -> None:
        job = Job(id="a", kind="release:c", status="PENDING")
        with pytest.raises(
            ConfigurationError, match=r"^kind must be 'release:c', the kind of job a"
        ):
            await call(moltin_session, name, job, kind=kind)
        assert moltin_simulator.requests == []

    @pytest.mark.parametrize("name", [*JOB_CALLS, "get_jobs", "wait_for_jobs", "list_jobs"])
    async def test_unknown_kind_is_rejected_before_a_request(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, name: str
    ) -> None:
        job: Any = ["a"] if name.endswith("_jobs") else "a"
        with pytest.raises(ConfigurationError, match="kind must be order, pxm"):
            await call(moltin_session, name, job, kind="typo")
        assert moltin_simulator.requests == []

    async def test_kind_that_is_not_in_the_table_is_rejected_before_a_request(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        kind = attrs.evolve(kinds.PXM, name="promotion", collection="/v2/promotions/jobs")
        with pytest.raises(ConfigurationError, match="kind must be order, pxm"):
            await moltin_session.get_job("a", kind=kind)
        assert moltin_simulator.requests == []

    @pytest.mark.parametrize("jobs", [["a", "b"], []])
    @pytest.mark.parametrize("name", ["get_jobs", "wait_for_jobs"])
    async def test_unknown_kind_is_raised_even_if_exceptions_are_returned(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, name: str, jobs: list[str]
    ) -> None:
        with pytest.raises(ConfigurationError, match="kind must be order, pxm"):
            await getattr(moltin_session, name)(jobs, kind="typo", return_exceptions=True)
        assert moltin_simulator.requests == []

    @pytest.mark.parametrize("name", ["get_jobs", "wait_for_jobs"])
    async def test_one_job_of_another_kind_does_not_affect_the_others(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, name: str
    ) -> None:
        moltin_simulator.add_job("a", kind="pxm", duration=0)
        jobs = ["a", Job(id="b", status="pending")]
        function = getattr(moltin_session, name)
        found, error = await function(jobs, kind="pxm", return_exceptions=True)
        assert (found.id, type(error)) == ("a", ConfigurationError)
        sent = len(moltin_simulator.requests)
        with pytest.raises(ConfigurationError, match="kind must be 'order', the kind of job b"):
            await function(jobs, kind="pxm")
        assert len(moltin_simulator.requests) == sent

    async def test_jobs_of_several_kinds_are_looked_up_together(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        jobs = [Job(id=name[:3], kind=name, status="pending") for name in OTHERS if "-" not in name]
        for job in jobs:
            moltin_simulator.add_job(job.id, kind=job.kind, duration=0)
        assert [job.kind for job in await moltin_session.get_jobs(jobs)] == [j.kind for j in jobs]

    @pytest.mark.parametrize("name", JOB_CALLS)
    @pytest.mark.parametrize("kind", ["release:a/b", "release:", "release:a:b"])
    async def test_bad_parent_id_is_rejected_before_a_request(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, name: str, kind: str
    ) -> None:
        with pytest.raises(ConfigurationError, match="catalog_id must be"):
            await call(moltin_session, name, "a", kind=kind)
        assert moltin_simulator.requests == []

    @pytest.mark.parametrize("name", JOB_CALLS)
    @pytest.mark.parametrize("as_job", [False, True])
    async def test_latest_published_is_no_id_of_a_release(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, name: str, as_job: bool
    ) -> None:
        job: Any = "latestPublished"
        if as_job:
            job = Job(id=job, kind="release:c", status="PUBLISHED")
        with pytest.raises(ConfigurationError) as caught:
            await call(moltin_session, name, job, kind="release:c")
        assert str(caught.value) == (
            "'latestPublished' is not the id of a release: pass the id itself"
        )
        assert moltin_simulator.requests == []

    async def test_latest_published_is_an_id_of_other_kinds(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job("latestPublished", kind="pxm")
        assert (await moltin_session.get_job("latestPublished", kind="pxm")).kind == "pxm"

    @pytest.mark.parametrize("kind", NAMES)
    @pytest.mark.parametrize("job_id", INVALID_IDS)
    async def test_invalid_id_is_rejected_for_each_kind(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, kind: str, job_id: Any
    ) -> None:
        with pytest.raises(InvalidJobIdError):
            await moltin_session.get_job(job_id, kind=kind)
        assert moltin_simulator.requests == []

    async def test_uuid_is_an_id_of_each_kind(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        moltin_simulator.add_job(str(CATALOG), kind="pxm", duration=0)
        assert (await moltin_session.wait_for_job(CATALOG, kind="pxm")).id == str(CATALOG)


class TestChangedKind:
    async def test_changed_kind_is_rejected_before_a_request(
        self, moltin_simulator: Simulator, moltin_session: JobsSession
    ) -> None:
        changed = attrs.evolve(kinds.PXM, collection="/custom/jobs")
        with pytest.raises(ConfigurationError, match="not a changed 'pxm'"):
            await moltin_session.get_job("a", kind=changed)
        assert moltin_simulator.requests == []


class TestSupport:
    @pytest.mark.parametrize("kind", WITHOUT_FILES)
    @pytest.mark.parametrize("name", ["get_file_url", "download"])
    async def test_kind_without_files_is_rejected_before_a_request(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, name: str, kind: str
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            await call(moltin_session, name, "a", kind=kind)
        assert str(caught.value) == (
            f"kind must be order, pxm or release:CATALOG_ID, not {kind!r}: other jobs have no files"
        )
        assert moltin_simulator.requests == []

    @pytest.mark.parametrize("kind", [name for name in NAMES if name != "pxm"])
    async def test_kind_that_cannot_be_cancelled_is_rejected_before_a_request(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, kind: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"^kind must be pxm, not '{kind}': "):
            await moltin_session.cancel_job("a", kind=kind)
        assert moltin_simulator.requests == []

    @pytest.mark.parametrize("kind", ["subscription", "release:c"])
    async def test_kind_without_problems_is_rejected_before_a_request(
        self, moltin_simulator: Simulator, moltin_session: JobsSession, kind: str
    ) -> None:
        expected = f"kind must be order, pxm, subscription-import or inventory-import, not '{kind}'"
        with pytest.raises(ConfigurationError, match=expected):
            await moltin_session.get_job_problems("a", kind=kind)
        assert moltin_simulator.requests == []
