"""Starts the real server as a process and ends it.

Not here: talking to it (client.py).
"""

import os
import re
import signal
import subprocess
import threading
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("TICKER_BIN", ROOT / "target/debug/tickerplant"))
LISTENING = re.compile(r"listening on (https?)://([0-9.]+:\d+)")
START_S = 30
# For tests that want every element at a speed at which a client in Python does not keep up: what it has not read yet
# waits at the server, instead of being left out and declared.
PATIENT = ("--outbox-bytes-max", 0)
EXIT_S = 30


def environment():
    """The caller's environment without anything that would configure the server behind a test's back."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TICKERPLANT_")}


def numbers(scraped):
    """What a scrape says: numbers by name, labels included as they are written."""
    lines = scraped.decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] not in ("", "#"))}


class Plant:
    """One running `tickerplant serve`, on a port of the system's choice unless `listen` says otherwise."""

    def __init__(self, *arguments, stderr_path, listen="127.0.0.1:0", env=None, prefix=()):
        command = [*prefix, str(BINARY), "serve", "--listen", listen, *map(str, arguments)]
        self.stderr_path = Path(stderr_path)
        with self.stderr_path.open("wb") as stderr:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, env=environment() | (env or {}), text=True
            )
        self.lines = []
        self.address = None
        self.secure = ""
        self._listening = threading.Event()
        self._printed = threading.Condition()
        # The thread drains stdout to its end, so that the server never blocks on a full pipe.
        self._reader = threading.Thread(target=self._read_stdout, daemon=True)
        self._reader.start()
        if not self._listening.wait(START_S) or self.address is None:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not come up: {self.lines} {self.stderr()}")

    def _read_stdout(self):
        for line in self.process.stdout:
            with self._printed:
                self.lines.append(line.rstrip("\n"))
                self._printed.notify_all()
            if self.address is None and (match := LISTENING.search(line)):
                self.secure = "s" if match[1] == "https" else ""
                self.address = match[2]
                self._listening.set()
        self._listening.set()

    def line(self, word):
        """The line of the report that begins with the word, once it has been printed."""

        def found():
            return next((line for line in self.lines if line.split()[:1] == [word]), None)

        with self._printed:
            if not self._printed.wait_for(found, START_S):
                raise AssertionError(f"no line begins with {word!r}: {self.lines}")
            return found()

    @property
    def http(self):
        return f"http{self.secure}://{self.address}"

    @property
    def ws(self):
        return f"ws{self.secure}://{self.address}/ws"

    @property
    def host_and_port(self):
        host, port = self.address.rsplit(":", 1)
        return host, int(port)

    def metrics(self):
        """A scrape on a connection of its own."""
        with urllib.request.urlopen(f"{self.http}/metrics", timeout=START_S) as response:
            return numbers(response.read())

    def resident_bytes(self):
        return 1024 * int(re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text(), re.M)[1])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stderr(self):
        return self.stderr_path.read_text(errors="replace")

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        """The exit code, once the server has ended by itself."""
        return self.process.wait(EXIT_S)

    def close(self):
        """Ends the server if it still runs. Two signals: clients are not waited for."""
        if self.process.poll() is None:
            self.terminate()
            self.terminate()
            try:
                self.process.wait(EXIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        self._reader.join(EXIT_S)


def run_to_end(*arguments, env=None):
    """Runs the binary with arguments that should make it end by itself."""
    return subprocess.run(
        [str(BINARY), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment() | (env or {}),
        timeout=EXIT_S,
        check=False,
    )
