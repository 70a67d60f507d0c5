"""A fast server in a process of its own, on a bare protocol, so that it is never the bottleneck.

``GET /v2/jobs/ID`` returns a pending job for any id. ``GET /NUMBER/v2/jobs`` returns a list of so
many jobs, of which the first thousand are pending. After ``GET /end`` all jobs have succeeded. Two
arguments change the responses:

1. After this number of requests for an id, its job has succeeded. 0: never.
2. One in this number of responses is a fault: a 503, an invalid response or a reset. 0: none.
"""

import asyncio
import collections
import functools
import itertools
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

PENDING_JOBS = 1000
"""Pending jobs of a list."""

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
INVALID = b"not HTTP\r\n\r\n"
RESET = b""


class JobsProtocol(asyncio.Protocol):
    def __init__(
        self,
        pending_polls: int,
        requests: collections.Counter[bytes],
        faults: Iterator[bytes | None],
    ) -> None:
        self._pending_polls = pending_polls
        self._requests = requests
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
            self._transport.write(self._response(request) if fault is None else fault)
            if fault == INVALID:
                self._transport.close()

    def _response(self, request: bytes) -> bytes:
        path = request[: request.index(b"\r\n")].split(b" ")[1]
        job_id = path.rpartition(b"/")[2]
        if job_id == b"jobs":
            body = list_body(int(path.split(b"/")[1]), has_ended=self._requests[b"end"] > 0)
        else:
            self._requests[job_id] += 1
            has_ended = self._pending_polls and self._requests[job_id] > self._pending_polls
            body = job_body(job_id.decode(), has_ended=has_ended or self._requests[b"end"] > 0)
        content_type = b"Content-Type: application/json\r\n"
        head = b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n" % (content_type, len(body))
        return head + body


def job_body(job_id: str, *, has_ended: bool) -> bytes:
    return (BODY % (job_id, "success" if has_ended else "pending", job_id)).encode()


def list_id(number: int) -> str:
    """Return the id of a job of the list."""
    return f"{number:08x}-6f1f-4b92-8c4e-9b1c6b8a7f10"


@functools.cache
def list_body(length: int, *, has_ended: bool) -> bytes:
    jobs = (
        job_body(list_id(number), has_ended=has_ended or number >= PENDING_JOBS)
        for number in range(length)
    )
    return b'{"data": [%s]}' % b",".join(job[len('{"data": ') : -1] for job in jobs)


def scheduled_faults(interval: int) -> Iterator[bytes | None]:
    """Yield a fault for every ``interval``-th response, and ``None`` for all others."""
    faults = itertools.cycle((UNAVAILABLE, INVALID, RESET))
    for number in itertools.count(1):
        yield next(faults) if interval and number % interval == 0 else None


async def serve(pending_polls: int, fault_interval: int) -> None:
    requests: collections.Counter[bytes] = collections.Counter()
    faults = scheduled_faults(fault_interval)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: JobsProtocol(pending_polls, requests, faults), "127.0.0.1", 0, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def run_server(pending_polls: int = 0, fault_interval: int = 0) -> Iterator[str]:
    """Run a server process, and give its URL."""
    command = [sys.executable, "-m", "benchmarks.server", str(pending_polls), str(fault_interval)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (our own module)
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
