"""Addresses to which a token may be sent, and addresses of files."""

import pytest
from yarl import URL

from moltin_jobs import ConfigurationError, TransportError
from moltin_jobs._http.addresses import (
    check_file_url,
    host_of,
    join_redirect,
    parse_base_url,
)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.moltin.com",
        "https://api.moltin.com/",
        "https://api.moltin.com./",
        "https://api.moltin.com:8443/a/prefix",
        "https://faß.example",
        "https://api.example/v2X",
        "http://localhost:8000",
        "http://127.0.0.1",
        "http://127.1.2.3:8000",
        "http://[::1]:8000",
    ],
)
def test_base_url_over_https_or_to_loopback_is_accepted(base_url: str) -> None:
    assert parse_base_url(base_url) == URL(base_url)


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.moltin.com",
        "http://api.moltin.com",
        "http://192.168.1.1",
        "http://localhost.example",
        "http://[::2]",
        "ftp://api.moltin.com",
        "https://",
        "https:///path",
        "https://api.moltin.com:99999",
        "https://api.moltin.com:port",
        "https://[::1",
        "https://[::1]@",
        "https://api..moltin.com",
        f"https://{'a' * 64}.example",
        "https://api.moltin.com?region=eu",
        "https://api.moltin.com#top",
        "https://api.moltin .com",
        "https://api.moltin.com\n",
        "https://api.moltin.com\x7f",
        "https://the-user@api.moltin.com",
        "https://the-user:the-password@api.moltin.com",
        "https://the-user:the-p@ssword@api.moltin.com",
        None,
        5,
        b"https://api.moltin.com",
        URL("https://the-user:the-password@api.moltin.com"),
    ],
)
def test_base_url_that_must_not_get_a_token_is_rejected(base_url: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_base_url(base_url, "EPCC_API_BASE_URL")
    message = str(caught.value)
    assert message.startswith(
        "EPCC_API_BASE_URL must be https://HOST[:PORT][/PATH], or http:// to a loopback address, "
        "without credentials, query or fragment, not "
    )
    assert "the-" not in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("base_url", "named"),
    [
        ("http://api.example", "'http://api.example'"),
        ("https://me:p@ss@api.example", "'api.example'"),
        (5, "int"),
    ],
)
def test_rejected_base_url_is_named_without_its_credentials(base_url: object, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_base_url(base_url)
    assert str(caught.value).endswith(f" or fragment, not {named}")


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/eu/v2"])
def test_base_url_with_version_is_rejected_with_explanation(path: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^base_url must not end with /v2, which the client adds itself"
    ):
        parse_base_url(f"https://api.moltin.com{path}")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.moltin.com/a?b", "api.moltin.com:443"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("https://[::1]:8000", "[::1]:8000"),
        ("https://faß.example", "xn--fa-hia.example:443"),
    ],
)
def test_host_of_url_has_port_and_brackets(url: str, expected: str) -> None:
    assert host_of(URL(url)) == expected


class TestFileUrl:
    @pytest.mark.parametrize(
        "address",
        [
            "https://files.example/a.csv?sig=%2f%2F%20+a&x=[1]|{}'\"",
            "https://files.example:8443//a//../b;c=d?x=%zz&&=",
            "https://files.example/a%00b",
        ],
    )
    def test_address_is_kept_as_received(self, address: str) -> None:
        url = check_file_url(address, "the file", loopback=False)
        assert str(url) == address
        assert url.raw_path_qs in address

    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            (" https://f.example/a\n", "https://f.example/a"),
            ("https://f.example/a b", "https://f.example/a%20b"),
            ("https://f.example/ä%e4?€", "https://f.example/%C3%A4%e4?%E2%82%AC"),
            ("https://f.example/a\r\nX: y", "https://f.example/a%0D%0AX:%20y"),
            ("https://f.example/\x00\x7f", "https://f.example/%00%7F"),
        ],
    )
    def test_only_characters_that_cannot_be_sent_are_quoted(
        self, address: str, expected: str
    ) -> None:
        assert str(check_file_url(address, "the file", loopback=False)) == expected

    @pytest.mark.parametrize("address", ["http://127.0.0.1:8000/a", "http://localhost/a"])
    def test_http_to_loopback_is_allowed_only_on_request(self, address: str) -> None:
        assert str(check_file_url(address, "the file", loopback=True)) == address
        with pytest.raises(TransportError, match="only https is allowed"):
            check_file_url(address, "the file", loopback=False)

    @pytest.mark.parametrize(
        ("address", "origin"),
        [
            ("http://files.example/a?sig=the-signature", "http://files.example"),
            ("ftp://files.example/the-signature", "ftp://files.example"),
            ("http://the-user:the-password@files.example/a", "http://files.example"),
            (f"http://{'a' * 60}.{'b.' * 400}example/a", None),
        ],
    )
    def test_other_scheme_is_refused_and_only_the_host_named(
        self, address: str, origin: str | None
    ) -> None:
        with pytest.raises(TransportError) as caught:
            check_file_url(address, "the file of job a", loopback=True)
        message = str(caught.value)
        assert not caught.value.retryable
        assert caught.value.__context__ is None
        assert message.startswith("the file of job a: refusing to download from ")
        assert message.endswith(": only https is allowed. Report this to the service's support.")
        assert "the-" not in message
        assert origin is None or f" {origin}: " in message
        assert len(message) < 700

    @pytest.mark.parametrize(
        "address",
        [
            "",
            "/relative/the-signature",
            "//files.example/the-signature",
            "https:///the-signature",
            "https://files.example:99999/the-signature",
            "https://files..example/the-signature",
            f"https://{'a' * 64}.example/the-signature",
            "https://[::1/the-signature",
            "https://[::1]@/the-signature",
            "https://files.example/the-signature\ud800",
            "no address, but the-signature",
        ],
    )
    def test_invalid_address_is_refused_and_hidden(self, address: str) -> None:
        with pytest.raises(TransportError) as caught:
            check_file_url(address, "the file of job a", loopback=True, job_id="a")
        assert str(caught.value) == (
            "the file of job a: its address is invalid. Report this to the service's support."
        )
        assert (caught.value.retryable, caught.value.job_id) == (False, "a")
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://other.example/b?sig=%2f", "https://other.example/b?sig=%2f"),
        ("//other.example/b", "https://other.example/b"),
        ("/b?sig=%2f%2F", "https://files.example/b?sig=%2f%2F"),
        ("c d", "https://files.example/a/c%20d"),
        ("?x=%2f", "https://files.example/a/b?x=%2f"),
        ("https://[::1", "https://[::1"),
        ("https://[::1]@", "https://[::1]@"),
    ],
)
def test_redirect_target_is_kept_as_received(location: str, expected: str) -> None:
    url = URL("https://files.example/a/b?old=1", encoded=True)
    assert join_redirect(url, location) == expected
