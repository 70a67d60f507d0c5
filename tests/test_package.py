"""Test what the package exports and imports, and the workflows that publish it."""

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import moltin_jobs
import moltin_jobs.errors

PACKAGE = Path(inspect.getfile(moltin_jobs)).parent
ROOT = PACKAGE.parent
EXPORTED = [getattr(moltin_jobs, name) for name in moltin_jobs.__all__]
DOCUMENTED = [thing for thing in EXPORTED if inspect.isclass(thing) or inspect.isfunction(thing)]
WORKFLOWS = ["ci.yml", "release.yml"]


def workflow(name: str) -> str:
    return (ROOT / ".github" / "workflows" / name).read_text("utf-8")


def test_star_import_gives_the_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from moltin_jobs import *", namespace)  # noqa: S102 (not allowed within a function)
    assert set(namespace) - {"__builtins__"} == set(moltin_jobs.__all__)


@pytest.mark.parametrize("thing", DOCUMENTED, ids=lambda thing: thing.__name__)
def test_public_class_or_function_has_a_docstring(thing: object) -> None:
    assert inspect.getdoc(thing)


def test_every_error_is_public() -> None:
    names = {name for name, _ in inspect.getmembers(moltin_jobs.errors, inspect.isclass)}
    assert {name for name in names if name.endswith("Error")} <= set(moltin_jobs.__all__)


def test_package_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_import_of_the_package_leaves_the_extras_out() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import sys, moltin_jobs; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(run.stdout.split())
    assert "moltin_jobs" in imported
    assert imported & {"click", "rich", "pytest", "throttled", "aiohttp.test_utils"} == set()
    extras = {"moltin_jobs.cli", "moltin_jobs.testing", "moltin_jobs.redis_limiter"}
    assert imported & extras == set()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_pins_each_action_to_a_commit(name: str) -> None:
    actions = re.findall(r"uses: (.*)", workflow(name))
    assert actions
    for action in actions:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_installs_every_supported_python(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    supported = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    installed = re.findall(r"^ +(3\.\d+)$", workflow(name), re.MULTILINE)
    assert sorted(installed) == supported


def test_import_needs_no_metadata_of_the_distribution() -> None:
    code = (
        "import importlib.metadata as metadata\n"
        "distribution = metadata.distribution\n"
        "def missing(name):\n"
        "    if name.replace('_', '-').lower() == 'moltin-jobs':\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return distribution(name)\n"
        "metadata.distribution = missing\n"
        "import moltin_jobs, moltin_jobs.testing, moltin_jobs.cli.commands\n"
        "print(moltin_jobs.__version__)"
    )
    finished = subprocess.run(  # noqa: S603 (written above)
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert finished.stdout == f"{moltin_jobs.__version__}\n"
