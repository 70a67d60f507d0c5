"""The versions in docs/compatibility.md are those of pyproject.toml."""

import re
import tomllib

from tests.docs.examples import ROOT, read_page

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = ("cli", "redis", "testing")


def describe(requirement: str) -> tuple[str, str]:
    """Return the name of a requirement, and its versions in the words of the page."""
    found = re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,<(\d+))?", requirement)
    assert found is not None, requirement
    name, lowest, too_high = found.groups()
    return name, f"{lowest} or later" + (f", below {too_high}" if too_high else "")


def test_table_of_versions_shows_the_requirements() -> None:
    section = read_page("docs/compatibility.md").partition("## The service")[0]
    rows = re.findall(r"^\| ([\w-]+) \| (\d.+?) \| (.*?) ?\|$", section, re.MULTILINE)
    versions = {name: text for name, text, _ in rows}
    pythons = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert versions.pop("Python") == f"{pythons[0]} to {pythons[-1]}"
    extras = PROJECT["optional-dependencies"]
    requirements = {
        **dict(map(describe, PROJECT["dependencies"])),
        **{name: text for extra in EXTRAS for name, text in map(describe, extras[extra])},
    }
    assert versions == requirements
    extra_of = {describe(one)[0]: f"extra `{extra}`" for extra in EXTRAS for one in extras[extra]}
    assert {name: note for name, _, note in rows if note.startswith("extra")} == extra_of
