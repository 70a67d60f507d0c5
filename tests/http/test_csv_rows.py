"""Rows of CSV files that are cut into chunks, compared with those of csv.DictReader."""

import csv
import io
import itertools
import operator
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moltin_jobs._http.csv_rows import CsvParser, Row

BOM = b"\xef\xbb\xbf"
ALPHABET = 'ab,"\n\r \x00\x0b\x1c\x85\u2028\ufeffé€😀'
LIMIT = csv.field_size_limit()


def parse(chunks: Iterable[bytes]) -> Iterator[Row]:
    parser = CsvParser()
    for chunk in itertools.chain(chunks, [b""]):
        yield from parser.parse(chunk)


def expected_rows(text: str) -> list[dict[Any, Any]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def split(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def make_file(count: int) -> bytes:
    """Return a file of ``count`` rows, of which four in five have a quoted newline."""
    rows = ['1,"a\n2"\r\n', "3,é\n", '4,"\r\nb"\r', '"5"",\n",6\r\n', '7,"8\n\n"\n']
    return "".join(["id,note\r\n", *itertools.islice(itertools.cycle(rows), count)]).encode()


def test_rows_of_a_large_file_in_chunks_of_1_to_64_bytes_are_equal() -> None:
    data = make_file(100_000)
    expected = expected_rows(data.decode())
    assert len(expected) == 100_000
    file, sizes = io.BytesIO(data), list(range(1, 65))
    random.shuffle(sizes)
    chunks = list(iter(map(file.read, itertools.cycle(sizes)).__next__, b""))
    assert min(Counter(map(len, chunks)).values()) > 300, "each size occurs often"
    rows = parse(chunks)
    assert all(map(operator.eq, rows, expected))
    assert next(rows, None) is None


@pytest.mark.parametrize("size", range(1, 65))
def test_rows_of_a_file_in_chunks_of_one_size_are_equal(size: int) -> None:
    data = make_file(1000)
    assert list(parse(split(data, size))) == expected_rows(data.decode())


@pytest.mark.parametrize("size", range(1, 65))
def test_rows_with_missing_and_extra_columns_are_equal_in_chunks_of_any_size(size: int) -> None:
    text = (
        'id,note,"the\nname"\r\n1,"a\r\nb",c\r\n\r\n2\r\r3,,,x,"y\n"\n\n4,"a""\r,b",é😀\u2028\x0b'
    )
    assert len(expected_rows(text)) == 4
    for bom in (b"", BOM):
        assert list(parse(split(bom + text.encode(), size))) == expected_rows(text)


@given(
    st.text(ALPHABET, max_size=60),
    st.lists(st.integers(1, 9), min_size=1, max_size=9),
    st.booleans(),
)
@example("", [1], False)
@example("", [2], True)
@example("\r\na,b\r\n1,2", [1], False)  # the header is empty
@example("a,a\r\n1\r\n", [3], False)
@example('a\n"b', [1], True)  # a quote is not closed
@example("a\nb\r", [4], False)
@example("\ufeffa\n1", [2], True)  # a second mark belongs to the text
def test_rows_of_any_text_are_equal(text: str, sizes: list[int], has_bom: bool) -> None:
    data = BOM + text.encode() if has_bom else text.encode()
    if data.startswith(BOM):
        text = data.decode("utf-8-sig")
    file = io.BytesIO(data)
    chunks = iter(map(file.read, itertools.cycle(sizes)).__next__, b"")
    assert list(parse(chunks)) == expected_rows(text)


def test_row_is_returned_with_the_chunk_that_completes_it() -> None:
    parser = CsvParser()
    chunks = [b"a,b\n1", b",2\r", b'\n3,"', b'\n"', b"\n", b"4,5", b""]
    rows = [list(parser.parse(chunk)) for chunk in chunks]
    assert rows[:3] == [[], [], [{"a": "1", "b": "2"}]]
    assert rows[3:] == [[], [{"a": "3", "b": "\n"}], [], [{"a": "4", "b": "5"}]]
    assert parser.is_at_end


def test_record_of_many_lines_is_parsed_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lines_read = 0
    reader = csv.reader

    def counting_reader(lines: Iterable[str], *arguments: Any) -> Any:
        def count() -> Iterator[str]:
            nonlocal lines_read
            for line in lines:
                lines_read += 1
                yield line

        return reader(count(), *arguments)

    monkeypatch.setattr(csv, "reader", counting_reader)
    fields = ",".join(['"\n"'] * 5000)
    rows = list(parse(split(f"a\n{fields}\n".encode(), 3)))
    assert len(rows[0][None]) == 4999
    assert lines_read < 5 * 5000


def test_field_of_the_longest_size_is_accepted() -> None:
    field = "x" * LIMIT
    assert list(parse(split(f"a\n{field}\n".encode(), 4096))) == [{"a": field}]


@pytest.mark.parametrize("size", [7, 4096, 1 << 20])
def test_rows_before_a_field_that_is_too_long_are_returned(size: int) -> None:
    content = f'a\n1\n"2\n"\n{"x" * (LIMIT + 1)}\n3\n'.encode()
    rows = parse(split(content, size))
    assert [next(rows), next(rows)] == [{"a": "1"}, {"a": "2\n"}]
    with pytest.raises(ValueError, match=rf"^line 5: field larger than field limit \({LIMIT}\)$"):
        next(rows)


@pytest.mark.parametrize(
    ("start", "repeated"),
    [
        ("", b"x" * 4095 + b","),
        ("a\n", b"x" * 4095 + b","),
        ("", b'"\n",' * 1024),
        ("a\n", b'"\n",' * 1024),
        ('a\n"\n"\n', b'"\n",' * 1024),
    ],
    ids=["header", "row", "header of many lines", "row of many lines", "second row"],
)
def test_row_that_does_not_end_is_an_error(start: str, repeated: bytes) -> None:
    chunks = itertools.repeat(repeated, 1 << 14)
    line = start.count("\n") + 1
    with pytest.raises(ValueError, match=rf"^line {line}: the row is too long$"):
        list(parse(itertools.chain([start.encode()], chunks)))
    assert sum(map(len, chunks)) > 60 << 20, "the rest of the file has not been read"


@pytest.mark.parametrize("size", [1000, 4096, 1 << 18, 1 << 22])
@pytest.mark.parametrize("end", ["\n", ""], ids=["line end", "no line end"])
@pytest.mark.parametrize("field", ["x" * 99, '"' + "\n" * 97 + '"'], ids=["line", "lines"])
def test_longest_size_of_a_row_is_the_same_in_chunks_of_any_size(
    field: str, end: str, size: int
) -> None:
    fields = f"{field}," * (8 * LIMIT // 100)
    longest = fields + "x" * (8 * LIMIT - len(fields) - len(end)) + end
    start = "a\n1\n\n"
    content = f"{start}{longest}"
    assert list(parse(split(content.encode(), size))) == expected_rows(content)
    rows = parse(split(f"{start}{fields}x{longest[len(fields) :]}2\n".encode(), size))
    assert next(rows) == {"a": "1"}
    with pytest.raises(ValueError, match=r"^line 4: the row is too long$"):
        next(rows)


def test_empty_lines_between_rows_have_no_limit_and_take_no_memory() -> None:
    chunks = [b"a\n1\n", *[b"\r\n" * 1024] * (5 * LIMIT // 1024), b"2\n"]
    tracemalloc.start()
    try:
        rows = list(parse(chunks))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows == [{"a": "1"}, {"a": "2"}]
    assert peak < 1 << 20


def test_quote_that_is_not_closed_ends_at_the_longest_field() -> None:
    with pytest.raises(ValueError, match="field larger than field limit"):
        list(parse(itertools.chain([b'a\n"'], itertools.repeat(b"row\n" * 100))))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("content", "offset"),
    [
        (b"a\n\xff\n", 2),
        (b"a\n\xc3(\n", 2),
        (b"a,b\n\xf0\x9f\x98", 4),
        (BOM + b"a\xe4\n", 4),
        ("a,b\n".encode("utf-16"), 0),
    ],
    ids=["byte", "sequence", "cut", "after the mark", "utf-16"],
)
def test_bytes_that_are_not_utf_8_are_an_error(content: bytes, offset: int, size: int) -> None:
    with pytest.raises(ValueError, match=rf"^the byte at offset {offset} is not valid UTF-8$"):
        list(parse(split(content, size)))


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"], ids=["unix", "mac", "windows"])
def test_rows_are_returned_before_the_end_of_the_file_with_any_line_end(end: str) -> None:
    chunk = end.join(["a", "1", "2", "3"]).encode()
    assert list(CsvParser().parse(chunk)) == [{"a": "1"}, {"a": "2"}]
