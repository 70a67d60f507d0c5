"""Deliberate faults. The simulation has to find each of them in a changed copy of the package.

They are slips that a maintainer could make. Most of them matter only in rare orders of events.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs


@attrs.frozen
class DeliberateFault:
    """Replacement of a short text in one file of the package."""

    name: str
    path: str
    """Path of the file, relative to the package."""
    old: str
    """Text to replace. It occurs once in the file."""
    new: str
    effect: str
    """The invariant that the fault breaks, and when."""


def apply(fault: DeliberateFault, root: Path) -> None:
    """Change the copy of the package in the directory ``root``, which contains ``moltin_jobs``."""
    file = root / "moltin_jobs" / fault.path
    text = file.read_text("utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.name}: {fault.path} does not contain the old text exactly once")
    file.write_text(text.replace(fault.old, fault.new), "utf-8")


@contextlib.contextmanager
def changed_copy(fault: DeliberateFault, root: Path) -> Iterator[Path]:
    """Give a directory with a copy of the package that has a fault, and of the simulation."""
    ignored = shutil.ignore_patterns("__pycache__")
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for part in ("moltin_jobs", "tests/simulation"):
            shutil.copytree(root / part, copy / part, ignore=ignored)
        (copy / "tests" / "__init__.py").touch()
        apply(fault, copy)
        yield copy


FAULTS = (
    DeliberateFault(
        name="alarm-heap-not-restored",
        path="_tasks/alarms.py",
        old="        heapq.heapify(self._heap)\n",
        new="",
        effect=(
            "A wait ends after its deadline when many alarms were cleared: the compacted list is "
            "no heap, so that a later alarm hides an earlier one."
        ),
    ),
    DeliberateFault(
        name="uncancel-forgotten",
        path="_tasks/operations.py",
        old="""\
            and task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
""",
        new="""\
            and kind is asyncio.CancelledError
            and task.uncancel() <= self._cancelling
""",
        effect=(
            "Task.cancelling() stays at 1 when a timeout or the closing of the session coincides "
            "with the result or an exception of the block."
        ),
    ),
    DeliberateFault(
        name="permit-released-by-queued-waiter",
        path="_tasks/semaphore.py",
        old="            if waiter.done() and not waiter.cancelled():\n",
        new="            if waiter.done():\n",
        effect=(
            "Two attempts are at the head of the queue, and refresh the token at once, after a "
            "queued attempt was cancelled: it releases a permit that it never had."
        ),
    ),
    DeliberateFault(
        name="final-poll-joins-older-request",
        path="_tasks/single_flight.py",
        old="not flight.is_joinable or flight.started_at < join_after:",
        new="not flight.is_joinable:",
        effect=(
            "A wait ends with JobTimeoutError although its job had ended before the final poll, "
            "which joins a slow request that was sent before that."
        ),
    ),
    DeliberateFault(
        name="cancelled-flight-joined",
        path="_tasks/single_flight.py",
        old="""\
                    self.is_joinable = False
                    self._task.cancel()
""",
        new="""\
                    self._task.cancel()
""",
        effect=(
            "A wait ends with CancelledError although nobody cancelled it, when it joins a shared "
            "request in the pass of the loop in which the last other waiter left."
        ),
    ),
    DeliberateFault(
        name="slot-kept-after-cancellation",
        path="_http/rate_limit.py",
        old="""\
        except BaseException:
            self.release(asyncio.get_running_loop().time())
""",
        new="""\
        except Exception:
            self.release(asyncio.get_running_loop().time())
""",
        effect=(
            "A slot is never released when an attempt is cancelled in a cooldown that began while "
            "it waited for its slot."
        ),
    ),
    DeliberateFault(
        name="cooldown-missed-at-slot",
        path="_http/rate_limit.py",
        old="""\
        try:
            await self.cooldown.wait()
        except BaseException:
            self.release(asyncio.get_running_loop().time())
            raise
""",
        new="",
        effect=(
            "A request starts in a cooldown when the 429 arrives while the head of the queue waits "
            "for its slot or its token."
        ),
    ),
    DeliberateFault(
        name="slot-reused-too-early",
        path="_http/transport.py",
        old="                throttle.release(attempt.received_at)\n",
        new="                throttle.release(now)\n",
        effect=(
            "A second at the server exceeds the limit when requests arrive late, for example after "
            "slow handshakes: a slot is free one second after its request was sent."
        ),
    ),
    DeliberateFault(
        name="creation-repeated",
        path="_http/transport.py",
        old="        return self.error(*explain(error, self.host))\n",
        new="        return super().error(*explain(error, self.host))\n",
        effect=(
            "A job is created twice without a word when the connection is lost after the creation "
            "was sent and before its response has arrived."
        ),
    ),
    DeliberateFault(
        name="truncated-file-accepted",
        path="_http/file_response.py",
        old="""\
        if not piece and not self._decoder.is_complete:
            raise self.error("its compressed content is truncated", _TRY_AGAIN)
""",
        new="",
        effect=(
            "A file is saved although it is not whole, when the host sends compressed content that "
            "ends early but has the announced length."
        ),
    ),
    DeliberateFault(
        name="signed-address-in-repr",
        path="_http/file_response.py",
        old="_response: aiohttp.ClientResponse | None = attrs.field(default=None, init=False, "
        "repr=False)\n",
        new="_response: aiohttp.ClientResponse | None = attrs.field(default=None, init=False)\n",
        effect=(
            "The repr of a traceback local contains the signed address of a file when reading the "
            "file fails or is cancelled."
        ),
    ),
    DeliberateFault(
        name="file-read-without-pause",
        path="_http/file_response.py",
        old="""\
            if piece:
                await asyncio.sleep(0)  # decoded bytes may be a thousand times those received
""",
        new="",
        effect=(
            "A callback takes more than 50 ms when a file that was compressed to a thousandth is "
            "read without a disk."
        ),
    ),
    DeliberateFault(
        name="partial-file-left",
        path="_http/partial_file.py",
        old="""\
        except BaseException:
            await self.__aexit__()
""",
        new="""\
        except Exception:
            await self.__aexit__()
""",
        effect=(
            "A partial file is left when a download is cancelled, or times out, while the thread "
            "opens that file."
        ),
    ),
    DeliberateFault(
        name="watch-poll-without-deadline",
        path="_polling/watch.py",
        old="""\
        with self._operation():
            await self._poll()

    async def _await_poll_task(""",
        new="""\
        await self._poll()

    async def _await_poll_task(""",
        effect=(
            "A task is left after the deadline of a watch without an 'async with' block, while its "
            "poll hangs in the queue of a rate limiter or in an auth callable."
        ),
    ),
    DeliberateFault(
        name="outage-never-ends-wait",
        path="_polling/watch.py",
        old="""\
        if not self.consecutive_failures:
            self._outage_since = now
""",
        new="""\
        self._outage_since = now
""",
        effect=(
            "A wait without a timeout never ends in an outage: the outage counts from its last "
            "failure instead of its first."
        ),
    ),
    DeliberateFault(
        name="queue-led-by-ended-wait",
        path="_polling/queue_source.py",
        old="            self._sleeps.pop(key, None)\n",
        new="",
        effect=(
            "Memory grows with each job that was waited for by list, and a job whose wait was "
            "cancelled leads the queue, so that the ends of the others are noticed a minute late."
        ),
    ),
    DeliberateFault(
        name="token-refreshed-for-each-rejection",
        path="auth.py",
        old="        token = self.token if self.token is not rejected else None\n",
        new="        token = self.token if rejected is None else None\n",
        effect=(
            "A token is refreshed successfully more than once when several requests in flight get "
            "a 401 for it."
        ),
    ),
    DeliberateFault(
        name="deadline-counted-from-creation",
        path="exports.py",
        old="self._polling, timeout, started_at=started_at, job=job\n",
        new="self._polling, timeout, job=job\n",
        effect=(
            "The wait of an export or a publication ends after its deadline when the creation was "
            "slow, for example after a cooldown: its timeout counts from the end of the creation."
        ),
    ),
    DeliberateFault(
        name="connections-left-by-cancelled-close",
        path="session.py",
        old="""\
        try:
            await self._operations.wait_until_idle()
        finally:
            await self._transport.close()
""",
        new="""\
        await self._operations.wait_until_idle()
        await self._transport.close()
""",
        effect=(
            "Connections are left when the closing of the session is cancelled while a call still "
            "ends, for example one that removes its partial file."
        ),
    ),
    DeliberateFault(
        name="reservation-used-in-pause",
        path="redis_limiter.py",
        old="""\
        if pause_left:
            self._discard_reservations(before=now + pause_left / 1e6)
""",
        new="",
        effect=(
            "A request starts in a cooldown that another session of the store has reported, since "
            "the slots that were reserved before the pause are still used."
        ),
    ),
)
