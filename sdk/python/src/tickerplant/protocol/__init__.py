"""The protocol `ticker.v1` as values: bytes in, checked types out, and commands the other way.

Invariant: everything here is a pure function of its arguments; no bytes of a peer raise anything but `ProtocolError`.
"""
