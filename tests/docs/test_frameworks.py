"""The examples that test an application of a web framework."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.examples import blocks, named_block

PAGE = "docs/testing-your-code.md"
FASTAPI_PAGE = "docs/fastapi.md"


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
    (tmp_path / name).write_text(named_block(PAGE, name))
    run_pytest(tmp_path, name, passed)


@needs("fastapi")
@needs("httpx2")
def test_tests_of_fastapi_guide_pass(tmp_path: Path) -> None:
    for name in ("exports_fastapi.py", "test_exports_fastapi.py"):
        (tmp_path / name).write_text(named_block(FASTAPI_PAGE, name))
    run_pytest(tmp_path, "test_exports_fastapi.py", 3)


def run_pytest(directory: Path, name: str, passed: int) -> None:
    """Run a module with the set-up of the page, and check how many tests pass."""
    (directory / "pytest.ini").write_text(blocks(PAGE, "ini")[0])
    (directory / "conftest.py").write_text(named_block(PAGE, "conftest.py"))
    run = subprocess.run(  # noqa: S603 (a page of ours)
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{passed} passed" in run.stdout, run.stdout + run.stderr
