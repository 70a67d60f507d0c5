"""The examples that test an application of a web framework."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.examples import blocks, named_block

PAGE = "docs/testing-your-code.md"


def needs(package: str) -> pytest.MarkDecorator:
    reason = f"{package} is not installed"
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=reason)


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        pytest.param("test_fastapi.py", 1, marks=needs("fastapi")),
        pytest.param("test_django.py", 2, marks=needs("django")),
    ],
)
def test_example_of_framework_passes(name: str, passed: int, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(blocks(PAGE, "ini")[0])
    for block in ("conftest.py", name):
        (tmp_path / block).write_text(named_block(PAGE, block))
    run = subprocess.run(  # noqa: S603 (a page of ours)
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{passed} passed" in run.stdout, run.stdout + run.stderr
