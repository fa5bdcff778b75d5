//! The simulator itself: virtual time in, ticks out.
//!
//! **Invariant:** what comes out does not depend on how the calls cut the time: any sequence of [`Simulator::advance`]
//! up to an instant gives the same ticks, none later than it was asked for.

use std::time::Duration;

use market::{Event, Instrument, Tick, Timestamp};

use crate::arrivals::{Arrival, Arrivals, Bursts, Kind, Metronome};
use crate::catalog::Catalog;
use crate::config::{Config, ConfigError, Scenario};
use crate::fair_value::FairValues;
use crate::random::{Random, Stream};
use crate::script::Script;
use crate::top_of_book::TopOfBook;
use crate::venue::Venue;

/// How often a tick is a trade where it can be one. Where a trade has taken all there was a quote must follow; so this
/// makes one tick in five a trade.
const TRADES: f64 = 0.211;

/// A market in virtual time.
#[derive(Clone, Debug)]
pub struct Simulator {
    instruments: Vec<Instrument>,
    engine: Engine,
    begin: Timestamp,
}

#[derive(Clone, Debug)]
enum Engine {
    Quotes(Box<Quotes>),
    Venue(Box<Venue>),
}

/// A market of best bids and offers, without what is behind them.
#[derive(Clone, Debug)]
struct Quotes {
    books: Vec<TopOfBook>,
    values: FairValues,
    prices: Random,
    arrivals: Arrivals,
    /// The tick that is due next; its event is decided when it is handed over.
    next: Arrival,
}

/// What follows after a call of [`Simulator::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More ticks are due already.
    Ready,
    /// The next tick is due at that instant of virtual time.
    At(Duration),
}

impl Simulator {
    /// A market at its beginning.
    ///
    /// # Errors
    /// [`ConfigError`] names the value that is out of its range.
    #[expect(clippy::needless_pass_by_value, reason = "a simulator is made from its configuration, which may grow")]
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(match Script::of(config.scenario) {
            Some(script) => Self::play(&config, script),
            None => Self::quotes(&config),
        })
    }

    /// A market with order books, in which happens what the script says; the configuration's scenario does not matter.
    ///
    /// # Errors
    /// [`ConfigError`] names the value that is out of its range.
    #[expect(clippy::needless_pass_by_value, reason = "a simulator is made from its configuration, which may grow")]
    pub fn scripted(config: Config, script: Script) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self::play(&config, script))
    }

    fn play(config: &Config, script: Script) -> Self {
        let (venue, instruments) = Venue::new(config.seed, config.rate, Catalog::new(config.symbols), script);
        Self { instruments, engine: Engine::Venue(Box::new(venue)), begin: Timestamp::default() }
    }

    fn quotes(config: &Config) -> Self {
        let Config { seed, symbols, rate, scenario } = *config;
        let Catalog { instruments, terms, mut values } = Catalog::new(symbols);
        let mut prices = Random::new(seed, Stream::Prices);
        values.scatter(&mut prices);
        let mut arrivals = match scenario {
            Scenario::Uniform => Arrivals::Metronome(Metronome::new(symbols, rate)),
            _ => Arrivals::Bursts(Box::new(Bursts::new(Random::new(seed, Stream::Arrivals), symbols, rate))),
        };
        let next = arrivals.next();
        let books = terms.into_iter().map(TopOfBook::new).collect();
        let quotes = Quotes { books, values, prices, arrivals, next };
        Self { instruments, engine: Engine::Quotes(Box::new(quotes)), begin: Timestamp::default() }
    }

    /// All instruments, the most active first; the index of each is its id. They are the same for all seeds.
    pub fn instruments(&self) -> &[Instrument] {
        &self.instruments
    }

    /// Sets the instant at which virtual time is zero, for the ticks that are still to come; 1970 until then.
    pub fn begin_at(&mut self, begin: Timestamp) {
        self.begin = begin;
    }

    /// Appends the ticks that are due at `until`, counted from the begin, at most `ticks_max` of them.
    pub fn advance(&mut self, until: Duration, ticks_max: usize, out: &mut Vec<Tick>) -> Next {
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        let due = match &mut self.engine {
            Engine::Quotes(quotes) => quotes.advance(until, ticks_max, self.begin, out),
            Engine::Venue(venue) => venue.advance(until, ticks_max, self.begin, out),
        };
        if due <= until { Next::Ready } else { Next::At(Duration::from_nanos(due)) }
    }
}

impl Quotes {
    /// Hands over what is due at `until`, at most `ticks_max`; when the next tick is due.
    fn advance(&mut self, until: u64, ticks_max: usize, begin: Timestamp, out: &mut Vec<Tick>) -> u64 {
        for _ in 0..ticks_max {
            if self.next.at > until {
                break;
            }
            out.push(self.take_next(begin));
        }
        self.next.at
    }

    fn take_next(&mut self, begin: Timestamp) -> Tick {
        let following = self.arrivals.next();
        let Arrival { at, instrument, kind } = std::mem::replace(&mut self.next, following);
        let book = &mut self.books[instrument.index()];
        let fair = self.values.at(book.process(), at, &mut self.prices);
        let trade = book.can_trade()
            && match kind {
                Kind::Any => self.prices.chance(TRADES),
                Kind::Quote => false,
                Kind::Trade => true,
            };
        let event = if trade {
            Event::Trade(book.trade(fair, &mut self.prices))
        } else {
            Event::Quote(book.quote(fair, &mut self.prices))
        };
        Tick { instrument, time: begin + Duration::from_nanos(at), event }
    }
}
