"""Attacks from inside a session: frames, messages and commands that are too large, too deep, or too many.

How it is shown that each guard is needed: attacks.py.
"""

import asyncio
import contextlib
import json
import zlib

import pytest
import websockets

from attacks import MARKET, summed, until
from raw import Raw, frame, header

# --- too large ---


@pytest.mark.parametrize("length", [65_537, 1 << 20, (1 << 63) - 1])
async def test_a_huge_frame_is_refused_by_its_head(witnessed, length):
    server = await witnessed()
    with Raw(server) as raw:
        raw.upgrade().send(header(0x82, length))
        assert await asyncio.to_thread(raw.close_code) == 1009
    await until(lambda: summed(server, "tickerplant_disconnects_total") == 1)
    unguarded = await witnessed("--message-bytes-max", 0, "--ping-interval-ms", 500)
    if length <= 1 << 20:
        # It waits for the rest: what ends it is that pings are not answered.
        with Raw(unguarded) as raw:
            raw.upgrade().send(header(0x82, length))
            assert await asyncio.to_thread(raw.close_code) == 1008


async def test_many_fragments_are_one_message(witnessed):
    server, unguarded = await witnessed(), await witnessed("--message-bytes-max", 0)
    fragments = frame(0x02, b"x" * 10_000) + frame(0x00, b"x" * 10_000) * 7
    for target, code in ((server, 1009), (unguarded, 1000)):
        with Raw(target) as raw:
            # The last fragment and a close come after them.
            raw.upgrade().send(fragments + frame(0x80) + frame(0x88, b"\x03\xe8"))
            assert await asyncio.to_thread(raw.close_code) == code


def bomb(inflated_bytes):
    """A compressed message of one frame; a thousandth of what it becomes."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = deflate.compress(bytes(inflated_bytes)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert payload.endswith(b"\0\0\xff\xff")
    return payload[:-4]


async def test_compression_bombs_do_not_go_off(witnessed):
    server = await witnessed()
    # 60 kB within the limit, 60 MB inflated. They all come at once.
    large, before = bomb(60 << 20), server.resident_bytes()
    assert len(large) < 65_536
    with contextlib.ExitStack() as stack:
        raws = [stack.enter_context(Raw(server)) for _ in range(10)]
        for raw in raws:
            raw.upgrade(Sec_WebSocket_Extensions="permessage-deflate").send(frame(0xC2, large))
        assert [await asyncio.to_thread(raw.close_code) for raw in raws] == [1009] * 10
    assert server.resident_bytes() - before < 32 << 20
    # What has no limit is inflated, up to the 16 MiB that nothing passes.
    unguarded = await witnessed("--message-bytes-max", 0)
    for size, code in ((10 << 20, 1000), (17 << 20, 1009)):
        with Raw(unguarded) as raw:
            raw.upgrade(Sec_WebSocket_Extensions="permessage-deflate")
            raw.send(frame(0xC2, bomb(size)) + frame(0x88, b"\x03\xe8"))
            assert await asyncio.to_thread(raw.close_code) == code


DEEP = {
    "JSON lists": b'{"op":"ping","id":1,"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "JSON maps": b'{"op":"ping","id":1,"x":' + b'{"a":' * 8_000 + b"1" + b"}" * 8_000 + b"}",
    "JSON since": b'{"op":"subscribe","channels":["trades"],"symbols":["*"],"since":' + b'{"seqs":' * 6_000,
    "MessagePack lists": b"\x83\xa2op\xa4ping\xa2id\x01\xa1x" + b"\x91" * 60_000 + b"\x01",
    "MessagePack maps": b"\x83\xa2op\xa4ping\xa2id\x01\xa1x" + b"\x81\xa1a" * 20_000 + b"\x01",
    "a list that says it is huge": b"\x82\xa2op\xa9subscribe\xa7symbols\xdd\xff\xff\xff\xff",
    "an extension that says it is huge": b"\x82\xa2op\xa4ping\xa2id\xc9\xff\xff\xff\xff\x01",
}


@pytest.mark.parametrize("name", DEEP)
async def test_depth_bombs_are_bad_commands(witnessed, session, name):
    # Without the bound on depth (tried with 1,000,000 in wire's value.rs) the stack overflows at those of MessagePack,
    # and the process is gone. In JSON serde_json has a bound of its own besides.
    server = await witnessed()
    client = await session(server.ws, "json")
    payload = DEEP[name]
    await client.socket.send(payload.decode() if payload.startswith(b"{") else payload)
    answer = await client.message(lambda message: message["type"] == "error")
    assert answer["code"] == "bad_command"
    assert await client.lives()
    for nested in (json.dumps({"op": "ping", "id": "fine", "x": [[[[{"a": [1]}]]]]}),):
        await client.socket.send(nested)
        assert (await client.answer("fine"))["type"] == "pong"


# --- floods from inside ---


async def flood(client, count):
    with contextlib.suppress(websockets.ConnectionClosed):
        for number in range(count):
            await client.send("ping", id=number)
        if count == len({message["id"] for message in client.messages if "id" in message}):
            return None
    return (await client.until_closed())[0]


async def test_a_flood_of_commands_is_told_and_then_ended(witnessed, session):
    server = await witnessed()
    client = await session(server.ws)
    for number in range(400):
        with contextlib.suppress(websockets.ConnectionClosed):
            await client.send("ping", id=number)
    assert (await client.until_closed())[0] == 4429
    kinds = [message.get("code") for message in client.messages if message["type"] in ("notice", "error")]
    assert kinds[:2] == ["rate_limited", "rate_limited"]
    notice, error = [message for message in client.messages if message.get("code") == "rate_limited"][:2]
    assert (notice["type"], error["type"]) == ("notice", "error")
    for name in ("commands_per_s", "commands_burst"):
        assert name in notice["message"]
        assert name in error["message"]
    assert "commands_rejected_max" in notice["message"]
    await until(lambda: server.metrics().get('tickerplant_disconnects_total{reason="rate_limit"}') == 1)
    await until(lambda: server.metrics()["tickerplant_commands_rate_limited_total"] >= 100)
    for off in (("--commands-per-s", 0), ("--commands-rejected-max", 0)):
        client = await session((await witnessed(*off)).ws)
        for number in range(400):
            await client.send("ping", id=number)
        await client.until(lambda client=client: len(client.messages) > 50)
        assert client.socket.close_code is None, off
    await client.socket.ping()


TOO_MANY = 'tickerplant_subscriptions_refused_total{reason="subscriptions_max"}'


async def test_a_flood_of_subscriptions_is_refused_as_a_whole(plant, session):
    market = ("--sim-symbols", 2000, "--sim-rate", 10)
    for limit, expected in (("5000", "error"), ("0", "subscribed")):
        server = plant(*market, "--subscriptions-max", limit)
        client = await session(server.ws)
        names = [entry["symbol"] for entry in (await client.ask("instruments"))["instruments"]]
        answer = await client.ask("subscribe", channels=["trades", "quotes", "ticker"], symbols=names)
        assert answer["type"] == expected
        if expected == "error":
            assert answer["code"] == "too_many_subscriptions"
            assert f"{limit} are allowed (subscriptions_max)" in answer["message"]
            assert (await client.ask("subscriptions"))["subscriptions"] == []
            await until(lambda server=server: server.metrics()[TOO_MANY] == 1)


async def test_subscribing_again_and_again_leaves_nothing_behind(plant, session):
    # A lane of its own each time. Without giving back what an empty lane holds (tried by not removing it), they add up.
    server = plant("--sim-symbols", 500, "--sim-rate", 1000, "--commands-per-s", 0)
    client = await session(server.ws)
    names = [entry["symbol"] for entry in (await client.ask("instruments"))["instruments"]]
    await client.subscribe(["trades"], ["*"])
    await until(lambda: server.metrics()["tickerplant_lanes"] > 0)
    lanes = server.metrics()["tickerplant_lanes"]
    for number in range(300):
        await client.subscribe(["quotes"], names[number : number + 100], mode="latest", interval_ms=number)
    await client.ask("unsubscribe", channels=["quotes"])
    # Sessions' numbers are exported once a second: those of before would say the same. By the second of these all of it
    # has been.
    for commands in (304, 305):
        assert await client.lives()
        await until(lambda commands=commands: server.metrics()["tickerplant_commands_total"] >= commands)
    assert server.metrics()["tickerplant_lanes"] == lanes


def colliding(count):
    """Names that are one another under a hash that adds up or multiplies in order: permutations of the same blocks."""
    pairs = ("Aa", "BB")
    return ["".join(pairs[number >> bit & 1] for bit in range(12)) for number in range(count)]


async def test_names_made_to_collide_cost_no_more_than_others(plant, session):
    # No table of the server has a client's names as keys: they are looked up in that of the feed's instruments. Were
    # they kept, memory would grow with them, and names that are chosen to collide would make each lookup a walk.
    server = plant(*MARKET, "--commands-per-s", 0)
    client = await session(server.ws)
    names, epoch = colliding(4000), client.messages[0]["epoch"]
    await client.ask("subscribe", channels=["trades"], symbols=names[:10])
    before = server.resident_bytes()
    for part in range(100):
        symbols = [f"{name}{part}" for name in names[: 800 + part]]
        since = {"epoch": epoch, "seqs": {symbol: {"trades": 1} for symbol in symbols[:500]}}
        answer = await client.ask("subscribe", channels=["trades"], symbols=symbols, since=since)
        assert (answer["type"], answer["code"]) == ("error", "unknown_symbol")
        client.messages.clear()
    assert server.resident_bytes() - before < 16 << 20
    assert await client.lives()
