//! I2 and I3: a committed entry is the same on all machines, for ever.

use std::collections::BTreeMap;

use conclave_raft::{GroupStatus, stored_entries};
use conclave_storage::{Engine, EngineError};
use xxhash_rust::xxh3::xxh3_64;

#[derive(Default)]
pub struct Committed {
    /// Of each group the entries that some replica has applied, by index: their digest, and who had it first.
    entries: BTreeMap<(u32, u64), (u64, String)>,
    /// Up to where a machine's log was compared.
    compared: BTreeMap<(String, u32), u64>,
}

impl Committed {
    /// Compares what a machine's log has committed since the last time.
    pub fn check(
        &mut self,
        machine: &str,
        engine: &dyn Engine,
        replica: &GroupStatus,
    ) -> Result<Vec<String>, EngineError> {
        // What is applied was committed and is written here; what is only committed may still be on its way to the disk.
        let Some(applied) = replica.applied else { return Ok(Vec::new()) };
        let group = u32::from(replica.group.0);
        let from = self.compared.get(&(machine.to_owned(), group)).copied().unwrap_or_default();
        if from > applied {
            return Ok(Vec::new());
        }
        let entries = stored_entries(engine, replica.group, from..applied + 1)?;
        let found = entries.iter().filter_map(|(index, bytes)| self.compare(machine, group, *index, bytes)).collect();
        if let Some((last, _)) = entries.last() {
            self.compared.insert((machine.to_owned(), group), last + 1);
        }
        Ok(found)
    }

    fn compare(&mut self, machine: &str, group: u32, index: u64, bytes: &[u8]) -> Option<String> {
        let digest = xxh3_64(bytes);
        let (known, first) = self.entries.entry((group, index)).or_insert_with(|| (digest, machine.to_owned()));
        (*known != digest)
            .then(|| format!("group {group}, index {index}: {machine} and {first} committed different entries"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_entries_at_one_index_are_refused() {
        let mut committed = Committed::default();
        assert_eq!(committed.compare("host-0", 1, 7, b"one"), None);
        assert_eq!(committed.compare("host-1", 1, 7, b"one"), None);
        assert_eq!(committed.compare("host-1", 2, 7, b"two"), None);
        assert!(committed.compare("host-2", 1, 7, b"two").is_some());
    }
}
