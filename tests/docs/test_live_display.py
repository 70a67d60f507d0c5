"""The picture of the live table shows what a terminal shows."""

import re

from .live_display import PICTURE, lines_of, make_picture

STATUSES = re.compile(r" (pending|started|success|failed) .*")


def shape(svg: str) -> list[str]:
    """Return the lines of a picture without the numbers, and without what depends on the moment."""
    return [re.sub(r"\d+\.\d", "N", STATUSES.sub("", line)) for line in lines_of(svg)]


def test_picture_of_the_live_table_is_that_of_a_terminal() -> None:
    committed, made = PICTURE.read_text(encoding="utf-8"), make_picture()
    assert shape(committed) == shape(made), "run: python -m tests.docs.live_display"
    assert len(shape(made)) == 8
    for svg in (committed, made):
        text = "\n".join(lines_of(svg))
        assert re.search(r"order-export-01 success \d", text)
        assert re.search(r"order-export-02 failed .* No results matched the supplied filter", text)
        assert re.search(r"order-export-05 pending .* in the queue", text)
    assert "in the queue, done in about" in "\n".join(lines_of(committed))
    assert "http://" not in committed.replace("http://www.w3.org/2000/svg", "")
