//! What must hold on the machines themselves, whatever clients see; looked at again and again while a run goes on.
//!
//! One invariant a file, each with a story that it refuses. What clients were told is judged by `conclave-workload`.

pub mod applied;
mod committed;
mod order;
mod progress;

use std::sync::Arc;

use conclave_raft::GroupStatus;
use conclave_storage::EngineError;

use crate::machine::Machine;
use committed::Committed;
use progress::Progress;

/// A replica's view of itself, on a machine.
pub struct Sight<'a> {
    pub machine: &'a str,
    /// Which process of that machine shows it, by its count.
    pub life: u64,
    pub replica: &'a GroupStatus,
}

/// All invariants, with what each must remember.
#[derive(Default)]
pub struct Invariants {
    progress: Progress,
    committed: Committed,
}

impl Invariants {
    /// Looks at what every replica says of itself.
    pub fn look(&mut self, machines: &[Arc<Machine>]) -> Vec<String> {
        let mut found = Vec::new();
        for machine in machines {
            for replica in machine.replicas() {
                let sight = Sight { machine: &machine.name, life: machine.life(), replica: &replica };
                found.extend(order::check(&sight));
                found.extend(
                    replica.fatal.as_ref().map(|reason| {
                        format!("{}, group {}: the replica broke: {reason}", machine.name, replica.group.0)
                    }),
                );
                found.extend(self.progress.check(&sight));
            }
        }
        found
    }

    /// How often a group got another leader than its first one.
    pub fn leader_changes(&self) -> u64 {
        self.progress.leader_changes()
    }

    /// Compares the logs on all disks, as far as they are committed.
    pub fn compare_logs(&mut self, machines: &[Arc<Machine>]) -> Result<Vec<String>, EngineError> {
        let mut found = Vec::new();
        for machine in machines {
            let engine = machine.disk.engine();
            for replica in machine.replicas() {
                found.extend(self.committed.check(&machine.name, &*engine, &replica)?);
            }
        }
        Ok(found)
    }
}
