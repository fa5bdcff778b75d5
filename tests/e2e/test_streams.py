"""Server-sent events and long polling, with clients of others: httpx-sse, and requests for the polls."""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import httpx
import httpx_sse
import requests

LIVE = ("--sim-symbols", 20, "--sim-rate", 2000)


class Reader:
    """Keeps what a stream has sent: every number once, or a gap."""

    def __init__(self, server, query):
        self.url = f"{server.http}/api/v1/stream?{query}"
        self.last_id = None
        self.elements = {}
        self.last = {}
        self.recovered = []
        self.gaps = 0
        self.messages = []

    async def read(self, enough):
        """Reads until `enough()`, then cuts the connection."""
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        async with (
            httpx.AsyncClient(timeout=30, verify=False) as client,
            httpx_sse.aconnect_sse(client, "GET", self.url, headers=headers) as source,
        ):
            source.response.raise_for_status()
            async for event in source.aiter_sse():
                self.take(json.loads(event.data))
                self.last_id = event.id or self.last_id
                if enough():
                    return

    def take(self, message):
        self.messages.append(message)
        if message.get("type") == "subscribed":
            self.recovered.append(message["recovered"])
        for element in message.get("data", []):
            if element["type"] == "gap":
                self.gaps += 1
                self.last[element["symbol"], element["channel"]] = element["to_seq"]
                continue
            key = (element["symbol"], element["type"] + "s")
            if not message.get("snapshot") and key in self.last:
                assert element["seq"] == self.last[key] + 1, f"{key}: {element['seq']} after {self.last[key]}"
            self.last[key] = element["seq"]
            self.elements[(*key, element["seq"])] = element


async def test_a_reader_that_is_cut_hundreds_of_times_misses_nothing(plant, session):
    server = plant(*LIVE)
    client = await session(server.ws, "json")
    await client.subscribe(["trades", "quotes"], ["*"])
    reader = Reader(server, "symbols=*&channels=trades,quotes")
    dice = random.Random(7)
    for _ in range(200):
        until = len(reader.elements) + dice.randrange(1, 60)
        await reader.read(lambda until=until: len(reader.elements) >= until)
    assert reader.gaps == 0
    how = {word for by in reader.recovered for channels in by.values() for word in channels.values()}
    assert how == {"recovered"}
    # The same elements as over a WebSocket.
    await client.until(lambda: len(client.live()) > len(reader.elements))
    seen = {(element.symbol, element.channel, element.seq) for element in client.live()}
    first, newest = {}, {}
    for symbol, channel, seq in seen:
        first[symbol, channel] = min(seq, first.get((symbol, channel), seq))
        newest[symbol, channel] = max(seq, newest.get((symbol, channel), 0))
    # Neither begins or ends where the other does.
    both = [key for key in reader.elements if first.get(key[:2], key[2] + 1) <= key[2] <= newest[key[:2]]]
    assert len(both) > 1000
    missing = [key for key in both if key not in seen]
    assert not missing, missing[:5]


async def test_a_drain_says_when_to_come_back(plant):
    server = plant(*LIVE, "--drain-ms", 300)
    reader = Reader(server, "symbols=*")
    stopped = []

    def stop_once():
        if reader.elements and not stopped:
            stopped.append(server.terminate())
        return False

    await reader.read(stop_once)
    assert reader.messages[-1]["type"] == "closed"
    assert reader.messages[-1]["code"] == 1012
    assert any(message.get("code") == "draining" for message in reader.messages)
    assert server.wait() == 0


async def test_polls_that_go_on_from_each_other_see_every_number(plant):
    server = plant(*LIVE)
    reader = Reader(server, "")
    keys = {"symbols": "*", "channels": "trades", "poll": 1}

    def poll():
        answer = requests.get(f"{server.http}/api/v1/stream", params=keys, timeout=70)
        assert answer.status_code == 200, answer.text
        return answer.json()

    while len(reader.elements) < 2000:
        answer = await asyncio.to_thread(poll)
        keys["after"] = answer["next"]
        for message in answer["messages"]:
            reader.take(message)
    assert reader.gaps == 0


def test_the_description_holds(plant):
    """What OpenAPI says, held to the server by schemathesis. Streams do not end, so they are left out."""
    server = plant("--sim-scenario", "calm", "--sim-symbols", 3)
    schemathesis = Path(sys.executable).with_name("schemathesis")
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
        "response_schema_conformance,unsupported_method,missing_required_header"
    )
    arguments = ["--exclude-path", "/api/v1/stream", "--phases", "examples,coverage,fuzzing", "--checks", checks]
    arguments += ["--max-examples", "20", "--seed", "7", "--warnings", "off"]
    command = [schemathesis, "run", f"{server.http}/openapi.json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
