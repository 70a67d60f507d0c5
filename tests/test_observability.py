"""What an operator sees: fields in the log, aiohttp's traces, OpenTelemetry's spans."""

import logging
from typing import Any

import aiohttp
import pytest
from opentelemetry.instrumentation.aiohttp_client import (
    AioHttpClientInstrumentor,
    create_trace_config,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from moltin_jobs import ClientCredentials, JobsSession, ServerError
from moltin_jobs.testing.simulator import Fault, Simulator

pytestmark = pytest.mark.looptime

FIELDS = ("job_id", "job_status", "attempt", "failures", "error", "wait")


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records of this library that have fields."""
    return [one for one in caplog.records if one.name == "moltin_jobs" and fields(one)]


def about(wait: float) -> Any:
    return pytest.approx(wait, rel=0.2)  # the jitter


class TestLog:
    @pytest.fixture(autouse=True)
    def _debug(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "moltin_jobs")

    async def test_a_wait(self, caplog: pytest.LogCaptureFixture) -> None:
        async with Simulator() as simulator:
            simulator.add_job("a", ["pending", "success"])
            async with JobsSession(simulator.token, base_url=simulator.url) as session:
                simulator.spoil(503, 502)
                await session.wait_for_job("a")
        records = told(caplog)
        assert [fields(record) for record in records] == [
            {
                "job_id": "a",
                "attempt": 1,
                "failures": 1,
                "error": "ServerError",
                "wait": about(0.5),
            },
            {
                "job_id": "a",
                "attempt": 2,
                "failures": 2,
                "error": "ServerError",
                "wait": about(0.6),
            },
            {"job_id": "a", "job_status": "pending", "attempt": 3, "wait": about(0.72)},
            {"job_id": "a", "job_status": "success", "attempt": 4},
        ]
        assert [record.levelname for record in records] == ["WARNING", "DEBUG", "DEBUG", "DEBUG"]

    async def test_a_lookup(self, caplog: pytest.LogCaptureFixture) -> None:
        async with Simulator() as simulator:
            simulator.add_job("a", ["success"])
            async with JobsSession(simulator.token, base_url=simulator.url) as session:
                simulator.spoil(503, 502)
                await session.get_job("a")
        first, second = map(fields, told(caplog))
        assert (first.pop("wait"), second.pop("wait")) == (
            pytest.approx(0.375, abs=0.126),
            pytest.approx(0.75, abs=0.26),
        )
        assert [first, second] == [{"job_id": "a", "attempt": n} for n in (1, 2)]

    async def test_each_request(self, caplog: pytest.LogCaptureFixture) -> None:
        async with Simulator() as simulator:
            simulator.add_job("a", ["success"])
            auth = ClientCredentials(simulator.client_id, simulator.client_secret)
            async with JobsSession(auth, base_url=simulator.url) as session:
                await session.get_job("a")
        assert [record.message for record in caplog.records if record.name == "moltin_jobs"] == [
            f"POST {simulator.url}/oauth/access_token: 200",
            f"GET {simulator.url}/v2/jobs/a: 200",
        ]

    async def test_a_pause(self, caplog: pytest.LogCaptureFixture) -> None:
        async with Simulator() as simulator:
            simulator.add_job("a", ["success"])
            async with JobsSession(simulator.token, base_url=simulator.url) as session:
                simulator.spoil(Fault(429, {"Retry-After": "7"}))
                await session.get_job("a")
        (pause,) = [record for record in caplog.records if "rate limit met" in record.message]
        assert fields(pause) == {"wait": pytest.approx(7.7, abs=0.71)}


async def test_the_request_id_of_the_service() -> None:
    async with Simulator() as simulator:
        async with JobsSession(simulator.token, base_url=simulator.url) as session:
            simulator.spoil(*[Fault(500, {"X-Request-Id": "abc-1"}, b"")] * 4, job_id="a")
            with pytest.raises(ServerError, match=r"\(request id abc-1\)") as of_a_header:
                await session.get_job("a")
            simulator.spoil(*[500] * 4, job_id="b")
            with pytest.raises(ServerError) as of_a_body:
                await session.get_job("b")
    assert of_a_header.value.request_id == "abc-1"
    assert of_a_body.value.request_id == of_a_body.value.errors[0]["request_id"]


class TestTraces:
    async def test_of_a_session_of_the_callers(self) -> None:
        ended: list[tuple[str, int]] = []

        async def end(_session: object, _context: object, request: Any) -> None:
            ended.append((request.url.path, request.response.status))

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(end)
        async with Simulator() as simulator, aiohttp.ClientSession(trace_configs=[trace]) as http:
            simulator.add_job("a", ["pending", "success"])
            credentials = ClientCredentials(simulator.client_id, simulator.client_secret)
            async with JobsSession(credentials, base_url=simulator.url, http=http) as session:
                await session.wait_for_job("a")
        assert ended == [("/oauth/access_token", 200), *[("/v2/jobs/a", 200)] * 2]


class TestOpenTelemetry:
    @pytest.fixture
    def spans(self) -> InMemorySpanExporter:
        return InMemorySpanExporter()

    @pytest.fixture
    def provider(self, spans: InMemorySpanExporter) -> TracerProvider:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        return provider

    @staticmethod
    def told(spans: tuple[ReadableSpan, ...], simulator: Simulator) -> list[tuple[Any, Any]]:
        assert simulator.token not in str([span.to_json() for span in spans])
        found = []
        for span in spans:
            facts = dict(span.attributes or {})
            found.append((facts["http.url"], facts["http.status_code"]))
        return found

    async def test_by_a_trace_config(
        self, spans: InMemorySpanExporter, provider: TracerProvider
    ) -> None:
        trace = create_trace_config(tracer_provider=provider)
        async with Simulator() as simulator, aiohttp.ClientSession(trace_configs=[trace]) as http:
            simulator.add_job("a", ["pending", "success"])
            simulator.spoil(503)
            async with JobsSession(simulator.token, base_url=simulator.url, http=http) as session:
                await session.wait_for_job("a")
        url = f"{simulator.url}/v2/jobs/a"
        told = self.told(spans.get_finished_spans(), simulator)
        assert told == [(url, 503), (url, 200), (url, 200)]

    async def test_by_the_instrumentor(
        self, spans: InMemorySpanExporter, provider: TracerProvider
    ) -> None:
        AioHttpClientInstrumentor().instrument(tracer_provider=provider)
        try:
            async with Simulator() as simulator:
                simulator.add_job("a", ["success"])
                async with JobsSession(simulator.token, base_url=simulator.url) as session:
                    await session.get_job("a")
        finally:
            AioHttpClientInstrumentor().uninstrument()
        told = self.told(spans.get_finished_spans(), simulator)
        assert told == [(f"{simulator.url}/v2/jobs/a", 200)]
