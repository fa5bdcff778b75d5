"""permessage-deflate on live data: many clients at once, each told exactly what an uncompressed one is told.

Every client is connected through a wire tap, which says what was compressed and checks it with a decoder of its own.
"""

import asyncio
import contextlib
import re

import pytest
import requests

from peers import Peers
from tap import PING, parameters

CHANNELS = ["trades", "quotes"]
ALL = {"channels": CHANNELS, "symbols": ["*"]}
# Frames of a hundred ticks and more; one client follows with ease however busy the machine is.
LIVE = ("--sim-seed", 7, "--sim-symbols", 40, "--sim-rate", 1000, "--flush-interval-us", 25_000, "--commands-per-s", 0)
THRESHOLD_BYTES = 128
WAIT_S = 60

WEBSOCKETS = [
    {},
    {"client_max_window_bits": None},
    {"server_no_context_takeover": True},
    {"server_max_window_bits": 9},
    {"server_max_window_bits": 10},
    {"server_max_window_bits": 12},
    {"server_max_window_bits": 15},
    {"client_no_context_takeover": True},
    {"client_max_window_bits": 10},
    {"server_no_context_takeover": True, "server_max_window_bits": 9, "client_max_window_bits": 9},
]
WS = [
    True,
    {"serverNoContextTakeover": True},
    {"serverMaxWindowBits": 9},
    {"serverMaxWindowBits": 12, "clientNoContextTakeover": True},
    {"clientMaxWindowBits": 11, "threshold": 0},
]


@pytest.fixture
async def peers(tmp_path):
    """Clients of a server: `many = await peers(server)`, then `await many.websockets("json", {})` and so on."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(server):
            return Peers(server, stack, tmp_path)

        yield start


async def until(reached, seconds=WAIT_S):
    """Waits for what a tap or a metric will show: neither can be awaited."""
    async with asyncio.timeout(seconds):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def metrics(server):
    text = requests.get(f"{server.http}/metrics", timeout=30).text
    found = re.findall(r"^(tickerplant_\w+)(?:\{[^}]*\})? (\d+)$", text, re.M)
    sums = {}
    for name, value in found:
        sums[name] = sums.get(name, 0) + int(value)
    return sums


async def finish(everyone, *references):
    """Closes the clients, the references last and only once they have seen all that the others have."""
    for peer in everyone:
        if peer not in references:
            await peer.close()
            peer.decode()
    for reference in references:
        others = [p for p in everyone if p not in references and p.client.encoding == reference.client.encoding]
        newest = {}
        for other in others:
            for element in other.client.elements:
                newest[element.key] = max(element.seq, newest.get(element.key, 0))

        def caught_up(reference=reference, newest=newest):
            seen = {element.key: element.seq for element in reference.decode().elements}
            return all(seen.get(key, 0) >= seq for key, seq in newest.items())

        await until(caught_up)
        await reference.close()
        reference.decode()
    for peer in everyone:
        assert peer.tap.broken is None, (peer, peer.tap.broken)


def check_payloads(peer):
    """What the library gave is what the tap's decoder found, message by message."""
    given = peer.payloads()
    wire = [message.payload for message in peer.tap.of_server()]
    if "websockets" not in peer.name:
        # The others drop what comes between their close and the server's.
        assert len(given) > len(wire) / 2, peer
        wire = wire[: len(given)]
    for number, (mine, theirs) in enumerate(zip(given, wire, strict=True)):
        assert mine == theirs, (peer, number)


def check_values(peer, reference):
    """Every element is the one of that number in the uncompressed stream."""
    known = {(element.key, element.seq): element for element in reference.client.elements if element.type != "gap"}
    assert peer.client.elements, peer
    for element in peer.client.elements:
        if element.type != "gap":
            assert known[element.key, element.seq] == element, peer


def check_complete(peer, gaps=False):
    """Mode `every` misses nothing from each snapshot on; what is declared as a gap fills it exactly."""
    last = {}
    for element in peer.client.elements:
        before = last.get(element.key, 0)
        if element.snapshot:
            assert element.seq >= before, (peer, element, before)
        elif element.type == "gap":
            assert gaps, (peer, element)
            from_seq, to_seq, _ = element.values
            assert from_seq == before + 1 <= to_seq == element.seq, (peer, element, before)
        else:
            assert element.seq == before + 1, (peer, element, before)
        last[element.key] = element.seq


def check_rising(peer):
    last = {}
    for element in peer.client.elements:
        assert element.type != "gap", (peer, element)
        assert element.seq >= last.get(element.key, 0) + (not element.snapshot), (peer, element)
        last[element.key] = element.seq


def check_wire(peer, threshold_bytes=THRESHOLD_BYTES):
    """Compression has happened, by the rules of docs/protocol.md."""
    offered, agreed = peer.tap.request.get("sec-websocket-extensions"), parameters(peer.tap.extensions)
    messages = peer.tap.of_server()
    if offered is None or agreed is None:
        assert agreed is None, peer
        assert not any(message.compressed for message in messages), peer
        return
    expected = {"client_no_context_takeover": True}
    asked = parameters(offered.split(",")[0])
    expected |= {k: asked[k] for k in ("server_no_context_takeover", "server_max_window_bits") if k in asked}
    if asked.get("client_max_window_bits", True) not in (True, 15):
        expected["client_max_window_bits"] = asked["client_max_window_bits"]
    assert agreed == expected, (peer, offered)

    deflated = peer.tap.of_server(compressed=True)
    assert deflated, f"{peer}: nothing was compressed"
    assert all(len(message.payload) >= threshold_bytes for message in deflated), peer
    if "server_no_context_takeover" in agreed:
        # Nothing to wait for: whatever is long enough is compressed.
        plain = peer.tap.of_server(data=True, compressed=False)
        assert all(len(message.payload) < threshold_bytes for message in plain), peer
    else:
        # Whoever is in step with its lane stays there: only its beginnings are plain.
        live = [message.compressed for message in peer.tap.of_server(data=True)]
        assert live[-1], peer
    plain_bytes = sum(len(message.payload) for message in deflated)
    assert sum(message.deflated_bytes for message in deflated) < 0.8 * plain_bytes, peer


def check_all(everyone, references):
    for peer in everyone:
        check_payloads(peer)
        check_complete(peer)
        check_wire(peer)
        for reference in references:
            if peer is not reference and peer.client.encoding == reference.client.encoding:
                check_values(peer, reference)


async def test_all_clients_at_once_get_the_uncompressed_stream(plant, peers):
    """Python's, Node's and Chromium's clients with all their settings, in both encodings, joining one after another."""
    server = plant(*LIVE)
    many = await peers(server)
    references = [await many.websockets(encoding) for encoding in ("msgpack", "json")]
    for reference in references:
        await reference.subscribe(**ALL)
    first = references[0].tap

    async def pause():
        # Clients join at different moments of an epoch.
        seen = len(first.of_server())
        await until(lambda: len(first.of_server()) > seen + 1)

    for encoding in ("json", "msgpack"):
        for offer in WEBSOCKETS:
            await (await many.websockets(encoding, offer)).subscribe(**ALL)
            await pause()
        for window_bits in (15, 12, 9):
            await (await many.aiohttp(encoding, window_bits)).subscribe(**ALL)
            await pause()
        for options in WS:
            await many.node("ws", encoding, ALL, options)
            await pause()
        await many.node("builtin", encoding, ALL)
        chromium = await many.chromium(encoding, ALL)
        assert parameters(chromium.negotiated) == {"client_no_context_takeover": True}
    # Two epochs and more for the last.
    await until(lambda: all(len(peer.tap.of_server(data=True)) > 150 for peer in many.all))
    await finish(many.all, *references)

    check_all(many.all, references)
    for ours, theirs in zip(*(reference.client.instruments.values() for reference in references), strict=True):
        assert ours == theirs
    packed, text = ({(e.key, e.seq): e for e in reference.client.live()} for reference in references)
    common = packed.keys() & text.keys()
    assert len(common) > 1000
    assert all(packed[number] == text[number] for number in common)

    await check_bytes(server, many.all)
    counted = metrics(server)
    assert counted["tickerplant_gaps_total"] == 0
    # One compression serves all members of a lane.
    received = sum(len(peer.tap.of_server(compressed=True)) for peer in many.all)
    assert counted["tickerplant_deflated_messages_total"] < received
    assert 0 < counted["tickerplant_deflate_out_bytes_total"] < counted["tickerplant_deflate_in_bytes_total"]
    assert counted["tickerplant_deflate_epochs_total"] >= 8


async def check_bytes(server, everyone):
    """Frames, bytes and savings are counted exactly, once all sessions have ended."""
    for peer in everyone:
        await peer.tap.ended()
    frames = sum(len(peer.tap.received.messages) for peer in everyone)
    sent = sum(peer.tap.frame_bytes for peer in everyone)
    saved = sum(message.saved for peer in everyone for message in peer.tap.received.messages if message.compressed)
    expected = {
        "tickerplant_sessions": 0,
        "tickerplant_frames_total": frames,
        "tickerplant_sent_bytes_total": sent,
        "tickerplant_saved_bytes_total": saved,
    }
    with contextlib.suppress(TimeoutError):
        await until(lambda: expected.items() <= metrics(server).items(), 10)
    counted = metrics(server)
    assert {name: counted[name] for name in expected} == expected


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_the_metrics_are_what_one_client_counts(plant, peers, encoding):
    server = plant(*LIVE)
    many = await peers(server)
    peer = await many.websockets(encoding, {})
    await peer.subscribe(**ALL, snapshot=False)
    await until(lambda: len(peer.tap.of_server(data=True)) > 100)
    await finish(many.all)
    check_payloads(peer)
    check_wire(peer)
    await check_bytes(server, many.all)
    # What is sent to one session alone, such as answers, is compressed besides.
    deflated, counted = peer.tap.of_server(data=True, compressed=True), metrics(server)
    assert {name: counted[f"tickerplant_{name}_total"] for name in ("deflated_messages", "deflate_in_bytes")} == {
        "deflated_messages": len(deflated),
        "deflate_in_bytes": sum(len(message.payload) for message in deflated),
    }
    assert counted["tickerplant_deflate_out_bytes_total"] == sum(message.deflated_bytes for message in deflated)
    # It was alone: its lane began once, and all that was long enough was compressed.
    assert counted["tickerplant_deflate_epochs_total"] == 1
    assert all(len(m.payload) < THRESHOLD_BYTES for m in peer.tap.of_server(data=True, compressed=False))


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_latest_values_are_those_of_the_stream(plant, peers, encoding):
    """Mode `latest` at several intervals, also on a session that has another lane in mode `every`."""
    server = plant(*LIVE)
    many = await peers(server)
    reference = await many.websockets(encoding)
    await reference.subscribe(**ALL)
    for offer in ({}, {"server_no_context_takeover": True}, {"server_max_window_bits": 9}):
        for interval_ms in (0, 20, 100, 250):
            peer = await many.websockets(encoding, offer)
            await peer.subscribe(**ALL, mode="latest", interval_ms=interval_ms)
        both = await many.websockets(encoding, offer)
        await both.subscribe(["trades"], ["*"])
        await both.subscribe(["quotes"], ["*"], mode="latest", interval_ms=50)
        other = await many.websockets(encoding, offer)
        await other.subscribe(["quotes"], ["*"], mode="latest", interval_ms=50)
        await other.subscribe(["trades"], ["*"])
    await until(lambda: all(len(peer.tap.of_server(data=True)) > 20 for peer in many.all))
    await until(lambda: all(len(peer.tap.of_server(compressed=True)) > 3 for peer in many.all if peer is not reference))
    await finish(many.all, reference)
    check_complete(reference)
    for peer in many.all:
        check_payloads(peer)
        check_rising(peer)
        check_values(peer, reference)
    await check_bytes(server, many.all)


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_members_of_a_lane_come_and_go(plant, peers, encoding):
    """One leaves the shared lane and comes back again and again, one changes what it wants, the others stay."""
    server = plant(*LIVE, "--deflate-epoch-interval-ms", 100)
    many = await peers(server)
    reference = await many.websockets(encoding)
    await reference.subscribe(**ALL)
    names = [entry["symbol"] for entry in (await reference.client.ask("instruments"))["instruments"]]
    stays = [await many.websockets(encoding, {}) for _ in range(3)]
    for peer in stays:
        await peer.subscribe(**ALL)
    comes_and_goes = await many.websockets(encoding, {})
    changes = await many.websockets(encoding, {})
    await changes.subscribe(["trades"], ["*"])
    switches = await many.websockets(encoding, {})
    await switches.subscribe(**ALL)

    def more_of(peer, count):
        seen = len(peer.tap.of_server(data=True))
        return until(lambda: len(peer.tap.of_server(data=True)) > seen + count)

    for turn in range(15):
        await comes_and_goes.subscribe(**ALL)
        await more_of(comes_and_goes, turn % 5)
        if turn % 3:
            await comes_and_goes.client.ask("unsubscribe")
        else:
            await comes_and_goes.client.ask("unsubscribe", channels=CHANNELS, symbols=["*"])

        chosen = names[turn : turn + 3]
        await changes.subscribe(["quotes"], chosen)
        await more_of(changes, turn % 3)
        await changes.client.ask("unsubscribe", channels=["quotes"], symbols=chosen[:2])

        keys = {"mode": "latest", "interval_ms": 20} if turn % 2 else {"mode": "every"}
        await switches.client.ask("update", **ALL, **keys)
        # A member that is born and dies within the lane's epoch.
        brief = await many.websockets(encoding, {})
        await brief.subscribe(**ALL)
        await more_of(brief, 3)
        await brief.close()
    await comes_and_goes.subscribe(**ALL)
    await more_of(comes_and_goes, 10)
    await finish([peer for peer in many.all if peer.inbox.close_code is None], reference)

    for peer in many.all:
        peer.decode()
        assert peer.tap.broken is None, (peer, peer.tap.broken)
        check_payloads(peer)
        check_values(peer, reference)
        if peer is switches:
            check_rising(peer)
        else:
            check_complete(peer)
    for peer in (*stays, comes_and_goes, changes):
        check_wire(peer) if peer in stays else None
        assert peer.tap.of_server(compressed=True), peer
    await check_bytes(server, many.all)


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_a_slow_reader_stalls_and_comes_back(plant, peers, encoding):
    """What it was not sent is declared as gaps, what it gets fits its history, and the others notice nothing."""
    # What the kernel holds for a connection is a fixed number of bytes, and MessagePack is three times as dense.
    rate = 4000 if encoding == "json" else 12_000
    busy = ("--sim-seed", 7, "--sim-symbols", 40, "--sim-rate", rate, "--flush-interval-us", 10_000)
    # What the kernel takes in keeps those whole that do read: this process is busy with all of them.
    slow_at = ("--outbox-bytes-max", 20_000, "--unsent-bytes-max", 0, "--deflate-epoch-interval-ms", 200)
    server = plant(*busy, *slow_at, "--admin-listen", "127.0.0.1:0")
    many = await peers(server)
    reference = await many.websockets(encoding)
    await reference.subscribe(**ALL)
    offers = [{}, {}, {"server_max_window_bits": 10}, {"server_no_context_takeover": True}, None]
    slow = [await many.websockets(encoding, offer, receive_buffer_bytes=4096) for offer in offers]
    steady = [await many.websockets(encoding, offer) for offer in offers[1:4]]
    for peer in (*slow, *steady):
        await peer.subscribe(**ALL)

    def stalled():
        """Sessions that are left out until they have caught up."""
        page = requests.get(f"{server.line('admin').split()[1]}/sessions", timeout=30).json()
        return {entry["id"] for entry in page["sessions"] if entry["state"] == "stalled"}

    for turn in range(2):
        # The second one never stalls at the same time as the first: it keeps their lane's epochs apart.
        paused = [peer for peer in slow if turn != 1 or peer is not slow[1]]
        for peer in paused:
            peer.tap.pause()
        names = {peer.client.messages[0]["session"] for peer in paused}
        await until(lambda names=names: names <= stalled())
        for peer in paused:
            seen = len(peer.tap.of_server(data=True))
            peer.tap.resume()
            # Long enough to be in step again, mostly.
            await until(lambda peer=peer, seen=seen: len(peer.tap.of_server(data=True)) > seen + 60)
    await until(lambda: all(peer.tap.of_server(compressed=True) for peer in slow[:4]))
    await finish(many.all, reference)

    check_complete(reference)
    for peer in many.all:
        check_payloads(peer)
        check_complete(peer, gaps=peer in slow)
        check_values(peer, reference)
    for peer in slow:
        gaps = [element for element in peer.client.elements if element.type == "gap"]
        assert gaps, peer
        assert {element.values[2] for element in gaps} == {"slow"}, peer
    for peer in steady:
        check_wire(peer)


async def small_crowd(server, peers):
    """Clients of each kind of compression, in both encodings, until all have got a good deal."""
    many = await peers(server)
    references = [await many.websockets(encoding) for encoding in ("msgpack", "json")]
    for reference in references:
        await reference.subscribe(**ALL)
    for encoding in ("msgpack", "json"):
        for offer in ({}, {}, {"server_no_context_takeover": True}, {"server_max_window_bits": 9}):
            await (await many.websockets(encoding, offer)).subscribe(**ALL)
        await (await many.aiohttp(encoding, 15)).subscribe(**ALL)
        await many.node("ws", encoding, ALL, True)
        await many.node("builtin", encoding, ALL)
    await until(lambda: all(len(peer.tap.of_server(data=True)) > 80 for peer in many.all))
    await finish(many.all, *references)
    return many, references


async def test_switched_off_nothing_is_agreed(plant, peers):
    server = plant(*LIVE, "--deflate=false")
    many, references = await small_crowd(server, peers)
    check_all(many.all, references)
    assert any(peer.tap.request.get("sec-websocket-extensions") for peer in many.all)
    assert all(peer.tap.extensions is None for peer in many.all)
    await check_bytes(server, many.all)
    assert metrics(server)["tickerplant_saved_bytes_total"] == 0


async def test_without_memory_each_message_is_compressed_by_itself(plant, peers):
    server = plant(*LIVE, "--deflate-memory-bytes-max", 0)
    many, references = await small_crowd(server, peers)
    check_all(many.all, references)
    for peer in many.all:
        plain = peer.tap.of_server(data=True, compressed=False)
        # No one waits for an epoch.
        if peer.tap.extensions:
            assert all(len(message.payload) < THRESHOLD_BYTES for message in plain), peer
    await check_bytes(server, many.all)
    assert metrics(server)["tickerplant_deflate_epochs_total"] == 0
    assert metrics(server)["tickerplant_compressors"] == 0


async def test_memory_for_one_lane_only(plant, peers):
    """The others are compressed message by message meanwhile."""
    server = plant(*LIVE, "--deflate-memory-bytes-max", 400_000, "--shards", 1)
    many, references = await small_crowd(server, peers)
    check_all(many.all, references)
    await check_bytes(server, many.all)
    assert metrics(server)["tickerplant_deflate_epochs_total"] > 0


async def test_the_highest_level(plant, peers):
    server = plant(*LIVE, "--deflate-level", 9)
    many, references = await small_crowd(server, peers)
    check_all(many.all, references)
    await check_bytes(server, many.all)


async def test_without_a_threshold_the_shortest_are_compressed_too(plant, peers):
    server = plant("--sim-seed", 7, "--sim-symbols", 5, "--sim-rate", 50, "--deflate-threshold-bytes", 0)
    many, references = await small_crowd(server, peers)
    for peer in many.all:
        check_payloads(peer)
        check_complete(peer)
        for reference in references:
            if peer is not reference and peer.client.encoding == reference.client.encoding:
                check_values(peer, reference)
        # In JSON no element is that short.
        if peer.tap.extensions and peer.client.encoding == "msgpack":
            assert any(len(m.payload) < THRESHOLD_BYTES for m in peer.tap.of_server(compressed=True)), peer
    await check_bytes(server, many.all)


async def test_epochs_in_quick_succession(plant, peers):
    server = plant(*LIVE, "--deflate-epoch-interval-ms", 50)
    many, references = await small_crowd(server, peers)
    check_all(many.all, references)
    await check_bytes(server, many.all)


async def test_compressed_commands_are_understood(plant, peers):
    """All settings of the clients' own direction; short commands and long ones, in both encodings."""
    server = plant(*LIVE)
    many = await peers(server)
    for encoding in ("msgpack", "json"):
        for offer in (
            {},
            {"client_max_window_bits": None},
            {"client_max_window_bits": 9},
            {"server_max_window_bits": 9},
        ):
            await many.websockets(encoding, offer)
        await many.aiohttp(encoding, 15)
        await many.aiohttp(encoding, 10)
    for peer in many.all:
        # 1,500 names that exist nowhere: far longer than a window of 512 bytes, and refused in one answer.
        unknown = [f"NOT-{number:04}" for number in range(1500)]
        answer = await peer.client.ask("subscribe", channels=["trades"], symbols=unknown)
        assert (answer["type"], answer["code"]) == ("error", "unknown_symbol"), peer
        # The first of them stand for the rest.
        assert answer["symbols"], peer
        assert answer["symbols"] == unknown[: len(answer["symbols"])], peer
        await peer.subscribe(**ALL)
        await peer.client.until(lambda peer=peer: len(peer.client.live()) > 50)
        for _ in range(3):
            assert await peer.client.lives()
    # Node's client compresses from its threshold on.
    for encoding in ("msgpack", "json"):
        for options in ({"threshold": 0}, {"threshold": 0, "clientMaxWindowBits": 9}):
            await many.node("ws", encoding, ALL | {"padding": "x" * 2000}, options)
    await until(lambda: all(len(peer.tap.of_server(data=True)) > 10 for peer in many.all))
    await finish(many.all)
    for peer in many.all:
        commands = [message for message in peer.tap.sent.messages if message.opcode < 8]
        assert commands, peer
        assert any(message.compressed for message in commands), peer
        check_complete(peer)
        check_payloads(peer)


async def test_a_compressed_command_that_would_grow_too_long_is_refused(plant, peers):
    server = plant(*LIVE)
    many = await peers(server)
    peer = await many.websockets("json", {})
    await peer.client.send_raw({"op": "ping", "padding": "x" * 1_000_000})
    await peer.pump
    peer.decode()
    assert peer.inbox.close_code == 1009
    (sent,) = [message for message in peer.tap.sent.messages if message.opcode < 8]
    assert sent.compressed
    assert sent.deflated_bytes < 65_536 < len(sent.payload)


async def test_pings_of_the_server_are_never_compressed(plant, peers):
    server = plant(*LIVE, "--ping-interval-ms", 100)
    many = await peers(server)
    peer = await many.websockets("json", {})
    await peer.subscribe(**ALL)
    await until(lambda: sum(message.opcode == PING for message in peer.tap.received.messages) > 5)
    await finish(many.all)
    assert not any(message.compressed for message in peer.tap.received.messages if message.opcode >= 8)
    check_payloads(peer)
    check_complete(peer)


async def test_offers_that_cannot_be_met_are_declined(plant, peers):
    """A window of 256 bytes: the connection goes on without compression."""
    server = plant(*LIVE)
    many = await peers(server)
    peer = await many.websockets("json", {"server_max_window_bits": 8})
    await peer.subscribe(**ALL)
    await until(lambda: len(peer.tap.of_server(data=True)) > 20)
    await finish(many.all)
    assert peer.tap.extensions is None
    check_wire(peer)
    check_payloads(peer)
    check_complete(peer)
