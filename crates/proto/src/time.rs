//! Times and durations between wire and domain. The domain counts milliseconds.

use conclave_types::Timestamp;

const MS_PER_SECOND: u64 = 1_000;
const NANOS_PER_MS: i32 = 1_000_000;

pub fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = split(time.0);
    prost_types::Timestamp { seconds, nanos }
}

pub fn duration_of_ms(ms: u64) -> prost_types::Duration {
    let (seconds, nanos) = split(ms);
    prost_types::Duration { seconds, nanos }
}

/// The millisecond of a moment, the epoch for an earlier one; None for what is no moment.
pub fn timestamp_of(time: &prost_types::Timestamp) -> Option<Timestamp> {
    let nanos = u64::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let Ok(seconds) = u64::try_from(time.seconds) else { return Some(Timestamp(0)) };
    Some(Timestamp(seconds.checked_mul(MS_PER_SECOND)?.checked_add(nanos / NANOS_PER_MS as u64)?))
}

/// Whole milliseconds, rounded up so that no wait becomes none; None for a negative or unrepresentable duration.
pub fn ms_of_duration(duration: &prost_types::Duration) -> Option<u64> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u64::try_from(duration.nanos).ok()?;
    seconds.checked_mul(MS_PER_SECOND)?.checked_add(nanos.div_ceil(NANOS_PER_MS as u64))
}

fn split(ms: u64) -> (i64, i32) {
    // A remainder below 1,000 times a million stays below 2^30.
    ((ms / MS_PER_SECOND) as i64, (ms % MS_PER_SECOND) as i32 * NANOS_PER_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_survive_and_round_up() {
        for ms in [0, 1, 999, 1_000, 43_200_000, 1_700_000_000_123] {
            assert_eq!(ms_of_duration(&duration_of_ms(ms)), Some(ms));
        }
        assert_eq!(ms_of_duration(&prost_types::Duration { seconds: 0, nanos: 1 }), Some(1));
        assert_eq!(ms_of_duration(&prost_types::Duration { seconds: -1, nanos: 0 }), None);
        assert_eq!(ms_of_duration(&prost_types::Duration { seconds: i64::MAX, nanos: 0 }), None);
        assert_eq!(timestamp(Timestamp(u64::MAX)).seconds, 18_446_744_073_709_551);
    }
}
