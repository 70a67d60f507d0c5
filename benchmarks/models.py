"""Models of a job for other decoders."""

import datetime
import importlib
from collections.abc import Callable
from typing import Any

import attrs


@attrs.frozen
class Timestamps:
    created_at: datetime.datetime
    updated_at: datetime.datetime


@attrs.frozen
class Link:
    href: str


@attrs.frozen
class WireJob:
    id: str
    type: str
    job_type: str
    status: str
    timestamps: Timestamps
    links: dict[str, str]
    link: Link
    error: str | None = None


@attrs.frozen
class Envelope:
    data: WireJob


def pydantic_job() -> Callable[[bytes], Any]:
    """Return a decoder of a body that uses a frozen pydantic model."""
    pydantic = importlib.import_module("pydantic")
    base: Any = pydantic.BaseModel
    frozen = {"frozen": True}

    times: Any = pydantic.create_model(
        "Times",
        __base__=base,
        created_at=(datetime.datetime, ...),
        updated_at=(datetime.datetime, ...),
    )
    links: Any = pydantic.create_model("Links", self_url=(str, pydantic.Field(alias="self")))
    link: Any = pydantic.create_model("Link", href=(str, ...))
    job: Any = pydantic.create_model(
        "Job",
        __config__=frozen,
        id=(str, ...),
        type=(str, ...),
        job_type=(str, ...),
        status=(str, ...),
        error=(str | None, None),
        timestamps=(times, ...),
        links=(links, ...),
        link=(link, ...),
    )
    envelope: Any = pydantic.create_model("Envelope", data=(job, ...))
    return lambda body: envelope.model_validate_json(body).data
