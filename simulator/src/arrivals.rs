//! When the next tick comes, and whose it is.
//!
//! **Invariant:** arrivals do not depend on prices, and cost the same however fast they come: O(1), without allocation.
//!
//! The market's arrivals are a Hawkes process, in which every tick makes further ticks likelier for a while. It is
//! simulated exactly by its branching form: ticks that come by themselves (immigrants) arrive as a Poisson process, and
//! every tick begets a Poisson number of children, each of which comes after an exponential delay. Exponential delays
//! have no memory, so the children that are still to come need no queue ordered by time: with n of them waiting, the
//! next comes after Exp(n x decay) and is any of them with equal probability. Thinning (Ogata) would do the same with
//! rejections, but cannot tell in O(1) whose the next tick is.

use market::InstrumentId;

use crate::random::Random;

/// The next tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Virtual nanoseconds since the begin.
    pub(crate) at: u64,
    pub(crate) instrument: InstrumentId,
    pub(crate) kind: Kind,
}

/// What the next tick is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whatever the instrument's book makes of it.
    Any,
    Quote,
    Trade,
}

/// Where arrivals come from.
#[derive(Clone, Debug)]
pub(crate) enum Arrivals {
    Bursts(Box<Bursts>),
    Metronome(Metronome),
}

impl Arrivals {
    /// The one after the last; times never go back.
    pub(crate) fn next(&mut self) -> Arrival {
        match self {
            Self::Bursts(bursts) => bursts.next(),
            Self::Metronome(metronome) => metronome.next(),
        }
    }
}

const NANOS_PER_SECOND: f64 = 1e9;

/// The mean number of children of a tick, quick ones (order flow that reacts) and slow ones (interest that lasts).
/// Their sum, 0.75, must stay below 1; counts over long windows then vary 1 / (1 - 0.75)^2 = 16 times as much as Poisson.
const CHILDREN: [f64; 2] = [0.5, 0.25];
/// One over the mean delay of a child in seconds: 10 ms and 1 s.
const DECAYS: [f64; 2] = [100.0, 1.0];
/// How many children are of their parent's instrument; the others spread the excitement over the market.
const SAME_INSTRUMENT: f64 = 0.85;
/// How likely more children than this are is below 2^-32.
const CHILDREN_MAX: usize = 16;

/// A Hawkes process whose marks are instruments, Zipf-distributed.
#[derive(Clone, Debug)]
pub(crate) struct Bursts {
    random: Random,
    activity: Zipf,
    /// The mean of all ticks per second, and of the immigrants among them.
    rate: f64,
    immigrants: f64,
    /// Instruments of the children that are still to come; instrument ids are below 10,000.
    waiting: [Vec<u16>; 2],
    /// The most that may wait; see [`Bursts::new`].
    waiting_max: [usize; 2],
    /// By 2^32 scaled distribution functions of the two numbers of children.
    children: [[u32; CHILDREN_MAX]; 2],
    /// Virtual nanoseconds, and what is left below one.
    now: u64,
    fraction: f64,
}

impl Bursts {
    /// `rate` is the mean of all ticks per second; the first instruments of `symbols` are the most active.
    pub(crate) fn new(random: Random, symbols: usize, rate: f64) -> Self {
        // In the mean `rate x CHILDREN / DECAYS` wait. Four times that, and a few thousand for low rates, is more than
        // thirty deviations away; children beyond are not born, so memory is bounded whatever the generator says.
        let waiting_mean = waiting_mean(rate);
        let waiting_max = waiting_mean.map(|mean| 4 * mean + 4096);
        let mut bursts = Self {
            random,
            activity: Zipf::new(symbols),
            rate,
            immigrants: immigrants(rate),
            waiting: waiting_max.map(Vec::with_capacity),
            waiting_max,
            children: CHILDREN.map(poisson_thresholds),
            now: 0,
            fraction: 0.0,
        };
        // Begin in the midst of the market's day rather than in silence, so that the mean rate holds from the first second.
        for (pool, mean) in waiting_mean.into_iter().enumerate() {
            for _ in 0..mean {
                let instrument = bursts.activity.draw(bursts.random.bits());
                bursts.waiting[pool].push(instrument);
            }
        }
        bursts
    }

    /// Makes the mean rate that multiple of the configured one from now on; what is begotten already still comes.
    pub(crate) fn set_activity(&mut self, activity: f64) {
        self.immigrants = immigrants(self.rate * activity);
        self.waiting_max = waiting_mean(self.rate * activity.max(1.0)).map(|mean| 4 * mean + 4096);
    }

    pub(crate) fn next(&mut self) -> Arrival {
        let quick = self.waiting[0].len() as f64 * DECAYS[0];
        let slow = self.waiting[1].len() as f64 * DECAYS[1];
        let intensity = self.immigrants + quick + slow;
        // The immigrants alone make it at least RATE_MIN / 4, so a step is never longer than some minutes.
        self.fraction += self.random.exponential() * NANOS_PER_SECOND / intensity;
        let whole = self.fraction.floor();
        self.fraction -= whole;
        self.now = self.now.saturating_add(whole as u64);

        let cause = self.random.unit() * intensity;
        let instrument = if cause < quick {
            self.take_waiting(0)
        } else if cause < quick + slow {
            self.take_waiting(1)
        } else {
            self.activity.draw(self.random.bits())
        };
        self.beget(instrument);
        Arrival { at: self.now, instrument: InstrumentId(u32::from(instrument)), kind: Kind::Any }
    }

    fn take_waiting(&mut self, pool: usize) -> u16 {
        let index = self.random.below(self.waiting[pool].len());
        self.waiting[pool].swap_remove(index)
    }

    fn beget(&mut self, parent: u16) {
        let bits = self.random.bits();
        for (pool, uniform) in [bits as u32, (bits >> 32) as u32].into_iter().enumerate() {
            let count = self.children[pool].iter().take_while(|threshold| uniform >= **threshold).count();
            for _ in 0..count {
                let of =
                    if self.random.chance(SAME_INSTRUMENT) { parent } else { self.activity.draw(self.random.bits()) };
                if self.waiting[pool].len() < self.waiting_max[pool] {
                    self.waiting[pool].push(of);
                }
            }
        }
    }
}

/// How many of so many ticks per second come by themselves.
fn immigrants(rate: f64) -> f64 {
    rate * (1.0 - CHILDREN[0] - CHILDREN[1])
}

/// How many children wait in the mean.
fn waiting_mean(rate: f64) -> [usize; 2] {
    [0, 1].map(|pool| (rate * CHILDREN[pool] / DECAYS[pool]) as usize)
}

/// The distribution function of a Poisson number, by 2^32.
fn poisson_thresholds(mean: f64) -> [u32; CHILDREN_MAX] {
    let mut probability = libm::exp(-mean);
    let mut cumulative = 0.0;
    std::array::from_fn(|k| {
        cumulative += probability;
        probability *= mean / (k + 1) as f64;
        (cumulative * 4_294_967_296.0) as u32
    })
}

/// Draws k in 0..n with a probability proportional to 1 / (k + 1), in O(1): Walker's alias method as Vose builds it.
#[derive(Clone, Debug)]
struct Zipf {
    /// Keep the column if the lower 32 bits are below the threshold, otherwise take its alias.
    columns: Vec<(u32, u16)>,
}

impl Zipf {
    fn new(n: usize) -> Self {
        let sum: f64 = (1..=n).map(|k| 1.0 / k as f64).sum();
        let mut scaled: Vec<f64> = (1..=n).map(|k| n as f64 / (k as f64 * sum)).collect();
        let mut columns: Vec<(u32, u16)> = (0..n).map(|k| (u32::MAX, k as u16)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|k| scaled[*k] < 1.0);
        while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
            columns[poor] = ((scaled[poor] * 4_294_967_296.0) as u32, rich as u16);
            scaled[rich] -= 1.0 - scaled[poor];
            if scaled[rich] < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        Self { columns }
    }

    fn draw(&self, bits: u64) -> u16 {
        let column = ((bits >> 32) * self.columns.len() as u64) >> 32;
        let (threshold, alias) = self.columns[column as usize];
        if (bits as u32) < threshold { column as u16 } else { alias }
    }
}

/// Exactly `rate` ticks in each second, evenly spaced: tick k comes at k / rate, the first at 1 / rate.
#[derive(Clone, Debug)]
pub(crate) struct Metronome {
    symbols: u32,
    /// The period of a tick: whole nanoseconds, and the rest in parts of `parts`; so the spacing never drifts.
    period: u64,
    rest: u64,
    parts: u64,
    now: u64,
    carried: u64,
    instrument: u32,
    kind: Kind,
}

impl Metronome {
    pub(crate) fn new(symbols: usize, rate: f64) -> Self {
        // The rate to a millionth of a tick per second.
        let parts = (rate * 1e6 + 0.5) as u64;
        let second = 1_000_000_000_000_000;
        Self {
            symbols: symbols as u32,
            period: second / parts,
            rest: second % parts,
            parts,
            now: 0,
            carried: 0,
            instrument: 0,
            kind: Kind::Quote,
        }
    }

    fn next(&mut self) -> Arrival {
        self.carried += self.rest;
        let carry = self.carried >= self.parts;
        if carry {
            self.carried -= self.parts;
        }
        self.now = self.now.saturating_add(self.period + u64::from(carry));
        let arrival = Arrival { at: self.now, instrument: InstrumentId(self.instrument), kind: self.kind };
        if self.kind == Kind::Quote {
            self.kind = Kind::Trade;
        } else {
            self.kind = Kind::Quote;
            self.instrument = (self.instrument + 1) % self.symbols;
        }
        arrival
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn the_alias_table_keeps_the_proportions() {
        let zipf = Zipf::new(100);
        let mut random = Random::new(3, Stream::Arrivals);
        let mut counts = [0u32; 100];
        for _ in 0..500_000 {
            counts[usize::from(zipf.draw(random.bits()))] += 1;
        }
        for k in [0, 1, 9, 49] {
            let expected = 500_000.0 / (k + 1) as f64 / 5.187;
            assert!((f64::from(counts[k]) / expected - 1.0).abs() < 0.05, "rank {k}: {} of {expected}", counts[k]);
        }
        assert_eq!(Zipf::new(1).draw(u64::MAX), 0);
    }

    #[test]
    fn the_numbers_of_children_have_their_mean() {
        for mean in CHILDREN {
            let thresholds = poisson_thresholds(mean);
            assert!(thresholds.windows(2).all(|pair| pair[0] <= pair[1]));
            let tails: f64 = thresholds.iter().map(|t| 1.0 - f64::from(*t) / 4_294_967_296.0).sum();
            assert!((tails - mean).abs() < 1e-6, "{tails}");
        }
    }

    #[test]
    fn the_metronome_does_not_drift() {
        for rate in [1.0, 3.0, 7.5, 1000.0, 999_999.0, 2_000_000.0] {
            let mut metronome = Metronome::new(7, rate);
            let mut last = 0;
            for k in 1..=10_000u64 {
                let at = metronome.next().at;
                let exact = k as f64 * 1e9 / rate;
                assert!((at as f64 - exact).abs() <= 1.0 + exact * 1e-12, "tick {k} at {at}");
                assert!(at > last);
                last = at;
            }
        }
    }

    #[test]
    fn the_metronome_visits_each_instrument_with_a_quote_and_a_trade() {
        let mut metronome = Metronome::new(2, 10.0);
        let visits: Vec<_> = (0..5).map(|_| metronome.next()).map(|a| (a.instrument.0, a.kind)).collect();
        assert_eq!(visits, [(0, Kind::Quote), (0, Kind::Trade), (1, Kind::Quote), (1, Kind::Trade), (0, Kind::Quote)]);
    }
}
