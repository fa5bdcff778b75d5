"""Attacks, each with the guard that stops it and without: a test of a guard that is not needed would show nothing.

Where a guard is a setting, the same attack runs on a server with the setting off, and must work there. Where it is a
bound in the code, the comment says how it was seen to fail without. SECURITY.md lists the attacks by their tests.
Meanwhile a witness is served, and misses nothing.

Not here: bad input of clients that mean well (test_bad_input.py), who may have what (test_auth.py).
"""

import asyncio
import contextlib
import json
import zlib
from concurrent.futures import ThreadPoolExecutor

import msgpack
import pytest
import requests
import websockets

from raw import PATIENCE_S, Raw, frame, header, upgrade_request

MARKET = ("--sim-symbols", 20)
HOLD_S = 3
"""How long a connection is held where nothing cuts it: several times the limits below."""
ATTACKER, NEIGHBOUR = "127.0.0.2", "127.0.0.3"
GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n"


def pack(**command):
    return frame(0x82, msgpack.packb(command))


SUBSCRIBE = pack(op="subscribe", channels=["trades", "quotes"], symbols=["*"])


async def until(reached, seconds=PATIENCE_S):
    """Waits for what only a scrape shows, which cannot be awaited."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(reached):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def get(url, **keys):
    return await asyncio.to_thread(requests.get, url, timeout=PATIENCE_S, **keys)


def summed(server, name):
    return sum(value for key, value in server.metrics().items() if key.split("{")[0] == name)


@pytest.fixture
async def witnessed(plant, session):
    """Starts a server with somebody in it who must be served to the end and miss nothing."""
    witnesses = []

    async def start(*arguments, rate=1000):
        server = plant(*MARKET, "--sim-rate", rate, *arguments)
        witness = await session(server.ws)
        await witness.subscribe(["trades", "quotes"], ["*"])
        witnesses.append(witness)
        return server

    yield start
    for witness in witnesses:
        await witness.until(lambda witness=witness: len(witness.live()) > 0)
        # What is read here has waited in this process; the end of it is behind everything that was sent meanwhile.
        answer = await witness.ask("ping")
        assert answer["type"] == "pong"
        seen = len(witness.live())
        await witness.until(lambda witness=witness, seen=seen: len(witness.live()) > seen + 20)
        witness.assert_complete()


# --- slow-loris ---

SLOW_LIMITS = ("--handshake-timeout-ms", "--ping-interval-ms", "--stall-timeout-ms")
GUARDED = tuple(value for name in SLOW_LIMITS for value in (name, 500))
UNGUARDED = tuple(value for name in SLOW_LIMITS for value in (name, 0))
# What is sent at first, whether that is after the upgrade, and what is sent again and again from then on.
SLOW = {
    "says nothing": (b"", False, b""),
    "request line": (b"GET /ws", False, b"s"),
    "headers": (b"GET /ws HTTP/1.1\r\nHost: x\r\n", False, b"X-A: b\r\n"),
    "one header": (b"GET /ws HTTP/1.1\r\nHost: x\r\nX-A: ", False, b"b"),
    "keeps a connection after an answer": (GET % (b"/healthz", b""), False, b""),
    "answers no pings": (b"", True, b""),
    "begins a frame": (b"\x82", True, b""),
    "payload of a frame": (header(0x82, 60_000), True, b"x"),
    "fragments of a message": (frame(0x02, b"\x81"), True, frame(0x00, b"x")),
    "empty fragments": (frame(0x02, b"\x81"), True, frame(0x00)),
    "fragments of a compressed message": (frame(0x42, b"\x00"), True, frame(0x00, b"x")),
}


def slow(server, first, upgraded, drip, seconds):
    with Raw(server) as raw:
        if upgraded:
            raw.upgrade(Sec_WebSocket_Extensions="permessage-deflate")
        raw.send(first)
        return raw.outlasts(seconds, drip)


async def held(server, seconds):
    """Those who were let be for so long, all at once."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(len(SLOW)) as pool:
        attempts = [loop.run_in_executor(pool, slow, server, *attack, seconds) for attack in SLOW.values()]
        results = await asyncio.gather(*attempts)
    return {name for name, result in zip(SLOW, results, strict=True) if result}


async def test_slow_clients_hold_a_connection_in_no_phase(witnessed):
    guarded, unguarded = await witnessed(*GUARDED), await witnessed(*UNGUARDED)
    assert await asyncio.gather(held(guarded, PATIENCE_S), held(unguarded, HOLD_S)) == [set(), set(SLOW)]


def test_a_body_that_does_not_come_holds_nothing(plant):
    # Nothing here reads a body. The guard is that hyper ends the connection then; with a handler that reads one (tried
    # with `Bytes` in `rest::healthz`) the first of these is held for as long as it drips.
    server = plant(*MARKET, *UNGUARDED)
    for method, path in ((b"GET", b"/healthz"), (b"POST", b"/api/v1/instruments"), (b"GET", b"/ws"), (b"PUT", b"/")):
        for length in (b"Content-Length: 100", b"Transfer-Encoding: chunked"):
            with Raw(server) as raw:
                raw.send(b"%b %b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % (method, path, length))
                assert raw.head()[0] in (200, 400, 405), (method, path)
                assert not raw.outlasts(PATIENCE_S, b"1\r\nx\r\n"), (method, path, length)


UNREAD = {
    "/ws": upgrade_request() + SUBSCRIBE,
    "events": GET % (b"/api/v1/stream?symbols=*", b""),
    # Pipelined, and far more than the buffers of both sides take.
    "answers": (GET % (b"/api/v1/instruments", b"")) * 50,
}


async def test_clients_that_never_read_hold_a_connection_no_longer_than_allowed(plant):
    def open_ones(server):
        metrics = server.metrics()
        # One is the scrape itself.
        return int(metrics["tickerplant_sessions"] + metrics["tickerplant_connections"] - 1)

    for limit, remain in (("500", False), ("0", True)):
        rushing = ("--sim-symbols", 5000, "--sim-rate", 20_000, "--ping-interval-ms", 0, "--handshake-timeout-ms", 0)
        server = plant(*rushing, "--stall-timeout-ms", limit)
        with contextlib.ExitStack() as stack:
            for request in UNREAD.values():
                raw = stack.enter_context(Raw(server, receive_buffer_bytes=4096))
                assert raw.send(request)
            # The event stream is a session and a connection.
            await until(lambda server=server: open_ones(server) >= 4)
            if remain:
                await until(lambda server=server: server.metrics()["tickerplant_stalls_total"] >= 2)
                await asyncio.sleep(HOLD_S)
                assert open_ones(server) == 4
            else:
                await until(lambda server=server: open_ones(server) == 0)


async def test_clients_that_never_read_take_no_more_memory_than_allowed(witnessed):
    bound, frame_max = 16_384, 128 << 10

    async def waiting(server, enough):
        with Raw(server, receive_buffer_bytes=4096) as raw:
            raw.send(upgrade_request() + SUBSCRIBE)
            most = 0

            def reached():
                nonlocal most
                metrics = server.metrics()
                most = max(most, metrics["tickerplant_outbox_bytes"])
                return enough(metrics)

            await until(reached)
            return most

    guarded = await witnessed("--outbox-bytes-max", bound, rate=5000)
    assert await waiting(guarded, lambda metrics: metrics["tickerplant_stalls_total"]) <= bound + frame_max
    unguarded = await witnessed("--outbox-bytes-max", 0, rate=5000)
    assert await waiting(unguarded, lambda m: m["tickerplant_outbox_bytes"] > 2 * (bound + frame_max)) > bound


async def test_answers_that_are_not_read_take_no_memory_without_end(plant):
    # Without the bound on what waits besides data (tried by raising `KEPT_BYTES_MAX` of the hub), all answers wait.
    server = plant("--sim-symbols", 10_000, "--sim-rate", 1, "--commands-per-s", 0, "--stall-timeout-ms", 0)
    before, most = server.resident_bytes(), 0
    with Raw(server, receive_buffer_bytes=4096) as raw:
        raw.upgrade()

        def ended():
            nonlocal most
            most = max(most, server.resident_bytes())
            return server.metrics().get('tickerplant_disconnects_total{reason="slow_consumer"}') == 1

        # More than a megabyte each.
        await asyncio.to_thread(raw.send_until_refused, pack(op="instruments"), 2000)
        await until(ended)
    assert most - before < 64 << 20


async def test_pings_whose_pongs_are_not_read_cost_nothing(witnessed):
    # Without `Class::Pong` in the hub (tried with `Class::Urgent`) a pong waits for each.
    server = await witnessed("--stall-timeout-ms", 0)
    with Raw(server, receive_buffer_bytes=4096) as raw:
        raw.upgrade()
        pings, times = frame(0x89, b"x" * 125) * 100, 3000
        assert await asyncio.to_thread(raw.send_until_refused, pings, times) == times
        await until(lambda: server.metrics()["tickerplant_received_bytes_total"] >= len(pings) * times)
        await until(lambda: server.metrics()["tickerplant_outbox_bytes"] < 1 << 16)


# --- floods at the door ---


def numbered(count):
    return "".join(f"X-{number}: b\r\n" for number in range(count))


@pytest.mark.parametrize(
    ("fine", "too_much"),
    [
        pytest.param(numbered(50), numbered(100), id="many headers"),
        pytest.param("X-A: " + "b" * 8000 + "\r\n", "X-A: " + "b" * 40_000 + "\r\n", id="a long header"),
        pytest.param("Cookie: a=b\r\n" * 50, "Cookie: a=b\r\n" * 4000, id="the same header again and again"),
    ],
)
async def test_floods_of_headers_are_cut_off(witnessed, fine, too_much):
    # Without the guard (tried with 10,000 headers and a megabyte in accept.rs) all are answered with 200.
    server = await witnessed()
    for headers, statuses in ((fine, {200}), (too_much, {431, 400, 0})):
        with Raw(server) as raw:
            raw.send(GET % (b"/healthz", headers.encode()))
            assert (await asyncio.to_thread(raw.head))[0] in statuses


async def test_a_head_without_end_is_not_read_without_end(witnessed):
    server = await witnessed("--handshake-timeout-ms", 0)
    for endless in (b"GET /" + b"x" * 4000, b"GET / HTTP/1.1\r\nX-A: " + b"x" * 4000, b"\r\n" * 2000):
        with Raw(server) as raw:
            assert await asyncio.to_thread(raw.send_until_refused, endless, 5000) < 5000


async def opened(server, count, source):
    """How many of so many connections of an address come in, and what the others are told."""
    statuses = []
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            raw = stack.enter_context(Raw(server, source))
            raw.send(upgrade_request(Connection="Upgrade"))
            statuses.append(await asyncio.to_thread(raw.head))
        neighbour = stack.enter_context(Raw(server, NEIGHBOUR))
        neighbour.send(upgrade_request())
        assert (await asyncio.to_thread(neighbour.head))[0] == 101
    return statuses


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("connections-per-ip", "connections_per_ip"), ("new-connections-per-ip-per-s", "new_connections_per_ip")],
)
async def test_one_address_cannot_take_all_places(witnessed, setting, reason):
    server = await witnessed(f"--{setting}", 8)
    statuses = await opened(server, 40, ATTACKER)
    refused = [head for status, head in statuses if status == 429]
    # Of those per second some more come in while the test takes its time.
    assert len(refused) >= 10
    assert all("retry-after: " in head for head in refused)
    assert server.metrics()[f'tickerplant_upgrades_refused_total{{reason="{reason}"}}'] == len(refused)
    free = await witnessed(f"--{setting}", 0)
    assert {status for status, _ in await opened(free, 40, ATTACKER)} == {101}


async def test_pipelined_requests_are_answered_one_after_the_other(witnessed):
    server = await witnessed()
    with Raw(server) as raw:
        raw.send((GET % (b"/healthz", b"")) * 500 + GET % (b"/healthz", b"Connection: close\r\n"))
        assert (await asyncio.to_thread(raw.rest)).count(b"HTTP/1.1 200 OK") == 501


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
    assert [message["type"] for message in client.messages if message.get("code") == "rate_limited"][:2] == [
        "notice",
        "error",
    ]
    await until(lambda: server.metrics().get('tickerplant_disconnects_total{reason="rate_limit"}') == 1)
    await until(lambda: server.metrics()["tickerplant_commands_rate_limited_total"] >= 100)
    for off in (("--commands-per-s", 0), ("--commands-rejected-max", 0)):
        client = await session((await witnessed(*off)).ws)
        for number in range(400):
            await client.send("ping", id=number)
        await client.until(lambda client=client: len(client.messages) > 50)
        assert client.socket.close_code is None, off
    await client.socket.ping()


async def test_a_flood_of_subscriptions_is_refused_as_a_whole(plant, session):
    market = ("--sim-symbols", 2000, "--sim-rate", 10)
    for limit, expected in (("5000", "error"), ("0", "subscribed")):
        client = await session(plant(*market, "--subscriptions-max", limit).ws)
        names = [entry["symbol"] for entry in (await client.ask("instruments"))["instruments"]]
        answer = await client.ask("subscribe", channels=["trades", "quotes", "ticker"], symbols=names)
        assert answer["type"] == expected
        if expected == "error":
            assert answer["code"] == "too_many_subscriptions"
            assert "subscriptions_max" in answer["message"] or limit in answer["message"]
            assert (await client.ask("subscriptions"))["subscriptions"] == []


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
    await until(lambda: server.metrics()["tickerplant_lanes"] == lanes)


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


# --- from the pages of others, and between the server and its clients ---


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "https://desk.example.evil", "file://"]
)
async def test_pages_of_others_cannot_connect(witnessed, origin):
    guarded, unguarded = await witnessed("--allow-origin", "https://desk.example"), await witnessed()
    for server, status in ((guarded, 403), (unguarded, 101)):
        with Raw(server) as raw:
            raw.send(upgrade_request(Origin=origin))
            assert (await asyncio.to_thread(raw.head))[0] == status
    answers = [await get(f"{s.http}/api/v1/instruments", headers={"Origin": origin}) for s in (guarded, unguarded)]
    assert [answer.headers.get("Access-Control-Allow-Origin") for answer in answers] == [None, "*"]
    assert guarded.metrics()['tickerplant_upgrades_refused_total{reason="origin"}'] == 1


async def test_a_page_that_is_allowed_connects(witnessed):
    server = await witnessed("--allow-origin", "https://desk.example")
    with Raw(server) as raw:
        raw.upgrade(Origin="https://desk.example")


INJECTED = "%0d%0aX-Injected:%20yes%0d%0a%0d%0a<script>"
SPLITTERS = [
    GET % (f"/{INJECTED}".encode(), b""),
    GET % (f"/api/v1/{INJECTED}".encode(), b""),
    GET % (f"/api/v1/snapshot?symbols={INJECTED}&channels={INJECTED}".encode(), b""),
    GET % (f"/api/v1/stream?symbols={INJECTED}&after={INJECTED}".encode(), b""),
    GET % (f"/ws?format={INJECTED}".encode(), b""),
    GET % (b"/api/v1/instruments", f"Origin: https://a{INJECTED}\r\nIf-None-Match: {INJECTED}\r\n".encode()),
    GET % (b"/api/v1/instruments", b"Origin: https://a\rX-Injected: yes\r\n"),
    GET % (b"/api/v1/stream?symbols=*", f"Last-Event-ID: {INJECTED}\r\n".encode()),
    upgrade_request(Sec_WebSocket_Protocol="ticker.v1.json\rX-Injected: yes"),
    upgrade_request(Sec_WebSocket_Protocol=f"ticker.v1.json, {INJECTED}"),
    upgrade_request(Sec_WebSocket_Extensions='permessage-deflate; x="\rX-Injected: yes"'),
]


@pytest.mark.parametrize("request_bytes", SPLITTERS)
async def test_answers_are_not_split_by_what_was_asked(witnessed, request_bytes):
    # What clients say is answered in bodies of JSON. The only header that repeats any of it is
    # Access-Control-Allow-Origin, and only as it stands in the list.
    server = await witnessed()
    with Raw(server) as raw:
        raw.send(request_bytes)
        status, head = await asyncio.to_thread(raw.head)
    assert status in (101, 200, 400, 404, 426), head
    assert "x-injected:" not in [line.strip()[:11] for line in head.replace("\r", "\n").split("\n")]
    assert "<script>" not in head


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 0\r\nContent-Length: 30\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: +0\r\n",
    ],
)
async def test_one_request_is_not_two(witnessed, headers):
    # A proxy that ends the request elsewhere than we do would hand the second to somebody else.
    server = await witnessed()
    with Raw(server) as raw:
        raw.send(GET % (b"/healthz", headers) + b"0\r\n\r\n" + GET % (b"/metrics", b"X-Smuggled: yes\r\n"))
        answer = await asyncio.to_thread(raw.rest)
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert b"tickerplant_sessions" not in answer


async def test_caches_on_the_way_cannot_be_poisoned(witnessed):
    server = await witnessed("--allow-origin", "https://desk.example")
    evil = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
        "X-Original-URL": "/metrics",
        "X-Rewrite-URL": "/metrics",
        "X-HTTP-Method-Override": "POST",
        "Forwarded": "host=evil.example",
    }
    for path in ("/", "/api/v1/instruments", "/openapi.json", "/nothing", "/api/v1/nothing"):
        plain, poisoned = [await get(server.http + path, headers=headers) for headers in ({}, evil)]
        assert (plain.status_code, plain.content) == (poisoned.status_code, poisoned.content), path
        assert "evil" not in str(poisoned.headers)
        caching = plain.headers.get("Cache-Control", "")
        # No answer about the market, and no error, is kept without asking.
        assert "no-cache" in caching or "no-store" in caching, (path, caching)
    # What depends on the page that asks, or on the key, says so.
    for origin in ("https://desk.example", "https://evil.example"):
        answer = await get(f"{server.http}/api/v1/instruments", headers={"Origin": origin})
        assert "origin" in answer.headers["Vary"].lower()
    # A tag that is not the content's own is not confirmed.
    answer = await get(f"{server.http}/api/v1/instruments", headers={"If-None-Match": '"evil"'})
    assert answer.status_code == 200


SECURE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


async def test_every_answer_tells_browsers_to_be_careful(witnessed):
    # Checked by taking each layer out of accept.rs.
    server = await witnessed()
    paths = ("/", "/nothing", "/api/v1/instruments", "/api/v1/nothing", "/healthz", "/metrics", "/openapi.json", "/ws")
    for path in paths:
        answer = await get(server.http + path)
        assert {name: answer.headers.get(name) for name in SECURE} == SECURE, path
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'", path
        if path == "/":
            # No inline script, none from elsewhere, no eval.
            assert policy["default-src"] == "'self'"
            assert "script-src" not in policy
            assert policy["object-src"] == "'none'"
        else:
            assert policy["default-src"] == "'none'", path
        assert "server" not in answer.headers, "which version runs is nobody's business"


async def test_the_page_has_no_inline_script(witnessed):
    server = await witnessed()
    page = (await get(f"{server.http}/")).text
    for tag in page.split("<script")[1:]:
        attributes, body = tag.split(">", 1)
        assert "src=" in attributes or body.startswith("</script>"), tag[:100]
    assert " onload=" not in page
    assert " onclick=" not in page


# --- guessing tokens ---


async def test_an_address_cannot_go_on_guessing_tokens(plant, tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text("")
    for limit, expected in ((5, [401] * 5 + [429] * 15), (0, [401] * 20)):
        server = plant("--auth", "required", "--api-keys-file", keys, "--auth-failures-per-ip-per-min", limit)
        statuses = []
        for number in range(20):
            with Raw(server, ATTACKER) as raw:
                raw.send(upgrade_request(Authorization=f"Bearer tp_{number:08d}{'a' * 32}"))
                statuses.append((await asyncio.to_thread(raw.head))[0])
        assert statuses == expected
        with Raw(server, NEIGHBOUR) as raw:
            raw.send(upgrade_request(Authorization="Bearer hunter2"))
            assert (await asyncio.to_thread(raw.head))[0] == 401, "an address that has done nothing is listened to"


async def test_who_does_not_authenticate_does_not_stay(plant, tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text("")
    for limit, code in ((300, 4401), (0, None)):
        server = plant("--auth", "required", "--api-keys-file", keys, "--auth-timeout-ms", limit)
        with Raw(server) as raw:
            raw.upgrade()
            if code:
                assert await asyncio.to_thread(raw.close_code) == code
            else:
                assert await asyncio.to_thread(raw.outlasts, HOLD_S)
