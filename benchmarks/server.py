"""A server in a process of its own, on a bare protocol, so that it is never the bottleneck.

It answers ``GET /v2/jobs/ID``, whatever the id, with a job that is pending: the first N times for
an id, N being its argument, and for ever if that is 0; after that with one that is done. A second
argument M has it spoil every Mth answer: by a 503, by garbage and by a reset in turn.
"""

import asyncio
import collections
import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure import processor

BODY = (
    '{"data": {"id": "%s", "type": "job", "job_type": "order_export", "status": "%s", '
    '"link": {"href": ""}, "links": {"self": "https://api.moltin.com/v2/jobs/%s"}, '
    '"timestamps": {"created_at": "2018-10-04T11:08:49.156490335Z", '
    '"updated_at": "0001-01-01T00:00:00Z"}}}'
)

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
GARBAGE = b"no HTTP at all\r\n\r\n"
RESET = b""


class Answers(asyncio.Protocol):
    def __init__(
        self, polls: int, asked: collections.Counter[bytes], faults: Iterator[bytes | None]
    ) -> None:
        self._polls = polls
        self._asked = asked
        self._faults = faults

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *requests, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for request in requests:
            fault = next(self._faults)
            if fault == RESET:
                self._transport.abort()
                return
            self._transport.write(self._answer(request) if fault is None else fault)
            if fault == GARBAGE:
                self._transport.close()

    def _answer(self, request: bytes) -> bytes:
        path = request[: request.index(b"\r\n")].split(b" ")[1]
        job_id = path.rpartition(b"/")[2]
        if path == b"/cpu":
            body = str(processor()).encode()
        else:
            self._asked[job_id] += 1
            ended = self._polls and self._asked[job_id] > self._polls
            text = job_id.decode()
            body = (BODY % (text, "success" if ended else "pending", text)).encode()
        kind = b"Content-Type: application/json\r\n"
        return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (kind, len(body), body)


def every(count: int) -> Iterator[bytes | None]:
    """``None`` for a right answer; every ``count``-th time a fault, never if that is 0."""
    faults = itertools.cycle((UNAVAILABLE, GARBAGE, RESET))
    for number in itertools.count(1):
        yield next(faults) if count and number % count == 0 else None


async def serve(polls: int, spoil: int) -> None:
    asked: collections.Counter[bytes] = collections.Counter()
    faults = every(spoil)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Answers(polls, asked, faults), "127.0.0.1", 0, backlog=1000
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def running(polls: int = 0, spoil: int = 0) -> Iterator[str]:
    """The address of a server process, until the end of the block."""
    command = [sys.executable, "-m", "benchmarks.server", str(polls), str(spoil)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (ourselves)
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
