"""The end of things: of the recording, of the feed, of the server."""

import asyncio

from plant import PATIENT

TRADES_HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"


def trade_row(number, price="9682.19", microseconds=None):
    when = 1_582_329_600_000_000 + (microseconds or number * 1000)
    return f"binance-futures,BTCUSDT,{when},{when + 500},{number},buy,{price},0.5"


def recording(folder, rows, name="trades.csv"):
    path = folder / name
    path.write_text("\n".join([TRADES_HEADER, *rows]) + "\n")
    return path


def replay(path, *more):
    return ("--feed", f"recording:{path}", "--replay-speed", "max", *PATIENT, *more)


# As `tickerplant --help` lists it.
FEED_FAILED = 5

FROM_THE_FIRST = "--start-on-first-subscriber"


async def test_the_end_of_a_recording_is_told_now_and_later(plant, session, tmp_path):
    path = recording(tmp_path, [trade_row(number) for number in range(1, 21)])
    server = plant(*replay(path, FROM_THE_FIRST))
    first = await session(server.ws)
    await first.subscribe(["trades", "quotes"], ["*"])
    await first.notice("feed_ended")
    assert [element.seq for element in first.live("trades")] == list(range(1, 21))
    assert await first.lives()

    later = await session(server.ws, "json")
    await later.notice("feed_ended")
    await later.subscribe(["trades", "quotes"], ["*"])
    await later.until(lambda: later.elements)
    (state,) = later.elements
    assert (state.snapshot, state.seq) == (True, 20)
    assert state == first.live("trades")[-1]
    assert server.process.poll() is None


async def test_a_bad_record_fails_the_feed_and_ends_the_server(plant, session, tmp_path):
    rows = [trade_row(1), trade_row(2), trade_row(3, price="cheap"), trade_row(4)]
    server = plant(*replay(recording(tmp_path, rows), FROM_THE_FIRST))
    client = await session(server.ws)
    await client.subscribe(["trades"], ["*"])
    await client.notice("feed_failed")
    assert [element.seq for element in client.live("trades")] == [1, 2]
    code, _ = await client.until_closed()
    assert code == 1012
    assert await asyncio.to_thread(server.wait) == FEED_FAILED
    report = server.stderr() + "\n".join(server.lines)
    assert "trades.csv" in report
    assert "4" in report, "the line (the header is line 1)"


async def test_a_bad_record_is_skipped_on_demand(plant, session, tmp_path):
    rows = [trade_row(1), trade_row(2, price="cheap"), trade_row(3), "half,a,row", trade_row(5)]
    server = plant(*replay(recording(tmp_path, rows), FROM_THE_FIRST, "--on-bad-record", "skip"))
    client = await session(server.ws)
    await client.subscribe(["trades"], ["*"])
    await client.notice("feed_ended")
    client.assert_complete()
    assert [element.values[3] for element in client.live("trades")] == [1, 3, 5]


async def test_a_loop_goes_on_with_its_numbers_and_times(plant, session, tmp_path):
    path = recording(tmp_path, [trade_row(number) for number in range(1, 6)])
    server = plant(*replay(path, FROM_THE_FIRST, "--replay-loop"))
    client = await session(server.ws)
    await client.subscribe(["trades"], ["*"], slow="conflate")
    await client.until(lambda: len(client.live("trades")) >= 50)
    trades = [element for element in client.live("trades") if element.type == "trade"][:50]
    times = [element.time for element in trades]
    assert times == sorted(times)
    assert [element.seq for element in trades] == sorted({element.seq for element in trades})


async def test_draining_is_announced_and_ends_with_zero(plant, session):
    server = plant("--sim-symbols", 10, "--sim-rate", 1000)
    clients = [await session(server.ws, encoding) for encoding in ("msgpack", "json", "msgpack", "json")]
    for client in clients:
        await client.subscribe(["trades", "quotes"], ["*"])
    server.terminate()
    for client in clients:
        notice = await client.notice("draining")
        assert notice["reconnect_after_ms"] >= 0
        assert (await client.until_closed())[0] == 1012
        client.assert_complete()
    assert await asyncio.to_thread(server.wait) == 0


async def test_a_second_signal_ends_at_once(plant, session):
    server = plant("--sim-symbols", 10, "--sim-rate", 1000)
    clients = [await session(server.ws) for _ in range(10)]
    server.terminate()
    for client in clients:
        await client.notice("draining")
    server.terminate()
    codes = [(await client.until_closed())[0] for client in clients]
    assert set(codes) <= {1001, 1012}
    assert 1001 in codes
    assert await asyncio.to_thread(server.wait) == 0


async def test_a_server_without_clients_ends_at_once(plant):
    server = plant("--sim-rate", 10)
    server.terminate()
    assert await asyncio.to_thread(server.wait) == 0


async def test_the_first_subscriber_gets_everything(plant, session):
    server = plant("--sim-symbols", 5, "--sim-rate", 2000, "--sim-scenario", "uniform", FROM_THE_FIRST)
    client = await session(server.ws)
    assert await client.lives()
    await client.subscribe(["trades", "quotes"], ["*"])
    await client.until(lambda: len(client.live()) > 500)
    assert not any(element.snapshot for element in client.elements)
    client.assert_complete()
