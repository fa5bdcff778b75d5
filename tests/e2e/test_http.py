"""Over plain HTTP: health, instruments, snapshots, metrics, the page."""

import asyncio
import re

import requests

LIVE = ("--sim-symbols", 20, "--sim-rate", 2000)


def get(server, path, **keys):
    return requests.get(server.http + path, timeout=10, **keys)


def deliveries(server):
    (count,) = re.findall(r"^tickerplant_deliveries_total (\d+)", get(server, "/metrics").text, re.M)
    return int(count)


async def test_health_and_readiness(plant):
    server = plant(*LIVE)
    assert get(server, "/healthz").status_code == 200
    assert get(server, "/readyz").status_code == 200


async def test_instruments_and_snapshot_agree_with_a_session(plant, session):
    server = plant(*LIVE)
    client = await session(server.ws, "json")
    await client.subscribe(["trades", "quotes"], ["*"])
    await client.until(lambda: len(client.live()) > 500)
    instruments = get(server, "/api/v1/instruments").json()
    rows = instruments["instruments"] if isinstance(instruments, dict) else instruments
    assert {row["symbol"] for row in rows} == {instrument.symbol for instrument in client.instruments.values()}

    symbol = client.live()[0].symbol
    snapshot = get(server, "/api/v1/snapshot", params={"symbols": symbol})
    assert snapshot.status_code == 200
    assert symbol in snapshot.text
    assert get(server, "/api/v1/snapshot", params={"symbols": "NOBODY"}).status_code in (400, 404)


async def test_metrics_count_what_happened(plant, session):
    server = plant(*LIVE)
    clients = [await session(server.ws) for _ in range(3)]
    for client in clients:
        await client.subscribe(["trades", "quotes"], ["*"])
    for client in clients:
        await client.until(lambda client=client: len(client.live()) > 1000)
    text = get(server, "/metrics").text
    names = set(re.findall(r"^# TYPE (\S+)", text, re.M))
    for word in ("connection", "session", "deliver", "frame", "byte", "drop", "lag", "lane", "flush"):
        assert any(word in name for name in names), f"no metric about {word} in {sorted(names)}"
    for symbol in (instrument.symbol for instrument in clients[0].instruments.values()):
        assert f'"{symbol}"' not in text, "a label that grows with the instruments"
    # The counters are published now and then; each request takes a moment, so this is no busy loop.
    async with asyncio.timeout(30):
        while await asyncio.to_thread(deliveries, server) < 3000:
            pass


async def test_the_page_is_served(plant):
    answer = get(plant(*LIVE), "/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


async def test_an_unknown_path_is_not_found(plant):
    assert get(plant(*LIVE), "/api/v1/nothing").status_code == 404
