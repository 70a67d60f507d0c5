"""Files that appear under their name when they are complete, or not at all."""
# ruff: noqa: ASYNC240 (the loop has nothing else to do)

import asyncio
import errno
import gc
import itertools
import os
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from moltin_jobs._http.partial_file import PartialFile, check_destination
from tests.file_host import join_disk_threads, names_in

NAMESPACE = ["unshare", "--map-root-user", "--mount"]


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "orders.csv"


async def save(destination: Path, *chunks: bytes) -> None:
    async with PartialFile(destination) as file:
        for chunk in chunks:
            await file.write(chunk)
        await file.commit()


class TestCheck:
    async def test_check_of_a_free_name_leaves_nothing_behind(self, destination: Path) -> None:
        await check_destination(destination)
        assert names_in(destination.parent) == []

    async def test_check_of_an_existing_file_leaves_it_unchanged(self, destination: Path) -> None:
        destination.write_text("yesterday")
        await check_destination(destination)
        assert destination.read_text() == "yesterday"

    async def test_check_rejects_a_directory(self, destination: Path) -> None:
        destination.mkdir()
        with pytest.raises(IsADirectoryError, match=os.strerror(errno.EISDIR)) as caught:
            await check_destination(destination)
        assert caught.value.filename == str(destination)

    async def test_check_rejects_a_link_to_a_directory(self, destination: Path) -> None:
        destination.symlink_to(destination.parent)
        with pytest.raises(IsADirectoryError):
            await check_destination(destination)

    async def test_check_rejects_a_named_pipe(self, destination: Path) -> None:
        os.mkfifo(destination)
        with pytest.raises(OSError, match=r"\] Not a regular file:") as caught:
            await check_destination(destination)
        assert (caught.value.errno, caught.value.filename) == (errno.EINVAL, str(destination))
        assert destination.is_fifo()

    async def test_check_rejects_a_link_to_itself(self, destination: Path) -> None:
        destination.symlink_to(destination)
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)) as caught:
            await check_destination(destination)
        assert caught.value.filename == str(destination)

    async def test_check_rejects_a_missing_folder(self, destination: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            await check_destination(destination / "orders.csv")
        assert caught.value.filename == str(destination / "orders.csv")

    async def test_check_rejects_a_mount_point(
        self, destination: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        destination.touch()
        monkeypatch.setattr(os.path, "ismount", lambda path: path == destination)
        with pytest.raises(OSError, match=r"\] Is a mount point:") as caught:
            await check_destination(destination)
        assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, str(destination))


class TestCommit:
    async def test_commit_saves_the_chunks_in_order(self, destination: Path) -> None:
        await save(destination, b"order_id", b",", b"currency")
        assert destination.read_bytes() == b"order_id,currency"
        assert names_in(destination.parent) == ["orders.csv"]

    async def test_destination_is_unchanged_until_the_commit(self, destination: Path) -> None:
        destination.write_text("yesterday")
        async with PartialFile(destination) as file:
            await file.write(b"today")
            assert destination.read_text() == "yesterday"
            await file.commit()
            assert destination.read_text() == "today"

    async def test_new_file_has_the_default_mode(self, destination: Path) -> None:
        (destination.parent / "other").touch()
        await save(destination)
        assert destination.stat().st_mode == (destination.parent / "other").stat().st_mode

    async def test_replaced_file_keeps_its_mode(self, destination: Path) -> None:
        destination.touch(0o640)
        await save(destination, b"x")
        assert destination.stat().st_mode & 0o777 == 0o640

    async def test_refused_chmod_does_not_prevent_the_commit(
        self, destination: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        destination.write_text("yesterday")
        monkeypatch.setattr(os, "chmod", refuse)
        await save(destination, b"today")
        assert destination.read_text() == "today"

    async def test_link_remains_and_its_target_is_replaced(self, destination: Path) -> None:
        folder = destination.parent / "folder"
        folder.mkdir()
        (folder / "target.csv").write_text("yesterday")
        destination.symlink_to(folder / "target.csv")
        await save(destination, b"today")
        assert destination.is_symlink()
        assert (folder / "target.csv").read_text() == "today"
        assert names_in(folder) == ["target.csv"]

    async def test_dangling_link_gets_its_target(self, destination: Path) -> None:
        destination.symlink_to("target.csv")
        await save(destination, b"x")
        assert names_in(destination.parent) == ["orders.csv", "target.csv"]
        assert destination.read_bytes() == b"x"

    async def test_name_of_the_greatest_length_is_saved(self, tmp_path: Path) -> None:
        await save(tmp_path / ("a" * 255), b"x")
        assert names_in(tmp_path) == ["a" * 255]

    async def test_two_files_for_one_destination_do_not_mix(self, destination: Path) -> None:
        contents = [b"a" * 100_000, b"b" * 100_000]
        await asyncio.gather(*(save(destination, *[content] * 10) for content in contents))
        assert destination.read_bytes() in [content * 10 for content in contents]
        assert names_in(destination.parent) == ["orders.csv"]


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    """Let the system refuse to write more bytes to a file, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


class TestFailure:
    async def test_file_without_a_commit_is_removed(self, destination: Path) -> None:
        async with PartialFile(destination) as file:
            await file.write(b"x")
            assert len(names_in(destination.parent)) == 1
        assert names_in(destination.parent) == []

    async def test_file_is_removed_after_an_exception(self, destination: Path) -> None:
        async def fail() -> None:
            async with PartialFile(destination) as file:
                await file.write(b"x")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert names_in(destination.parent) == []

    @pytest.mark.parametrize("size", [6000, 3000], ids=["in one write", "in the buffer"])
    @pytest.mark.usefixtures("file_size_limit")
    async def test_full_disk_names_the_destination_and_leaves_nothing_behind(
        self, destination: Path, size: int
    ) -> None:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
            await save(destination, b"x" * size, b"x" * size)
        assert caught.value.filename == str(destination)
        assert names_in(destination.parent) == []

    async def test_removed_folder_names_the_destination(self, destination: Path) -> None:
        folder = destination.parent / "folder"
        folder.mkdir()
        async with PartialFile(folder / "orders.csv") as file:
            shutil.rmtree(folder)
            with pytest.raises(FileNotFoundError) as caught:
                await file.commit()
        assert caught.value.filename == str(folder / "orders.csv")

    async def test_missing_folder_names_the_destination(self, destination: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            await save(destination / "orders.csv")
        assert caught.value.filename == str(destination / "orders.csv")


async def test_partial_file_is_no_more_readable_than_its_destination(tmp_path: Path) -> None:
    destination = tmp_path / "orders.csv"
    destination.touch()
    destination.chmod(0o600)
    async with PartialFile(destination) as file:
        (name,) = set(names_in(tmp_path)) - {"orders.csv"}
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        await file.write(b"today")
        await file.commit()
    assert stat.S_IMODE(destination.stat().st_mode) == 0o600


CHECK_AND_SAVE = """
import asyncio, os, sys
from pathlib import Path
from moltin_jobs._http.partial_file import PartialFile, check_destination

async def save(destination):
    async with PartialFile(destination) as file:
        await file.write(b"today")
        await file.commit()

async def main(destination):
    for function in check_destination, save:
        try:
            await function(destination)
        except OSError as error:
            print(os.strerror(error.errno), error.filename == str(destination))
    print(destination.read_text(), end="")

asyncio.run(main(Path(sys.argv[1])))
"""


may_mount = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode != 0,  # noqa: S603 (constant)
    reason="this user may not mount",
)


def check_and_save_in_namespace(destination: Path, mounts: str) -> str:
    """Run shell commands that mount, then `CHECK_AND_SAVE`, and return its output."""
    shell = f'set -e; (cd {shlex.quote(str(destination.parent))}; {mounts}); exec "$@"'
    python = [sys.executable, "-c", CHECK_AND_SAVE, str(destination)]
    command = [*NAMESPACE, "sh", "-c", shell, "sh", *python]
    result = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    assert result.returncode == 0, result.stderr
    return result.stdout


@may_mount
@pytest.mark.parametrize(
    "mount", ["mount -t tmpfs none source;", ""], ids=["other file system", "same file system"]
)
@pytest.mark.parametrize(
    "name", [b"folder", b"a \t\r\n\f\\b", b"\xff\xc3\xa4"], ids=["plain", "escaped", "not UTF-8"]
)
async def test_bind_mount_is_rejected_and_unchanged(
    tmp_path: Path, mount: str, name: bytes
) -> None:
    destination = tmp_path / os.fsdecode(name) / "orders.csv"
    (destination.parent / "source").mkdir(parents=True)
    destination.touch()
    await check_destination(destination)
    printed = check_and_save_in_namespace(
        destination,
        f"{mount} echo yesterday >source/orders.csv; mount --bind source/orders.csv orders.csv",
    )
    assert printed == "Device or resource busy True\n" * 2 + "yesterday\n"
    assert names_in(destination.parent) == ["orders.csv", "source"]


@may_mount
async def test_file_is_saved_on_a_system_without_proc(destination: Path) -> None:
    destination.touch()
    await check_destination(destination)
    assert check_and_save_in_namespace(destination, "mount -t tmpfs none /proc") == "today"


class SlowDisk:
    """Makes all disk calls wait, from the call with the given number on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first_slow_call: int) -> None:
        submit, numbers = ThreadPoolExecutor.submit, itertools.count(1)
        self.reached = asyncio.Event()
        self.resume = threading.Event()

        def slow_submit(executor: Any, call: Any, /, *arguments: Any) -> Any:
            if next(numbers) < first_slow_call:
                return submit(executor, call, *arguments)
            self.reached.set()
            return submit(executor, lambda: self.resume.wait() and call(*arguments))

        monkeypatch.setattr(ThreadPoolExecutor, "submit", slow_submit)


class TestCancellation:
    @pytest.mark.parametrize("times", [1, 2, 5])
    @pytest.mark.parametrize(
        ("call", "kept"),
        [(1, []), (2, []), (3, []), (4, ["orders.csv"]), (5, ["orders.csv"])],
        ids=["open", "first write", "second write", "commit", "discard"],
    )
    async def test_cancellation_during_any_disk_call_leaves_no_partial_file(
        self,
        destination: Path,
        monkeypatch: pytest.MonkeyPatch,
        call: int,
        kept: list[str],
        times: int,
    ) -> None:
        disk = SlowDisk(monkeypatch, call)
        saving = asyncio.create_task(save(destination, b"x", b"y"))
        await disk.reached.wait()
        for _ in range(times):
            await asyncio.sleep(0)
            saving.cancel()
        await asyncio.sleep(0)
        disk.resume.set()
        with pytest.raises(asyncio.CancelledError):
            await saving
        join_disk_threads()  # a second cancellation does not wait for the disk
        assert names_in(destination.parent) == kept

    async def test_cancellation_waits_for_the_disk_call_in_progress(
        self, destination: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk = SlowDisk(monkeypatch, 2)
        saving = asyncio.create_task(save(destination, b"x"))
        await disk.reached.wait()
        saving.cancel()
        done, _ = await asyncio.wait([saving], timeout=0.05)
        assert not done
        disk.resume.set()
        with pytest.raises(asyncio.CancelledError):
            await saving
        assert names_in(destination.parent) == []

    async def test_failure_of_an_abandoned_disk_call_is_not_reported(
        self, destination: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reports: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        disk = SlowDisk(monkeypatch, 1)
        saving = asyncio.create_task(save(destination / "orders.csv"))
        await disk.reached.wait()
        for _ in range(2):
            saving.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await saving
        disk.resume.set()
        join_disk_threads()
        await asyncio.sleep(0.01)  # for the results that the thread has sent to the loop
        gc.collect()
        assert reports == []

    async def test_busy_default_executor_does_not_delay_a_file(self, destination: Path) -> None:
        release = threading.Event()
        with ThreadPoolExecutor(1) as busy:
            asyncio.get_running_loop().set_default_executor(busy)
            busy.submit(release.wait)
            try:
                await check_destination(destination)
                await asyncio.wait_for(save(destination, b"x"), 5)
            finally:
                release.set()
        assert destination.read_bytes() == b"x"
