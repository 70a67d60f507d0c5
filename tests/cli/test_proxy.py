"""The proxy of the environment."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from moltin_jobs.testing import Simulator
from tests.http.test_downloads import run_tunnel_proxy
from tests.http.test_tls import server_context
from tests.raw_server import RawServer, respond

from .harness import run, run_shell

Service = tuple[RawServer, dict[str, str]]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service with TLS that has one file, and the variables that lead to it."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def locate_file(writer: asyncio.StreamWriter) -> None:
        await respond(b'{"data": {"href": "%s/a.csv"}}' % server.url.encode())(writer)

    scripts = [locate_file, respond(b"order_id")]
    async with RawServer(scripts, server_context(ca, "127.0.0.1")) as server:
        yield (
            server,
            {
                "EPCC_ACCESS_TOKEN": "token",
                "EPCC_API_BASE_URL": server.url,
                "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
            },
        )


@pytest.fixture
def _service_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPCC_ACCESS_TOKEN", "token")
    monkeypatch.setenv("EPCC_API_BASE_URL", "https://api.example")


async def download(environment: dict[str, str], path: Path) -> str:
    """Download a file in another process, while the servers of this loop respond."""
    script = f'"$@" download a {path} && cat {path}'
    finished = await asyncio.to_thread(run_shell, script, env=environment)
    assert finished.stdout == f"a\t{path}\norder_id"
    return finished.stderr


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
async def test_requests_and_downloads_go_through_the_proxy(
    service: Service, tmp_path: Path, name: str
) -> None:
    server, environment = service
    async with run_tunnel_proxy() as (proxy, targets):
        assert await download(environment | {name: proxy}, tmp_path / "orders.csv") == ""
        assert set(targets) == {server.url.removeprefix("https://")}


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
async def test_hosts_without_proxy_are_reached_directly(
    service: Service, tmp_path: Path, name: str
) -> None:
    _, environment = service
    environment |= {"HTTPS_PROXY": "http://127.0.0.1:9", name: "example.com,127.0.0.1"}
    assert await download(environment, tmp_path / "orders.csv") == ""


@pytest.mark.parametrize("scheme", ["HTTP", "HTTPS"])
def test_simulator_is_reached_directly(
    store: Simulator, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv(f"{scheme}_PROXY", "http://127.0.0.1:9")
    result = run("get", store.add_job("a", ["pending"]))
    assert (result.stdout, result.stderr) == ("a\tpending\n", "")


@pytest.mark.usefixtures("_service_elsewhere")
@pytest.mark.parametrize("host", ["127.0.0.1:9", "proxy.invalid:3128"])
def test_proxy_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:hush@{host}")
    result = run("get", "-q", "a")
    assert (result.exit_code, result.stdout) == (6, "")
    assert result.stderr.startswith(f"error: job a: cannot connect to the proxy {host} (")
    assert result.stderr.endswith("Check the proxy (HTTPS_PROXY) and the network.\n")
    assert "hush" not in result.stderr


async def test_proxy_that_rejects_the_credentials_is_named(
    service: Service,
) -> None:
    _, environment = service
    async with RawServer([respond(status="407 Proxy Authentication Required")]) as proxy:
        environment["HTTPS_PROXY"] = proxy.url.replace("//", "//user:hush@")
        finished = await asyncio.to_thread(run_shell, '"$@" get a', env=environment)
    assert (finished.returncode, finished.stdout) == (6, "")
    assert finished.stderr == (
        f"error: job a: the proxy {proxy.url.removeprefix('http://')} responded with status 407. "
        "Check the proxy (HTTPS_PROXY) and its credentials.\n"
    )
    (request,) = proxy.requests
    credentials = base64.b64encode(b"user:hush")
    assert b"proxy-authorization: basic " + credentials.lower() in request.lower()
    assert b"Bearer" not in request


@pytest.mark.usefixtures("_service_elsewhere")
@pytest.mark.parametrize(
    "address",
    ["proxy:3128", "https://proxy:3128", "socks5://proxy", "http://proxy:99999", "http://[::1]@"],
)
def test_proxy_that_is_unusable_exits_with_2(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address.replace("//", "//user:hush@"))
    result = run("list")
    assert (result.exit_code, result.stdout) == (2, "")
    value = repr(address.rpartition("@")[2].rpartition("//")[2])
    assert result.stderr == f"error: HTTPS_PROXY must be http://HOST:PORT, not {value}\n"


@pytest.mark.usefixtures("_service_elsewhere")
@pytest.mark.parametrize("name", ["HTTP_PROXY", "ws_proxy", "wss_proxy"])
def test_proxy_for_another_scheme_that_is_invalid_exits_with_2(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://proxy:99999")
    result = run("list")
    assert (result.exit_code, result.stdout) == (2, "")
    expected = f"error: {name.upper()} must be http://HOST:PORT, not 'http://proxy:99999'\n"
    assert result.stderr == expected


async def test_unusable_proxy_is_ignored_for_hosts_without_proxy(
    service: Service, tmp_path: Path
) -> None:
    _, environment = service
    environment |= {"HTTPS_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    assert await download(environment, tmp_path / "orders.csv") == ""


async def test_credentials_of_netrc_are_not_sent(service: Service, tmp_path: Path) -> None:
    server, environment = service
    netrc = tmp_path / "netrc"
    netrc.write_text("default login user password hush")
    stderr = await download(environment | {"NETRC": str(netrc)}, tmp_path / "orders.csv")
    api_request, file_request = server.requests
    assert stderr == ""
    assert b"Authorization: Bearer token\r\n" in api_request
    assert b"Basic" not in api_request
    assert b"authorization" not in file_request.lower()


async def test_netrc_that_cannot_be_read_is_logged_once(service: Service, tmp_path: Path) -> None:
    _, environment = service
    netrc = tmp_path / "netrc"
    netrc.write_text("nonsense")
    stderr = await download(environment | {"NETRC": str(netrc)}, tmp_path / "orders.csv")
    assert stderr.startswith("WARNING aiohttp.client: Could not parse .netrc file: ")
    assert stderr.count("\n") == 1
