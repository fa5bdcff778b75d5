"""A wire tap: passes one connection on, and reads along what the server sends, frame by frame.

It inflates with a decoder of its own that is held to what was negotiated: its window has the agreed size and is
forgotten between messages if that was agreed. So it finds what a client with a larger window would let pass.

Not here: what the messages mean (client.py).
"""

import asyncio
import contextlib
import socket
import zlib
from dataclasses import dataclass

TAIL = b"\0\0\xff\xff"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PIECE_BYTES = 64
"""zlib checks distances against its window only at the begin of each call, so small windows get small calls."""


@dataclass(frozen=True)
class Message:
    opcode: int
    compressed: bool
    payload: bytes
    """Inflated"""
    deflated_bytes: int
    """Payload as it was on the wire"""
    frame_bytes: int

    @property
    def is_data(self):
        if self.opcode == TEXT:
            return self.payload.startswith(b'{"sent_at"')
        # An array, where control messages are maps.
        return self.opcode == BINARY and (self.payload[0] in (0xDC, 0xDD) or 0x90 <= self.payload[0] <= 0x9F)

    @property
    def saved(self):
        return max(0, header_bytes(len(self.payload)) + len(self.payload) - self.frame_bytes)


def header_bytes(payload_bytes):
    return 2 if payload_bytes < 126 else 4 if payload_bytes < 65_536 else 10


def parameters(header):
    """The agreed parameters: {} where there are none, None where there is no extension."""
    if header is None:
        return None
    name, *parts = (part.strip() for part in header.split(";"))
    assert name == "permessage-deflate", header
    return {key: int(value) if value else True for key, _, value in (part.partition("=") for part in parts)}


class Direction:
    """Frames of one direction."""

    def __init__(self):
        self.buffer = bytearray()
        self.messages = []
        self.window_bits = 15
        self.takeover = True
        self._inflater = None

    def agree(self, window_bits, takeover):
        self.window_bits, self.takeover = window_bits, takeover

    def feed(self, data):
        self.buffer += data
        while self._take():
            pass

    def _take(self):
        buffer = self.buffer
        if len(buffer) < 2:
            return False
        first, second = buffer[0], buffer[1]
        length, at = second & 0x7F, 2
        if length == 126:
            length, at = int.from_bytes(buffer[2:4]), 4
        elif length == 127:
            length, at = int.from_bytes(buffer[2:10]), 10
        masked = second & 0x80
        end = at + length + (4 if masked else 0)
        if len(buffer) < end or end < at:
            return False
        if masked:
            mask = int.from_bytes((bytes(buffer[at : at + 4]) * (length // 4 + 1))[:length])
            payload = (int.from_bytes(buffer[at + 4 : end]) ^ mask).to_bytes(length)
        else:
            payload = bytes(buffer[at:end])
        del buffer[:end]
        assert first & 0x80, "a fragment"
        assert not first & 0x30, f"reserved bits: {first:#x}"
        compressed = bool(first & 0x40)
        inflated = self._inflate(payload) if compressed else payload
        self.messages.append(Message(first & 0x0F, compressed, inflated, length, end))
        return True

    def _inflate(self, payload):
        if self._inflater is None or not self.takeover:
            self._inflater = zlib.decompressobj(-self.window_bits)
        if self.window_bits == 15:
            return self._inflater.decompress(payload + TAIL)
        pieces, rest = [], payload + TAIL
        while True:
            pieces.append(self._inflater.decompress(rest, PIECE_BYTES))
            rest = self._inflater.unconsumed_tail
            if not rest and not pieces[-1]:
                return b"".join(pieces)


class Tap:
    """Listens for one client. `url` is where it shall connect; `received` and `sent` are what went over the wire."""

    def __init__(self, server, receive_buffer_bytes=None):
        self.server = server
        self.receive_buffer_bytes = receive_buffer_bytes
        self.received, self.sent = Direction(), Direction()
        self.request = self.response = None
        self.broken = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._listener = None
        self._tasks = []

    async def open(self):
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._listener.sockets[0].getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/ws"
        return self

    async def close(self):
        self._listener.close()
        self.resume()
        # A client that has gone without a close leaves the server to find out.
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, OSError):
                raise result

    def pause(self):
        """Reads nothing of the server any more."""
        self._flows.clear()

    def resume(self):
        self._flows.set()

    async def ended(self):
        """Waits until both sides have closed."""
        if self._tasks:
            await asyncio.wait(self._tasks)
            for task in self._tasks:
                if not task.cancelled() and (error := task.exception()) and not isinstance(error, OSError):
                    raise error

    @property
    def extensions(self):
        return self.response.get("sec-websocket-extensions")

    def of_server(self, *, data=None, compressed=None):
        return [
            message
            for message in self.received.messages
            if message.opcode < CLOSE
            and (data is None or message.is_data == data)
            and (compressed is None or message.compressed == compressed)
        ]

    @property
    def frame_bytes(self):
        return sum(message.frame_bytes for message in self.received.messages)

    async def _serve(self, reader, writer):
        raw = socket.socket()
        raw.setblocking(False)
        if self.receive_buffer_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer_bytes)
            # The server's own buffer grows with the size of segments, which is 64 kB on a loopback address.
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        await asyncio.get_running_loop().sock_connect(raw, self.server.host_and_port)
        # A small limit, so that what a paused tap has not read stays with the server.
        upstream, to_server = await asyncio.open_connection(sock=raw, limit=16_384)
        up = asyncio.create_task(self._up(reader, to_server))
        down = asyncio.create_task(self._down(upstream, writer))
        self._tasks += [up, down]

    async def _up(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.request = fields(head)
        writer.write(head)
        await self._pass_on(reader, writer, self.sent)

    async def _down(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.response = fields(head)
        agreed = parameters(self.extensions) or {}
        self.received.agree(agreed.get("server_max_window_bits", 15), "server_no_context_takeover" not in agreed)
        self.sent.agree(agreed.get("client_max_window_bits", 15), "client_no_context_takeover" not in agreed)
        writer.write(head)
        await self._pass_on(reader, writer, self.received)

    async def _pass_on(self, reader, writer, direction):
        try:
            while data := await self._read(reader, direction):
                direction.feed(data)
                writer.write(data)
                await writer.drain()
        except Exception as error:
            if not isinstance(error, OSError):
                self.broken = error
            raise
        finally:
            # What the server still has to say must get through after the client's last word.
            with contextlib.suppress(OSError):
                writer.write_eof() if direction is self.sent else writer.close()

    async def _read(self, reader, direction):
        if direction is self.received:
            await self._flows.wait()
        return await reader.read(65_536)


def fields(head):
    """Header fields by lower-case name; repeated ones joined."""
    found = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            name = name.lower()
            found[name] = f"{found[name]}, {value.strip()}" if name in found else value.strip()
    return found
