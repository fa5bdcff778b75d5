"""What decides: a machine without sockets and without a clock. What happened and the time go in, events and wishes for the
socket come out.

Invariant: whatever the server and the network do, the events of a stream in mode `every` are each number once, in order, or
a gap that names what is missing.
"""

from .actions import Action, Close, Config, Connect, FetchInstruments, Now, Send
from .backoff import Backoff
from .clock import Clock
from .machine import Engine
from .route import Transport
from .tape import Counters

__all__ = [
    "Action",
    "Backoff",
    "Clock",
    "Close",
    "Config",
    "Connect",
    "Counters",
    "Engine",
    "FetchInstruments",
    "Now",
    "Send",
    "Transport",
]
