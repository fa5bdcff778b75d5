"""Where WebSockets are blocked: server-sent events of the real server, with the same events in the same order."""

import asyncio

import pytest
from guard import FORBIDDEN, NOTHING, Guard
from test_real import MARKET, SOON, Shown, keys, stalls, trades

import tickerplant
from tickerplant import BookDelta, Connected, ConnectError, Gap, Lost, Quote, Refused, Subscribed, Trade, connect

__all__ = ["keys"]
CHANNELS = ["trades", "quotes", "book.10"]


async def until(client, shown, done):
    """Takes events until `done`."""
    while not done():
        shown.take(client, await client.next())


@pytest.mark.parametrize("refusal", [FORBIDDEN, NOTHING], ids=["refused", "cut"])
async def test_a_client_falls_back_to_events_and_books_hold(plant, refusal):
    server = plant(*MARKET)
    async with Guard(server.host_and_port, refusal) as guard, connect(guard.address, reconnect=SOON) as client:
        assert client.transport == "sse"
        assert not guard.requests("/api/v1/stream")
        ticket = client.subscribe(CHANNELS, "*")
        opened = [await client.next(), await client.next()]
        assert isinstance(opened[0], Connected)
        assert opened[0].transport == "sse"
        assert isinstance(opened[1], Subscribed)
        assert opened[1].ticket == ticket
        assert len(opened[1].instruments) == 6
        shown = Shown()
        await until(client, shown, lambda: len(shown.values) == 18 and client.counters.elements > 3000)
        assert shown.missing == {}
        assert client.counters.heartbeats_wrong == client.counters.unknown == 0


async def test_a_stream_that_is_cut_goes_on_from_its_last_id_without_a_hole(plant):
    # Slow enough that what is missed in the pauses that a server asks for is still kept.
    server = plant("--sim-seed", 11, "--sim-symbols", 6, "--sim-rate", 500)
    async with (
        Guard(server.host_and_port, FORBIDDEN) as guard,
        connect(server.ws) as straight,
        connect(guard.address, reconnect=SOON) as client,
    ):
        for each in (straight, client):
            each.subscribe(["trades", "quotes"], "*")
        shown, whole = Shown(), Shown()
        for cuts in range(1, 6):
            begun = client.counters.elements
            await until(client, shown, lambda begun=begun: client.counters.elements > begun + 200)
            await guard.cut()
            await until(client, shown, lambda cuts=cuts: shown.losses == cuts)
        assert shown.missing == {}
        target = dict(shown.last)
        await until(straight, whole, lambda: all(whole.last.get(stream, 0) >= last for stream, last in target.items()))
        for stream, values in shown.values.items():
            assert all(
                whole.values[stream][seq] == value for seq, value in values.items() if seq in whole.values[stream]
            )
        again = guard.requests("/api/v1/stream")[1:]
        assert again
        assert all("last-event-id" in head.lower() for head in again)
        # Whatever was lost, the way that worked is tried first.
        assert len(guard.requests("/ws")) == 1


async def test_when_websockets_pass_again_a_stream_that_fails_goes_back_to_them(plant):
    server = plant(*MARKET)
    async with Guard(server.host_and_port, FORBIDDEN) as guard, connect(guard.address, reconnect=SOON) as client:
        client.subscribe("trades", "*")
        stream = await trades(client, 10)
        server.process.kill()
        server.process.wait()
        guard.refusal = None
        async for lost in client.of(Lost):
            # The second attempt is one of the stream, and fails.
            if client.counters.connections and lost.reason.status is None and client.transport == "websocket":
                break
        plant(*MARKET, listen=server.address)
        async for event in client.of(Connected):
            assert event.transport == "websocket"
            assert event.epoch_changed
            break
        assert await trades(client, 10)
        assert stream


async def test_wishes_that_change_are_other_requests_and_each_is_answered(plant):
    server = plant(*MARKET)
    async with Guard(server.host_and_port, FORBIDDEN) as guard, connect(guard.address, reconnect=SOON) as client:
        symbols = [one.symbol for one in await client.instruments()]
        assert [one.symbol for one in await client.instruments("E")] == [one for one in symbols if one[0] == "E"]
        first, second = symbols[:2]
        tickets = [client.subscribe("trades", [first, "NOPE"])]
        async for refusal in client.of(Refused):
            assert (refusal.ticket, refusal.code, refusal.symbols) == (tickets[0], "unknown_symbol", ["NOPE"])
            break
        assert await trades(client, 3) == (first, "trades")
        tickets += [client.subscribe("quotes", second, latest_ms=50)]
        async for answer in client.of(Subscribed):
            assert answer.ticket == tickets[1]
            assert [one.symbol for one in answer.instruments] == [second]
            assert answer.interval_ms == 50
            break
        seen = set()
        async for event in client.of(Trade, Quote, Lost, BookDelta):
            assert isinstance(event, (Trade, Quote))
            seen.add((event.symbol, event.channel))
            if len(seen) == 2:
                break
        assert seen == {(first, "trades"), (second, "quotes")}
        for _ in range(2):
            gone = client.unsubscribe("trades")
            async for answer in client.of(tickerplant.Unsubscribed):
                assert answer.ticket == gone
                break
        last = None
        async for quote in client.of(Quote, Trade):
            assert isinstance(quote, Quote)
            last = last or quote
            if quote.seq > last.seq:
                break
        gone = client.unsubscribe()
        async for answer in client.of(tickerplant.Unsubscribed):
            assert answer.ticket == gone
            break
        client.subscribe("trades", second)
        assert await trades(client, 3) == (second, "trades")
        assert client.counters.connections >= 4


async def test_what_happened_between_two_requests_is_named(plant):
    server = plant(*MARKET)
    async with Guard(server.host_and_port, FORBIDDEN) as guard, connect(guard.address, reconnect=SOON) as client:
        first, second = [one.symbol for one in await client.instruments()][:2]
        client.subscribe("trades", first)
        shown = Shown()
        for other in (second, "*"):
            begun = client.counters.elements
            await until(client, shown, lambda begun=begun: client.counters.elements > begun + 100)
            client.subscribe("trades", other)
        begun = client.counters.elements
        # `Shown` refuses numbers that are neither shown nor named.
        await until(client, shown, lambda: client.counters.elements > begun + 500)
        assert {stream for stream in shown.values} >= {(first, "trades"), (second, "trades")}
        for gaps in shown.missing.values():
            assert all(isinstance(gap, range) for gap in gaps)


async def test_tokens_are_presented_in_the_request(plant, keys):
    file, key = keys
    server = plant(*MARKET, "--api-keys-file", file)
    async with Guard(server.host_and_port, FORBIDDEN) as guard:
        for options in ({"token": key}, {"token": key, "auth_command": True}):
            async with connect(guard.address, **options) as client:
                client.subscribe("trades", "*")
                assert await trades(client, 3)
        async with connect(guard.address, token="tp_wrong", reconnect=None) as client:
            client.subscribe("trades", "*")
            rest = [event async for event in client]
            assert "401" in rest[-1].reason.message


async def test_without_the_fallback_a_refusal_is_the_end(plant):
    server = plant(*MARKET)
    async with Guard(server.host_and_port, FORBIDDEN) as guard:
        with pytest.raises(ConnectError, match="403"):
            await connect(guard.address, transports=("websocket",))
        assert not guard.requests("/api") + guard.requests("/readyz")


async def test_what_no_server_of_ours_says_is_told_as_the_hand_shake_was_answered():
    async with Guard(("127.0.0.1", 9), FORBIDDEN) as guard:
        with pytest.raises(ConnectError, match="403"):
            await connect(guard.address)


async def test_gaps_of_a_slow_reader_come_over_events_too(plant):
    server = plant("--sim-symbols", 50, "--sim-rate", 20_000, "--outbox-bytes-max", 65_536)
    async with (
        Guard(server.host_and_port, FORBIDDEN) as guard,
        connect(guard.address, events_max=1000, books=False) as client,
    ):
        client.subscribe(["trades", "quotes"], "*")
        await client._driver.arrived()
        while await asyncio.to_thread(stalls, server) == 0:
            pass
        async for gap in client.of(Gap):
            assert gap.reason in ("slow", "conflated"), gap
            break
