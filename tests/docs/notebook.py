"""Makes the notebook of docs/notebooks.md: ``python -m tests.docs.notebook``."""

import re
from typing import Any

import nbformat
from nbformat import v4

from .examples import ROOT, read_page

PAGE = "docs/notebooks.md"
NOTEBOOK = ROOT / "docs" / "_static" / "orders.ipynb"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[([^]]+)\]\([^)]+\)")
DOWNLOAD = re.compile(r" This page is also a notebook: \{download\}`[^`]+`\.")


def make_notebook() -> Any:
    """Return a notebook with the text, the code and the outputs of the page."""
    page = DOWNLOAD.sub("", read_page(PAGE))
    cells: list[Any] = []
    end = 0
    for match in BLOCK.finditer(page):
        _add_markdown(cells, page[end : match.start()])
        end = match.end()
        language, text = match.groups()
        if language == "python":
            cells.append(v4.new_code_cell(text.removesuffix("\n")))
        else:
            cells[-1].outputs = [v4.new_output("stream", name="stdout", text=text)]
    _add_markdown(cells, page[end:])
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _add_markdown(cells: list[Any], text: str) -> None:
    if text.strip():
        cells.append(v4.new_markdown_cell(LINK.sub(r"\1", text.strip())))


def notebook_text() -> str:
    """Return the content of the file."""
    return f"{nbformat.writes(make_notebook())}\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook_text(), encoding="utf-8")
