"""One session on a live market: snapshot, order, modes, the same in both encodings."""

import pytest

LIVE = ("--sim-seed", 7, "--sim-symbols", 50, "--sim-rate", 2000)
CHANNELS = ["trades", "quotes"]


def by_number(elements):
    return {(element.key, element.seq): element for element in elements}


async def test_welcome_says_what_applies(plant, session):
    server = plant(*LIVE)
    packed = (await session(server.ws)).messages[0]
    text = (await session(server.ws, "json")).messages[0]
    for welcome in (packed, text):
        assert set(welcome) >= {"version", "session", "epoch", "time", "heartbeat_ms", "limits"}
        assert isinstance(welcome["epoch"], str)
        assert welcome["limits"]["message_bytes_max"] == 65_536
        assert welcome["limits"]["subscriptions_max"] == 10_000
    assert isinstance(packed["time"], int)
    assert isinstance(text["time"], str)
    assert packed["session"] != text["session"]
    assert packed["epoch"] == text["epoch"]


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_everything_arrives_in_order(plant, session, encoding):
    client = await session(plant(*LIVE).ws, encoding)
    answer = await client.subscribe(CHANNELS, ["*"])
    assert (answer["mode"], sorted(answer["channels"])) == ("every", sorted(CHANNELS))
    assert len(answer["instruments"]) == 50
    await client.until(lambda: len(client.live("trades")) > 500 and len(client.live("quotes")) > 500)
    client.assert_complete()
    for quote in client.live("quotes"):
        bid, bid_size, ask, ask_size = quote.values
        assert bid < ask
        assert min(bid_size, ask_size) > 0


async def test_both_encodings_say_the_same(plant, session):
    server = plant(*LIVE)
    packed, text = await session(server.ws), await session(server.ws, "json")
    await packed.subscribe(CHANNELS, ["*"])
    await text.subscribe(CHANNELS, ["*"])
    await text.until(lambda: len(text.live()) > 1000)
    last = text.live()[-1]
    await packed.until(lambda: any((e.key, e.seq) == (last.key, last.seq) for e in packed.elements[-500:]))
    ours, theirs = by_number(packed.elements), by_number(text.live())
    common = ours.keys() & theirs.keys()
    assert len(common) > 900
    for number in common:
        assert ours[number] == theirs[number]


async def test_a_snapshot_joins_the_live_elements(plant, session):
    server = plant(*LIVE)
    early = await session(server.ws)
    await early.subscribe(CHANNELS, ["*"])
    await early.until(lambda: len(early.live()) > 1000)

    late = await session(server.ws)
    await late.subscribe(CHANNELS, ["*"])
    await late.until(lambda: len(late.live()) > 1000)
    late.assert_complete()
    state = [element for element in late.elements if element.snapshot]
    assert state, "no snapshot came"
    assert all(element.snapshot for element in late.elements[: len(state)]), "live elements before the snapshot's end"

    last = late.live()[-1]
    await early.until(lambda: any((e.key, e.seq) == (last.key, last.seq) for e in early.elements[-2000:]))
    early.assert_complete()
    known = by_number(early.elements)
    for element in late.elements:
        assert known[element.key, element.seq] == element


async def test_without_a_snapshot_only_events_come(plant, session):
    client = await session(plant(*LIVE).ws)
    await client.subscribe(CHANNELS, ["*"], snapshot=False)
    await client.until(lambda: len(client.elements) > 200)
    assert not any(element.snapshot for element in client.elements)


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_latest_skips_but_never_lies(plant, session, encoding):
    server = plant("--sim-seed", 7, "--sim-symbols", 5, "--sim-rate", 5000)
    every, latest = await session(server.ws), await session(server.ws, encoding)
    await every.subscribe(CHANNELS, ["*"])
    answer = await latest.subscribe(CHANNELS, ["*"], mode="latest", interval_ms=50)
    assert (answer["mode"], answer["interval_ms"]) == ("latest", 50)
    await latest.until(lambda: len(latest.frames) > 20)

    numbers = {}
    for element in latest.elements:
        assert element.type != "gap"
        assert element.seq >= numbers.get(element.key, 0) + (not element.snapshot)
        numbers[element.key] = element.seq
    for _, elements in latest.frames:
        keys = [element.key for element in elements]
        assert len(keys) == len(set(keys)), "two values of one channel in one frame"
    assert sum(numbers.values()) > 2 * len(latest.live()), "nothing was skipped"

    last = latest.live()[-1]
    await every.until(lambda: any((e.key, e.seq) >= (last.key, last.seq) and e.key == last.key for e in every.elements))
    known = by_number(every.elements)
    for element in latest.live():
        if (element.key, element.seq) in known:
            assert known[element.key, element.seq] == element


async def test_symbols_and_channels_select(plant, session):
    server = plant("--sim-seed", 7, "--sim-symbols", 5, "--sim-rate", 2000, "--sim-scenario", "uniform")
    client = await session(server.ws)
    names = [entry["symbol"] for entry in (await client.ask("instruments"))["instruments"]]
    assert len(names) == 5
    await client.subscribe(["trades"], [names[0]])
    await client.subscribe(["quotes"], [names[1]])
    await client.until(lambda: len(client.live()) > 200)
    assert {element.key for element in client.elements} == {(names[0], "trades"), (names[1], "quotes")}
    client.assert_complete()

    answer = await client.ask("subscriptions")
    pairs = {(entry["channel"], symbol) for entry in answer["subscriptions"] for symbol in entry["symbols"]}
    assert pairs == {("trades", names[0]), ("quotes", names[1])}

    answer = await client.ask("unsubscribe", channels=["trades"])
    assert answer["type"] == "unsubscribed"
    seen = len(client.elements)
    await client.until(lambda: len(client.elements) > seen + 50)
    assert {element.key for element in client.elements[seen:]} == {(names[1], "quotes")}


async def test_a_star_takes_part_in_the_set_as_one(plant, session):
    client = await session(plant(*LIVE).ws)
    await client.subscribe(CHANNELS, ["*"])
    answer = await client.ask("subscriptions")
    assert {(entry["channel"], tuple(entry["symbols"])) for entry in answer["subscriptions"]} == {
        ("trades", ("*",)),
        ("quotes", ("*",)),
    }


async def test_update_changes_the_mode_of_a_running_subscription(plant, session):
    client = await session(plant("--sim-symbols", 5, "--sim-rate", 2000).ws)
    await client.subscribe(CHANNELS, ["*"])
    await client.until(lambda: len(client.live()) > 100)
    answer = await client.ask("update", channels=CHANNELS, symbols=["*"], mode="latest", interval_ms=20)
    assert answer["type"] == "subscribed", answer
    assert (answer["mode"], answer["interval_ms"]) == ("latest", 20)
    frames = len(client.frames)
    await client.until(lambda: len(client.frames) > frames + 5)
    for _, elements in client.frames[frames + 1 :]:
        assert len(elements) <= 10, "more than one value per instrument and channel"


async def test_instruments_are_described_and_found_by_prefix(plant, session):
    client = await session(plant("--sim-symbols", 100, "--sim-rate", 10).ws)
    everything = (await client.ask("instruments"))["instruments"]
    assert len(everything) == 100
    for entry in everything:
        assert set(entry) >= {
            "symbol",
            "instrument_id",
            "price_exponent",
            "size_exponent",
            "tick_size",
            "lot_size",
            "class",
            "currency",
            "description",
        }
    prefix = everything[0]["symbol"][:2]
    some = (await client.ask("instruments", prefix=prefix))["instruments"]
    assert [entry["symbol"] for entry in some] == [e["symbol"] for e in everything if e["symbol"].startswith(prefix)]


async def test_heartbeats_count_what_was_delivered(plant, session):
    client = await session(plant(*LIVE, "--heartbeat-ms", 200).ws)
    await client.subscribe(CHANNELS, ["*"])
    heartbeat = await client.message(lambda message: message["type"] == "heartbeat" and message["delivered"] > 0)
    assert heartbeat["dropped"] == 0
    await client.until(lambda: len(client.live()) >= heartbeat["delivered"])
    client.assert_complete()


@pytest.mark.parametrize("identity", [0, -5, 2**63, "", "a b"])
@pytest.mark.parametrize("encoding", ["msgpack", "json"])
async def test_an_id_is_echoed(plant, session, encoding, identity):
    client = await session(plant("--sim-rate", 1).ws, encoding)
    await client.send("ping", id=identity)
    assert (await client.answer(identity))["type"] == "pong"


async def test_either_encoding_is_understood_in_its_own_kind_of_frame(plant, session):
    server = plant("--sim-rate", 1)
    packed = await session(server.ws)
    await packed.socket.send('{"op":"ping","id":"as text"}')
    assert (await packed.answer("as text"))["type"] == "pong"
    text = await session(server.ws, "json")
    await text.socket.send(b"\x82\xa2op\xa4ping\xa2id\x07")
    assert (await text.answer(7))["type"] == "pong"


@pytest.mark.parametrize(
    ("query", "offered", "encoding"),
    [
        ("", None, "msgpack"),
        ("?format=json", None, "json"),
        ("", ["unknown", "ticker.v1.json"], "json"),
    ],
)
async def test_the_encoding_follows_from_the_request(plant, session, query, offered, encoding):
    client = await session(plant("--sim-rate", 1).ws + query, encoding, subprotocols=offered)
    assert await client.lives()


async def test_auth_is_answered_though_it_is_off(plant, session):
    client = await session(plant("--sim-rate", 1).ws)
    await client.send("auth", token="anything")
    await client.message(lambda message: message["type"] == "authenticated")


async def test_twenty_four_clients_on_everything_miss_nothing(plant, session):
    server = plant("--sim-symbols", 1000, "--sim-rate", 1000)
    clients = [await session(server.ws, ("msgpack", "json")[index % 2]) for index in range(24)]
    for client in clients:
        await client.subscribe(CHANNELS, ["*"])
    for client in clients:
        await client.until(lambda client=client: len(client.live()) >= 3000)
    for client in clients:
        client.assert_complete()
    known = by_number(clients[0].elements)
    for client in clients[1:]:
        ours = by_number(client.elements)
        common = known.keys() & ours.keys()
        assert len(common) > 1000
        assert all(known[number] == ours[number] for number in common)
