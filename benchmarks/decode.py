"""From one body to one frozen job."""

import asyncio
import functools
import importlib
import json
from collections.abc import Callable
from typing import Any

import cattrs.preconf.json

from benchmarks.measure import if_installed, interleaved, show_ratios
from benchmarks.models import Envelope, pydantic_job
from benchmarks.server import BODY
from moltin_jobs._api.parsing import Answer, decode_job

BATCH = 2000
ROUNDS = 40
BASE = "`json.loads` + cattrs, default options"

Decode = Callable[[bytes], Any]


def ours() -> Decode:
    return lambda body: decode_job(Answer("http://127.0.0.1/", 200, {}, body, 0.0), "job-1")


def json_alone() -> Decode:
    return json.loads


def json_cattrs() -> Decode:
    converter = cattrs.preconf.json.make_converter()
    return lambda body: converter.loads(body, Envelope).data


def orjson_cattrs() -> Decode:
    converter = importlib.import_module("cattrs.preconf.orjson").make_converter()
    return lambda body: converter.loads(body, Envelope).data


def msgspec() -> Decode:
    decoder = importlib.import_module("msgspec").json.Decoder(Envelope)
    return lambda body: decoder.decode(body).data


CONTENDERS: dict[str, Callable[[], Decode]] = {
    "this client, guards and all": ours,
    "`json.loads` alone": json_alone,
    BASE: json_cattrs,
    "orjson + cattrs": orjson_cattrs,
    "msgspec to attrs classes": msgspec,
    "pydantic": pydantic_job,
}


async def many(decode: Decode, body: bytes) -> None:
    for _ in range(BATCH):
        decode(body)


def run(*, full: bool) -> None:
    body = (BODY % ("job-1", "pending", "job-1")).encode()
    batches = {}
    for name, contender in CONTENDERS.items():
        with if_installed(name):
            batches[name] = functools.partial(many, contender(), body)
    spent = asyncio.run(interleaved(batches, ROUNDS * (5 if full else 1)))
    title = f"One body of {len(body)} bytes to a job, {len(spent[BASE]) * BATCH:,} times:"
    show_ratios(title, "decoded by", spent, BASE, BATCH)
