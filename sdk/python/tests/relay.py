"""Carries bytes between a client and a server, and cuts where a seed says.

Invariant: what is carried is not changed; a cut ends both connections at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from random import Random


class Relay:
    """Cuts after so many bytes from the server, within hand-shakes and within frames, until `calm`."""

    def __init__(self, host_and_port, seed):
        self.to = host_and_port
        self.cuts = 0
        self.calm = False
        self.address = ""
        self._lots = Random(seed)
        self._server = None
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"ws://{host}:{port}/ws"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        left = 1 << (6 + self._lots.randrange(10))
        left += self._lots.randrange(left)
        server = None
        try:
            there, server = await asyncio.open_connection(*self.to)
            up = asyncio.ensure_future(_carry(reader, server))
            up.add_done_callback(lambda _: server.close())
            while data := await there.read(4096):
                if not self.calm and len(data) >= left:
                    writer.write(data[:left])
                    self.cuts += 1
                    break
                left = max(1, left - len(data))
                writer.write(data)
                await writer.drain()
            up.cancel()
        except OSError:
            # The client or the server has gone by itself.
            pass
        finally:
            self._tasks.discard(task)
            for one in (writer, server):
                if one is not None:
                    one.close()


async def _carry(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
