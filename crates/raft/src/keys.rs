//! Where a group's log and the façade's own state lie, and what a stored entry looks like.
//!
//! Log family, each key beginning with the group, big-endian:
//! `'e' index:u64` an entry; `'v'` the vote; `'p'` the last purged position; `'c'` the last known committed position.
//! State family: `group 0x00 'a'` the applied position; `group 0x00 'm'` the membership as applied; from `group 0x01` on
//! the state machine's own, of which `group 0x06` is written by local writes too.
//! Kinds that fall out of use keep their letter.
//!
//! A stored value that fails its checksum is damage to the store. One that passes and still makes no sense was written
//! like that, by a newer version or by a mistake.

use bytes::Bytes;
use conclave_storage::{EngineError, KeyRange};
use conclave_types::GroupId;
use openraft::entry::RaftEntry as _;
use prost::Message as _;

use crate::types::{Entry, EntryPayload, LeaderId, LogId, Payload, StoredMembership, Vote};
use crate::{LOCAL_CLASS, wire};

const ENTRY: u8 = b'e';
const ENTRY_KEY_BYTES: usize = 11;

/// Above every class of state keys.
const NO_CLASS: u8 = 0xff;

const KIND_BLANK: u8 = 0;
const KIND_NORMAL: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// Term, replica and kind before the payload.
const ENTRY_HEAD_BYTES: usize = 17;
const CHECKSUM_BYTES: usize = 4;

pub(crate) fn entry(group: GroupId, index: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(ENTRY_KEY_BYTES);
    key.extend_from_slice(&group.0.to_be_bytes());
    key.push(ENTRY);
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// Entries from `from` (inclusive) to `to` (exclusive).
pub(crate) fn entries(group: GroupId, from: u64, to: u64) -> KeyRange {
    KeyRange { from: entry(group, from), to: entry(group, to) }
}

/// All entries of a group.
pub(crate) fn all_entries(group: GroupId) -> KeyRange {
    KeyRange { from: entry(group, 0), to: log_key(group, ENTRY + 1) }
}

pub(crate) fn vote(group: GroupId) -> Vec<u8> {
    log_key(group, b'v')
}

pub(crate) fn purged(group: GroupId) -> Vec<u8> {
    log_key(group, b'p')
}

pub(crate) fn committed(group: GroupId) -> Vec<u8> {
    log_key(group, b'c')
}

pub(crate) fn applied(group: GroupId) -> Vec<u8> {
    state_key(group, b'a')
}

pub(crate) fn membership(group: GroupId) -> Vec<u8> {
    state_key(group, b'm')
}

/// Everything in the state family that belongs to a group. It ends before a class that is never used, and not with the
/// next group's first key: an engine that replaces a range may take the range's end for a neighbour's pair.
pub fn state(group: GroupId) -> KeyRange {
    let [high, low] = group.0.to_be_bytes();
    KeyRange { from: vec![high, low], to: vec![high, low, NO_CLASS] }
}

/// What local writes may change.
pub(crate) fn local_state(group: GroupId) -> KeyRange {
    let [high, low] = group.0.to_be_bytes();
    KeyRange { from: vec![high, low, LOCAL_CLASS], to: vec![high, low, LOCAL_CLASS + 1] }
}

fn log_key(group: GroupId, kind: u8) -> Vec<u8> {
    let [high, low] = group.0.to_be_bytes();
    vec![high, low, kind]
}

fn state_key(group: GroupId, kind: u8) -> Vec<u8> {
    let [high, low] = group.0.to_be_bytes();
    vec![high, low, 0x00, kind]
}

/// The checksum covers key and value, so an entry in another's place is found out too.
pub(crate) fn encode_entry(key: &[u8], entry: &Entry) -> Vec<u8> {
    let leader = entry.log_id.leader_id;
    let membership;
    let (kind, payload): (u8, &[u8]) = match &entry.payload {
        EntryPayload::Blank => (KIND_BLANK, &[]),
        EntryPayload::Normal(payload) => (KIND_NORMAL, &payload.0),
        EntryPayload::Membership(members) => {
            membership = wire::membership_to_wire(members).encode_to_vec();
            (KIND_MEMBERSHIP, &membership)
        }
    };
    let mut value = Vec::with_capacity(ENTRY_HEAD_BYTES + payload.len() + CHECKSUM_BYTES);
    value.extend_from_slice(&leader.term.to_be_bytes());
    value.extend_from_slice(&leader.node_id.to_be_bytes());
    value.push(kind);
    value.extend_from_slice(payload);
    seal(key, value)
}

/// Index of the entry at a key, if an entry can be there.
pub(crate) fn index_of(key: &[u8]) -> Option<u64> {
    let index = key.get(3..)?.try_into().ok()?;
    Some(u64::from_be_bytes(index))
}

pub(crate) fn decode_entry(key: &[u8], value: Bytes) -> Result<Entry, EngineError> {
    let foreign = || EngineError::Foreign(format!("log entry at key {key:02x?}"));
    let value = unseal(key, value)?;
    let index = index_of(key).ok_or_else(foreign)?;
    if value.len() < ENTRY_HEAD_BYTES {
        return Err(foreign());
    }
    let payload = match value[ENTRY_HEAD_BYTES - 1] {
        KIND_BLANK => EntryPayload::Blank,
        KIND_NORMAL => EntryPayload::Normal(Payload(value.slice(ENTRY_HEAD_BYTES..))),
        KIND_MEMBERSHIP => {
            let members = prost::Message::decode(value.slice(ENTRY_HEAD_BYTES..)).map_err(|_| foreign())?;
            EntryPayload::Membership(wire::membership_from_wire(members).map_err(|_| foreign())?)
        }
        _ => return Err(foreign()),
    };
    let leader = LeaderId { term: number_at(&value, 0), node_id: number_at(&value, 8) };
    Ok(Entry::new(LogId::new(leader, index), payload))
}

pub(crate) fn encode_vote(key: &[u8], vote: &Vote) -> Vec<u8> {
    let mut value = Vec::with_capacity(17 + CHECKSUM_BYTES);
    value.extend_from_slice(&vote.leader_id.term.to_be_bytes());
    value.extend_from_slice(&vote.leader_id.node_id.to_be_bytes());
    value.push(u8::from(vote.committed));
    seal(key, value)
}

pub(crate) fn decode_vote(key: &[u8], value: Bytes) -> Result<Vote, EngineError> {
    let value = unseal(key, value)?;
    let committed = match value.get(16) {
        Some(0) if value.len() == 17 => false,
        Some(1) if value.len() == 17 => true,
        _ => return Err(EngineError::Foreign(format!("vote at key {key:02x?}"))),
    };
    Ok(Vote { leader_id: LeaderId { term: number_at(&value, 0), node_id: number_at(&value, 8) }, committed })
}

pub(crate) fn encode_log_id(key: &[u8], log_id: &LogId) -> Vec<u8> {
    let mut value = Vec::with_capacity(24 + CHECKSUM_BYTES);
    value.extend_from_slice(&log_id.leader_id.term.to_be_bytes());
    value.extend_from_slice(&log_id.leader_id.node_id.to_be_bytes());
    value.extend_from_slice(&log_id.index.to_be_bytes());
    seal(key, value)
}

pub(crate) fn decode_log_id(key: &[u8], value: Bytes) -> Result<LogId, EngineError> {
    let value = unseal(key, value)?;
    if value.len() != 24 {
        return Err(EngineError::Foreign(format!("log position at key {key:02x?}")));
    }
    let leader = LeaderId { term: number_at(&value, 0), node_id: number_at(&value, 8) };
    Ok(LogId::new(leader, number_at(&value, 16)))
}

pub(crate) fn encode_stored_membership(key: &[u8], membership: &StoredMembership) -> Vec<u8> {
    seal(key, wire::stored_membership_to_wire(membership).encode_to_vec())
}

pub(crate) fn decode_stored_membership(key: &[u8], value: Bytes) -> Result<StoredMembership, EngineError> {
    let foreign = || EngineError::Foreign(format!("membership at key {key:02x?}"));
    let stored = prost::Message::decode(unseal(key, value)?).map_err(|_| foreign())?;
    wire::stored_membership_from_wire(stored).map_err(|_| foreign())
}

fn seal(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let checksum = checksum(key, &value);
    value.extend_from_slice(&checksum.to_be_bytes());
    value
}

fn unseal(key: &[u8], value: Bytes) -> Result<Bytes, EngineError> {
    let damaged = |what| EngineError::Damaged(format!("{what} at key {key:02x?}"));
    let length = value.len().checked_sub(CHECKSUM_BYTES).ok_or_else(|| damaged("short value"))?;
    let content = value.slice(..length);
    if value[length..] != checksum(key, &content).to_be_bytes() {
        return Err(damaged("wrong checksum"));
    }
    Ok(content)
}

fn checksum(key: &[u8], content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), content)
}

/// The caller has checked the length.
fn number_at(value: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&value[offset..offset + 8]);
    u64::from_be_bytes(number)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::PeerAddress;
    use crate::types::Membership;

    const GROUP: GroupId = GroupId(7);

    fn sample(index: u64, payload: EntryPayload) -> Entry {
        Entry::new(LogId::new(LeaderId { term: 3, node_id: 9 }, index), payload)
    }

    fn members() -> Membership {
        let address = PeerAddress { node: None, address: "127.0.0.1:1".into() };
        Membership::new(vec![BTreeSet::from([9])], BTreeMap::from([(9, address)])).expect("a voter with a node")
    }

    #[test]
    fn entries_survive_storage() {
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Payload(Bytes::from_static(b"command"))),
            EntryPayload::Membership(members()),
        ];
        for payload in payloads {
            let entry = sample(12, payload);
            let key = super::entry(GROUP, 12);
            let value = encode_entry(&key, &entry);
            assert_eq!(decode_entry(&key, value.into()).expect("just encoded"), entry);
        }
    }

    #[test]
    fn an_entry_in_the_wrong_place_is_damaged() {
        let value = encode_entry(&entry(GROUP, 12), &sample(12, EntryPayload::Blank));
        let error = decode_entry(&entry(GROUP, 13), value.into()).expect_err("key is covered");
        assert!(matches!(error, EngineError::Damaged(_)));
    }

    #[test]
    fn a_flipped_bit_is_damaged() {
        let key = entry(GROUP, 12);
        let value = encode_entry(&key, &sample(12, EntryPayload::Normal(Payload(Bytes::from_static(b"command")))));
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = decode_entry(&key, flipped.into());
            assert!(matches!(found, Err(EngineError::Damaged(_))), "bit {bit}: {found:?}");
        }
    }

    #[test]
    fn a_whole_entry_of_an_unknown_kind_is_no_damage() {
        let key = entry(GROUP, 12);
        let mut value = encode_entry(&key, &sample(12, EntryPayload::Blank));
        value.truncate(value.len() - CHECKSUM_BYTES);
        value[ENTRY_HEAD_BYTES - 1] = 9;
        let found = decode_entry(&key, seal(&key, value).into());
        assert!(matches!(found, Err(EngineError::Foreign(_))), "{found:?}");
    }

    #[test]
    fn key_bytes_stay_as_they_are() {
        assert_eq!(entry(GroupId(0x0102), 0x0304), b"\x01\x02e\0\0\0\0\0\0\x03\x04");
        assert_eq!(vote(GROUP), b"\0\x07v");
        assert_eq!(purged(GROUP), b"\0\x07p");
        assert_eq!(committed(GROUP), b"\0\x07c");
        assert_eq!(applied(GROUP), b"\0\x07\0a");
        assert_eq!(membership(GROUP), b"\0\x07\0m");
        assert_eq!(state(GROUP), KeyRange { from: b"\0\x07".to_vec(), to: b"\0\x07\xff".to_vec() });
        assert_eq!(local_state(GROUP), KeyRange { from: b"\0\x07\x06".to_vec(), to: b"\0\x07\x07".to_vec() });
    }

    #[test]
    fn all_entries_leave_out_the_other_kinds() {
        let range = all_entries(GROUP);
        let holds = |key: Vec<u8>| range.from <= key && key < range.to;
        assert!(holds(entry(GROUP, 0)) && holds(entry(GROUP, u64::MAX)));
        assert!(!holds(vote(GROUP)) && !holds(purged(GROUP)) && !holds(committed(GROUP)));
        assert!(!holds(entry(GroupId(8), 0)) && !holds(entry(GroupId(6), u64::MAX)));
    }

    #[test]
    fn votes_and_positions_survive_storage() {
        let key = vote(GROUP);
        for vote in [Vote::new(5, 6), Vote::new_committed(5, 6)] {
            assert_eq!(decode_vote(&key, encode_vote(&key, &vote).into()).expect("just encoded"), vote);
        }
        let key = applied(GROUP);
        let log_id = LogId::new(LeaderId { term: 1, node_id: 2 }, 3);
        assert_eq!(decode_log_id(&key, encode_log_id(&key, &log_id).into()).expect("just encoded"), log_id);
        let key = membership(GROUP);
        let stored = StoredMembership::new(Some(log_id), members());
        let value = encode_stored_membership(&key, &stored);
        assert_eq!(decode_stored_membership(&key, value.into()).expect("just encoded"), stored);
    }
}
