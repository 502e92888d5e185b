//! What many runs came to together, and whether that is enough to say anything.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::options::Options;
use conclave_workload::history::ErrandCall;

use crate::nemesis::Kind;
use crate::outcome::{Expired, Finding, Outcome};

/// From so many seeds on each kind of fault must have come; fewer may miss one by chance.
const SEEDS_FOR_ALL_KINDS: usize = 40;
/// What the load does besides what each run must do anyway, and besides errands.
const OPERATIONS: [&str; 3] = ["get queue", "list queues", "list documents"];

/// Every operation that must have been acknowledged somewhere.
fn operations() -> impl Iterator<Item = &'static str> {
    OPERATIONS.into_iter().chain(ErrandCall::KINDS)
}

pub struct Summary {
    pub seeds: usize,
    pub first: u64,
    pub last: u64,
    pub seconds: u64,
    pub violations: usize,
    pub without_evidence: usize,
    pub harness: usize,
    pub simulated: Duration,
    pub took: Duration,
    pub faults: BTreeMap<String, u64>,
    /// Acknowledged, refused, unknown.
    pub operations: BTreeMap<String, [u64; 3]>,
    /// By hosts: runs, simulated and real seconds.
    pub speeds: BTreeMap<usize, (usize, f64, f64)>,
    /// Of runs that let leases end.
    pub expired: Option<Expired>,
    /// What all seeds together should have brought and did not.
    pub missing: Vec<String>,
}

impl Summary {
    pub fn of(outcomes: &[Outcome], took: Duration, options: &Options) -> Summary {
        let count = |wanted: fn(&Finding) -> bool| outcomes.iter().filter(|outcome| wanted(&outcome.finding)).count();
        let mut summary = Summary {
            seeds: outcomes.len(),
            first: outcomes.first().map_or(options.seeds.start, |outcome| outcome.seed),
            last: outcomes.last().map_or(options.seeds.start, |outcome| outcome.seed),
            seconds: options.seconds,
            violations: count(|finding| matches!(finding, Finding::Violations(_))),
            without_evidence: count(|finding| matches!(finding, Finding::NotEnoughEvidence(_))),
            harness: count(|finding| matches!(finding, Finding::Harness(_))),
            simulated: outcomes.iter().map(|outcome| outcome.simulated).sum(),
            took,
            faults: BTreeMap::new(),
            operations: BTreeMap::new(),
            speeds: BTreeMap::new(),
            expired: outcomes.iter().filter_map(|outcome| outcome.expired).reduce(Expired::and),
            missing: Vec::new(),
        };
        for outcome in outcomes {
            for (kind, faults) in &outcome.faults {
                *summary.faults.entry(kind.clone()).or_default() += faults;
            }
            for (kind, counts) in &outcome.operations {
                let sums = summary.operations.entry(kind.clone()).or_default();
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            let speed = summary.speeds.entry(outcome.hosts).or_default();
            let runs = if options.twice { 2.0 } else { 1.0 };
            *speed =
                (speed.0 + 1, speed.1 + outcome.simulated.as_secs_f64(), speed.2 + outcome.took_us as f64 / 1e6 / runs);
        }
        summary.missing = summary.lacking(options);
        summary
    }

    /// Faults and operations that never came.
    fn lacking(&self, options: &Options) -> Vec<String> {
        let mut missing = Vec::new();
        if self.seeds == 0 {
            missing.push("no seed was played".to_owned());
        }
        if options.expiries.is_some() {
            // What each of them wants for itself is all that it is about.
            return missing;
        }
        if self.seeds >= SEEDS_FOR_ALL_KINDS {
            let kinds = Kind::ALL.iter().filter(|kind| !self.faults.contains_key(kind.name()));
            missing.extend(kinds.map(|kind| format!("no fault of kind {:?}", kind.name())));
        }
        let never = operations().filter(|kind| self.operations.get(*kind).is_none_or(|counts| counts[0] == 0));
        missing.extend(never.map(|kind| format!("no acknowledged operation {kind:?}")));
        missing
    }

    pub fn passed(&self) -> usize {
        self.seeds - self.violations - self.without_evidence - self.harness
    }

    /// Bad seeds, and one for a whole that is not enough.
    pub fn failed(&self) -> usize {
        self.violations + self.without_evidence + self.harness + usize::from(!self.missing.is_empty())
    }

    pub fn verdict(&self) -> String {
        let mut words = vec![format!("{} violations", self.violations)];
        if self.without_evidence > 0 {
            words.push(format!("{} without enough evidence", self.without_evidence));
        }
        if self.harness > 0 {
            words.push(format!("{} failed in the harness", self.harness));
        }
        words.extend(self.missing.iter().cloned());
        words.join(", ")
    }

    pub fn hours(&self) -> f64 {
        self.simulated.as_secs_f64() / 3_600.0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} seeds ({} to {}): {}", self.seeds, self.first, self.last, self.verdict())?;
        writeln!(f, "{:.2} simulated hours in {:.1} minutes", self.hours(), self.took.as_secs_f64() / 60.0)?;
        for (hosts, (runs, simulated, real)) in &self.speeds {
            let speed = simulated / real.max(1e-9);
            writeln!(f, "  {hosts} hosts: {runs} runs, {speed:.1} simulated seconds a second")?;
        }
        if let Some(expired) = self.expired {
            writeln!(f, "{expired}, {:.1} simulated seconds", self.simulated.as_secs_f64())?;
        }
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        writeln!(f, "faults: {}", faults.join(", "))?;
        let operations = self
            .operations
            .iter()
            .map(|(kind, [ok, refused, unknown])| format!("{kind} {ok} (refused {refused}, unknown {unknown})"));
        write!(f, "operations: {}", operations.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn options() -> Options {
        Options::parse(std::iter::empty()).expect("defaults")
    }

    fn outcome(seed: u64, finding: Finding) -> Outcome {
        let plan = Plan::new(seed, Duration::from_secs(60), None);
        let operations = operations().map(|kind| (kind.to_owned(), [1, 0, 0])).collect();
        Outcome { finding, operations, ..Outcome::new(&plan) }
    }

    #[test]
    fn a_harness_that_failed_is_no_pass() {
        let outcomes =
            [outcome(0, Finding::Nothing), outcome(1, Finding::Harness("?".into())), outcome(2, Finding::Nothing)];
        let summary = Summary::of(&outcomes, Duration::ZERO, &options());
        assert_eq!((summary.passed(), summary.failed()), (2, 1));
    }

    #[test]
    fn many_seeds_without_a_kind_of_fault_are_not_enough() {
        let outcomes: Vec<Outcome> = (0..40).map(|seed| outcome(seed, Finding::Nothing)).collect();
        let summary = Summary::of(&outcomes, Duration::ZERO, &options());
        assert_eq!(summary.missing.len(), Kind::ALL.len());
        assert_eq!(summary.failed(), 1);
        assert!(Summary::of(&outcomes[..39], Duration::ZERO, &options()).missing.is_empty());
    }

    #[test]
    fn runs_that_let_leases_end_are_summed_up_and_need_no_other_operation() {
        let options = Options { expiries: Some(10), ..options() };
        let run = |leases, soonest_ms| Outcome {
            expired: Some(Expired { leases, counted: leases, soonest_ms, ..Expired::default() }),
            operations: BTreeMap::new(),
            ..outcome(0, Finding::Nothing)
        };
        let summary = Summary::of(&[run(10, 7), run(12, -3)], Duration::ZERO, &options);
        assert_eq!(summary.failed(), 0, "{:?}", summary.missing);
        assert_eq!(summary.expired.map(|expired| (expired.leases, expired.soonest_ms)), Some((22, -3)));
        assert_eq!(Summary::of(&[], Duration::ZERO, &options).failed(), 1);
    }

    #[test]
    fn nothing_is_not_enough() {
        assert_eq!(Summary::of(&[], Duration::ZERO, &options()).failed(), 1);
    }
}
