"""Who may have what, on the real server: API keys that `tickerplant keys` makes, and JWTs that another library signs.

Each test hands every key and token that it uses to the fixture `guarded`, which looks for them in the log and in the
metrics of its servers afterwards. Not here: attacks on any of it (test_attacks_connections.py), the bytes of tokens
(crates/auth/tests).
"""

import base64
import contextlib
import json
import re
import signal
import stat
import time

import httpx
import jwt
import pytest
import websockets
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attacks import get, until
from client import connect
from plant import run_to_end

MARKET = ("--sim-symbols", 20, "--sim-rate", 500)
SECRET = "a secret of the issuer, of more than 32 bytes"
HOUR_S = 3600


def kernel(secret):
    """The part of a key or token that only its holder knows: behind the id, the signature."""
    return secret.rsplit("_" if secret.startswith("tp_") else ".", 1)[-1]


@pytest.fixture
def guarded(plant):
    """Starts servers that log everything, and looks for secrets in what they have said."""
    servers, secrets = [], {SECRET}

    def start(*arguments, **keys):
        server = plant(*MARKET, "--log", "trace", *arguments, **keys)
        servers.append(server)
        return server

    start.secrets = secrets
    yield start
    assert len(secrets) > 1, "no secret was used"
    for server in servers:
        said = {"log": server.stderr(), "metrics": str(server.metrics()), "output": "\n".join(server.lines)}
        for place, text in said.items():
            leaked = [secret for secret in secrets if kernel(secret) in text]
            assert not leaked, f"{leaked} in the {place} of the server"


class Keys:
    """The file of keys, by the program that writes it."""

    def __init__(self, path, secrets):
        self.path = path
        self.secrets = secrets

    def run(self, command, *arguments):
        done = run_to_end("keys", command, "--file", self.path, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def new(self, name, *arguments):
        key = self.run("new", "--name", name, *arguments).rstrip("\n")
        assert re.fullmatch(r"tp_[0-9a-f]{8}_[0-9a-f]{40}", key)
        self.secrets.add(key)
        return key

    @property
    def flags(self):
        return "--api-keys-file", self.path


@pytest.fixture
def keys(guarded, tmp_path):
    return Keys(tmp_path / "keys.toml", guarded.secrets)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def presenting(token):
    return {"additional_headers": bearer(token)}


async def refusal(server, token):
    """What the upgrade is answered for a token that is not good: status, and the error."""
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with connect(server.ws, **presenting(token)):
            pass
    response = refused.value.response
    return response.status_code, json.loads(response.body)


async def is_taken(server, token):
    """Whether a token opens a session."""
    with contextlib.suppress(websockets.InvalidStatus):
        async with connect(server.ws, **presenting(token)) as client:
            return await client.lives()
    return False


async def becomes(wanted, question, *arguments):
    """Asks again until the answer is that; the test's time limit ends what never comes."""
    while await question(*arguments) is not wanted:
        pass


async def served(client):
    seen = len(client.live())
    await client.until(lambda: len(client.live()) > seen + 20)


# --- keys ---


async def test_a_key_is_made_listed_and_revoked_while_a_session_is_in(guarded, keys, session):
    desk, other = keys.new("desk"), keys.new("other", "--symbols", "A*")
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    listed = keys.run("list")
    assert [line.split()[1] for line in listed.splitlines()[1:]] == ["desk", "other"]
    for secret in (desk, other):
        assert secret.rsplit("_", 1)[1] not in listed + keys.path.read_text()
    server = guarded(*keys.flags)
    inside, bystander = [await session(server.ws, **presenting(key)) for key in (desk, other)]
    by_command = await session(server.ws)
    assert (await by_command.ask("subscriptions"))["code"] == "auth_required"
    await by_command.send("auth", token=desk)
    await by_command.message(lambda message: message["type"] == "authenticated")
    for client in (inside, bystander, by_command):
        await client.subscribe(["trades", "quotes"], ["*"])
        await served(client)
    # Without a restart: one that is made now gets in, one that is revoked now gets out.
    await becomes(True, is_taken, server, keys.new("late"))
    keys.run("revoke", "desk")
    for client in (inside, by_command):
        assert await client.until_closed() == (4401, "the key was revoked")
        assert "revoked" in (await client.notice("token_expires"))["message"]
        client.assert_complete()
    status, error = await refusal(server, desk)
    assert (status, error["type"], error["code"]) == (401, "error", "auth_failed")
    await served(bystander)
    bystander.assert_complete()
    assert server.metrics()['tickerplant_disconnects_total{reason="token_revoked"}'] == 2
    assert re.search(r"desk +\S+Z +\S+Z", keys.run("list"))


async def test_a_file_of_keys_that_is_wrong_leaves_the_keys_from_before(guarded, keys):
    desk = keys.new("desk")
    server = guarded(*keys.flags)
    good = keys.path.read_text()
    keys.path.write_text(f"{good}nonsense = 1\n")
    await until(lambda: server.metrics()["tickerplant_auth_reload_errors_total"] == 1)
    assert await is_taken(server, desk)
    assert "nonsense" in server.stderr()
    keys.path.write_text(good)
    late = keys.new("late")
    await becomes(True, is_taken, server, late)


# --- entitlements ---


async def symbols_of(server, token):
    async with connect(server.ws, **presenting(token)) as client:
        return [entry["symbol"] for entry in (await client.ask("instruments"))["instruments"]]


async def test_what_a_key_may_not_have_is_named(guarded, keys, session):
    everything = keys.new("everything")
    server = guarded(*keys.flags)
    names = await symbols_of(server, everything)
    mine, foreign = names[0], names[1]
    pattern = f"{mine[:-1]}*"
    allowed = [name for name in names if name.startswith(mine[:-1])]
    assert foreign not in allowed
    restricted = keys.new(
        *("desk", "--symbols", pattern, "--channels", "trades,bars.*", "--modes", "latest", "--interval-ms-min", 100),
        *("--connections", 2, "--subscriptions", len(allowed) + 1, "--commands-burst", 30),
    )
    await becomes(True, is_taken, server, restricted)
    assert await symbols_of(server, restricted) == allowed
    client = await session(server.ws, **presenting(restricted))
    assert client.messages[0]["limits"]["commands_burst"] == 30
    latest = {"mode": "latest", "interval_ms": 100}

    async def refused(channels, symbols, **options):
        answer = await client.ask("subscribe", channels=channels, symbols=symbols, **options)
        assert (answer["type"], answer["code"]) == ("error", "not_entitled"), answer
        return answer

    assert "channels quotes; entitled are" in (await refused(["trades", "quotes"], [mine], **latest))["message"]
    assert "mode every; entitled is latest" in (await refused(["trades"], [mine]))["message"]
    too_often = await refused(["trades"], [mine], mode="latest", interval_ms=99)
    assert "interval_ms 99; the least is 100" in too_often["message"]
    assert (await refused(["trades"], [foreign, "NOBODY"], **latest))["symbols"] == [foreign, "NOBODY"]
    assert (await client.ask("subscriptions"))["subscriptions"] == []
    # Of several what is allowed goes on, and a star is what the key may have.
    await client.send("subscribe", id="both", channels=["trades"], symbols=[mine, foreign], **latest)
    assert (await client.answer("both"))["type"] == "subscribed"
    error = await client.message(lambda message: message.get("symbols") == [foreign])
    assert (error["code"], error["id"]) == ("not_entitled", "both")
    await client.subscribe(["trades"], ["*"], **latest)
    await client.until(lambda: {element.symbol for element in client.live()} == set(allowed))
    # Limits of the key, over all its connections.
    second = await session(server.ws, **presenting(restricted))
    answer = await second.ask("subscribe", channels=["bars.1s", "bars.5s"], symbols=[*allowed], **latest)
    assert answer["code"] == "too_many_subscriptions"
    assert "subscriptions_per_key, or subscriptions of the key" in answer["message"]
    status, error = await refusal(server, restricted)
    assert (status, error["code"]) == (429, "rate_limited")
    assert "connections_per_key, or connections of the key, is 2" in error["message"]
    # The same over plain HTTP.
    for path in (f"snapshot?symbols={foreign}&channels=trades", f"snapshot?symbols={mine}&channels=quotes"):
        answer = await get(f"{server.http}/api/v1/{path}", headers=bearer(restricted))
        assert (answer.status_code, answer.json()["code"]) == (403, "not_entitled"), answer.text
    answer = await get(f"{server.http}/api/v1/instruments")
    assert (answer.status_code, answer.json()["code"]) == (401, "auth_required")


async def test_entitlements_that_change_take_effect_in_open_sessions(guarded, keys, session):
    desk = keys.new("desk")
    server = guarded(*keys.flags)
    names = await symbols_of(server, desk)
    client = await session(server.ws, **presenting(desk))
    await client.subscribe(["trades"], names[:2])
    text = keys.path.read_text()
    keys.path.write_text(f'{text}symbols = ["{names[0]}"]\n')
    error = await client.message(lambda message: message.get("code") == "not_entitled")
    assert error.get("id") is None
    assert error["symbols"] == [names[1]]
    left = (await client.ask("subscriptions"))["subscriptions"]
    assert [entry["symbols"] for entry in left] == [[names[0]]]


async def test_limits_are_reloaded_on_a_signal_and_counted_for_who_comes(guarded, keys, session, tmp_path):
    desk = keys.new("desk")
    configuration = tmp_path / "tickerplant.toml"
    configuration.write_text("connections_per_key = 1\n")
    server = guarded(*keys.flags, "--config", configuration)
    first = await session(server.ws, **presenting(desk))
    status, error = await refusal(server, desk)
    assert status == 429
    assert "connections_per_key" in error["message"]
    by_command = await session(server.ws)
    answer = await by_command.ask("auth", token=desk)
    assert answer["code"] == "rate_limited"
    assert (await by_command.until_closed())[0] == 4409
    configuration.write_text("connections_per_key = 2\n")
    server.process.send_signal(signal.SIGHUP)
    await becomes(True, is_taken, server, desk)
    configuration.write_text("connections_per_key = nonsense\n")
    server.process.send_signal(signal.SIGHUP)
    await until(lambda: server.metrics()["tickerplant_config_reload_errors_total"] == 1)
    assert await is_taken(server, desk)
    assert await first.lives()
    refused = server.metrics()['tickerplant_auth_refused_total{reason="connections_per_key"}']
    assert refused >= 2


# --- tokens ---


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(algorithm, key, name):
    """The public half as RFC 7517 has it, by the library that signs."""
    return json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key())) | {"kid": name, "use": "sig"}


class Issuer:
    """Signs tokens, and remembers them as secrets."""

    def __init__(self, algorithm, secrets, kid=None):
        self.algorithm = algorithm
        self.secrets = secrets
        self.headers = {"kid": kid} if kid else {}
        makes = {
            "HS256": lambda: SECRET,
            "RS256": lambda: generate_private_key(65537, 2048),
            "EdDSA": Ed25519PrivateKey.generate,
        }
        self.key = makes[algorithm]()

    def token(self, lasts_s=HOUR_S, **claims):
        claims = {"sub": "desk", "exp": int(time.time()) + lasts_s, "tickerplant": {}} | claims
        token = jwt.encode(claims, self.key, algorithm=self.algorithm, headers=self.headers)
        self.secrets.add(token)
        return token

    def flags(self, folder):
        path = folder / f"{self.algorithm}.key"
        if self.algorithm == "HS256":
            path.write_text(SECRET)
            return "--jwt-secret-file", path
        path.write_bytes(public_pem(self.key))
        return "--jwt-public-key-file", path


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "EdDSA"])
async def test_tokens_are_taken_by_header_and_by_command(guarded, session, tmp_path, algorithm):
    issuer = Issuer(algorithm, guarded.secrets)
    server = guarded(*issuer.flags(tmp_path), "--jwt-issuer", "https://issuer.example", "--jwt-audience", "desk")
    whose = {"iss": "https://issuer.example", "aud": ["desk", "floor"]}
    token = issuer.token(**whose, tickerplant={"channels": ["trades"]})
    by_header = await session(server.ws, **presenting(token))
    by_command = await session(server.ws, "json")
    assert (await by_command.ask("subscribe", channels=["trades"], symbols=["*"]))["code"] == "auth_required"
    await by_command.send("auth", token=token)
    authenticated = await by_command.message(lambda message: message["type"] == "authenticated")
    assert authenticated["expires"]
    for client in (by_header, by_command):
        await client.subscribe(["trades"], ["*"])
        await served(client)
        assert "channels quotes" in (await client.ask("subscribe", channels=["quotes"], symbols=["*"]))["message"]
        client.assert_complete()
    assert (await get(f"{server.http}/api/v1/instruments", headers=bearer(token))).status_code == 200
    body, signature = token.rsplit(".", 1)
    other_half = "A" if signature[0] != "A" else "B"
    forged = {
        "another signature": (f"{body}.{other_half}{signature[1:]}", "signature"),
        "another issuer": (issuer.token(**whose | {"iss": "https://evil.example"}), "(iss)"),
        "another audience": (issuer.token(**whose | {"aud": "floor"}), "(aud)"),
        "over": (issuer.token(-HOUR_S, **whose), "expired"),
        "not yet": (issuer.token(**whose, nbf=int(time.time()) + HOUR_S), "(nbf)"),
        "for something else": (
            jwt.encode({"sub": "desk", "exp": time.time() + HOUR_S, **whose}, issuer.key, algorithm),
            "no claim tickerplant",
        ),
        "not signed": (jwt.encode({"sub": "desk", "exp": time.time() + HOUR_S, **whose}, None, "none"), ""),
    }
    for name, (wrong, reason) in forged.items():
        guarded.secrets.add(wrong.rstrip("."))
        status, error = await refusal(server, wrong)
        assert (status, error["code"]) == (401, "auth_failed"), name
        assert reason in error["message"], (name, error)
    client = await session(server.ws)
    for wrong, _ in list(forged.values())[:3]:
        assert (await client.ask("auth", token=wrong))["code"] == "auth_failed"
    assert (await client.until_closed())[0] == 4401
    refused = server.metrics()['tickerplant_auth_refused_total{reason="token"}']
    assert refused == len(forged) + 3


async def test_a_public_key_is_no_secret_of_hs256(guarded, tmp_path):
    # Whoever verifies with what the token says would take the text of the public key for a secret that all know.
    issuer = Issuer("RS256", guarded.secrets)
    server = guarded(*issuer.flags(tmp_path))

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    claims = {"sub": "evil", "exp": int(time.time()) + HOUR_S, "tickerplant": {}}
    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    hs256 = jwt.get_algorithm_by_name("HS256")
    signature = base64.urlsafe_b64encode(hs256.sign(signed, public_pem(issuer.key))).rstrip(b"=")
    forged = (signed + b"." + signature).decode()
    guarded.secrets.add(forged)
    assert (await refusal(server, forged))[0] == 401
    assert await is_taken(server, issuer.token())


async def test_a_key_set_that_is_rotated_stops_the_old_key(guarded, session, tmp_path):
    old, new = Issuer("RS256", guarded.secrets, "2026-10"), Issuer("EdDSA", guarded.secrets, "2026-11")
    path = tmp_path / "jwks.json"

    def publish(*issuers):
        path.write_text(json.dumps({"keys": [jwk(i.algorithm, i.key, i.headers["kid"]) for i in issuers]}))

    publish(old)
    server = guarded("--jwt-jwks-file", path)
    inside = await session(server.ws, **presenting(old.token()))
    await inside.subscribe(["trades"], ["*"])
    assert (await refusal(server, new.token()))[0] == 401
    publish(old, new)
    await becomes(True, is_taken, server, new.token())
    assert await is_taken(server, old.token())
    publish(new)
    await becomes(False, is_taken, server, old.token())
    assert await is_taken(server, new.token())
    # Who is inside has a token that was good, until it expires.
    await served(inside)
    path.write_text('{"keys": "none"}')
    await until(lambda: server.metrics()["tickerplant_auth_reload_errors_total"] == 1)
    assert await is_taken(server, new.token())


async def test_a_session_ends_with_its_token_and_outlives_it_by_the_next(guarded, session, tmp_path):
    issuer = Issuer("HS256", guarded.secrets)
    server = guarded(*issuer.flags(tmp_path), "--jwt-leeway-s", 0)
    short = issuer.token(6)
    ends, goes_on = [await session(server.ws, **presenting(short)) for _ in range(2)]
    for client in (ends, goes_on):
        await client.subscribe(["trades", "quotes"], ["*"])
        # It is due within a minute, so it is said at once.
        assert "expires" in (await client.notice("token_expires"))["message"]
    await goes_on.send("auth", token=issuer.token())
    await goes_on.message(lambda message: message["type"] == "authenticated")
    assert await ends.until_closed() == (4401, "the token has expired")
    ends.assert_complete()
    await served(goes_on)
    goes_on.assert_complete()
    assert (await refusal(server, short))[1]["message"] == "the JWT has expired"
    assert server.metrics()['tickerplant_disconnects_total{reason="token_expired"}'] == 1


# --- where tokens are not ---


@pytest.mark.parametrize("name", ["token", "access_token", "api_key", "key", "jwt", "anything"])
async def test_tokens_in_urls_are_refused_also_good_ones(guarded, keys, name):
    desk = keys.new("desk")
    server = guarded(*keys.flags)
    before = 'tickerplant_upgrades_refused_total{reason="token_in_url"}'
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with connect(f"{server.ws}?{name}={desk}", **presenting(desk)):
            pass
    assert refused.value.response.status_code == 400
    assert name in refused.value.response.body.decode()
    answer = await get(f"{server.http}/api/v1/instruments?{name}={desk}", headers=bearer(desk))
    assert answer.status_code == 400
    assert desk not in answer.text
    assert server.metrics()[before] == 1


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_log_has_a_secret_however_it_was_presented(guarded, keys, session, tmp_path, form):
    # Checked by logging the token in the gateway's `authenticate`: the fixture finds it.
    issuer = Issuer("HS256", guarded.secrets)
    good, revoked, token = keys.new("good"), keys.new("revoked"), issuer.token()
    keys.run("revoke", "revoked")
    wrong = ["tp_00000000_" + "5ec4e7" * 7, "hunter2-but-longer", issuer.token(-HOUR_S), f"{token}x"]
    guarded.secrets.update(wrong)
    server = guarded(*keys.flags, *issuer.flags(tmp_path), "--log-format", form, "--admin-listen", "127.0.0.1:0")
    admin = server.line("admin").split()[1].removesuffix("/admin")
    async with httpx.AsyncClient() as http:
        for secret in (good, revoked, token, *wrong):
            client = await session(server.ws)
            await client.ask("ping")
            name = client.messages[0]["session"]
            assert (await http.post(f"{admin}/admin/sessions/{name}/debug")).status_code == 200
            await client.send("auth", token=secret, id="auth")
            await client.message(lambda message: message["type"] in ("authenticated", "error"))
            await client.send("subscribe", token=secret, channels=[secret], symbols=[secret])
            assert await client.lives()
            await is_taken(server, secret)
            for path in ("/api/v1/instruments", "/metrics", f"/api/v1/instruments?token={secret}", f"/ws?t={secret}"):
                await http.get(server.http + path, headers=bearer(secret))
                await http.get(server.http + path, headers={"Authorization": f"Basic {secret}", "Cookie": secret})
        listed = (await http.get(f"{admin}/admin/sessions")).text
    assert not [secret for secret in (good, token, *wrong) if secret in listed]
    assert "desk" in listed
