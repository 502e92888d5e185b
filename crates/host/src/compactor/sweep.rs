//! Removes what this replica still holds of documents that are gone.

use std::sync::Arc;

use conclave_raft::LocalWriteError;
use conclave_room::local::{self, SweepCursor};
use conclave_storage::{EngineError, Family};

use crate::shard::Shard;
use crate::tables::EngineTables;

/// Documents looked at, and keys removed, between two entries: less than a millisecond of apply's time.
const STEP: usize = 64;

/// One round over all documents of the shard. Dropped at an await the rest is left to the next round.
pub async fn sweep(shard: &Arc<Shard>) -> Result<(), LocalWriteError> {
    let mut after: Option<SweepCursor> = None;
    loop {
        after = match step(shard, after).await {
            Ok(Some(next)) => Some(next),
            Ok(None) | Err(LocalWriteError::Stopped) => return Ok(()),
            Err(reason) => return Err(reason),
        };
        tokio::task::yield_now().await;
    }
}

async fn step(shard: &Arc<Shard>, after: Option<SweepCursor>) -> Result<Option<SweepCursor>, LocalWriteError> {
    let group = shard.group_id();
    let written = shard.group().write_local(|view, writes| {
        let (gone, next) =
            local::sweep(&EngineTables(view), group, after, STEP).map_err(|reason| EngineError::Foreign(reason.0))?;
        for (key, _) in gone {
            writes.delete(Family::State, key);
        }
        Ok(next)
    });
    written.await
}
