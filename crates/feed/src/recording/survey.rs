//! Finds out, before a replay, which instruments the recordings have and which exponents those need.
//!
//! **Invariant:** what is refused in a replay does not stop the survey. A record that cannot be read counts for nothing,
//! and a file that breaks off is surveyed up to there; the replay reports both when it comes to them.
//!
//! Neither format tells the tick size, so it is taken from the values:
//!
//! - The price exponent is the one with the fewest places that holds every price exactly, likewise for sizes. Where no
//!   exponent holds all (a value too large beside one too precise, which happens only in damaged text files), it is the one
//!   that loses the fewest values, and those are bad records.
//! - The tick size is the largest step on whose multiples all prices lie (their greatest common divisor), so it is a
//!   multiple of the true one when a recording is short. From a single price nothing can be told: 1.
//! - The lot size likewise, from the sizes.
//!
//! Recordings that name the same symbol share one instrument.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use market::{Instrument, InstrumentId, Price, Size, Symbol};

use super::decimal::Decimal;
use super::file::{unreadable, unsupported};
use super::record::{BookKind, Extent, Name, RawChange, RawEvent, RawTick, ReadRecords, Step};
use crate::FeedError;

/// More names than all instruments of a large venue; a file with more is not what it seems.
const INSTRUMENTS_MAX: usize = 200_000;

/// What is known of the instruments so far.
#[derive(Default)]
pub(super) struct Survey {
    names: Vec<Name>,
    indices: HashMap<Symbol, usize>,
    prices: Vec<Grid>,
    sizes: Vec<Grid>,
    sources: Vec<Sources>,
}

/// Which files an instrument's quotes and book are taken from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sources {
    pub(super) quotes: Quotes,
    /// Only files of this kind: two books of one instrument would contradict each other
    pub(super) book: Option<BookKind>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Quotes {
    /// No file has quotes, so they are the best levels of the book
    #[default]
    Derived,
    /// A file has them
    Given,
}

impl Survey {
    /// Reads a recording to its end, or to where it cannot be read any further.
    ///
    /// # Errors
    /// [`FeedError`] when not even the first record can be read, or when it names too many instruments.
    pub(super) fn add(&mut self, path: &Path, reader: &mut dyn ReadRecords) -> Result<(), FeedError> {
        let mut ticks = VecDeque::new();
        let mut indices = Vec::new();
        let mut record_count = 0u64;
        loop {
            match reader.read(&mut ticks) {
                Ok(Step::Record) => record_count += 1,
                Ok(Step::End) => return Ok(()),
                Err(error) if error.extent == Extent::RestOfFile => {
                    return if record_count == 0 { Err(unreadable(path, error.reason)) } else { Ok(()) };
                }
                Err(_) => {
                    record_count += 1;
                    continue;
                }
            }
            for name in &reader.names()[indices.len()..] {
                indices.push(self.index_of(name));
            }
            if self.names.len() > INSTRUMENTS_MAX {
                return Err(unsupported(path, format!("it names more than {INSTRUMENTS_MAX} instruments")));
            }
            for tick in ticks.drain(..) {
                self.observe(indices[tick.name], &tick, reader.book_kind());
            }
        }
    }

    fn index_of(&mut self, name: &Name) -> usize {
        *self.indices.entry(name.symbol.clone()).or_insert_with(|| {
            self.names.push(name.clone());
            self.prices.push(Grid::default());
            self.sizes.push(Grid::default());
            self.sources.push(Sources::default());
            self.names.len() - 1
        })
    }

    fn observe(&mut self, index: usize, tick: &RawTick, kind: Option<BookKind>) {
        let (prices, sizes) = (&mut self.prices[index], &mut self.sizes[index]);
        let sources = &mut self.sources[index];
        match tick.event {
            RawEvent::Trade { price, size, .. } => {
                prices.observe(price);
                sizes.observe(size);
            }
            RawEvent::Quote { bid, ask } => {
                sources.quotes = Quotes::Given;
                for level in [bid, ask].into_iter().flatten() {
                    prices.observe(level.price);
                    sizes.observe(level.size);
                }
            }
            RawEvent::Book { change, .. } => {
                sources.book = sources.book.max(kind);
                if let RawChange::Add { price, size, .. }
                | RawChange::Modify { price, size, .. }
                | RawChange::Level { price, size, .. } = change
                {
                    prices.observe(price);
                    sizes.observe(size);
                }
            }
        }
    }

    /// The sources of the instruments, in order of appearance.
    pub(super) fn sources(&self) -> Vec<Sources> {
        self.sources.clone()
    }

    /// The instruments, in order of appearance.
    pub(super) fn into_instruments(self) -> Vec<Instrument> {
        let grids = self.prices.iter().zip(&self.sizes);
        let named = self.names.into_iter().zip(grids).enumerate();
        named
            .map(|(index, (name, (prices, sizes)))| {
                let (price_places, size_places) = (prices.places(), sizes.places());
                Instrument {
                    id: InstrumentId(index as u32),
                    symbol: name.symbol,
                    price_exponent: -(price_places as i8),
                    size_exponent: -(size_places as i8),
                    tick_size: Price(i64::try_from(prices.step(price_places)).unwrap_or(1)),
                    lot_size: Size(u64::try_from(sizes.step(size_places)).unwrap_or(1)),
                    class: name.class,
                    currency: name.currency.to_owned(),
                    description: name.description,
                }
            })
            .collect()
    }
}

const PLACES_COUNT: usize = Decimal::PLACES_MAX as usize + 1;

/// The finest grid on which the observed values lie.
#[derive(Default)]
struct Grid {
    /// How many values need exactly so many places
    needs: [u64; PLACES_COUNT],
    /// How many values can be held with at most so many places
    bears: [u64; PLACES_COUNT],
    /// The greatest common divisor, as an integer of 10^-`step_places`; 0 before the first value other than zero
    step: u128,
    step_places: u8,
    first: Option<Decimal>,
    variety: Variety,
}

#[derive(Default, PartialEq, Eq)]
enum Variety {
    /// All values are the same
    #[default]
    One,
    Several,
}

impl Grid {
    fn observe(&mut self, value: Decimal) {
        let value = value.reduced();
        self.needs[usize::from(value.places())] += 1;
        self.bears[usize::from(most_places(value))] += 1;
        if *self.first.get_or_insert(value) != value {
            self.variety = Variety::Several;
        }
        if value.places() > self.step_places {
            // At most 10^18 beyond a 64-bit integer in all, so 128 bits do not overflow.
            self.step *= 10u128.pow(u32::from(value.places() - self.step_places));
            self.step_places = value.places();
        }
        let factor = 10u128.pow(u32::from(self.step_places - value.places()));
        let magnitude = u128::from(value.mantissa().unsigned_abs()) * factor;
        self.step = common_divisor(self.step, magnitude);
    }

    /// The places that lose the fewest values; the fewest such places.
    fn places(&self) -> u8 {
        let lost = |places: usize| -> u64 {
            let too_precise: u64 = self.needs[places + 1..].iter().sum();
            let too_large: u64 = self.bears[..places].iter().sum();
            too_precise + too_large
        };
        (0..PLACES_COUNT).min_by_key(|places| lost(*places)).unwrap_or(0) as u8
    }

    /// The step as an integer of 10^-`places`; at least 1.
    fn step(&self, places: u8) -> u128 {
        if self.variety == Variety::One {
            return 1;
        }
        let step = if places >= self.step_places {
            self.step * 10u128.pow(u32::from(places - self.step_places))
        } else {
            self.step / 10u128.pow(u32::from(self.step_places - places))
        };
        step.max(1)
    }
}

/// The most places with which the value fits into 64 bits.
fn most_places(value: Decimal) -> u8 {
    (value.places()..=Decimal::PLACES_MAX).rev().find(|places| value.at(*places).is_some()).unwrap_or(value.places())
}

fn common_divisor(a: u128, b: u128) -> u128 {
    // Nearly always `a` is the step already and divides `b`.
    let (mut a, mut b) = (b, a);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(values: &[&str]) -> (u8, u128) {
        let mut grid = Grid::default();
        for value in values {
            grid.observe(Decimal::from_text(value).unwrap());
        }
        (grid.places(), grid.step(grid.places()))
    }

    #[test]
    fn grids_are_as_coarse_as_the_values_allow() {
        for (values, want) in [
            (&["5512.75", "5512.50", "5513"][..], (2, 25)),
            (&["5512.75"], (2, 1)),
            (&["5512.75", "5512.75"], (2, 1)),
            (&["1", "2", "7"], (0, 1)),
            (&["100", "300"], (0, 100)),
            (&["0.001", "2"], (3, 1)),
            (&["0.5", "0", "-1.5"], (1, 5)),
            (&["0", "0"], (0, 1)),
            (&[], (0, 1)),
            (&["1e-05", "3"], (5, 1)),
        ] {
            assert_eq!(grid(values), want, "{values:?}");
        }
    }

    #[test]
    fn one_absurd_value_does_not_spoil_the_others() {
        assert_eq!(grid(&["9682.1", "9682.3", "0.000000000000000001"]).0, 1);
        assert_eq!(grid(&["9682.1", "9682.3", "9000000000000000000"]).0, 1);
    }
}
