"""Table of the kinds of job, as the service documents them.

It is not that of the client, so that a wrong row in either table fails a test.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any, Literal

import attrs

State = Literal["pending", "running", "succeeded", "failed", "cancelled"]
TOKEN_PATH = "/oauth/access_token"  # noqa: S105 (a path)
SERVICE_PATH = re.compile(r"/(pcm|v2/subscriptions|v2/inventories)(/.*)?")  # not of orders
PARENT = "{catalog_id}"


@attrs.frozen(kw_only=True)
class Kind:
    """A kind of job: its requests, its statuses and its documents."""

    name: str
    collection: str
    """Path of the list. The path of a job has its id in addition."""
    statuses: tuple[str, str, str, str]
    """Status of a job that is pending, running, succeeded or failed."""
    job_type: str | None = None
    subresources: tuple[str, ...] = ()
    """Last parts of the further paths that a job has."""
    files: Literal["none", "one", "several"] = "none"
    pages: Literal["whole", "total", "limited"] = "whole"
    """``"total"``: the list has pages, and a total. ``"limited"``: it has neither a total nor
    an offset above 10,000."""
    required_header: tuple[str, str] | None = None
    document: Mapping[str, Any] = attrs.field(factory=dict)
    """Template of a job. A text that begins with ``$`` is the name of a value."""
    problem: Mapping[str, Any] = attrs.field(factory=dict)
    """Template of a problem of a job."""
    details: tuple[str, ...] = ()
    """Names of the values that `Simulator.add_job` takes as details."""
    has_null_times: bool = False
    """Whether a time that has not come is null. If not, it is absent."""

    @property
    def display_name(self) -> str:
        """The name, with a placeholder for the id of a catalog."""
        return f"{self.name}:CATALOG_ID" if self.has_catalog else self.name

    @property
    def has_catalog(self) -> bool:
        """Whether jobs belong to a catalog, whose id is in the path and in the name."""
        return PARENT in self.collection

    @property
    def has_problem_lines(self) -> bool:
        """Whether problems name a field and a line."""
        return "line_number" in self.problem.get("meta", {})

    @property
    def path_pattern(self) -> str:
        """Regular expression for all paths of the kind."""
        collection = self.collection.replace(PARENT, "[^/]+")
        further = f"(/({'|'.join(self.subresources)}))?" if self.subresources else ""
        return f"{collection}(/[^/]+{further})?"

    def get_state(self, status: str) -> State:
        """Return the state for a status in any case. An unknown status is one of a running job."""
        states: dict[str, State] = dict(
            zip(
                (name.lower() for name in (*self.statuses, "cancelled")),
                ("pending", "running", "succeeded", "failed", "cancelled"),
                strict=True,
            )
        )
        return states.get(status.lower(), "running")


STATUSES = ("pending", "started", "success", "failed")
META_TIMESTAMPS = {
    "created_at": "$created_at",
    "updated_at": "$updated_at",
    "started_at": "$started_at",
    "finished_at": "$ended_at",
}
IMPORT_DOCUMENT: Mapping[str, Any] = {
    "id": "$id",
    "attributes": {"external_ref": "$external_ref", "status": "$status"},
    "meta": {"timestamps": META_TIMESTAMPS, "records": "$records"},
}
IMPORT_PROBLEM: Mapping[str, Any] = {
    "id": "$id",
    "meta": {
        "timestamps": {"created_at": "$created_at", "updated_at": "$updated_at"},
        "error": "$message",
        "field": "$field",
        "line_number": "$line",
    },
}

ORDER = Kind(
    name="order",
    collection="/v2/jobs",
    statuses=STATUSES,
    job_type="order_export",
    subresources=("file",),
    files="one",
)
PXM = Kind(
    name="pxm",
    collection="/pcm/jobs",
    statuses=STATUSES,
    job_type="product-import",
    subresources=("errors", "cancel"),
    files="several",
    pages="total",
    document={
        "type": "pim-job",
        "id": "$id",
        "attributes": {
            "started_at": "$started_at",
            "completed_at": "$ended_at",
            "created_at": "$created_at",
            "updated_at": "$updated_at",
            "type": "$job_type",
            "status": "$status",
        },
        "meta": {
            "x_request_id": "$x_request_id",
            "filter": "$filter",
            "copied_from": "$copied_from",
            "hierarchy_id": "$hierarchy_id",
            "file_locations": "$file_urls",
        },
    },
    problem={"type": "pim-job-error", "id": "$id", "attributes": {"message": "$message"}},
    details=("x_request_id", "filter", "copied_from", "hierarchy_id"),
    has_null_times=True,
)
RELEASE = Kind(
    name="release",
    collection=f"/pcm/catalogs/{PARENT}/releases",
    statuses=("PENDING", "IN_PROGRESS", "PUBLISHED", "FAILED"),
    files="one",
    document={
        "type": "catalog-release",
        "id": "$id",
        "attributes": {
            "name": "$name",
            "published_at": "$published_at",
            "catalog_id": "$catalog_id",
            "description": "$description",
            "hierarchies": "$hierarchies",
        },
        "relationships": {
            "delta": {"links": {"related": "$delta_url"}},
            "products": {"links": {"related": "$products_url"}},
            "hierarchies": {"links": {"related": "$hierarchies_url"}},
        },
        "meta": {
            "created_at": "$created_at",
            "started_at": "$published_at",
            "updated_at": "$updated_at",
            "release_status": "$status",
            "language": "$language",
            "is_full_publish": "$is_full_publish",
            "is_full_delta": "$is_full_delta",
            "total_products": "$total_products",
            "total_nodes": "$total_nodes",
            "percent_completed": "$percent_completed",
            "owner": "$owner",
        },
    },
    details=(
        "catalog_id",
        "name",
        "description",
        "hierarchies",
        "language",
        "is_full_publish",
        "is_full_delta",
        "total_products",
        "total_nodes",
        "percent_completed",
        "owner",
    ),
    has_null_times=True,
)
SUBSCRIPTION = Kind(
    name="subscription",
    collection="/v2/subscriptions/jobs",
    statuses=STATUSES,
    job_type="billing-run",
    pages="limited",
    document={
        "type": "subscription_job",
        "id": "$id",
        "attributes": {
            "external_ref": "$external_ref",
            "job_type": "$job_type",
            "status": "$status",
            "created_at": "$created_at",
            "updated_at": "$updated_at",
        },
        "meta": {"owner": "store", "timestamps": META_TIMESTAMPS, "report": "$report"},
    },
    details=("external_ref", "report"),
)
SUBSCRIPTION_IMPORT = Kind(
    name="subscription-import",
    collection="/v2/subscriptions/imports",
    statuses=STATUSES,
    subresources=("errors",),
    pages="limited",
    document={
        **IMPORT_DOCUMENT,
        "type": "subscription_import",
        "meta": {"owner": "store", **IMPORT_DOCUMENT["meta"]},
    },
    problem={
        **IMPORT_PROBLEM,
        "type": "subscription_import_error",
        "meta": {"owner": "store", **IMPORT_PROBLEM["meta"]},
    },
    details=("external_ref", "records"),
)
INVENTORY_IMPORT = Kind(
    name="inventory-import",
    collection="/v2/inventories/imports",
    statuses=STATUSES,
    subresources=("errors",),
    pages="limited",
    required_header=("EP-Inventories-Multi-Location", "true"),
    document={**IMPORT_DOCUMENT, "type": "inventories_import"},
    problem={**IMPORT_PROBLEM, "type": "inventories_import_error"},
    details=("external_ref", "records"),
)
KINDS = {
    kind.name: kind
    for kind in (ORDER, PXM, RELEASE, SUBSCRIPTION, SUBSCRIPTION_IMPORT, INVENTORY_IMPORT)
}


@functools.cache
def find_kind(name: str) -> Kind:
    """Return the kind with a name like ``"pxm"`` or ``"release:CATALOG_ID"``."""
    base, _, catalog_id = name.partition(":")
    kind = KINDS.get(base)
    expected = f"{base}:{catalog_id}" if kind and kind.has_catalog else base
    if kind is None or name != expected or kind.has_catalog != bool(catalog_id) or "/" in name:
        names = ", ".join(repr(kind.display_name) for kind in KINDS.values())
        raise ValueError(f"kind must be one of {names}, not {name!r}")
    return kind
