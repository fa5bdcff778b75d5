"""A slow line: one connection is passed on, towards the client so many bytes per second and no more.

It reads only what it passes on, into a small buffer, so the sender sees what it would see of the line: nothing is taken
in faster than it leaves. What is on the way is bounded by that buffer.

Not here: lines that are cut (`sdk/python/tests/relay.py`), what the bytes mean (`tap.py`).
"""

import asyncio
import contextlib
import socket

RECEIVE_BUFFER_BYTES = 8192
"""The system doubles it."""
TURNS_PER_S = 20


class SlowLine:
    """Listens on `address` for one client of the server at `target`."""

    def __init__(self, target, bytes_per_s):
        self.target = target
        self.bytes_per_s = bytes_per_s
        self.passed_bytes = 0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self._stack.push_async_callback(self._server.wait_closed)
        self._stack.callback(self._server.close)
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())
        self._carried = set()
        return self

    async def __aexit__(self, *_):
        for task in self._carried:
            task.cancel()
        await asyncio.gather(*self._carried, return_exceptions=True)
        await self._stack.aclose()

    @property
    def ws(self):
        return f"ws://{self.address}/ws"

    async def _carry(self, reader, writer):
        self._carried.add(asyncio.current_task())
        loop = asyncio.get_running_loop()
        with socket.socket() as upstream, contextlib.suppress(ConnectionError, asyncio.CancelledError):
            upstream.setblocking(False)
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            # The segments of a line, not those of 64 kB that a loopback address has.
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
            await loop.sock_connect(upstream, self.target)
            back = asyncio.create_task(self._back(reader, upstream))
            try:
                began, sent = loop.time(), 0
                while data := await loop.sock_recv(upstream, max(1, self.bytes_per_s // TURNS_PER_S)):
                    writer.write(data)
                    await writer.drain()
                    sent += len(data)
                    self.passed_bytes += len(data)
                    # The time that these bytes take on the line; what it was idle is not made up for.
                    began = max(began, loop.time() - sent / self.bytes_per_s - 1 / TURNS_PER_S)
                    await asyncio.sleep(began + sent / self.bytes_per_s - loop.time())
            finally:
                back.cancel()
                writer.close()

    async def _back(self, reader, upstream):
        loop = asyncio.get_running_loop()
        while data := await reader.read(65_536):
            await loop.sock_sendall(upstream, data)
