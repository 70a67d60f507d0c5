import contextlib
import json
from typing import Any

import pytest

from moltin_jobs._api.content import load_json
from moltin_jobs._api.masking import mask, mask_body
from moltin_jobs.settings import Secret
from tests.api.responses import GET_JOB, LIST_JOBS, PENDING, TOKEN, make_response

NOT_JSON = "the body is not JSON (Expecting value: line 1 column 1 (char 0))"


def escape_all(text: str) -> str:
    return "".join(f"\\u{ord(character):04X}" for character in text)


class TestLoadJson:
    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            pytest.param(b"", "the body is empty", id="empty"),
            pytest.param(b" \n ", "the body is empty", id="white-space"),
            pytest.param(b"\xef\xbb\xbf", "the body is empty", id="byte-order-mark-only"),
            pytest.param(
                PENDING.ljust(1_048_577), "the body is larger than 1048576 bytes", id="too-large"
            ),
            pytest.param(
                PENDING.replace(b"pending", b"\xff"), "the body is not UTF-8", id="not-utf-8"
            ),
            pytest.param(PENDING.decode().encode("utf-16"), "the body is not UTF-8", id="utf-16"),
            pytest.param(b"<html>", NOT_JSON, id="html"),
            pytest.param(b"\x0b{}", NOT_JSON, id="white-space-of-python-only"),
            pytest.param(
                b"\xef\xbb\xbf\xef\xbb\xbf{}",
                NOT_JSON,
                id="two-byte-order-marks",
            ),
            pytest.param(
                PENDING + b"}",
                "the body is not JSON (Extra data: line 1 column 43 (char 42))",
                id="extra-data",
            ),
            pytest.param(
                b"[" * 100_000 + b"]" * 100_000, "the JSON is nested too deeply", id="deep-lists"
            ),
            pytest.param(
                b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
                "the JSON is nested too deeply",
                id="deep-objects",
            ),
        ],
    )
    def test_load_json_rejects_unreadable_body(self, body: bytes, reason: str) -> None:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared in the next line)
            load_json(make_response(body), GET_JOB)
        assert str(caught.value) == reason

    @pytest.mark.parametrize(
        ("body", "document"),
        [
            pytest.param(b"null", None, id="null"),
            pytest.param(b" [1] ", [1], id="white-space-around"),
            pytest.param(b'\xef\xbb\xbf{"a": "b"}', {"a": "b"}, id="byte-order-mark"),
            pytest.param('["Käse 😀"]'.encode(), ["Käse 😀"], id="utf-8"),
            pytest.param(rb'["\ud800"]', ["\ud800"], id="lone-surrogate"),
            pytest.param(b'{"a": 1, "a": 2}', {"a": 2}, id="duplicate-key"),
            pytest.param(
                b"[Infinity, -Infinity]", [float("inf"), float("-inf")], id="infinite-numbers"
            ),
            pytest.param(b"[%s]" % (b"9" * 4_000), [int("9" * 4_000)], id="long-int"),
            pytest.param(b"[1, %s]" % (b"9" * 5_000), [1, float("inf")], id="too-long-int"),
        ],
    )
    def test_load_json_accepts_all_that_json_loads_does(self, body: bytes, document: Any) -> None:
        assert load_json(make_response(body), GET_JOB) == document

    def test_load_json_accepts_nan(self) -> None:
        (number,) = load_json(make_response(b"[NaN]"), GET_JOB)
        assert number != number  # noqa: PLR0124 (only NaN differs from itself)

    @pytest.mark.parametrize(
        ("request_", "size"), [(GET_JOB, 1_048_576), (LIST_JOBS, 16_777_216)], ids=["job", "list"]
    )
    def test_load_json_accepts_body_up_to_limit_of_request(self, request_: Any, size: int) -> None:
        assert load_json(make_response(b"{}".ljust(size)), request_) == {}
        with pytest.raises(ValueError, match=rf"^the body is larger than {size} bytes$"):
            load_json(make_response(b"{}".ljust(size + 1)), request_)

    @pytest.mark.parametrize("depth", [100, 600, 900, 5_000, 100_000])
    @pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")], ids=["lists", "objects"])
    def test_load_json_of_deep_document_to_mask_does_not_exceed_recursion_limit(
        self, depth: int, brackets: tuple[bytes, bytes]
    ) -> None:
        begin, end = brackets
        body = begin * depth + json.dumps(TOKEN).encode() + end * depth
        response = make_response(body, secret=TOKEN)
        if depth > 10_000:
            with pytest.raises(ValueError, match=r"^the JSON is nested too deeply$"):
                load_json(response, GET_JOB)
            return
        with contextlib.suppress(ValueError) if depth > 100 else contextlib.nullcontext():
            document = load_json(response, GET_JOB)
            for _ in range(depth):
                (document,) = document.values() if isinstance(document, dict) else document
            assert document == "***"


class TestMaskedDocument:
    @pytest.mark.parametrize(
        "secret",
        [
            pytest.param("t0ken-of-the-session", id="plain"),
            pytest.param("eyJ0.eyJz-_/+.c2ln==", id="slash-and-plus"),
            pytest.param('quote"back\\slash', id="quote-and-backslash"),
            pytest.param("t0ken", id="short"),
            pytest.param("/+", id="very-short"),
        ],
    )
    @pytest.mark.parametrize(
        "encode",
        [
            pytest.param(json.dumps, id="python"),
            pytest.param(lambda text: json.dumps(text).replace("/", "\\/"), id="escaped-slash"),
            pytest.param(lambda text: f'"{escape_all(text)}"', id="all-escaped"),
        ],
    )
    def test_load_json_masks_secret_in_sentences_and_a_long_one_anywhere(
        self, secret: str, encode: Any
    ) -> None:
        text, alone = encode(f"Bearer {secret}, sorry"), encode(secret)
        body = f'{{{alone}: 1, "a": {alone}, "b": [{text}, 2, {{"c": {text}}}]}}'
        masked = "Bearer ***, sorry"
        word = "***" if len(secret) >= 8 else secret  # a key or a status, and no real token
        assert load_json(make_response(body.encode(), secret=secret), GET_JOB) == {
            word: 1,
            "a": word,
            "b": [masked, 2, {"c": masked}],
        }

    def test_load_json_without_secret_in_body_changes_nothing(self) -> None:
        body = rb'{"a": "one\/two", "b": [null, true, 1.5, "three"]}'
        document = {"a": "one/two", "b": [None, True, 1.5, "three"]}
        assert load_json(make_response(body, secret=TOKEN), GET_JOB) == document
        assert load_json(make_response(body), GET_JOB) == document

    @pytest.mark.parametrize("token", ["a", "test", "token-0f-nine"])
    @pytest.mark.parametrize("suffix", ["", "-1"])
    def test_load_json_with_token_within_job_id_keeps_id(self, token: str, suffix: str) -> None:
        job_id = token + suffix
        request = type(GET_JOB)("GET", f"/v2/jobs/{job_id}", f"job {job_id}", job_id)
        body = json.dumps({"data": [{"id": job_id, "error": f"{token} is bad"}]}).encode()
        assert load_json(make_response(body, secret=token), request) == {
            "data": [{"id": job_id, "error": "*** is bad"}]
        }


class TestMask:
    @pytest.mark.parametrize(
        ("text", "secret", "masked"),
        [
            pytest.param("a", None, "a", id="no-secret"),
            pytest.param("nothing", "12345678", "nothing", id="not-in-text"),
            pytest.param("", "12345678", "", id="empty-text"),
            pytest.param("x12345678x 12345678", "12345678", "x***x ***", id="long-anywhere"),
            pytest.param("a.b", "a.b", "***", id="short-pattern-characters"),
            pytest.param("acb", "a.b", "acb", id="short-is-no-pattern"),
            pytest.param("t0ken", "t0ken", "***", id="short-alone"),
            pytest.param("'t0ken', (t0ken)", "t0ken", "'***', (***)", id="short-in-punctuation"),
            pytest.param("t0kens at0ken t0ken_ ät0ken", "t0ken", None, id="short-part-of-word"),
            pytest.param("job-a a-job", "a", None, id="short-part-of-hyphenated-word"),
            pytest.param("1234567 x1234567", "1234567", "*** x1234567", id="seven-characters"),
        ],
    )
    def test_mask_replaces_secret(self, text: str, secret: str | None, masked: str | None) -> None:
        found = mask(text, None if secret is None else Secret(secret))
        assert found == (text if masked is None else masked)


class TestMaskBody:
    @pytest.mark.parametrize(
        ("body", "secret", "masked"),
        [
            pytest.param(b"<p>\xff\x00\\n", None, b"<p>\xff\x00\\n", id="no-secret"),
            pytest.param(b"<p>\xff\x00\\n", TOKEN, b"<p>\xff\x00\\n", id="not-in-body"),
            pytest.param(b"\xff" + TOKEN.encode() * 2, TOKEN, b"\xff******", id="plain"),
            pytest.param(b"a t0ken, t0kens", "t0ken", b"a ***, t0kens", id="short"),
            pytest.param(
                rb'{"a": "t0ken-of-the-session\/+"}', TOKEN, b'{"a": "***"}', id="escaped-slash"
            ),
            pytest.param(
                rb'{"a": "t0ken-of-the-session\u002f\u002B"}',
                TOKEN,
                b'{"a": "***"}',
                id="escaped-by-number",
            ),
            pytest.param(
                json.dumps('quote"back\\slash').encode(),
                'quote"back\\slash',
                b'"***"',
                id="escaped-quote-and-backslash",
            ),
            pytest.param(b'quote"back\\slash', 'quote"back\\slash', b"***", id="plain-backslash"),
            pytest.param(
                b'back\\slash-1, "back\\\\slash-1"', "back\\slash-1", b'***, "***"', id="both-ways"
            ),
            pytest.param(
                rb'["\ud83d\ude00\/\n\u0041", "t0ken-of-the-session\/+"]',
                TOKEN,
                rb'["\ud83d\ude00\/\n\u0041", "***"]',
                id="other-escapes",
            ),
        ],
    )
    def test_mask_body_replaces_secret_however_it_is_escaped(
        self, body: bytes, secret: str | None, masked: bytes
    ) -> None:
        assert mask_body(make_response(body, secret=secret)) == masked
