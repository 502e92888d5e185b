//! Durations as people type them: `500ms`, `30s`, `5m`, `2h`.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Each unit with its milliseconds, the largest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a whole number with its unit.
pub fn parse(text: &str) -> Result<Duration, String> {
    let rule = || "must be a whole number with a unit, such as 500ms, 30s, 5m or 2h".to_owned();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(rule)?;
    let (number, unit) = text.split_at(unit_at);
    let (_, unit_ms) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(rule)?;
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    ms.map(Duration::from_millis).ok_or_else(rule)
}

/// Reads a duration of a range in milliseconds.
pub fn within(range_ms: RangeInclusive<u64>) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let duration = parse(text)?;
        let fits = u64::try_from(duration.as_millis()).is_ok_and(|ms| range_ms.contains(&ms));
        match fits {
            true => Ok(duration),
            false => Err(format!("must be {} to {}", written(*range_ms.start()), written(*range_ms.end()))),
        }
    }
}

/// Milliseconds as [`parse`] reads them, in the largest unit that needs no fraction.
pub fn written(ms: u64) -> String {
    let fits = |(_, unit_ms): &(&str, u64)| ms.is_multiple_of(*unit_ms);
    match UNITS.into_iter().find(fits) {
        _ if ms == 0 => "0s".to_owned(),
        Some((unit, unit_ms)) => format!("{}{unit}", ms / unit_ms),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_read() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(written(ms), text);
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for text in ["", "30", "s", "1.5s", "-1s", "1 s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_holds_its_ends_and_is_said_otherwise() {
        let lease = within(1_000..=43_200_000);
        assert_eq!(lease("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(lease("12h"), Ok(Duration::from_secs(43_200)));
        for text in ["999ms", "43201s"] {
            assert_eq!(lease(text), Err("must be 1s to 12h".to_owned()), "{text}");
        }
        assert_eq!(lease("1"), parse("1"));
    }
}
