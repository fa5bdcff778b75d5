//! The market of one instrument: its orders, its agents, and what the world sees of them.
//!
//! **Invariant:** what is published agrees to the last lot: the quote is the top of the book after every event, and the
//! trades of an event are exactly what its delta takes from the resting side.
//!
//! | agent | what it does |
//! | --- | --- |
//! | makers, three | quote a ladder of both sides around what they take for the value, shifted by their inventory |
//! | the public | rests orders at distances with a heavy tail, takes them back, and buys and sells in a hurry |
//! | followers | buy what rises and sell what falls |
//! | slicers | work off one large order in slices |
//! | arbitrageurs | take what is offered better than the value, which ties instruments together |

use market::{BookSide, BookSource, Crossing, Event, Price, Quote, Side, Size, Status, StatusCode, Trade};

use super::matching::{Fill, Order, OrderId, Orders, Owner};
use crate::fair_value::Fair;
use crate::random::Random;
use crate::script::Phase;
use crate::top_of_book::Terms;

/// What a script has made of an instrument's market.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions {
    pub(super) depth: f64,
    pub(super) spread: f64,
    pub(super) pressure: f64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { depth: 1.0, spread: 1.0, pressure: 0.0 }
    }
}

const MAKERS: usize = 3;
/// Quotes of a maker on each side.
const LADDER: usize = 8;
/// The most orders of the public that rest; another one takes one back instead.
const PUBLIC_MAX: usize = 250;
/// How many of them there are before the first event.
const PUBLIC_AT_FIRST: usize = 60;
/// A maker's inventory, in usual quotes, that shifts its quotes by a spread.
const INVENTORY_SCALE: f64 = 12.0;
/// How much of the trend is left after another event.
const TREND_KEPT: f64 = 0.97;
/// How often an aggressor is on the same side as the one before, whatever the price.
const SIDE_KEPT: f64 = 0.35;

#[derive(Clone, Debug, Default)]
struct Maker {
    quotes: [[Option<OrderId>; LADDER]; 2],
    /// Lots bought less lots sold
    inventory: i64,
    /// What it thinks of the value that nobody else does, in spreads
    opinion: f64,
}

/// A large order being worked off.
#[derive(Clone, Copy, Debug)]
struct Parent {
    side: BookSide,
    lots: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Pit {
    terms: Terms,
    orders: Orders,
    book: BookSource,
    makers: [Maker; MAKERS],
    public: Vec<OrderId>,
    parent: Option<Parent>,
    phase: Phase,
    /// Movements of the middle, in ticks, fading
    trend: f64,
    middle: Option<f64>,
    last_side: BookSide,
    trade_count: u64,
    quote: Quote,
    touched: Vec<(BookSide, i64)>,
}

/// What an instrument's agents see and draw from.
pub(super) struct Scene<'a> {
    pub(super) fair: Fair,
    /// How far the script has moved the value, as a part of it
    pub(super) offset: f64,
    pub(super) conditions: Conditions,
    pub(super) random: &'a mut Random,
}

impl Pit {
    pub(super) fn new(terms: Terms, phase: Phase) -> Self {
        Self {
            terms,
            orders: Orders::default(),
            book: BookSource::new(Crossing::Allowed),
            makers: Default::default(),
            public: Vec::new(),
            parent: None,
            phase,
            trend: 0.0,
            middle: None,
            last_side: BookSide::Bid,
            trade_count: 0,
            quote: Quote::default(),
            touched: Vec::new(),
        }
    }

    /// One agent acts; what the world sees of it is handed over, often nothing.
    pub(super) fn act(&mut self, scene: &mut Scene<'_>, emit: &mut impl FnMut(Event)) {
        if self.book.is_stale() && self.phase != Phase::Closed {
            self.begin(scene, emit);
        } else {
            match self.phase {
                Phase::Trading => self.trade_on(scene, emit),
                Phase::Auction | Phase::PreOpen => self.gather(scene, emit),
                Phase::Halted if scene.random.chance(0.3) => self.take_back_some(scene),
                Phase::Halted | Phase::Closed => {}
            }
        }
        self.publish(emit);
    }

    /// Another phase begins.
    pub(super) fn enter(&mut self, phase: Phase, reason: &str, emit: &mut impl FnMut(Event)) {
        self.phase = phase;
        match phase {
            Phase::Trading => self.uncross(emit),
            Phase::Closed => self.close(),
            Phase::Auction | Phase::PreOpen | Phase::Halted => {}
        }
        self.publish(emit);
        emit(status(phase, reason));
    }

    /// Fills the book before the first event.
    fn begin(&mut self, scene: &mut Scene<'_>, emit: &mut impl FnMut(Event)) {
        self.book.begin_snapshot();
        for maker in 0..MAKERS {
            self.requote(maker, scene, emit);
        }
        for _ in 0..(PUBLIC_AT_FIRST as f64 * scene.conditions.depth.min(2.0)) as usize {
            self.rest(scene);
        }
    }

    fn trade_on(&mut self, scene: &mut Scene<'_>, emit: &mut impl FnMut(Event)) {
        let pick = scene.random.unit();
        // The more rests, the more is taken back: that balances what comes.
        let takes_back = 0.0016 * self.public.len() as f64;
        match pick {
            p if p < 0.36 => {
                let maker = scene.random.below(MAKERS);
                self.requote(maker, scene, emit);
            }
            p if p < 0.46 => self.hurry(scene, emit),
            p if p < 0.49 => self.follow(scene, emit),
            p if p < 0.53 => self.slice(scene, emit),
            p if p < 0.57 => self.arbitrage(scene, emit),
            p if p < 0.57 + takes_back => self.take_back(scene),
            _ => self.rest(scene),
        }
    }

    /// Before an auction: orders come and go, and may cross.
    fn gather(&mut self, scene: &mut Scene<'_>, emit: &mut impl FnMut(Event)) {
        let pick = scene.random.unit();
        if pick < 0.25 {
            let maker = scene.random.below(MAKERS);
            self.requote(maker, scene, emit);
        } else if pick < 0.4 {
            self.take_back(scene);
        } else {
            let side = self.hurried_side(scene);
            let away = 2.0 * self.spread_ticks(scene) * scene.random.normal();
            let ticks = (self.fair_ticks(scene) + away).floor().max(1.0) as i64;
            let lots = self.trade_lots(2.0, scene);
            self.add_public(Order { side, ticks, lots, owner: Owner::Public(0) }, scene);
        }
    }

    fn take_back_some(&mut self, scene: &mut Scene<'_>) {
        if self.public.len() > PUBLIC_AT_FIRST / 4 {
            self.take_back(scene);
        }
    }

    /// A maker puts its quotes where it wants them, and takes what would cross them.
    fn requote(&mut self, maker: usize, scene: &mut Scene<'_>, emit: &mut impl FnMut(Event)) {
        let spread = self.spread_ticks(scene);
        let usual = self.terms.quote_scale * self.terms.round_lots as f64;
        let Maker { opinion, inventory, .. } = &mut self.makers[maker];
        *opinion = 0.8 * *opinion + 0.12 * scene.random.normal();
        let shift = *opinion - (*inventory as f64 / (usual * INVENTORY_SCALE)).clamp(-3.0, 3.0);
        // What is left of an inventory is hedged elsewhere.
        *inventory -= *inventory / 16;
        let center = self.fair_ticks(scene) + shift * spread;
        let half = (spread * (0.7 + 0.3 * scene.random.exponential()) / 2.0).max(0.5);
        let gap = (0.45 * spread).max(1.0);
        let rungs = ((LADDER as f64 * scene.conditions.depth.min(1.0)).ceil() as usize).clamp(1, LADDER);
        let wanted = |side, rung: usize| {
            let away = half + gap * rung as f64;
            let ticks = if side == BookSide::Bid { (center - away).floor() } else { (center + away).ceil() };
            (ticks as i64).max(1)
        };

        for side in BookSide::ALL {
            for rung in 0..LADDER {
                let Some(id) = self.makers[maker].quotes[side as usize][rung] else { continue };
                // Far quotes are not moved for every step of the value.
                let slack = (rung as f64 * gap * 0.5) as i64;
                let is_near = (self.orders.order(id).ticks - wanted(side, rung)).abs() <= slack;
                if rung >= rungs || !is_near || scene.random.chance(0.06) {
                    self.orders.cancel(id);
                    self.makers[maker].quotes[side as usize][rung] = None;
                }
            }
        }
        if self.phase == Phase::Trading {
            for side in BookSide::ALL {
                let Some(best) = self.orders.best(side.opposite()) else { continue };
                let beyond = if side == BookSide::Bid { wanted(side, 0) - best } else { best - wanted(side, 0) };
                if beyond >= 0 {
                    // What it has taken back is an event of its own, and so is what it takes.
                    self.publish(emit);
                    let lots = scene.random.heavy_tailed(self.terms.quote_scale * 2.0) * self.terms.round_lots;
                    let got = self.take(side, lots, beyond as f64, emit) as i64;
                    self.makers[maker].inventory += if side == BookSide::Bid { got } else { -got };
                    self.publish(emit);
                }
            }
        }
        for side in BookSide::ALL {
            let mut last = None;
            for rung in 0..rungs {
                if let Some(id) = self.makers[maker].quotes[side as usize][rung] {
                    last = Some(self.orders.order(id).ticks);
                    continue;
                }
                let Some(ticks) = self.resting_ticks(side, wanted(side, rung)).filter(|ticks| last != Some(*ticks))
                else {
                    continue;
                };
                last = Some(ticks);
                // Little at the best price, most a few steps behind it.
                let hump = (0.4 + 0.3 * rung as f64).min(1.6) * if rung > 5 { 0.6 } else { 1.0 };
                let lots = scene.random.heavy_tailed(self.terms.quote_scale * hump * scene.conditions.depth.min(4.0));
                let owner = Owner::Maker(maker as u8, rung as u8);
                let order = Order { side, ticks, lots: lots * self.terms.round_lots, owner };
                self.makers[maker].quotes[side as usize][rung] = Some(self.orders.add(order));
            }
        }
    }

    /// Where an order that is to rest can stand: as wanted, or just before the other side. In an auction orders may cross.
    fn resting_ticks(&self, side: BookSide, wanted: i64) -> Option<i64> {
        let ticks = match (self.phase, side, self.orders.best(side.opposite())) {
            (Phase::Trading, BookSide::Bid, Some(ask)) => wanted.min(ask - 1),
            (Phase::Trading, BookSide::Ask, Some(bid)) => wanted.max(bid + 1),
            _ => wanted,
        };
        (ticks >= 1).then_some(ticks)
    }

    /// The public leaves an order.
    fn rest(&mut self, scene: &mut Scene<'_>) {
        let side =
            if scene.random.chance(0.5 + 0.2 * scene.conditions.pressure) { BookSide::Bid } else { BookSide::Ask };
        let spread = self.spread_ticks(scene);
        let fair = self.fair_ticks(scene);
        let is_bid = side == BookSide::Bid;
        let alone = if is_bid { fair - spread } else { fair + spread };
        let from = self.orders.best(side).unwrap_or(alone as i64);
        // Some improve the best price where there is room; the others wait behind it, some of them far away.
        let room = self.room().filter(|room| *room as f64 > 0.8 * spread && *room > 1);
        let away = match room {
            Some(room) if scene.random.chance(0.3) => -1 - scene.random.below((room as usize).div_ceil(4)) as i64,
            _ => (scene.random.heavy_tailed(1.2 * spread) as i64 - 1).min((0.1 * self.terms.base_ticks) as i64),
        };
        let wanted = if is_bid { from - away } else { from + away };
        let Some(ticks) = self.resting_ticks(side, wanted) else { return };
        let lots = self.trade_lots(1.5, scene);
        self.add_public(Order { side, ticks, lots, owner: Owner::Public(0) }, scene);
    }

    fn add_public(&mut self, order: Order, scene: &mut Scene<'_>) {
        if self.public.len() >= PUBLIC_MAX {
            self.take_back(scene);
        }
        let owner = Owner::Public(self.public.len() as u32);
        self.public.push(self.orders.add(Order { owner, ..order }));
    }

    /// The public takes an order back.
    fn take_back(&mut self, scene: &mut Scene<'_>) {
        if self.public.is_empty() {
            return;
        }
        let place = scene.random.below(self.public.len());
        self.orders.cancel(self.public[place]);
        self.forget_public(place);
    }

    fn forget_public(&mut self, place: usize) {
        self.public.swap_remove(place);
        if let Some(moved) = self.public.get(place) {
            self.orders.set_owner(*moved, Owner::Public(place as u32));
        }
    }

    /// The public buys or sells at once, mostly no more than there is at the best price.
    fn hurry(&mut self, scene: &mut Scene<'_>, emit: &mut impl FnMut(Event)) {
        let side = self.hurried_side(scene);
        let mut lots = self.trade_lots(1.0, scene);
        let reach = if scene.random.chance(0.85) {
            lots = lots.min(self.orders.best_lots(side.opposite()));
            0.0
        } else {
            4.0 * self.spread_ticks(scene)
        };
        self.take(side, lots, reach, emit);
    }

    /// Buys what has risen.
    fn follow(&mut self, scene: &mut Scene<'_>, emit: &mut impl FnMut(Event)) {
        if self.trend.abs() < 0.6 * self.spread_ticks(scene) {
            return self.rest(scene);
        }
        let side = if self.trend > 0.0 { BookSide::Bid } else { BookSide::Ask };
        let lots = self.trade_lots(1.5, scene);
        self.take(side, lots, self.spread_ticks(scene), emit);
    }

    /// Works off the large order, or begins one.
    fn slice(&mut self, scene: &mut Scene<'_>, emit: &mut impl FnMut(Event)) {
        let Some(parent) = self.parent else {
            if scene.random.chance(0.1) {
                let side = self.hurried_side(scene);
                let lots = self.trade_lots(1.0, scene) * (20 + scene.random.below(100) as u64);
                self.parent = Some(Parent { side, lots });
            }
            return self.rest(scene);
        };
        let slice = self.trade_lots(1.2, scene).min(parent.lots);
        let taken = self.take(parent.side, slice, self.spread_ticks(scene), emit);
        let lots = parent.lots - taken;
        self.parent = (lots > 0).then_some(Parent { lots, ..parent });
    }

    /// Takes what is better than the value.
    fn arbitrage(&mut self, scene: &mut Scene<'_>, emit: &mut impl FnMut(Event)) {
        let (fair, margin) = (self.fair_ticks(scene), 0.6 * self.spread_ticks(scene));
        for side in BookSide::ALL {
            let Some(best) = self.orders.best(side.opposite()) else { continue };
            let gain = if side == BookSide::Bid { fair - best as f64 } else { best as f64 - fair };
            if gain > margin {
                let lots = self.trade_lots(4.0, scene);
                self.take(side, lots, gain - margin, emit);
                return;
            }
        }
        self.rest(scene);
    }

    /// Takes up to `lots` from the other side, at most `reach` ticks beyond its best price; what was got.
    fn take(&mut self, side: BookSide, lots: u64, reach: f64, emit: &mut impl FnMut(Event)) -> u64 {
        let Some(best) = self.orders.best(side.opposite()) else { return 0 };
        let limit = if side == BookSide::Bid { best + reach as i64 } else { best - reach as i64 };
        let mut fills = Vec::new();
        let got = self.orders.execute(side, limit, lots, |fill| fills.push(fill));
        self.last_side = side;
        let aggressor = if side == BookSide::Bid { Side::Buy } else { Side::Sell };
        // One trade for each price, as venues report them.
        for level in fills.chunk_by(|a, b| a.order.ticks == b.order.ticks) {
            let (ticks, lots) = (level[0].order.ticks, level.iter().map(|fill| fill.lots).sum());
            emit(self.trade(ticks, lots, aggressor));
        }
        for fill in &fills {
            self.settle(fill);
        }
        got
    }

    /// Ends an auction: one trade at one price, if anything crosses.
    fn uncross(&mut self, emit: &mut impl FnMut(Event)) {
        let mut fills = Vec::new();
        if let Some((ticks, lots)) = self.orders.uncross(|fill| fills.push(fill)) {
            emit(self.trade(ticks, lots, Side::Unknown));
        }
        for fill in &fills {
            self.settle(fill);
        }
    }

    fn close(&mut self) {
        for maker in 0..MAKERS {
            for id in self.makers[maker].quotes.iter_mut().flatten().filter_map(Option::take) {
                self.orders.cancel(id);
            }
        }
        for id in self.public.drain(..) {
            self.orders.cancel(id);
        }
        self.parent = None;
    }

    /// Tells the owner of a resting order that it was filled.
    fn settle(&mut self, fill: &Fill) {
        let is_done = fill.lots == fill.order.lots;
        match fill.order.owner {
            Owner::Public(_) if is_done => {
                // The fills settled before may have changed its place; the order knows, and its number is not used again
                // before the next order comes.
                if let Owner::Public(place) = self.orders.order(fill.id).owner {
                    self.forget_public(place as usize);
                }
            }
            Owner::Public(_) => {}
            Owner::Maker(maker, rung) => {
                let maker = &mut self.makers[usize::from(maker)];
                maker.inventory += match fill.order.side {
                    BookSide::Bid => fill.lots as i64,
                    BookSide::Ask => -(fill.lots as i64),
                };
                if is_done {
                    maker.quotes[fill.order.side as usize][usize::from(rung)] = None;
                }
            }
        }
    }

    fn trade(&mut self, ticks: i64, lots: u64, side: Side) -> Event {
        self.trade_count += 1;
        let (price, size) = (self.price(ticks), self.size(lots));
        Event::Trade(Trade { price, size, side, trade_id: self.trade_count })
    }

    /// Hands over what the event changed: the book, then the quote.
    fn publish(&mut self, emit: &mut impl FnMut(Event)) {
        let mut touched = std::mem::take(&mut self.touched);
        self.orders.take_touched(&mut touched);
        for &(side, ticks) in &touched {
            let size = self.size(self.orders.lots_at(side, ticks));
            self.book.set(side, self.price(ticks), size);
        }
        self.touched = touched;
        // A book that may be crossed is never refused.
        if let Ok(Some(event)) = self.book.commit() {
            emit(event);
            let quote = self.book.quote();
            if quote != self.quote {
                self.quote = quote;
                emit(Event::Quote(quote));
            }
        }
        let middle = match (self.orders.best(BookSide::Bid), self.orders.best(BookSide::Ask)) {
            (Some(bid), Some(ask)) => Some((bid + ask) as f64 / 2.0),
            _ => None,
        };
        self.trend *= TREND_KEPT;
        if let (Some(before), Some(now)) = (self.middle, middle) {
            self.trend += now - before;
        }
        self.middle = middle;
    }

    /// Whoever is in a hurry follows the value, those before, and the script.
    fn hurried_side(&mut self, scene: &mut Scene<'_>) -> BookSide {
        if scene.random.chance(SIDE_KEPT) {
            return self.last_side;
        }
        let middle = self.middle.unwrap_or_else(|| self.fair_ticks(scene));
        let ahead = ((self.fair_ticks(scene) - middle) / self.spread_ticks(scene)).clamp(-1.0, 1.0);
        let buys = 0.5 + 0.25 * ahead + 0.45 * scene.conditions.pressure;
        if scene.random.chance(buys) { BookSide::Bid } else { BookSide::Ask }
    }

    /// The spread as it is, in ticks; none when a side is empty.
    fn room(&self) -> Option<i64> {
        Some(self.orders.best(BookSide::Ask)? - self.orders.best(BookSide::Bid)?)
    }

    fn fair_ticks(&self, scene: &Scene<'_>) -> f64 {
        (self.terms.base_ticks * (1.0 + scene.fair.deviation) * (1.0 + scene.offset)).max(2.0)
    }

    /// What makers want between bid and ask; wider when the market is excited.
    fn spread_ticks(&self, scene: &Scene<'_>) -> f64 {
        let excited = 0.75 + 0.25 * scene.fair.volatility;
        (self.terms.spread_ticks * excited * scene.conditions.spread)
            .clamp(1.0, (0.05 * self.terms.base_ticks).max(1.0))
    }

    /// Half of the sizes are round where quotes are.
    fn trade_lots(&self, times: f64, scene: &mut Scene<'_>) -> u64 {
        let lots = scene.random.heavy_tailed(self.terms.trade_scale * times);
        let round = self.terms.round_lots;
        if round > 1 && scene.random.chance(0.5) { lots.div_ceil(round) * round } else { lots }
    }

    fn price(&self, ticks: i64) -> Price {
        Price(ticks * self.terms.tick_size.0)
    }

    fn size(&self, lots: u64) -> Size {
        Size(lots * self.terms.lot_size.0)
    }
}

/// The event that says which phase it is.
pub(super) fn status(phase: Phase, reason: &str) -> Event {
    let code = match phase {
        Phase::PreOpen => StatusCode::PreOpen,
        Phase::Auction => StatusCode::Auction,
        Phase::Trading => StatusCode::Trading,
        Phase::Halted => StatusCode::Halted,
        Phase::Closed => StatusCode::Closed,
    };
    Event::Status(Status { code, reason: reason.into() })
}
