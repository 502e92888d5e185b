//! Identities. Each is its own type, so none can stand in for another.

use std::fmt;
use std::str::FromStr;

/// One of the 16,384 fixed hash buckets that rooms fall into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// A fixed group of slots: the unit of replication and placement. 0-based, below the cluster's shard count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// A Raft group: 0 is the metadata group, shard k is group k + 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u16);

impl GroupId {
    /// The group that owns placement.
    pub const META: GroupId = GroupId(0);

    /// The shard this group replicates; none for the metadata group.
    pub fn shard(self) -> Option<ShardId> {
        self.0.checked_sub(1).map(ShardId)
    }
}

impl ShardId {
    /// The Raft group that replicates this shard.
    pub fn group(self) -> GroupId {
        GroupId(self.0 + 1)
    }
}

/// One node's copy of one group. Handed out once by the metadata group and never reused: a reused id can split a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

/// Version of the shard map; fences the stale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A room's number inside its shard. Counts up from 1 and is never reused, so a new room of an old name is another room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomNumber(pub u64);

/// What identifies one room for ever: slot and number. A room deleted and made again has another uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomUid {
    pub slot: Slot,
    pub number: RoomNumber,
}

/// Which stream of a session is the current one. Each Welcome issues the next; a lower one is fenced off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentNumber(pub u64);

/// One delivery of one item: the fencing token of its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// Position of the item in its queue, from 1.
    pub item: u64,
    /// Which delivery of the item, from 1.
    pub attempt: u32,
}

/// Why an identity could not be read from text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be written as {form}")]
pub struct ParseIdError {
    pub what: &'static str,
    pub form: &'static str,
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let error = ParseIdError { what: $what, form: "32 hexadecimal digits" };
                if text.len() != 32 || !text.is_ascii() {
                    return Err(error);
                }
                let mut bytes = [0; 16];
                for (index, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| error.clone())?;
                }
                Ok($name(bytes))
            }
        }
    };
}

random_id!(
    /// A node, for ever: written into its data folder first of all.
    NodeUuid,
    "node uuid"
);
random_id!(
    /// A cluster: fixed by the first entry of its metadata group.
    ClusterUuid,
    "cluster uuid"
);
random_id!(
    /// The resumable identity of a client in a room; 128 random bits drawn by the host.
    SessionId,
    "session id"
);

impl fmt::Display for RoomUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}{:016x}", self.slot.0, self.number.0)
    }
}

impl FromStr for RoomUid {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = ParseIdError { what: "room uid", form: "20 hexadecimal digits" };
        if text.len() != 20 || !text.is_ascii() {
            return Err(error);
        }
        let slot = u16::from_str_radix(&text[..4], 16).map_err(|_| error.clone())?;
        let number = u64::from_str_radix(&text[4..], 16).map_err(|_| error)?;
        Ok(RoomUid { slot: Slot(slot), number: RoomNumber(number) })
    }
}

/// Written `item.attempt`, both decimal.
impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.item, self.attempt)
    }
}

impl FromStr for DeliveryId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = ParseIdError { what: "delivery id", form: "item.attempt" };
        let (item, attempt) = text.split_once('.').ok_or_else(|| error.clone())?;
        let item = item.parse().map_err(|_| error.clone())?;
        let attempt = attempt.parse().map_err(|_| error)?;
        Ok(DeliveryId { item, attempt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text_form() {
        let node = NodeUuid([7; 16]);
        assert_eq!(node.to_string().parse(), Ok(node));
        let room = RoomUid { slot: Slot(16_383), number: RoomNumber(u64::MAX) };
        assert_eq!(room.to_string().parse(), Ok(room));
        let delivery = DeliveryId { item: 12, attempt: 3 };
        assert_eq!(delivery.to_string().parse(), Ok(delivery));
    }

    #[test]
    fn foreign_text_is_refused() {
        assert!("".parse::<SessionId>().is_err());
        assert!("ü".repeat(16).parse::<SessionId>().is_err());
        assert!("12".parse::<DeliveryId>().is_err());
        assert!("1.2.3".parse::<DeliveryId>().is_err());
        assert!("zz".repeat(10).parse::<RoomUid>().is_err());
    }

    #[test]
    fn shards_and_groups_map_one_to_one() {
        assert_eq!(ShardId(0).group(), GroupId(1));
        assert_eq!(GroupId::META.shard(), None);
        assert_eq!(ShardId(4_095).group().shard(), Some(ShardId(4_095)));
    }
}
