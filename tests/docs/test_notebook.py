"""The notebook is made of its page, and runs in a kernel of Jupyter."""

import doctest
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from moltin_jobs.testing import Simulator

from .examples import add_jobs
from .notebook import NOTEBOOK, notebook_text


def test_notebook_is_up_to_date() -> None:
    assert NOTEBOOK.read_text(encoding="utf-8") == notebook_text(), (
        "run: python -m tests.docs.notebook"
    )


@pytest.mark.usefixtures("moltin_environment")
def test_notebook_prints_what_it_shows(moltin_simulator: Simulator) -> None:
    add_jobs(moltin_simulator, virtual_time=False)
    expected = nbformat.read(NOTEBOOK, as_version=4)
    executed = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(executed, timeout=60, kernel_name="python3").execute()
    is_like = doctest.OutputChecker().check_output
    for before, after in zip(expected.cells, executed.cells, strict=True):
        assert is_like(printed(before), printed(after), doctest.ELLIPSIS), after
    codes = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in codes] == list(range(1, len(codes) + 1))


def printed(cell: Any) -> str:
    return "".join(output.text for output in cell.get("outputs", [])).strip() + "\n"
