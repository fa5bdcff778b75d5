"""The programs of `examples/`, as a user runs them: on a server that is killed under them, and on one market for all.

The page of `examples/html` needs a browser: `web/e2e/examples.spec.ts`.
"""

import csv
import os
import re
import signal
import subprocess
import sys
import threading
from decimal import Decimal
from types import SimpleNamespace

import pytest

import plant as plants
from peers import node_flags
from test_lifecycle import recording, trade_row
from test_replay import admin

EXAMPLES = plants.ROOT / "examples"
TYPESCRIPT = EXAMPLES / "typescript"
RUST = plants.BINARY.parent / "examples"
BUSY = ("--sim-scenario", "busy", "--sim-seed", 5)
# Far above what anything here takes; it only turns a hang into a failure.
WAIT_S = 100

ORDER = re.compile(r" *(\d+)\. (buy|sell) +at +(-?[\d.]+) +position +(-?\d+) +profit +(-?[\d.]+)$")


class Program:
    """An example that runs, and the lines that it has printed."""

    def __init__(self, command, cwd=None, env=None):
        assert os.path.exists(command[0]) or command[0] == "node", f"{command[0]} is not built: make examples"
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=plants.environment() | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    def until(self, enough):
        """Waits until the lines are enough, and gives them."""
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self.lines), WAIT_S), self.lines[-20:]
            return list(self.lines)

    def says(self, text, after=0):
        """Waits for a line with the text behind the first so many, and gives how many there were then."""
        return len(self.until(lambda lines: any(text in line for line in lines[after:])))

    def orders(self, more, after=0):
        return self.until(lambda lines: sum(bool(ORDER.match(line)) for line in lines[after:]) >= more)

    def end(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(WAIT_S)


@pytest.fixture
def run():
    programs = []

    def start(*command, **keys):
        programs.append(Program([str(part) for part in command], **keys))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


def typescript(name, *arguments):
    assert (TYPESCRIPT / "node_modules/tsx").is_dir(), "run `make examples` first"
    return ["node", *node_flags(), "--import", "tsx", TYPESCRIPT / name, *arguments]


BOTS = {
    "typescript": lambda symbol, server: typescript("bot.ts", symbol, server.http),
    "rust": lambda symbol, server: [RUST / "bot", symbol, server.ws],
    "python": lambda symbol, server: [sys.executable, EXAMPLES / "python/bot.py", symbol, server.http],
}


def start_bot(run, language, symbol, server):
    sdk = {"PYTHONPATH": str(plants.ROOT / "sdk/python/src")}
    return run(*BOTS[language](symbol, server), cwd=TYPESCRIPT, env=sdk)


def reckoned(lines):
    """The orders among the lines, after each has been reckoned again."""
    orders = [found.groups() for line in lines if (found := ORDER.match(line))]
    cash, lots = Decimal(0), 0
    for at, (number, side, price, position, profit) in enumerate(orders, 1):
        step = 1 if side == "buy" else -1
        lots += step
        cash -= step * Decimal(price)
        assert (int(number), int(position)) == (at, lots)
        assert -1 <= lots <= 1
        # What is still held is valued at the other side of the book, which is never better than what was just paid.
        if lots == 0:
            assert Decimal(profit) == cash, "exact, to the last digit"
        else:
            assert Decimal(profit) <= cash + lots * Decimal(price)
    return orders


@pytest.mark.parametrize("language", BOTS)
def test_a_bot_goes_on_after_a_crash_of_the_server(plant, run, language):
    server = plant(*BUSY)
    bot = start_bot(run, language, "BTC-USD", server)
    before = len(bot.orders(4))
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    bot.says("connection lost", before)
    plant(*BUSY, listen=server.address)
    anew = bot.says("the server began anew", before)
    lines = bot.orders(4, after=anew)
    reckoned(lines)
    assert not any(word in line for line in lines for word in ("undeclared", "(hole)")), lines


def recorded_market(path):
    """Three quarters of a megabyte of a market with books."""
    market = [*BUSY, "--sim-rate", 5000, "--record-block-ms", 50]
    process = subprocess.Popen(
        [plants.BINARY, "record", *map(str, market), "--out", path, "--log", "warn"], env=plants.environment()
    )
    grown = threading.Event()
    while (path.stat().st_size if path.exists() else 0) < 750_000:
        assert process.poll() is None
        grown.wait(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(plants.EXIT_S) == 0


def test_all_bots_place_the_same_orders_on_the_same_market(plant, run, tmp_path):
    path = tmp_path / "market.tpr"
    recorded_market(path)
    server = plant("--feed", f"recording:{path}", "--admin-listen", "127.0.0.1:0")
    # All begin with the same book.
    assert admin(server, "/admin/replay/step?ticks=3000")[0] == 200
    bots = [start_bot(run, language, "BTC-USD", server) for language in BOTS]
    for bot in bots:
        bot.says("waiting for a signal")
    admin(server, "/admin/replay/resume")
    orders = [reckoned(bot.orders(8))[:8] for bot in bots]
    assert all(one == orders[0] for one in orders)


def test_an_alert_is_given_once_for_each_crossing(plant, run, tmp_path):
    prices = ["99.5", "100.5", "101", "100", "99", "100.1", "42.0", "41.9", "200"]
    rows = [trade_row(number, price) for number, price in enumerate(prices, 1)]
    server = plant("--feed", f"recording:{recording(tmp_path, rows)}", "--start-on-first-subscriber")
    alert = run(
        *typescript("alert.ts", "BTCUSDT>100", "BTCUSDT<42.00", "BTCUSDT>199.99"),
        cwd=TYPESCRIPT,
        env={"TICKER_URL": server.http},
    )
    alert.says("199.99")
    assert alert.lines == [
        "BTCUSDT>100: 100.5 (trade 2)",
        "BTCUSDT>100: 100.1 (trade 6)",
        "BTCUSDT<42.00: 41.9 (trade 8)",
        "BTCUSDT>100: 200.0 (trade 9)",
        "BTCUSDT>199.99: 200.0 (trade 9)",
    ]


@pytest.mark.parametrize(
    ("wish", "code", "complaint"), [("BTC-USD=1", 2, "not of the form"), ("NOPE>1", 1, "do not exist")]
)
def test_an_alert_says_what_it_cannot_watch(plant, run, wish, code, complaint):
    alert = run(*typescript("alert.ts", wish), cwd=TYPESCRIPT, env={"TICKER_URL": plant().http})
    alert.says(complaint)
    assert alert.process.wait(WAIT_S) == code


def test_a_csv_file_has_every_number_or_a_row_that_names_it(plant, run):
    server = plant(*BUSY)
    logger = run(RUST / "csv_logger", server.ws, "BTC-USD", "ETH-USD")
    before = len(logger.until(lambda lines: len(lines) > 300))
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    plant(*BUSY, listen=server.address)
    anew = logger.says(",epoch,", before)
    lines = logger.until(lambda lines: len(lines) > anew + 300)[:-1]
    last, epochs = {}, 0
    for channel, kind, symbol, seq, _, first, *_ in csv.reader(line for line in lines[1:] if line.count(",") == 8):
        stream = (channel, symbol)
        match kind:
            case "epoch":
                last, epochs = {}, epochs + 1
            case "gap":
                assert int(first) == last.get(stream, int(first) - 1) + 1
                last[stream] = int(seq)
            case _:
                assert int(seq) == last.get(stream, int(seq) - 1) + 1
                last[stream] = int(seq)
    assert epochs == 1
    assert len(last) == 4, "trades and quotes of two symbols"


@pytest.mark.parametrize("language", ["rust", "python", "csv"])
def test_without_a_server_an_example_says_so_in_one_line(run, language):
    nowhere = SimpleNamespace(http="http://127.0.0.1:9", ws="ws://127.0.0.1:9/ws")
    command = [RUST / "csv_logger", nowhere.ws] if language == "csv" else BOTS[language]("BTC-USD", nowhere)
    program = run(*command, env={"PYTHONPATH": str(plants.ROOT / "sdk/python/src")})
    assert program.process.wait(WAIT_S) == 1
    (line,) = program.until(bool)
    assert "nobody listens there" in line
