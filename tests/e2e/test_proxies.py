"""The configurations in `deploy` for nginx, HAProxy and Caddy, on the real programs, in front of the real server."""

import asyncio
import os
import shutil
import socket
import subprocess

import httpx
import pytest
import websockets

from certificates import Authority
from client import connect
from plant import ROOT
from test_admin import Admin

DEPLOY = ROOT / "deploy"
START_S = 60
# Somebody else on this machine, whom nothing takes for a proxy.
STRANGER, OTHER = "127.0.0.2", "127.0.0.3"
SPOOFED = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def rewritten(path, changes):
    """The file with each text replaced that a test cannot use; all of them have to be there."""
    text = (DEPLOY / path).read_text()
    for old, new in changes.items():
        assert old in text, f"{path} has no {old!r}"
        text = text.replace(old, str(new))
    return text


def nginx(folder, port, upstream, pair):
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    changes = {
        "http {\n": f"http {{\n{temporary}",
        "listen 443 ssl http2": f"listen 127.0.0.1:{port} ssl http2",
        "127.0.0.1:8080": upstream,
        "/etc/ssl/tickerplant/fullchain.pem": pair.certificate,
        "/etc/ssl/tickerplant/privkey.pem": pair.key,
        "/var/log/nginx/tickerplant.log": folder / "access.log",
        # As many descriptors as a test may have.
        "worker_rlimit_nofile 65536;": "",
        "worker_connections 32768;": "worker_connections 256;",
        "worker_processes auto;": "worker_processes 1;\ndaemon off;",
    }
    (folder / "nginx.conf").write_text(f"pid {folder}/pid;\n" + rewritten("nginx.conf", changes))
    return ["nginx", "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"]


def haproxy(folder, port, upstream, pair):
    (folder / "pair.pem").write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    changes = {
        "bind :443": f"bind 127.0.0.1:{port}",
        "127.0.0.1:8080": upstream,
        "/etc/haproxy/tickerplant.pem": folder / "pair.pem",
        "maxconn 20000": "maxconn 200",
    }
    (folder / "haproxy.cfg").write_text(rewritten("haproxy.cfg", changes))
    return ["haproxy", "-db", "-f", folder / "haproxy.cfg"]


def caddy(folder, port, upstream, pair):
    changes = {
        # The certificate of the test instead of one that Caddy gets, and nothing on ports 80 and 2019.
        "market.example.com {\n": "{\n\tadmin off\n\tauto_https disable_redirects\n}\n\n"
        f"https://localhost:{port} {{\n\tbind 127.0.0.1\n\ttls {pair.certificate} {pair.key}\n",
        "127.0.0.1:8080 {": f"{upstream} {{",
    }
    text = rewritten("Caddyfile", changes)
    (folder / "Caddyfile").write_text(text)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]


PROXIES = {
    "nginx": (nginx, ("nginx-light", "nginx"), ()),
    "haproxy": (haproxy, ("haproxy",), ("--proxy-protocol",)),
    "caddy": (caddy, ("caddy",), ()),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=PROXIES)
async def front(request, plant, authority, tmp_path):
    """A server that trusts this machine's own address, and the proxy in front of it: both, and the proxy's address."""
    configure, package, flags = PROXIES[request.param]
    subprocess.run([ROOT / "scripts/ensure-package", *package], check=True, capture_output=True)
    server = plant(
        *("--trusted-proxy", "127.0.0.1", "--auth", "off", "--connections-per-ip", 2, "--admin-listen", "127.0.0.1:0"),
        *("--sim-symbols", 20, "--sim-rate", 2000, *flags),
    )
    folder = tmp_path / "proxy"
    folder.mkdir()
    port = free_port()
    command = configure(folder, port, server.address, authority.issue())
    # Debian keeps programs of the system where a user's path does not lead.
    program = shutil.which(command[0], path="/usr/sbin:/usr/bin:/sbin:/bin")
    # Caddy keeps what it knows below these.
    environment = os.environ | {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen([program, *map(str, command[1:])], stdout=output, stderr=output, env=environment)
    try:
        async with asyncio.timeout(START_S):
            while True:
                try:
                    answer = await asyncio.to_thread(
                        httpx.get, f"https://localhost:{port}/readyz", verify=authority.context()
                    )
                    if answer.status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.poll() is None, (folder / "output").read_text()
        yield server, f"wss://localhost:{port}/ws"
    finally:
        process.terminate()
        process.wait(START_S)


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_elements_come_in_order(front, authority, compression):
    _, url = front
    async with connect(url, ssl=authority.context(), compression=compression) as client:
        negotiated = [extension.name for extension in client.socket.protocol.extensions]
        assert negotiated == (["permessage-deflate"] if compression else [])
        await client.subscribe(["trades", "quotes"], ["*"])
        await client.until(lambda: len(client.elements) >= 2000)


async def test_clients_are_told_apart_and_none_can_say_that_it_is_another(front, authority):
    server, url = front

    def session(address):
        return connect(
            url, ssl=authority.context(), local_addr=(address, 0), family=socket.AF_INET, additional_headers=SPOOFED
        )

    async with session(STRANGER), session(STRANGER), session(OTHER):
        addresses = sorted(entry["address"] for entry in await Admin(server).all())
        assert addresses == [STRANGER, STRANGER, OTHER]
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with session(STRANGER):
                pass
        assert refused.value.response.status_code == 429
        assert "connections_per_ip" in refused.value.response.body.decode()
        async with session(OTHER):
            pass


async def test_pages_of_other_origins_are_refused_and_own_ones_are_not(front, authority):
    _, url = front
    own = url.replace("wss:", "https:").removesuffix("/ws")
    async with connect(url, ssl=authority.context(), origin=own):
        pass
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with connect(url, ssl=authority.context(), origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403


async def test_the_world_sees_events_but_no_metrics(front, authority):
    _, url = front
    base = url.replace("wss:", "https:").removesuffix("/ws")
    async with httpx.AsyncClient(verify=authority.context(), timeout=START_S) as client:
        assert (await client.get(f"{base}/metrics")).status_code == 404
        assert (await client.get(f"{base}/api/v1/instruments")).status_code == 200
        async with client.stream("GET", f"{base}/api/v1/stream?symbols=*&channels=trades") as answer:
            # Buffered until its end, which never comes, nothing would be seen.
            lines = answer.aiter_lines()
            seen = 0
            while seen < 100:
                seen += (await anext(lines)).startswith("data:")
