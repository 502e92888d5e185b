//! Stages the parts of a snapshot as they come, and verifies the whole.
//!
//! A node receives one snapshot at a time. Another sender is told to wait until the present transfer ends or has been
//! idle for too long. What is given up half-way leaves nothing behind: a dropped staging is gone, and so is one that a
//! crash interrupts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conclave_faults::{Bug, Point, planted, reached};
use conclave_storage::{Engine, EngineError, Family, Staging};
use conclave_types::{GroupId, ReplicaId};
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

use super::{Contained, HASH_SEED, Malformed, Pairs, SnapshotState};
use crate::keys;
use crate::types::SnapshotMeta;

/// Which transfer a part belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) group: GroupId,
    pub(crate) to: ReplicaId,
    pub(crate) from: ReplicaId,
    pub(crate) number: u64,
}

pub(crate) struct ReceivedPart {
    pub(crate) sequence: u64,
    pub(crate) pairs: Bytes,
    pub(crate) checksum: u32,
    pub(crate) end: Option<ReceivedEnd>,
}

pub(crate) struct ReceivedEnd {
    pub(crate) meta: SnapshotMeta,
    pub(crate) hash: u64,
    pub(crate) total_bytes: u64,
}

/// What became of a part.
pub(crate) enum Taken {
    /// The next one, please.
    Continue,
    /// The snapshot is complete and verified.
    Complete(SnapshotMeta, SnapshotState),
    /// The transfer cannot go on; a new one may.
    Restart(&'static str),
    /// Another transfer is under way.
    Busy,
    /// The store could not take it in.
    Failed(EngineError),
}

/// The one place of a node where a snapshot is gathered.
#[derive(Default)]
pub(crate) struct Incoming {
    present: Option<Gathering>,
}

struct Gathering {
    transfer: Transfer,
    staging: Box<dyn Staging>,
    contained: Contained,
    parts: u64,
    total_bytes: u64,
    hash: Xxh3,
    last_part_at: Instant,
}

/// Why a transfer ends early.
enum Refusal {
    Part(&'static str),
    Engine(EngineError),
}

impl From<Malformed> for Refusal {
    fn from(Malformed: Malformed) -> Self {
        Refusal::Part("the state is malformed")
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Misplaced(reason) => Refusal::Part(reason),
            error => Refusal::Engine(error),
        }
    }
}

impl From<Refusal> for Taken {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Part(reason) => Taken::Restart(reason),
            Refusal::Engine(error) => Taken::Failed(error),
        }
    }
}

impl Incoming {
    /// Blocks in the engine.
    pub(crate) fn take(
        &mut self,
        engine: &Arc<dyn Engine>,
        transfer: Transfer,
        part: ReceivedPart,
        idle_limit: Duration,
    ) -> Taken {
        let now = Instant::now();
        if part.sequence == 0 {
            if self.is_taken(transfer, now, idle_limit) {
                return Taken::Busy;
            }
            // The staging before it goes first.
            self.present = None;
            match Gathering::begin(engine, transfer, now) {
                Ok(gathering) => self.present = Some(gathering),
                Err(error) => return Taken::Failed(error),
            }
        }
        let Some(mut gathering) = self.present.take_if(|present| present.transfer == transfer) else {
            return Taken::Restart("no such transfer is under way");
        };
        gathering.last_part_at = now;
        if let Err(refusal) = gathering.add(&part) {
            return refusal.into();
        }
        match part.end {
            None => {
                reached(Point::SnapshotReceiving);
                self.present = Some(gathering);
                Taken::Continue
            }
            Some(end) => gathering.finish(end).unwrap_or_else(Taken::from),
        }
    }

    /// Drops what was gathered for a group whose replica has ended.
    pub(crate) fn forget(&mut self, group: GroupId) {
        self.present.take_if(|present| present.transfer.group == group);
    }

    /// Another transfer is alive. A replica that begins anew has given up its last one.
    fn is_taken(&self, transfer: Transfer, now: Instant, idle_limit: Duration) -> bool {
        self.present.as_ref().is_some_and(|present| {
            let same_way = (present.transfer.group, present.transfer.to) == (transfer.group, transfer.to);
            !same_way && now.duration_since(present.last_part_at) < idle_limit
        })
    }
}

impl Gathering {
    fn begin(engine: &Arc<dyn Engine>, transfer: Transfer, now: Instant) -> Result<Self, EngineError> {
        Ok(Gathering {
            transfer,
            staging: engine.clone().stage(Family::State, keys::state(transfer.group))?,
            contained: Contained::default(),
            parts: 0,
            total_bytes: 0,
            hash: Xxh3::with_seed(HASH_SEED),
            last_part_at: now,
        })
    }

    fn add(&mut self, part: &ReceivedPart) -> Result<(), Refusal> {
        if part.sequence != self.parts {
            return Err(Refusal::Part("a part is missing"));
        }
        if crc32c::crc32c(&part.pairs) != part.checksum && !planted(Bug::SkipSnapshotChecksum) {
            return Err(Refusal::Part("a part is damaged"));
        }
        self.parts += 1;
        self.total_bytes += part.pairs.len() as u64;
        self.hash.update(&part.pairs);
        for pair in (Pairs { rest: part.pairs.clone() }) {
            let (key, value) = pair?;
            self.contained.note(self.transfer.group, &key, &value)?;
            self.staging.put(&key, &value)?;
        }
        Ok(())
    }

    fn finish(self, end: ReceivedEnd) -> Result<Taken, Refusal> {
        let differs = self.total_bytes != end.total_bytes || self.hash.digest() != end.hash;
        if differs && !planted(Bug::SkipSnapshotChecksum) {
            return Err(Refusal::Part("the whole differs from what was sent"));
        }
        if self.contained.meta != end.meta {
            return Err(Refusal::Part("the state is not the one that was announced"));
        }
        Ok(Taken::Complete(end.meta, SnapshotState::Staged(self.staging)))
    }
}

#[cfg(test)]
mod tests {
    use conclave_storage::MemoryEngine;

    use super::*;
    use crate::snapshot::encode_pair;
    use crate::types::{LeaderId, LogId, StoredMembership};

    const GROUP: GroupId = GroupId(3);
    const IDLE: Duration = Duration::from_secs(15);

    fn engine() -> Arc<dyn Engine> {
        Arc::new(MemoryEngine::new())
    }

    fn transfer(number: u64) -> Transfer {
        Transfer { group: GROUP, to: ReplicaId(2), from: ReplicaId(1), number }
    }

    fn meta() -> SnapshotMeta {
        let last_log_id = Some(LogId::new(LeaderId { term: 1, node_id: 1 }, 9));
        SnapshotMeta { last_log_id, last_membership: StoredMembership::default() }
    }

    fn pairs() -> [Bytes; 2] {
        let applied = keys::applied(GROUP);
        let value = keys::encode_log_id(&applied, &meta().last_log_id.expect("set above"));
        let mut first = Vec::new();
        encode_pair(&mut first, &applied, &value).expect("short");
        let mut second = Vec::new();
        encode_pair(&mut second, b"\0\x03\x01key", b"value").expect("short");
        [first.into(), second.into()]
    }

    fn parts() -> [ReceivedPart; 2] {
        let [first, second] = pairs();
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&[&first[..], &second].concat(), HASH_SEED);
        let total_bytes = (first.len() + second.len()) as u64;
        let end = Some(ReceivedEnd { meta: meta(), hash, total_bytes });
        [
            ReceivedPart { sequence: 0, checksum: crc32c::crc32c(&first), pairs: first, end: None },
            ReceivedPart { sequence: 1, checksum: crc32c::crc32c(&second), pairs: second, end },
        ]
    }

    #[tokio::test]
    async fn a_whole_snapshot_is_complete() {
        let (engine, mut incoming) = (engine(), Incoming::default());
        let [first, second] = parts();
        assert!(matches!(incoming.take(&engine, transfer(1), first, IDLE), Taken::Continue));
        let taken = incoming.take(&engine, transfer(1), second, IDLE);
        let Taken::Complete(found, SnapshotState::Staged(staging)) = taken else { panic!("both parts are there") };
        assert_eq!(found, meta());
        assert!(incoming.present.is_none(), "nothing stays behind");
        assert_eq!(engine.scan(Family::State, keys::state(GROUP)).count(), 0, "nothing shows before");
        staging.install().expect("memory");
        assert_eq!(engine.scan(Family::State, keys::state(GROUP)).count(), 2);
    }

    /// Whatever was refused before: the next transfer of the same replica begins anew.
    #[tokio::test]
    async fn a_new_transfer_takes_the_place_of_one_that_was_given_up() {
        let (engine, mut incoming) = (engine(), Incoming::default());
        let [first, _] = parts();
        assert!(matches!(incoming.take(&engine, transfer(1), first, IDLE), Taken::Continue));
        let [first, second] = parts();
        assert!(matches!(incoming.take(&engine, transfer(2), first, IDLE), Taken::Continue));
        assert!(matches!(incoming.take(&engine, transfer(2), second, IDLE), Taken::Complete(..)));
    }

    #[tokio::test]
    async fn a_damaged_missing_or_foreign_part_restarts() {
        let damage: [fn(&mut ReceivedPart); 4] = [
            |part| part.checksum ^= 1,
            |part| part.sequence = 5,
            |part| part.end.as_mut().expect("the last part").hash ^= 1,
            |part| part.end.as_mut().expect("the last part").meta.last_log_id = None,
        ];
        for damage in damage {
            let (engine, mut incoming) = (engine(), Incoming::default());
            let [first, mut second] = parts();
            incoming.take(&engine, transfer(1), first, IDLE);
            damage(&mut second);
            assert!(matches!(incoming.take(&engine, transfer(1), second, IDLE), Taken::Restart(_)));
        }
        let (engine, mut incoming) = (engine(), Incoming::default());
        let [_, second] = parts();
        assert!(matches!(incoming.take(&engine, transfer(1), second, IDLE), Taken::Restart(_)));
    }

    #[tokio::test]
    async fn state_of_another_group_is_refused() {
        let (engine, mut incoming) = (engine(), Incoming::default());
        let [first, second] = parts();
        let other = Transfer { group: GroupId(4), ..transfer(1) };
        assert!(matches!(incoming.take(&engine, other, first, IDLE), Taken::Restart(_)));
        assert!(matches!(incoming.take(&engine, other, second, IDLE), Taken::Restart(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_transfer_at_a_time_until_it_is_idle() {
        let (engine, mut incoming) = (engine(), Incoming::default());
        let [first, _] = parts();
        incoming.take(&engine, transfer(1), first, IDLE);
        let other = Transfer { group: GroupId(4), ..transfer(1) };
        let [first, _] = parts();
        assert!(matches!(incoming.take(&engine, other, first, IDLE), Taken::Busy));
        tokio::time::advance(IDLE).await;
        let [first, _] = parts();
        let taken = incoming.take(&engine, other, first, IDLE);
        assert!(matches!(taken, Taken::Restart(_)), "it is let in, and its keys are looked at");
        assert!(incoming.present.is_none());
    }

    #[tokio::test]
    async fn a_replica_that_ends_leaves_its_place() {
        let (engine, mut incoming) = (engine(), Incoming::default());
        let [first, second] = parts();
        incoming.take(&engine, transfer(1), first, IDLE);
        incoming.forget(GroupId(4));
        assert!(incoming.present.is_some());
        incoming.forget(GROUP);
        assert!(matches!(incoming.take(&engine, transfer(1), second, IDLE), Taken::Restart(_)));
    }
}
