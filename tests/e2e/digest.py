"""A client that keeps of a long stream only what it takes to compare it with another's: a digest of every thousand
elements of each stream. node/digest.mjs is the same in JavaScript.

    python digest.py URL ENCODING OFFER     OFFER is `none` or the parameters of permessage-deflate in JSON

Says `ready` once it is subscribed. A line on stdin ends it: a JSON object with the numbers that it shall have reached
in each stream before it does. Its last line on stdout is the result.
"""

import asyncio
import hashlib
import json
import sys

import msgpack
import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

BLOCK = 1000
GAP_KIND = 8


class Digest:
    def __init__(self):
        self.messages = self.elements = self.gaps = 0
        self.breaks = []
        self.last = {}
        self.blocks = {}
        self.times = []
        self._open = {}

    def take(self, key, seq, values, snapshot):
        if not snapshot:
            self.elements += 1
            if seq != self.last.get(key, 0) + 1:
                self.breaks.append(f"{key}: {seq} after {self.last.get(key, 0)}")
            block = self._open.setdefault(key, [])
            if seq % BLOCK == 0:
                block.clear()
            block.append("|".join(["" if value is None else str(value) for value in values]))
            if seq % BLOCK == BLOCK - 1 and len(block) == BLOCK:
                digest = hashlib.sha1("\n".join(block).encode()).hexdigest()
                self.blocks[f"{key}#{seq // BLOCK}"] = digest
        self.last[key] = seq

    def take_json(self, message):
        snapshot = message.get("snapshot", False)
        for element in message["data"]:
            if element["type"] == "gap":
                self.gaps += 1
            else:
                key = f"{element['symbol']}/{element['type']}"
                self.take(key, element["seq"], element.values(), snapshot)
        self.note_time(message["data"][-1]["time"])

    def take_packed(self, message):
        snapshot = message[1][0] == 0
        for element in message[1 + snapshot :]:
            if element[0] == GAP_KIND:
                self.gaps += 1
            else:
                self.take(f"{element[1]}/{element[0]}", element[2], element, snapshot)
        self.note_time(message[-1][3])

    def note_time(self, time):
        self.times[1:] = [time] if self.times else []
        self.times = self.times or [time]

    def has_reached(self, numbers):
        return all(self.last.get(key, 0) >= seq for key, seq in numbers.items())


async def run(url, encoding, offer):
    extensions = [ClientPerMessageDeflateFactory(**offer)] if offer is not None else None
    digest = Digest()
    loop = asyncio.get_running_loop()
    until = loop.run_in_executor(None, sys.stdin.readline)
    async with websockets.connect(
        url,
        subprotocols=[f"ticker.v1.{encoding}"],
        compression=None,
        extensions=extensions,
        max_size=None,
        proxy=None,
    ) as socket:
        await socket.send(json.dumps({"op": "subscribe", "channels": ["trades", "quotes"], "symbols": ["*"]}))
        async for raw in socket:
            message = json.loads(raw) if encoding == "json" else msgpack.unpackb(raw)
            digest.messages += 1
            if isinstance(message, list):
                digest.take_packed(message)
            elif "data" in message:
                digest.take_json(message)
            elif message["type"] == "subscribed":
                print("ready", flush=True)
            else:
                assert message["type"] in ("welcome", "heartbeat"), message
            if until.done() and digest.has_reached(json.loads(until.result() or "{}")):
                break
        answer = socket.response.headers.get("Sec-WebSocket-Extensions")
    names = ("messages", "elements", "gaps", "breaks", "last", "blocks", "times")
    print(json.dumps({name: getattr(digest, name) for name in names} | {"extensions": answer}), flush=True)


if __name__ == "__main__":
    url, encoding, offer = sys.argv[1:]
    asyncio.run(run(url, encoding, None if offer == "none" else json.loads(offer)))
