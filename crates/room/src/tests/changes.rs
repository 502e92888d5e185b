//! What watchers are told of.

use conclave_types::{DocumentNumber, Revision, Timestamp};

use super::harness::*;
use crate::{Change, ChangeKind, Effect, Outcome, Refusal, read};

fn change(revision: u64, by: Option<&str>, in_session: bool, kind: ChangeKind) -> Change {
    Change {
        room: ROOM,
        revision: Revision(revision),
        time: Timestamp(START),
        participant: by.map(|name| name.parse().unwrap()),
        session: in_session.then_some(SESSION),
        kind,
    }
}

fn sizes(ready: u64, leased: u64) -> ChangeKind {
    ChangeKind::QueueChanged { queue: queue(), ready, leased }
}

#[test]
fn each_change_tells_who_made_it() {
    let mut shard = Shard::with_room();
    let document = DocumentNumber(1);
    let cases = [
        (
            frame(1, 0, push("d", &[(1, 0, 2)])),
            vec![
                change(2, Some("ann"), true, ChangeKind::DocumentCreated { document, path: path("d") }),
                change(
                    2,
                    Some("ann"),
                    true,
                    ChangeKind::DocumentUpdated { document, path: path("d"), update: "uu".into() },
                ),
            ],
        ),
        (
            request("r", rename_document("d", "e")),
            vec![change(
                3,
                Some("ann"),
                false,
                ChangeKind::DocumentRenamed { document, from: path("d"), to: path("e") },
            )],
        ),
        (
            frame(2, 0, post("hi")),
            vec![change(4, Some("ann"), true, ChangeKind::MessagePosted { message: "hi".into() })],
        ),
        (
            delete_document("e").into(),
            vec![change(5, None, false, ChangeKind::DocumentDeleted { document, path: path("e") })],
        ),
        (frame(3, 0, send(&["x"])), vec![change(6, Some("ann"), true, sizes(1, 0))]),
        (lease(1).into(), vec![change(7, None, false, sizes(0, 1))]),
    ];
    for (command, expected) in cases {
        assert_eq!(changes(shard.entry(vec![command]).effects), expected);
    }
}

#[test]
fn the_author_counts_whoever_proposes() {
    let mut shard = Shard::with_room();
    let told = changes(shard.entry(vec![push("d", &[(1, 0, 1)]).into(), post("x").into()]).effects);
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|change| change.participant.as_ref().is_some_and(|name| name.as_str() == "ann")));
    assert!(told.iter().all(|change| change.session.is_none()));
}

#[test]
fn a_queue_is_told_of_once_an_entry_at_its_last_change() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    let applied = shard.entry(vec![
        frame(1, 0, send(&["b"])),
        frame(2, 0, post("between")),
        frame(3, 0, send(&["c"])),
        lease(1).into(),
        frame(4, 0, post("after")),
    ]);
    let told = changes(applied.effects);
    assert_eq!(told.iter().map(|change| change.revision.0).collect::<Vec<_>>(), [4, 6, 7], "in order of revision");
    assert_eq!(told[1], change(6, None, false, sizes(2, 1)), "two did it, so nobody in particular");

    let both = changes(shard.entry(vec![frame(5, 0, send(&["d"])), frame(6, 0, send(&["e"]))]).effects);
    assert_eq!(both, [change(9, Some("ann"), true, sizes(4, 1))]);
}

#[test]
fn watchers_are_told_before_anything_else_happens() {
    let mut shard = Shard::with_room();
    let applied = shard.entry(vec![send(&["a"]).into(), post("b").into(), delete_room().into()]);
    let kinds: Vec<_> = applied.effects.iter().map(|effect| matches!(effect, Effect::Changed(_))).collect();
    assert_eq!(kinds, [true, true, false, false]);
}

#[test]
fn a_refused_command_tells_nothing() {
    let mut shard = Shard::with_room();
    shard.run(create_document("a"));
    shard.run(create_document("b"));
    let applied = shard.entry(vec![
        rename_document("a", "b").into(),
        push("a", &[(1, 5, 6)]).into(),
        ack(&[(1, 1)]).into(),
        push("new", &[(1, 5, 6)]).into(),
    ]);
    assert!(applied.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Refused(_))));
    assert_eq!(applied.effects, []);
    let kept = shard.entry(vec![push("a", &[(1, 5, 6)]).into(), post("x").into()]);
    assert_eq!(kept.outcomes[0], Outcome::Refused(Refusal::NeedSync));
    assert_eq!(changes(kept.effects).len(), 1);
}

#[test]
fn a_repeated_frame_tells_nothing() {
    let mut shard = Shard::with_room();
    shard.run(frame(1, 0, post("x")));
    assert_eq!(shard.entry(vec![frame(1, 0, post("x"))]).effects, []);
}

#[test]
fn ended_leases_are_told_at_the_revision_of_the_advance() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a", "b"]));
    shard.lease(2);
    shard.wait(30_001);
    let applied = shard.entry(vec![advance(512).into()]);
    let told = changes(applied.effects);
    assert_eq!((told.len(), told[0].revision.0, &told[0].kind), (1, shard.revision(), &sizes(2, 0)));
    assert_eq!(read::queues_changed(&shard.tables, GROUP, ROOM, Revision(0)).unwrap()[0].0, told[0].revision);
}

#[test]
fn queues_that_changed_are_found_by_revision() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    shard.run(on("another", send(&["b", "c"])));
    shard.run(lease(1));
    let changed = |after| {
        let queues = read::queues_changed(&shard.tables, GROUP, ROOM, Revision(after)).unwrap();
        queues.into_iter().map(|(revision, view)| (revision.0, view.name.to_string(), view.ready)).collect::<Vec<_>>()
    };
    assert_eq!(changed(0), [(3, "another".to_owned(), 2), (4, "jobs".to_owned(), 0)]);
    assert_eq!(changed(3), [(4, "jobs".to_owned(), 0)]);
    assert_eq!(changed(u64::MAX), []);
}

#[test]
fn a_room_purged_in_the_entry_that_changed_it_stops_nothing() {
    let mut shard = Shard::with_room();
    let applied = shard.entry(vec![
        send(&["a"]).into(),
        push("d", &[(1, 0, 1)]).into(),
        delete_room().into(),
        advance(512).into(),
    ]);
    assert_eq!(applied.outcomes[3], Outcome::Advanced { more: false });
    assert!(applied.effects.contains(&Effect::RoomDeleted { room: ROOM }));
}
