use conclave_types::{Revision, RoomNumber, RoomUid, Slot};

use super::audit::audit;
use super::harness::*;
use crate::{Effect, Operation, Outcome, Receiver, Refusal, RoomState, read};

fn update(metadata: Option<&str>, expected_etag: Option<u64>) -> Operation {
    let metadata = metadata.map(|value| [("colour".to_owned(), value.to_owned())].into());
    Operation::UpdateRoom { room: ROOM, metadata, annotations: None, retention: None, expected_etag }
}

#[test]
fn a_room_is_found_by_its_name_and_read_back() {
    let shard = Shard::with_room();
    let (project, name) = ("project".parse().unwrap(), "room".parse().unwrap());
    assert_eq!(read::find_room(&shard.tables, GROUP, SLOT, &project, &name), Ok(Some(ROOM)));
    let record = read::room(&shard.tables, GROUP, ROOM).unwrap().unwrap();
    assert_eq!((record.uid, record.project, record.name), (ROOM, project, name));
    assert_eq!((record.state, record.revision, record.etag), (RoomState::Active, Revision(1), 1));
    assert_eq!((record.create_time.0, record.update_time.0), (START, START));
    assert_eq!(record.metadata["colour"], "blue");
    assert_eq!(read::clock(&shard.tables, GROUP).unwrap().0, START);
}

#[test]
fn a_name_is_given_once() {
    let mut shard = Shard::with_room();
    assert_eq!(shard.run(create_room("room")), Outcome::Refused(Refusal::RoomExists));
    let second = RoomUid { slot: SLOT, number: RoomNumber(2) };
    assert_eq!(shard.run(create_room("other")), Outcome::RoomCreated { room: second, revision: Revision(1) });
}

#[test]
fn an_update_replaces_what_it_names_and_moves_the_etag() {
    let mut shard = Shard::with_room();
    shard.run(send(&["x"]));
    shard.wait(5);
    assert_eq!(shard.run(update(Some("red"), Some(1))), Outcome::RoomUpdated { revision: Revision(3) });
    assert_eq!(shard.run(update(Some("green"), Some(1))), Outcome::Refused(Refusal::EtagMismatch));
    assert_eq!(shard.run(update(None, None)), Outcome::RoomUpdated { revision: Revision(4) });
    let record = read::room(&shard.tables, GROUP, ROOM).unwrap().unwrap();
    assert_eq!((record.etag, record.update_time.0, &*record.metadata["colour"]), (4, START + 5, "red"));
}

#[test]
fn a_deleted_room_is_gone_at_once_and_its_name_is_free() {
    let mut shard = Shard::with_room();
    let stale = Operation::DeleteRoom { room: ROOM, expected_etag: Some(9) };
    assert_eq!(shard.run(stale), Outcome::Refused(Refusal::EtagMismatch));
    let applied = shard.entry(vec![delete_room().into(), create_room("room").into(), send(&["x"]).into()]);
    let second = RoomUid { slot: SLOT, number: RoomNumber(2) };
    assert_eq!(
        applied.outcomes,
        [
            Outcome::RoomDeleted { revision: Revision(2) },
            Outcome::RoomCreated { room: second, revision: Revision(1) },
            Outcome::Refused(Refusal::RoomNotFound),
        ]
    );
    assert_eq!(applied.effects, [Effect::RoomDeleted { room: ROOM }]);
    for command in [
        frame(1, 0, send(&["x"])),
        update(None, None).into(),
        delete_room().into(),
        lease(1).into(),
        ack(&[(1, 1)]).into(),
        attach(1, START, false).into(),
    ] {
        assert_eq!(shard.run(command), Outcome::Refused(Refusal::RoomNotFound));
    }
    assert_eq!(read::revision(&shard.tables, GROUP, ROOM), Ok(None));
}

#[test]
fn nothing_of_a_deleted_room_is_left() {
    let mut shard = Shard::new();
    shard.run(create_room("other"));
    let before = shard.tables.dump();
    let mut shard = Shard { tables: shard.tables, now: START };
    let room = RoomUid { slot: SLOT, number: RoomNumber(2) };
    shard.run(create_room("room"));
    for index in 1..=900 {
        let mut command = frame(index, 0, send(&["a", "b"]));
        in_room(&mut command, room);
        shard.run(command);
    }
    let mut taken = lease_as(100, Receiver::Unnamed, false, 5_000);
    set_room(&mut taken, room);
    shard.run(taken);
    let mut done = ack(&[(1, 1), (2, 1)]);
    set_room(&mut done, room);
    shard.run(done);
    audit(&shard.tables);
    shard.run(Operation::DeleteRoom { room, expected_etag: None });
    assert_eq!(shard.next_due(), Some(START));
    assert!(shard.advance() > 5, "a large room goes in steps");
    audit(&shard.tables);

    let mut after = shard.tables.dump();
    let header = crate::keys::Keys::new(GROUP).shard();
    after.insert(header.clone(), before[&header].clone());
    assert_eq!(after, before);
    assert_eq!(shard.next_due(), None);
}

#[test]
fn a_room_that_is_half_removed_reads_as_if_empty() {
    let mut shard = Shard::with_room();
    shard.run(send(&["a"]));
    shard.run(push("d", &[(1, 0, 1)]));
    shard.run(post("m"));
    shard.run(delete_room());
    while shard.run(advance(1)) == (Outcome::Advanced { more: true }) {
        let (tables, name) = (&shard.tables, queue());
        for queues in [
            read::list_queues(tables, GROUP, ROOM, None, 9),
            read::queue(tables, GROUP, ROOM, &name).map(Vec::from_iter),
        ] {
            assert!(queues.unwrap().len() <= 1);
        }
        let documents = read::list_documents(tables, GROUP, ROOM, None, 9).unwrap();
        assert_eq!(documents, shard.document("d").into_iter().collect::<Vec<_>>());
        let document = conclave_types::DocumentNumber(1);
        assert!(read::document_updates(tables, GROUP, ROOM, document, Revision(0), 9, 9).is_ok());
        assert!(read::messages(tables, GROUP, ROOM, Revision(0), 9, 9).is_ok());
    }
    assert_eq!(shard.document("d"), None);
}

#[test]
fn large_purges_do_not_hold_up_the_leases_of_others() {
    let mut shard = Shard::with_room();
    shard.run(send(&["mine"]));
    shard.lease(1);
    for number in [2, 3] {
        let room = RoomUid { slot: SLOT, number: RoomNumber(number) };
        shard.run(create_room("large"));
        for _ in 0..20 {
            let mut many = send(&["x"; 128]);
            set_room(&mut many, room);
            shard.run(many);
        }
        shard.run(Operation::DeleteRoom { room, expected_etag: None });
    }
    shard.wait(30_001);
    for _ in 0..2 {
        assert_eq!(shard.run(advance(512)), Outcome::Advanced { more: true });
    }
    assert_eq!(shard.sizes(), (1, 0));
}

#[test]
fn rooms_of_one_project_are_listed_in_pages() {
    let mut shard = Shard::new();
    for (slot, project, name) in
        [(3, "b", "r1"), (3, "b", "r0"), (3, "a", "r2"), (4, "c", "r3"), (9, "b", "r4"), (9, "a", "r5"), (2, "c", "r6")]
    {
        let (project, room) = (project.parse().unwrap(), name.parse().unwrap());
        shard.run(Operation::CreateRoom {
            slot: Slot(slot),
            project,
            room,
            metadata: Default::default(),
            annotations: Default::default(),
        });
    }
    let list = |project: &str, after: Option<(u16, &str)>, limit| {
        let after = after.map(|(slot, name)| (Slot(slot), name.parse().unwrap()));
        let rooms = read::list_rooms(&shard.tables, GROUP, &project.parse().unwrap(), after, limit).unwrap();
        rooms.into_iter().map(|room| room.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list("b", None, 10), ["r0", "r1", "r4"]);
    assert_eq!(list("b", None, 2), ["r0", "r1"]);
    assert_eq!(list("b", Some((3, "r0")), 10), ["r1", "r4"]);
    assert_eq!(list("b", Some((3, "r1")), 1), ["r4"]);
    assert_eq!(list("b", Some((9, "r4")), 10), [""; 0]);
    assert_eq!(list("a", None, 10), ["r2", "r5"]);
    assert_eq!(list("c", Some((2, "r6")), 10), ["r3"]);
    assert_eq!(list("b", None, 0), [""; 0]);
}

pub(super) fn set_room(operation: &mut Operation, uid: RoomUid) {
    match operation {
        Operation::SendItems { room, .. }
        | Operation::LeaseItems { room, .. }
        | Operation::AckDeliveries { room, .. }
        | Operation::NackDeliveries { room, .. }
        | Operation::ExtendLeases { room, .. }
        | Operation::ConfigureQueue { room, .. }
        | Operation::CancelItems { room, .. }
        | Operation::MoveItems { room, .. }
        | Operation::PurgeItems { room, .. }
        | Operation::CreateDocument { room, .. }
        | Operation::PushUpdate { room, .. }
        | Operation::RenameDocument { room, .. }
        | Operation::DeleteDocument { room, .. }
        | Operation::PostMessage { room, .. } => *room = uid,
        _ => panic!("not an operation on what a room holds"),
    }
}

fn in_room(command: &mut crate::Command, uid: RoomUid) {
    if let crate::Origin::Session(frame) = &mut command.origin {
        frame.room = uid;
    }
    set_room(&mut command.operation, uid);
}
