"""A server that is looked after: reloaded, drained, watched through its metrics and its logs."""

import asyncio
import json
import re
import signal
import urllib.error
import urllib.request

import pytest
import websockets

from plant import ROOT, run_to_end

OPERATIONS = (ROOT / "docs/operations.md").read_text()


def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metric(server, name):
    (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", get(f"{server.http}/metrics")[1], re.M)
    return float(value)


async def until(condition):
    """Asks again until it holds; the test's time limit ends what never does."""
    while not await asyncio.to_thread(condition):
        pass


async def test_a_reload_changes_what_can_change_and_names_the_rest(plant, session, tmp_path):
    file = tmp_path / "tickerplant.toml"
    file.write_text("connections_max = 2\nsim_seed = 1\n")
    server = plant("--config", file, "--subscriptions-max", 100)
    first = await session(server.ws)
    second = await session(server.ws, "json")
    assert first.messages[0]["limits"]["commands_per_s"] == 10

    file.write_text('connections_max = 1\ncommands_per_s = 7\nsim_seed = 2\nsubscriptions_max = 5\nlog = "debug"\n')
    server.process.send_signal(signal.SIGHUP)
    await until(lambda: metric(server, "tickerplant_config_reloads_total") == 1)
    await until(lambda: "was read again" in server.stderr())
    log = server.stderr()
    assert re.search(r'changed="?commands_per_s, connections_max, log', log), log
    assert re.search(r"takes effect at the next start.*sim_seed", log), log
    assert "subscriptions_max" not in log, "the command line has said so"
    assert await first.lives(), "who is inside stays"
    assert await second.lives()
    await second.socket.close()
    # One is still inside, and one is allowed.
    await until(lambda: metric(server, "tickerplant_sessions") == 1)
    with pytest.raises(websockets.InvalidStatus) as refused:
        await session(server.ws)
    assert refused.value.response.status_code == 503
    assert b"connections_max is 1" in refused.value.response.body
    await first.socket.close()
    await until(lambda: metric(server, "tickerplant_sessions") == 0)
    third = await session(server.ws)
    assert third.messages[0]["limits"]["commands_per_s"] == 7
    await until(lambda: "a session has opened" in server.stderr())


async def test_a_bad_file_leaves_the_old_in_force(plant, session, tmp_path):
    file = tmp_path / "tickerplant.toml"
    file.write_text("commands_per_s = 9\n")
    server = plant("--config", file)
    for bad, word in [("comands_per_s = 1\n", "commands_per_s"), ("[", "line 1"), ('commands_per_s = "x"\n', "line 1")]:
        before = metric(server, "tickerplant_config_reload_errors_total")
        file.write_text(bad)
        server.process.send_signal(signal.SIGHUP)
        await until(lambda before=before: metric(server, "tickerplant_config_reload_errors_total") == before + 1)
        assert "stays in force" in server.stderr()
        assert word in server.stderr().splitlines()[-1]
    client = await session(server.ws)
    assert client.messages[0]["limits"]["commands_per_s"] == 9
    assert metric(server, "tickerplant_config_reloads_total") == 0


async def test_a_drain_does_all_that_it_should(plant, session, tmp_path):
    recording = tmp_path / "day.tprec"
    server = plant("--sim-symbols", 5, "--sim-rate", 500, "--drain-ms", 4000, "--record", recording)
    clients = [await session(server.ws, "json") for _ in range(12)]
    for client in clients:
        await client.subscribe(["trades", "quotes"], ["*"])
        await client.until(lambda client=client: len(client.live()) > 20)
    assert get(f"{server.http}/readyz") == (200, "ready\n")
    server.terminate()
    notices = [await client.notice("draining") for client in clients]
    assert get(f"{server.http}/readyz") == (503, "draining\n")
    with pytest.raises(websockets.InvalidStatus) as refused:
        await session(server.ws)
    assert refused.value.response.status_code == 503
    assert int(refused.value.response.headers["Retry-After"]) > 0
    waits = [notice["reconnect_after_ms"] for notice in notices]
    assert all(0 <= wait < 4000 for wait in waits)
    assert len(set(waits)) > 1, "they do not all come back at once"
    ends = []

    async def end(client):
        code = (await client.until_closed())[0]
        ends.append((code, client.frames[-1][0]))

    await asyncio.gather(*map(end, clients))
    assert {code for code, _ in ends} == {1012}
    assert len({sent_at for _, sent_at in ends}) > 1, "some were served for longer than others"
    for client in clients:
        client.assert_complete()
    assert await asyncio.to_thread(server.wait) == 0
    inspected = await asyncio.to_thread(run_to_end, "inspect", recording)
    assert inspected.returncode == 0, inspected.stderr
    played = await asyncio.to_thread(run_to_end, "export", "--format", "csv", recording, "--out", tmp_path / "day.csv")
    assert played.returncode == 0, played.stderr
    recorded = (tmp_path / "day.csv").read_text().count("\n") - 1
    last = max(element.seq for client in clients for element in client.live("trades"))
    assert recorded >= last


def test_metrics_are_what_the_table_says(plant):
    table = dict(re.findall(r"^\| `(tickerplant_\w+)` \| (counter|gauge|histogram) \|", OPERATIONS, re.M))
    reasons = {
        name: set(re.findall(r"`(\w+)`", values))
        for name, values in re.findall(r"^\| `(tickerplant_\w+)` \| (`.*`) \|$", OPERATIONS, re.M)
    }
    text = get(f"{plant().http}/metrics")[1]
    said = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    assert said == table
    labelled = {}
    for name, reason in re.findall(r'^(\w+)\{reason="(\w+)"\} ', text, re.M):
        labelled.setdefault(name, set()).add(reason)
    assert labelled == reasons


async def test_no_secret_is_in_the_log_of_the_most_talkative_level(plant, session, tmp_path):
    keys, admin = tmp_path / "keys.toml", tmp_path / "admin.key"
    made = run_to_end("keys", "new", "--file", keys, "--name", "desk")
    key = made.stdout.strip()
    admin.write_text("admin0secret1admin0secret1admin0secret1")
    secrets = [
        key,
        key.split("_")[-1],
        admin.read_text(),
        "wrong" * 9,
        "in-url-" + "x" * 40,
        "eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
    ]
    server = plant(
        *("--api-keys-file", keys, "--auth", "required", "--log", "trace", "--log-format", "json"),
        *("--admin-listen", "127.0.0.1:0", "--admin-key-file", admin),
    )
    client = await session(server.ws, "json")
    name = client.messages[0]["session"]
    base = server.line("admin").split()[1]
    debug = urllib.request.Request(f"{base}/sessions/{name}/debug", method="POST")
    debug.add_header("Authorization", f"Bearer {secrets[2]}")
    assert json.load(await asyncio.to_thread(urllib.request.urlopen, debug))["id"] == name
    for wrong in (secrets[3], secrets[5]):
        await client.send("auth", token=wrong)
    await client.send("auth", token=key)
    await client.message(lambda message: message["type"] == "authenticated")
    await client.send_raw({"op": key})
    await client.send_raw({"op": "auth", "token": [key]})
    assert await client.lives()
    for header in (f"Bearer {key}", f"Bearer {secrets[3]}", key, f"Basic {key}"):
        get(f"{server.http}/api/v1/instruments", Authorization=header)
        get(f"{base}/sessions", Authorization=header)
    get(f"{server.http}/api/v1/instruments?token={secrets[4]}")
    get(f"{server.http}/ws?api_key={key}")
    server.terminate()
    await client.until_closed()
    assert await asyncio.to_thread(server.wait) == 0
    log = server.stderr()
    lines = [json.loads(line) for line in log.splitlines()]
    assert any(line["level"] == "DEBUG" for line in lines), "this was to be a talkative level"
    assert any(line["fields"].get("session") == name for line in lines)
    for secret in secrets:
        assert secret not in log, next(line for line in log.splitlines() if secret in line)


async def test_a_flood_of_the_same_warning_does_not_flood_the_log(plant):
    server = plant("--admin-listen", "127.0.0.1:0")
    base = server.line("admin").split()[1]
    many = 400

    def flood():
        for _ in range(many):
            assert get(f"{base}/sessions", Origin="https://evil.example")[0] == 403

    await asyncio.to_thread(flood)
    await until(lambda: "lines like others were left out" in server.stderr())

    def accounted():
        log = server.stderr()
        left_out = sum(int(count) for count in re.findall(r"lines like others.*?lines=(\d+)", log))
        written = log.count("an operator's command was refused")
        return left_out + written == many and left_out > 0

    await until(accounted)
