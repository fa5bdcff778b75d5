"""Faults that a real process has to survive: after each, what clients see holds, and what was taken is given back.

Each number of a stream is seen once and in order, or a gap says that it is missing; memory and descriptors return to
where they were. What a machine cannot do is printed as `not run: ...`.

Not here: attacks (test_attacks_connections.py), hours of it (scripts/soak).
"""

import asyncio
import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import plant as plants
from client import connect
from line import SlowLine
from plant import numbers
from raw import Raw, frame, upgrade_request

WAIT_S = 60
CLIENTS = 1000
REFUSED = 50
MEMORY_BYTES = 32 << 20
"""What allocators may keep."""


async def until(reached, seconds=WAIT_S):
    """Waits for what only a scrape or the system shows, which cannot be awaited."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(reached):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def lives_on(client, elements=50):
    seen = len(client.live())
    await client.until(lambda: len(client.live()) > seen + elements, WAIT_S)


class Footprint:
    """What a server holds, to compare with later."""

    def __init__(self, server):
        self.server = server
        self.descriptors = server.descriptors()
        self.resident_bytes = server.resident_bytes()

    async def returns(self):
        # One connection may be that of a scrape.
        await until(lambda: self.server.descriptors() <= self.descriptors + 1)
        await until(lambda: self.server.resident_bytes() <= self.resident_bytes + MEMORY_BYTES)


def positions(client):
    """The last number seen of each stream, as `since` has it."""
    seqs = {}
    for element in client.elements:
        seqs.setdefault(element.symbol, {})[element.channel] = element.seq
    return {"epoch": client.messages[0]["epoch"], "seqs": seqs}


# --- the process is killed ---


async def cycle(url, symbol, subscribed, killed, since=None):
    """One life of a client: subscribes, is served until the server is gone; where it was then."""
    while True:
        try:
            async with asyncio.timeout(WAIT_S), connect(url, open_timeout=WAIT_S) as client:
                keys = {"since": since} if since else {}
                answer = await client.subscribe(["quotes"], [symbol], **keys)
                if since:
                    # Another process has another epoch: it begins with the state and says so.
                    assert client.messages[0]["epoch"] != since["epoch"]
                    assert set(answer["recovered"][symbol].values()) == {"snapshot"}
                await client.until(client.live, WAIT_S)
                subscribed.release()
                if killed is None:
                    client.assert_complete()
                    return None
                # Whatever comes until the end of the connection is in order too.
                await client.until_closed(WAIT_S)
                client.assert_complete()
                return positions(client)
        except OSError:
            # Refused while the server is away; that is what is waited for.
            await asyncio.sleep(0.05)


@pytest.mark.timeout(300)
async def test_a_thousand_clients_come_back_after_a_kill(plant):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(CLIENTS, hard - 200)
    market = ("--sim-symbols", 50, "--sim-rate", 100, "--sim-scenario", "uniform")
    first = plant(*market)
    subscribed, symbols = asyncio.Semaphore(0), await all_symbols(first)
    before = Footprint(first)
    try:
        lives = [
            asyncio.create_task(cycle(first.ws, symbols[n % len(symbols)], subscribed, killed=True))
            for n in range(count)
        ]
        for _ in range(count):
            await subscribed.acquire()
        first.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(first.process.wait)
        seen = await asyncio.gather(*lives)
        # They have begun to try again by the time the server is there.
        again = [
            asyncio.create_task(cycle(first.ws, symbols[n % len(symbols)], subscribed, None, since))
            for n, since in enumerate(seen)
        ]
        second = plant(*market, listen=first.address)
        await asyncio.gather(*again)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    before.server = second
    await before.returns()


async def all_symbols(server):
    async with connect(server.ws) as client:
        return [entry["symbol"] for entry in (await client.ask("instruments"))["instruments"]]


# --- the line ---


NAMESPACE = "tickerplant-faults"


def netem():
    """Why packets cannot be lost here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not shutil.which("tc"):
        return "there is no ip or no tc (Debian: iproute2)"
    add = subprocess.run(["ip", "netns", "add", NAMESPACE], capture_output=True, text=True, check=False)
    if add.returncode != 0:
        return f"no network namespace: {add.stderr.strip()}"
    inside = ["ip", "netns", "exec", NAMESPACE]
    lossy = ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "loss", "5%", "delay", "20ms"]
    for command in (["ip", "link", "set", "lo", "up"], lossy):
        done = subprocess.run([*inside, *command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            subprocess.run(["ip", "netns", "del", NAMESPACE], check=False)
            return f"{command[0]}: {done.stderr.strip()}"
    return None


def test_lost_packets_lose_nothing(plant):
    """Server and client in a namespace of their own whose loopback device loses every twentieth packet."""
    if reason := netem():
        print(f"not run: {reason}")
        pytest.skip(f"not run: {reason}")
    inside = ["ip", "netns", "exec", NAMESPACE]
    try:
        server = plant("--sim-symbols", 20, "--sim-rate", 500, prefix=inside)
        before = Footprint(server)
        done = subprocess.run(
            [*inside, sys.executable, __file__, server.ws], capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        asyncio.run(before.returns())
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False)


async def listen_for_a_while(url):
    """What the client in the namespace does."""
    async with connect(url) as client:
        await client.subscribe(["trades", "quotes"], ["*"])
        await client.until(lambda: len(client.live()) > 2000, WAIT_S)
        client.assert_accounted()


LINE_BYTES_PER_S = 12_500
"""100 kbit/s"""
PING_MS, PINGS = 4000, 5
UNSENT_BYTES, OUTBOX_BYTES = 16 << 10, 32 << 10
ON_THE_WAY_BYTES_MAX = 100 << 10
"""What may be older than a price and come before it: what the server's kernel has not sent and a segment, its outbox
and the frame that has begun, and the relay's buffer. With `--unsent-bytes-max 0` it is 200 kB and more."""


async def listen_behind_a_slow_line(server, witness, **keys):
    """For the time of several pings, prices are seen that are hardly older than those that the witness has."""
    target = server.host_and_port
    async with (
        SlowLine((target[0], int(target[1])), LINE_BYTES_PER_S) as line,
        connect(line.ws, open_timeout=WAIT_S, ping_interval=None) as client,
    ):
        await client.subscribe(["trades", "quotes"], ["*"], **keys)
        await client.until(client.live, WAIT_S)
        began = client.frames[-1][0]
        while client.frames[-1][0] - began < PINGS * PING_MS * 10**6:
            published = {element.key: element.seq for element in witness.elements}
            passed, seen = line.passed_bytes, len(client.elements)

            def is_as_new(element, published=published):
                return element.type != "gap" and element.seq >= published.get(element.key, 0)

            await client.until(lambda seen=seen, new=is_as_new: any(map(new, client.elements[seen:])), WAIT_S)
            assert line.passed_bytes - passed < ON_THE_WAY_BYTES_MAX
        assert await client.lives()
    assert any(message.get("code") == "slow" for message in client.messages)
    return client


async def test_a_client_behind_a_slow_line_stays_and_sees_new_prices(plant, session):
    market = ("--sim-scenario", "uniform", "--sim-symbols", 100, "--sim-rate", 2000)
    bounds = ("--unsent-bytes-max", UNSENT_BYTES, "--outbox-bytes-max", OUTBOX_BYTES, "--ping-interval-ms", PING_MS)
    server = plant(*market, *bounds)
    witness = await session(server.ws)
    await witness.subscribe(["trades", "quotes"], ["*"])
    await lives_on(witness)
    before = Footprint(server)
    reading = asyncio.create_task(witness.until(lambda: False, 5 * WAIT_S))
    every, latest = await asyncio.gather(
        listen_behind_a_slow_line(server, witness),
        listen_behind_a_slow_line(server, witness, mode="latest", interval_ms=100),
    )
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    every.assert_accounted()
    assert any(element.type == "gap" for element in every.elements)
    last = {}
    for element in latest.elements:
        assert element.type != "gap", element
        assert element.seq > last.get(element.key, 0) or element.snapshot, element
        last[element.key] = element.seq
    # The other one has noticed nothing.
    await lives_on(witness)
    witness.assert_complete()
    await until(lambda: server.metrics()["tickerplant_outbox_bytes"] == 0)
    await before.returns()


# --- what the system gives ---


async def test_at_its_memory_limit_it_serves_those_inside_and_refuses_others(plant, session, tmp_path):
    config = tmp_path / "tickerplant.toml"
    config.write_text("overload_memory_bytes_max = 0\n")
    # Outboxes without a bound of their own, so that memory grows for as long as nobody reads.
    patient = ("--outbox-bytes-max", 0, "--stall-timeout-ms", 0, "--ping-interval-ms", 0)
    server = plant("--sim-symbols", 20, "--sim-rate", 2000, *patient, "--config", config)
    symbols = await all_symbols(server)
    witness = await session(server.ws)
    await witness.subscribe(["trades", "quotes"], ["*"])
    await lives_on(witness, 500)
    before = Footprint(server)
    limit = before.resident_bytes + 2 * MEMORY_BYTES
    config.write_text(f"overload_memory_bytes_max = {limit}\n")
    server.process.send_signal(signal.SIGHUP)
    await until(lambda: server.metrics()["tickerplant_config_reloads_total"] > 0)
    # What is asked of the system beyond ends the process: it must have stopped to let clients in long before.
    size = Path(f"/proc/{server.process.pid}/statm").read_text().split()[0]
    address_space = int(size) * resource.getpagesize() + (1 << 30)
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, (address_space, address_space))
    with contextlib.ExitStack() as stack:
        # Each wants something else, or they would share what waits for them.
        for left_out in symbols:
            others = [symbol for symbol in symbols if symbol != left_out]
            command = {"op": "subscribe", "channels": ["trades", "quotes"], "symbols": others}
            raw = stack.enter_context(Raw(server, receive_buffer_bytes=4096))
            raw.send(upgrade_request("/ws?format=json"))
            raw.head()
            raw.send(frame(0x81, json.dumps(command).encode()))
        await until(lambda: server.metrics()["tickerplant_overloaded"] == 1, 2 * WAIT_S)
        refused = 'tickerplant_upgrades_refused_total{reason="overload_memory"}'
        for _ in range(REFUSED):
            with Raw(server) as raw:
                raw.send(upgrade_request())
                status, head = raw.head()
                assert status == 503, head
                assert "retry-after: " in head, head
        await until(lambda: server.metrics()[refused] >= REFUSED)
        await lives_on(witness, 500)
        witness.assert_complete()
        assert server.process.poll() is None
    # They have gone: memory is back, and with it the room for others.
    await until(lambda: server.metrics()["tickerplant_overloaded"] == 0)
    late = await session(server.ws)
    await late.subscribe(["trades", "quotes"], ["*"])
    await lives_on(late)
    await late.socket.close()
    await before.returns()
    witness.assert_complete()


async def test_running_out_of_descriptors_harms_nobody_inside(plant, session):
    server = plant("--sim-symbols", 20, "--sim-rate", 1000)
    witness = await session(server.ws)
    await witness.subscribe(["trades", "quotes"], ["*"])
    before = Footprint(server)
    errors = "tickerplant_accept_errors_total"
    # The connection of the scrape stays open, as there will be no other.
    with Raw(server) as scrape, contextlib.ExitStack() as stack:

        def counted():
            return numbers(scrape.get("/metrics"))[errors]

        assert counted() == 0
        limit = server.descriptors() + 20
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        # The kernel takes them in; the server cannot.
        crowd = [stack.enter_context(Raw(server)) for _ in range(60)]
        for raw in crowd:
            raw.send(upgrade_request())
        await until(lambda: counted() > 0)
        await lives_on(witness, 500)
        witness.assert_complete()
    # They have gone: there is room again, without a restart.
    late = await session(server.ws, open_timeout=WAIT_S)
    await late.subscribe(["trades", "quotes"], ["*"])
    await lives_on(late)
    late.assert_complete()
    await before.returns()


async def test_a_full_disk_costs_the_recording_and_nobody_else(plant, session, tmp_path):
    folder = tmp_path / "recording"
    server = plant("--sim-symbols", 20, "--sim-rate", 2000, "--record", folder, "--record-block-ms", 50)
    witness = await session(server.ws)
    await witness.subscribe(["trades", "quotes"], ["*"])
    before = Footprint(server)
    await lives_on(witness)
    # No file may grow beyond this: writes fail as on a disk that is full. (Python's children do not ignore the signal
    # that comes with it, the server does.)
    size = 64 << 10
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    await until(lambda: server.metrics()["tickerplant_record_failures_total"] > 0)
    await lives_on(witness, 1000)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await until(lambda: server.metrics()["tickerplant_record_lost_total"] > 0)
    await lives_on(witness, 500)
    witness.assert_complete()
    await before.returns()
    server.terminate()
    assert server.wait() == 0
    # The recording says what it has not got.
    inspected = plants.run_to_end("inspect", folder)
    assert inspected.returncode == 0, inspected
    assert re.search(r"^loss +\d+ elements .*could not be written", inspected.stdout, re.M), inspected.stdout


# --- time, and the feed ---

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


async def test_a_clock_that_is_set_back_changes_nothing_but_times(plant, session, tmp_path):
    library = next((path for pattern in LIBRARIES for path in Path("/").glob(pattern[1:])), None)
    if library is None:
        print("not run: libfaketime is not installed (Debian: libfaketime)")
        pytest.skip("not run: libfaketime is not installed")
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    fake = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        # Only the wall clock is set back; time does not run backwards.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    server = plant("--sim-symbols", 20, "--sim-rate", 1000, "--heartbeat-ms", 100, env=fake)
    client = await session(server.ws)
    await client.subscribe(["trades", "quotes"], ["*"])
    await lives_on(client)
    before = Footprint(server)
    offset.write_text("-3600\n")
    # The library does what it should: who starts now is an hour behind.
    other = await session(plant("--sim-rate", 1, env=fake).ws)
    assert other.messages[0]["time"] < client.frames[-1][0] - 3000 * 10**9
    await lives_on(client, 500)
    beats = len([message for message in client.messages if message["type"] == "heartbeat"])
    await client.until(lambda: len([m for m in client.messages if m["type"] == "heartbeat"]) > beats + 3, WAIT_S)
    client.assert_complete()
    # Times come from where the clock stood at the start, and from one that is never set.
    sent = [sent_at for sent_at, _ in client.frames]
    assert sent == sorted(sent)
    late = await session(server.ws)
    await late.subscribe(["trades", "quotes"], ["*"])
    await lives_on(late)
    await late.socket.close()
    await before.returns()


async def test_a_feed_that_stops_and_one_that_floods(plant, session, tmp_path):
    """A recording that is paused, goes on, and then comes at ten times its pace."""
    path = tmp_path / "market.tprec"
    maker = plant("--sim-symbols", 20, "--sim-rate", 20_000, "--record", path, "--record-block-ms", 50)
    await until(lambda: maker.metrics()["tickerplant_recorded_elements_total"] > 30_000)
    maker.terminate()
    assert maker.wait() == 0
    server = plant(
        *("--feed", f"recording:{path}", "--replay-loop", "--replay-speed", 0.1, "--admin-listen", "127.0.0.1:0"),
        *("--heartbeat-ms", 100),
    )
    admin = re.search(r"http://[0-9.]+:\d+", server.line("admin"))[0]

    def command(what):
        request = urllib.request.Request(f"{admin}/admin/replay/{what}", method="POST")
        with urllib.request.urlopen(request, timeout=WAIT_S) as response:
            assert response.status == 200

    client = await session(server.ws)
    await client.subscribe(["trades", "quotes"], ["*"])
    await lives_on(client, 200)
    before = Footprint(server)
    await asyncio.to_thread(command, "pause")
    # What had been on its way has come when a ping is answered; from then on there is nothing but heartbeats.
    assert await client.lives()
    seen, beats = len(client.elements), len(client.messages)
    await client.until(lambda: len(client.messages) > beats + 5, WAIT_S)
    assert len(client.elements) - seen < 50
    await asyncio.to_thread(command, "resume")
    await lives_on(client, 200)
    await asyncio.to_thread(command, "speed?x=1")
    await lives_on(client, 20_000)
    client.assert_accounted()
    await before.returns()


if __name__ == "__main__":
    asyncio.run(listen_for_a_while(sys.argv[1]))
