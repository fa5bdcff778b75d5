"""What stands between a client and the server and refuses WebSockets, as some proxies do; it can also cut every connection.

Invariant: bytes are passed on as they are; nothing is said in the server's name but the refusal of an upgrade.
"""

from __future__ import annotations

import asyncio
import contextlib
import re

FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
NOTHING = b""


class Guard:
    """`refusal` is what an upgrade is answered before its connection is ended; None lets it pass."""

    def __init__(self, host_and_port, refusal):
        self.to = host_and_port
        self.refusal = refusal
        self.heads = []
        self.address = ""
        self._tasks = set()
        self._server = None

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"ws://{host}:{port}/ws"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self.cut()

    async def cut(self):
        """Ends every connection without a word."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def requests(self, path):
        """The heads of the requests for a path."""
        return [head for head in self.heads if head.split(" ")[1].startswith(path)]

    async def _accept(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        there = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head.decode())
            if self.refusal is not None and re.search(rb"^upgrade: *websocket", head, re.I | re.M):
                writer.write(self.refusal)
                return
            back, there = await asyncio.open_connection(*self.to)
            there.write(head)
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(reader, there))
                both.create_task(_carry(back, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The client or the server has gone by itself, or this is the cut.
            pass
        finally:
            self._tasks.discard(task)
            for one in (writer, there):
                if one is not None:
                    one.close()


async def _carry(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
