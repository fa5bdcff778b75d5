"""The README's bots, exactly as they stand there, except that they talk to the test's server."""

import re
import subprocess
import sys
import threading

import pytest

from plant import ROOT
from test_node import FOLDER, node_flags

ADDRESS = "127.0.0.1:8080"
LINES = 5


def block(language):
    readme = (ROOT / "README.md").read_text()
    match = re.search(rf"^```{language}\n(.*?)^```", readme, re.M | re.S)
    assert match, f"README.md has no block marked {language}"
    return match[1]


def assert_prints_a_market(command, folder):
    """Runs a bot until it has printed some lines, then ends it."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # A bot that prints nothing is ended too, so that its output ends and the test can say so.
    deadline = threading.Timer(30, process.kill)
    deadline.start()
    try:
        lines = [line for line, _ in zip(process.stdout, range(LINES), strict=False)]
    finally:
        deadline.cancel()
        process.kill()
        _, stderr = process.communicate()
    assert len(lines) == LINES, f"printed {lines} and {stderr}"
    assert any(re.search(r"\d", line) for line in lines), lines


@pytest.fixture
def snippet(plant, request):
    """Starts a server and gives a block's text that talks to it."""

    def prepare(language):
        text = block(language).replace("localhost:8080", ADDRESS)
        assert ADDRESS in text, "the bot does not talk to the documented address"
        server = plant()
        return text.replace(ADDRESS, server.address)

    return prepare


def test_the_python_bot_works_as_pasted(snippet, tmp_path):
    bot = tmp_path / "bot.py"
    bot.write_text(snippet("python"))
    assert_prints_a_market([sys.executable, "-u", str(bot)], tmp_path)


def test_the_javascript_bot_works_as_pasted(snippet):
    # Node looks for packages beside the file, so it has to lie where they are.
    bot = FOLDER / "bot.snippet.mjs"
    bot.write_text(snippet("(?:js|javascript)"))
    try:
        assert_prints_a_market(["node", *node_flags(), str(bot)], FOLDER)
    finally:
        bot.unlink()
