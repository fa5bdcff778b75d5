//! A venue with an order book for every instrument that somebody trades.
//!
//! **Invariant:** what comes out does not depend on how the calls cut the time: the next event is always decided before
//! it is due, and it waits in one queue.
//!
//! Orders arrive as a Hawkes process over all instruments; each lets one agent of one instrument act (`pit`). Values move
//! as in the scenarios without books, so instruments of one group move together; a script changes the conditions.

mod matching;
mod pit;

use std::collections::VecDeque;
use std::time::Duration;

use market::{Event, Instrument, InstrumentId, Tick, Timestamp};

use crate::arrivals::{Arrival, Bursts};
use crate::catalog::Catalog;
use crate::fair_value::FairValues;
use crate::random::{Random, Stream};
use crate::script::{Directive, Phase, Script};
use crate::top_of_book::Terms;
use pit::{Conditions, Pit, Scene};

/// How many ticks an agent's action makes in the mean, so that the configured rate is that of ticks under usual conditions.
const TICKS_PER_ACTION: f64 = 2.2;

/// How many actions are tried for one event. Where nothing may happen (all is closed), the time of the last is the next
/// instant at which something could.
const ACTIONS_MAX: usize = 4096;

/// How far scripts can move a value in all, as a part of it.
const OFFSET_RANGE: std::ops::RangeInclusive<f64> = -0.6..=3.0;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Venue {
    terms: Vec<Terms>,
    pits: Vec<Option<Box<Pit>>>,
    settings: Vec<Setting>,
    values: FairValues,
    /// Time as the values know it: it runs faster when they are to be more volatile
    warped: f64,
    warped_at: u64,
    volatility: f64,
    arrivals: Bursts,
    next: Arrival,
    random: Random,
    play: Play,
    /// Decided and not handed over, in the order of their times
    waiting: VecDeque<(u64, InstrumentId, Event)>,
    /// Nothing is due before
    quiet_until: u64,
}

/// What the script says of an instrument.
#[derive(Clone, Copy, Debug, Default)]
struct Setting {
    phase: Option<Phase>,
    conditions: Conditions,
    movement: Movement,
}

/// A value being moved by the script.
#[derive(Clone, Copy, Debug, Default)]
struct Movement {
    from: f64,
    to: f64,
    begin: u64,
    end: u64,
}

impl Movement {
    fn at(&self, now: u64) -> f64 {
        if now >= self.end {
            return self.to;
        }
        let part = now.saturating_sub(self.begin) as f64 / (self.end - self.begin) as f64;
        self.from + (self.to - self.from) * part
    }
}

/// Where in the script it is.
#[derive(Clone, Debug)]
struct Play {
    script: Script,
    /// Ids of the symbols that each directive names
    ids: Vec<Option<Vec<InstrumentId>>>,
    /// The next directive; the script's length when it is over
    next: usize,
    /// When this round of it began
    begin: u64,
}

impl Play {
    /// When the next directive is due.
    fn due(&self) -> Option<u64> {
        match self.script.directives.get(self.next) {
            Some(directive) => Some(self.begin.saturating_add(directive.at)),
            None => self.script.repeat.map(|repeat| self.begin.saturating_add(repeat)),
        }
    }
}

impl Venue {
    pub(crate) fn new(seed: u64, rate: f64, catalog: Catalog, script: Script) -> (Self, Vec<Instrument>) {
        let Catalog { instruments, terms, mut values } = catalog;
        let mut random = Random::new(seed, Stream::Orders);
        values.scatter(&mut random);
        let actions = rate / TICKS_PER_ACTION;
        let mut arrivals = Bursts::new(Random::new(seed, Stream::OrderArrivals), instruments.len(), actions);
        let find = |symbol: &String| instruments.iter().find(|i| i.symbol.as_str() == symbol).map(|i| i.id);
        let ids = script.directives.iter().map(|directive| {
            // Symbols that this market has not are nobody's.
            directive.symbols.as_ref().map(|symbols| symbols.iter().filter_map(find).collect())
        });
        let play = Play { ids: ids.collect(), script, next: 0, begin: 0 };
        let next = arrivals.next();
        let count = instruments.len();
        let mut venue = Self {
            terms,
            pits: vec![None; count],
            settings: vec![Setting::default(); count],
            values,
            warped: 0.0,
            warped_at: 0,
            volatility: 1.0,
            arrivals,
            next,
            random,
            play,
            waiting: VecDeque::new(),
            quiet_until: 0,
        };
        venue.begin_round(0);
        venue.decide();
        (venue, instruments)
    }

    /// Hands over what is due at `until`, at most `ticks_max`; when the next tick is due, as far as it is known.
    pub(crate) fn advance(&mut self, until: u64, ticks_max: usize, begin: Timestamp, out: &mut Vec<Tick>) -> u64 {
        for _ in 0..ticks_max {
            while self.waiting.is_empty() && self.quiet_until <= until {
                self.decide();
            }
            if self.waiting.front().is_none_or(|(at, ..)| *at > until) {
                break;
            }
            let Some((at, instrument, event)) = self.waiting.pop_front() else { break };
            out.push(Tick { instrument, time: begin + Duration::from_nanos(at), event });
            if self.waiting.is_empty() {
                self.decide();
            }
        }
        self.waiting.front().map_or(self.quiet_until, |(at, ..)| *at)
    }

    /// Lets agents act until the next event is known.
    fn decide(&mut self) {
        for _ in 0..ACTIONS_MAX {
            let at = match self.play.due() {
                Some(due) if due <= self.next.at => {
                    self.direct(due);
                    due
                }
                _ => self.act(),
            };
            if !self.waiting.is_empty() {
                return;
            }
            self.quiet_until = at;
        }
    }

    /// Lets one agent act; when that was.
    fn act(&mut self) -> u64 {
        let following = self.arrivals.next();
        let Arrival { at, instrument, .. } = std::mem::replace(&mut self.next, following);
        let now = self.warp(at);
        let index = instrument.index();
        let terms = self.terms[index];
        let setting = &self.settings[index];
        let fair = self.values.at(terms.process, now, &mut self.random);
        let phase = setting.phase.unwrap_or(Phase::Trading);
        let pit = self.pits[index].get_or_insert_with(|| Box::new(Pit::new(terms, phase)));
        let (offset, conditions) = (setting.movement.at(at), setting.conditions);
        let mut scene = Scene { fair, offset, conditions, random: &mut self.random };
        let waiting = &mut self.waiting;
        pit.act(&mut scene, &mut |event| waiting.push_back((at, instrument, event)));
        at
    }

    fn warp(&mut self, at: u64) -> u64 {
        // A movement over time t has a variance of t, so n times the volatility takes n^2 times the time.
        self.warped += (at - self.warped_at) as f64 * self.volatility * self.volatility;
        self.warped_at = at;
        self.warped as u64
    }

    /// Plays the next directive, or begins another round.
    fn direct(&mut self, at: u64) {
        let Some(directive) = self.play.script.directives.get(self.play.next).cloned() else {
            return self.begin_round(at);
        };
        self.warp(at);
        let ids = self.play.ids[self.play.next].clone();
        self.play.next += 1;
        if let Some(activity) = directive.activity {
            self.arrivals.set_activity(activity);
        }
        if let Some(volatility) = directive.volatility {
            self.volatility = volatility;
        }
        match ids {
            None => (0..self.settings.len()).for_each(|index| self.set(index, &directive, at)),
            Some(ids) => ids.iter().for_each(|id| self.set(id.index(), &directive, at)),
        }
    }

    fn set(&mut self, index: usize, directive: &Directive, at: u64) {
        let setting = &mut self.settings[index];
        let conditions = &mut setting.conditions;
        conditions.depth = directive.depth.unwrap_or(conditions.depth);
        conditions.spread = directive.spread.unwrap_or(conditions.spread);
        conditions.pressure = directive.pressure.unwrap_or(conditions.pressure);
        if let Some((by, over)) = directive.movement {
            let from = setting.movement.at(at);
            let to = ((1.0 + from) * (1.0 + by) - 1.0).clamp(*OFFSET_RANGE.start(), *OFFSET_RANGE.end());
            setting.movement = Movement { from, to, begin: at, end: at.saturating_add(over) };
        }
        if let Some((phase, reason)) = &directive.phase {
            self.enter(index, *phase, reason, at);
        }
    }

    fn enter(&mut self, index: usize, phase: Phase, reason: &str, at: u64) {
        if self.settings[index].phase.replace(phase) == Some(phase) {
            return;
        }
        let instrument = InstrumentId(index as u32);
        let waiting = &mut self.waiting;
        let emit = &mut |event| waiting.push_back((at, instrument, event));
        match &mut self.pits[index] {
            Some(pit) => pit.enter(phase, reason, emit),
            None => emit(pit::status(phase, reason)),
        }
    }

    /// Begins the script, with everything as usual.
    fn begin_round(&mut self, at: u64) {
        self.play.next = 0;
        self.play.begin = at;
        self.warp(at);
        self.volatility = 1.0;
        self.arrivals.set_activity(1.0);
        for setting in &mut self.settings {
            setting.conditions = Conditions::default();
        }
        // A script that does not say how the day begins means trading.
        let says =
            |directive: &Directive| directive.at == 0 && directive.phase.is_some() && directive.symbols.is_none();
        if !self.play.script.directives.iter().any(says) {
            (0..self.settings.len()).for_each(|index| self.enter(index, Phase::Trading, "", at));
        }
    }
}
