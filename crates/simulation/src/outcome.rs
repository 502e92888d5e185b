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
