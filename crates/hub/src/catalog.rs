//! The instruments of the epoch, shared between the sequencer, the shards and the REST side.
//!
//! **Invariant:** the list only grows; an instrument's id is its index.

use std::sync::Arc;

use market::{Instrument, InstrumentId};
use rustc_hash::FxHashMap;

/// All instruments known so far. Immutable: a feed that brings a new one leads to a new catalog.
#[derive(Debug, Default)]
pub struct Catalog {
    instruments: Vec<Arc<Instrument>>,
    by_symbol: FxHashMap<Box<str>, InstrumentId>,
}

impl Catalog {
    /// A catalog of the instruments of `self` and those of `all` that it does not have yet.
    pub(crate) fn grown_to(&self, all: &[Instrument]) -> Self {
        let mut instruments = self.instruments.clone();
        let mut by_symbol = self.by_symbol.clone();
        for instrument in all.iter().skip(instruments.len()) {
            debug_assert_eq!(instrument.id.index(), instruments.len(), "a feed numbers its instruments densely");
            by_symbol.insert(instrument.symbol.as_str().into(), instrument.id);
            instruments.push(Arc::new(instrument.clone()));
        }
        Self { instruments, by_symbol }
    }

    /// The instrument of that name, if there is one.
    pub fn by_symbol(&self, symbol: &str) -> Option<&Instrument> {
        self.by_symbol.get(symbol).and_then(|id| self.get(*id))
    }

    /// The instrument of that number, if there is one.
    pub fn get(&self, id: InstrumentId) -> Option<&Instrument> {
        self.instruments.get(id.index()).map(AsRef::as_ref)
    }

    /// All instruments, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Instrument> {
        self.instruments.iter().map(AsRef::as_ref)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.instruments.len()
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.instruments.is_empty()
    }
}
