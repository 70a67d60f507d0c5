"""docs/errors.md shows the real message of each error.

``UPDATE_DOCS=1 pytest tests/docs/test_error_messages.py`` writes the messages to the page.
"""

import os
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trustme

import moltin_jobs
from moltin_jobs import ClientCredentials, JobsSession, MoltinJobsError, Polling, Retry
from moltin_jobs.cli.demo import NO_RESULTS
from moltin_jobs.testing import Fault, Simulator
from tests.docs.examples import ROOT, read_page
from tests.http.test_tls import server_context
from tests.raw_server import RawServer

PAGE = "docs/errors.md"
UPDATE = os.environ.get("UPDATE_DOCS") == "1"
JOB_ID = "order-export-01"
WITHOUT_JITTER = Polling(jitter=0)  # the messages contain the number of polls

Producer = Callable[[Simulator, JobsSession], Awaitable[object]]

PRODUCERS: dict[str, Producer] = {}
"""Each raises the error that the name begins with."""


def produces(name: str) -> Callable[[Producer], Producer]:
    def register(producer: Producer) -> Producer:
        PRODUCERS[name] = producer
        return producer

    return register


@produces("JobFailedError")
async def wait_for_failed_job(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_job(JOB_ID, ["failed"], error="The export could not be written")
    await session.wait_for_job(JOB_ID)


@produces("JobFailedError for an import")
async def wait_for_failed_import(simulator: Simulator, session: JobsSession) -> None:
    problems = [("is not an email address", "email", 12), ("is missing", "name", 30)]
    simulator.add_job("subscribers-01", ["failed"], kind="subscription-import", problems=problems)
    await session.wait_for_job("subscribers-01", kind="subscription-import")


@produces("JobFailedError for a release")
async def wait_for_failed_release(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_job("release-01", ["FAILED"], kind="release:summer")
    await session.wait_for_job("release-01", kind="release:summer")


@produces("NoResultsError")
async def wait_for_export_without_results(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_job(JOB_ID, ["failed"], error=NO_RESULTS)
    await session.wait_for_job(JOB_ID)


@produces("JobCancelledError")
async def wait_for_cancelled_job(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_job(JOB_ID, ["cancelled"])
    await session.wait_for_job(JOB_ID)


@produces("JobTimeoutError")
async def wait_beyond_timeout(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_job(JOB_ID, ["started"])
    await session.wait_for_job(JOB_ID, timeout=5, polling=WITHOUT_JITTER)


@produces("JobTimeoutError with a position")
async def wait_behind_other_jobs(simulator: Simulator, _session: JobsSession) -> None:
    job_ids = [simulator.add_job(f"order-export-{number:02}", duration=4) for number in range(1, 5)]
    async with JobsSession(simulator.token, base_url=simulator.url, poll_by="list") as session:
        await session.wait_for_job(job_ids[-1], timeout=5, polling=WITHOUT_JITTER)


@produces("JobTimeoutError during an outage")
async def wait_during_outage(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_job(JOB_ID, ["started"])
    await session.get_job(JOB_ID)
    simulator.add_faults("reset", job_id=JOB_ID, repeat=True)
    await session.wait_for_job(JOB_ID, timeout=5, polling=WITHOUT_JITTER)


@produces("JobTimeoutError without a response")
async def wait_for_hanging_service(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_job(JOB_ID, ["started"])
    simulator.add_faults("hang", job_id=JOB_ID, repeat=True)
    await session.wait_for_job(JOB_ID, timeout=5)


@produces("TransportError for a refused connection")
async def get_job_of_closed_port(_simulator: Simulator, _session: JobsSession) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with JobsSession("TOKEN", base_url=f"http://127.0.0.1:{port}") as session:
        await session.get_job(JOB_ID)


@produces("TransportError for an attempt that timed out")
async def get_job_that_hangs(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_faults("hang", repeat=True)
    await session.get_job(JOB_ID)


@produces("TransportError for a connection that was reset")
async def get_job_that_is_reset(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_faults("reset", repeat=True)
    await session.get_job(JOB_ID)


@produces("TransportError for a certificate")
async def get_job_with_untrusted_certificate(_simulator: Simulator, _session: JobsSession) -> None:
    async with (
        RawServer([], server_context(trustme.CA(), "127.0.0.1")) as server,
        JobsSession("TOKEN", base_url=server.url) as session,
    ):
        await session.get_job(JOB_ID)


@produces("TransportError for a creation")
async def create_job_that_is_reset(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_faults("lost")
    await session.create_job()


@produces("TransportError for a publication")
async def publish_catalog_that_is_reset(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_faults("lost")
    await session.publish_catalog("summer")


@produces("TransportError for a large file")
async def download_large_file(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_job(JOB_ID, ["success"])
    await session.download(JOB_ID, "orders.csv", max_bytes=1000)


@produces("InvalidResponseError")
async def get_job_behind_login_page(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_faults("html", repeat=True)
    await session.get_job(JOB_ID)


@produces("APIError")
async def create_job_with_bad_filter(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_faults(400)
    await session.create_job(filter="gt(created_at)")


@produces("APIError for a redirect")
async def get_job_that_is_redirected(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_faults(Fault(301, {"Location": "https://useast.api.elasticpath.com/v2/jobs"}))
    await session.get_job(JOB_ID)


@produces("APIError for another server")
async def get_job_from_another_server(simulator: Simulator, _session: JobsSession) -> None:
    simulator.add_faults(405, path="/oauth/access_token")
    credentials = ClientCredentials(simulator.client_id, simulator.client_secret)
    async with JobsSession(credentials, base_url=simulator.url) as session:
        await session.get_job(JOB_ID)


@produces("AuthenticationError")
async def get_job_with_wrong_token(simulator: Simulator, _session: JobsSession) -> None:
    async with JobsSession("EXPIRED", base_url=simulator.url) as session:
        await session.get_job(JOB_ID)


@produces("AuthenticationError for client credentials")
async def get_job_with_wrong_secret(simulator: Simulator, _session: JobsSession) -> None:
    credentials = ClientCredentials("CLIENT_ID", "WRONG_SECRET")
    async with JobsSession(credentials, base_url=simulator.url) as session:
        await session.get_job(JOB_ID)


@produces("PermissionDeniedError")
async def get_job_without_permission(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_faults(403)
    await session.get_job(JOB_ID)


@produces("PermissionDeniedError from a gateway")
async def get_job_behind_gateway_that_refuses(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_faults(Fault(403, {"Content-Type": "text/html"}, b"<h1>Forbidden</h1>"))
    await session.get_job(JOB_ID)


@produces("JobNotFoundError")
async def get_job_that_does_not_exist(_simulator: Simulator, session: JobsSession) -> None:
    await session.get_job("nowhere")


@produces("JobNotFoundError for a release")
async def get_release_that_does_not_exist(_simulator: Simulator, session: JobsSession) -> None:
    await session.get_job("nowhere", kind="release:summer")


@produces("JobNotFoundError for a file")
async def get_file_url_of_running_job(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_job(JOB_ID, ["started"])
    await session.get_file_url(JOB_ID)


@produces("RateLimitError")
async def get_job_over_rate_limit(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_faults(429, repeat=True)
    await session.get_job(JOB_ID)


@produces("ServerError")
async def get_job_of_failing_service(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_faults(500)
    async with JobsSession(
        simulator.token, base_url=simulator.url, retry=Retry(max_attempts=1)
    ) as once:
        await once.get_job(JOB_ID)


@produces("ConfigurationError")
async def set_impossible_rate_limit(_simulator: Simulator, _session: JobsSession) -> None:
    JobsSession("TOKEN", rate_limit=0)


@produces("ConfigurationError for a kind")
async def cancel_order_job(_simulator: Simulator, session: JobsSession) -> None:
    await session.cancel_job(JOB_ID)


@produces("ConfigurationError for one of several files")
async def get_file_url_without_index(simulator: Simulator, session: JobsSession) -> None:
    simulator.add_job("export-01", ["success"], kind="pxm", file=[b"1", b"2"])
    await session.get_file_url("export-01", kind="pxm")


@produces("ConfigurationError for the environment")
async def use_empty_environment(_simulator: Simulator, _session: JobsSession) -> None:
    JobsSession.from_env()


@produces("ConfigurationError for a base_url")
async def set_base_url_without_https(_simulator: Simulator, _session: JobsSession) -> None:
    JobsSession("TOKEN", base_url="http://api.moltin.com")


@produces("InvalidJobIdError")
async def get_job_with_invalid_id(_simulator: Simulator, session: JobsSession) -> None:
    await session.get_job("../carts")


@produces("SessionClosedError")
async def get_job_of_closed_session(_simulator: Simulator, session: JobsSession) -> None:
    await session.close()
    await session.get_job(JOB_ID)


REAL_TIME = {"TransportError for a certificate", "TransportError for a large file"}
"""TLS handshakes and the disk take time that a virtual clock does not see."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in REAL_TIME else pytest.mark.looptime)
        for name in PRODUCERS
    ],
)
async def test_message_of_error_is_the_one_that_the_page_shows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with (
        Simulator() as simulator,
        JobsSession(simulator.token, base_url=simulator.url) as session,
    ):
        with pytest.raises(MoltinJobsError) as caught:
            await PRODUCERS[name](simulator, session)
    assert type(caught.value).__name__ == name.split(maxsplit=1)[0]
    message = re.sub(r"(127\.0\.0\.1(?::|', ))\d+", r"\g<1>8000", str(caught.value))
    message = re.sub(r"at [-\d]+ [:\d]+ UTC", "at 2026-10-01 12:04:30 UTC", message)
    if UPDATE:
        write_message(name, message)
    assert messages_of_page().get(name) == message


def test_page_shows_a_message_of_each_error() -> None:
    classes = {name.split()[0] for name in messages_of_page()}
    assert classes == error_names() - {"MoltinJobsError"}


def test_page_shows_no_message_that_is_not_produced() -> None:
    assert messages_of_page().keys() == PRODUCERS.keys()


def test_tree_of_errors_on_page_is_the_tree_of_classes() -> None:
    tree = read_page(PAGE).partition("<!-- tree of errors -->\n```text\n")[2].partition("\n```")[0]
    ancestors: list[str] = []
    for match in re.finditer(r"^[│├└─ ]*(\w+)(?:\((\w+)\))?", tree, re.MULTILINE):
        name, other_base = match.groups()
        depth = (match.start(1) - match.start()) // len("├── ")
        bases = {ancestors[depth - 1] if depth else "Exception", other_base or "Exception"}
        actual = {base.__name__ for base in getattr(moltin_jobs, name).__bases__}
        assert actual | {"Exception"} == bases | {"Exception"}, name
        ancestors[depth:] = [name]
    assert set(re.findall(r"\w+Error\b(?!\))", tree)) == error_names()


def error_names() -> set[str]:
    return {name for name in vars(moltin_jobs) if name.endswith("Error")}


def messages_of_page() -> dict[str, str]:
    pattern = r"^<!-- error: (.+) -->\n```text\n(.*)\n```$"
    return dict(re.findall(pattern, read_page(PAGE), re.MULTILINE))


def write_message(name: str, message: str) -> None:
    pattern = rf"(^<!-- error: {re.escape(name)} -->\n```text\n).*(\n```$)"
    text = re.sub(pattern, lambda m: m[1] + message + m[2], read_page(PAGE), flags=re.MULTILINE)
    (ROOT / PAGE).write_text(text, encoding="utf-8")
