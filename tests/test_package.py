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
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))

# A module imports only from those above it.
CLIENT = [
    "models",
    "errors",
    "checks",
    "schedule",
    "decoding",
    "scope",
    "pacing",
    "auth",
    "transport",
    "calls",
    "files",
    "sharing",
    "waiting",
    "session",
]
MAY_IMPORT = {name: set(CLIENT[:place]) for place, name in enumerate(CLIENT)} | {
    "__init__": set(CLIENT),
    "simulator": {"models"},
    "testing": {"session", "simulator"},
    "redis_limiter": {"checks", "errors"},
    "board": {"errors", "models", "session"},
    "demo": {*CLIENT, "board", "simulator"},
    "cli": {*CLIENT, "board", "demo"},
    "__main__": {"cli"},
}


class Imports(ast.NodeVisitor):
    """The modules that a module imports, wherever in it; those for hints alone if asked for."""

    def __init__(self, name: str, *, hints: bool) -> None:
        self.hints = hints
        self.found: set[str] = set()
        self.visit(ast.parse((PACKAGE / f"{name}.py").read_text("utf-8")))

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) == "TYPE_CHECKING" and not self.hints:
            for other in node.orelse:
                self.visit(other)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        parts = (["moltin_jobs"] if node.level else []) + ([node.module] if node.module else [])
        origin = ".".join(parts)
        self.found |= (
            {origin}
            if origin != "moltin_jobs"
            else {f"{origin}.{alias.name}" for alias in node.names}
        )

    @property
    def siblings(self) -> set[str]:
        """Of this package, by their short names."""
        return {
            name.partition(".")[2] or "__init__"
            for name in self.found
            if name.partition(".")[0] == "moltin_jobs"
        }

    @property
    def others(self) -> set[str]:
        """Top-level packages."""
        return {name.partition(".")[0] for name in self.found} - {"moltin_jobs"}


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


class TestImports:
    def test_they_are_read_aright(self) -> None:
        hints = Imports("session", hints=True).found - Imports("session", hints=False).found
        assert hints == {"aiohttp"}
        assert Imports("decoding", hints=False).siblings == {"errors", "models", "schedule"}
        assert Imports("__main__", hints=False).siblings == {"cli"}  # inside a function

    def test_every_module_has_its_place(self) -> None:
        assert set(CLIENT) | {"__init__"} <= set(MODULES) <= set(MAY_IMPORT)

    @pytest.mark.parametrize("name", MODULES)
    def test_a_module_imports_only_from_those_above_it(self, name: str) -> None:
        assert Imports(name, hints=True).siblings - MAY_IMPORT[name] == set()

    @pytest.mark.parametrize(
        ("package", "users"),
        [
            ("aiohttp", ["transport"]),
            ("yarl", ["transport"]),
            ("backoff", ["schedule"]),
            ("cattrs", ["decoding"]),
            ("click", []),
            ("rich", []),
            ("pytest", []),
            ("throttled", []),
        ],
    )
    def test_a_package_has_its_one_user_in_the_client(self, package: str, users: list[str]) -> None:
        found = [name for name in CLIENT if package in Imports(name, hints=False).others]
        assert found == users

    def test_cattrs_has_its_one_user_in_all(self) -> None:
        found = [name for name in MODULES if "cattrs" in Imports(name, hints=True).others]
        assert found == ["decoding"]

    @pytest.mark.parametrize("name", ["models", "errors", "checks", "schedule", "decoding"])
    def test_what_is_pure_knows_no_loop_no_clock_and_no_chance(self, name: str) -> None:
        impure = {"asyncio", "time", "random", "socket", "threading", "logging", "os"}
        assert Imports(name, hints=False).others & impure == set()

    def test_importing_the_library_brings_no_command_line_nor_simulator(self) -> None:
        run = subprocess.run(
            [sys.executable, "-c", "import sys, moltin_jobs; print(*sys.modules)"],
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = set(run.stdout.split())
        assert {f"moltin_jobs.{name}" for name in CLIENT} <= loaded
        assert loaded & {"click", "rich", "pytest", "throttled", "aiohttp.test_utils"} == set()
        assert {name for name in loaded if name.startswith("moltin_jobs.")} == {
            f"moltin_jobs.{name}" for name in CLIENT
        }
