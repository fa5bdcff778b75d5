"""WebSocket clients that others wrote, each opened with settings of its own, all on live data at once.

Every one ends up as a `Client`: connected through a `Tap`, its messages kept as its library gave them, decoded when
asked for. Node's and Chromium's run in processes of their own.

Not here: what is expected of them (test_compression.py).
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import aiohttp
import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from client import Client
from tap import BINARY, TEXT, Tap

NODE = Path(__file__).parent / "node"
OPEN_S = 30


class Inbox:
    """What a client's library has given, in order; stands in for its socket."""

    def __init__(self, send=None):
        self.messages = asyncio.Queue()
        self.kept = []
        self.close_code = self.close_reason = None
        self._send = send

    def put(self, message):
        """Notes a message; None says that there will be no more."""
        self.kept.append(message)
        self.messages.put_nowait(message)

    async def send(self, data):
        await self._send(data)

    async def recv(self):
        if (message := await self.messages.get()) is None:
            raise EOFError
        return message


class Peer:
    """One client, its tap and its inbox."""

    def __init__(self, name, tap, encoding):
        self.name, self.tap = name, tap
        self.inbox = Inbox()
        self.client = Client(self.inbox, encoding)

    def __repr__(self):
        return self.name

    async def subscribe(self, channels, symbols, **keys):
        return await self.client.subscribe(channels, symbols, **keys)

    def decode(self):
        """Takes in all that has come by now."""
        while not self.inbox.messages.empty():
            if (message := self.inbox.messages.get_nowait()) is not None:
                self.client.take(message)
        return self.client

    def payloads(self):
        """Of all messages, as the library gave them."""
        given = [message for message in self.inbox.kept if message is not None]
        return [message.encode() if isinstance(message, str) else bytes(message) for message in given]


class Peers:
    """Opens clients of one server and closes them all in the end."""

    def __init__(self, server, stack, folder):
        self.server, self.folder = server, folder
        self._stack = stack
        self._node = {}
        self._chromium = None
        self._numbers = itertools.count(1)
        self.all = []

    async def _tap(self, **keys):
        tap = await Tap(self.server, **keys).open()
        self._stack.push_async_callback(tap.close)
        return tap

    def _peer(self, name, tap, encoding):
        peer = Peer(f"{name}, {encoding}", tap, encoding)
        self.all.append(peer)
        return peer

    async def websockets(self, encoding, offer=None, receive_buffer_bytes=None):
        """Python's `websockets`; `offer` are the parameters to offer, None offers no compression."""
        tap = await self._tap(receive_buffer_bytes=receive_buffer_bytes)
        extensions = None if offer is None else [ClientPerMessageDeflateFactory(**offer)]
        keys = {"subprotocols": [f"ticker.v1.{encoding}"], "compression": None, "extensions": extensions}
        # A tap that is paused for long passes no pings on.
        connect = websockets.connect(tap.url, max_size=None, max_queue=None, proxy=None, ping_interval=None, **keys)
        socket = await self._stack.enter_async_context(connect)
        peer = self._peer(f"websockets {offer}", tap, encoding)
        peer.socket = socket
        peer.inbox._send = socket.send

        async def pump():
            with contextlib.suppress(websockets.ConnectionClosed):
                async for message in socket:
                    peer.inbox.put(message)
            peer.inbox.close_code = socket.close_code
            peer.inbox.put(None)

        peer.pump = asyncio.create_task(pump())

        async def close():
            await socket.close()
            await peer.pump

        peer.close = close
        return peer

    async def aiohttp(self, encoding, window_bits):
        """Python's `aiohttp`; 0 offers no compression, less than 15 asks for such a window."""
        tap = await self._tap()
        http = await self._stack.enter_async_context(aiohttp.ClientSession())
        socket = await http.ws_connect(
            tap.url, protocols=[f"ticker.v1.{encoding}"], compress=window_bits, max_msg_size=0, autoping=True
        )
        peer = self._peer(f"aiohttp {window_bits}", tap, encoding)
        peer.socket = socket
        peer.inbox._send = socket.send_str if encoding == "json" else socket.send_bytes

        async def pump():
            kind = aiohttp.WSMsgType.TEXT if encoding == "json" else aiohttp.WSMsgType.BINARY
            async for frame in socket:
                assert frame.type is kind, frame
                peer.inbox.put(frame.data)
            peer.inbox.close_code = socket.close_code
            peer.inbox.put(None)

        peer.pump = asyncio.create_task(pump())

        async def close():
            # It drops what comes before the server's answer.
            await socket.close()
            await peer.pump

        peer.close = close
        return peer

    async def node(self, kind, encoding, subscribe, options=None):
        """Node's `ws` with its `perMessageDeflate` options, or its own WebSocket, which takes none."""
        if "process" not in self._node:
            await self._start_node()
        tap = await self._tap()
        peer = self._peer(f"{kind} {options}", tap, encoding)
        number = next(self._numbers)
        path = self.folder / f"node-{number}"
        spec = {"number": number, "url": tap.url, "kind": kind, "encoding": encoding, "path": str(path)}
        await self._tell_node(spec | {"perMessageDeflate": options, "subscribe": {"op": "subscribe", **subscribe}})
        await self._node_says(number, "open")

        async def close():
            await self._tell_node({"number": number, "close": True})
            said = await self._node_says(number, "close")
            peer.inbox.close_code = said["code"]
            assert said["errors"] == [], (peer, said)
            data, at = path.read_bytes(), 0
            while at < len(data):
                (length,) = struct.unpack_from("<I", data, at)
                message = data[at + 4 : at + 4 + length]
                peer.inbox.put(message.decode() if encoding == "json" else message)
                at += 4 + length

        peer.close = close
        return peer

    async def _start_node(self):
        assert (NODE / "node_modules/ws").is_dir(), "run `make setup` first"
        process = await asyncio.create_subprocess_exec(
            "node", *node_flags(), "record.mjs", cwd=NODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._node |= {"process": process, "said": {}}

        async def end():
            process.stdin.close()
            await process.wait()

        self._stack.push_async_callback(end)

    async def _tell_node(self, line):
        self._node["process"].stdin.write(json.dumps(line).encode() + b"\n")
        await self._node["process"].stdin.drain()

    async def _node_says(self, number, event):
        async with asyncio.timeout(OPEN_S):
            while (number, event) not in self._node["said"]:
                line = await self._node["process"].stdout.readline()
                assert line, "Node has ended"
                said = json.loads(line)
                self._node["said"][said["number"], said["event"]] = said
        return self._node["said"][number, event]

    async def chromium(self, encoding, subscribe):
        """A page in Chromium; what it receives is told by the browser itself."""
        if self._chromium is None:
            self._chromium = await self._stack.enter_async_context(Chromium(self.folder / "chromium"))
        tap = await self._tap()
        peer = self._peer("chromium", tap, encoding)
        page = await self._chromium.open(tap.url, encoding, {"op": "subscribe", **subscribe}, peer.inbox)
        peer.negotiated = page["extensions"]

        async def close():
            peer.inbox.close_code = await page["close"]()

        peer.close = close
        return peer


def node_flags():
    """Node's own WebSocket is behind a flag before version 22 and has no such flag later."""
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return ["--experimental-websocket"] if int(version.removeprefix("v").split(".")[0]) < 22 else []


class Chromium:
    """A headless Chromium, spoken to in the DevTools protocol."""

    def __init__(self, folder):
        self.folder = folder
        self._ids = itertools.count(1)
        self._answers = {}
        self._sockets = {}
        self._inboxes = {}
        self._opened = {}

    async def __aenter__(self):
        binary = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
        assert binary, "Chromium is missing: run `make chromium`"
        flags = ("--no-sandbox", "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking")
        self.process = await asyncio.create_subprocess_exec(
            binary,
            *flags,
            "--remote-debugging-port=0",
            f"--user-data-dir={self.folder}",
            "about:blank",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(OPEN_S):
            while b"DevTools listening on " not in (line := await self.process.stderr.readline()):
                assert line, "Chromium has ended"
        # Read to its end, so that the browser never blocks on a full pipe.
        self._stderr = asyncio.create_task(self.process.stderr.read())
        address = line.decode().split("ws://")[1].split("/")[0]
        async with aiohttp.ClientSession() as http, http.get(f"http://{address}/json") as answer:
            (page,) = [target for target in await answer.json() if target["type"] == "page"]
        self.devtools = await websockets.connect(
            page["webSocketDebuggerUrl"], max_size=None, max_queue=None, proxy=None, compression=None
        )
        self._reading = asyncio.create_task(self._read())
        await self.call("Network.enable")
        return self

    async def __aexit__(self, *_):
        self._reading.cancel()
        await self.devtools.close()
        self.process.terminate()
        await self.process.wait()
        await self._stderr

    async def call(self, method, **params):
        identity = next(self._ids)
        answer = self._answers[identity] = asyncio.get_running_loop().create_future()
        await self.devtools.send(json.dumps({"id": identity, "method": method, "params": params}))
        async with asyncio.timeout(OPEN_S):
            return await answer

    async def evaluate(self, expression):
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def open(self, url, encoding, subscribe, inbox):
        opened = asyncio.get_running_loop().create_future()
        self._inboxes[url], self._opened[url] = inbox, opened
        name = json.dumps(url)
        await self.evaluate(f"""
            (globalThis.sockets ??= {{}})[{name}] = new WebSocket({name}, ["ticker.v1.{encoding}"]);
            sockets[{name}].onopen = () => sockets[{name}].send({json.dumps(json.dumps(subscribe))});
            sockets[{name}].done = new Promise((done) => (sockets[{name}].onclose = (event) => done(event.code)));
            0
        """)
        async with asyncio.timeout(OPEN_S):
            headers = await opened

        async def close():
            return await self.evaluate(f"sockets[{name}].close(1000), sockets[{name}].done")

        extensions = [value for name, value in headers.items() if name.lower() == "sec-websocket-extensions"]
        return {"extensions": ", ".join(extensions) or None, "close": close}

    async def _read(self):
        async for text in self.devtools:
            event = json.loads(text)
            if "id" in event:
                assert "error" not in event, event
                self._answers.pop(event["id"]).set_result(event["result"])
                continue
            method, params = event["method"], event["params"]
            if method == "Network.webSocketCreated":
                self._sockets[params["requestId"]] = params["url"]
            elif method == "Network.webSocketHandshakeResponseReceived":
                self._opened[self._sockets[params["requestId"]]].set_result(params["response"]["headers"])
            elif method == "Network.webSocketFrameReceived":
                frame = params["response"]
                if frame["opcode"] in (TEXT, BINARY):
                    data = frame["payloadData"]
                    message = data if frame["opcode"] == TEXT else base64.b64decode(data)
                    self._inboxes[self._sockets[params["requestId"]]].put(message)
            elif method == "Network.webSocketFrameError":
                raise AssertionError(params)
