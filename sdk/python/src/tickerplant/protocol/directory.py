"""Which instrument a number or a symbol of an element means.

Invariant: numbers hold for an epoch; another one begins with an empty directory.
"""

from __future__ import annotations

from .elements import InstrumentTerms

INSTRUMENTS_MAX = 1 << 20
"""More are dropped instead of filling the memory; about 300 bytes each."""


class Directory:
    """What is known of instruments."""

    def __init__(self) -> None:
        self.by_id: dict[int, InstrumentTerms] = {}
        self.by_symbol: dict[str, InstrumentTerms] = {}

    def learn(self, terms: InstrumentTerms) -> InstrumentTerms | None:
        """Takes in an instrument; what was known of that number stays."""
        known = self.by_id.get(terms.id)
        if known is None and len(self.by_id) < INSTRUMENTS_MAX:
            self.by_id[terms.id] = known = terms
            self.by_symbol[terms.symbol] = terms
        return known

    def clear(self) -> None:
        """Another epoch begins."""
        self.by_id.clear()
        self.by_symbol.clear()
