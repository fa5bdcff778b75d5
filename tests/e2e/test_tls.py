"""TLS on the real server, with clients that others wrote: Python, Node, curl, and our own commands."""

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

import plant as plants
from certificates import Authority
from client import connect
from peers import node_flags

FOLDER = Path(__file__).parent / "node"
RELOAD_S = 60


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secure(plant, authority):
    """A server with TLS and a market."""
    return plant("--sim-symbols", 20, "--sim-rate", 2000, *authority.issue().flags)


def counter(server, authority, name):
    text = httpx.get(f"{server.http}/metrics", verify=authority.context()).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_elements_come_in_order(secure, authority, compression):
    async with connect(secure.ws, ssl=authority.context(), compression=compression) as client:
        await client.subscribe(["trades", "quotes"], ["*"])
        await client.until(lambda: len(client.elements) >= 2000)
        assert client.socket.transport.get_extra_info("ssl_object").version() == "TLSv1.3"


def test_a_node_client_misses_nothing(secure, authority):
    assert (FOLDER / "node_modules/ws").is_dir(), "run `make setup` first"
    environment = os.environ | {"NODE_EXTRA_CA_CERTS": str(authority.certificate)}
    for kind in ["ws", "builtin"]:
        command = ["node", *node_flags(), "check.mjs", secure.ws, kind, "msgpack", "1000"]
        run = subprocess.run(
            command, cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert run.returncode == 0, run.stderr
        result = json.loads(run.stdout)
        assert (result["violations"], result["close"]) == ([], 1000)


def test_our_own_commands_take_wss(secure, authority):
    """The Rust SDK, which trusts what the system trusts; OpenSSL's variable says that here."""
    command = ["tail", "*", "--url", secure.ws, "--channels", "trades", "--count", "5", "--json"]
    trusted = plants.run_to_end(*command, env={"SSL_CERT_FILE": str(authority.certificate)})
    assert trusted.returncode == 0, trusted.stderr
    assert len(trusted.stdout.splitlines()) >= 5
    untrusted = plants.run_to_end(*command)
    assert untrusted.returncode != 0
    assert "certificate" in untrusted.stderr, untrusted.stderr


async def test_a_new_certificate_leaves_who_is_connected_alone(plant, authority, tmp_path):
    pair = Authority(tmp_path).issue()
    server = plant("--sim-symbols", 5, "--sim-rate", 500, *pair.flags)
    before = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    async with connect(server.ws, ssl=before) as client:
        await client.subscribe(["trades"], ["*"])
        renewed = authority.issue("renewed")
        shutil.copy(renewed.key, pair.key)
        shutil.copy(renewed.certificate, pair.certificate)

        async def replaced():
            while True:
                try:
                    async with connect(server.ws, ssl=authority.context()):
                        return
                except ssl.SSLCertVerificationError:
                    # The files are looked at once a second.
                    continue

        await asyncio.wait_for(replaced(), RELOAD_S)
        seen = len(client.elements)
        await client.until(lambda: len(client.elements) >= seen + 200)
        assert await client.lives()

        # One that does not fit is refused, logged and counted.
        pair.key.write_bytes((tmp_path / "authority.key").read_bytes())

        while counter(server, authority, "tickerplant_tls_reload_errors_total") < 1:
            seen = len(client.elements)
            await client.until(lambda seen=seen: len(client.elements) > seen)
        assert "the key does not fit the certificate" in server.stderr()
        async with connect(server.ws, ssl=authority.context()) as another:
            assert await another.lives()
        assert await client.lives()


@pytest.mark.parametrize(
    ("issued", "complaint"),
    [
        ({"days": -1}, "certificate has expired"),
        ({"names": "DNS:other.example"}, "IP address mismatch"),
    ],
)
async def test_clients_see_what_is_wrong_with_a_certificate(plant, authority, issued, complaint):
    server = plant(*authority.issue("wrong", **issued).flags)
    with pytest.raises(ssl.SSLCertVerificationError, match=complaint):
        async with connect(server.ws, ssl=authority.context()):
            pass


def test_the_start_fails_with_the_reason(authority, tmp_path):
    pair, other = authority.issue("one"), authority.issue("other")

    def check(certificate, key, complaint):
        command = ["serve", "--listen", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key]
        run = plants.run_to_end(*command)
        assert run.returncode == 2, run
        assert complaint in run.stderr, run.stderr

    check(tmp_path / "none.pem", pair.key, "none.pem: No such file")
    check(pair.certificate, other.key, "does not fit the certificate")
    check(pair.certificate, pair.certificate, "there is no private key in it")
    alone = plants.run_to_end("serve", "--tls-cert", pair.certificate)
    assert alone.returncode == 2
    assert "--tls-key" in alone.stderr


def test_rest_over_http2(secure, authority):
    curl = shutil.which("curl")
    if not curl:
        pytest.skip("not run: there is no curl")
    paths = ["/api/v1/instruments", "/", "/api/v1/snapshot?symbols=BTC-USD", "/ws"]
    command = [curl, "--silent", "--show-error", "--http2", "--parallel", "--cacert", str(authority.certificate)]
    for path in paths:
        command += ["--output", os.devnull, f"{secure.http}{path}"]
    run = subprocess.run(
        [*command, "--write-out", "%{http_version} %{http_code}\n"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert sorted(run.stdout.split("\n")[:4]) == ["2 200", "2 200", "2 200", "2 400"]
    stream = f"{secure.http}/api/v1/stream?symbols=*&channels=trades"
    with subprocess.Popen(
        [curl, "--silent", "--no-buffer", "--http2", "--cacert", str(authority.certificate), stream],
        stdout=subprocess.PIPE,
        text=True,
    ) as events:
        lines = [events.stdout.readline() for _ in range(20)]
        events.terminate()
    assert any('"type":"trade"' in line for line in lines), lines


def test_plain_http_is_told_where_to_go(secure, authority):
    answer = httpx.get(f"http://{secure.address}/api/v1/instruments")
    assert answer.status_code == 400
    assert "https:// or wss://" in answer.text
    assert counter(secure, authority, "tickerplant_tls_handshake_failures_total") >= 1


def test_a_hand_shake_has_a_time_limit(plant, authority):
    server = plant("--handshake-timeout-ms", 300, *authority.issue().flags)
    for first in [b"", b"\x16\x03\x01\x02\x00\x01"]:
        with socket.create_connection(server.host_and_port, timeout=30) as silent:
            silent.sendall(first)
            assert silent.recv(1) == b""
    with socket.create_connection(server.host_and_port, timeout=30) as raw:
        context = authority.context()
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(raw, server_hostname="localhost") as idle:
            assert idle.selected_alpn_protocol() == "h2"
            # Settings and a word of goodbye: a connection of HTTP/2 without requests is not kept either.
            while idle.recv(4096):
                pass
