"""The SDK against the real server: cuts, a killed server, slow readers, tokens."""

import asyncio
import re
import subprocess
import urllib.request

import pytest
from plant import BINARY
from relay import Relay

import tickerplant
from tickerplant import (
    Backoff,
    BookDelta,
    BookProblem,
    BookSnapshot,
    Connected,
    ConnectError,
    Ended,
    Gap,
    Lost,
    Quote,
    Refused,
    RequestError,
    Subscribed,
    Trade,
    blocking,
    connect,
)

MARKET = ("--sim-seed", 11, "--sim-symbols", 6, "--sim-rate", 2000, "--sim-scenario", "busy")
CHANNELS = ["trades", "quotes", "book.10"]
SOON = Backoff(first_s=0.002, longest_s=0.008)
CUTS = 100


class Shown:
    """What a client was shown of each stream: values by number, what is missing; order is checked as it comes."""

    def __init__(self):
        self.values = {}
        self.missing = {}
        self.last = {}
        self.losses = 0
        self.resumed = 0

    def take(self, client, event):
        match event:
            case Connected(epoch_changed=changed):
                assert not changed
            case Lost():
                self.losses += 1
            case Subscribed(recovered=recovered):
                self.resumed += len(recovered)
            case Gap():
                stream = event.symbol, event.channel
                last = self.last.get(stream)
                assert last is None or event.from_seq == last + 1, f"{event} after {last}"
                assert event.reason != "undeclared", event
                self.missing.setdefault(stream, []).append(range(event.from_seq, event.to_seq + 1))
                self.last[stream] = event.to_seq
            case Trade() | Quote() | BookDelta() | BookSnapshot():
                self._value(client, event)
            case BookProblem() | Refused() | Ended():
                raise AssertionError(event)

    def _value(self, client, event):
        stream = event.symbol, event.channel
        last = self.last.get(stream)
        self.last[stream] = event.seq
        if isinstance(event, (BookDelta, BookSnapshot)):
            # With each event the book is that of the event, and its checksum was compared.
            book = client.book(event.symbol)
            assert (book.seq, book.checksum()) == (event.seq, event.checksum)
            value = event.bid_mantissas, event.ask_mantissas, event.checksum
        elif isinstance(event, Trade):
            value = event.price, event.size, event.side, event.trade_id
        else:
            value = event.bid, event.ask
        if event.snapshot:
            assert last is None or event.seq == last, f"{stream}: state {event.seq} after {last}"
        else:
            assert last is None or event.seq == last + 1, f"{stream}: {event.seq} after {last}"
            self.values.setdefault(stream, {})[event.seq] = value


async def persistent(url, **options):
    """The first connections may be cut within their hand-shake, which is the caller's to bear."""
    while True:
        try:
            return await connect(url, **options)
        except ConnectError:
            await asyncio.sleep(0)


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_a_client_that_is_cut_at_random_misses_nothing_that_it_does_not_name(plant, encoding):
    server = plant(*MARKET)
    async with Relay(server.host_and_port, seed=77) as relay, connect(server.ws) as straight:
        cut = await persistent(relay.address, encoding=encoding, reconnect=SOON, transports=("websocket",))
        whole, torn = Shown(), Shown()
        try:
            straight.subscribe(CHANNELS, "*")
            cut.subscribe(CHANNELS, "*")

            async def read(client, shown, until):
                while not until():
                    shown.take(client, await client.next())

            reading = asyncio.create_task(read(straight, whole, lambda: False))
            await read(cut, torn, lambda: relay.cuts >= CUTS)
            relay.calm = True
            target = dict(whole.last)
            await read(cut, torn, lambda: all(torn.last.get(stream, 0) >= last for stream, last in target.items()))
            await read(cut, torn, lambda: reading.done() or all(whole.last[s] >= torn.last[s] for s in target))
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert reading.cancelled(), reading.exception()
            assert cut.counters.heartbeats_wrong == 0
        finally:
            await cut.close()
    compared = missing = 0
    for stream, last in target.items():
        mine, gaps = torn.values[stream], torn.missing.get(stream, [])
        for seq, value in whole.values[stream].items():
            # The cut client may have begun later, with the state.
            if min(mine) <= seq <= last:
                if seq in mine:
                    assert mine[seq] == value, f"{stream} {seq}"
                else:
                    assert any(seq in gap for gap in gaps), f"{stream}: {seq} is just gone"
                    missing += 1
                compared += 1
    print(f"{torn.losses} lost, {torn.resumed} streams resumed, {compared} compared, {missing} named missing")
    assert torn.losses >= CUTS / 4
    assert torn.resumed > 50
    assert compared > 500


async def test_a_killed_server_that_comes_back_is_found_again_and_the_numbers_begin_anew(plant):
    server = plant(*MARKET)
    async with connect(server.ws, reconnect=Backoff(first_s=0.02, longest_s=0.2)) as client:
        client.subscribe(CHANNELS, "*")
        seen = await trades(client, 50)
        server.process.kill()
        server.process.wait()
        again = plant(*MARKET, listen=server.address)
        assert again.address == server.address
        async for event in client:
            if isinstance(event, Connected):
                break
            assert not isinstance(event, Gap)
        assert event.epoch_changed
        shown = Shown()
        while shown.resumed == 0 and len(shown.values.get(seen, ())) < 20:
            shown.take(client, await client.next())
        assert shown.missing == {}
        assert client.book(seen[0]).whole


async def trades(client, count):
    """The stream of the last of so many live trades."""
    async for trade in client.of(Trade):
        count -= not trade.snapshot
        if count == 0:
            return trade.symbol, trade.channel


async def test_a_reader_that_stops_gets_gaps_that_add_up_and_costs_no_memory(plant):
    # JSON, so that the buffers of both kernels fill soon.
    server = plant("--sim-symbols", 50, "--sim-rate", 20_000, "--outbox-bytes-max", 65_536, "--heartbeat-ms", 500)
    async with connect(server.ws, encoding="json", events_max=1000, books=False) as client:
        client.subscribe(["trades", "quotes"], "*")
        while await asyncio.to_thread(stalls, server) == 0:
            # The client's task runs meanwhile, and must not take in more than its bound.
            pass
        # A message is taken in whole.
        assert len(client._driver.events) < 1000 + 10_000
        with pytest.raises(RequestError, match="take them first"):
            await client.instruments()
        last, missing = {}, 0
        while not missing or client.counters.missing > missing:
            event = await client.next()
            if isinstance(event, Gap):
                assert event.reason in ("slow", "conflated"), event
                missing += event.count
                before = last.get((event.symbol, event.channel))
                # The first loss may come before the first value of an instrument that trades seldom.
                assert before is None or event.from_seq == before + 1
                last[event.symbol, event.channel] = event.to_seq
            elif isinstance(event, (Trade, Quote)):
                before = last.get((event.symbol, event.channel))
                assert before is None or event.snapshot or event.seq == before + 1
                last[event.symbol, event.channel] = event.seq
        assert client.counters.heartbeats_wrong == 0
        assert client.counters.connections == 1


def stalls(server):
    """How often the server had to leave values out."""
    with urllib.request.urlopen(f"{server.http}/metrics") as answer:
        return int(re.search(r"^tickerplant_stalls_total (\d+)$", answer.read().decode(), re.M)[1])


async def test_rates_and_modes(plant):
    server = plant(*MARKET)
    async with connect(server.http, compression=True) as client:
        client.subscribe("quotes", "*", latest_ms=20)
        async for answer in client.of(Subscribed):
            assert answer.interval_ms == 20
            break
        numbers = {}
        async for quote in client.of(Quote):
            numbers.setdefault(quote.symbol, []).append(quote.seq)
            if any(len(seqs) > 1 and seqs[-1] - seqs[0] > len(seqs) for seqs in numbers.values()):
                break
        client.update("quotes", "*", latest_ms=None)
        async for answer in client.of(Subscribed):
            assert answer.interval_ms is None
            break
        last = {}
        async for event in client.of(Quote, Gap):
            assert isinstance(event, Quote), event
            assert event.seq == last.get(event.symbol, event.seq - 1) + 1
            last[event.symbol] = event.seq
            if len(last) > 3 and len(last) < event.seq:
                break
        client.unsubscribe("quotes")
        async for _ in client.of(tickerplant.Unsubscribed):
            break


async def test_unknown_symbols_are_refused_and_the_rest_goes_on(plant):
    async with connect(plant(*MARKET).ws) as client:
        symbol = (await client.instruments())[0].symbol
        ticket = client.subscribe("trades", [symbol, "NOPE"])
        async for refusal in client.of(Refused):
            assert (refusal.ticket, refusal.code, refusal.symbols) == (ticket, "unknown_symbol", ["NOPE"])
            break
        assert await trades(client, 3) == (symbol, "trades")


@pytest.fixture
def keys(tmp_path):
    """A file with a key, and the key."""
    file = tmp_path / "keys.toml"
    command = [BINARY, "keys", "new", "--file", file, "--name", "desk"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    return file, re.search(r"tp_\w+", made.stdout)[0]


async def test_keys_are_presented_either_way_and_bad_ones_are_the_end(plant, keys):
    file, key = keys
    server = plant(*MARKET, "--api-keys-file", file)
    with pytest.raises(ConnectError, match="401"):
        await connect(server.ws, token="tp_wrong")
    asked = []

    async def fresh():
        asked.append(key)
        return key

    for options in ({"token": key}, {"token": fresh}, {"token": lambda: key, "auth_command": True}):
        async with connect(server.ws, **options) as client:
            client.subscribe("trades", "*")
            assert await trades(client, 3)
    assert asked == [key]
    with pytest.raises(ConnectError, match="authentication failed"):
        await connect(server.ws, token="tp_wrong", auth_command=True)


async def test_nobody_there_is_an_error_that_says_so():
    with pytest.raises(ConnectError, match=r"cannot connect to ws://127.0.0.1:9/ws: nobody listens there"):
        await connect("http://127.0.0.1:9")
    for url in ("127.0.0.1:9", "ftp://there", "ws://", "http://[::1"):
        with pytest.raises(ConnectError, match="is not an address"):
            await connect(url)


def exhaust(client):
    """Takes what has come, until nothing does."""
    while client.next(timeout_s=0.2) is not None:
        pass


def test_without_asyncio(plant):
    server = plant(*MARKET)
    with blocking.connect(server.ws) as client:
        symbols = [one.symbol for one in client.instruments()]
        assert len(symbols) == 6
        client.subscribe(["trades", "book.10"], symbols)
        shown = Shown()
        while len(shown.values.get((symbols[0], "trades"), ())) < 20:
            shown.take(client, client.next(timeout_s=30))
        client.unsubscribe()
        for _ in client.of(tickerplant.Unsubscribed):
            break
        with pytest.raises(TimeoutError):
            exhaust(client)
        assert client.ended is None
    rest = list(client)
    assert isinstance(rest[-1], Ended)
    with pytest.raises(tickerplant.ConnectError):
        blocking.connect("http://127.0.0.1:9")
