"""Node's two WebSocket clients, in both encodings."""

import json
import subprocess
from pathlib import Path

import pytest

from peers import node_flags

FOLDER = Path(__file__).parent / "node"


@pytest.mark.parametrize("encoding", ["msgpack", "json"])
@pytest.mark.parametrize("kind", ["ws", "builtin"])
def test_a_node_client_misses_nothing(plant, kind, encoding):
    assert (FOLDER / "node_modules/ws").is_dir(), "run `make setup` first"
    server = plant("--sim-symbols", 50, "--sim-rate", 5000)
    command = ["node", *node_flags(), "check.mjs", server.ws, kind, encoding, "3000"]
    run = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["violations"] == []
    assert result["protocol"] == f"ticker.v1.{encoding}"
    assert result["elements"] >= 3000
    assert result["close"] == 1000
