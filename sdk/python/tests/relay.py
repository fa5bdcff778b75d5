"""Carries bytes between a client and a server, and cuts where a seed says.

Invariant: what is carried is not changed; a cut ends both connections at once.
"""

from __future__ import annotations

import asyncio
from random import Random

from between import Between, carry


class Relay(Between):
    """Cuts after so many bytes from the server, within hand-shakes and within frames, until `calm`."""

    def __init__(self, host_and_port, seed):
        super().__init__(host_and_port)
        self.cuts = 0
        self.calm = False
        self._lots = Random(seed)

    async def serve(self, reader, writer, stack):
        left = 1 << (6 + self._lots.randrange(10))
        left += self._lots.randrange(left)
        there, server = await self.reach(stack)
        up = asyncio.ensure_future(carry(reader, server))
        stack.callback(up.cancel)
        while data := await there.read(4096):
            if not self.calm and len(data) >= left:
                writer.write(data[:left])
                self.cuts += 1
                break
            left = max(1, left - len(data))
            writer.write(data)
            await writer.drain()
