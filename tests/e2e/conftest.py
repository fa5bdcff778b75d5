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
