"""A proxy in front of a Redis server that is far away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit


@contextlib.asynccontextmanager
async def move_away(url: str, round_trip: float) -> AsyncIterator[str]:
    """Serve the Redis at ``url`` at another URL, ``round_trip`` seconds away.

    Bytes arrive half a round trip after they were sent, in both directions. A new connection takes
    one round trip more, as the handshake of TCP does.
    """
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            loop.call_later(round_trip / 2, writer.write, data)
        await asyncio.sleep(round_trip / 2)
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        await asyncio.sleep(round_trip)
        try:
            await asyncio.gather(forward(reader, redis_writer), forward(redis_reader, writer))
        finally:
            for open_writer in writer, redis_writer:
                open_writer.close()
                with contextlib.suppress(ConnectionError):
                    await open_writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(connect(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
