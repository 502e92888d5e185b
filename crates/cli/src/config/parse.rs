//! From text to values that cannot be wrong. Each function returns the rule in words when the text breaks it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use conclave_cluster::ClusterToken;
use conclave_types::ProjectId;
use conclave_types::limits::MAX_SHARDS;

use super::Address;

/// Most addresses of one list; a few suffice to find a cluster, and a founding list is written by hand.
const MAX_LISTED_HOSTS: usize = 64;
const MAX_ZONE_CHARACTERS: usize = 63;
/// Below, timers fire for nothing; above, a lost host is not noticed within a minute.
const TIMING_RANGE_MS: std::ops::RangeInclusive<u64> = 10..=60_000;

/// Below, a log is shortened at every other entry; above, nobody waits for so many again.
const COMPACT_RANGE_ENTRIES: std::ops::RangeInclusive<u64> = 100..=10_000_000;
/// Below, a follower that misses one heartbeat needs the whole state.
const KEEP_RANGE_ENTRIES: std::ops::RangeInclusive<u64> = 10..=10_000_000;

/// What a value must be, in words that follow "must be".
pub type Rule = String;

pub fn address(text: &str) -> Result<Address, Rule> {
    text.parse().map_err(|_| "host:port, such as 127.0.0.1:7100 or [::1]:7100".to_owned())
}

/// An address that others connect to: it has a port of its own and names one machine.
pub fn fixed_address(text: &str) -> Result<Address, Rule> {
    let address = address(text)?;
    if address.port() == 0 || address.is_unspecified() {
        return Err("an address that others can connect to, so neither port 0 nor 0.0.0.0".to_owned());
    }
    Ok(address)
}

pub fn addresses(text: &str) -> Result<Vec<Address>, Rule> {
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if !(1..=MAX_LISTED_HOSTS).contains(&parts.len()) {
        return Err(format!("a list of 1 to {MAX_LISTED_HOSTS} addresses"));
    }
    let mut addresses: Vec<Address> = Vec::with_capacity(parts.len());
    for part in parts {
        let address = fixed_address(part).map_err(|rule| format!("a list of addresses, and {part} must be {rule}"))?;
        if addresses.contains(&address) {
            return Err(format!("a list of different addresses, and {part} stands there twice"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

pub fn boolean(text: &str) -> Result<bool, Rule> {
    text.parse().map_err(|_| "true or false".to_owned())
}

pub fn shards(text: &str) -> Result<u16, Rule> {
    let valid = |shards: &u16| shards.is_power_of_two() && *shards <= MAX_SHARDS;
    text.parse().ok().filter(valid).ok_or_else(|| format!("a power of two from 1 to {MAX_SHARDS}"))
}

pub fn project(text: &str) -> Result<ProjectId, Rule> {
    let rule = "1 to 63 characters of a-z, 0-9 and hyphen that begin and end with a letter or digit";
    text.parse().map_err(|_| rule.to_owned())
}

pub fn timing(text: &str) -> Result<Duration, Rule> {
    let (least, most) = (TIMING_RANGE_MS.start(), TIMING_RANGE_MS.end());
    let ms = text.parse().ok().filter(|ms| TIMING_RANGE_MS.contains(ms));
    ms.map(Duration::from_millis).ok_or_else(|| format!("milliseconds from {least} to {most}"))
}

pub fn compact_after(text: &str) -> Result<u64, Rule> {
    entries(text, COMPACT_RANGE_ENTRIES)
}

pub fn keep_log(text: &str) -> Result<u64, Rule> {
    entries(text, KEEP_RANGE_ENTRIES)
}

fn entries(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, Rule> {
    let entries = text.parse().ok().filter(|entries| range.contains(entries));
    entries.ok_or_else(|| format!("log entries from {} to {}", range.start(), range.end()))
}

pub fn folder(text: &str) -> Result<PathBuf, Rule> {
    if text.is_empty() { Err("the path of a folder".to_owned()) } else { Ok(PathBuf::from(text)) }
}

pub fn zone(text: &str) -> Result<String, Rule> {
    if text.chars().count() > MAX_ZONE_CHARACTERS || text.contains(char::is_control) {
        return Err(format!("at most {MAX_ZONE_CHARACTERS} characters without control characters"));
    }
    Ok(text.to_owned())
}

pub fn log_filter(text: &str) -> Result<String, Rule> {
    let valid = !text.is_empty() && tracing_subscriber::EnvFilter::try_new(text).is_ok();
    if valid { Ok(text.to_owned()) } else { Err("a level, or a filter such as info,conclave_raft=debug".to_owned()) }
}

pub fn token(text: &str) -> Result<ClusterToken, Rule> {
    text.parse().map_err(|_| "16 to 1024 bytes".to_owned())
}

pub fn token_file(path: &str) -> Result<ClusterToken, Rule> {
    let text =
        std::fs::read_to_string(Path::new(path)).map_err(|error| format!("a file that can be read ({error})"))?;
    token(text.trim()).map_err(|rule| format!("a file that holds {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_powers_of_two() {
        for good in [1, 2, 16, 128, 4_096] {
            assert_eq!(shards(&good.to_string()), Ok(good));
        }
        for bad in ["0", "3", "8192", "-1", "many", ""] {
            assert_eq!(shards(bad), Err("a power of two from 1 to 4096".to_owned()), "{bad}");
        }
    }

    #[test]
    fn lists_hold_different_addresses_that_can_be_reached() {
        assert_eq!(addresses("a:1, b:2").map(|list| list.len()), Ok(2));
        assert!(addresses("").is_err());
        assert!(addresses("a:1,a:1").unwrap_err().contains("twice"));
        assert!(addresses("a:1,b:0").unwrap_err().contains("b:0"));
        let long: Vec<String> = (1..=65).map(|port| format!("a:{port}")).collect();
        assert_eq!(addresses(&long.join(",")), Err("a list of 1 to 64 addresses".to_owned()));
    }

    #[test]
    fn timings_stay_in_their_range() {
        assert_eq!(timing("200"), Ok(Duration::from_millis(200)));
        for bad in ["9", "60001", "2s", ""] {
            assert_eq!(timing(bad), Err("milliseconds from 10 to 60000".to_owned()), "{bad}");
        }
    }

    #[test]
    fn bounds_of_the_log_stay_in_their_range() {
        assert_eq!((compact_after("100"), keep_log("10")), (Ok(100), Ok(10)));
        assert_eq!(compact_after("99"), Err("log entries from 100 to 10000000".to_owned()));
        assert_eq!(keep_log("9"), Err("log entries from 10 to 10000000".to_owned()));
    }

    #[test]
    fn log_filters_are_read_before_the_start() {
        assert!(log_filter("info,conclave_raft=debug").is_ok());
        assert!(log_filter("conclave_raft=loud").is_err());
        assert!(log_filter("").is_err());
    }
}
