"""Messages and elements per second through the engine, from the payload of a frame to typed events in order, of both
encodings: `make bench-sdk`.

Each figure is the best of several rounds, in processor time. A message has 20 elements, trades and quotes in turn, as a lively
market's frames do; then the same with one element. The Rust SDK's bench (`crates/client/benches/decode.rs`) has the same
frames.
"""

import json
import sys
import time
from pathlib import Path

import msgpack

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from tickerplant import Ticket
from tickerplant.engine import Config, Engine, Now
from tickerplant.subscription import subscription

ROUNDS = 5
ELEMENTS = 40_000
SENT_AT = 1_719_840_600_000_000_001
TIME = "2024-07-01T13:30:00.000000001Z"
NOW = Now(0.0, 0)
WRITE = {"msgpack": msgpack.packb, "json": lambda message: json.dumps(message, separators=(",", ":"))}


def packed(seq, quote):
    price = 6_700_000 + seq % 1000
    return [2, 7, seq, SENT_AT, price, 12_345, price + 1, 5] if quote else [1, 7, seq, SENT_AT, price, 12_345, 1, seq]


def plain(seq, quote):
    price = 6_700_000 + seq % 1000
    head = {"type": "quote" if quote else "trade", "symbol": "BTC-USD", "seq": seq, "time": TIME}
    bid, ask = (f"{value // 100}.{value % 100:02}" for value in (price, price + 1))
    if quote:
        return head | {"bid": bid, "bid_size": "1.2345", "ask": ask, "ask_size": "0.0005"}
    return head | {"price": bid, "size": "1.2345", "side": "buy", "trade_id": seq}


def frames(encoding, per_message):
    made = []
    for first in range(0, ELEMENTS, per_message):
        numbers = [(number // 2 + 1, bool(number % 2)) for number in range(first, first + per_message)]
        if encoding == "msgpack":
            made.append(msgpack.packb([SENT_AT, *(packed(*number) for number in numbers)]))
        else:
            data = [plain(*number) for number in numbers]
            made.append(WRITE["json"]({"sent_at": TIME, "data": data}))
    return made


def engine(encoding):
    opened = Engine(Config(encoding=encoding), NOW)
    opened.connected(NOW)
    opened.subscribe(Ticket(1), subscription(["trades", "quotes"], "*"))
    welcome = {"type": "welcome", "version": "1", "session": "s", "epoch": "e", "time": SENT_AT, "heartbeat_ms": 0}
    opened.message(WRITE[encoding](welcome | ({"time": TIME} if encoding == "json" else {})), NOW)
    answer = {"type": "subscribed", "id": 1, "instruments": [["BTC-USD", 7, -2, -4]], "channels": ["trades", "quotes"]}
    opened.message(WRITE[encoding](answer | {"mode": "every", "interval_ms": 0, "recovered": {}}), NOW)
    opened.take_events()
    return opened


def best(encoding, messages):
    fastest = float("inf")
    for _ in range(ROUNDS):
        opened = engine(encoding)
        began = time.process_time()
        events = 0
        for payload in messages:
            opened.message(payload, NOW)
            events += len(opened.take_events())
        fastest = min(fastest, time.process_time() - began)
        assert events == ELEMENTS, "an event for each element"
    return fastest


def main():
    for per_message in (20, 1):
        for encoding in ("msgpack", "json"):
            messages = frames(encoding, per_message)
            took = best(encoding, messages)
            size = sum(len(message) for message in messages) // len(messages)
            print(
                f"python      {encoding:8} {per_message:3} per message  {len(messages) / took:12,.0f} messages/s"
                f"  {ELEMENTS / took:12,.0f} elements/s  {size:6} B a message"
            )


main()
