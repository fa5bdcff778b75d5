//! What is quoted around a fair value, and traded against the quotes.
//!
//! **Invariant:** after the first quote the bid is below the ask, both are whole ticks above zero and have whole lots to
//! give; a trade is at the bid or the ask as last quoted and takes no more than is left there; a quote differs from the
//! one before.

use market::{Level, Price, Quote, Side, Size, Trade};

use crate::fair_value::{Fair, ProcessId};
use crate::random::Random;

/// What is fixed about an instrument's market.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// What it follows.
    pub(crate) process: ProcessId,
    /// Its price at the process's base, in ticks.
    pub(crate) base_ticks: f64,
    /// The usual spread in ticks, at least 1.
    pub(crate) spread_ticks: f64,
    /// The usual size of a quote in round lots, and the lots that make a round one.
    pub(crate) quote_scale: f64,
    pub(crate) round_lots: u64,
    /// The usual size of a trade in lots.
    pub(crate) trade_scale: f64,
    /// In units of the instrument's exponents.
    pub(crate) tick_size: Price,
    pub(crate) lot_size: Size,
}

/// The best bid and ask of one instrument.
#[derive(Clone, Debug)]
pub(crate) struct TopOfBook {
    terms: Terms,
    /// In ticks and lots.
    bid: Best,
    ask: Best,
    /// As last quoted, before trades took from it.
    quoted: (Best, Best),
    state: State,
    /// How far recent trades push the quotes, in spreads.
    pressure: f64,
    last_side: Side,
    trade_count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Best {
    ticks: i64,
    lots: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unquoted,
    Quoted,
    /// A trade has taken all there was on one side; the next tick is a quote.
    BidTaken,
    AskTaken,
}

/// How far a trade pushes, and how much of that a quote keeps.
const PUSH: f64 = 0.25;
const PUSH_KEPT: f64 = 0.8;
/// How often a quote keeps the width of the spread.
const WIDTH_KEPT: f64 = 0.75;
/// How often an aggressor is on the same side as the one before, whatever the price.
const SIDE_KEPT: f64 = 0.3;

impl TopOfBook {
    pub(crate) fn new(terms: Terms) -> Self {
        let nothing = Best { ticks: 0, lots: 0 };
        Self {
            terms,
            bid: nothing,
            ask: nothing,
            quoted: (nothing, nothing),
            state: State::Unquoted,
            pressure: 0.0,
            last_side: Side::Buy,
            trade_count: 0,
        }
    }

    pub(crate) fn process(&self) -> ProcessId {
        self.terms.process
    }

    /// Whether there is something to trade with on both sides.
    pub(crate) fn can_trade(&self) -> bool {
        self.state == State::Quoted
    }

    /// The next quote.
    pub(crate) fn quote(&mut self, fair: Fair, random: &mut Random) -> Quote {
        let center = self.fair_ticks(fair) + self.pressure * self.terms.spread_ticks;
        self.pressure *= PUSH_KEPT;
        let width = self.width(fair, random);
        let bid_ticks = ((center - width as f64 / 2.0 + 0.5).floor() as i64).max(1);
        let ask_ticks = bid_ticks + width;
        // A side that was taken is quoted farther out next, unless it is far out already: the bound holds for ever.
        let (bid_ticks, ask_ticks) = match self.state {
            State::BidTaken if self.bid.ticks > 1 && bid_ticks - self.bid.ticks < self.width_max() => {
                (bid_ticks.min(self.bid.ticks - 1), ask_ticks)
            }
            State::AskTaken if self.ask.ticks - ask_ticks < self.width_max() => {
                (bid_ticks, ask_ticks.max(self.ask.ticks + 1))
            }
            _ => (bid_ticks, ask_ticks),
        };

        let before = (self.bid, self.ask);
        // At the same prices one side's size changes; at new prices there is new interest.
        let same = (bid_ticks, ask_ticks) == (before.0.ticks, before.1.ticks);
        let redraw_bid = same && random.chance(0.5);
        if bid_ticks != before.0.ticks || redraw_bid || self.bid.lots == 0 {
            self.bid = Best { ticks: bid_ticks, lots: self.quote_lots(random) };
        }
        if ask_ticks != before.1.ticks || (same && !redraw_bid) || self.ask.lots == 0 {
            self.ask = Best { ticks: ask_ticks, lots: self.quote_lots(random) };
        }
        // A quote says something new, both to who has seen the trades and to who has not. Two rounds at most.
        while (self.bid, self.ask) == before || (self.bid, self.ask) == self.quoted {
            self.bid.lots += self.terms.round_lots;
        }
        self.quoted = (self.bid, self.ask);
        self.state = State::Quoted;
        Quote { bid: Some(self.level(self.bid)), ask: Some(self.level(self.ask)) }
    }

    /// The next trade; only when [`TopOfBook::can_trade`].
    pub(crate) fn trade(&mut self, fair: Fair, random: &mut Random) -> Trade {
        debug_assert!(self.can_trade(), "a trade needs a quote");
        let side = self.aggressor(fair, random);
        let wanted = self.trade_lots(random);
        let (best, taken, push) = match side {
            Side::Sell => (&mut self.bid, State::BidTaken, -PUSH),
            _ => (&mut self.ask, State::AskTaken, PUSH),
        };
        let lots = wanted.min(best.lots);
        best.lots -= lots;
        if best.lots == 0 {
            self.state = taken;
        }
        let price = Price(best.ticks * self.terms.tick_size.0);
        self.pressure = (self.pressure + push).clamp(-2.0, 2.0);
        self.last_side = side;
        self.trade_count += 1;
        Trade { price, size: Size(lots * self.terms.lot_size.0), side, trade_id: self.trade_count }
    }

    fn fair_ticks(&self, fair: Fair) -> f64 {
        self.terms.base_ticks * (1.0 + fair.deviation)
    }

    /// Wider when the market is excited.
    fn width(&self, fair: Fair, random: &mut Random) -> i64 {
        let width = self.ask.ticks - self.bid.ticks;
        if self.state == State::Quoted && width <= self.width_max() && random.chance(WIDTH_KEPT) {
            return width;
        }
        let usual = self.terms.spread_ticks * (0.75 + 0.25 * fair.volatility);
        let drawn = usual * (0.7 + 0.3 * random.exponential());
        ((drawn + 0.5) as i64).clamp(1, self.width_max())
    }

    fn width_max(&self) -> i64 {
        (6.0 * self.terms.spread_ticks) as i64 + 2
    }

    fn quote_lots(&self, random: &mut Random) -> u64 {
        random.heavy_tailed(self.terms.quote_scale) * self.terms.round_lots
    }

    /// Half of the trades are round where quotes are.
    fn trade_lots(&self, random: &mut Random) -> u64 {
        let lots = random.heavy_tailed(self.terms.trade_scale);
        let round = self.terms.round_lots;
        if round > 1 && random.chance(0.5) { lots.div_ceil(round) * round } else { lots }
    }

    /// Buyers come when the fair value is above the middle of the quotes, and buyers follow buyers.
    fn aggressor(&self, fair: Fair, random: &mut Random) -> Side {
        if random.chance(SIDE_KEPT) {
            return self.last_side;
        }
        let middle = (self.bid.ticks + self.ask.ticks) as f64 / 2.0;
        let ahead = ((self.fair_ticks(fair) - middle) / self.terms.spread_ticks).clamp(-1.0, 1.0);
        if random.chance(0.5 + 0.3 * ahead) { Side::Buy } else { Side::Sell }
    }

    fn level(&self, best: Best) -> Level {
        Level { price: Price(best.ticks * self.terms.tick_size.0), size: Size(best.lots * self.terms.lot_size.0) }
    }
}
