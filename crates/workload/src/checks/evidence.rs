//! Whether enough happened: a run in which a fault or an operation that it is about never happened proves nothing.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{Answer, Death, ErrandTold, History, Outcome};

/// Operations of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub ok: u64,
    pub refused: u64,
    pub unknown: u64,
}

/// What happened, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub operations: BTreeMap<&'static str, Outcomes>,
    /// What came of them besides.
    pub sights: BTreeMap<&'static str, u64>,
    pub faults: BTreeMap<String, u64>,
}

/// What must have happened for a run to count.
#[derive(Debug, Clone)]
pub struct Demand {
    /// Acknowledged operations of each of the [`Demand::KINDS`], at least.
    pub operations: u64,
    /// Faults by kind, at least.
    pub faults: Vec<(String, u64)>,
    /// Faults of whatever kind, at least.
    pub faults_in_all: u64,
}

impl Demand {
    /// What every load does.
    pub const KINDS: [&str; 7] = ["post", "send", "receive", "ack", "push", "get room", "describe document"];

    /// What only some turns do: a twentieth of the others is wanted of each.
    pub const RARE: [&str; 4] = ["post again", "nack", "reject", "extend"];

    /// What must have come of operations on queues, as often as the rare ones.
    pub const SIGHTS: [&str; 3] = ["delivery by a stream", "item left out as a duplicate", "dead letter"];

    pub fn new(operations: u64) -> Demand {
        Demand { operations, faults: Vec::new(), faults_in_all: 0 }
    }

    pub fn and(mut self, kind: &str, at_least: u64) -> Demand {
        self.faults.push((kind.to_owned(), at_least));
        self
    }

    pub fn faults_in_all(mut self, at_least: u64) -> Demand {
        self.faults_in_all = at_least;
        self
    }

    /// Operations that are lacking, in words: what can be said while a run goes on.
    pub fn missing_operations(&self, tally: &Tally) -> Vec<String> {
        let usual = Demand::KINDS.map(|kind| (kind, self.operations));
        let rare = Demand::RARE.map(|kind| (kind, self.operations.div_ceil(20)));
        let mut missing = Vec::new();
        for (kind, wanted) in usual.into_iter().chain(rare) {
            let ok = tally.operations.get(kind).map_or(0, |outcomes| outcomes.ok);
            if ok < wanted {
                missing.push(format!("{kind}: {ok} acknowledged, wanted are {wanted}"));
            }
        }
        missing
    }

    /// What is lacking, in words.
    pub fn missing(&self, history: &History, tally: &Tally) -> Vec<String> {
        let mut missing = self.missing_operations(tally);
        let rare = self.operations.div_ceil(20);
        for sight in Demand::SIGHTS {
            let seen = tally.sights.get(sight).copied().unwrap_or_default();
            if seen < rare {
                missing.push(format!("{sight}: seen {seen} times, wanted are {rare}"));
            }
        }
        for (kind, wanted) in &self.faults {
            let happened = tally.faults.get(kind).copied().unwrap_or_default();
            if happened < *wanted {
                missing.push(format!("{kind}: happened {happened} times, wanted are {wanted}"));
            }
        }
        if tally.all_faults() < self.faults_in_all {
            missing.push(format!("{} faults happened, wanted are {}", tally.all_faults(), self.faults_in_all));
        }
        let without = |what: &str, room: usize| format!("room {room} was not read back: {what}");
        for room in 0..history.rooms.len() {
            match history.endings.get(room) {
                None => missing.push(without("it has no ending", room)),
                Some(ending) if ending.copies.is_empty() => missing.push(without("none of its documents", room)),
                Some(_) => {}
            }
            if !history.transcripts.iter().any(|transcript| transcript.room == room && transcript.resumes > 0) {
                missing.push(format!("no follower of room {room} came back"));
            }
        }
        missing
    }
}

impl Tally {
    pub fn of(history: &History) -> Tally {
        let mut tally = Tally::default();
        for operation in &history.operations {
            let outcomes = tally.operations.entry(operation.call.kind()).or_default();
            match operation.outcome {
                Outcome::Ok { .. } => outcomes.ok += 1,
                Outcome::Refused { .. } => outcomes.refused += 1,
                Outcome::Unknown { .. } => outcomes.unknown += 1,
            }
        }
        for errand in &history.errands {
            let outcomes = tally.operations.entry(errand.call.kind()).or_default();
            match errand.told {
                ErrandTold::Unknown(_) => outcomes.unknown += 1,
                ErrandTold::Done | ErrandTold::Label(_) => outcomes.ok += 1,
                _ => outcomes.refused += 1,
            }
        }
        tally.see(history);
        for fault in &history.faults {
            *tally.faults.entry(fault.kind.clone()).or_default() += 1;
        }
        tally
    }

    fn see(&mut self, history: &History) {
        let mut see = |what, times: usize| *self.sights.entry(what).or_default() += times as u64;
        for operation in &history.operations {
            if let Some(Answer::Sent { duplicates, .. }) = operation.answer() {
                see("item left out as a duplicate", duplicates.len());
            }
        }
        for consumption in &history.consumptions {
            see("delivery by a stream", consumption.handed.len());
            see("delivery held before", consumption.handed.iter().filter(|handed| handed.revision.is_none()).count());
        }
        for letter in history.endings.iter().flat_map(|ending| &ending.dead_letters) {
            see("dead letter", 1);
            see("dead letter, rejected", usize::from(letter.reason == Death::Rejected));
        }
    }

    pub fn all(&self) -> u64 {
        self.operations.values().map(|outcomes| outcomes.ok + outcomes.refused + outcomes.unknown).sum()
    }

    pub fn all_faults(&self) -> u64 {
        self.faults.values().sum()
    }
}

/// One line a kind, for logs and reports.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| operation | acknowledged | refused | unknown |\n| --- | ---: | ---: | ---: |")?;
        for (kind, Outcomes { ok, refused, unknown }) in &self.operations {
            writeln!(f, "| {kind} | {ok} | {refused} | {unknown} |")?;
        }
        writeln!(f, "\n| what came of them | times |\n| --- | ---: |")?;
        for (what, times) in &self.sights {
            writeln!(f, "| {what} | {times} |")?;
        }
        writeln!(f, "\n| fault | times |\n| --- | ---: |")?;
        for (kind, times) in &self.faults {
            writeln!(f, "| {kind} | {times} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, delivery, done, post, unknown, value};
    use super::super::{Verdict, judge};
    use super::*;
    use crate::history::{Fault, ItemOptions};

    #[test]
    fn a_run_in_which_nothing_happened_proves_nothing() {
        let verdict = judge(&Story::begin().end(), &Demand::new(1));
        let Verdict::NotEnoughEvidence(_, missing) = verdict else { panic!("{verdict:?}") };
        assert!(missing.iter().any(|what| what.contains("push: 0 acknowledged")), "{missing:?}");
    }

    #[test]
    fn a_run_without_dead_letters_proves_nothing_of_them() {
        let missing = |history: &History| Demand::new(1).missing(history, &Tally::of(history));
        let sights = |history: &History, what: &str| missing(history).iter().any(|lacks| lacks.starts_with(what));
        let bare = Story::begin().end();
        let named = ItemOptions { named: true, ..ItemOptions::default() };
        let story = Story::begin().duplicate(named, value(1, 1), 1, 1);
        let story = story.handed(7, value(1, 1), delivery(1, 1), 1, Some(2));
        let full = story.dead(value(1, 1), delivery(1, 2), Death::TooManyAttempts, 3).end();
        for what in Demand::SIGHTS {
            assert!(sights(&bare, what), "{what}");
            assert!(!sights(&full, what), "{what}");
        }
    }

    #[test]
    fn a_fault_that_never_happened_is_missed() {
        let mut history = Story::begin().end();
        let demand = Demand::new(0).and("power cut", 1);
        assert!(demand.missing(&history, &Tally::of(&history)).iter().any(|what| what.starts_with("power cut")));
        let (kind, detail) = ("power cut".to_owned(), String::new());
        history.faults.push(Fault { kind, detail, began: 1, ended: Some(2), rooms: vec![0] });
        assert!(!demand.missing(&history, &Tally::of(&history)).iter().any(|what| what.starts_with("power cut")));
    }

    #[test]
    fn a_violation_counts_however_little_happened() {
        let lost = Story::begin().then(post(1, 1), done(1)).end();
        assert!(matches!(judge(&lost, &Demand::new(1_000)), Verdict::Violations(..)));
    }

    #[test]
    fn unknown_operations_are_counted_as_such() {
        let history =
            Story::begin().then(post(1, 1), done(1)).then(post(1, 2), unknown()).log(&[(1, value(1, 1))]).end();
        let tally = Tally::of(&history);
        assert_eq!(tally.operations["post"], Outcomes { ok: 1, refused: 0, unknown: 1 });
        assert_eq!(tally.all(), 2);
    }
}
