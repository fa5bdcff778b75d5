"""A client on a bare socket, which may say anything to the server, and as slowly as it likes.

Not here: a client that keeps to the protocol (client.py).
"""

import base64
import contextlib
import os
import re
import select
import socket
import struct
import time

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PATIENCE_S = 60
"""How long to wait for what has to come; only a failure takes as long."""


def upgrade_request(path="/ws", **headers):
    lines = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    rows = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"GET {path} HTTP/1.1\r\n{rows}\r\n".encode()


def header(first, length, mask=b"\0\0\0\0"):
    """The head of a client's frame that says it has `length` bytes. The mask of zeros changes nothing."""
    if length < 126:
        return bytes([first, 0x80 | length]) + mask
    if length < 65_536:
        return bytes([first, 0xFE]) + struct.pack(">H", length) + mask
    return bytes([first, 0xFF]) + struct.pack(">Q", length) + mask


def frame(first, payload=b""):
    return header(first, len(payload)) + payload


def masked(first, payload):
    mask = os.urandom(4)
    return header(first, len(payload), mask) + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


class Raw:
    """A connection; `source` is the address it comes from, any of 127.0.0.0/8."""

    def __init__(self, server, source=None, receive_buffer_bytes=None):
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE_S)
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            # The server's own buffer grows with the size of segments, which is 64 kB on a loopback address.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(server.host_and_port)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """Whether it could be sent."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, TimeoutError):
            return False
        return True

    def send_until_refused(self, data, times):
        """Sends it again and again without reading; how often it went before the connection broke or took no more."""
        self.socket.settimeout(1)
        for count in range(times):
            if not self.send(data):
                return count
        return times

    def receive(self):
        """Some more bytes; none at the end of the connection."""
        try:
            return self.socket.recv(65_536)
        except ConnectionError:
            return b""

    def head(self):
        """The status and the head of the answer; status 0 if the connection ended without one."""
        while b"\r\n\r\n" not in self.buffer:
            part = self.receive()
            if not part:
                return 0, self.buffer.decode("latin-1")
            self.buffer += part
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        return int(head.split()[1]), head.decode("latin-1").lower()

    def rest(self):
        """All that comes until the server hangs up."""
        while part := self.receive():
            self.buffer += part
        rest, self.buffer = self.buffer, b""
        return rest

    def get(self, path):
        """The body of the answer; the connection can be used again."""
        self.send(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
        status, head = self.head()
        assert status == 200, head
        return self.take(int(re.search(r"content-length: (\d+)", head)[1]))

    def secured(self, context):
        """The same with TLS, hand-shake included."""
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        return self

    def upgrade(self, **headers):
        self.send(upgrade_request(**headers))
        status, head = self.head()
        assert status == 101, head
        return self

    def take(self, count):
        """Exactly so many bytes."""
        while len(self.buffer) < count:
            part = self.receive()
            if not part:
                raise EOFError
            self.buffer += part
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def message(self):
        """The next frame of the server: opcode and payload."""
        first, second = self.take(2)
        length = second
        if second == 126:
            (length,) = struct.unpack(">H", self.take(2))
        elif second == 127:
            (length,) = struct.unpack(">Q", self.take(8))
        return first & 0x0F, self.take(length)

    def close_code(self):
        """Reads to the close frame; its code, or None if the connection ended without one."""
        with contextlib.suppress(EOFError):
            while True:
                opcode, payload = self.message()
                if opcode == CLOSE:
                    return struct.unpack(">H", payload[:2])[0] if payload else 1005
        return None

    def outlasts(self, seconds, drip=b"", reads=True):
        """Whether the server lets the connection be for so long, while every now and then another drop is sent."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([self.socket] if reads else [], [], [], min(left, 0.1))
            if readable and not self.receive():
                return False
            if drip and not self.send(drip):
                return False
            if not reads and self.is_gone():
                return False
        return True

    def is_gone(self):
        """Whether the connection is no more, without reading from it."""
        poll = select.poll()
        poll.register(self.socket, select.POLLERR | select.POLLHUP)
        return bool(poll.poll(0))
