"""Attacks by HTTP: heads without end, pages of others, and what lies between the server and its clients.

How it is shown that each guard is needed: attacks.py.
"""

import asyncio

import pytest

from attacks import GET, get
from raw import Raw, upgrade_request

# --- heads ---


def numbered(count):
    return "".join(f"X-{number}: b\r\n" for number in range(count))


@pytest.mark.parametrize(
    ("fine", "too_much"),
    [
        pytest.param(numbered(50), numbered(100), id="many headers"),
        pytest.param("X-A: " + "b" * 8000 + "\r\n", "X-A: " + "b" * 40_000 + "\r\n", id="a long header"),
        pytest.param("Cookie: a=b\r\n" * 50, "Cookie: a=b\r\n" * 4000, id="the same header again and again"),
    ],
)
async def test_floods_of_headers_are_cut_off(witnessed, fine, too_much):
    # Without the guard (tried with 10,000 headers and a megabyte in accept.rs) all are answered with 200.
    server = await witnessed()
    for headers, statuses in ((fine, {200}), (too_much, {431, 400, 0})):
        with Raw(server) as raw:
            raw.send(GET % (b"/healthz", headers.encode()))
            assert (await asyncio.to_thread(raw.head))[0] in statuses
    assert server.metrics()['tickerplant_connections_cut_total{reason="head_too_large"}'] == 1


async def test_a_head_without_end_is_not_read_without_end(witnessed):
    server = await witnessed("--handshake-timeout-ms", 0)
    for endless in (b"GET /" + b"x" * 4000, b"GET / HTTP/1.1\r\nX-A: " + b"x" * 4000, b"\r\n" * 2000):
        with Raw(server) as raw:
            assert await asyncio.to_thread(raw.send_until_refused, endless, 5000) < 5000


async def test_pipelined_requests_are_answered_one_after_the_other(witnessed):
    server = await witnessed()
    with Raw(server) as raw:
        raw.send((GET % (b"/healthz", b"")) * 500 + GET % (b"/healthz", b"Connection: close\r\n"))
        assert (await asyncio.to_thread(raw.rest)).count(b"HTTP/1.1 200 OK") == 501


# --- from the pages of others, and between the server and its clients ---


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "https://desk.example.evil", "file://"]
)
async def test_pages_of_others_cannot_connect(witnessed, origin):
    guarded, unguarded = await witnessed("--allow-origin", "https://desk.example"), await witnessed()
    for server, status in ((guarded, 403), (unguarded, 101)):
        with Raw(server) as raw:
            raw.send(upgrade_request(Origin=origin))
            assert (await asyncio.to_thread(raw.head))[0] == status
    answers = [await get(f"{s.http}/api/v1/instruments", headers={"Origin": origin}) for s in (guarded, unguarded)]
    assert [answer.headers.get("Access-Control-Allow-Origin") for answer in answers] == [None, "*"]
    assert guarded.metrics()['tickerplant_upgrades_refused_total{reason="origin"}'] == 1


async def test_a_page_that_is_allowed_connects(witnessed):
    server = await witnessed("--allow-origin", "https://desk.example")
    with Raw(server) as raw:
        raw.upgrade(Origin="https://desk.example")


INJECTED = "%0d%0aX-Injected:%20yes%0d%0a%0d%0a<script>"
SPLITTERS = [
    GET % (f"/{INJECTED}".encode(), b""),
    GET % (f"/api/v1/{INJECTED}".encode(), b""),
    GET % (f"/api/v1/snapshot?symbols={INJECTED}&channels={INJECTED}".encode(), b""),
    GET % (f"/api/v1/stream?symbols={INJECTED}&after={INJECTED}".encode(), b""),
    GET % (f"/ws?format={INJECTED}".encode(), b""),
    GET % (b"/api/v1/instruments", f"Origin: https://a{INJECTED}\r\nIf-None-Match: {INJECTED}\r\n".encode()),
    GET % (b"/api/v1/instruments", b"Origin: https://a\rX-Injected: yes\r\n"),
    GET % (b"/api/v1/stream?symbols=*", f"Last-Event-ID: {INJECTED}\r\n".encode()),
    upgrade_request(Sec_WebSocket_Protocol="ticker.v1.json\rX-Injected: yes"),
    upgrade_request(Sec_WebSocket_Protocol=f"ticker.v1.json, {INJECTED}"),
    upgrade_request(Sec_WebSocket_Extensions='permessage-deflate; x="\rX-Injected: yes"'),
]


@pytest.mark.parametrize("request_bytes", SPLITTERS)
async def test_answers_are_not_split_by_what_was_asked(witnessed, request_bytes):
    # What clients say is answered in bodies of JSON. The only header that repeats any of it is
    # Access-Control-Allow-Origin, and only as it stands in the list.
    server = await witnessed()
    with Raw(server) as raw:
        raw.send(request_bytes)
        status, head = await asyncio.to_thread(raw.head)
    assert status in (101, 200, 400, 404, 426), head
    assert "x-injected:" not in [line.strip()[:11] for line in head.replace("\r", "\n").split("\n")]
    assert "<script>" not in head


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 0\r\nContent-Length: 30\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: +0\r\n",
    ],
)
async def test_one_request_is_not_two(witnessed, headers):
    # A proxy that ends the request elsewhere than we do would hand the second to somebody else.
    server = await witnessed()
    with Raw(server) as raw:
        raw.send(GET % (b"/healthz", headers) + b"0\r\n\r\n" + GET % (b"/metrics", b"X-Smuggled: yes\r\n"))
        answer = await asyncio.to_thread(raw.rest)
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert b"tickerplant_sessions" not in answer


async def test_caches_on_the_way_cannot_be_poisoned(witnessed):
    server = await witnessed("--allow-origin", "https://desk.example")
    evil = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
        "X-Original-URL": "/metrics",
        "X-Rewrite-URL": "/metrics",
        "X-HTTP-Method-Override": "POST",
        "Forwarded": "host=evil.example",
    }
    for path in ("/", "/api/v1/instruments", "/openapi.json", "/nothing", "/api/v1/nothing"):
        plain, poisoned = [await get(server.http + path, headers=headers) for headers in ({}, evil)]
        assert (plain.status_code, plain.content) == (poisoned.status_code, poisoned.content), path
        assert "evil" not in str(poisoned.headers)
        caching = plain.headers.get("Cache-Control", "")
        # No answer about the market, and no error, is kept without asking.
        assert "no-cache" in caching or "no-store" in caching, (path, caching)
    # What depends on the page that asks, or on the key, says so.
    for origin in ("https://desk.example", "https://evil.example"):
        answer = await get(f"{server.http}/api/v1/instruments", headers={"Origin": origin})
        assert "origin" in answer.headers["Vary"].lower()
    # A tag that is not the content's own is not confirmed.
    answer = await get(f"{server.http}/api/v1/instruments", headers={"If-None-Match": '"evil"'})
    assert answer.status_code == 200


SECURE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


async def test_every_answer_tells_browsers_to_be_careful(witnessed):
    # Checked by taking each layer out of accept.rs.
    server = await witnessed()
    paths = ("/", "/nothing", "/api/v1/instruments", "/api/v1/nothing", "/healthz", "/metrics", "/openapi.json", "/ws")
    for path in paths:
        answer = await get(server.http + path)
        assert {name: answer.headers.get(name) for name in SECURE} == SECURE, path
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'", path
        if path == "/":
            # No inline script, none from elsewhere, no eval.
            assert policy["default-src"] == "'self'"
            assert "script-src" not in policy
            assert policy["object-src"] == "'none'"
        else:
            assert policy["default-src"] == "'none'", path
        assert "server" not in answer.headers, "which version runs is nobody's business"


async def test_the_page_has_no_inline_script(witnessed):
    server = await witnessed()
    page = (await get(f"{server.http}/")).text
    for tag in page.split("<script")[1:]:
        attributes, body = tag.split(">", 1)
        assert "src=" in attributes or body.startswith("</script>"), tag[:100]
    assert " onload=" not in page
    assert " onclick=" not in page
