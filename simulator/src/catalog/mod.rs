//! The instruments of the simulated market.
//!
//! **Invariant:** the list is the same for every seed, and a shorter list is the beginning of a longer one; an
//! instrument's place is its rank by activity. Names and price levels are realistic, prices are not anybody's.

mod crypto;
mod equities;
mod futures;

use std::collections::{HashMap, HashSet};

use market::{AssetClass, Instrument, InstrumentId, Price, Size, Symbol};

use crate::fair_value::{FairValues, ProcessId};
use crate::top_of_book::Terms;

/// The instruments, how each is traded, and what they follow.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    pub(crate) instruments: Vec<Instrument>,
    pub(crate) terms: Vec<Terms>,
    pub(crate) values: FairValues,
}

/// An instrument before it has its number.
#[derive(Clone, Debug)]
struct Listing {
    symbol: String,
    description: String,
    currency: String,
    class: AssetClass,
    price_exponent: i8,
    tick_size: i64,
    size_exponent: i8,
    /// The usual price.
    price: f64,
    process: ProcessId,
    spread_ticks: f64,
    quote_scale: f64,
    round_lots: u64,
    trade_scale: f64,
}

impl Catalog {
    /// The `symbols` most active instruments. The classes take turns: a coin, a share, a future.
    pub(crate) fn new(symbols: usize) -> Self {
        let mut underlyings = Underlyings::default();
        let crypto = crypto::listings(&mut underlyings);
        let futures = futures::listings(&mut underlyings);
        let equities = equities::listings(&mut underlyings, symbols);
        let mut classes = [crypto.into_iter(), equities.into_iter(), futures.into_iter()];

        let mut catalog = Self { instruments: Vec::new(), terms: Vec::new(), values: FairValues::default() };
        let mut known = HashSet::new();
        while catalog.instruments.len() < symbols {
            let mut ended = 0;
            for class in &mut classes {
                match class.next() {
                    Some(listing) if catalog.instruments.len() < symbols => catalog.list(listing, &mut known),
                    Some(_) => {}
                    None => ended += 1,
                }
            }
            // Cannot be: there are as many equities as symbols are wanted, and more. But a loop needs an end.
            if ended == classes.len() {
                break;
            }
        }
        catalog.values = underlyings.values;
        catalog
    }

    /// Appends it, unless the name is taken.
    fn list(&mut self, listing: Listing, known: &mut HashSet<String>) {
        let Ok(symbol) = Symbol::new(&listing.symbol) else { return };
        if !known.insert(listing.symbol) {
            return;
        }
        let unit = power_of_ten(listing.price_exponent);
        // At least 200 ticks, so that even the lowest value leaves room for bid and ask above zero.
        let base_ticks = (listing.price / unit / listing.tick_size as f64 + 0.5).floor().max(200.0);
        let (tick_size, lot_size) = (Price(listing.tick_size), Size(1));
        self.terms.push(Terms {
            process: listing.process,
            base_ticks,
            spread_ticks: listing.spread_ticks.clamp(1.0, (base_ticks * 0.01).max(1.0)),
            quote_scale: listing.quote_scale.max(1.0),
            round_lots: listing.round_lots,
            trade_scale: listing.trade_scale.max(1.0),
            tick_size,
            lot_size,
        });
        self.instruments.push(Instrument {
            id: InstrumentId(self.instruments.len() as u32),
            symbol,
            price_exponent: listing.price_exponent,
            size_exponent: listing.size_exponent,
            tick_size,
            lot_size,
            class: listing.class,
            currency: listing.currency,
            description: listing.description,
        });
    }
}

/// The processes by name, so that what has the same underlying follows the same value.
#[derive(Debug, Default)]
struct Underlyings {
    values: FairValues,
    by_name: HashMap<String, ProcessId>,
}

impl Underlyings {
    /// The process `name`, if there is one.
    fn find(&self, name: &str) -> Option<ProcessId> {
        self.by_name.get(name).copied()
    }

    /// A new process `name` of `group`, which is made if need be with that member's movement.
    fn add(&mut self, name: String, sigma: f64, group: &str) -> ProcessId {
        let group = match self.find(group) {
            Some(id) => id,
            None => *self.by_name.entry(group.to_owned()).or_insert_with(|| self.values.add(sigma)),
        };
        let id = self.values.add_member(sigma, group);
        self.by_name.insert(name, id);
        id
    }
}

/// The rows of a table: comma-separated, `#` begins a remark. Rows that have not `N` fields are left out; a test sees
/// that there are none.
fn rows<const N: usize>(table: &str) -> impl Iterator<Item = [&str; N]> {
    table
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .filter_map(|line| line.split(',').collect::<Vec<_>>().try_into().ok())
}

/// 10^`exponent`, by multiplication and one division: `powi` may round differently elsewhere.
fn power_of_ten(exponent: i8) -> f64 {
    let magnitude = (0..exponent.unsigned_abs()).fold(1.0, |power, _| power * 10.0);
    if exponent < 0 { 1.0 / magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_tables_is_used() {
        fn check<const N: usize>(table: &str) {
            let lines = table.lines().filter(|line| !line.starts_with('#')).count();
            assert_eq!(rows::<N>(table).count(), lines);
        }
        check::<4>(crypto::TABLE);
        check::<3>(equities::TABLE);
        check::<10>(futures::TABLE);
        let mut underlyings = Underlyings::default();
        assert!(crypto::listings(&mut underlyings).len() > 400);
        assert!(futures::listings(&mut underlyings).len() >= 350);
        assert!(equities::listings(&mut underlyings, 0).len() > 340);
    }

    #[test]
    fn there_are_as_many_as_asked_for_and_each_is_sound() {
        let catalog = Catalog::new(10_000);
        assert_eq!(catalog.instruments.len(), 10_000);
        let mut known = HashSet::new();
        for (index, (instrument, terms)) in catalog.instruments.iter().zip(&catalog.terms).enumerate() {
            let symbol = &instrument.symbol;
            assert_eq!(instrument.id.index(), index);
            assert!(known.insert(symbol.clone()), "{symbol} twice");
            assert!(instrument.tick_size.0 >= 1 && instrument.lot_size.0 >= 1, "{symbol}");
            assert!(instrument.price_exponent == 0 || instrument.tick_size.0 % 10 != 0, "{symbol}: exponent too small");
            assert!((-12..=0).contains(&instrument.price_exponent) && (-8..=0).contains(&instrument.size_exponent));
            assert!((200.0..1e9).contains(&terms.base_ticks), "{symbol}: {} ticks", terms.base_ticks);
            // Lines of text are written without escapes.
            let plain = |text: &str| text.bytes().all(|b| (b' '..127).contains(&b) && !b"\"\\,".contains(&b));
            assert!(plain(&instrument.description) && plain(&instrument.currency), "{symbol}");
        }
    }

    #[test]
    fn a_shorter_list_is_the_beginning_of_a_longer_one() {
        let long = Catalog::new(2000);
        for symbols in [1, 2, 3, 10, 999, 1000] {
            assert_eq!(Catalog::new(symbols).instruments, long.instruments[..symbols]);
        }
    }

    #[test]
    fn a_thousand_are_of_three_classes_with_their_tick_sizes() {
        let catalog = Catalog::new(1000);
        for class in [AssetClass::Crypto, AssetClass::Equity, AssetClass::Future] {
            let count = catalog.instruments.iter().filter(|i| i.class == class).count();
            assert!((300..=400).contains(&count), "{count} of {}", class.name());
        }
        let find = |symbol: &str| {
            let found = catalog.instruments.iter().find(|i| i.symbol.as_str() == symbol);
            found.map(|i| (i.price_exponent, i.tick_size.0, i.size_exponent, i.currency.as_str()))
        };
        assert_eq!(find("BTC-USD"), Some((-2, 1, -5, "USD")));
        assert_eq!(find("DOGE-USD"), Some((-5, 1, 0, "USD")));
        assert_eq!(find("AAPL"), Some((-2, 1, 0, "USD")));
        assert_eq!(find("ESZ6"), Some((-2, 25, 0, "USD")));
        assert_eq!(find("ZNZ6"), Some((-6, 15_625, 0, "USD")));
        assert_eq!(find("CLF7"), Some((-2, 1, 0, "USD")));
        assert_eq!(find("6EH7"), Some((-5, 5, 0, "USD")));
    }
}
