//! What a replica does with documents in its own form.

use bytes::Bytes;
use conclave_types::{DocumentNumber, Revision, Timestamp};

use super::audit::audit;
use super::harness::*;
use crate::local::{LocalHeader, swap_base, sweep};
use crate::{Batch, TableReads, read};

const DOCUMENT: DocumentNumber = DocumentNumber(1);

/// A shard with a document of `updates` updates of one byte, at the revisions from 2.
fn shard_with(updates: u64) -> Shard {
    let mut shard = Shard::with_room();
    (0..updates).for_each(|clock| {
        shard.run(push("d", &[(1, clock, clock + 1)]));
    });
    shard
}

fn header(shard: &Shard) -> Option<LocalHeader> {
    read::local_header(&shard.tables, GROUP, ROOM, DOCUMENT).unwrap()
}

fn base(shard: &Shard) -> Option<Bytes> {
    read::document_base(&shard.tables, GROUP, ROOM, DOCUMENT).unwrap()
}

fn kept(shard: &Shard) -> Vec<u64> {
    let updates = read::document_updates(&shard.tables, GROUP, ROOM, DOCUMENT, Revision(0), 1_000, usize::MAX).unwrap();
    updates.into_iter().map(|stored| stored.revision.0).collect()
}

/// Swaps with the present header as the guard; says whether it did.
fn swap(shard: &mut Shard, base: &[u8], upto: u64) -> bool {
    let expected = header(shard);
    swap_from(shard, expected.as_ref(), base, upto)
}

fn swap_from(shard: &mut Shard, expected: Option<&LocalHeader>, base: &[u8], upto: u64) -> bool {
    let writes = swap_base(&shard.tables, GROUP, ROOM, DOCUMENT, expected, base, Revision(upto)).unwrap();
    let swapped = writes.is_some();
    shard.write_local(writes.unwrap_or_default());
    swapped
}

#[test]
fn a_base_replaces_updates_and_keeps_them_for_one_more() {
    let mut shard = shard_with(6);
    assert_eq!((header(&shard), base(&shard)), (None, None));
    assert!(swap(&mut shard, b"first", 4));
    assert_eq!(
        header(&shard),
        Some(LocalHeader { base_revision: Revision(4), kept_from: Revision(0), base_bytes: 5, updates: 3, bytes: 3 })
    );
    assert_eq!((base(&shard), kept(&shard)), (Some("first".into()), vec![2, 3, 4, 5, 6, 7]));

    assert!(swap(&mut shard, b"second base", 7));
    assert_eq!((base(&shard), kept(&shard)), (Some("second base".into()), vec![5, 6, 7]));
    let second = header(&shard).unwrap();
    assert_eq!((second.base_revision, second.kept_from), (Revision(7), Revision(4)));
    assert_eq!((second.updates, second.bytes), (6, 6));

    assert!(swap(&mut shard, b"third", 7), "once more at the same revision lets the rest go");
    assert_eq!((base(&shard), kept(&shard)), (Some("third".into()), vec![]));
    shard.run(push("d", &[(1, 6, 7)]));
    assert_eq!(kept(&shard), [8]);
    audit(&shard.tables);
}

#[test]
fn a_base_longer_than_a_chunk_is_read_back_whole() {
    let mut shard = shard_with(1);
    let mut large: Vec<u8> = (0..200_000u32).map(|index| (index % 251) as u8).collect();
    for length in [200_000, 3 << 16, (1 << 16) + 1, 1 << 16, 1, 0] {
        large.truncate(length);
        assert!(swap(&mut shard, &large, 2));
        assert_eq!(base(&shard).unwrap(), large);
        let chunks = crate::keys::Keys::new(GROUP).base_chunks_from(ROOM, DOCUMENT, 0);
        assert_eq!(shard.tables.scan(&chunks.start, &chunks.end).count(), length.div_ceil(1 << 16));
    }
}

#[test]
fn a_base_of_what_no_longer_holds_is_refused() {
    let mut shard = shard_with(3);
    assert!(!swap(&mut shard, b"x", 5), "beyond the document");
    assert!(swap(&mut shard, b"first", 3));
    let first = header(&shard);
    assert!(!swap_from(&mut shard, None, b"x", 4), "another base came first");
    assert!(!swap(&mut shard, b"x", 2), "older than the present one");
    assert!(swap(&mut shard, b"second", 4));
    assert!(!swap_from(&mut shard, first.as_ref(), b"x", 4));
    assert_eq!(base(&shard).unwrap(), "second");
    shard.run(delete_document("d"));
    assert!(!swap(&mut shard, b"x", 4), "the document is gone");
}

#[test]
fn a_base_up_to_a_renaming_counts_every_update() {
    let mut shard = shard_with(2);
    shard.run(rename_document("d", "e"));
    assert!(swap(&mut shard, b"x", 4));
    assert_eq!(header(&shard).unwrap().updates, 2);
    shard.run(rename_document("e", "f"));
    assert!(swap(&mut shard, b"y", 4));
    assert_eq!(header(&shard).unwrap().updates, 2);
}

fn sweep_all(shard: &mut Shard, limit: usize) -> usize {
    let (mut after, mut steps) = (None, 0);
    loop {
        let (writes, next) = sweep(&shard.tables, GROUP, after, limit).unwrap();
        assert!(writes.len() <= limit.max(1) && writes.iter().all(|(_, value)| value.is_none()));
        shard.write_local(writes);
        steps += 1;
        assert!(steps < 1_000, "the sweep makes no progress");
        match next {
            Some(_) => after = next,
            None => return steps,
        }
    }
}

fn local_keys(shard: &Shard) -> usize {
    let all = crate::keys::Keys::new(GROUP).local_all();
    shard.tables.scan(&all.start, &all.end).count()
}

#[test]
fn a_sweep_removes_deleted_documents_and_leaves_the_others() {
    for limit in [0, 1, 3, 100] {
        let mut shard = shard_with(5);
        swap(&mut shard, &[0; 70_000], 6);
        for document in ["b", "c", "e"] {
            shard.run(push(document, &[(1, 0, 1)]));
        }
        assert_eq!(local_keys(&shard), 5 + 2 + 1 + 3);
        let before = shard.tables.dump();
        sweep_all(&mut shard, limit);
        assert_eq!(shard.tables.dump(), before, "nothing was deleted");
        shard.run(delete_document("d"));
        shard.run(delete_document("c"));
        let steps = sweep_all(&mut shard, limit);
        assert!(limit > 3 || steps > 2, "{steps} steps of {limit}");
        assert_eq!(local_keys(&shard), 2);
        assert_eq!((kept(&shard), header(&shard)), (vec![], None));
    }
}

#[test]
fn a_sweep_removes_what_a_purged_room_left() {
    let mut shard = shard_with(5);
    swap(&mut shard, b"base", 3);
    shard.run(delete_room());
    shard.advance();
    assert_eq!(local_keys(&shard), 7, "a purge does not touch it");
    sweep_all(&mut shard, 4);
    assert_eq!(shard.tables.dump().len(), 1, "only the shard's header is left");
}

#[test]
fn a_sweep_removes_documents_of_a_room_that_is_being_deleted() {
    let mut shard = shard_with(5);
    swap(&mut shard, b"base", 3);
    shard.run(delete_room());
    sweep_all(&mut shard, 4);
    assert_eq!(local_keys(&shard), 0);
}

#[test]
fn applying_only_puts_local_keys() {
    let mut shard = shard_with(3);
    let local = crate::keys::Keys::new(GROUP).local_all();
    for operation in [
        push("d", &[(1, 3, 4)]),
        rename_document("d", "e"),
        delete_document("e"),
        push("d", &[(1, 0, 1)]),
        advance(512),
        delete_room(),
        advance(512),
    ] {
        let mut batch = Batch::new(GROUP, &shard.tables).unwrap();
        batch.apply(Timestamp(shard.now), vec![operation.into()]).unwrap();
        let writes = batch.into_writes();
        assert!(writes.iter().all(|(key, value)| !local.contains(key) || value.is_some()));
        shard.tables.write(writes);
    }
}
