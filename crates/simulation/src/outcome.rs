//! What came of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use conclave_workload::checks::Tally;
use conclave_workload::history::History;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// A promise that was seen broken while the run went on.
#[derive(Debug)]
pub struct Violated(pub String);

impl std::fmt::Display for Violated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Expired {
    /// Of this run and another one.
    pub fn and(self, other: Expired) -> Expired {
        Expired {
            leases: self.leases + other.leases,
            counted: self.counted + other.counted,
            overlaps: self.overlaps + other.overlaps,
            leader_changes: self.leader_changes + other.leader_changes,
            soonest_ms: self.soonest_ms.min(other.soonest_ms),
        }
    }
}

impl std::fmt::Display for Expired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Expired { leases, counted, overlaps, leader_changes, soonest_ms } = self;
        write!(f, "{leases} leases ended (queues count {counted}), {overlaps} overlaps, ")?;
        write!(
            f,
            "{leader_changes} changes of leaders, next delivery {soonest_ms:+} ms from a lease's end at the soonest"
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    Nothing,
    Violations(Vec<String>),
    /// Nothing is wrong, and too little happened to say so.
    NotEnoughEvidence(Vec<String>),
    /// The simulation itself failed: this says nothing about the product, and is no pass.
    Harness(String),
}

/// What came of leases that were made to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    /// Leases that ended, by the attempts that were delivered, and as the queues count them.
    pub leases: u64,
    pub counted: u64,
    /// What was seen of two leases of one item at once.
    pub overlaps: u64,
    pub leader_changes: u64,
    /// How long after the end of a lease the next delivery of its item was there at the soonest, in milliseconds. Below
    /// zero a lease ended early, as it may by a little when leaders change.
    pub soonest_ms: i64,
}

/// One line of a sweep's results.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub seed: u64,
    pub hosts: usize,
    pub finding: Finding,
    pub simulated: Duration,
    pub faults: BTreeMap<String, u64>,
    /// Operations by kind: acknowledged, refused, unknown.
    pub operations: BTreeMap<String, [u64; 3]>,
    /// Of everything that was sent between nodes.
    pub digest: u64,
    pub writes: u64,
    pub bytes: u64,
    /// Of a run that lets leases end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<Expired>,
    /// In microseconds of real time; set by whoever waited for the run.
    #[serde(default)]
    pub took_us: u64,
    #[serde(skip)]
    pub history: Option<History>,
}

impl Outcome {
    pub fn new(plan: &Plan) -> Outcome {
        Outcome {
            seed: plan.seed,
            hosts: plan.hosts,
            finding: Finding::Nothing,
            simulated: Duration::ZERO,
            faults: BTreeMap::new(),
            operations: BTreeMap::new(),
            digest: 0,
            writes: 0,
            bytes: 0,
            expired: None,
            took_us: 0,
            history: None,
        }
    }

    pub fn settle(&mut self, found: Result<Finding>) {
        self.finding = match found {
            Ok(finding) => finding,
            Err(error) => match error.downcast::<Violated>() {
                Ok(Violated(what)) => Finding::Violations(vec![what]),
                Err(error) => Finding::Harness(format!("{error:#}")),
            },
        };
    }

    pub fn take_history(&mut self, history: History) {
        for (kind, outcomes) in &Tally::of(&history).operations {
            self.operations.insert((*kind).to_owned(), [outcomes.ok, outcomes.refused, outcomes.unknown]);
        }
        self.history = Some(history);
    }
}
