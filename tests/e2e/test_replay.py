"""Sessions that are recorded and played back: byte for byte, after kills, on a full disk, step by step.

What the format is on disk is held by the tests of the Rust crate; here the real binary writes and reads it.
"""

import asyncio
import csv
import io
import json
import random
import resource
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from decimal import Decimal

import msgpack
import pytest
import websockets
from read_dbn import read_dbn
from ticks import Quote, Trade

import plant as plants
from plant import PATIENT

ESH4 = "esh4_mbo_2023-12-25.dbn.zst"
BTC_TRADES = "binance-futures_trades_2020-02-22_BTCUSDT.csv"
BTC_QUOTES = "binance-futures_quotes_2020-02-22_BTCUSDT.csv"
CHANNELS = ["trades", "quotes", "ticker", "status", "bars.1s", "bars.1m", "book.10", "book.50", "book.full"]
KILLS = 50
KILL_SEED = 6


def tool(*arguments):
    done = plants.run_to_end(*arguments)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def record(*arguments, out):
    return tool("record", *arguments, "--out", out, "--log", "warn")


def exported(path, channel):
    """The lines of a channel, as texts; empty when nothing has been recorded of it."""
    return list(csv.reader(io.StringIO(tool("export", path, "--format", "csv", "--schema", channel))))[1:]


async def elements(url, channels=CHANNELS, count=None):
    """The bytes of all live elements until the feed has ended or there are `count`, and the epoch."""
    found = []
    async with websockets.connect(
        url, subprotocols=["ticker.v1.msgpack"], max_size=None, max_queue=None, proxy=None, compression=None
    ) as socket:
        epoch = msgpack.unpackb(await socket.recv())["epoch"]
        await socket.send(msgpack.packb({"op": "subscribe", "channels": channels, "symbols": ["*"], "id": 1}))
        async with asyncio.timeout(120):
            while count is None or len(found) < count:
                message = msgpack.unpackb(await socket.recv(), strict_map_key=False)
                if isinstance(message, dict):
                    if message["type"] == "notice" and message["code"] == "feed_ended":
                        break
                    assert message["type"] != "error", message
                elif message[1][0] != 0:
                    # Packed again in the shortest form, which is the server's.
                    found.extend(msgpack.packb(element) for element in message[1:])
    return found, epoch


@pytest.mark.parametrize(
    "names", [pytest.param([ESH4], id="esh4"), pytest.param([BTC_TRADES, BTC_QUOTES], id="btcusdt")]
)
async def test_a_replay_is_the_recorded_session_byte_for_byte(plant, recordings, tmp_path, names):
    path = tmp_path / "session.tpr"
    feeds = [argument for name in names for argument in ("--feed", f"recording:{recordings / name}")]
    server = plant(*feeds, "--replay-speed", "max", "--start-on-first-subscriber", *PATIENT, "--record", path)
    live, epoch = await elements(server.ws)
    server.close()
    assert "closed, with an index" in tool("inspect", path)

    again = plant("--feed", f"recording:{path}", "--replay-speed", "max", "--start-on-first-subscriber", *PATIENT)
    replayed, its_epoch = await elements(again.ws)
    assert its_epoch == epoch
    assert len(replayed) == len(live)
    assert all(a == b for a, b in zip(live, replayed, strict=True))


async def test_a_simulated_session_is_replayed_byte_for_byte(plant, tmp_path):
    path = tmp_path / "session.tpr"
    market = ["--sim-scenario", "busy", "--sim-symbols", 20, "--sim-rate", 2000]
    server = plant(*market, "--start-on-first-subscriber", *PATIENT, "--record", path)
    live, _ = await elements(server.ws, count=6000)
    server.close()
    again = plant("--feed", f"recording:{path}", "--replay-speed", "max", "--start-on-first-subscriber", *PATIENT)
    replayed, _ = await elements(again.ws)
    assert len(replayed) >= len(live) >= 6000
    assert all(a == b for a, b in zip(live, replayed, strict=False))


def test_recording_a_replay_changes_nothing(recordings, tmp_path):
    first, second = tmp_path / "1.tpr", tmp_path / "2.tpr"
    record("--feed", f"recording:{recordings / ESH4}", "--replay-speed", "max", out=first)
    record("--feed", f"recording:{first}", "--replay-speed", "max", out=second)
    for channel in ("trades", "quotes", "ticker", "book.full"):
        assert exported(first, channel) == exported(second, channel) != []


def without_times(rows):
    """Whatever is the same in two runs of the same simulated market that began at different moments."""
    return [row[:2] + row[3:] for row in rows]


def test_kills_at_random_moments_lose_the_open_block_and_nothing_else(tmp_path):
    market = ["--sim-seed", 3, "--sim-symbols", 30, "--sim-rate", 20_000]
    whole = tmp_path / "whole.tpr"
    process = subprocess.Popen(
        [plants.BINARY, "record", *map(str, market), "--out", str(whole)],
        env=plants.environment(),
        stderr=subprocess.DEVNULL,
    )
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(plants.EXIT_S) == 0
    want = {channel: without_times(exported(whole, channel)) for channel in ("trades", "quotes")}
    chance = random.Random(KILL_SEED)
    with_elements = 0
    for number in range(KILLS):
        path = tmp_path / f"{number}.tpr"
        process = subprocess.Popen(
            [plants.BINARY, "record", *map(str, market), "--out", str(path), "--record-block-ms", "5"],
            env=plants.environment(),
            stderr=subprocess.DEVNULL,
        )
        # No synchronisation: the moment is meant to be any, also before there is a file.
        time.sleep(chance.uniform(0.02, 0.7))
        process.kill()
        process.wait()
        early = path.exists() and path.stat().st_size < 300 and plants.run_to_end("inspect", path).returncode == 3
        if early or not path.exists():
            path.unlink(missing_ok=True)
            continue
        assert "damage" not in tool("inspect", path)
        for channel, rows in want.items():
            got = without_times(exported(path, channel))
            with_elements += bool(got)
            assert got == rows[: len(got)], f"kill {number} of seed {KILL_SEED}, {channel}"
        # And a torn block, as a loss of power leaves it.
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(size - min(size - 1, chance.randrange(1, 200)))
        cut = plants.run_to_end("export", path, "--format", "csv", "--schema", "quotes")
        if cut.returncode == 0:
            rows = without_times(list(csv.reader(io.StringIO(cut.stdout)))[1:])
            assert rows == want["quotes"][: len(rows)]
        path.unlink()
    assert with_elements > KILLS // 2, "most kills came too early to show anything"


def metric(server, name):
    with urllib.request.urlopen(f"{server.http}/metrics") as response:
        for line in response.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    raise AssertionError(f"no {name}")


async def until(reached, seconds=30):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it was not reached"
        await asyncio.sleep(0.05)


async def test_a_full_disk_costs_the_recording_and_not_the_service(plant, session, tmp_path):
    limited = tmp_path / "tickerplant"
    # A limit on the length of files is a disk that is full at that length; it can be lifted from outside.
    limited.write_text(f'#!/bin/sh\nulimit -S -f 64\nexec "{plants.BINARY}" "$@"\n')
    limited.chmod(0o755)
    path = tmp_path / "full.tpr"
    binary, plants.BINARY = plants.BINARY, limited
    try:
        server = plant("--sim-rate", 20_000, "--record", path, "--record-block-ms", 20)
    finally:
        plants.BINARY = binary
    await until(lambda: metric(server, "tickerplant_record_failures_total") > 0)
    client = await session(server.ws)
    await client.subscribe(["trades"], ["*"])
    await client.until(lambda: len(client.live()) > 500)
    assert server.stderr().count("cannot record") == 1
    hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    await until(lambda: metric(server, "tickerplant_record_lost_total") > 0)
    lost = metric(server, "tickerplant_record_lost_total")
    recorded = path.stat().st_size
    await until(lambda: path.stat().st_size > recorded)
    server.close()
    said = tool("inspect", path)
    assert f"loss         {int(lost)} elements" in said, said
    assert "could not be written" in said
    assert "closed, with an index" in said
    assert "recording goes on" in server.stderr()
    # Played back, a client is told as of any other loss, and what it gets goes on in order.
    again = plant("--feed", f"recording:{path}", "--replay-speed", "max", "--start-on-first-subscriber", *PATIENT)
    client = await session(again.ws)
    await client.subscribe(["quotes"], ["*"])
    await client.notice("feed_ended")
    last = {}
    for element in client.elements:
        if element.type == "gap" or element.snapshot:
            last[element.key] = element.seq
        else:
            assert element.seq == last.get(element.key, 0) + 1, element
            last[element.key] = element.seq


async def test_a_replay_from_a_time_to_a_time_is_that_part_of_the_whole(plant, session, recordings, tmp_path):
    path = tmp_path / "session.tpr"
    record("--feed", f"recording:{recordings / ESH4}", "--replay-speed", "max", out=path)
    rows = exported(path, "trades")
    begin, end = int(rows[1000][2]), int(rows[2000][2])
    server = plant(
        *("--feed", f"recording:{path}", "--replay-speed", "max", "--start-on-first-subscriber", *PATIENT),
        *("--replay-from", begin, "--replay-to", end),
    )
    client = await session(server.ws)
    await client.subscribe(["trades", "book.full"], ["*"])
    await client.notice("feed_ended")
    got = [(str(element.seq), str(element.time)) for element in client.live("trades")]
    want = [(row[1], row[2]) for row in rows if begin <= int(row[2]) <= end]
    # The market's time is that of all channels, so a trade that is late in it may be in or out at the very end.
    assert got[:1000] == want[:1000]
    # The book was there before: its snapshot, and changes from then on that keep its checksum.
    first = next(element for element in client.elements if element.channel == "book.full")
    assert (first.snapshot, first.type) == (True, "book_snapshot")
    assert len(first.values[0]) > 10


async def test_a_databento_file_begins_in_the_middle_with_its_book(plant, session, recordings):
    path = recordings / ESH4
    server = plant(
        *("--feed", f"recording:{path}", "--replay-speed", "max", "--start-on-first-subscriber", *PATIENT),
        *("--replay-from", "2023-12-25T23:30:00Z", "--replay-to", "2023-12-25T23:40:00Z"),
    )
    client = await session(server.ws)
    await client.subscribe(["book.full", "quotes"], ["*"])
    await client.notice("feed_ended")
    client.assert_complete()
    books = [element for element in client.elements if element.channel == "book.full"]
    assert books[0].type == "book_snapshot"
    assert len(books[0].values[0]) > 10
    assert len(books) > 10
    assert all(element.type == "book_delta" for element in books[1:])


def post(url):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        body = error.read()
        return error.code, json.loads(body) if body.startswith(b"{") else body


def admin(server, path):
    address = server.line("admin").split()[1]
    return post(address.removesuffix("/admin") + path)


async def test_an_operator_pauses_steps_and_goes_on(plant, session, recordings):
    server = plant(
        *(
            "--feed",
            f"recording:{recordings / BTC_TRADES}",
            "--replay-speed",
            "0.001",
            "--start-on-first-subscriber",
            *PATIENT,
        ),
        *("--admin-listen", "127.0.0.1:0"),
    )
    assert admin(server, "/admin/replay/pause")[1]["paused"] is True
    client = await session(server.ws)
    await client.subscribe(["trades"], ["*"])
    assert admin(server, "/admin/replay/step?ticks=3")[0] == 200
    await client.until(lambda: len(client.live("trades")) == 3)
    assert admin(server, "/admin/replay/step")[0] == 200
    await client.until(lambda: len(client.live("trades")) == 4)
    assert await client.lives()
    assert len(client.live("trades")) == 4, "paused again"
    status, said = admin(server, "/admin/replay/speed?x=max")
    assert (status, said["speed"], said["paused"]) == (200, "max", True)
    assert admin(server, "/admin/replay/resume")[1]["paused"] is False
    await client.notice("feed_ended")
    client.assert_complete()
    assert len(client.live("trades")) == 9999
    assert admin(server, "/admin/replay/pause") == (409, {"message": "the feed is over"})
    assert admin(server, "/admin/replay/step?ticks=none")[0] == 400
    assert admin(server, "/admin/replay/speed?x=0")[0] == 400
    assert post(f"{server.http}/admin/replay/pause")[0] in (404, 405), "clients cannot"


async def test_what_is_no_replay_cannot_be_paused(plant):
    server = plant("--admin-listen", "127.0.0.1:0")
    assert admin(server, "/admin/replay/pause") == (409, {"message": "the feed is not a replay of a recording"})


@pytest.mark.parametrize("schema", ["trades", "mbp-1", "tbbo"])
def test_dbn_exports_are_read_by_databento(recordings, tmp_path, schema):
    path, out = tmp_path / "session.tpr", tmp_path / "out.dbn"
    record("--feed", f"recording:{recordings / ESH4}", "--replay-speed", "max", out=path)
    tool("export", path, "--format", "dbn", "--schema", schema, "--out", out)
    ticks = read_dbn(str(out))
    trades = [tick for tick in ticks if isinstance(tick, Trade)]
    want = exported(path, "trades")
    assert len(trades) == len(want) > 2000
    for tick, (symbol, _, when, price, size, side, trade_id) in zip(trades, want, strict=True):
        assert (tick.symbol, str(tick.time), Decimal(tick.price)) == (symbol, when, Decimal(price))
        assert (tick.size, tick.side, str(tick.trade_id)) == (size, side, trade_id)
    if schema == "mbp-1":
        quotes = [tick for tick in ticks if isinstance(tick, Quote)]
        rows = exported(path, "quotes")
        assert len(quotes) == len(rows)
        for tick, row in zip(quotes, rows, strict=True):
            got = [None if v is None else Decimal(v) for v in (tick.bid, tick.bid_size, tick.ask, tick.ask_size)]
            assert got == [Decimal(v) if v else None for v in row[3:]]


def test_parts_of_a_session_are_one_recording(tmp_path, recordings):
    parts, again = tmp_path / "parts", tmp_path / "again.tpr"
    parts.mkdir()
    whole = tmp_path / "whole.tpr"
    source = ["--feed", f"recording:{recordings / ESH4}", "--replay-speed", "max"]
    record(*source, out=whole)
    record(*source, "--record-rotate-bytes", 100_000, "--record-block-ms", 1, out=parts)
    assert len(list(parts.iterdir())) > 1
    record("--feed", f"recording:{parts}", "--replay-speed", "max", out=again)
    for channel in ("trades", "book.full"):
        assert exported(again, channel) == exported(whole, channel)


def test_mistakes_are_named(tmp_path, recordings):
    path = tmp_path / "session.tpr"
    record("--feed", f"recording:{recordings / BTC_TRADES}", "--replay-speed", "max", out=path)
    for arguments, code, said in [
        (("record", "--feed", f"recording:{path}"), 2, "--out FILE or FOLDER"),
        (("record", "--feed", f"recording:{path}", "--out", path), 4, "it exists already"),
        (("record", "--out", tmp_path / "x.tpr", "--record-rotate-s", 5), 2, "is no folder"),
        (("inspect", recordings / BTC_TRADES), 3, "does not begin with the bytes of a recording"),
        (("inspect", tmp_path / "none.tpr"), 3, "No such file"),
        (("export", path, "--format", "csv", "--schema", "tardes"), 2, "is not a channel"),
        (("export", path, "--format", "dbn", "--schema", "mbo"), 2, "trades, mbp-1 or tbbo"),
        (("check-config", "--replay-from", "yesterday"), 2, "RFC 3339"),
        (("check-config", "--admin-listen", "0.0.0.0:1"), 2, "loopback"),
    ]:
        done = plants.run_to_end(*arguments)
        assert (done.returncode, said in done.stderr) == (code, True), (arguments, done.stderr)
    shutil.copy(path, tmp_path / "new.tpr")
    with (tmp_path / "new.tpr").open("r+b") as file:
        file.seek(8)
        file.write(b"\x09")
    assert "version 9" in plants.run_to_end("inspect", tmp_path / "new.tpr").stderr
