"""Hours of stream in minutes: compressed clients with long histories against uncompressed ones, digest by digest.

TICKER_SOAK_S says for how long each runs (default 10 s).
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peers import NODE, node_flags
from tap import parameters

HERE = Path(__file__).parent
SECONDS = float(os.environ.get("TICKER_SOAK_S", "10"))
LINE_BYTES_MAX = 1 << 30
# Nothing is left out for a machine that is busy with other things.
PATIENT = ("--outbox-bytes-max", 0, "--shard-queue-bytes-max", 1 << 30, "--flush-interval-us", 5000)
SETTINGS = [
    ("websockets", "json", {}),
    ("websockets", "msgpack", {}),
    ("websockets", "msgpack", {"server_max_window_bits": 9}),
    ("ws", "json", True),
    ("ws", "msgpack", {"serverMaxWindowBits": 12}),
    ("builtin", "json", True),
]


async def start(stack, server, kind, encoding, offer):
    """A client in a process of its own that has subscribed."""
    if kind == "websockets":
        command = [sys.executable, "digest.py", server.ws, encoding, "none" if offer is None else json.dumps(offer)]
    else:
        command = ["node", *node_flags(), "digest.mjs", server.ws, encoding, kind, json.dumps(offer)]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=HERE if kind == "websockets" else NODE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=LINE_BYTES_MAX,
    )

    def kill():
        with contextlib.suppress(ProcessLookupError):
            process.kill()

    stack.callback(kill)
    assert (await process.stdout.readline()).strip() == b"ready", (kind, encoding, offer)
    return process


async def finish(process, until):
    process.stdin.write(json.dumps(until).encode() + b"\n")
    await process.stdin.drain()
    result = json.loads(await process.stdout.readline())
    await process.wait()
    return result


async def soak(server, blocks_min):
    async with contextlib.AsyncExitStack() as stack:
        references = {e: await start(stack, server, "websockets", e, None) for e in ("json", "msgpack")}
        clients = [(setting, await start(stack, server, *setting)) for setting in SETTINGS]
        await asyncio.sleep(SECONDS)
        results = [(setting, await finish(process, {})) for setting, process in clients]
        numbers = {encoding: {} for encoding in references}
        for (_, encoding, _), result in results:
            for key, seq in result["last"].items():
                numbers[encoding][key] = max(seq, numbers[encoding].get(key, 0))
        uncompressed = {e: await finish(process, numbers[e]) for e, process in references.items()}
    for encoding, result in uncompressed.items():
        assert (result["extensions"], result["gaps"], result["breaks"]) == (None, 0, []), encoding
    for setting, result in results:
        agreed = parameters(result["extensions"])
        assert agreed is not None, setting
        assert "server_no_context_takeover" not in agreed, setting
        assert (result["gaps"], result["breaks"]) == (0, []), setting
        known = uncompressed[setting[1]]["blocks"]
        assert len(result["blocks"]) >= blocks_min, setting
        for block, digest in result["blocks"].items():
            assert known[block] == digest, (setting, block)
        print(f"{setting}: {result['elements']} elements, {len(result['blocks'])} blocks, {result['times']}")
    return results


@pytest.mark.timeout(SECONDS + 120)
async def test_the_simulated_market_for_long(plant):
    await soak(plant("--sim-seed", 7, "--sim-symbols", 10, "--sim-rate", 5000, *PATIENT), blocks_min=10)


@pytest.mark.timeout(SECONDS + 120)
async def test_hours_of_a_recorded_market(plant, recordings):
    """Two hours of trades, and quotes of their beginning, again and again at four thousand times their pace."""
    names = (
        "binance-futures_trades_2020-02-22_BTCUSDT.csv",
        "binance-futures_quotes_2020-02-22_BTCUSDT.csv",
    )
    feeds = [argument for name in names for argument in ("--feed", f"recording:{recordings / name}")]
    await soak(plant(*feeds, "--replay-speed", 4000, "--replay-loop", *PATIENT), blocks_min=10)
