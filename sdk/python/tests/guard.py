"""What stands between a client and the server and refuses WebSockets, as some proxies do; it can also cut every connection.

Invariant: bytes are passed on as they are; nothing is said in the server's name but the refusal of an upgrade.
"""

from __future__ import annotations

import asyncio
import re

from between import Between, carry

FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
NOTHING = b""


class Guard(Between):
    """`refusal` is what an upgrade is answered before its connection is ended; None lets it pass."""

    def __init__(self, host_and_port, refusal):
        super().__init__(host_and_port)
        self.refusal = refusal
        self.heads = []

    def requests(self, path):
        """The heads of the requests for a path."""
        return [head for head in self.heads if head.split(" ")[1].startswith(path)]

    async def serve(self, reader, writer, stack):
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head.decode())
        if self.refusal is not None and re.search(rb"^upgrade: *websocket", head, re.I | re.M):
            writer.write(self.refusal)
            return
        back, there = await self.reach(stack)
        there.write(head)
        async with asyncio.TaskGroup() as both:
            both.create_task(carry(reader, there))
            both.create_task(carry(back, writer))
