"""What stands between a client and the server: accepts for it, and ends what goes through.

Invariant: when it is left, every connection has ended, and no task of it is left. What happens to the bytes is up to who
builds on it (relay.py, guard.py).
"""

from __future__ import annotations

import asyncio
import contextlib


class Between:
    """A listener on a free port, at `address`; `to` is where the server is."""

    def __init__(self, host_and_port):
        self.to = host_and_port
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

    async def _accept(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._tasks.discard, task)
            stack.callback(writer.close)
            # The client or the server may go by itself, and a cut is no failure either.
            stack.enter_context(contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError))
            await self.serve(reader, writer, stack)

    async def reach(self, stack):
        """A connection to the server, which ends with the client's."""
        reader, writer = await asyncio.open_connection(*self.to)
        stack.callback(writer.close)
        return reader, writer

    async def serve(self, reader, writer, stack):
        """Carries what there is to carry of one client."""
        raise NotImplementedError


async def carry(reader, writer):
    """One way, to the end of it."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
