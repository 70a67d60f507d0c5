"""Run the examples of README.md and docs/ beside a simulated store, and compare their output.

The language of a block decides what happens to it:

* ``python``: the block runs in a namespace that all blocks of its page share. A block with a
  top-level ``await`` also finds an open ``session`` there. All waits run on a virtual clock. Each
  block has a new store. It has the jobs that are in the namespace, which have succeeded.
  A block below a comment ``<!-- requires NAME -->`` is left out, with the output below it, unless
  the runner is told to run those that need this library.
* ``text``: the output of the block before it. ``...`` matches any text. A block that prints
  without such a block behind it fails, and a ``text`` block below an HTML comment is ignored.
* ``console``: a transcript of bash, in real time. Lines that start with ``$`` are commands. A line
  ``^C`` sends SIGINT once the output before it has appeared.
* a ``python``, ``ini`` or ``bash`` block whose first line is ``# NAME.py``, ``# NAME.ini``,
  ``# NAME.service`` or ``# NAME.sh`` is saved under that name for the ``console`` blocks of its
  page. A comment above it may name the module that tests it.
"""

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any, TypeVar

import looptime
import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from moltin_jobs import Job, JobsSession
from moltin_jobs.cli.demo import JOBS_OF_OTHER_KINDS, NO_RESULTS
from moltin_jobs.testing.simulator import Simulator

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md")))
FILE_NAME = re.compile(r"# ([\w-]+\.(?:py|ini|service|sh))\b")
REQUIREMENT = re.compile(r"<!-- requires (\w+) -->\n\Z")
COMMAND_SECONDS = 60.0

_JOB_SECONDS = (2.1, 3.6, 2.7, 2.4, 3.9, 3.0, 2.7, 2.4, 3.3, 2.7, 3.0, 2.4)
_FAILING_JOB = 5
_CHECKER = doctest.OutputChecker()


def read_page(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of one language on a page, in order."""
    pattern = rf"^```{re.escape(language)}\n(.*?)^```"
    return re.findall(pattern, read_page(page), re.DOTALL | re.MULTILINE)


def named_block(page: str, name: str) -> str:
    """Return the block whose first line is ``# name``."""
    found = [block for block in blocks(page, "python") if block_name(block) == name]
    assert len(found) == 1, f"{page} has {len(found)} blocks that start with '# {name}'"
    return found[0]


def run_block(page: str, name: str, module: str = "__main__") -> dict[str, Any]:
    """Run a named block and return its namespace."""
    namespace: dict[str, Any] = {"__name__": module}
    exec(compile(named_block(page, name), f"{page}, {name}", "exec"), namespace)  # noqa: S102
    return namespace


def block_name(block: str) -> str | None:
    """Return the file name in the first line of a block."""
    match = FILE_NAME.match(block)
    return match and match[1]


def add_jobs(simulator: Simulator, *, virtual_time: bool) -> None:
    """Add the jobs of ``moltin-jobs serve``: twelve, run one after the other, the fifth fails.

    Real time would make the output depend on the machine. There, each job ends at its second poll.
    The jobs of other kinds follow.
    """
    for number, seconds in enumerate(_JOB_SECONDS, start=1):
        error = NO_RESULTS if number == _FAILING_JOB else None
        job_id = f"order-export-{number:02}"
        if virtual_time:
            simulator.add_job(job_id, duration=seconds, error=error)
        else:
            statuses = ["started", "failed" if error else "success"]
            simulator.add_job(job_id, statuses, error=error)
    for job in JOBS_OF_OTHER_KINDS:
        simulator.add_job(**job)


def run_beside_store(
    main: Coroutine[Any, Any, T],
    monkeypatch: pytest.MonkeyPatch,
    *,
    more_jobs: Iterable[str] = (),
    seed: int = 0,
    simulators: list[Simulator] | None = None,
) -> T:
    """Run a coroutine and a simulated store on one virtual clock.

    Args:
        main: the coroutine.
        monkeypatch: sets the environment variables that point at the store.
        more_jobs: ids of jobs that have succeeded, added to those of `add_jobs`.
        seed: that of the simulator.
        simulators: a list that receives the simulator.
    """

    async def beside() -> T:
        async with Simulator(rate_limit=100, seed=seed) as simulator:
            add_jobs(simulator, virtual_time=True)
            for job_id in more_jobs:
                simulator.add_job(job_id, ["success"])
            for name, value in simulator.environment.items():
                monkeypatch.setenv(name, value)
            if simulators is not None:
                simulators.append(simulator)
            return await main

    # Not asyncio.Runner: it gives the executor's threads 300 s, which pass at once here.
    loop = looptime.new_event_loop()
    try:
        return loop.run_until_complete(beside())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class PageRunner:
    """Runs the blocks of one page in order, those that require ``library`` included."""

    def __init__(
        self,
        page: str,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        library: str | None = None,
    ) -> None:
        self._page = page
        self._library = library
        self._is_left_out = False
        self._directory = directory
        self._monkeypatch = monkeypatch
        self._printed = ""
        self._printed_by = ""
        self._sybil = Sybil(
            [
                CodeBlockParser("python", self._run_python),
                CodeBlockParser("ini", self._save),
                CodeBlockParser("bash", self._save),
                CodeBlockParser("text", self._compare_printed),
                CodeBlockParser("console", self._run_console),
            ]
        )

    def run(self) -> None:
        """Run all blocks.

        Raises:
            SybilFailure: the output differs from what the page shows.
        """
        self._monkeypatch.chdir(self._directory)
        self._monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        for name in ("API_BASE_URL", "CLIENT_ID", "CLIENT_SECRET"):
            self._monkeypatch.setenv(f"EPCC_{name}", "http://127.0.0.1:8000")
        document = self._sybil.parse(ROOT / self._page)
        document.namespace["__name__"] = "__main__"
        with _logging_restored():
            for example in document.examples():
                example.evaluate()
        self._check_nothing_printed()

    def _save(self, example: Example) -> None:
        name = block_name(example.parsed)
        assert name is not None, f"{self._location(example)}: the block has no file name"
        (self._directory / name).write_text(example.parsed, encoding="utf-8")

    def _run_python(self, example: Example) -> None:
        self._check_nothing_printed()
        required = REQUIREMENT.search(example.document.text[: example.region.start])
        self._is_left_out = required is not None and required[1] != self._library
        if self._is_left_out:
            return
        if block_name(example.parsed):
            self._save(example)
            return
        code = self._compile(example)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            if code.co_flags & inspect.CO_COROUTINE:
                run_beside_store(
                    self._run_fragment(code, example.namespace),
                    self._monkeypatch,
                    more_jobs=_created_jobs(example.namespace),
                    seed=example.line,  # a job that is created must not get the id of another one
                )
            else:
                with self._monkeypatch.context() as patch:
                    patch.setattr(asyncio, "run", lambda main: run_beside_store(main, patch))
                    exec(code, example.namespace)  # noqa: S102
        self._printed = printed.getvalue()
        self._printed_by = self._location(example)

    def _compile(self, example: Example) -> CodeType:
        padding = "\n" * (example.line + example.parsed.line_offset)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        source = padding + example.parsed
        code: CodeType = compile(source, example.path, "exec", flags, dont_inherit=True)
        return code

    async def _run_fragment(self, code: CodeType, namespace: dict[str, Any]) -> None:
        async with JobsSession.from_env() as session:
            namespace["session"] = session
            await eval(code, namespace)  # noqa: S307
            await namespace["session"].close()

    def _compare_printed(self, example: Example) -> str | None:
        if _follows_comment(example) or self._is_left_out:
            return None
        printed, self._printed = self._printed, ""
        return _difference(example.parsed, printed)

    def _check_nothing_printed(self) -> None:
        assert not self._printed, f"{self._printed_by}: the page does not show:\n{self._printed}"

    def _run_console(self, example: Example) -> str | None:
        self._check_nothing_printed()
        lines = example.parsed.splitlines(keepends=True)
        script = "".join(line[2:] for line in lines if line.startswith(("$ ", "> ")))
        expected_lines = [line for line in lines if not line.startswith(("$ ", "> "))]
        expected = "".join(line for line in expected_lines if line != "^C\n")
        with Simulator.in_thread(rate_limit=None, creation_seconds=0.2) as simulator:
            add_jobs(simulator, virtual_time=False)
            process = self._start(script, simulator)
            if "^C\n" in expected_lines:
                output = _interrupt_after(process, expected_lines.index("^C\n"))
            else:
                output, _ = process.communicate(timeout=COMMAND_SECONDS)
        return _difference(expected, output)

    def _start(self, script: str, simulator: Simulator) -> subprocess.Popen[str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
        }
        return subprocess.Popen(  # noqa: S603
            ["bash", "-c", script],  # noqa: S607
            cwd=self._directory,
            env=inherited | simulator.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )

    def _location(self, example: Example) -> str:
        return f"{self._page}, line {example.line}"


@contextlib.contextmanager
def _logging_restored() -> Iterator[None]:
    """Undo what an example does to the logger of the package."""
    logger = logging.getLogger("moltin_jobs")
    level, handlers = logger.level, logger.handlers.copy()
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def _interrupt_after(process: subprocess.Popen[str], lines: int) -> str:
    """Read so many lines, then send SIGINT and wait for the end."""
    assert process.stdout is not None
    watchdog = threading.Timer(COMMAND_SECONDS, process.kill)
    watchdog.start()
    try:
        output = "".join(process.stdout.readline() for _ in range(lines))
        os.killpg(process.pid, signal.SIGINT)
        rest, _ = process.communicate()
    finally:
        watchdog.cancel()
    return output + rest


def _created_jobs(namespace: dict[str, Any]) -> set[str]:
    """Return the ids of the order jobs in a namespace that `add_jobs` does not add."""
    jobs = [value for value in namespace.values() if isinstance(value, Job)]
    job_ids = {job.id for job in jobs if job.kind == "order"}
    return {job_id for job_id in job_ids if not job_id.startswith("order-export-")}


def _follows_comment(example: Example) -> bool:
    return example.document.text[: example.region.start].rstrip().endswith("-->")


def _difference(expected: str, actual: str) -> str | None:
    """Return a message if a page shows something else than what was printed."""
    same = _CHECKER.check_output(_one_space(expected), _one_space(actual), doctest.ELLIPSIS)
    return None if same else f"the page shows:\n{expected}\nbut the output is:\n{actual}"


def _one_space(text: str) -> str:
    return re.sub(r"[ \t]+", " ", text)
