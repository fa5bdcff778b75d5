"""A server that follows a script: what it sends, loses, spoils and cuts off stands here, to the element.

The one market that is in every respect the same for every SDK. It keeps to docs/protocol.md, except where the script
has it fail; `Market.published` is the truth that clients are held to.

Not here: who looks at it (test_sdks.py).
"""

import asyncio
from http import HTTPStatus
from random import Random
from zlib import crc32

import msgpack
import websockets
from websockets.asyncio.server import serve

SYMBOLS = {"A": 7, "B": 70_000}
CHANNELS = ("trades", "quotes", "book.10", "status")
STREAMS = [(symbol, channel) for symbol in SYMBOLS for channel in CHANNELS]
SENT_AT = 1_719_840_600_000_000_001
# Far above what any of it takes; it only turns a hang into a failure.
PATIENCE_S = 60


def symbol_of(key):
    return key[0]


class Market:
    """What has happened in an epoch, and what of it can still be had."""

    def __init__(self, epoch):
        self.epoch = epoch
        self.published = {key: [] for key in STREAMS}
        """Elements without their head, by number less 1"""
        self.kept_from = dict.fromkeys(STREAMS, 1)
        self.books = {symbol: {} for symbol in SYMBOLS}
        self.states = {}
        """The whole book after each number"""
        self.passed_over = {key: set() for key in STREAMS}
        """Numbers of what nobody knows yet: not shown, and not missing"""
        self._lots = Random(epoch)

    def happen(self, key):
        """One more element of a stream; gives its number."""
        symbol, channel = key
        lots, log = self._lots, self.published[key]
        number = len(log) + 1
        if channel == "trades":
            log.append([1, lots.randrange(1, 10**6), lots.randrange(1, 10**4), lots.randrange(3), number])
        elif channel == "quotes":
            bid = lots.randrange(1, 10**6)
            log.append([2, bid, 1, bid + 1, 2] if lots.random() < 0.9 else [2, None, None, bid, 3])
        elif channel == "status":
            log.append([7, lots.randrange(5), f"reason {number}"])
        else:
            levels = self.books[symbol]
            side, price = lots.choice([(0, lots.randrange(80, 100)), (1, lots.randrange(100, 120))])
            size = lots.randrange(4)
            levels[side, price] = size
            pairs = [[], []]
            pairs[side].append([price, size])
            # The first element of a book is its state.
            log.append([4 if number == 1 else 5, 10, *pairs, self.checksum(symbol)])
            self.states[symbol, number] = self.book(symbol)
        return number

    def book(self, symbol):
        levels = self.books[symbol]
        bids = sorted(([price, size] for (side, price), size in levels.items() if size and side == 0), reverse=True)
        asks = sorted([price, size] for (side, price), size in levels.items() if size and side == 1)
        return bids, asks

    def checksum(self, symbol):
        bids, asks = self.book(symbol)
        return crc32("".join(f"{price}{size}" for price, size in asks[:10] + bids[:10]).encode())

    def element(self, key, number):
        kind, *fields = self.published[key][number - 1]
        return [kind, SYMBOLS[symbol_of(key)], number, SENT_AT + number, *fields]

    def state(self, key):
        """The last value of a stream; none while there was none."""
        number = len(self.published[key])
        if number == 0:
            return None
        if key[1] == "book.10":
            bids, asks = self.book(key[0])
            return [4, SYMBOLS[key[0]], number, SENT_AT + number, 10, bids, asks, self.checksum(key[0])]
        return self.element(key, number)


def gap(key, from_seq, to_seq, reason):
    return [8, SYMBOLS[symbol_of(key)], to_seq, SENT_AT, key[1], from_seq, to_seq, reason]


class Session:
    """One connection: commands are answered as they come, and the script goes on beside."""

    def __init__(self, market, socket):
        self.market = market
        self.socket = socket
        self.subscribed = {}
        """How often each stream was subscribed"""
        self.stated = set()
        """Streams whose state was sent"""
        self.silent = set()
        """Streams whose commands are not answered"""
        self._changed = asyncio.Condition()

    async def send(self, message):
        await self.socket.send(msgpack.packb(message))

    async def answer_commands(self):
        async for payload in self.socket:
            command = msgpack.unpackb(payload) if isinstance(payload, bytes) else {}
            match command["op"]:
                case "ping":
                    await self.send({"type": "pong", "id": command["id"], "time": SENT_AT})
                case "subscribe":
                    await self._subscribe(command)
                case op:
                    raise AssertionError(f"nobody asked for {op}")

    async def wanted(self, keys, times=1):
        """Waits until the streams were subscribed so often."""
        async with self._changed:
            await self._changed.wait_for(lambda: all(self.subscribed.get(key, 0) >= times for key in keys))

    async def given_state(self, key):
        """Waits until the state of the stream was asked for and sent."""
        async with self._changed:
            await self._changed.wait_for(lambda: key in self.stated)

    async def publish(self, rounds, keys=STREAMS, lost=()):
        """So many elements of each stream; what is of lost streams happens and is not sent."""
        for _ in range(rounds):
            elements = [(key, self.market.happen(key)) for key in keys]
            sent = [self.market.element(key, number) for key, number in elements if key not in lost]
            await self.send([SENT_AT, *sent])

    async def _subscribe(self, command):
        keys = [
            (symbol, channel) for symbol in command["symbols"] if symbol in SYMBOLS for channel in command["channels"]
        ]
        refused = {
            "unknown_symbol": [symbol for symbol in command["symbols"] if symbol == "NOPE"],
            "not_entitled": [symbol for symbol in command["symbols"] if symbol == "SECRET"],
        }
        if not self.silent & set(keys):
            await self._answer(command, keys, {code: symbols for code, symbols in refused.items() if symbols})
        async with self._changed:
            for key in keys:
                self.subscribed[key] = self.subscribed.get(key, 0) + 1
            self._changed.notify_all()

    async def _answer(self, command, keys, refused):
        head = {"type": "error", "id": command["id"], "message": "no"}
        errors = [head | {"code": code, "symbols": symbols} for code, symbols in refused.items()]
        if errors and not keys:
            await self.send(errors[0])
            return
        gaps, states, missed, recovered = [], [], [], {}
        since = command.get("since") or {"epoch": None, "seqs": {}}
        for key in keys:
            symbol, channel = key
            last = since["seqs"].get(symbol, {}).get(channel)
            newest = len(self.market.published[key])
            how = None
            if last is not None and since["epoch"] == str(self.market.epoch) and last <= newest:
                if last + 1 >= self.market.kept_from[key]:
                    how = "recovered"
                    missed += [self.market.element(key, number) for number in range(last + 1, newest + 1)]
                else:
                    how = "gap"
                    gaps.append(gap(key, last + 1, newest, "evicted"))
            elif last is not None:
                how = "snapshot"
            if how is not None:
                recovered.setdefault(symbol, {})[channel] = how
            if how != "recovered" and (state := self.market.state(key)):
                states.append(state)
                self.stated.add(key)
        rows = [[symbol, number, -2, 0] for symbol, number in SYMBOLS.items() if symbol in command["symbols"]]
        answer = {"type": "subscribed", "id": command["id"], "instruments": rows, "channels": command["channels"]}
        await self.send(answer | {"mode": "every", "interval_ms": 0, "recovered": recovered})
        for error in errors:
            await self.send(error)
        if gaps:
            await self.send([SENT_AT, *gaps])
        if states:
            await self.send([SENT_AT, [0, len(states)], *states])
        if missed:
            await self.send([SENT_AT, *missed])


async def torn(session):
    """A frame that breaks off, and the connection with it."""
    session.socket.transport.write(bytes([0x82, 0x7D, 0x92, 0xCF]))
    session.socket.transport.abort()


async def begin(session):
    await session.wanted(STREAMS)
    await session.publish(30)
    # A status of a later server: its number is taken, and nothing is shown for it.
    market = session.market
    market.published["B", "status"].append([7, 9, "rumour"])
    number = len(market.published["B", "status"])
    market.passed_over["B", "status"].add(number)
    await session.send([SENT_AT, market.element(("B", "status"), number)])
    await session.publish(2, keys=[("B", "status")])
    # Of kinds and instruments that nobody knows yet, and what was sent already.
    await session.send([SENT_AT, [99, 7, 1, SENT_AT, "later"], [1, 5, 1, SENT_AT, 1, 1, 1, 1]])
    await session.send({"type": "weather", "sunny": True})
    await session.send([SENT_AT, session.market.element(("A", "trades"), 30)])
    # What happens now is on its way when the connection is torn.
    await session.publish(5, lost=STREAMS)
    await torn(session)


async def spoil(session):
    await session.wanted(STREAMS)
    await session.publish(10)
    # Declared: the client was slow. Not declared: the numbers jump.
    slow = [("A", "trades"), ("B", "quotes")]
    before = {key: len(session.market.published[key]) for key in slow}
    await session.publish(7, keys=slow, lost=slow)
    await session.send([SENT_AT, *(gap(key, before[key] + 1, before[key] + 7, "slow") for key in slow)])
    await session.publish(3, keys=[("B", "trades")], lost=[("B", "trades")])
    await session.publish(4)
    # A book that does not come out is asked for again, and the answer never comes.
    key = ("A", "book.10")
    number = session.market.happen(key)
    wrong = session.market.element(key, number)
    session.silent.add(key)
    await session.send([SENT_AT, [*wrong[:-1], wrong[-1] ^ 1]])
    await session.wanted([key], times=2)
    # Nothing of the book: some SDKs resume it before they ask for its state, others ask for the state alone.
    others = [other for other in STREAMS if other != key]
    await session.publish(2, keys=others, lost=others)
    session.socket.transport.abort()


async def drain(session):
    await session.wanted(STREAMS)
    # The book is still wrong, whatever was lost on the way.
    await session.given_state(("A", "book.10"))
    await session.publish(10)
    message = {"type": "notice", "code": "draining", "reconnect_after_ms": 20, "message": "bye"}
    await session.send(message)
    await session.publish(3)
    await session.socket.close(1012, "draining")
    # While nobody is there more happens than is kept, of most streams.
    market = session.market
    for key in STREAMS:
        for _ in range(50):
            market.happen(key)
        if key != ("B", "status"):
            market.kept_from[key] = len(market.published[key]) - 5


async def return_after_eviction(session):
    await session.wanted(STREAMS)
    await session.publish(10)
    await torn(session)


async def finish(session):
    """Another run of numbers, and its end."""
    await session.wanted(STREAMS)
    await session.publish(20)
    session.market.published["A", "status"].append([7, 1, "done"])
    number = len(session.market.published["A", "status"])
    await session.send([SENT_AT, session.market.element(("A", "status"), number)])


class Scenario:
    """The script: one part for each connection, with a refused hand-shake in between and a restart before the last."""

    PARTS = (begin, spoil, drain, return_after_eviction, finish)

    def __init__(self):
        self.markets = [Market(1), Market(2)]
        self.url = ""
        self.connections = 0
        self.refusals = 0
        self.failure = None
        self._server = None

    async def __aenter__(self):
        protocols = ["ticker.v1.msgpack"]
        settings = {"compression": None, "ping_interval": None, "subprotocols": protocols}
        self._server = await serve(self._session, "127.0.0.1", 0, process_request=self._door, **settings)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"ws://{host}:{port}/ws"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    def _door(self, connection, _request):
        """One attempt is turned away, as by a proxy whose server is just being started anew."""
        if self.connections == 4 and self.refusals == 0:
            self.refusals += 1
            return connection.respond(HTTPStatus.BAD_GATEWAY, "not yet\n")
        return None

    async def _session(self, socket):
        number = self.connections
        self.connections += 1
        assert number < len(self.PARTS), "the script is over"
        market = self.markets[number == len(self.PARTS) - 1]
        limits = {"message_bytes_max": 65536, "commands_per_s": 0, "commands_burst": 50}
        welcome = {"type": "welcome", "version": "1", "session": f"{number}", "epoch": f"{market.epoch}"}
        session = Session(market, socket)
        commands = None
        try:
            await session.send(welcome | {"time": SENT_AT, "heartbeat_ms": 10_000, "limits": limits})
            commands = asyncio.create_task(session.answer_commands())
            async with asyncio.timeout(PATIENCE_S):
                await self.PARTS[number](session)
                await socket.wait_closed()
        except websockets.ConnectionClosed:
            pass
        except BaseException as failure:
            self.failure = self.failure or failure
            raise
        finally:
            if commands is not None:
                commands.cancel()
