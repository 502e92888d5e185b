//! Leader hints: who leads which shard, as the hosts themselves say.
//!
//! They are hints. They are stored nowhere, and a reader that follows an old one is corrected by the host it reaches; so
//! routing goes on without the metadata group.

use std::collections::BTreeMap;

use conclave_proto::internal::v1 as wire;
use conclave_types::{ReplicaId, ShardId};

use crate::table::{TableError, check_address};

/// One leadership of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    pub shard: ShardId,
    /// Of two claims the higher term counts.
    pub term: u64,
    pub replica: ReplicaId,
    /// `host:port` of the leader's internal listener.
    pub address: String,
}

/// The newest hint of every shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderHints(BTreeMap<ShardId, LeaderHint>);

impl LeaderHints {
    pub fn get(&self, shard: ShardId) -> Option<&LeaderHint> {
        self.0.get(&shard)
    }

    pub fn iter(&self) -> impl Iterator<Item = &LeaderHint> {
        self.0.values()
    }

    /// Takes the hints in that are not older than what is known. True if that changed anything.
    pub fn merge(&mut self, hints: impl IntoIterator<Item = LeaderHint>) -> bool {
        let mut changed = false;
        for hint in hints {
            let known = self.0.get(&hint.shard);
            if known.is_none_or(|known| known.term <= hint.term && *known != hint) {
                self.0.insert(hint.shard, hint);
                changed = true;
            }
        }
        changed
    }
}

impl FromIterator<LeaderHint> for LeaderHints {
    fn from_iter<I: IntoIterator<Item = LeaderHint>>(hints: I) -> Self {
        let mut all = LeaderHints::default();
        all.merge(hints);
        all
    }
}

impl LeaderHint {
    pub(crate) fn to_wire(&self) -> wire::ShardLeader {
        wire::ShardLeader {
            shard: self.shard.0.into(),
            term: self.term,
            replica_id: self.replica.0,
            address: self.address.clone(),
        }
    }

    pub(crate) fn from_wire(leader: wire::ShardLeader) -> Result<Self, TableError> {
        check_address(&leader.address)?;
        let shard = u16::try_from(leader.shard).map_err(|_| TableError::new("shard", "does not exist"))?;
        Ok(LeaderHint {
            shard: ShardId(shard),
            term: leader.term,
            replica: ReplicaId(leader.replica_id),
            address: leader.address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(shard: u16, term: u64, replica: u64) -> LeaderHint {
        let address = format!("host-{replica}:7000");
        LeaderHint { shard: ShardId(shard), term, replica: ReplicaId(replica), address }
    }

    #[test]
    fn the_higher_term_counts_whatever_the_order() {
        let mut hints = LeaderHints::default();
        assert!(hints.merge([hint(1, 4, 10), hint(2, 1, 11)]));
        assert!(!hints.merge([hint(1, 3, 12), hint(1, 4, 10)]));
        assert!(hints.merge([hint(1, 5, 12)]));
        assert_eq!(hints.get(ShardId(1)), Some(&hint(1, 5, 12)));
        assert_eq!(hints.iter().count(), 2);
    }

    #[test]
    fn hints_survive_the_wire_and_bad_ones_do_not() {
        assert_eq!(LeaderHint::from_wire(hint(3, 7, 9).to_wire()), Ok(hint(3, 7, 9)));
        assert!(LeaderHint::from_wire(wire::ShardLeader { shard: 70_000, ..hint(3, 7, 9).to_wire() }).is_err());
        assert!(LeaderHint::from_wire(wire::ShardLeader { address: "x".into(), ..hint(3, 7, 9).to_wire() }).is_err());
    }
}
