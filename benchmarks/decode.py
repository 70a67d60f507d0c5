"""Processor time to decode the body of one response to a frozen job."""

import asyncio
import functools
import importlib
import json
from collections.abc import Callable
from typing import Any

import cattrs.preconf.json

from benchmarks.measure import measure_interleaved, print_ratios, skip_if_missing
from benchmarks.models import Envelope, pydantic_job
from benchmarks.server import BODY
from moltin_jobs._api import endpoints
from moltin_jobs._api.endpoints import Response
from moltin_jobs._api.parsing import parse_job

BATCH = 2000
ROUNDS = 40
BASELINE = "`json.loads` + cattrs, default options"

Decode = Callable[[bytes], Any]


def ours() -> Decode:
    request = endpoints.get_job("job-1")
    return lambda body: parse_job(Response(200, body), request)


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
    "this client, with all its checks": ours,
    "`json.loads` alone": json_alone,
    BASELINE: json_cattrs,
    "orjson + cattrs": orjson_cattrs,
    "msgspec to attrs classes": msgspec,
    "pydantic": pydantic_job,
}


async def decode_batch(decode: Decode, body: bytes) -> None:
    for _ in range(BATCH):
        decode(body)


def run(*, full: bool) -> None:
    body = (BODY % ("job-1", "pending", "job-1")).encode()
    batches = {}
    for name, contender in CONTENDERS.items():
        with skip_if_missing(name):
            batches[name] = functools.partial(decode_batch, contender(), body)
    seconds = asyncio.run(measure_interleaved(batches, ROUNDS * (5 if full else 1)))
    title = f"Decoding a body of {len(body)} bytes, {len(seconds[BASELINE]) * BATCH:,} times:"
    print_ratios(title, "decoder", seconds, BASELINE, BATCH)
