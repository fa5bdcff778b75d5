"""Bad input from clients: a specific error, and the session lives. Only violations of the protocol and floods close."""

import json
import socket
import struct

import msgpack
import pytest
import websockets

from raw import masked, upgrade_request

SUBSCRIBE = {"op": "subscribe", "channels": ["trades"], "symbols": ["*"], "id": "bad"}
CHANNELS = ["trades", "quotes", "ticker", "status"]


def subscribe(**changes):
    return {key: value for key, value in (SUBSCRIBE | changes).items() if value is not ...}


COMMANDS = {
    "no op": ({"id": "bad"}, "bad_command"),
    "op of a wrong type": ({"op": 5, "id": "bad"}, "bad_command"),
    "op that does not exist": ({"op": "fly", "id": "bad"}, "unknown_op"),
    "no channels": (subscribe(channels=...), "bad_command"),
    "channels of a wrong type": (subscribe(channels="trades"), "bad_command"),
    "a channel of a wrong type": (subscribe(channels=[5]), "bad_command"),
    "no channel in the list": (subscribe(channels=[]), "bad_command"),
    "unknown channel": (subscribe(channels=["trades", "rumours"]), "unknown_channel"),
    "no symbols": (subscribe(symbols=...), "bad_command"),
    "symbols of a wrong type": (subscribe(symbols=5), "bad_command"),
    "a symbol of a wrong type": (subscribe(symbols=[None]), "bad_command"),
    "no symbol in the list": (subscribe(symbols=[]), "bad_command"),
    "unknown symbol": (subscribe(symbols=["NOBODY"]), "unknown_symbol"),
    "impossible symbol": (subscribe(symbols=["not a symbol!"]), "unknown_symbol"),
    "unknown mode": (subscribe(mode="sometimes"), "bad_command"),
    "interval of a wrong type": (subscribe(mode="latest", interval_ms="1"), "bad_command"),
    "negative interval": (subscribe(mode="latest", interval_ms=-1), "bad_command"),
    "snapshot of a wrong type": (subscribe(snapshot="yes"), "bad_command"),
    "unknown policy for slowness": (subscribe(slow="wait"), "bad_command"),
    "since of a wrong type": (subscribe(since=5), "bad_command"),
    "update of nothing": (
        {"op": "update", "channels": ["trades"], "symbols": ["*"], "mode": "latest", "id": "bad"},
        "not_subscribed",
    ),
    "update to nothing": ({"op": "update", "channels": ["trades"], "symbols": ["*"], "id": "bad"}, "bad_command"),
    "auth without a token": ({"op": "auth", "id": "bad"}, "bad_command"),
    "prefix of a wrong type": ({"op": "instruments", "prefix": 5, "id": "bad"}, "bad_command"),
}


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_each_bad_command_has_its_error_and_the_session_lives(plant, session, encoding):
    server = plant("--sim-symbols", 10, "--sim-rate", 100)
    for name, (command, code) in COMMANDS.items():
        client = await session(server.ws, encoding)
        await client.send_raw(command)
        answer = await client.answer("bad")
        assert (answer["type"], answer["code"]) == ("error", code), f"{name}: {answer}"
        assert answer["message"], name
        assert await client.lives(), name
        assert not client.elements, name


GARBAGE = {
    "text that is not JSON": "subscribe please",
    "no text": "",
    "JSON that is no map": "[1, 2]",
    "JSON that ends early": '{"op":"ping"',
    "JSON with something behind it": '{"op":"ping"} x',
    "JSON nested without end": "[" * 60_000,
    "no bytes": b"",
    "bytes that are not MessagePack": b"\xc1\xc1\xc1",
    "MessagePack that is no map": b"\x92\x01\x02",
    "MessagePack that ends early": b"\x82\xa2op",
    "MessagePack with something behind it": b"\x81\xa2op\xa4ping\x00",
    "a map that says it is huge": b"\xdf\xff\xff\xff\xff",
    "a text that says it is huge": b"\x81\xa2op\xdb\xff\xff\xff\xff",
    "MessagePack nested without end": b"\x91" * 60_000,
    "noise": bytes((index * 167 + 13) % 256 for index in range(1000)),
}


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_garbage_is_a_bad_command_and_the_session_lives(plant, session, encoding):
    server = plant("--sim-symbols", 10, "--sim-rate", 100)
    for name, payload in GARBAGE.items():
        client = await session(server.ws, encoding)
        await client.socket.send(payload)
        answer = await client.message(lambda message: message["type"] == "error")
        assert answer["code"] == "bad_command", f"{name}: {answer}"
        assert await client.lives(), name


async def test_unknown_symbols_are_listed_and_the_known_ones_subscribed(plant, session):
    client = await session(plant("--sim-symbols", 10, "--sim-rate", 1000).ws)
    known = (await client.ask("instruments"))["instruments"][0]["symbol"]
    answer = await client.subscribe(["trades", "quotes"], ["NOBODY", known, "no one"])
    assert [row[0] for row in answer["instruments"]] == [known]
    error = await client.message(lambda message: message["type"] == "error")
    assert (error["code"], sorted(error["symbols"])) == ("unknown_symbol", ["NOBODY", "no one"])
    assert error["id"] == answer["id"]
    await client.until(lambda: len(client.live()) > 10)
    client.assert_complete()


async def test_unknown_keys_are_ignored(plant, session):
    client = await session(plant("--sim-symbols", 10, "--sim-rate", 100).ws)
    await client.subscribe(["trades"], ["*"], colour="green", nested={"a": [1]})


async def test_too_many_pairs_apply_nothing(plant, session):
    client = await session(plant("--sim-symbols", 3334, "--sim-rate", 10).ws)
    names = [entry["symbol"] for entry in (await client.ask("instruments"))["instruments"]]
    answer = await client.ask("subscribe", channels=CHANNELS[:3], symbols=names)
    assert (answer["type"], answer["code"]) == ("error", "too_many_subscriptions"), answer
    assert "10000" in answer["message"].replace(",", "").replace("_", "")
    assert (await client.ask("subscriptions"))["subscriptions"] == []

    # Exactly 10,000 are allowed, unknown symbols do not count, and the next one is too many.
    answer = await client.ask("subscribe", channels=CHANNELS, symbols=[*names[:2500], "NOBODY"])
    assert answer["type"] == "subscribed", answer
    answer = await client.ask("subscribe", channels=CHANNELS[:1], symbols=names[2500:2501])
    assert (answer["type"], answer["code"]) == ("error", "too_many_subscriptions"), answer
    answer = await client.ask("subscribe", channels=CHANNELS[:1], symbols=names[:1])
    assert answer["type"] == "subscribed", "a pair that is replaced is not a new one"
    assert await client.lives()


async def test_a_message_beyond_the_limit_is_named_and_closes(plant, session):
    client = await session(plant("--sim-rate", 1).ws)
    await client.socket.send(b"\x00" * 65_537)
    code, _ = await client.until_closed()
    assert code == 1009
    assert any(message.get("code") == "message_too_big" for message in client.messages)


async def test_a_message_at_the_limit_is_read(plant, session):
    client = await session(plant("--sim-rate", 1).ws)
    command = json.dumps({"op": "ping", "id": "long", "padding": ""})
    await client.socket.send(command[:-2] + "x" * (65_536 - len(command)) + command[-2:])
    assert (await client.answer("long"))["type"] == "pong"


async def test_a_flood_is_noticed_and_then_cut(plant, session):
    client = await session(plant("--sim-rate", 1).ws)
    try:
        for number in range(400):
            await client.send("ping", id=number)
    except websockets.ConnectionClosed:
        pass
    code, _ = await client.until_closed()
    assert code == 4429
    answered = [message for message in client.messages if message["type"] == "pong"]
    assert 50 <= len(answered) <= 100
    assert len([message for message in client.messages if message.get("code") == "rate_limited"]) >= 2
    notices = [message for message in client.messages if message["type"] == "notice"]
    assert [notice["code"] for notice in notices] == ["rate_limited"]


def exchange(server, request):
    """Sends bytes on a socket of their own and returns all that comes until the server hangs up or is silent."""
    with socket.create_connection(server.host_and_port, timeout=5) as raw:
        raw.sendall(request)
        answer = b""
        try:
            while part := raw.recv(65_536):
                answer += part
        except (TimeoutError, ConnectionResetError):
            pass
    return answer


def test_a_command_before_the_welcome_was_read_is_obeyed(plant):
    server = plant("--sim-rate", 1)
    command = msgpack.packb({"op": "ping", "id": "early"})
    answer = exchange(server, upgrade_request() + masked(0x82, command) + masked(0x88, struct.pack(">H", 1000)))
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.index(b"welcome") < answer.index(b"early")
    assert answer.endswith(b"\x88\x02\x03\xe8")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        pytest.param(b"\x82\x01\x00", 1002, id="without a mask"),
        pytest.param(masked(0xC2, b"\x00"), 1002, id="a reserved bit"),
        pytest.param(masked(0x83, b"\x00"), 1002, id="a reserved opcode"),
        pytest.param(masked(0x09, b""), 1002, id="a fragmented ping"),
        pytest.param(masked(0x80, b"a"), 1002, id="a continuation of nothing"),
        pytest.param(masked(0x81, b"\xff"), 1007, id="text that is not UTF-8"),
        pytest.param(masked(0x88, b"\x03"), 1002, id="a close of one byte"),
        pytest.param(masked(0x88, struct.pack(">H", 1005)), 1002, id="a close code that must not be sent"),
    ],
)
def test_a_violation_closes_with_its_code(plant, frame, code):
    answer = exchange(plant("--sim-rate", 1), upgrade_request() + frame)
    at = answer.rindex(b"\x88")
    assert struct.unpack(">H", answer[at + 2 : at + 4])[0] == code


@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        pytest.param(
            {"Sec_WebSocket_Protocol": "chat, soap"}, 400, b"ticker.v1.msgpack", id="only unknown subprotocols"
        ),
        pytest.param({"Sec_WebSocket_Version": "8"}, 426, b"sec-websocket-version: 13", id="another version"),
        pytest.param({"Sec_WebSocket_Key": "short"}, 400, b"key", id="a bad key"),
        pytest.param({"Sec_WebSocket_Key": None}, 400, b"key", id="no key"),
    ],
)
def test_an_upgrade_is_refused_with_its_reason(plant, headers, status, says):
    request = upgrade_request(**headers).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    answer = exchange(plant("--sim-rate", 1), request)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert says in answer.lower()


def test_a_plain_request_to_the_endpoint_is_told_what_it_is(plant):
    answer = exchange(plant("--sim-rate", 1), b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 426 ", b"HTTP/1.1 400 ")), answer


async def test_bad_input_of_one_costs_another_nothing(plant, session):
    server = plant("--sim-symbols", 20, "--sim-rate", 2000)
    good = await session(server.ws)
    await good.subscribe(["trades", "quotes"], ["*"])
    for payload in GARBAGE.values():
        bad = await session(server.ws)
        await bad.subscribe(["trades", "quotes"], ["*"])
        await bad.socket.send(payload)
        await bad.message(lambda message: message["type"] == "error")
        seen = len(bad.live())
        await bad.until(lambda bad=bad, seen=seen: len(bad.live()) > seen + 20)
        bad.assert_complete()
    seen = len(good.live())
    await good.until(lambda: len(good.live()) > seen + 100)
    good.assert_complete()
