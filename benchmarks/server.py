"""A server in a process of its own, on a bare protocol, so that it is never the bottleneck.

It answers ``GET /v2/jobs/ID``, whatever the id, with a job that is pending: the first N times for
an id, N being its argument, and for ever if that is 0; after that with one that is done.
"""

import asyncio
import collections
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

BODY = (
    '{"data": {"id": "%s", "type": "job", "job_type": "order_export", "status": "%s", '
    '"link": {"href": ""}, "links": {"self": "https://api.moltin.com/v2/jobs/%s"}, '
    '"timestamps": {"created_at": "2018-10-04T11:08:49.156490335Z", '
    '"updated_at": "0001-01-01T00:00:00Z"}}}'
)


class Answers(asyncio.Protocol):
    def __init__(self, polls: int, asked: collections.Counter[bytes]) -> None:
        self._polls = polls
        self._asked = asked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *requests, self._rest = (self._rest + data).split(b"\r\n\r\n")
        self._transport.write(b"".join(self._answer(request) for request in requests))

    def _answer(self, request: bytes) -> bytes:
        path = request[: request.index(b"\r\n")].split(b" ")[1]
        job_id = path.rpartition(b"/")[2]
        if path == b"/cpu":
            used = resource.getrusage(resource.RUSAGE_SELF)
            body = str(used.ru_utime + used.ru_stime).encode()
        else:
            self._asked[job_id] += 1
            ended = self._polls and self._asked[job_id] > self._polls
            text = job_id.decode()
            body = (BODY % (text, "success" if ended else "pending", text)).encode()
        kind = b"Content-Type: application/json\r\n"
        return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (kind, len(body), body)


async def serve(polls: int) -> None:
    asked: collections.Counter[bytes] = collections.Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answers(polls, asked), "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def running(polls: int = 0) -> Iterator[str]:
    """The address of a server process, until the end of the block."""
    command = [sys.executable, "-m", "benchmarks.server", str(polls)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (ourselves)
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
