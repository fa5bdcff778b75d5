"""A recorded session comes out exactly as it went in: held against independent readers of the files."""

from decimal import Decimal

import pytest
from read_dbn import read_dbn
from read_tardis import read_tardis
from ticks import Quote, Trade, merge, quotes, trades

from plant import PATIENT

CHANNELS = ["trades", "quotes"]
ES = "es_mbp-1_2024-07-01.dbn.zst"
ES_TRADES = "es_trades_2024-07-01.dbn.zst"
BTC_TRADES = "binance-futures_trades_2020-02-22_BTCUSDT.csv"
BTC_QUOTES = "binance-futures_quotes_2020-02-22_BTCUSDT.csv"


def read(path):
    return (read_tardis if path.suffix == ".csv" else read_dbn)(str(path))


def expected(ticks):
    """(symbol, channel, number, time, values) of each tick, as a client must see them."""
    numbers, rows = {}, []
    for tick in ticks:
        channel = "trades" if isinstance(tick, Trade) else "quotes"
        key = tick.symbol, channel
        numbers[key] = numbers.get(key, 0) + 1
        if isinstance(tick, Trade):
            values = Decimal(tick.price), Decimal(tick.size), tick.side, tick.trade_id
        else:
            values = tuple(
                None if v is None else Decimal(v) for v in (tick.bid, tick.bid_size, tick.ask, tick.ask_size)
            )
        rows.append((*key, numbers[key], tick.time, values))
    return rows


def received(client):
    return [(element.symbol, element.channel, element.seq, element.time, element.values) for element in client.elements]


async def replay(plant, session, paths, encoding, *more):
    """Replays to the first subscriber; returns the client when it has been told of the end."""
    feeds = [argument for path in paths for argument in ("--feed", f"recording:{path}")]
    server = plant(*feeds, "--replay-speed", "max", "--start-on-first-subscriber", *PATIENT, *more)
    client = await session(server.ws, encoding)
    await client.subscribe(CHANNELS, ["*"])
    await client.notice("feed_ended")
    return client


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
@pytest.mark.parametrize(
    ("names", "counts"),
    [
        pytest.param([ES], (120, 2168), id="es-top-of-book"),
        pytest.param([ES_TRADES], (120, 0), id="es-trades"),
        pytest.param([BTC_TRADES], (9999, 0), id="btcusdt-trades"),
        pytest.param([BTC_QUOTES], (0, 9999), id="btcusdt-quotes"),
        pytest.param([BTC_TRADES, BTC_QUOTES], (9999, 9999), id="btcusdt-merged"),
        pytest.param([ES, BTC_QUOTES, BTC_TRADES], (10_119, 12_167), id="all-merged"),
    ],
)
async def test_every_record_comes_out_as_it_went_in(plant, session, recordings, names, counts, encoding):
    paths = [recordings / name for name in names]
    ticks = merge([read(path) for path in paths])
    assert (len(trades(ticks)), len(quotes(ticks))) == counts

    client = await replay(plant, session, paths, encoding)
    client.assert_complete()
    assert not any(element.snapshot for element in client.elements)
    assert (len(client.live("trades")), len(client.live("quotes"))) == counts
    # Element by element first, so that a failure shows the one that differs and not two long lists.
    for got, want in zip(received(client), expected(ticks), strict=True):
        assert got == want


async def test_one_symbol_of_a_replay_is_its_part_of_the_whole(plant, session, recordings):
    paths = [recordings / ES, recordings / BTC_QUOTES]
    feeds = [argument for path in paths for argument in ("--feed", f"recording:{path}")]
    server = plant(*feeds, "--replay-speed", "max", "--start-on-first-subscriber", *PATIENT)
    client = await session(server.ws)
    await client.subscribe(["quotes"], ["ESU4"])
    await client.notice("feed_ended")
    want = [row for row in expected(merge([read(path) for path in paths])) if row[:2] == ("ESU4", "quotes")]
    assert received(client) == want


async def test_the_state_after_the_end_is_the_last_of_each(plant, session, recordings):
    paths = [recordings / BTC_TRADES, recordings / BTC_QUOTES]
    feeds = [argument for path in paths for argument in ("--feed", f"recording:{path}")]
    server = plant(*feeds, "--replay-speed", "max", "--start-on-first-subscriber", *PATIENT)
    first = await session(server.ws)
    await first.subscribe(CHANNELS, ["*"])
    await first.notice("feed_ended")

    late = await session(server.ws)
    await late.notice("feed_ended")
    await late.subscribe(CHANNELS, ["*"])
    await late.until(lambda: len(late.elements) == 2)
    assert all(element.snapshot for element in late.elements)
    assert {element.channel: element for element in late.elements} == {
        channel: first.live(channel)[-1] for channel in CHANNELS
    }


async def test_exponents_are_the_smallest_that_the_tick_needs(plant, session, recordings):
    client = await replay(plant, session, [recordings / ES], "msgpack")
    (instrument,) = client.instruments.values()
    assert (instrument.symbol, instrument.price_exponent, instrument.size_exponent) == ("ESU4", -2, 0)


async def test_a_slow_replay_comes_in_the_order_of_arrival(plant, session, recordings):
    ticks = merge([read(recordings / name) for name in (BTC_TRADES, BTC_QUOTES)])
    feeds = ["--feed", f"recording:{recordings / BTC_TRADES}", "--feed", f"recording:{recordings / BTC_QUOTES}"]
    server = plant(*feeds, "--replay-speed", "100", "--start-on-first-subscriber", *PATIENT)
    client = await session(server.ws, "json")
    await client.subscribe(CHANNELS, ["*"])
    await client.until(lambda: len(client.elements) >= 5000)
    got = received(client)
    assert got == expected(ticks)[: len(got)]


async def test_rebasing_shifts_all_times_alike(plant, session, recordings):
    ticks = read(recordings / ES)
    client = await replay(plant, session, [recordings / ES], "msgpack", "--replay-rebase")
    want = expected(ticks)
    shift = client.elements[0].time - want[0][3]
    assert shift > 0
    assert received(client) == [(*row[:3], row[3] + shift, row[4]) for row in want]
    welcome = client.messages[0]
    assert client.elements[0].time >= welcome["time"] - 60_000_000_000, "the session begins now"


async def test_a_file_cut_short_delivers_what_is_whole_and_fails(plant, session, recordings, tmp_path):
    whole = (recordings / ES).read_bytes()
    path = tmp_path / "cut.dbn.zst"
    path.write_bytes(whole[: len(whole) // 2])
    server = plant("--feed", f"recording:{path}", "--replay-speed", "max", "--start-on-first-subscriber", *PATIENT)
    client = await session(server.ws)
    await client.subscribe(CHANNELS, ["*"])
    await client.notice("feed_failed")
    client.assert_complete()
    got = received(client)
    assert got == expected(read(recordings / ES))[: len(got)]
    assert (await client.until_closed())[0] == 1012


def test_the_reader_knows_both_kinds(recordings):
    assert isinstance(read(recordings / BTC_QUOTES)[0], Quote)
    assert isinstance(read(recordings / BTC_TRADES)[0], Trade)
