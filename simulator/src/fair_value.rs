//! What the underlyings are worth.
//!
//! **Invariant:** a value is a deviation from its base that stays within [`DEVIATION_MAX`] for ever, and moves with
//! virtual time, not with the number of ticks: a faster feed does not make a wilder market.
//!
//! Every process is Ornstein-Uhlenbeck (it reverts to its base within hours), its volatility is the exponential of
//! another one (it clusters for minutes), news makes both jump now and then, and a share of the movement is its group's:
//! shares, coins and contracts move together.

use crate::random::Random;

/// How far a value may be from its base; the stationary deviation is a few hundredths, so this is never felt.
pub(crate) const DEVIATION_MAX: f64 = 0.4;

/// A process is not moved by less than that; with more ticks a second they see the same value.
const STEP_MIN_NS: u64 = 1_000_000;
/// Half-lives divided by ln 2, in seconds.
const REVERSION_S: f64 = 4.0 * 3600.0;
const VOLATILITY_REVERSION_S: f64 = 90.0;
/// The stationary deviation of the volatility's logarithm, and what bounds it.
const VOLATILITY_DEVIATION: f64 = 0.5;
const VOLATILITY_LOGARITHM_MAX: f64 = 2.0;
/// The mean time between two news, in seconds; what they do to the volatility's logarithm; how many seconds' movement
/// they are worth at once.
const NEWS_EVERY_S: f64 = 900.0;
const NEWS_VOLATILITY: f64 = 1.0;
const NEWS_SECONDS: f64 = 60.0;
/// The part of the variance that is the group's.
const GROUP_SHARE: f64 = 0.36;

/// The number of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessId(u16);

/// What an underlying is worth now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fair {
    /// Relative to the base: 0.01 is one per cent above.
    pub(crate) deviation: f64,
    /// Relative to the usual one.
    pub(crate) volatility: f64,
}

/// All processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct FairValues {
    processes: Vec<Process>,
}

#[derive(Clone, Debug)]
struct Process {
    /// The standard deviation of one second's movement.
    sigma: f64,
    group: Option<Membership>,
    deviation: f64,
    volatility_logarithm: f64,
    volatility: f64,
    moved_at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Membership {
    group: ProcessId,
    beta: f64,
}

impl FairValues {
    /// A process of its own, usually the group of others. `sigma` is the standard deviation of one second's movement.
    pub(crate) fn add(&mut self, sigma: f64) -> ProcessId {
        self.push(sigma, None)
    }

    /// A process that moves with its group; `sigma` is of both movements together.
    pub(crate) fn add_member(&mut self, sigma: f64, group: ProcessId) -> ProcessId {
        let beta = GROUP_SHARE.sqrt() * sigma / self.processes[usize::from(group.0)].sigma;
        self.push((1.0 - GROUP_SHARE).sqrt() * sigma, Some(Membership { group, beta }))
    }

    fn push(&mut self, sigma: f64, group: Option<Membership>) -> ProcessId {
        let id = ProcessId(self.processes.len() as u16);
        self.processes.push(Process {
            sigma,
            group,
            deviation: 0.0,
            volatility_logarithm: 0.0,
            volatility: 1.0,
            moved_at: 0,
        });
        id
    }

    /// Lets every process begin somewhere near its base.
    pub(crate) fn scatter(&mut self, random: &mut Random) {
        for process in &mut self.processes {
            let stationary = process.sigma * (REVERSION_S / 2.0).sqrt();
            process.deviation = (stationary * random.normal()).clamp(-DEVIATION_MAX, DEVIATION_MAX);
            process.volatility_logarithm = 0.5 * VOLATILITY_DEVIATION * random.normal();
        }
    }

    /// The value at virtual instant `now`, which never goes back.
    pub(crate) fn at(&mut self, id: ProcessId, now: u64, random: &mut Random) -> Fair {
        let process = &mut self.processes[usize::from(id.0)];
        if now - process.moved_at >= STEP_MIN_NS {
            process.advance(now, random);
        }
        let (own, volatility, group) = (process.deviation, process.volatility, process.group);
        let Some(Membership { group, beta }) = group else {
            return Fair { deviation: own, volatility };
        };
        let common = beta * self.at(group, now, random).deviation;
        Fair { deviation: (own + common).clamp(-DEVIATION_MAX, DEVIATION_MAX), volatility }
    }
}

impl Process {
    fn advance(&mut self, now: u64, random: &mut Random) {
        let seconds = (now - self.moved_at) as f64 * 1e-9;
        self.moved_at = now;

        // Both steps are the exact solution over any time, so rare ticks see as much movement as frequent ones.
        let keep = libm::exp(-seconds / VOLATILITY_REVERSION_S);
        let noise = VOLATILITY_DEVIATION * (1.0 - keep * keep).sqrt() * random.normal();
        let news = random.chance((seconds / NEWS_EVERY_S).min(1.0));
        let shock = if news { NEWS_VOLATILITY } else { 0.0 };
        self.volatility_logarithm = (self.volatility_logarithm * keep + noise + shock)
            .clamp(-VOLATILITY_LOGARITHM_MAX, VOLATILITY_LOGARITHM_MAX);
        // Of exp(2 x) the mean is exp(2 s^2), so the movement's variance is the usual one in the long run.
        self.volatility = libm::exp(self.volatility_logarithm - VOLATILITY_DEVIATION * VOLATILITY_DEVIATION);

        let keep = libm::exp(-seconds / REVERSION_S);
        let step = (REVERSION_S / 2.0 * (1.0 - keep * keep)).sqrt();
        let jump = if news { NEWS_SECONDS.sqrt() * random.normal() } else { 0.0 };
        let movement = self.sigma * (self.volatility * step * random.normal() + jump);
        self.deviation = (self.deviation * keep + movement).clamp(-DEVIATION_MAX, DEVIATION_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Movements over `step_s` seconds of one process.
    fn movements(sigma: f64, step_s: u64, count: usize) -> Vec<f64> {
        let mut values = FairValues::default();
        let process = values.add(sigma);
        let mut random = Random::new(5, Stream::Prices);
        let mut last = 0.0;
        (1..=count as u64)
            .map(|k| {
                let value = values.at(process, k * step_s * 1_000_000_000, &mut random).deviation;
                std::mem::replace(&mut last, value) - value
            })
            .collect()
    }

    #[test]
    fn years_do_not_carry_it_away() {
        let mut at: f64 = 0.0;
        let far = movements(3e-4, 60, 1_000_000).into_iter().map(|m| {
            at -= m;
            at.abs()
        });
        let far = far.fold(0.0, f64::max);
        assert!((0.03..=DEVIATION_MAX).contains(&far), "{far}");
    }

    #[test]
    fn volatility_comes_in_clusters() {
        let squares: Vec<f64> = movements(1e-4, 1, 100_000).into_iter().map(|m| (m * m).min(1e-6)).collect();
        let mean = squares.iter().sum::<f64>() / squares.len() as f64;
        let variance = squares.iter().map(|s| (s - mean).powi(2)).sum::<f64>();
        let lagged = squares.windows(6).map(|w| (w[0] - mean) * (w[5] - mean)).sum::<f64>();
        assert!(lagged / variance > 0.05, "autocorrelation of squares {}", lagged / variance);
        assert!((0.5..3.0).contains(&(mean / 1e-8)), "variance {mean}");
    }

    #[test]
    fn members_move_with_their_group() {
        let mut values = FairValues::default();
        let group = values.add(1e-4);
        let members = [values.add_member(2e-4, group), values.add_member(1e-4, group)];
        let mut random = Random::new(9, Stream::Prices);
        let series: Vec<[f64; 2]> =
            (1..20_000u64).map(|k| members.map(|m| values.at(m, k * 1_000_000_000, &mut random).deviation)).collect();
        let steps: Vec<[f64; 2]> = series.windows(2).map(|w| [w[1][0] - w[0][0], w[1][1] - w[0][1]]).collect();
        let product = |i: usize, j: usize| steps.iter().map(|s| s[i] * s[j]).sum::<f64>();
        let correlation = product(0, 1) / (product(0, 0) * product(1, 1)).sqrt();
        assert!((0.2..0.6).contains(&correlation), "{correlation}");
    }
}
