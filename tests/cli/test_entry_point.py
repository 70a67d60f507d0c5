"""`moltin_jobs.__main__`, with and without the packages of the command line."""

import builtins
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import moltin_jobs.__main__

from .harness import PATIENCE

INSTALL = "error: the command line needs: pip install 'moltin-jobs[cli]'\n"


def remove_package(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the import of the command line fail as it does without the package."""
    original = builtins.__import__

    def import_module(module: str, *arguments: Any, **options: Any) -> Any:
        if module == "cli.commands":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(module, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", import_module)


@pytest.mark.parametrize("name", ["click", "rich"])
def test_entry_point_without_the_extra_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    remove_package(monkeypatch, name)
    with pytest.raises(SystemExit) as caught:
        moltin_jobs.__main__.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == INSTALL


def test_entry_point_does_not_hide_that_another_package_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remove_package(monkeypatch, "aiohttp")
    with pytest.raises(ModuleNotFoundError, match="aiohttp"):
        moltin_jobs.__main__.main()


def test_entry_point_runs_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["anything", "--version"])
    path = Path(moltin_jobs.__main__.__file__)
    code = compile(path.read_text(), str(path), "exec")
    with pytest.raises(SystemExit) as caught:
        exec(code, {"__name__": "__main__", "__package__": "moltin_jobs"})  # noqa: S102 (as -m does)
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("moltin-jobs, version ")


@pytest.mark.parametrize("name", ["click", "rich", "aiohttp"])
def test_process_without_a_package_states_what_is_missing(name: str) -> None:
    code = (
        "import sys, moltin_jobs.__main__ as entry_point\n"
        "class Missing:\n"
        "    def find_spec(name, *_):\n"
        f"        if name.partition('.')[0] == {name!r}:\n"
        f"            raise ModuleNotFoundError('it is missing', name={name!r})\n"
        "sys.meta_path.insert(0, Missing)\n"
        "entry_point.main()\n"
    )
    finished = subprocess.run(  # noqa: S603 (written above)
        [sys.executable, "-c", code, "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert finished.stdout == ""
    if name == "aiohttp":
        assert finished.returncode == 1
        assert finished.stderr.endswith("ModuleNotFoundError: it is missing\n")
    else:
        assert finished.returncode == 2
        assert finished.stderr == INSTALL
