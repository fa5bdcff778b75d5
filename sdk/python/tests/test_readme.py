"""The README's snippets, exactly as they stand there, except that they talk to the test's server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1]
README = (FOLDER / "README.md").read_text()
SNIPPETS = re.findall(r"^## ([^\n]+)\n+```python\n(.*?)^```", README, re.M | re.S)
ADDRESS = "127.0.0.1:8080"
PATIENCE_S = 100


def test_all_of_them_are_found():
    assert len(SNIPPETS) == README.count("```python\n") == 4


@pytest.mark.parametrize(("title", "snippet"), SNIPPETS, ids=[title for title, _ in SNIPPETS])
def test_a_snippet_works_as_pasted(plant, tmp_path, title, snippet):
    assert ADDRESS in snippet, f"{title} does not talk to the documented address"
    program = tmp_path / "snippet.py"
    server = plant("--sim-scenario", "busy", "--sim-rate", 2000)
    program.write_text(snippet.replace(ADDRESS, server.address))
    command = [sys.executable, "-X", "dev", program]
    ended = subprocess.run(
        command,
        env={"PYTHONPATH": str(FOLDER / "src")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert re.search(r"\d", ended.stdout), ended.stdout
