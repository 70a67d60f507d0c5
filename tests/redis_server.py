"""A real Redis, in a process of its own, that can be killed, hung and started again."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from typing import Self

PROGRAM = shutil.which("redis-server")
MISSING = (
    "" if PROGRAM else "there is no redis-server on this machine: apt-get install redis-server"
)
_START_SECONDS = 10.0


class RedisServer:
    """On a port of its own, from ``with`` until its end; it keeps nothing."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        assert PROGRAM is not None, MISSING
        command = [PROGRAM, "--port", str(self._port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 (found above)
        until = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert time.monotonic() < until, "redis-server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def hang(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def info(self, section: str, pattern: str) -> list[str]:
        """What its ``INFO`` tells, by a regular expression."""
        with socket.create_connection(("127.0.0.1", self._port), 1) as link:
            link.sendall(f"INFO {section}\r\nQUIT\r\n".encode())
            told = b"".join(iter(lambda: link.recv(65536), b""))
        return re.findall(pattern, told.decode())

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1) as link:
                link.sendall(b"PING\r\n")
                return link.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
