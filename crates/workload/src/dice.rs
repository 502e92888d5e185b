//! Randomness from a seed: the same seed acts the same way.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The variable that fixes the seed of a suite, to run again what failed.
const SEED: &str = "CONCLAVE_SEED";

/// A splitmix64 generator: any seed is a good one, and eight lines need no library.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Any of `0..below`; zero when there is none.
    pub fn roll(&mut self, below: usize) -> usize {
        (self.next() >> 16) as usize % below.max(1)
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }

    /// Any time below `longest`.
    pub fn time(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.roll(longest.as_micros() as usize) as u64)
    }

    /// The same things in another order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.roll(last + 1));
        }
    }

    /// Another generator, which goes its own way whatever becomes of this one.
    pub fn fork(&mut self) -> Dice {
        Dice(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The seed of this run: from `CONCLAVE_SEED`, else from the clock. It is printed, because a failure without it cannot
/// be tried again.
pub fn seed_of_run(suite: &str) -> u64 {
    let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let seed = given.unwrap_or_else(clock);
    eprintln!("{suite}: {SEED}={seed}");
    seed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_acts_the_same_way_and_another_does_not() {
        let rolls = |seed| -> Vec<usize> {
            let mut dice = Dice::new(seed);
            (0..8).map(|_| dice.roll(1_000)).collect()
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut things: Vec<u32> = (0..50).collect();
        Dice::new(1).shuffle(&mut things);
        assert!(!things.is_sorted());
        things.sort_unstable();
        assert_eq!(things, (0..50).collect::<Vec<u32>>());
    }
}
