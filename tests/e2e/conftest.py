"""Fixtures: servers that are ended after the test, and the recordings."""

import os
from pathlib import Path

import pytest

import plant as plants
from client import connect


@pytest.fixture
def plant(tmp_path):
    """Starts servers: `plant("--sim-rate", 1000)`. None may panic."""
    started = []

    def start(*arguments, **keys):
        server = plants.Plant(*arguments, stderr_path=tmp_path / f"stderr-{len(started)}", **keys)
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()
    for server in started:
        assert "panicked" not in server.stderr(), server.stderr()


@pytest.fixture
async def session(request):
    """Opens sessions that are closed after the test: `await session(server.ws, "json")`."""
    import contextlib

    async with contextlib.AsyncExitStack() as stack:

        async def open_session(url, encoding="msgpack", **keys):
            return await stack.enter_async_context(connect(url, encoding, **keys))

        yield open_session


@pytest.fixture
async def witnessed(plant, session):
    """Starts a server with somebody in it who must be served to the end and miss nothing."""
    witnesses = []

    async def start(*arguments, rate=1000):
        server = plant("--sim-symbols", 20, "--sim-rate", rate, *arguments)
        witness = await session(server.ws)
        await witness.subscribe(["trades", "quotes"], ["*"])
        witnesses.append(witness)
        return server

    yield start
    for witness in witnesses:
        await witness.until(lambda witness=witness: len(witness.live()) > 0)
        # What is read here has waited in this process; the end of it is behind everything that was sent meanwhile.
        answer = await witness.ask("ping")
        assert answer["type"] == "pong"
        seen = len(witness.live())
        await witness.until(lambda witness=witness, seen=seen: len(witness.live()) > seen + 20)
        witness.assert_complete()


@pytest.fixture(scope="session")
def recordings():
    """The folder with real recordings, which are not part of the project."""
    folder = os.environ.get("TICKER_RECORDINGS")
    if not folder:
        print("not run: TICKER_RECORDINGS is not set")
        pytest.skip("not run: TICKER_RECORDINGS is not set")
    path = Path(folder).resolve()
    assert path.is_dir(), f"TICKER_RECORDINGS is {folder}, which is no folder"
    return path
