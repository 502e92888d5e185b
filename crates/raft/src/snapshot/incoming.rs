//! Gathers the parts of a snapshot and verifies the whole.
//!
//! A node gathers one snapshot at a time. Another sender is told to wait until the present transfer ends or has been
//! idle for too long.

use std::time::Duration;

use bytes::Bytes;
use conclave_types::{GroupId, ReplicaId};
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

use super::{HASH_SEED, SnapshotState, fits, verify_state};
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
}

/// The one place of a node where a snapshot is gathered.
#[derive(Default)]
pub(crate) struct Incoming {
    present: Option<Gathering>,
}

struct Gathering {
    transfer: Transfer,
    parts: Vec<Bytes>,
    total_bytes: u64,
    hash: Xxh3,
    last_part_at: Instant,
}

impl Incoming {
    pub(crate) fn take(&mut self, transfer: Transfer, part: ReceivedPart, idle_limit: Duration) -> Taken {
        let now = Instant::now();
        if part.sequence == 0 && !self.begin(transfer, now, idle_limit) {
            return Taken::Busy;
        }
        let Some(gathering) = self.present.as_mut().filter(|gathering| gathering.transfer == transfer) else {
            return Taken::Restart("no such transfer is under way");
        };
        gathering.last_part_at = now;
        if let Err(reason) = gathering.add(&part) {
            self.present = None;
            return Taken::Restart(reason);
        }
        let Some(end) = part.end else { return Taken::Continue };
        match self.present.take().map(|gathering| gathering.finish(end)) {
            Some(Ok((meta, state))) => Taken::Complete(meta, state),
            Some(Err(reason)) => Taken::Restart(reason),
            None => Taken::Restart("no such transfer is under way"),
        }
    }

    /// Starts a transfer unless another one is alive. A replica that begins anew has given up its last one.
    fn begin(&mut self, transfer: Transfer, now: Instant, idle_limit: Duration) -> bool {
        let other_is_alive = self.present.as_ref().is_some_and(|present| {
            let same_way = (present.transfer.group, present.transfer.to) == (transfer.group, transfer.to);
            !same_way && now.duration_since(present.last_part_at) < idle_limit
        });
        if other_is_alive {
            return false;
        }
        let hash = Xxh3::with_seed(HASH_SEED);
        self.present = Some(Gathering { transfer, parts: Vec::new(), total_bytes: 0, hash, last_part_at: now });
        true
    }
}

impl Gathering {
    fn add(&mut self, part: &ReceivedPart) -> Result<(), &'static str> {
        if part.sequence != self.parts.len() as u64 {
            return Err("a part is missing");
        }
        if crc32c::crc32c(&part.pairs) != part.checksum {
            return Err("a part is damaged");
        }
        self.total_bytes += part.pairs.len() as u64;
        if !fits(self.total_bytes) {
            return Err("the snapshot is larger than a receiver may hold");
        }
        self.hash.update(&part.pairs);
        // The body of the call is larger than the pairs alone; keeping a slice of it would keep all of it.
        self.parts.push(Bytes::copy_from_slice(&part.pairs));
        Ok(())
    }

    fn finish(self, end: ReceivedEnd) -> Result<(SnapshotMeta, SnapshotState), &'static str> {
        if self.total_bytes != end.total_bytes || self.hash.digest() != end.hash {
            return Err("the whole differs from what was sent");
        }
        verify_state(self.transfer.group, &self.parts, &end.meta).map_err(|_| "the state is malformed")?;
        Ok((end.meta, SnapshotState::Received(self.parts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;
    use crate::snapshot::encode_pair;
    use crate::types::{LeaderId, LogId, StoredMembership};

    const GROUP: GroupId = GroupId(3);
    const IDLE: Duration = Duration::from_secs(15);

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
        let mut incoming = Incoming::default();
        let [first, second] = parts();
        assert!(matches!(incoming.take(transfer(1), first, IDLE), Taken::Continue));
        assert!(matches!(incoming.take(transfer(1), second, IDLE), Taken::Complete(..)));
        assert!(incoming.present.is_none(), "nothing stays behind");
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
            let mut incoming = Incoming::default();
            let [first, mut second] = parts();
            incoming.take(transfer(1), first, IDLE);
            damage(&mut second);
            assert!(matches!(incoming.take(transfer(1), second, IDLE), Taken::Restart(_)));
        }
        let mut incoming = Incoming::default();
        let [_, second] = parts();
        assert!(matches!(incoming.take(transfer(1), second, IDLE), Taken::Restart(_)));
    }

    #[tokio::test]
    async fn state_of_another_group_is_refused() {
        let mut incoming = Incoming::default();
        let [first, second] = parts();
        let other = Transfer { group: GroupId(4), ..transfer(1) };
        incoming.take(other, first, IDLE);
        assert!(matches!(incoming.take(other, second, IDLE), Taken::Restart(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_transfer_at_a_time_until_it_is_idle() {
        let mut incoming = Incoming::default();
        let [first, _] = parts();
        incoming.take(transfer(1), first, IDLE);
        let other = Transfer { group: GroupId(4), ..transfer(1) };
        let [first, _] = parts();
        assert!(matches!(incoming.take(other, first, IDLE), Taken::Busy));
        tokio::time::advance(IDLE).await;
        let [first, _] = parts();
        assert!(matches!(incoming.take(other, first, IDLE), Taken::Continue));
    }
}
