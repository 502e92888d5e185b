//! I4: replicas that have applied the same entries hold the same state, byte for byte.
//!
//! What a replica writes by itself, compacted documents, is left out: what it means is compared by those who read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use conclave_raft::{LOCAL_CLASS, state_range};
use conclave_storage::{Engine, EngineError, Family};
use conclave_types::GroupId;
use xxhash_rust::xxh3::Xxh3;

use crate::machine::Machine;

/// Of a group's key the number of the group, then the class.
const CLASS_AT: usize = 2;

/// Replicas of one group in the end: what each has applied, and the digest of its state.
type Replicas = BTreeMap<String, (Option<u64>, u64)>;

/// What the machines hold of each group.
pub fn states(machines: &[Arc<Machine>]) -> Result<BTreeMap<u16, Replicas>, EngineError> {
    let mut groups: BTreeMap<u16, Replicas> = BTreeMap::new();
    for machine in machines {
        for replica in machine.replicas() {
            let digest = digest(&*machine.disk.engine(), replica.group)?;
            groups.entry(replica.group.0).or_default().insert(machine.name.clone(), (replica.applied, digest));
        }
    }
    Ok(groups)
}

fn digest(engine: &dyn Engine, group: GroupId) -> Result<u64, EngineError> {
    let mut digest = Xxh3::new();
    for pair in engine.scan(Family::State, state_range(group)) {
        let (key, value) = pair?;
        if key.get(CLASS_AT) != Some(&LOCAL_CLASS) {
            digest.update(&(key.len() as u64).to_le_bytes());
            digest.update(&key);
            digest.update(&value);
        }
    }
    Ok(digest.digest())
}

/// Groups whose replicas have not all applied the same entries.
pub fn behind(groups: &BTreeMap<u16, Replicas>) -> Vec<String> {
    let differ = |replicas: &Replicas| {
        let mut applied = replicas.values().map(|(applied, _)| applied);
        let first = applied.next();
        applied.any(|other| Some(other) != first)
    };
    let behind = groups.iter().filter(|(_, replicas)| differ(replicas));
    behind.map(|(group, replicas)| format!("group {group}: replicas have applied {:?}", named(replicas))).collect()
}

/// Groups of which two replicas have applied the same and hold something else.
pub fn differing(groups: &BTreeMap<u16, Replicas>) -> Vec<String> {
    let mut found = Vec::new();
    for (group, replicas) in groups {
        let mut first: BTreeMap<Option<u64>, (&str, u64)> = BTreeMap::new();
        for (machine, (applied, digest)) in replicas {
            let (other, known) = *first.entry(*applied).or_insert((machine, *digest));
            if known != *digest {
                found.push(format!("group {group}: {machine} and {other} have applied {applied:?} and differ"));
            }
        }
    }
    found
}

fn named(replicas: &Replicas) -> Vec<(&str, Option<u64>)> {
    replicas.iter().map(|(machine, (applied, _))| (machine.as_str(), *applied)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(replicas: &[(&str, u64, u64)]) -> BTreeMap<u16, Replicas> {
        let replicas = replicas.iter().map(|(name, applied, digest)| ((*name).to_owned(), (Some(*applied), *digest)));
        BTreeMap::from([(3, replicas.collect())])
    }

    #[test]
    fn two_states_of_one_position_are_refused() {
        assert!(differing(&groups(&[("host-0", 7, 1), ("host-1", 7, 1), ("host-2", 6, 9)])).is_empty());
        assert_eq!(differing(&groups(&[("host-0", 7, 1), ("host-1", 7, 2)])).len(), 1);
    }

    #[test]
    fn who_is_behind_is_named() {
        assert!(behind(&groups(&[("host-0", 7, 1), ("host-1", 7, 2)])).is_empty());
        assert_eq!(behind(&groups(&[("host-0", 7, 1), ("host-1", 6, 1)])).len(), 1);
    }
}
