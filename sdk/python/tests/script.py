"""An engine and what a test says in the place of the server."""

from __future__ import annotations

import msgpack

from tickerplant.engine import Close, Config, Connect, Engine, Now, Send

WELCOME = {
    "type": "welcome",
    "version": "1",
    "session": "s",
    "epoch": "e1",
    "time": 0,
    "heartbeat_ms": 10_000,
    "limits": {"message_bytes_max": 65536, "commands_per_s": 10, "commands_burst": 50},
}
INSTRUMENTS = [["A", 1, -2, 0], ["B", 2, -2, 0]]


class Script:
    """Draws are 0.5, so that each pause is half of its bound."""

    def __init__(self, **config):
        self.at = 100.0
        self.engine = Engine(Config(**config), self.now, lambda: 0.5)

    @property
    def now(self):
        return Now(self.at, 1_000_000_000_000 + round(self.at * 1e9))

    def actions(self):
        found = []
        while (action := self.engine.action(self.now)) is not None:
            found.append(action)
        return found

    def commands(self, *ops):
        """What is sent, pings aside unless they are asked for."""
        sent = [msgpack.unpackb(action.payload) for action in self.actions() if isinstance(action, Send)]
        return [command for command in sent if command["op"] in ops or (not ops and command["op"] != "ping")]

    def say(self, *messages):
        for message in messages:
            self.engine.message(msgpack.packb(message), self.now)

    def open(self, **welcome):
        assert self.actions()[-1] == Connect()
        self.engine.connected(self.now)
        self.say(WELCOME | welcome)
        return self

    def subscribed(self, number, channels=("trades",), **more):
        answer = {"type": "subscribed", "id": number, "instruments": INSTRUMENTS, "channels": list(channels)}
        self.say(answer | {"mode": "every", "interval_ms": 0, "recovered": {}} | more)

    def trades(self, *numbers, instrument=1, snapshot=False):
        elements = [[1, instrument, number, 5, 100 + number, 1, 1, 0] for number in numbers]
        self.say([9, [0, len(elements)], *elements] if snapshot else [9, *elements])

    def events(self, *types):
        events = self.engine.take_events()
        return [event for event in events if isinstance(event, types)] if types else events

    def pass_time(self, seconds):
        self.at += seconds
        self.engine.timeout(self.now)

    def closes(self):
        return any(isinstance(action, Close) for action in self.actions())
