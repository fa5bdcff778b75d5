//! Which symbol a Databento instrument id stands for, and what the symbol tells about the instrument.
//!
//! **Invariant:** every id has a name; one without a symbol goes by its number.

use std::collections::HashMap;

use dbn::{Metadata, SType};
use market::{AssetClass, InvalidSymbol, Symbol};

use super::super::record::Name;

/// Which symbol an instrument id stands for, and when.
pub(super) struct SymbolTable {
    mappings: HashMap<u32, Vec<Mapping>>,
    /// Names in use, and the index of each
    pub(super) names: Vec<Name>,
    indices: HashMap<Symbol, usize>,
    /// The answer before, since most records are about the instrument of the one before
    last: Option<(u32, usize)>,
    dataset: String,
}

struct Mapping {
    /// The first and the first no longer covered instant, in nanoseconds
    from: u64,
    to: u64,
    symbol: Symbol,
}

impl SymbolTable {
    pub(super) fn new(metadata: &Metadata) -> Self {
        let mut mappings: HashMap<u32, Vec<Mapping>> = HashMap::new();
        for mapping in &metadata.mappings {
            for interval in &mapping.intervals {
                // Either side may be the number, depending on what was asked of Databento.
                let (id, symbol) = match metadata.stype_in {
                    Some(SType::InstrumentId) => (&mapping.raw_symbol, &interval.symbol),
                    _ => (&interval.symbol, &mapping.raw_symbol),
                };
                let (Ok(id), Some(symbol)) = (id.parse(), spell(symbol)) else { continue };
                let [from, to] = [interval.start_date, interval.end_date]
                    .map(|date| u64::try_from(date.midnight().assume_utc().unix_timestamp_nanos()).unwrap_or(0));
                mappings.entry(id).or_default().push(Mapping { from, to, symbol });
            }
        }
        let dataset = metadata.dataset.clone();
        Self { mappings, names: Vec::new(), indices: HashMap::new(), last: None, dataset }
    }

    /// The index of the name of instrument `id` at `receive`. An instrument without a symbol goes by its number.
    pub(super) fn resolve(&mut self, id: u32, receive: u64) -> Result<usize, InvalidSymbol> {
        if let Some((last, index)) = self.last
            && last == id
            && self.mappings.get(&id).is_none_or(|mappings| mappings.len() == 1)
        {
            return Ok(index);
        }
        let symbol = match self.mappings.get(&id).map(Vec::as_slice) {
            Some([only]) => Some(only.symbol.clone()),
            Some(several) => {
                several.iter().find(|m| (m.from..m.to).contains(&receive)).map(|mapping| mapping.symbol.clone())
            }
            None => None,
        };
        let symbol = symbol.map_or_else(|| Symbol::new(&id.to_string()), Ok)?;
        let index = *self.indices.entry(symbol).or_insert_with_key(|symbol| {
            self.names.push(name(symbol, &self.dataset));
            self.names.len() - 1
        });
        self.last = Some((id, index));
        Ok(index)
    }
}

/// The symbol as it is written here: characters that no symbol may have become `_` (CME's user-defined spreads contain
/// spaces). None when it is too long or empty, so that the instrument goes by its number.
fn spell(raw: &str) -> Option<Symbol> {
    let spelled: String =
        raw.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_/:=^".contains(c) { c } else { '_' }).collect();
    Symbol::new(&spelled).ok()
}

fn name(symbol: &Symbol, dataset: &str) -> Name {
    Name {
        symbol: symbol.clone(),
        class: class_of(symbol.as_str(), dataset),
        currency: currency_of(dataset),
        description: format!("{symbol} ({dataset})"),
    }
}

/// Datasets are named after their venue. The venue decides; where it is unknown, the form of the symbol does.
fn class_of(symbol: &str, dataset: &str) -> AssetClass {
    const FUTURES: [&str; 8] = ["GLBX", "IFEU", "IFLL", "IFUS", "NDEX", "XEUR", "XEEE", "XCBF"];
    const EQUITIES: [&str; 12] =
        ["XNAS", "XNYS", "XBOS", "XPSX", "XASE", "XCHI", "XCIS", "ARCX", "BATS", "EDGX", "DBEQ", "EQUS"];
    let venue = dataset.split('.').next().unwrap_or_default();
    if FUTURES.contains(&venue) || (!EQUITIES.contains(&venue) && looks_like_future(symbol)) {
        AssetClass::Future
    } else {
        AssetClass::Equity
    }
}

/// A root, a month code, and one or two digits of the year, such as `ESU4` or `CLZ24`.
fn looks_like_future(symbol: &str) -> bool {
    let root = symbol.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = symbol.len() - root.len();
    let month = root.chars().last().is_some_and(|c| "FGHJKMNQUVXZ".contains(c));
    (1..=2).contains(&digits) && (2..=5).contains(&root.len()) && month
}

/// DBN says nothing about currencies; the European venues quote in euro, the rest in dollars.
fn currency_of(dataset: &str) -> &'static str {
    if ["XEUR", "XEEE", "NDEX"].iter().any(|venue| dataset.starts_with(venue)) { "EUR" } else { "USD" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_dataset_then_the_symbol() {
        for (symbol, dataset, class) in [
            ("ESU4", "GLBX.MDP3", AssetClass::Future),
            ("ES.c.0", "GLBX.MDP3", AssetClass::Future),
            ("AAPL", "XNAS.ITCH", AssetClass::Equity),
            ("ABZ4", "XNAS.ITCH", AssetClass::Equity),
            ("CLZ24", "", AssetClass::Future),
            ("MSFT", "", AssetClass::Equity),
            ("Z4", "", AssetClass::Equity),
        ] {
            assert_eq!(class_of(symbol, dataset), class, "{symbol} {dataset}");
        }
    }

    #[test]
    fn symbols_with_blanks_are_spelled_without() {
        assert_eq!(spell("UD:1V: GN 2508955").unwrap().as_str(), "UD:1V:_GN_2508955");
        assert_eq!(spell(&"X".repeat(40)), None);
        assert_eq!(spell(""), None);
    }
}
