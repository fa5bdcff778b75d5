"""A fan-out server on Python's websockets, with its own broadcast.

Tick k is due at begin + k / rate. It is a quote or a trade in turns, of the instruments round robin, as in the tested
server's `uniform` scenario. Its time is the instant at which it was due, whenever it really goes out.
"""

import argparse
import asyncio
import datetime
import json
import math
import struct
import time

from websockets.asyncio.server import broadcast, serve

TICKS_MAX = 1000


def unsigned(value):
    if value < 128:
        return bytes((value,))
    if value < 256:
        return struct.pack(">BB", 0xCC, value)
    if value < 65536:
        return struct.pack(">BH", 0xCD, value)
    return struct.pack(">BI", 0xCE, value)


class Packed:
    """The native protocol in MessagePack."""

    def control(self, kind):
        return b"\x81\xa4type" + bytes((0xA0 | len(kind),)) + kind.encode()

    def element(self, trade, symbol, seq, time_ns):
        values = (968219, 150, 1, seq) if trade else (968218, 200, 968220, 150)
        head = (b"\x98", bytes((1 if trade else 2,)), unsigned(symbol), unsigned(seq), struct.pack(">BQ", 0xCF, time_ns))
        return b"".join((*head, *map(unsigned, values)))

    def message(self, elements):
        count = len(elements) + 1
        head = bytes((0x90 | count,)) if count < 16 else struct.pack(">BI", 0xDD, count)
        return b"".join((head, struct.pack(">BQ", 0xCF, time.time_ns()), *elements))


class Json:
    """The native protocol in JSON."""

    def control(self, kind):
        return json.dumps({"type": kind, "instruments": []}, separators=(",", ":"))

    def element(self, trade, symbol, seq, time_ns):
        head = f'"symbol":"S{symbol}","seq":{seq},"time":"{rfc3339(time_ns)}"'
        if trade:
            return f'{{"type":"trade",{head},"price":"9682.19","size":"150","side":"buy","trade_id":{seq}}}'
        return f'{{"type":"quote",{head},"bid":"9682.18","bid_size":"200","ask":"9682.20","ask_size":"150"}}'

    def message(self, elements):
        return f'{{"sent_at":"{rfc3339(time.time_ns())}","data":[{",".join(elements)}]}}'


def rfc3339(ns):
    seconds = datetime.datetime.fromtimestamp(ns // 1_000_000_000, datetime.UTC)
    return f"{seconds:%Y-%m-%dT%H:%M:%S}.{ns % 1_000_000_000:09}Z"


class Server:
    def __init__(self, options):
        self.options = options
        self.encode = Json() if options.format == "json" else Packed()
        self.everything = set()
        self.by_symbol = {}
        self.gathering = {}

    async def session(self, connection):
        await connection.send(self.encode.control("welcome"))
        try:
            async for message in connection:
                command = json.loads(message)
                if command["op"] != "subscribe":
                    continue
                await connection.send(self.encode.control("subscribed"))
                if command["symbols"] == ["*"]:
                    self.everything.add(connection)
                    continue
                symbols = [int(symbol[1:]) for symbol in command["symbols"]]
                if self.options.batch_us:
                    self.gathering[connection] = symbols
                else:
                    for symbol in symbols:
                        self.by_symbol.setdefault(symbol, set()).add(connection)
        finally:
            self.everything.discard(connection)
            self.gathering.pop(connection, None)
            for connections in self.by_symbol.values():
                connections.discard(connection)

    def flush(self, ticks):
        if not self.options.batch_us:
            for symbol, element in ticks:
                message = self.encode.message((element,))
                broadcast(self.everything, message)
                if connections := self.by_symbol.get(symbol):
                    broadcast(connections, message)
            return
        if self.everything:
            broadcast(self.everything, self.encode.message([element for _, element in ticks]))
        lists = {}
        for symbol, element in ticks:
            lists.setdefault(symbol, []).append(element)
        for connection, symbols in self.gathering.items():
            own = [element for symbol in symbols for element in lists.get(symbol, ())]
            if own:
                broadcast((connection,), self.encode.message(own))

    async def publish(self):
        options = self.options
        begin, following, turns = time.time_ns(), 0, 0
        seqs = ([0] * options.symbols, [0] * options.symbols)
        while True:
            due = min(int((time.time_ns() - begin) * options.rate / 1e9) + 1, following + TICKS_MAX)
            ticks = []
            for number in range(following, due):
                symbol = number % options.symbols
                trade = (number // options.symbols + symbol) % 2
                seqs[trade][symbol] += 1
                time_ns = begin + int(number * 1e9 / options.rate)
                ticks.append((symbol, self.encode.element(trade, symbol, seqs[trade][symbol], time_ns)))
            following = max(following, due)
            if ticks:
                self.flush(ticks)
            now = (time.time_ns() - begin) / 1e9
            if now * options.rate - following > TICKS_MAX / 2:
                await asyncio.sleep(0)
                continue
            every = options.batch_us / 1e6 or 0.001
            turns = max(turns + 1, math.ceil(now / every))
            await asyncio.sleep(turns * every - now)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9003)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--symbols", type=int, default=1000)
    parser.add_argument("--batch-us", type=int, default=0)
    parser.add_argument("--format", default="msgpack")
    parser.add_argument("--deflate", default="off")
    options = parser.parse_args()
    server = Server(options)
    compression = "deflate" if options.deflate == "on" else None
    async with serve(
        server.session, "127.0.0.1", options.port, compression=compression, backlog=4096, open_timeout=60, ping_interval=None
    ):
        print(f"listening on http://127.0.0.1:{options.port}", flush=True)
        await server.publish()


asyncio.run(main())
