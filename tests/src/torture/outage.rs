//! How long whom a fault hurt, read from a history: the longest time without an acknowledged write.

use std::collections::BTreeMap;
use std::time::Duration;

use conclave_workload::history::{Fault, History};

/// What follows a fault's healing counts as its doing for so long.
const AFTERMATH_US: u64 = 5_000_000;
/// Answers that were on their way when a host was killed arrive within this time.
const ON_ITS_WAY_US: u64 = 300_000;
/// How long before a kill all must have been well for its failover to count.
const CALM_US: u64 = 2_000_000;

/// Durations of one kind, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution(Vec<Duration>);

impl Distribution {
    pub fn of(mut durations: Vec<Duration>) -> Distribution {
        durations.sort_unstable();
        Distribution(durations)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest of them that `per_cent` of them do not exceed.
    pub fn percentile(&self, per_cent: usize) -> Duration {
        let rank = (self.0.len() * per_cent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub fn longest(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    /// How many are below each of these, and how many are not.
    pub fn histogram(&self, below: &[Duration]) -> Vec<usize> {
        let ends = below.iter().map(|end| self.0.partition_point(|duration| duration < end));
        let ends: Vec<usize> = ends.chain([self.0.len()]).collect();
        (0..ends.len()).map(|index| ends[index] - index.checked_sub(1).map_or(0, |before| ends[before])).collect()
    }
}

/// Per kind of fault, for each fault and each room whose leader it hit: the longest time without an acknowledged write
/// from its beginning until shortly after its healing.
pub fn by_kind(history: &History) -> BTreeMap<String, Distribution> {
    let writes = writes(history);
    let mut durations: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for fault in &history.faults {
        let until = fault.ended.map_or(u64::MAX, |ended| ended + AFTERMATH_US);
        for room in &fault.rooms {
            if let Some(longest) = longest(&writes[*room], fault.began, until) {
                durations.entry(fault.kind.clone()).or_default().push(longest);
            }
        }
    }
    durations.into_iter().map(|(kind, durations)| (kind, Distribution::of(durations))).collect()
}

/// After each fault of this kind that came alone: the time from it until its room took a write again.
pub fn failovers(history: &History, kind: &str) -> Distribution {
    let writes = writes(history);
    let mut durations = Vec::new();
    for fault in history.faults.iter().filter(|fault| fault.kind == kind) {
        for room in &fault.rooms {
            let Some(end) = next_write(&writes[*room], fault.began) else { continue };
            if history.faults.iter().all(|other| other == fault || is_apart(other, fault.began, end)) {
                durations.push(Duration::from_micros(end - fault.began));
            }
        }
    }
    Distribution::of(durations)
}

/// Times of acknowledged writes of each room, ascending.
fn writes(history: &History) -> Vec<Vec<u64>> {
    let mut writes = vec![Vec::new(); history.rooms.len()];
    for operation in history.operations.iter().filter(|operation| operation.is_write()) {
        if let (Some(answered), Some(_)) = (operation.answered, operation.revision()) {
            writes[operation.room].push(answered);
        }
    }
    writes.iter_mut().for_each(|writes| writes.sort_unstable());
    writes
}

fn longest(writes: &[u64], from: u64, until: u64) -> Option<Duration> {
    let gaps = writes.windows(2).filter(|pair| pair[1] > from && pair[0] < until);
    gaps.map(|pair| Duration::from_micros(pair[1] - pair[0].max(from))).max()
}

/// The end of the longest gap that begins around a kill: the first write after it that was not answered before it.
fn next_write(writes: &[u64], killed: u64) -> Option<u64> {
    let gaps = writes.windows(2).filter(|pair| pair[1] > killed && pair[0] <= killed + ON_ITS_WAY_US);
    gaps.max_by_key(|pair| pair[1] - pair[0].max(killed)).map(|pair| pair[1])
}

fn is_apart(fault: &Fault, from: u64, until: u64) -> bool {
    fault.began > until || fault.ended.is_some_and(|ended| ended + CALM_US < from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_workload::history::{Answer, Call, Operation, Outcome, Value};

    fn history(writes_ms: &[u64], faults: &[(&str, u64, u64)]) -> History {
        let mut history = History::new(0, vec!["room".to_owned()]);
        for (serial, at) in (1..).zip(writes_ms) {
            let call = Call::Post { value: Value { writer: 1, serial }, again: false };
            let outcome = Outcome::Ok { revision: u64::from(serial), answer: Answer::Done };
            let answered = Some(at * 1_000);
            let operation = Operation { actor: 0, session: None, room: 0, invoked: 0, answered, call, outcome };
            history.operations.push(operation);
        }
        for (kind, began, ended) in faults {
            let (kind, detail, ended) = ((*kind).to_owned(), String::new(), Some(ended * 1_000));
            history.faults.push(Fault { kind, detail, began: began * 1_000, ended, rooms: vec![0] });
        }
        history
    }

    #[test]
    fn the_longest_gap_after_a_fault_is_its_doing() {
        let history = history(&[900, 1_050, 2_500, 2_600, 9_900], &[("kill", 1_000, 2_000)]);
        let found = by_kind(&history);
        assert_eq!(found["kill"].longest(), Duration::from_millis(7_300));
        assert_eq!(failovers(&history, "kill").longest(), Duration::from_millis(1_500));
    }

    #[test]
    fn a_failover_beside_another_fault_is_not_measured() {
        let alone = [("kill", 10_000, 12_000)];
        let beside = [("kill", 10_000, 12_000), ("pause", 8_500, 9_000)];
        let writes = [9_990, 11_000];
        assert_eq!(failovers(&history(&writes, &alone), "kill").count(), 1);
        assert_eq!(failovers(&history(&writes, &beside), "kill").count(), 0);
    }

    #[test]
    fn percentiles_are_of_those_that_were_seen() {
        let distribution = Distribution::of((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(distribution.percentile(50), Duration::from_millis(50));
        assert_eq!(distribution.percentile(99), Duration::from_millis(99));
        assert_eq!(distribution.longest(), Duration::from_millis(100));
        assert_eq!(distribution.histogram(&[Duration::from_millis(11), Duration::from_millis(51)]), [10, 40, 50]);
        assert_eq!(Distribution::default().percentile(99), Duration::ZERO);
    }
}
