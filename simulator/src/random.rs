//! Random numbers that are the same everywhere.
//!
//! **Invariant:** every draw is made here, from ChaCha8 words by integer arithmetic, correctly rounded floating point and
//! `libm`. Nothing depends on a distribution crate, whose algorithms may change between releases.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// What a stream of random numbers is for. Streams of one seed are independent, so a change of the price model leaves the
/// arrival times as they were.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Arrivals = 1,
    Prices = 2,
    /// When orders come, in the scenarios with order books
    OrderArrivals = 3,
    /// What they are, and the values behind them
    Orders = 4,
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    words: ChaCha8Rng,
    /// The second of a pair of normal deviates.
    spare: Option<f64>,
}

const UNIT: f64 = 1.0 / (1u64 << 53) as f64;

impl Random {
    /// The seed as the first eight bytes of the key, little-endian; the other bytes are zero.
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut words = ChaCha8Rng::from_seed(key);
        words.set_stream(stream as u64);
        Self { words, spare: None }
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.words.next_u64()
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * UNIT
    }

    /// Uniform in (0, 1].
    fn unit_positive(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 * UNIT
    }

    /// True with `probability`.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in 0..n, by multiplication; the bias of n / 2^32 is far below anything that can be seen.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (((self.bits() >> 32) * n as u64) >> 32) as usize
    }

    /// Exponential with mean 1; at most 53 ln 2 = 36.8.
    pub(crate) fn exponential(&mut self) -> f64 {
        -libm::log(self.unit_positive())
    }

    /// Normal with mean 0 and deviation 1: Marsaglia's polar method, which needs no trigonometry.
    pub(crate) fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let x = 2.0 * self.unit() - 1.0;
            let y = 2.0 * self.unit() - 1.0;
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * libm::log(square) / square).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }

    /// A positive integer of a heavy tail (Lomax with exponent 2), about `scale` in the mean and never above 50 times it.
    pub(crate) fn heavy_tailed(&mut self, scale: f64) -> u64 {
        let excess = 1.0 / self.unit_positive().sqrt() - 1.0;
        1 + (scale * excess.min(50.0)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moments_are_right() {
        let mut random = Random::new(7, Stream::Prices);
        let n = 200_000;
        let mean = |mut draw: Box<dyn FnMut() -> f64>| (0..n).map(|_| draw()).sum::<f64>() / f64::from(n);
        let mut clone = random.clone();
        assert!((mean(Box::new(move || clone.exponential())) - 1.0).abs() < 0.02);
        let mut clone = random.clone();
        assert!(mean(Box::new(move || clone.normal())).abs() < 0.02);
        let mut clone = random.clone();
        assert!((mean(Box::new(move || clone.normal().powi(2))) - 1.0).abs() < 0.02);
        let mut clone = random.clone();
        assert!((mean(Box::new(move || clone.below(10) as f64)) - 4.5).abs() < 0.05);
        assert!((0..n).all(|_| (1..=501).contains(&random.heavy_tailed(10.0))));
    }

    #[test]
    fn streams_and_seeds_differ() {
        let first = |seed, stream| Random::new(seed, stream).bits();
        assert_eq!(first(1, Stream::Prices), first(1, Stream::Prices));
        assert_ne!(first(1, Stream::Prices), first(2, Stream::Prices));
        assert_ne!(first(1, Stream::Prices), first(1, Stream::Arrivals));
    }
}
