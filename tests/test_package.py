"""What the package offers, and which of its modules may import what."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import moltin_jobs

PACKAGE = Path(inspect.getfile(moltin_jobs)).parent


class TestPublicNames:
    def test_they_are_these(self) -> None:
        assert moltin_jobs.__all__ == [
            "APIError",
            "AuthenticationError",
            "ClientCredentials",
            "ConfigurationError",
            "InvalidJobIdError",
            "InvalidResponseError",
            "Job",
            "JobCancelledError",
            "JobFailedError",
            "JobNotFoundError",
            "JobState",
            "JobTimeoutError",
            "JobsSession",
            "Limiter",
            "MoltinJobsError",
            "PermissionDeniedError",
            "Polling",
            "RateLimitError",
            "Retry",
            "ServerError",
            "TransportError",
            "wait_for_job",
        ]

    @pytest.mark.parametrize("name", moltin_jobs.__all__)
    def test_each_can_be_imported_and_is_documented(self, name: str) -> None:
        thing = getattr(moltin_jobs, name)
        assert thing.__name__ == name
        assert thing.__module__.startswith("moltin_jobs.")
        assert inspect.getdoc(thing)

    def test_a_star_brings_these_and_no_more(self) -> None:
        space: dict[str, object] = {}
        exec("from moltin_jobs import *", space)  # noqa: S102 (a star is not allowed in here)
        assert set(space) - {"__builtins__"} == set(moltin_jobs.__all__)

    def test_every_error_is_public(self) -> None:
        errors = importlib.import_module("moltin_jobs.errors")
        classes = {name for name, thing in vars(errors).items() if inspect.isclass(thing)}
        assert {name for name in classes if name.endswith("Error")} <= set(moltin_jobs.__all__)

    def test_init_holds_imports_and_all_and_nothing_else(self) -> None:
        source = (PACKAGE / "__init__.py").read_text("utf-8")
        docstring, *imports, names = ast.parse(source).body
        assert isinstance(docstring, ast.Expr)
        assert isinstance(docstring.value, ast.Constant)
        assert isinstance(docstring.value.value, str)
        assert {type(node) for node in imports} == {ast.ImportFrom}
        assert isinstance(names, ast.Assign)
        assert [ast.unparse(target) for target in names.targets] == ["__all__"]
        assert ast.literal_eval(names.value) == moltin_jobs.__all__
        imported = {
            alias.asname or alias.name
            for node in imports
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert imported == set(moltin_jobs.__all__)

    def test_it_says_that_it_is_typed(self) -> None:
        assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_a_workflow_pins_what_it_uses(name: str) -> None:
    text = (PACKAGE.parent / ".github" / "workflows" / name).read_text("utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one) for one in used)


def test_importing_the_library_brings_no_command_line_nor_simulator() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import sys, moltin_jobs; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(run.stdout.split())
    assert loaded & {"click", "rich", "pytest", "throttled", "aiohttp.test_utils"} == set()
    assert loaded & {"moltin_jobs.cli", "moltin_jobs.testing", "moltin_jobs.redis_limiter"} == set()
