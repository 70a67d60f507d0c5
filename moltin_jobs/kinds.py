"""Kinds of job: for each job service, its addresses and the layout of its documents.

A kind is data, one row of a table. The rest of the client reads the row and knows no kind by name.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Mapping, Sequence

import attrs

from .errors import ConfigurationError, describe, single_line
from .models import Job, is_job_id, job_label


@attrs.frozen(kw_only=True)
class JobKind:
    """One kind of job. `moltin_jobs.kinds` has all of them.

    A path leads to a value in a document of the service: keys joined by dots.
    """

    name: str
    """For example ``pxm`` or ``release:CATALOG_ID``."""
    collection: str
    """Path of the jobs in the API."""
    fields: Mapping[str, str]
    """Path of each field of `Job` that the service reports. ``file_urls`` leads to an address or a
    list of addresses."""
    fallbacks: Mapping[str, str] = attrs.field(factory=dict)
    """Other paths of some fields, for documents that have no value at the first."""
    details: tuple[str, ...] = ()
    """Paths of the values of ``Job.details``, whose keys are the last keys of the paths."""
    problem_message: str = ""
    """Path of the message in a problem. Empty if problems cannot be requested."""
    problem_field: str = ""
    problem_line: str = ""
    can_cancel: bool = False
    has_file_endpoint: bool = False
    """Whether the address of the file is requested on its own, at ``/{id}/file``."""
    is_paged: bool = False
    """Whether lists have pages of at most a hundred items."""
    total: str = ""
    """Path of the number of all items, in the document of a page."""
    lists_open_jobs: bool = True
    """Whether lists contain the jobs that have not ended."""
    aliases: tuple[str, ...] = ()
    """Words that the service accepts as ids, but which name another job later."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers that the service requires."""
    failure_advice: str = ""
    """Last sentence of the message about a failed job. Empty for the usual one."""
    lifetime: str = ""
    """Sentence about when a job is removed, for the message of a 404."""
    label: str = attrs.field(init=False, repr=False)
    """Subject of messages about a job of this kind."""

    @label.default
    def _label(self) -> str:
        return job_label(self.name)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def parent_id(self) -> str:
        """Id of the catalog, or an empty string."""
        return self.name.partition(":")[2]

    @property
    def not_found_advice(self) -> str:
        """Advice of a 404. It names the other kinds, since their ids are easily confused."""
        others = [name for name in NAMES if name.partition(":")[0] != self.name.partition(":")[0]]
        sentences = ["Check the id and the store.", self.lifetime]
        sentences.append(f"For a job of another kind, pass its kind: {_enumerate(others)}.")
        return " ".join(filter(None, sentences))


ORDERS = JobKind(
    name="order",
    collection="/v2/jobs",
    fields={
        "status": "status",
        "error": "error",
        "job_type": "job_type",
        "created_at": "timestamps.created_at",
        "updated_at": "timestamps.updated_at",
        "self_url": "links.self",
        "file_urls": "link.href",
    },
    has_file_endpoint=True,
    lifetime="Jobs expire one week after their creation.",
)
"""Exports of orders, the default kind."""

PXM = JobKind(
    name="pxm",
    collection="/pcm/jobs",
    fields={
        "status": "attributes.status",
        "job_type": "attributes.type",
        "created_at": "attributes.created_at",
        "updated_at": "attributes.updated_at",
        "started_at": "attributes.started_at",
        "ended_at": "attributes.completed_at",
        "file_urls": "meta.file_locations",
    },
    details=("meta.x_request_id", "meta.filter", "meta.copied_from", "meta.hierarchy_id"),
    problem_message="attributes.message",
    can_cancel=True,
    is_paged=True,
    total="meta.results.total",
)
"""Jobs of Product Experience Manager, such as imports and exports of products."""

SUBSCRIPTIONS = JobKind(
    name="subscription",
    collection="/v2/subscriptions/jobs",
    fields={
        "status": "attributes.status",
        "job_type": "attributes.job_type",
        "created_at": "meta.timestamps.created_at",
        "updated_at": "meta.timestamps.updated_at",
        "started_at": "meta.timestamps.started_at",
        "ended_at": "meta.timestamps.finished_at",
    },
    fallbacks={"created_at": "attributes.created_at", "updated_at": "attributes.updated_at"},
    details=("attributes.external_ref", "meta.report"),
    is_paged=True,
)
"""Billing, tax and payment runs of subscriptions."""

SUBSCRIPTION_IMPORTS = JobKind(
    name="subscription-import",
    collection="/v2/subscriptions/imports",
    fields={
        "status": "attributes.status",
        "created_at": "meta.timestamps.created_at",
        "updated_at": "meta.timestamps.updated_at",
        "started_at": "meta.timestamps.started_at",
        "ended_at": "meta.timestamps.finished_at",
    },
    details=("attributes.external_ref", "meta.records"),
    problem_message="meta.error",
    problem_field="meta.field",
    problem_line="meta.line_number",
    is_paged=True,
    failure_advice="Correct the data, and import it again.",
)
"""Imports of subscriptions."""

INVENTORY_IMPORTS = attrs.evolve(
    SUBSCRIPTION_IMPORTS,
    name="inventory-import",
    collection="/v2/inventories/imports",
    headers=(("EP-Inventories-Multi-Location", "true"),),
)
"""Imports of inventories."""


def catalog_releases(catalog_id: str | uuid.UUID) -> JobKind:
    """Return the kind of the releases of one catalog.

    Raises:
        ConfigurationError: ``catalog_id`` is not a valid id.
    """
    text = str(catalog_id) if isinstance(catalog_id, uuid.UUID) else catalog_id
    expected = "1 to 128 ASCII letters, digits, '-' or '_'"
    if not is_job_id(text):
        raise ConfigurationError(f"catalog_id must be {expected}, not {describe(catalog_id)}")
    return _catalog_releases(text)


# Cached, since each lookup of a release asks for its kind by name.
@functools.lru_cache
def _catalog_releases(catalog_id: str) -> JobKind:
    return JobKind(
        name=f"{_RELEASE}{catalog_id}",
        collection=f"/pcm/catalogs/{catalog_id}/releases",
        fields={
            "status": "meta.release_status",
            "created_at": "meta.created_at",
            "updated_at": "meta.updated_at",
            "ended_at": "attributes.published_at",  # meta.started_at has the same meaning
            "file_urls": "relationships.delta.links.related",
        },
        details=(
            "attributes.catalog_id",
            "attributes.name",
            "meta.percent_completed",
            "meta.is_full_delta",
            "meta.is_full_publish",
            "meta.total_products",
            "meta.total_nodes",
        ),
        lists_open_jobs=False,
        aliases=("latestPublished",),
        failure_advice="Publish the catalog again.",
        lifetime="The service keeps the current release and the two before it.",
    )


_RELEASE = "release:"
_KINDS = {
    kind.name: kind
    for kind in (ORDERS, PXM, SUBSCRIPTIONS, SUBSCRIPTION_IMPORTS, INVENTORY_IMPORTS)
}
NAMES = (*_KINDS, f"{_RELEASE}CATALOG_ID")
"""Names of all kinds. ``CATALOG_ID`` stands for the id of a catalog."""


def parse(name: str) -> JobKind:
    """Return the kind with this name, for example ``"pxm"`` or ``"release:CATALOG_ID"``.

    Raises:
        ConfigurationError: there is no such kind.
    """
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is not None:
        return kind
    if isinstance(name, str) and name.startswith(_RELEASE):
        return catalog_releases(name.removeprefix(_RELEASE))
    raise ConfigurationError(f"kind must be {_enumerate(NAMES)}, not {describe(name)}")


def kind_of(job: object, kind: JobKind | str | None) -> JobKind:
    """Return the kind of a job or an id that is passed together with ``kind``.

    Raises:
        ConfigurationError: there is no such kind, or the `Job` is of another one.
    """
    if kind is None:
        return parse(job.kind) if isinstance(job, Job) else ORDERS
    row = parse(kind.name if isinstance(kind, JobKind) else kind)
    if isinstance(kind, JobKind) and kind != row:
        raise ConfigurationError(
            f"kind must be one of moltin_jobs.kinds, not a changed {row.name!r}"
        )
    if isinstance(job, Job) and job.kind != row.name:
        raise ConfigurationError(
            f"kind must be {job.kind!r}, the kind of job {single_line(job.id)}, not {row.name!r}"
        )
    return row


def require_support(kind: JobKind, is_supported: Callable[[JobKind], object], reason: str) -> None:
    """Require a kind that supports a call.

    Raises:
        ConfigurationError: it does not. The message names the kinds that do.
    """
    if not is_supported(kind):
        rows = (*_KINDS.values(), _catalog_releases("CATALOG_ID"))
        names = [row.name for row in rows if is_supported(row)]
        raise ConfigurationError(f"kind must be {_enumerate(names)}, not {kind.name!r}: {reason}")


def _enumerate(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
