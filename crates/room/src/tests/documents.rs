use conclave_types::limits::{MAX_DOCUMENT_CHANGES, MAX_DOCUMENTS_PER_ROOM};
use conclave_types::{DocumentNumber, Revision, YjsClient};

use super::audit::audit;
use super::harness::*;
use crate::{ChangeKind, Effect, Operation, Outcome, Refusal, read};

fn number(document: &str, shard: &Shard) -> DocumentNumber {
    shard.document(document).unwrap().number
}

fn updates(shard: &Shard, number: DocumentNumber) -> Vec<(u64, usize)> {
    let updates = read::document_updates(&shard.tables, GROUP, ROOM, number, Revision(0), 1_000, usize::MAX).unwrap();
    updates.into_iter().map(|stored| (stored.revision.0, stored.update.len())).collect()
}

fn without_create(mut operation: Operation) -> Operation {
    if let Operation::PushUpdate { create, .. } = &mut operation {
        *create = false;
    }
    operation
}

#[test]
fn a_document_is_made_once() {
    let mut shard = Shard::with_room();
    let (document, revision) = (DocumentNumber(1), Revision(2));
    assert_eq!(shard.run(create_document("a/b")), Outcome::DocumentReady { document, created: true, revision });
    shard.wait(5);
    assert_eq!(shard.run(create_document("a/b")), Outcome::DocumentReady { document, created: false, revision });
    assert_eq!(shard.revision(), 2);
    let view = shard.document("a/b").unwrap();
    assert_eq!((view.number, view.create_revision, view.revision, view.updates), (document, revision, revision, 0));
    assert_eq!((view.create_time.0, view.update_time.0), (START, START));
    assert_eq!(shard.document("a"), None);
    audit(&shard.tables);
}

#[test]
fn updates_are_kept_in_the_order_of_their_revisions() {
    let mut shard = Shard::with_room();
    assert_eq!(shard.run(push("d", &[(7, 0, 3)])), Outcome::Pushed { revision: Revision(2) });
    shard.wait(5);
    shard.run(post("between"));
    assert_eq!(shard.run(frame(1, 0, push("d", &[(7, 3, 4), (9, 0, 1)]))), Outcome::Pushed { revision: Revision(4) });
    let view = shard.document("d").unwrap();
    assert_eq!((view.create_revision.0, view.revision.0, view.updates, view.bytes), (2, 4, 2, 5));
    assert_eq!((view.create_time.0, view.update_time.0), (START, START + 5));

    let read = |after, limit, max_bytes| {
        read::document_updates(&shard.tables, GROUP, ROOM, view.number, Revision(after), limit, max_bytes).unwrap()
    };
    let both = read(0, 9, 1_000);
    assert_eq!(both.iter().map(|stored| stored.revision.0).collect::<Vec<_>>(), [2, 4]);
    assert_eq!((both[0].session, both[1].session), (None, Some(SESSION)));
    assert_eq!((both[1].time.0, both[1].author.as_str()), (START + 5, "ann"));
    assert_eq!(both[1].clocks, clocks(&[(7, 3, 4), (9, 0, 1)], &[], false));
    assert_eq!(both[1].update, "uu");
    assert_eq!(read(0, 9, 1).len(), 1, "one at least");
    assert_eq!(read(2, 9, 0)[0].revision, Revision(4));
    assert_eq!(read(0, 1, 1_000).len(), 1);
    for after in [4, 5, u64::MAX] {
        assert_eq!(read(after, 9, 1_000), [], "a cursor from the future reads nothing");
    }
    let clocks = read::document_clocks(&shard.tables, GROUP, ROOM, view.number).unwrap();
    assert_eq!(clocks, [(YjsClient(7), 4), (YjsClient(9), 1)].into());
    for (client, clock) in [(7, 4), (9, 1), (8, 0)] {
        let read = read::document_clock(&shard.tables, GROUP, ROOM, view.number, YjsClient(client));
        assert_eq!(read, Ok(clock));
    }
    audit(&shard.tables);
}

#[test]
fn an_update_that_does_not_follow_is_refused_and_leaves_nothing() {
    let mut shard = Shard::with_room();
    shard.run(push("d", &[(7, 0, 3)]));
    let before = shard.tables.dump();
    for clocks in [
        clocks(&[(7, 4, 5)], &[], false),
        clocks(&[(7, 2, 5)], &[], false),
        clocks(&[(8, 0, 1)], &[(7, 4)], false),
        clocks(&[(8, 0, 1), (9, 1, 2)], &[], false),
        clocks(&[], &[(9, 1)], true),
    ] {
        assert_eq!(shard.run(push_with("d", clocks.clone(), "x")), Outcome::Refused(Refusal::NeedSync), "{clocks:?}");
        assert_eq!(shard.tables.dump(), before);
    }
    assert_eq!(shard.run(push("new", &[(7, 1, 2)])), Outcome::Refused(Refusal::NeedSync));
    assert_eq!(shard.tables.dump(), before, "a refused push makes no document");
}

#[test]
fn what_is_known_already_changes_nothing() {
    let mut shard = Shard::with_room();
    shard.run(push("d", &[(7, 0, 3)]));
    shard.run(push("d", &[(7, 3, 5)]));
    let before = shard.tables.dump();
    for known in [push("d", &[(7, 0, 3)]), push("d", &[(7, 3, 5)]), push("d", &[])] {
        let applied = shard.entry(vec![known.into()]);
        assert_eq!(applied.outcomes, [Outcome::Pushed { revision: Revision(3) }]);
        assert_eq!(applied.effects, []);
    }
    assert_eq!(shard.tables.dump(), before);
}

#[test]
fn updates_that_only_delete_are_kept_each_time() {
    let mut shard = Shard::with_room();
    shard.run(push("d", &[(7, 0, 3)]));
    for revision in [3, 4] {
        let deletes = push_with("d", clocks(&[], &[(7, 3)], true), "x");
        assert_eq!(shard.run(deletes), Outcome::Pushed { revision: Revision(revision) });
    }
    assert_eq!(updates(&shard, number("d", &shard)), [(2, 3), (3, 1), (4, 1)]);
    // One that also adds what is known already does not move a clock back.
    shard.run(push("d", &[(7, 3, 9)]));
    shard.run(push_with("d", clocks(&[(7, 0, 3)], &[], true), "x"));
    let clocks = read::document_clocks(&shard.tables, GROUP, ROOM, number("d", &shard)).unwrap();
    assert_eq!(clocks, [(YjsClient(7), 9)].into());
}

#[test]
fn updates_of_one_entry_build_on_each_other() {
    let mut shard = Shard::with_room();
    let pushes = [push("d", &[(7, 0, 1)]), push("d", &[(7, 1, 2)]), push("d", &[(7, 1, 2)]), push("d", &[(7, 3, 4)])];
    let applied = shard.entry(pushes.map(Into::into).to_vec());
    let pushed = |revision| Outcome::Pushed { revision: Revision(revision) };
    assert_eq!(applied.outcomes, [pushed(2), pushed(3), pushed(3), Outcome::Refused(Refusal::NeedSync)]);
    assert_eq!(changes(applied.effects).len(), 3, "made, and updated twice");
}

#[test]
fn a_document_is_made_only_if_asked_for() {
    let mut shard = Shard::with_room();
    for operation in [without_create(push("d", &[(1, 0, 1)])), rename_document("d", "e"), delete_document("d")] {
        assert_eq!(shard.run(operation), Outcome::Refused(Refusal::DocumentNotFound));
    }
    assert_eq!(shard.run(push("d", &[])), Outcome::Pushed { revision: Revision(2) }, "an empty push makes it too");
    assert_eq!(updates(&shard, number("d", &shard)), []);
    assert_eq!(shard.run(without_create(push("d", &[(1, 0, 1)]))), Outcome::Pushed { revision: Revision(3) });
}

#[test]
fn a_renamed_document_keeps_what_it_holds() {
    let mut shard = Shard::with_room();
    shard.run(push("old", &[(7, 0, 3)]));
    shard.run(create_document("taken"));
    let number = number("old", &shard);
    assert_eq!(shard.run(rename_document("old", "taken")), Outcome::Refused(Refusal::DocumentExists));
    assert_eq!(shard.run(rename_document("old", "old")), Outcome::DocumentRenamed { revision: Revision(2) });
    assert_eq!(shard.run(rename_document("old", "new")), Outcome::DocumentRenamed { revision: Revision(4) });
    assert_eq!(shard.document("old"), None);
    let view = shard.document("new").unwrap();
    assert_eq!((view.number, view.revision, view.create_revision, view.updates), (number, Revision(4), Revision(2), 1));
    assert_eq!(shard.run(push("new", &[(7, 3, 4)])), Outcome::Pushed { revision: Revision(5) });
    assert_eq!(shard.run(push("old", &[(7, 0, 1)])), Outcome::Pushed { revision: Revision(6) });
    assert_eq!(shard.document("old").unwrap().number, DocumentNumber(3));
    audit(&shard.tables);
}

#[test]
fn renaming_and_renaming_back_in_one_entry_leaves_one_path() {
    let mut shard = Shard::with_room();
    shard.run(create_document("a"));
    shard.entry(vec![rename_document("a", "b").into(), rename_document("b", "a").into()]);
    let list = read::list_documents(&shard.tables, GROUP, ROOM, None, 9).unwrap();
    assert_eq!(list.iter().map(|view| view.path.as_str()).collect::<Vec<_>>(), ["a"]);
    audit(&shard.tables);
}

#[test]
fn a_deleted_document_is_gone_at_once_and_its_path_is_free() {
    let mut shard = Shard::with_room();
    shard.run(push("d", &[(7, 0, 3)]));
    let applied = shard.entry(vec![delete_document("d").into()]);
    assert_eq!(applied.outcomes, [Outcome::DocumentDeleted { revision: Revision(3) }]);
    assert_eq!(hints(applied.effects), [Effect::DocumentDropped { room: ROOM, document: DocumentNumber(1) }]);
    assert_eq!(shard.document("d"), None);
    assert_eq!(read::document_by_number(&shard.tables, GROUP, ROOM, DocumentNumber(1)), Ok(None));
    assert_eq!(shard.run(delete_document("d")), Outcome::Refused(Refusal::DocumentNotFound));
    assert_eq!(updates(&shard, DocumentNumber(1)), [(2, 3)], "its updates are for the sweep");
    audit(&shard.tables);

    assert_eq!(shard.run(push("d", &[(7, 0, 1)])), Outcome::Pushed { revision: Revision(4) });
    assert_eq!(number("d", &shard), DocumentNumber(2), "numbers are never reused");
    shard.advance();
    audit(&shard.tables);
    let clocks = |number| read::document_clocks(&shard.tables, GROUP, ROOM, DocumentNumber(number)).unwrap();
    assert_eq!((clocks(1).len(), clocks(2).len()), (0, 1));
    assert_eq!(shard.next_due(), None);
}

#[test]
fn the_clocks_of_a_deleted_document_go_in_steps() {
    let mut shard = Shard::with_room();
    let many: Vec<_> = (0..1_000).map(|client| (client, 0, 1)).collect();
    shard.run(push("d", &many));
    shard.run(push("kept", &[(7, 0, 1)]));
    shard.run(delete_document("d"));
    shard.wait(10);
    assert_eq!(shard.run(advance(300)), Outcome::Advanced { more: true });
    assert_eq!(read::document_clocks(&shard.tables, GROUP, ROOM, DocumentNumber(1)).unwrap().len(), 700);
    audit(&shard.tables);
    assert_eq!(shard.advance(), 2);
    audit(&shard.tables);
    assert_eq!(shard.next_due(), None);
}

#[test]
fn a_room_may_be_deleted_before_the_clocks_of_its_deleted_documents() {
    let mut shard = Shard::with_room();
    shard.run(push("d", &[(1, 0, 1), (2, 0, 1), (3, 0, 1)]));
    shard.run(delete_document("d"));
    assert_eq!(shard.run(advance(1)), Outcome::Advanced { more: true });
    shard.run(delete_room());
    // One record at a time, so that each state in between is looked at.
    while shard.run(advance(1)) == (Outcome::Advanced { more: true }) {
        audit(&shard.tables);
    }
    audit(&shard.tables);
    assert_eq!(shard.next_due(), None);
}

#[test]
fn a_room_holds_a_bounded_number_of_documents() {
    let mut shard = Shard::with_room();
    for first in (0..MAX_DOCUMENTS_PER_ROOM).step_by(250) {
        shard.entry((first..first + 250).map(|index| create_document(&format!("d{index:05}")).into()).collect());
    }
    assert_eq!(shard.run(create_document("more")), Outcome::Refused(Refusal::DocumentLimit));
    assert_eq!(shard.run(push("more", &[(1, 0, 1)])), Outcome::Refused(Refusal::DocumentLimit));
    assert!(matches!(shard.run(push("d00017", &[(1, 0, 1)])), Outcome::Pushed { .. }));
    shard.run(delete_document("d00018"));
    let number = DocumentNumber(MAX_DOCUMENTS_PER_ROOM + 1);
    assert!(
        matches!(shard.run(create_document("more")), Outcome::DocumentReady { document, created: true, .. } if document == number)
    );

    let list = |after: Option<&str>, limit| {
        let documents = read::list_documents(&shard.tables, GROUP, ROOM, after.map(path), limit).unwrap();
        documents.into_iter().map(|view| view.path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 2), ["d00000", "d00001"]);
    assert_eq!(list(Some("d00016"), 2), ["d00017", "d00019"]);
    assert_eq!(list(Some("d09999"), 5), ["more"]);
    assert_eq!(list(Some("more"), 5), [""; 0]);

    // The changes of names are bounded too: the oldest made way for the last two.
    let trimmed_to = read::document_changes_trimmed_to(&shard.tables, GROUP, ROOM).unwrap();
    assert_eq!(trimmed_to, Revision(3));
    let kept = read::document_changes(&shard.tables, GROUP, ROOM, Revision(0), usize::MAX).unwrap();
    assert_eq!((kept.len() as u64, kept[0].revision), (MAX_DOCUMENT_CHANGES, Revision(4)));
    audit(&shard.tables);
}

#[test]
fn changes_of_names_are_remembered_with_who_made_them() {
    let mut shard = Shard::with_room();
    shard.run(create_document("a"));
    shard.run(frame(1, 0, push("b", &[(1, 0, 1)])));
    shard.run(request("r", rename_document("a", "c")));
    shard.wait(7);
    shard.run(frame(2, 0, delete_document("b")));
    let changes = read::document_changes(&shard.tables, GROUP, ROOM, Revision(0), 9).unwrap();
    let (one, two) = (DocumentNumber(1), DocumentNumber(2));
    let expected = [
        (2, None, None, ChangeKind::DocumentCreated { document: one, path: path("a") }),
        (3, Some("ann"), Some(SESSION), ChangeKind::DocumentCreated { document: two, path: path("b") }),
        (4, Some("ann"), None, ChangeKind::DocumentRenamed { document: one, from: path("a"), to: path("c") }),
        (5, Some("ann"), Some(SESSION), ChangeKind::DocumentDeleted { document: two, path: path("b") }),
    ];
    assert_eq!(changes.len(), expected.len());
    for (change, (revision, participant, session, kind)) in changes.iter().zip(expected) {
        let name = change.participant.as_ref().map(|name| name.as_str());
        assert_eq!((change.revision.0, name, change.session, &change.kind), (revision, participant, session, &kind));
    }
    assert_eq!((changes[2].time.0, changes[3].time.0), (START, START + 7));
    let after = |after| read::document_changes(&shard.tables, GROUP, ROOM, Revision(after), 1).unwrap();
    assert_eq!(after(3)[0].revision, Revision(4));
    assert_eq!((after(5), after(u64::MAX)), (vec![], vec![]));
    assert_eq!(read::document_changes_trimmed_to(&shard.tables, GROUP, ROOM), Ok(Revision(0)));
}

#[test]
fn documents_that_changed_are_found_by_revision() {
    let mut shard = Shard::with_room();
    for document in ["a", "b", "c"] {
        shard.run(push(document, &[(1, 0, 1)]));
    }
    shard.run(push("a", &[(1, 1, 2)]));
    let changed = |after| {
        let documents = read::documents_changed(&shard.tables, GROUP, ROOM, Revision(after)).unwrap();
        documents.into_iter().map(|view| (view.path.to_string(), view.revision.0)).collect::<Vec<_>>()
    };
    let named = |documents: &[(&str, u64)]| documents.iter().map(|(p, r)| ((*p).to_owned(), *r)).collect::<Vec<_>>();
    assert_eq!(changed(0), named(&[("b", 3), ("c", 4), ("a", 5)]));
    assert_eq!(changed(4), named(&[("a", 5)]));
    assert_eq!(changed(u64::MAX), []);
}

#[test]
fn a_push_sent_again_gets_the_first_outcome() {
    let mut shard = Shard::with_room();
    let first = shard.run(frame(1, 0, push("d", &[(7, 0, 3)])));
    shard.run(push("d", &[(7, 3, 4)]));
    assert_eq!(shard.run(frame(1, 0, push("d", &[(7, 0, 3)]))), first);
    let refused = shard.run(request("r", push("d", &[(7, 9, 10)])));
    assert_eq!(refused, Outcome::Refused(Refusal::NeedSync));
    assert_eq!(shard.run(request("r", push("d", &[(7, 9, 10)]))), refused);
    assert_eq!(shard.run(request("r", post("x"))), Outcome::Refused(Refusal::RequestIdReused));
    assert_eq!(updates(&shard, number("d", &shard)).len(), 2);
}
