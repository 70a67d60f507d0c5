"""Documents of the jobs of the simulator, built from the templates of their kinds."""

import datetime
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from .jobs import Problem, SimulatedJob
from .kinds import ORDER, PXM, RELEASE, Kind, State

FormatTime = Callable[[float], str]

OLDER_ORDER_STATUSES = ("pending", "processing", "complete", "failed")
NO_TIME = "0001-01-01T00:00:00Z"
PRICE = {"USD": {"amount": 100, "includes_tax": False}}
REPORTS: Mapping[str | None, Mapping[str, Any]] = {  # by type of subscription job
    "billing-run": {
        "invoices_ready_for_payment": 100,
        "invoices_tax_required": 100,
        "invoice_failures": 0,
        "total_ready_for_payment": PRICE,
        "total_tax_required": PRICE,
    },
    "tax-run": {"invoices_updated": 100, "invoice_failures": 0},
    "payment-run": {"total_payment_attempts": 100, "failed_payments": 0, "total_collected": PRICE},
}
RECORDS = {  # by kind of import
    "subscription-import": (
        "subscription_feature",
        "subscription_subscriber",
        "subscription_offering",
        "subscription",
    ),
    "inventory-import": ("stock",),
}


def describe_order(
    job: SimulatedJob,
    *,
    dialect: Literal["current", "older"],
    url: str,
    file_url: str,
    epoch: float,
) -> dict[str, Any]:
    """Return the document of an order job, which differs between the dialects."""
    names = ORDER.statuses if dialect == "current" else OLDER_ORDER_STATUSES
    status, updated_at = job.get_status_and_time(names)
    has_file = status.lower() in (ORDER.statuses[2], OLDER_ORDER_STATUSES[2])
    document: dict[str, Any] = {
        "type": "job",
        "id": job.id,
        "job_type": job.job_type,
        "status": status,
        "link": {"href": file_url if has_file else ""},
        "links": {"self": f"{url}{ORDER.collection}/{job.id}"},
        "timestamps": {
            "created_at": format_order_time(job.created_at, epoch),
            "updated_at": NO_TIME if updated_at is None else format_order_time(updated_at, epoch),
        },
    }
    if status.lower() == "failed" and job.error is not None:
        document["error"] = job.error
    elif dialect == "current":
        document["error"] = ""
    return document


def describe_job(
    job: SimulatedJob, *, file_urls: Sequence[str] | None, format_time: FormatTime
) -> dict[str, Any]:
    """Return the document of a job of any other kind. Its files are those that it has by now."""
    kind = job.kind
    started_at, ended_at = job.get_times()
    status, updated_at = job.get_status_and_time(kind.statuses)
    values = get_default_details(job, job.get_state())
    times = {
        "created_at": job.created_at,
        "updated_at": job.created_at if updated_at is None else updated_at,
        "started_at": started_at,
        "ended_at": ended_at,
        "published_at": ended_at if job.get_state() == "succeeded" else None,
    }
    for name, at in times.items():
        if at is not None or kind.has_null_times:
            values[name] = None if at is None else format_time(at)
    values |= {"id": job.id, "status": status, "job_type": job.job_type}
    if file_urls is not None and kind is RELEASE:
        values["delta_url"] = file_urls[0]
    elif file_urls is not None:
        values["file_urls"] = file_urls
    document: dict[str, Any] = fill(kind.document, values | dict(job.details))
    return document


def describe_problem(
    job: SimulatedJob, number: int, problem: Problem, *, format_time: FormatTime
) -> dict[str, Any]:
    """Return the document of a problem."""
    values: dict[str, Any] = {
        "id": derive_uuid(job, f"problem {number}"),
        "message": problem.message,
        "created_at": format_time(job.created_at),
        "updated_at": format_time(job.created_at),
    }
    if problem.field is not None:
        values["field"] = problem.field
    if problem.line is not None:
        values["line"] = problem.line
    document: dict[str, Any] = fill(job.kind.problem, values)
    return document


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """Return a template with its values. A part is absent if all of its values are."""
    if isinstance(template, str) and template.startswith("$"):
        return values[template[1:]]
    if not isinstance(template, Mapping):
        return template
    document = {}
    for key, part in template.items():
        try:
            document[key] = fill(part, values)
        except KeyError:
            continue
    if not document:
        raise KeyError
    return document


def get_default_details(job: SimulatedJob, state: State) -> dict[str, Any]:
    """Return the documented fields of a kind, except the status and the times."""
    kind = job.kind
    if kind is PXM:
        return get_pxm_details(job)
    if kind is RELEASE:
        return get_release_details(job, is_published=state == "succeeded")
    if kind.name in RECORDS:
        uploaded = dict.fromkeys(RECORDS[kind.name], 50000)
        imported = uploaded if state == "succeeded" else dict.fromkeys(uploaded, 0)
        return {"records": {"uploaded": uploaded, "imported": imported}}
    has_report = state == "succeeded" and job.job_type in REPORTS
    return {"report": REPORTS[job.job_type]} if has_report else {}


def get_pxm_details(job: SimulatedJob) -> dict[str, Any]:
    """Return the documented fields of a PXM job."""
    details: dict[str, Any] = {"x_request_id": derive_uuid(job, "request")}
    if job.job_type == "product-export":
        details["filter"] = "eq(sku,product-1)"
    if job.job_type == "hierarchy-duplicate":
        details["copied_from"] = derive_uuid(job, "original")
        details["hierarchy_id"] = derive_uuid(job, "duplicate")
    return details


def get_release_details(job: SimulatedJob, *, is_published: bool) -> dict[str, Any]:
    """Return the documented fields of a release."""
    path = f"{RELEASE.collection.format(catalog_id=job.catalog_id)}/{job.id}"
    return {
        "catalog_id": job.catalog_id,
        "name": "Clothing",
        "description": "Catalog for Store 123",
        "hierarchies": [],
        "products_url": f"{path}/products",
        "hierarchies_url": f"{path}/hierarchies",
        "language": "en-GB",
        "is_full_publish": False,
        "is_full_delta": False,
        "total_products": 100 if is_published else None,
        "total_nodes": 10 if is_published else None,
        "percent_completed": job.get_percentage(),
        "owner": "store",
    }


def derive_uuid(job: SimulatedJob, purpose: str) -> str:
    """Return a UUID that depends only on the id of the job and on the purpose."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{job.id} {purpose}"))


def format_order_time(at: float, epoch: float) -> str:
    """Format a time of the event loop's clock with nine decimals."""
    return f"{get_moment(at, epoch):%Y-%m-%dT%H:%M:%S.%f}000Z"


def format_time(kind: Kind, at: float, *, epoch: float, is_old_pxm: bool) -> str:
    """Format a time of the event loop's clock as the documents of the kind do."""
    moment = get_moment(at, epoch)
    if kind is RELEASE:
        return f"{moment:%Y-%m-%dT%H:%M:%S.%f}"[:-3]  # the document has no offset
    if kind is PXM:
        date, time = f"{moment:%Y-%m-%d %H:%M:%S.%f}"[:-3].rstrip("0").rstrip(".").split()
        return f"{date} {time} +0000 UTC" if is_old_pxm else f"{date}T{time}Z"
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


def get_moment(at: float, epoch: float) -> datetime.datetime:
    """Return the date of a time of the event loop's clock, which was 0 at the epoch."""
    return datetime.datetime.fromtimestamp(epoch + at, datetime.UTC)
