//! From a room's name to its shard. Fixed for ever: keys on disk carry the slot.

use std::ops::Range;

use conclave_types::limits::{MAX_SHARDS, SLOTS};
use conclave_types::{ProjectId, RoomName, ShardId, Slot};
use xxhash_rust::xxh3::xxh3_64;

/// 64 bits of hash less the 14 that number 16,384 slots.
const SLOT_SHIFT: u32 = u64::BITS - SLOTS.trailing_zeros();

/// The slot of a room: the top 14 bits of XXH3-64 over `length of project (u16, little endian) ‖ project ‖ room`.
pub fn slot(project: &ProjectId, room: &RoomName) -> Slot {
    let (project, room) = (project.as_bytes(), room.as_bytes());
    let mut bytes = Vec::with_capacity(2 + project.len() + room.len());
    bytes.extend_from_slice(&(project.len() as u16).to_le_bytes());
    bytes.extend_from_slice(project);
    bytes.extend_from_slice(room);
    Slot((xxh3_64(&bytes) >> SLOT_SHIFT) as u16)
}

/// The shard that a slot falls into: shards are contiguous ranges of slots of equal length.
///
/// `shard_count` is the cluster's: a power of two, at most 4,096. Panics on any other.
pub fn shard_of(slot: Slot, shard_count: u16) -> ShardId {
    ShardId(slot.0 / slots_per_shard(shard_count))
}

/// The slots of a shard.
pub fn slots_of(shard: ShardId, shard_count: u16) -> Range<u16> {
    let length = slots_per_shard(shard_count);
    shard.0 * length..(shard.0 + 1) * length
}

fn slots_per_shard(shard_count: u16) -> u16 {
    assert!(is_shard_count(shard_count), "{shard_count} shards: must be a power of two, at most {MAX_SHARDS}");
    SLOTS / shard_count
}

pub(crate) fn is_shard_count(count: u16) -> bool {
    count.is_power_of_two() && count <= MAX_SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot_of(project: &str, room: &str) -> u16 {
        slot(&project.parse().expect("a project"), &room.parse().expect("a room")).0
    }

    /// Any other answer would lose every room that exists.
    #[test]
    fn slots_never_change() {
        for (project, room, expected) in [
            ("a", "b", 15_256),
            ("demo", "lobby", 5_720),
            ("demo", "room-1", 10_508),
            ("demo", "room-2", 1_667),
            ("acme", "lobby", 2_030),
            ("0", "0", 15_723),
        ] {
            assert_eq!(slot_of(project, room), expected, "{project} {room}");
        }
        let long = "x".repeat(63);
        assert_eq!(slot_of(&long, &long), 9_784);
    }

    /// XXH3-64 as published, so that a client in another language finds the same slots.
    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(xxh3_64(b"abc"), 0x78af_5f94_892f_3950);
    }

    #[test]
    fn project_and_room_do_not_run_together() {
        assert_ne!(slot_of("ab", "c"), slot_of("a", "bc"));
    }

    #[test]
    fn shards_are_contiguous_and_equal() {
        for shift in 0..=12 {
            let count = 1 << shift;
            for slot in 0..SLOTS {
                let shard = shard_of(Slot(slot), count);
                assert!(shard.0 < count && slots_of(shard, count).contains(&slot));
            }
        }
        assert_eq!(shard_of(Slot(16_383), 4_096), ShardId(4_095));
        assert_eq!(slots_of(ShardId(127), 128), 16_256..16_384);
    }

    #[test]
    #[should_panic(expected = "power of two")]
    fn a_count_that_is_no_power_of_two_is_a_bug() {
        shard_of(Slot(0), 100);
    }

    #[test]
    fn rooms_spread_over_shards() {
        let mut rooms = [0_u32; 16];
        for number in 0..16_000 {
            rooms[shard_of(Slot(slot_of("demo", &format!("room-{number}"))), 16).0 as usize] += 1;
        }
        assert!(rooms.iter().all(|count| (850..1_150).contains(count)), "{rooms:?}");
    }
}
