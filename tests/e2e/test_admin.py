"""What operators see of sessions and do to them, on the listener of their own."""

import asyncio
import json
import urllib.error
import urllib.request

import pytest
import websockets

from plant import run_to_end

KEY = "0123456789abcdef0123456789abcdef"
TOKEN = "tp_00000000_secretsecretsecretsecretsecretsecretsecr"


class Admin:
    def __init__(self, server, key=None):
        self.base = server.line("admin").split()[1].removesuffix("/admin")
        self.key = key

    async def __call__(self, method, path, **headers):
        return await asyncio.to_thread(self.request, method, path, headers)

    def request(self, method, path, headers):
        if self.key:
            headers = {"Authorization": f"Bearer {self.key}", **headers}
        request = urllib.request.Request(self.base + path, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    async def all(self, query=""):
        status, page = await self("GET", f"/admin/sessions{query}")
        assert status == 200, page
        return page["sessions"]


def name(client):
    return client.messages[0]["session"]


async def eventually(condition):
    """Asks again until it holds; the test's time limit ends what never does."""
    while True:
        if found := await condition():
            return found


async def test_sessions_are_listed_in_pages(plant, session):
    server = plant("--admin-listen", "127.0.0.1:0", "--shards", 2, "--sim-symbols", 10)
    admin = Admin(server)
    assert await admin.all() == []
    clients = [await session(server.ws, encoding) for encoding in ("json", "msgpack") * 3]
    await clients[0].subscribe(["trades", "quotes"], ["*"])
    await clients[0].until(lambda: len(clients[0].live()) > 10)
    listed = {entry["id"]: entry for entry in await admin.all()}
    assert set(listed) == {name(client) for client in clients}
    entry = listed[name(clients[0])]
    assert (entry["address"], entry["key"], entry["dialect"]) == ("127.0.0.1", None, "ticker.v1.json")
    assert (entry["transport"], entry["deflate"], entry["state"]) == ("websocket", "off", "open")
    assert entry["subscriptions"] == 2
    assert entry["delivered"] >= 10
    assert entry["sent_bytes"] > 0
    assert (entry["outbox_bytes"], entry["lag_ms"], entry["gaps"], entry["dropped"]) == (0, 0, 0, 0)

    paged, place = [], "0-0"
    while place:
        _, page = await admin("GET", f"/admin/sessions?limit=2&from={place}")
        assert len(page["sessions"]) <= 2
        paged += [entry["id"] for entry in page["sessions"]]
        place = page["next"]
    assert sorted(paged) == sorted(listed)

    status, one = await admin("GET", f"/admin/sessions/{name(clients[0])}")
    assert status == 200
    subscribed = [(each["channel"], each["symbols"], each["mode"]) for each in one["subscribed"]]
    assert subscribed == [("trades", ["*"], "every"), ("quotes", ["*"], "every")]


async def test_a_client_that_does_not_read_is_found(plant, session):
    server = plant("--admin-listen", "127.0.0.1:0", "--sim-rate", 20000, "--outbox-bytes-max", 20000)
    admin = Admin(server)
    reader = await session(server.ws)
    async with websockets.connect(server.ws, max_queue=1, compression=None, proxy=None) as idle:
        await idle.send(json.dumps({"op": "subscribe", "channels": ["trades", "quotes"], "symbols": ["*"]}))

        async def behind():
            return await admin.all("?behind=1")

        (entry,) = await eventually(behind)
        assert entry["id"] != name(reader)
        assert entry["outbox_bytes"] > 0

        async def stalled():
            return any(each["state"] == "stalled" for each in await admin.all())

        await eventually(stalled)
        assert (await admin("POST", f"/admin/sessions/{entry['id']}/close"))[0] == 200


async def test_one_session_is_closed_and_the_others_are_not(plant, session):
    server = plant("--admin-listen", "127.0.0.1:0")
    admin = Admin(server)
    unlucky, other = await session(server.ws), await session(server.ws, "json")
    status, closed = await admin("POST", f"/admin/sessions/{name(unlucky)}/close")
    assert (status, closed["id"]) == (200, name(unlucky))
    assert await unlucky.until_closed() == (1008, "closed by an operator")
    assert await other.lives()

    async def gone():
        return (await admin("GET", f"/admin/sessions/{name(unlucky)}"))[0] == 404

    await eventually(gone)
    assert (await admin("POST", f"/admin/sessions/{name(unlucky)}/close"))[0] == 404
    assert "closed by an operator" in server.stderr()
    metrics = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{server.http}/metrics").read().decode())
    assert 'tickerplant_disconnects_total{reason="closed_by_operator"} 1' in metrics


async def test_what_one_session_does_is_logged_for_a_while(plant, session):
    server = plant("--admin-listen", "127.0.0.1:0", "--log-format", "json")
    admin = Admin(server)
    client, other = await session(server.ws), await session(server.ws)
    status, entry = await admin("POST", f"/admin/sessions/{name(client)}/debug?seconds=600")
    assert status == 200
    assert 590 <= entry["debugged_s"] <= 600
    await client.subscribe(["trades"], ["*"])
    await other.subscribe(["quotes"], ["*"])
    await client.send("auth", token=TOKEN)
    await client.send("oops")
    assert await client.lives()

    def lines():
        parsed = [json.loads(line) for line in server.stderr().splitlines()]
        return [line["fields"] for line in parsed if line["target"] == "session"]

    async def reported():
        return any(line["message"] == "the session" and line["delivered"] > 0 for line in lines())

    await eventually(reported)
    assert {line["session"] for line in lines()} == {name(client)}
    said = " ".join(str(line.get("command")) for line in lines())
    assert "Subscribe" in said
    assert "Auth" in said
    assert TOKEN not in server.stderr()
    assert any(line.get("code") == "unknown_op" for line in lines())
    assert (await admin("POST", f"/admin/sessions/{name(client)}/debug?seconds=0"))[1]["debugged_s"] is None


async def test_mistakes_are_named(plant):
    admin = Admin(plant("--admin-listen", "127.0.0.1:0"))
    for method, path, status, word in [
        ("GET", "/admin/sessions?limit=0", 400, "limit"),
        ("GET", "/admin/sessions?limit=1001", 400, "limit"),
        ("GET", "/admin/sessions?from=7", 400, "from"),
        ("GET", "/admin/sessions?behind=2", 400, "behind"),
        ("GET", "/admin/sessions/hello", 400, "three numbers"),
        ("GET", "/admin/sessions/0-7-0", 404, "no session"),
        ("GET", "/admin/sessions/99-0-0", 404, "no session"),
        ("POST", "/admin/sessions/0-7-0/debug?seconds=3601", 400, "seconds"),
        ("GET", "/admin/sessions/0-7-0/close", 405, "POST"),
        ("GET", "/admin/nothing", 404, "no such command"),
    ]:
        got, answer = await admin(method, path)
        assert (got, word in answer["message"]) == (status, True), (path, got, answer)


async def test_the_key_opens_the_door_and_nothing_else_does(plant, tmp_path):
    file = tmp_path / "admin.key"
    file.write_text(KEY + "\n")
    server = plant("--admin-listen", "0.0.0.0:0", "--admin-key-file", file, "--log", "trace")
    admin = Admin(server, KEY)
    assert (await admin("GET", "/admin/sessions"))[0] == 200
    for headers in ({"Authorization": "Bearer " + KEY[::-1]}, {"Authorization": KEY}, {"Authorization": ""}):
        assert (await admin("GET", "/admin/sessions", **headers))[0] == 401
    assert (await Admin(server)("GET", "/admin/sessions"))[0] == 401
    another = KEY[::-1]
    file.write_text(another)

    async def changed():
        return (await Admin(server, another)("GET", "/admin/sessions"))[0] == 200

    await eventually(changed)
    assert (await admin("GET", "/admin/sessions"))[0] == 401
    file.write_text("short")

    async def noticed():
        return "stays in force" in server.stderr()

    await eventually(noticed)
    assert await changed()
    assert KEY not in server.stderr()
    assert another not in server.stderr()


async def test_without_a_key_no_web_page_commands(plant):
    admin = Admin(plant("--admin-listen", "127.0.0.1:0"))
    assert (await admin("GET", "/admin/sessions", Origin="https://evil.example"))[0] == 403
    assert (await admin("POST", "/admin/sessions/0-0-0/close", Origin="null"))[0] == 403
    assert (await admin("GET", "/admin/sessions", Host="evil.example"))[0] == 403


@pytest.mark.parametrize(
    ("key", "word"), [(None, "admin_key_file"), ("short", "32 characters"), ("a b" * 20, "32 characters")]
)
def test_an_address_for_all_needs_a_good_key(tmp_path, key, word):
    arguments = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "0.0.0.0:0"]
    if key:
        (tmp_path / "key").write_text(key)
        arguments += ["--admin-key-file", tmp_path / "key"]
    done = run_to_end(*arguments)
    assert done.returncode == 2
    assert word in done.stderr
    assert not key or key not in done.stderr
