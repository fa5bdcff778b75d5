//! Which instruments a `*` stands for, where a client is not entitled to all.
//!
//! **Invariant:** a scope has a bit for every instrument that the shard knows, so the hot path asks a table and never
//! compares symbols. Equal sets of symbols are one scope, so sessions of different keys with the same entitlement share
//! lanes.

use std::sync::Arc;

use market::InstrumentId;
use rustc_hash::FxHashMap;

use crate::{Catalog, SymbolSet};

/// The instruments of a catalog that a set of symbols allows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Part of the identity of lanes
    pub(crate) id: u32,
    pub(crate) symbols: SymbolSet,
    allowed: Vec<u64>,
}

impl Scope {
    fn new(id: u32, symbols: &SymbolSet, catalog: &Catalog) -> Arc<Self> {
        let mut allowed = vec![0; catalog.len().div_ceil(64)];
        for instrument in catalog.iter().filter(|instrument| symbols.allows(instrument.symbol.as_str())) {
            allowed[instrument.id.index() / 64] |= 1 << (instrument.id.index() % 64);
        }
        Arc::new(Self { id, symbols: symbols.clone(), allowed })
    }

    pub(crate) fn allows(&self, instrument: InstrumentId) -> bool {
        let word = self.allowed.get(instrument.index() / 64).copied().unwrap_or(0);
        word >> (instrument.index() % 64) & 1 == 1
    }
}

/// All scopes in use.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    /// Bounded by the different sets that sessions have: those that nobody holds are forgotten when there are many.
    interned: FxHashMap<SymbolSet, Arc<Scope>>,
    next: u32,
}

/// Scopes after which unused ones are looked for.
const SWEEP_AT: usize = 256;

impl Scopes {
    /// The scope of those symbols; none for all.
    pub(crate) fn of(&mut self, symbols: &SymbolSet, catalog: &Catalog) -> Option<Arc<Scope>> {
        if symbols.is_all() {
            return None;
        }
        if let Some(scope) = self.interned.get(symbols) {
            return Some(Arc::clone(scope));
        }
        if self.interned.len() >= SWEEP_AT {
            self.interned.retain(|_, scope| Arc::strong_count(scope) > 1);
        }
        let scope = Scope::new(self.next, symbols, catalog);
        self.next = self.next.wrapping_add(1);
        self.interned.insert(symbols.clone(), Arc::clone(&scope));
        Some(scope)
    }

    /// Takes in new instruments. Who holds a scope has to ask for it again.
    pub(crate) fn grow(&mut self, catalog: &Catalog) {
        for scope in self.interned.values_mut() {
            *scope = Scope::new(scope.id, &scope.symbols, catalog);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.interned.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::{AssetClass, Instrument, Price, Size, Symbol};

    fn catalog(symbols: &[&str]) -> Catalog {
        let instrument = |(id, symbol): (usize, &&str)| Instrument {
            id: InstrumentId(id as u32),
            symbol: Symbol::new(symbol).unwrap(),
            price_exponent: 0,
            size_exponent: 0,
            tick_size: Price(1),
            lot_size: Size(1),
            class: AssetClass::Crypto,
            currency: "USD".into(),
            description: String::new(),
        };
        Catalog::default().grown_to(&symbols.iter().enumerate().map(instrument).collect::<Vec<_>>())
    }

    #[test]
    fn a_scope_grows_with_the_catalog_and_keeps_its_identity() {
        let mut scopes = Scopes::default();
        let btc = SymbolSet::new(["BTC-*"]).unwrap();
        let before = scopes.of(&btc, &catalog(&["BTC-USD", "ETH-USD"])).unwrap();
        assert!(before.allows(InstrumentId(0)) && !before.allows(InstrumentId(1)) && !before.allows(InstrumentId(2)));
        let grown = catalog(&["BTC-USD", "ETH-USD", "BTC-EUR"]);
        scopes.grow(&grown);
        let after = scopes.of(&btc, &grown).unwrap();
        assert!(after.allows(InstrumentId(2)) && after.id == before.id);
        assert!(scopes.of(&SymbolSet::ALL, &grown).is_none());
    }

    #[test]
    fn scopes_that_nobody_holds_are_forgotten() {
        let (mut scopes, catalog) = (Scopes::default(), catalog(&["A"]));
        let held = scopes.of(&SymbolSet::new(["HELD*"]).unwrap(), &catalog).unwrap();
        for n in 0..10 * SWEEP_AT {
            scopes.of(&SymbolSet::new([format!("S{n}*")]).unwrap(), &catalog);
        }
        assert!(scopes.len() <= SWEEP_AT);
        assert_eq!(scopes.of(&held.symbols, &catalog).unwrap().id, held.id);
    }
}
