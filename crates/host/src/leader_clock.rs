//! The clock a leader stamps entries with.
//!
//! Leases and expiries are judged by the stamps in the log, so one bad wall clock must not reach them. A leadership
//! starts at its own wall clock, but at most 1 s from the voters' median and never before what is applied, and from then on follows the monotonic clock,
//! drawn towards the voters' median by at most a tenth of the time that passes. The wall clock alone never moves it.
//!
//! Pure: the caller passes every reading.

use std::time::Duration;

use conclave_types::Timestamp;

/// How far from the voters' median a new leader may start. A lease is promised to be off by two seconds at most: this is
/// one of them, and the clocks that are right may differ by the other.
pub const MEDIAN_TOLERANCE: Duration = Duration::from_secs(1);

/// A clock that is further behind what was applied is wrong: what was applied was stamped by the time of a majority. Far more
/// than a leader may be ahead, so that no clock that is right is taken for one.
const SURELY_BEHIND: Duration = Duration::from_secs(60);

/// A leader is drawn towards the median by at most one part in this many.
const SLEW_DIVISOR: i64 = 10;

#[derive(Debug)]
pub struct LeaderClock {
    /// The present stamp, in microseconds so that slewing does not lose fractions.
    now_us: i64,
    /// The monotonic reading that `now_us` belongs to.
    read_at: Duration,
}

impl LeaderClock {
    /// Starts a leadership. `median` is [`lower_median`] of the voters' wall clocks, own included.
    pub fn start(applied: Timestamp, wall: Timestamp, median: Timestamp, monotonic: Duration) -> Self {
        let tolerance = MEDIAN_TOLERANCE.as_millis() as u64;
        let bounded = wall.clamp(median.minus_ms(tolerance), median.plus_ms(tolerance));
        let base = applied.max(bounded);
        LeaderClock { now_us: base.0.saturating_mul(1_000).min(i64::MAX as u64) as i64, read_at: monotonic }
    }

    /// The stamp while no other voter is heard: straight on, because the wall clock alone never moves a leader's time.
    pub fn stamp_unheard(&mut self, monotonic: Duration) -> Timestamp {
        self.advance(monotonic, |_| 0)
    }

    /// The stamp for an entry proposed now. Never lower than the one before.
    pub fn stamp(&mut self, monotonic: Duration, median: Timestamp) -> Timestamp {
        let median_us = median.0.saturating_mul(1_000).min(i64::MAX as u64) as i64;
        self.advance(monotonic, |straight| median_us.saturating_sub(straight))
    }

    /// Moves on by the time that passed, drawn by at most a tenth of it towards where `error` says the goal lies.
    fn advance(&mut self, monotonic: Duration, error: impl FnOnce(i64) -> i64) -> Timestamp {
        let passed_us = monotonic.saturating_sub(self.read_at).as_micros().min(i64::MAX as u128) as i64;
        let straight = self.now_us.saturating_add(passed_us);
        let most = passed_us / SLEW_DIVISOR;
        self.now_us = straight.saturating_add(error(straight).clamp(-most, most));
        self.read_at = self.read_at.max(monotonic);
        Timestamp(self.now_us as u64 / 1_000)
    }
}

/// The lower median of the voters' clocks: with an even number of readings the earlier of the two in the middle, so that
/// a minority of clocks that run ahead cannot pull it forward. Clocks that are surely behind `applied` do not count while
/// there are others: of two hosts one of which is hours behind, it would else be the wrong one that counts.
pub fn lower_median(applied: Timestamp, own: Timestamp, others: impl IntoIterator<Item = Timestamp>) -> Timestamp {
    let mut readings: Vec<Timestamp> = others.into_iter().chain([own]).collect();
    readings.sort_unstable();
    let earliest = applied.minus_ms(SURELY_BEHIND.as_millis() as u64);
    let behind = readings.partition_point(|reading| *reading < earliest);
    let counting = if behind < readings.len() { &readings[behind..] } else { &readings[..] };
    counting[(counting.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_wall_clock_two_hours_ahead_starts_at_most_one_second_ahead() {
        let median = Timestamp(1_000_000);
        let mut clock = LeaderClock::start(Timestamp(0), Timestamp(1_000_000 + 2 * HOUR_MS), median, secs(5));
        assert_eq!(clock.stamp(secs(5), median), Timestamp(1_001_000));
    }

    #[test]
    fn a_wall_clock_behind_never_goes_below_what_is_applied() {
        let mut clock = LeaderClock::start(Timestamp(9_000_000), Timestamp(1_000_000), Timestamp(1_000_000), secs(0));
        assert_eq!(clock.stamp(secs(0), Timestamp(1_000_000)), Timestamp(9_000_000));
    }

    #[test]
    fn time_follows_the_monotonic_clock() {
        let start = Timestamp(1_000_000);
        let mut clock = LeaderClock::start(Timestamp(0), start, start, secs(100));
        assert_eq!(clock.stamp(secs(160), start.plus_ms(60_000)), start.plus_ms(60_000));
    }

    #[test]
    fn slewing_is_bounded_by_a_tenth_and_never_goes_back() {
        let start = Timestamp(10 * HOUR_MS);
        let mut ahead = LeaderClock::start(Timestamp(0), start, start, secs(0));
        assert_eq!(ahead.stamp(secs(10), start.plus_ms(HOUR_MS)), start.plus_ms(11_000));
        let mut behind = LeaderClock::start(Timestamp(0), start, start, secs(0));
        assert_eq!(behind.stamp(secs(10), Timestamp(0)), start.plus_ms(9_000));
    }

    #[test]
    fn a_monotonic_reading_from_before_is_ignored() {
        let start = Timestamp(1_000_000);
        let mut clock = LeaderClock::start(Timestamp(0), start, start, secs(10));
        let first = clock.stamp(secs(20), start.plus_ms(10_000));
        assert_eq!(clock.stamp(secs(15), start.plus_ms(10_000)), first);
    }

    #[test]
    fn one_of_three_clocks_cannot_move_the_median() {
        let honest = Timestamp(1_000);
        let median = |own, others: &[Timestamp]| lower_median(Timestamp(0), own, others.iter().copied());
        assert_eq!(median(honest, &[Timestamp(1_001), Timestamp(u64::MAX)]), Timestamp(1_001));
        assert_eq!(median(Timestamp(u64::MAX), &[honest]), honest);
        assert_eq!(median(honest, &[]), honest);
    }

    #[test]
    fn a_clock_hours_behind_what_was_applied_does_not_count_while_there_is_another() {
        let (now, applied) = (Timestamp(10 * HOUR_MS), Timestamp(10 * HOUR_MS - 8_000));
        let behind = Timestamp(8 * HOUR_MS);
        assert_eq!(lower_median(applied, now, [behind]), now);
        assert_eq!(lower_median(applied, behind, [now]), now);
        assert_eq!(lower_median(applied, behind, [behind.plus_ms(1)]), behind, "there is no other");
        assert_eq!(lower_median(applied, now, [now.minus_ms(59_000)]), now.minus_ms(59_000), "it may be right");
    }

    #[test]
    fn a_wall_clock_two_hours_behind_starts_at_most_one_second_behind() {
        let median = Timestamp(10 * HOUR_MS);
        let applied = median.minus_ms(8_000);
        let mut clock = LeaderClock::start(applied, Timestamp(8 * HOUR_MS), median, secs(5));
        assert_eq!(clock.stamp(secs(5), median), median.minus_ms(1_000));
    }
}
