//! Which replicas this node hosts, kept in its own store so that they are opened at once after a restart, whether or not
//! the metadata group is there yet.

use conclave_storage::{Engine, EngineError, Family, KeyRange, WriteBatch};
use conclave_types::{ReplicaId, ShardId};

const HOSTED: u8 = b'R';

/// Records a replica durably; called before its group is opened for the first time.
pub fn record(engine: &dyn Engine, shard: ShardId, replica: ReplicaId) -> Result<(), EngineError> {
    let mut batch = WriteBatch::new();
    batch.put(Family::Node, key(shard), replica.0.to_be_bytes());
    engine.write(batch)?;
    engine.sync()
}

/// Forgets a replica that was replaced by one in another store.
pub fn forget(engine: &dyn Engine, shard: ShardId) -> Result<(), EngineError> {
    let mut batch = WriteBatch::new();
    batch.delete(Family::Node, key(shard));
    engine.write(batch)?;
    engine.sync()
}

/// All replicas recorded here.
pub fn hosted(engine: &dyn Engine) -> Result<Vec<(ShardId, ReplicaId)>, EngineError> {
    let range = KeyRange { from: vec![HOSTED], to: vec![HOSTED + 1] };
    let read = |pair: Result<(bytes::Bytes, bytes::Bytes), EngineError>| {
        let (key, value) = pair?;
        let foreign = || EngineError::Foreign("a record of a hosted replica has another form".into());
        let shard = key.get(1..).and_then(|rest| rest.try_into().ok()).ok_or_else(foreign)?;
        let replica = value.as_ref().try_into().map_err(|_| foreign())?;
        Ok((ShardId(u16::from_be_bytes(shard)), ReplicaId(u64::from_be_bytes(replica))))
    };
    engine.scan(Family::Node, range).map(read).collect()
}

fn key(shard: ShardId) -> [u8; 3] {
    let [high, low] = shard.0.to_be_bytes();
    [HOSTED, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_storage::MemoryEngine;

    #[test]
    fn what_was_recorded_is_found_again_after_a_crash() {
        let engine = MemoryEngine::new();
        for (shard, replica) in [(0, 7), (300, 1_000)] {
            record(&engine, ShardId(shard), ReplicaId(replica)).expect("recorded");
        }
        record(&engine, ShardId(9), ReplicaId(8)).expect("recorded");
        forget(&engine, ShardId(9)).expect("forgotten");
        engine.crash();
        let found = hosted(&engine).expect("readable");
        assert_eq!(found, [(ShardId(0), ReplicaId(7)), (ShardId(300), ReplicaId(1_000))]);
    }
}
