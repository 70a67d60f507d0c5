"""Decoding of gzip and deflate, with the check that the compressed stream has ended."""

import functools
import gzip
import itertools
import tracemalloc
import zlib
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moltin_jobs._http.content_coding import Decoder

Compress = Callable[[bytes], bytes]
MEBIBYTE = 1 << 20
gzipped = functools.partial(gzip.compress, mtime=0)  # the same in all workers of pytest-xdist
CSV = b"order_id,currency\r\n" + b"1,EUR\r\n" * 50


def raw_deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


def two_members(content: bytes) -> bytes:
    middle = len(content) // 2
    return gzipped(content[:middle]) + gzipped(content[middle:])


CODINGS: list[tuple[str, Compress]] = [
    ("gzip", gzipped),
    ("gzip", two_members),
    ("x-gzip", gzipped),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
]
each_coding = pytest.mark.parametrize(
    ("name", "compress"),
    CODINGS,
    ids=[f"{number}: {name}" for number, (name, _) in enumerate(CODINGS)],
)


def decode(decoder: Decoder, chunks: Iterable[bytes]) -> bytes:
    return b"".join(itertools.chain.from_iterable(map(decoder.decode, chunks)))


def split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@each_coding
@pytest.mark.parametrize("size", [1, 7, 1 << 18])
def test_content_in_chunks_of_any_size_is_decoded(name: str, compress: Compress, size: int) -> None:
    decoder = Decoder(name)
    assert decode(decoder, split(compress(CSV), size)) == CSV
    assert decoder.is_complete


@given(st.binary(max_size=300), st.sampled_from(CODINGS), st.integers(1, 50))
def test_any_content_is_decoded(content: bytes, coding: tuple[str, Compress], size: int) -> None:
    name, compress = coding
    decoder = Decoder(name)
    assert decode(decoder, split(compress(content), size)) == content
    assert decoder.is_complete


@pytest.mark.parametrize("name", ["", "identity", "aws-chunked", "aws-chunked, identity"])
def test_content_without_a_coding_is_passed_on(name: str) -> None:
    decoder = Decoder(name)
    assert list(decoder.decode(CSV)) == [CSV]
    assert decoder.is_complete


@pytest.mark.parametrize(
    "name", ["GZIP", " gzip ", "aws-chunked,gzip", "gzip,aws-chunked", ",gzip,"]
)
def test_spelling_of_the_header_does_not_matter(name: str) -> None:
    assert decode(Decoder(name), [gzipped(CSV)]) == CSV


@each_coding
@pytest.mark.parametrize("size", [MEBIBYTE - 1, MEBIBYTE, MEBIBYTE + 1, 2 * MEBIBYTE])
def test_content_around_the_largest_chunk_is_complete(
    name: str, compress: Compress, size: int
) -> None:
    decoder = Decoder(name)
    assert decode(decoder, [compress(bytes(size))]) == bytes(size)
    assert decoder.is_complete


def test_output_that_remains_after_a_full_chunk_is_decoded() -> None:
    # The last match of the stream reaches beyond the first mebibyte, and no trailer follows.
    for surplus in range(1, 259, 32):
        content = bytes(MEBIBYTE + surplus)
        assert decode(Decoder("deflate"), [raw_deflate(content)]) == content


@each_coding
def test_content_that_is_cut_is_not_complete(name: str, compress: Compress) -> None:
    data = compress(CSV)
    complete = []
    for end in range(len(data)):
        decoder = Decoder(name)
        assert CSV.startswith(decode(decoder, [data[:end]] if end else []))
        if decoder.is_complete:
            complete.append(end)
    # Nothing shows that a second member of gzip was to follow.
    first_member = len(gzipped(CSV[: len(CSV) // 2]))
    assert complete == ([first_member] if compress is two_members else [])


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("gzip", b"order_id,currency\r\n", "incorrect header check"),
        ("deflate", b"order_id,currency\r\n", "invalid"),
        ("gzip", gzipped(CSV) + b"more", "incorrect header check"),
        ("deflate", zlib.compress(CSV) + b"more", "there is data after its end"),
        ("gzip", gzipped(CSV)[:-8] + bytes(8), "incorrect data check"),
        ("deflate", zlib.compress(CSV)[:-4] + bytes(4), "incorrect data check"),
    ],
    ids=["text", "text", "surplus", "surplus", "checksum", "checksum"],
)
def test_invalid_content_is_rejected(name: str, data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(Decoder(name), [data])


@pytest.mark.parametrize("name", ["br", "zstd", "x\x1b[31m"])
def test_unsupported_coding_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"^the content encoding '.+' is not supported$") as caught:
        Decoder(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["gzip, gzip", "deflate,aws-chunked,GZIP", "gzip, br"])
def test_several_codings_are_named_as_unsupported(name: str) -> None:
    with pytest.raises(ValueError, match=r"^the content encoding '\w+, \w+' is not supported$"):
        Decoder(name)


def test_thousands_of_codings_are_rejected_with_a_short_message() -> None:
    with pytest.raises(
        ValueError, match=r"^the content encoding 'gzip, gzip, .+' is not supp"
    ) as caught:
        Decoder(",".join(["gzip"] * 48_000))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("content", [b"", b"1"], ids=["empty", "byte"])
def test_each_member_of_gzip_is_a_piece(content: bytes) -> None:
    # An event loop can run other tasks between pieces.
    decoder = Decoder("gzip")
    assert list(decoder.decode(gzipped(content) * 5000)) == [content] * 5000
    assert decoder.is_complete


def test_decoding_a_bomb_takes_little_memory() -> None:
    compressor = zlib.compressobj(9, wbits=31)
    bomb = b"".join(compressor.compress(bytes(MEBIBYTE)) for _ in range(40)) + compressor.flush()
    decoder = Decoder("gzip")
    tracemalloc.start()
    try:
        size = sum(map(len, decoder.decode(bomb)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 40 * MEBIBYTE
    assert peak < 8 * MEBIBYTE
