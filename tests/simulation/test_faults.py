"""The deliberate faults themselves: each changes one place, and the result is still Python."""

from pathlib import Path

import pytest

import moltin_jobs

from .faults import FAULTS, DeliberateFault, apply

PACKAGE = Path(moltin_jobs.__file__).parent

each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


def copy_file(fault: DeliberateFault, root: Path) -> Path:
    """Copy the file that ``fault`` changes, and return the path of the copy."""
    copy = root / "moltin_jobs" / fault.path
    copy.parent.mkdir(parents=True)
    copy.write_text((PACKAGE / fault.path).read_text("utf-8"), "utf-8")
    return copy


def test_there_are_twenty_faults_with_unique_names() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) == 20


@each_fault
def test_old_text_occurs_once(fault: DeliberateFault) -> None:
    assert (PACKAGE / fault.path).read_text("utf-8").count(fault.old) == 1


@each_fault
def test_changed_module_differs_and_compiles(fault: DeliberateFault, tmp_path: Path) -> None:
    copy = copy_file(fault, tmp_path)
    apply(fault, tmp_path)
    changed = copy.read_text("utf-8")
    assert changed != (PACKAGE / fault.path).read_text("utf-8")
    compile(changed, fault.path, "exec")


def test_apply_to_changed_file_is_rejected(tmp_path: Path) -> None:
    fault = FAULTS[0]
    copy_file(fault, tmp_path)
    apply(fault, tmp_path)
    with pytest.raises(ValueError, match="exactly once"):
        apply(fault, tmp_path)
