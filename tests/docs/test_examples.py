"""The examples of README.md and docs/ run, and print what the page shows."""

import ast
import re
from codeop import CommandCompiler
from pathlib import Path

import pytest

from tests.docs.examples import PAGES, ROOT, PageRunner, block_name, blocks, read_page

REQUIREMENTS = [
    (page, library)
    for page in PAGES
    for library in re.findall(
        r"^<!-- requires (\w+) -->\n```python$", read_page(page), re.MULTILINE
    )
]
LANGUAGES = {"bash", "python", "console", "text", "ini", "sh", "javascript"}
README_COMMANDS = {
    "python3 -m venv .venv && .venv/bin/pip install -q '.[cli]' && .venv/bin/moltin-jobs demo",
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' && .venv/bin/pytest -q",
}


@pytest.mark.parametrize("page", PAGES)
def test_examples_of_page_print_what_it_shows(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PageRunner(page, tmp_path, monkeypatch).run()


@pytest.mark.parametrize(("page", "library"), REQUIREMENTS)
def test_examples_that_require_a_library_print_what_the_page_shows(
    page: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed")
    PageRunner(page, tmp_path, monkeypatch, library).run()


@pytest.mark.parametrize("page", PAGES)
def test_fenced_blocks_have_a_known_language(page: str) -> None:
    opening = re.findall(r"^ *```(.*)\n(?:.*\n)*? *```$", read_page(page), re.MULTILINE)
    unknown = {language for language in opening if language not in LANGUAGES}
    assert {language for language in unknown if not language.startswith("{")} == set()


@pytest.mark.parametrize("page", PAGES)
def test_sh_blocks_only_install_or_are_commands_of_the_readme(page: str) -> None:
    commands = {line for block in blocks(page, "sh") for line in block.splitlines()}
    installs = {line for line in commands if re.match(r"(\S*/)?pip install ", line)}
    assert commands - installs <= README_COMMANDS


def test_readme_shows_its_two_commands() -> None:
    assert set(read_page("README.md").splitlines()) >= README_COMMANDS


@pytest.mark.parametrize("page", PAGES)
def test_saved_blocks_are_used_by_a_console_block_or_a_test(page: str) -> None:
    console = "".join(blocks(page, "console"))
    pattern = r"^(?:<!-- tested by (\S+) -->\n)?```(?:python|ini)\n(# .*)"
    for test, first_line in re.findall(pattern, read_page(page), re.MULTILINE):
        name = block_name(first_line)
        if name is None or name in ("pytest.ini", "conftest.py"):
            continue
        if test:
            assert f'"{name}"' in (ROOT / test).read_text(encoding="utf-8"), f"{test}: no {name}"
        else:
            assert name in console or "pytest" in console, f"{page}: nothing runs {name}"


FRAGMENTS = [
    (page, block)
    for page in PAGES
    for block in blocks(page, "python")
    if not re.search(r"^# \w+\.py|asyncio\.run\(|^class ", block, re.MULTILINE)
]


@pytest.mark.parametrize(("page", "block"), FRAGMENTS)
def test_example_can_be_pasted_into_the_repl(page: str, block: str) -> None:
    compile_command = CommandCompiler()
    compile_command.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    statement = ""
    for line in [*block.splitlines(), ""]:
        statement += f"{line}\n"
        if compile_command(statement.removesuffix("\n"), page, "single"):
            statement = ""
    assert statement == ""


def test_readme_has_at_most_250_lines() -> None:
    assert len(read_page("README.md").splitlines()) <= 250


def test_links_of_the_readme_lead_to_files_and_headings() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", read_page("README.md")):
        path, _, anchor = target.partition("#")
        assert (ROOT / path).is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", read_page(path or "README.md"), re.MULTILINE)
            assert anchor in {heading_anchor(heading) for heading in headings}, target


def heading_anchor(heading: str) -> str:
    """Return the anchor that GitHub and MyST make of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
