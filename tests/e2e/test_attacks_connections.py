"""Attacks by holding connections and taking places: slowly, by not reading, by opening them without end.

How it is shown that each guard is needed: attacks.py.
"""

import asyncio
import contextlib
import re
import resource
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from attacks import ATTACKER, GET, HOLD_S, MARKET, NEIGHBOUR, SUBSCRIBE, pack, until
from certificates import Authority
from plant import numbers
from raw import PATIENCE_S, Raw, frame, header, upgrade_request
from test_admin import Admin

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
    metrics = guarded.metrics()
    assert metrics['tickerplant_connections_cut_total{reason="handshake_timeout"}'] == 4
    assert metrics['tickerplant_connections_cut_total{reason="pause_timeout"}'] == 1
    assert metrics['tickerplant_disconnects_total{reason="ping_timeout"}'] == 6


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
                ended = server.metrics()
                assert ended['tickerplant_disconnects_total{reason="slow_consumer"}'] >= 1
                # The kernel ends what hyper waits for: the answers, and perhaps the event stream.
                assert ended['tickerplant_connections_cut_total{reason="stalled"}'] >= 1


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


# --- taking places ---


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


# --- more than there is room for ---


async def test_under_overload_nobody_new_comes_in_and_those_inside_are_served(plant, session, tmp_path):
    configuration = tmp_path / "tickerplant.toml"
    configuration.write_text("")
    server = plant(*MARKET, "--sim-rate", 1000, "--config", configuration)
    # Without the setting a process of that size takes in whoever comes.
    witness = await session(server.ws)
    await witness.subscribe(["trades", "quotes"], ["*"])
    configuration.write_text("overload_memory_bytes_max = 1\n")
    server.process.send_signal(signal.SIGHUP)
    await until(lambda: server.metrics()["tickerplant_overloaded"])
    for target in (upgrade_request(), GET % (b"/api/v1/stream?symbols=*", b"")):
        with Raw(server) as raw:
            raw.send(target)
            status, head = await asyncio.to_thread(raw.head)
            assert status == 503
            assert "retry-after: 5" in head
            assert "overload_memory_bytes_max" in raw.take(int(re.search(r"content-length: (\d+)", head)[1])).decode()
    assert server.metrics()['tickerplant_upgrades_refused_total{reason="overload_memory"}'] == 2
    seen = len(witness.live())
    await witness.until(lambda: len(witness.live()) > seen + 1000)
    witness.assert_complete()
    configuration.write_text("")
    server.process.send_signal(signal.SIGHUP)
    await until(lambda: not server.metrics()["tickerplant_overloaded"])
    assert await (await session(server.ws)).lives()


async def test_a_server_that_is_behind_takes_in_nobody_new(plant, session):
    limit_ms = 500
    for flags, behind in ((("--overload-lag-ms-max", limit_ms), True), ((), False)):
        server = plant(*MARKET, "--sim-rate", 1000, *flags)
        witness = await session(server.ws)
        await witness.subscribe(["trades", "quotes"], ["*"])
        for _ in range(20):
            # It is as late as it was kept from running, and refuses for a second more.
            server.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(2 * limit_ms / 1000)
            server.process.send_signal(signal.SIGCONT)
            metrics = await asyncio.to_thread(server.metrics)
            with Raw(server) as raw:
                raw.send(upgrade_request())
                status, head = await asyncio.to_thread(raw.head)
                assert status in (101, 503), head
                if status == 503:
                    assert "retry-after: 5" in head
                    assert b"overload_lag_ms_max" in raw.take(int(re.search(r"content-length: (\d+)", head)[1]))
                if behind == (status == 503):
                    break
        else:
            raise AssertionError(f"refused: {status == 503}, {metrics}")
        seen = len(witness.live())
        await witness.until(lambda witness=witness, seen=seen: len(witness.live()) > seen + 500)
        witness.assert_complete()


# --- connections that never become sessions ---

NEVER_A_SESSION = {
    "says nothing": (b"", False),
    "half a request line": (b"GET /ws", False),
    "half a hand-shake of TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", True),
}


@pytest.mark.parametrize("name", NEVER_A_SESSION)
async def test_connections_that_never_become_sessions_take_no_descriptors(plant, tmp_path, name):
    first, tls = NEVER_A_SESSION[name]
    authority = Authority(tmp_path) if tls else None
    flags = authority.issue().flags if tls else ()
    refused = 'tickerplant_connections_refused_total{reason="http_connections_per_ip"}'

    def client(server, source=None):
        raw = Raw(server, source)
        return raw.secured(authority.context()) if tls else raw

    for limit in (8, 0):
        server = plant(*MARKET, "--handshake-timeout-ms", 0, "--http-connections-per-ip", limit, *flags)
        with contextlib.ExitStack() as stack:
            # Opened before, as without the guard there is no other.
            scrape = stack.enter_context(await asyncio.to_thread(client, server))

            def counted(metric, scrape=scrape):
                return numbers(scrape.get("/metrics"))[metric]

            assert counted("tickerplant_connections") == 1
            room = server.descriptors() + 20
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (room, room))
            crowd = [stack.enter_context(Raw(server, ATTACKER)) for _ in range(60)]
            for raw in crowd:
                raw.send(first)
            if limit == 0:
                await until(lambda: counted("tickerplant_accept_errors_total") > 0)
                assert server.descriptors() == room
                continue
            await until(lambda: counted(refused) == 60 - 8)
            assert counted("tickerplant_connections") == 1 + 8
            neighbour = stack.enter_context(await asyncio.to_thread(client, server, NEIGHBOUR))
            assert neighbour.get("/healthz")
            assert counted("tickerplant_accept_errors_total") == 0
            # Who goes makes room.
            for raw in crowd:
                raw.socket.close()
            await until(lambda: counted("tickerplant_connections") == 2)
            with await asyncio.to_thread(client, server, ATTACKER) as again:
                assert again.get("/healthz")
            # However many they are, the log has no line for each.
            assert 1 <= server.stderr().count("http_connections_per_ip is 8") <= 10


async def test_who_is_turned_away_is_told_the_limit(plant):
    server = plant(*MARKET, "--http-connections-max", 2, "--admin-listen", "127.0.0.1:0")
    with Raw(server) as one, Raw(server, NEIGHBOUR) as other, Raw(server, ATTACKER) as third:
        status, head = await asyncio.to_thread(third.head)
        assert status == 503
        assert "retry-after: " in head
        assert "http_connections_max is 2" in third.rest().decode()
        # Operators have a listener of their own, with room.
        assert await Admin(server).all() == []
        # A session takes another kind of place, and gives this one back.
        one.upgrade()
        with Raw(server) as late:
            scraped = numbers(late.get("/metrics"))
        assert scraped['tickerplant_connections_refused_total{reason="http_connections_max"}'] == 1
        assert other.get("/healthz")


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
        refused = server.metrics()['tickerplant_auth_refused_total{reason="auth_failures_per_ip_per_min"}']
        assert refused == expected.count(429)
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
