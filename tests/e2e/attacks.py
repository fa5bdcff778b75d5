"""What the tests of attacks have in common.

Where a guard is a setting, the same attack runs on a server with the setting off, and must work there: a test of a
guard that is not needed would show nothing. Where it is a bound in the code, the comment says how it was seen to fail
without. SECURITY.md lists the attacks by their tests. Meanwhile a witness (the fixture `witnessed`) is served, and
misses nothing.

Not here: bad input of clients that mean well (test_bad_input.py), who may have what (test_auth.py).
"""

import asyncio

import msgpack
import requests

from raw import PATIENCE_S, frame

MARKET = ("--sim-symbols", 20)
HOLD_S = 3
"""How long a connection is held where nothing cuts it: several times the limits below."""
ATTACKER, NEIGHBOUR = "127.0.0.2", "127.0.0.3"
GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n"


def pack(**command):
    return frame(0x82, msgpack.packb(command))


SUBSCRIBE = pack(op="subscribe", channels=["trades", "quotes"], symbols=["*"])


async def until(reached, seconds=PATIENCE_S):
    """Waits for what only a scrape shows, which cannot be awaited."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(reached):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def get(url, **keys):
    return await asyncio.to_thread(requests.get, url, timeout=PATIENCE_S, **keys)


def summed(server, name):
    return sum(value for key, value in server.metrics().items() if key.split("{")[0] == name)
