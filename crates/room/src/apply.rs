//! How log entries run.

use bytes::Bytes;
use conclave_types::{GroupId, Timestamp};

use crate::{Applied, Command, TableError, TableReads};

/// Keys and their new values (`None` deletes), in key order; each key once.
pub type Writes = Vec<(Vec<u8>, Option<Bytes>)>;

/// Entries that are written together: each sees what the earlier ones did.
pub struct Batch<'a> {
    group: GroupId,
    reads: &'a dyn TableReads,
}

impl<'a> Batch<'a> {
    pub fn new(group: GroupId, reads: &'a dyn TableReads) -> Result<Self, TableError> {
        Ok(Batch { group, reads })
    }

    /// Applies one entry: the leader's stamp and its commands.
    pub fn apply(&mut self, time: Timestamp, commands: Vec<Command>) -> Result<Applied, TableError> {
        let _ = (self.group, self.reads, time, commands);
        Err(TableError("not built".into()))
    }

    /// What to write, all at once.
    pub fn into_writes(self) -> Writes {
        Vec::new()
    }
}

/// Applies one entry on its own.
pub fn apply(
    group: GroupId,
    time: Timestamp,
    commands: Vec<Command>,
    reads: &impl TableReads,
) -> Result<(Applied, Writes), TableError> {
    let mut batch = Batch::new(group, reads)?;
    let applied = batch.apply(time, commands)?;
    Ok((applied, batch.into_writes()))
}

/// When the shard's next timer is due, on the applied clock; none when nothing waits for time.
pub fn next_due(group: GroupId, reads: &impl TableReads) -> Result<Option<Timestamp>, TableError> {
    let _ = (group, reads);
    Err(TableError("not built".into()))
}
