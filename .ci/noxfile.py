"""The checks of this repository. List them with ``.venv/bin/nox -f .ci/noxfile.py --list``."""

import os
import random
import re
import shlex
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent.parent
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
OWN_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
RANDOM_RUNS = 30
# Another event loop changes nothing for pure functions, and the command line makes its own.
WITHOUT_OTHER_LOOPS = [f"--ignore=tests/{part}" for part in ("api", "cli", "docs", "simulation")]
# The README's command runs them. They do not test the interpreter or the dependencies.
RUN_ONCE = ["--ignore=tests/docs", "--ignore=tests/simulation", "--ignore=tests/test_openapi.py"]

SIMULATED_WORLDS = [
    ["0-100"],
    ["100-140", "--on", "eager"],
    ["140-160", "--on", "debug"],
    ["160-180", "--on", "sockets"],
    ["180-200", "--on", "uvloop"],
]
# The modules of each part, and the tests that are quick enough to run for each mutant.
MUTATION = {
    "api": [
        "_api/*.py",
        "tests/api",
        "tests/test_auth.py",
        "tests/test_job_requests.py",
        "tests/test_problems.py",
    ],
    "kinds": ["kinds.py", "tests/test_kinds.py"],
    "queueing": ["queueing.py", "tests/test_queueing.py"],
    "tasks": ["_tasks/*.py", "tests/tasks"],
    "auth": ["auth.py", "tests/test_auth.py", "tests/test_session.py::TestFromEnv"],
    "polling": [
        "_polling/*.py",
        "tests/polling",
        "tests/test_as_completed.py",
        "tests/test_exports.py",
        "tests/test_observability.py",
        "tests/test_problems.py",
        "tests/test_queue.py",
        "tests/test_session.py::TestOverload",
        "--ignore=tests/polling/test_endurance.py",
    ],
    "http": [
        "_http/*.py",
        "tests/http",
        "tests/test_auth.py",
        "tests/test_job_requests.py",
        "tests/test_observability.py::TestLog",
        "tests/test_queue.py::TestGetQueue",
        "tests/test_secrets.py",
        "tests/test_session.py::TestClose",
        "tests/test_session.py::TestGetJob",
        "tests/test_session.py::TestStats",
        "tests/test_session.py::TestWaitForJob",
    ],
}

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # nox prints which sessions it skips

PYENV_VERSIONS = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
PYENV_PATHS = [str(path) for python in PYTHONS for path in PYENV_VERSIONS.glob(f"{python}.*/bin")]
os.environ["PATH"] = os.pathsep.join([*PYENV_PATHS, os.environ["PATH"]])

OTHER_PYTHONS = [python for python in PYTHONS if python != OWN_PYTHON]
INSTALLED = [python for python in OTHER_PYTHONS if shutil.which(f"python{python}")]


@nox.session(python=max(INSTALLED or OTHER_PYTHONS))
def tests(session: nox.Session) -> None:
    """Run the suite on the newest other Python. The README's command has run it on this one.

    ``--force-python 3.12`` selects another.
    """
    install(session, "-e", ".[test]")
    run_suite(session, *RUN_ONCE)


@nox.session(python="3.12", default=False)
def debug(session: nox.Session) -> None:
    """Run the suite in the debug mode of asyncio, which takes twice as long."""
    install(session, "-e", ".[test]")
    run_suite(session, "-o", "asyncio_debug=true")


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """Run the suite on the oldest dependencies that pyproject.toml allows."""
    constraints = Path(session.create_tmp()).resolve() / "constraints.txt"
    constraints.write_text("\n".join(lower_bounds()))
    install(session, "-e", ".[test]", "-c", str(constraints))
    run_suite(session, *RUN_ONCE)


@nox.session(python="3.12", default=False)
def eager(session: nox.Session) -> None:
    """Run the suite with asyncio.eager_task_factory. The tests of tasks always use it too."""
    install(session, "-e", ".[test]")
    run_suite(session, "--event-loop=eager", *WITHOUT_OTHER_LOOPS)


@nox.session(python=OWN_PYTHON)
def uvloop(session: nox.Session) -> None:
    """Run the tests that need no virtual clock on uvloop."""
    install(session, "-e", ".[test]", "uvloop")
    run_suite(
        session, "--event-loop=uvloop", "-m", "not fleet and not looptime", *WITHOUT_OTHER_LOOPS
    )


@nox.session(python="3.13")
def simulation(session: nox.Session) -> None:
    """Run 200 simulated worlds on all event loops, or what is asked for: ``-- 0-20000``."""
    install(session, "-e", ".[test]", "uvloop")
    for worlds in [session.posargs] if session.posargs else SIMULATED_WORLDS:
        session.run("python", "-m", "tests.simulation", *worlds)


@nox.session(python=OWN_PYTHON, default=False)
def fleet(session: nox.Session) -> None:
    """Run the tests that start several processes and measure rates."""
    install(session, "-e", ".[test]")
    session.run("pytest", "-q", "-m", "fleet", *session.posargs)


@nox.session(python="3.12", default=False)
def airflow(session: nox.Session) -> None:
    """Run the example for Airflow, with all of its processes, for about five minutes."""
    run_example(session, "airflow", "apache-airflow~=3.3")


@nox.session(python="3.12", default=False)
def celery(session: nox.Session) -> None:
    """Run the example for Celery."""
    run_example(session, "celery", "celery~=5.7")


@nox.session(python="3.12", default=False)
def prefect(session: nox.Session) -> None:
    """Run the example for Prefect, with its temporary server."""
    run_example(session, "prefect", "prefect~=3.9")


@nox.session(python=OWN_PYTHON)
def lint(session: nox.Session) -> None:
    """Check style, imports, vocabulary and size."""
    install(session, "ruff", "import-linter")
    session.run("ruff", "check", "--output-format=concise")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-cache")
    session.run("python", ".ci/check_vocabulary.py")
    session.run("python", ".ci/check_size.py")


@nox.session(python=OWN_PYTHON)
def types(session: nox.Session) -> None:
    """Check types: mypy checks everything, pyright what users rely on."""
    install(session, "-e", ".[dev]")
    session.run("mypy")
    session.run("pyright", "--project=pyproject.toml", f"--pythonpath={session.bin}/python")


@nox.session(python="3.13")
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    install(session, "-e", ".[docs,cli,redis,testing]")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "docs", "docs/_build/html")


@nox.session(python=OWN_PYTHON)
def build(session: nox.Session) -> None:
    """Build the distributions into dist/ and check them."""
    install(session, "build[uv]", "twine")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--installer=uv", silent=True)
    distributions = [str(path) for path in Path("dist").iterdir()]
    session.run("twine", "check", "--strict", *distributions)
    (wheel,) = Path("dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    foreign = [n for n in names if not re.match(r"moltin_jobs(-[\d.]+\.dist-info)?/", n)]
    if foreign:
        session.error(f"{wheel} contains files that are not of the package: {foreign}")


@nox.session(python=OWN_PYTHON, default=False)
def taste(session: nox.Session) -> None:
    """Run the README's commands with uvx and pipx, which install the package for one run."""
    # Both tools would keep what they built from an earlier state of the checkout.
    environment = {"UV_NO_CACHE": "1", "PIPX_HOME": str(Path(session.create_tmp()).resolve())}
    install(session, "uv", "pipx")
    commands = re.findall(r"`((?:uvx|pipx) .+?)`", (ROOT / "README.md").read_text("utf-8"))
    if len(commands) < 2:
        session.error("README.md has no command with uvx or none with pipx")
    for command in commands:
        session.run(*shlex.split(command), env=environment)


@nox.session(name="random", python=OWN_PYTHON, default=False)
def random_order(session: nox.Session) -> None:
    """Run the suite in random order, once for each seed: ``-- 7 8 9``, or 30 random seeds."""
    install(session, "-e", ".[test]")
    seeds = session.posargs or random.sample(range(2**32), RANDOM_RUNS)
    failed = []
    for seed in seeds:
        try:
            session.run("pytest", "-q", "-n2", f"--randomly-seed={seed}")
        except nox.command.CommandFailed:
            failed.append(seed)
    if failed:
        session.error(f"the suite failed with the seeds {failed}")


@nox.session(python=OWN_PYTHON, default=False)
@nox.parametrize("part", [*MUTATION], ids=[*MUTATION])
def mutation(session: nox.Session, part: str) -> None:
    """Change the code in each possible way, and list the changes that the tests do not notice.

    ``-s "mutation(api)"`` selects one part. .ci/mutants.md explains what survives.
    """
    copy = Path(session.create_tmp()).resolve() / part
    install(session, "-e", ".[test]", "mutmut>=3.8.1,<4")
    ignored = shutil.ignore_patterns(".*", "mutants", "dist")
    shutil.copytree(ROOT, copy, ignore=ignored, dirs_exist_ok=True)
    modules, *selection = MUTATION[part]
    settings = {
        "only_mutate": [f"moltin_jobs/{modules}"],
        "pytest_add_cli_args_test_selection": selection,
    }
    lines = [f"\n{name} = {value}" for name, value in settings.items()]
    project = copy / "pyproject.toml"
    table = "[tool.mutmut]"
    project.write_text(project.read_text().replace(table, table + "".join(lines), 1))
    session.chdir(copy)
    session.run("mutmut", "run", "--max-children=1", *session.posargs)
    session.run("mutmut", "results")


def install(session: nox.Session, *requirements: str) -> None:
    """Install requirements; then and later, run commands in the root of the repository."""
    session.chdir(ROOT)
    session.install("-q", *requirements)


def run_suite(session: nox.Session, *options: str) -> None:
    """Run the tests on two cores."""
    session.run("pytest", "-q", "-n2", *options, *session.posargs)


def run_example(session: nox.Session, name: str, requirement: str) -> None:
    """Run an example of docs/examples in an environment of its own, since it needs much."""
    install(session, "-e", ".[test]", requirement)
    session.run("pytest", "-q", f"tests/pipelines/test_{name}.py", *session.posargs)


def lower_bounds() -> list[str]:
    """Return the lower bounds of the dependencies and extras, as constraints."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    requirements = project["dependencies"] + extras["cli"] + extras["redis"] + extras["testing"]
    return [re.sub(r"\[.*?\]|,.*", "", line).replace(">=", "==") for line in requirements]
