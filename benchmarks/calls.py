"""The functions of this client that one poll of a wait in progress enters, in order.

A function that is entered several times, for example at each resumption of a coroutine, counts
once. Methods that attrs generates do not count.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import moltin_jobs
from benchmarks.server import run_server
from benchmarks.table import print_table
from moltin_jobs import JobsSession, Polling

INTERVAL = 0.2
POLLING = Polling(initial_interval=INTERVAL, multiplier=1, jitter=0)
PACKAGE = str(Path(moltin_jobs.__file__).parent)
CONNECT = ("aiohttp/connector.py", "BaseConnector.connect")


async def functions_of_a_poll(url: str) -> tuple[list[str], int]:
    """Return the functions in order, and how many of them come before the connector."""
    entered: list[str] = []
    before_connector: list[int] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE):
            entered.append(f"{path[len(PACKAGE) + 1 :]}: {frame.f_code.co_qualname}")
        elif path.endswith(CONNECT[0]) and frame.f_code.co_qualname == CONNECT[1]:
            before_connector.append(len(dict.fromkeys(entered)))

    async with JobsSession("a-bearer-token", base_url=url, polling=POLLING) as session:
        wait = asyncio.create_task(session.wait_for_job("job-1"))
        await asyncio.sleep(2.5 * INTERVAL)  # the third poll has been made, the fourth has not
        await profile_poll(profile)
        wait.cancel()
        await asyncio.wait([wait])
    return list(dict.fromkeys(entered)), before_connector[0]


async def profile_poll(profile: Callable[[FrameType, str, Any], None]) -> None:
    sys.setprofile(profile)
    await asyncio.sleep(INTERVAL)
    sys.setprofile(None)


def run(*, full: bool) -> None:
    del full
    with run_server() as url:
        functions, before = asyncio.run(functions_of_a_poll(url))
    rows = [
        (number, f"`{name}`", "before" if number <= before else "after")
        for number, name in enumerate(functions, 1)
    ]
    print_table(
        f"Functions of this client that one poll enters: {before} before aiohttp's connector, "
        f"{len(functions)} in all.",
        ("", "function", "aiohttp's connector"),
        rows,
    )
