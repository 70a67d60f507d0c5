"""What operators see: log records, aiohttp's traces, and OpenTelemetry's spans."""

import logging
from collections.abc import Iterator
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

from moltin_jobs import ClientCredentials, JobsSession, Polling, ServerError
from moltin_jobs.testing import Fault, Simulator

pytestmark = pytest.mark.looptime

FIELDS = (
    "job_id",
    "job_kind",
    "job_status",
    "attempt",
    "consecutive_failures",
    "error",
    "retry_in",
)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}


def around(seconds: float) -> Any:
    """Return a value that equals an interval of about ``seconds``, which has jitter."""
    return pytest.approx(seconds, rel=0.2)


class TestLog:
    @pytest.fixture(autouse=True)
    def _debug(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "moltin_jobs")

    async def test_records_of_a_wait_have_fields(
        self,
        caplog: pytest.LogCaptureFixture,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
    ) -> None:
        moltin_simulator.add_job("a", ["pending", "success"])
        moltin_simulator.add_faults(503, 502)
        await moltin_session.wait_for_job("a")
        records = [record for record in caplog.records if record.name == "moltin_jobs.polling"]
        assert [fields_of(record) for record in records] == [
            {
                "job_id": "a",
                "job_kind": "order",
                "attempt": 1,
                "consecutive_failures": 1,
                "error": "ServerError",
                "retry_in": around(0.5),
            },
            {
                "job_id": "a",
                "job_kind": "order",
                "attempt": 2,
                "consecutive_failures": 2,
                "error": "ServerError",
                "retry_in": around(0.6),
            },
            {
                "job_id": "a",
                "job_kind": "order",
                "job_status": "pending",
                "attempt": 3,
                "retry_in": around(0.72),
            },
            {"job_id": "a", "job_kind": "order", "job_status": "success", "attempt": 4},
        ]
        assert [record.levelname for record in records] == ["WARNING", "DEBUG", "DEBUG", "DEBUG"]
        first, second, third, fourth = [record.getMessage() for record in records]
        assert first.startswith("poll 1 failed, retrying in 0.")
        assert " s (giving up after 300 s of failures): job a: the service responded " in first
        assert second.startswith("poll 2 failed, retrying in 0.")
        assert (third, fourth) == ("job a: pending (poll 3)", "job a: success (poll 4)")

    async def test_last_record_of_a_wait_that_gives_up_has_no_retry(
        self,
        caplog: pytest.LogCaptureFixture,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
    ) -> None:
        moltin_simulator.add_faults(503, repeat=True)
        with pytest.raises(ServerError):
            await moltin_session.wait_for_job("a", polling=Polling(max_outage=0.1))
        records = [record for record in caplog.records if record.name == "moltin_jobs.polling"]
        assert ["retry_in" in fields_of(record) for record in records] == [True, True, False]
        assert records[-1].getMessage().startswith("poll 3 failed, giving up: job a: ")

    async def test_records_of_retries_have_fields(
        self,
        caplog: pytest.LogCaptureFixture,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        moltin_simulator.add_faults(503, 502)
        await moltin_session.get_job("a")
        records = [record for record in caplog.records if record.name == "moltin_jobs.polling"]
        common = {"job_id": "a", "error": "ServerError"}
        assert [fields_of(record) for record in records] == [
            {**common, "attempt": 1, "retry_in": pytest.approx(0.375, abs=0.126)},
            {**common, "attempt": 2, "retry_in": pytest.approx(0.75, abs=0.26)},
        ]
        assert [record.levelname for record in records] == ["WARNING"] * 2
        assert records[0].getMessage().startswith("attempt 1 failed, retrying in 0.")

    async def test_each_response_is_logged_with_its_job(
        self, caplog: pytest.LogCaptureFixture, moltin_simulator: Simulator
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        auth = ClientCredentials(moltin_simulator.client_id, moltin_simulator.client_secret)
        async with JobsSession(auth, base_url=moltin_simulator.url) as session:
            await session.get_job("a")
        records = [record for record in caplog.records if record.name == "moltin_jobs.http"]
        assert [(record.getMessage(), fields_of(record)) for record in records] == [
            (f"POST {moltin_simulator.url}/oauth/access_token: 200", {}),
            (f"GET {moltin_simulator.url}/v2/jobs/a: 200", {"job_id": "a", "job_kind": "order"}),
        ]

    async def test_cooldown_is_logged_with_its_length(
        self,
        caplog: pytest.LogCaptureFixture,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        moltin_simulator.add_faults(Fault(429, {"Retry-After": "7"}))
        await moltin_session.get_job("a")
        (record,) = [record for record in caplog.records if "rate limit" in record.getMessage()]
        assert record.name == "moltin_jobs.http"
        assert fields_of(record) == {"retry_in": pytest.approx(7.7, abs=0.71)}

    async def test_fallback_of_polling_by_list_is_logged(
        self, caplog: pytest.LogCaptureFixture, moltin_simulator: Simulator
    ) -> None:
        moltin_simulator.add_job("a", ["pending", "success"])
        moltin_simulator.add_faults(403, path="/v2/jobs")
        async with JobsSession(
            moltin_simulator.token, base_url=moltin_simulator.url, poll_by="list"
        ) as session:
            await session.wait_for_job("a")
        messages = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
        assert len(messages) == 1
        assert messages[0].startswith("polling by id for 30 s: the list failed: ")

    async def test_nothing_is_logged_by_default_when_all_goes_well(
        self,
        caplog: pytest.LogCaptureFixture,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
    ) -> None:
        caplog.set_level(logging.INFO, "moltin_jobs")
        moltin_simulator.add_job("a", ["pending", "success"])
        await moltin_session.wait_for_job("a")
        assert caplog.records == []


async def test_request_id_of_the_service_is_found_in_header_and_body(
    moltin_simulator: Simulator, moltin_session: JobsSession
) -> None:
    moltin_simulator.add_faults(*[Fault(500, {"X-Request-Id": "abc-1"}, b"")] * 4, job_id="a")
    with pytest.raises(ServerError, match=r"\(request id abc-1\)") as from_header:
        await moltin_session.get_job("a")
    moltin_simulator.add_faults(*[500] * 4, job_id="b")
    with pytest.raises(ServerError) as from_body:
        await moltin_session.get_job("b")
    assert from_header.value.request_id == "abc-1"
    assert from_body.value.request_id == from_body.value.errors[0]["request_id"]


async def test_traces_of_http_session_see_each_request(moltin_simulator: Simulator) -> None:
    ended: list[tuple[str, int]] = []

    async def on_request_end(_session: object, _context: object, request: Any) -> None:
        ended.append((request.url.path, request.response.status))

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(on_request_end)
    moltin_simulator.add_job("a", ["pending", "success"])
    auth = ClientCredentials(moltin_simulator.client_id, moltin_simulator.client_secret)
    async with (
        aiohttp.ClientSession(trace_configs=[trace]) as http_session,
        JobsSession(auth, base_url=moltin_simulator.url, http_session=http_session) as session,
    ):
        await session.wait_for_job("a")
    assert ended == [("/oauth/access_token", 200), *[("/v2/jobs/a", 200)] * 2]


class TestOpenTelemetry:
    @pytest.fixture
    def exporter(self) -> InMemorySpanExporter:
        return InMemorySpanExporter()

    @pytest.fixture
    def provider(self, exporter: InMemorySpanExporter) -> TracerProvider:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return provider

    @pytest.fixture
    def _instrumented(self, provider: TracerProvider) -> Iterator[None]:
        AioHttpClientInstrumentor().instrument(tracer_provider=provider)
        yield
        AioHttpClientInstrumentor().uninstrument()

    @staticmethod
    def responses(spans: tuple[ReadableSpan, ...]) -> list[tuple[Any, Any]]:
        attributes = [dict(span.attributes or {}) for span in spans]
        return [(found["http.url"], found["http.status_code"]) for found in attributes]

    async def test_trace_config_makes_a_span_for_each_attempt(
        self, exporter: InMemorySpanExporter, provider: TracerProvider, moltin_simulator: Simulator
    ) -> None:
        trace = create_trace_config(tracer_provider=provider)
        moltin_simulator.add_job("a", ["pending", "success"])
        moltin_simulator.add_faults(503)
        async with (
            aiohttp.ClientSession(trace_configs=[trace]) as http_session,
            JobsSession(
                moltin_simulator.token, base_url=moltin_simulator.url, http_session=http_session
            ) as session,
        ):
            await session.wait_for_job("a")
        spans = exporter.get_finished_spans()
        url = f"{moltin_simulator.url}/v2/jobs/a"
        assert self.responses(spans) == [(url, 503), (url, 200), (url, 200)]
        assert moltin_simulator.token not in str([span.to_json() for span in spans])

    @pytest.mark.usefixtures("_instrumented")
    async def test_instrumentor_makes_a_span_for_each_attempt(
        self,
        exporter: InMemorySpanExporter,
        moltin_simulator: Simulator,
        moltin_session: JobsSession,
    ) -> None:
        moltin_simulator.add_job("a", ["success"])
        await moltin_session.get_job("a")
        spans = exporter.get_finished_spans()
        assert self.responses(spans) == [(f"{moltin_simulator.url}/v2/jobs/a", 200)]
        assert moltin_simulator.token not in str([span.to_json() for span in spans])
