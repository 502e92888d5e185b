//! One shard over memory tables, and short ways to write commands.

use bytes::Bytes;
use conclave_types::{
    AddedClocks, AttachmentNumber, DeliveryId, DocumentPath, GroupId, RequiredClock, Revision, RoomNumber, RoomUid,
    Sequence, SessionId, Slot, Timestamp, UpdateClocks, YjsClient,
};

use crate::keys::Keys;
use crate::memory::MemoryTables;
use crate::{
    Advance, Applied, Batch, Change, Command, DeliveredItem, DocumentView, Effect, MessageRetention, Operation, Origin,
    Outcome, Receiver, SessionFrame, Writes, next_due, read,
};

pub(super) const GROUP: GroupId = GroupId(1);
pub(super) const SLOT: Slot = Slot(7);
/// The first room that a shard makes.
pub(super) const ROOM: RoomUid = RoomUid { slot: SLOT, number: RoomNumber(1) };
pub(super) const SESSION: SessionId = SessionId([5; 16]);
pub(super) const START: u64 = 1_000_000;
pub(super) const MINUTE: u64 = 60_000;

pub(super) struct Shard {
    pub tables: MemoryTables,
    pub now: u64,
}

impl Shard {
    pub fn new() -> Self {
        Shard { tables: MemoryTables::default(), now: START }
    }

    /// A shard with [`ROOM`].
    pub fn with_room() -> Self {
        let mut shard = Shard::new();
        assert_eq!(shard.run(create_room("room")), Outcome::RoomCreated { room: ROOM, revision: Revision(1) });
        shard
    }

    pub fn entry(&mut self, commands: Vec<Command>) -> Applied {
        let mut batch = Batch::new(GROUP, &self.tables).unwrap();
        let applied = batch.apply(Timestamp(self.now), commands).unwrap();
        let writes = batch.into_writes();
        self.tables.write(writes);
        applied
    }

    pub fn run(&mut self, command: impl Into<Command>) -> Outcome {
        let mut outcomes = self.entry(vec![command.into()]).outcomes;
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0)
    }

    pub fn lease(&mut self, max_items: u32) -> Vec<DeliveredItem> {
        leased(self.run(lease(max_items)))
    }

    /// Lets time pass without an entry.
    pub fn wait(&mut self, ms: u64) {
        self.now += ms;
    }

    /// Advances as a leader would, until nothing is due.
    pub fn advance(&mut self) -> usize {
        for steps in 1..10_000 {
            if self.run(advance(512)) == (Outcome::Advanced { more: false }) {
                return steps;
            }
        }
        panic!("advance makes no progress");
    }

    pub fn next_due(&self) -> Option<u64> {
        next_due(GROUP, &self.tables).unwrap().map(|deadline| deadline.0)
    }

    /// (ready, leased) of the queue that [`send`] and [`lease`] use.
    pub fn sizes(&self) -> (u64, u64) {
        let view = read::queue(&self.tables, GROUP, ROOM, &queue()).unwrap();
        view.map_or((0, 0), |view| (view.ready, view.leased))
    }

    pub fn document(&self, document: &str) -> Option<DocumentView> {
        read::document(&self.tables, GROUP, ROOM, &path(document)).unwrap()
    }

    /// Writes what a function of [`crate::local`] returned.
    pub fn write_local(&mut self, writes: Writes) {
        let local = Keys::new(GROUP).local_all();
        assert!(writes.iter().all(|(key, _)| local.contains(key)), "a local write outside its class");
        self.tables.write(writes);
    }

    pub fn revision(&self) -> u64 {
        read::revision(&self.tables, GROUP, ROOM).unwrap().unwrap().0
    }
}

pub(super) fn queue() -> conclave_types::QueueName {
    "jobs".parse().unwrap()
}

pub(super) fn leased(outcome: Outcome) -> Vec<DeliveredItem> {
    match outcome {
        Outcome::Leased { deliveries, .. } => deliveries,
        other => panic!("not leased: {other:?}"),
    }
}

pub(super) fn ids(deliveries: &[DeliveredItem]) -> Vec<(u64, u32)> {
    deliveries.iter().map(|delivered| (delivered.delivery.item, delivered.delivery.attempt)).collect()
}

impl From<Operation> for Command {
    fn from(operation: Operation) -> Self {
        Command { origin: Origin::Host, operation }
    }
}

pub(super) fn create_room(name: &str) -> Operation {
    Operation::CreateRoom {
        slot: SLOT,
        project: "project".parse().unwrap(),
        room: name.parse().unwrap(),
        metadata: [("colour".to_owned(), "blue".to_owned())].into(),
        annotations: Default::default(),
    }
}

pub(super) fn delete_room() -> Operation {
    Operation::DeleteRoom { room: ROOM, expected_etag: None }
}

pub(super) fn send(bodies: &[&str]) -> Operation {
    Operation::SendItems {
        room: ROOM,
        queue: queue(),
        create: true,
        sender: "ann".parse().unwrap(),
        items: bodies.iter().map(|body| Bytes::copy_from_slice(body.as_bytes())).collect(),
    }
}

pub(super) fn lease(max_items: u32) -> Operation {
    lease_as(max_items, Receiver::Unnamed, false, 30_000)
}

pub(super) fn lease_as(max_items: u32, receiver: Receiver, again: bool, lease_ms: u64) -> Operation {
    Operation::LeaseItems {
        room: ROOM,
        queue: queue(),
        create: true,
        max_items,
        lease_ms,
        consumer: "worker".into(),
        receiver,
        again,
    }
}

pub(super) fn ack(deliveries: &[(u64, u32)]) -> Operation {
    let deliveries = deliveries.iter().map(|(item, attempt)| DeliveryId { item: *item, attempt: *attempt }).collect();
    Operation::AckDeliveries { room: ROOM, queue: queue(), deliveries }
}

pub(super) fn path(path: &str) -> DocumentPath {
    path.parse().unwrap()
}

/// A push by ann with the clocks `added` (client, from, to) and as many bytes as clocks.
pub(super) fn push(document: &str, added: &[(u64, u64, u64)]) -> Operation {
    push_with(
        document,
        clocks(added, &[], false),
        &"u".repeat(added.iter().map(|added| added.2 - added.1).sum::<u64>() as usize),
    )
}

pub(super) fn push_with(document: &str, clocks: UpdateClocks, update: &str) -> Operation {
    Operation::PushUpdate {
        room: ROOM,
        path: path(document),
        create: true,
        author: "ann".parse().unwrap(),
        clocks,
        update: Bytes::copy_from_slice(update.as_bytes()),
    }
}

pub(super) fn clocks(added: &[(u64, u64, u64)], required: &[(u64, u64)], deletes: bool) -> UpdateClocks {
    let added = added.iter().map(|(client, from, to)| AddedClocks { client: YjsClient(*client), from: *from, to: *to });
    let required = required.iter().map(|(client, clock)| RequiredClock { client: YjsClient(*client), clock: *clock });
    UpdateClocks { added: added.collect(), required: required.collect(), deletes }
}

pub(super) fn create_document(document: &str) -> Operation {
    Operation::CreateDocument { room: ROOM, path: path(document) }
}

pub(super) fn rename_document(from: &str, to: &str) -> Operation {
    Operation::RenameDocument { room: ROOM, from: path(from), to: path(to) }
}

pub(super) fn delete_document(document: &str) -> Operation {
    Operation::DeleteDocument { room: ROOM, path: path(document) }
}

pub(super) fn post(message: &str) -> Operation {
    let message = Bytes::copy_from_slice(message.as_bytes());
    Operation::PostMessage { room: ROOM, sender: "ann".parse().unwrap(), message }
}

pub(super) fn retain(retention: MessageRetention) -> Operation {
    let retention = Some(retention);
    Operation::UpdateRoom { room: ROOM, metadata: None, annotations: None, retention, expected_etag: None }
}

/// What watchers are told of.
pub(super) fn changes(effects: Vec<Effect>) -> Vec<Change> {
    let change = |effect| match effect {
        Effect::Changed(change) => Some(change),
        _ => None,
    };
    effects.into_iter().filter_map(change).collect()
}

/// What the leader does beside telling watchers.
pub(super) fn hints(effects: Vec<Effect>) -> Vec<Effect> {
    effects.into_iter().filter(|effect| !matches!(effect, Effect::Changed(_))).collect()
}

pub(super) fn advance(limit: u32) -> Operation {
    Operation::Advance(Advance { limit })
}

pub(super) fn frame(sequence: u64, acknowledged: u64, operation: Operation) -> Command {
    frame_of(1, sequence, acknowledged, operation)
}

pub(super) fn frame_of(attachment: u64, sequence: u64, acknowledged: u64, operation: Operation) -> Command {
    let origin = Origin::Session(SessionFrame {
        room: ROOM,
        session: SESSION,
        attachment: AttachmentNumber(attachment),
        owner: "ann".parse().unwrap(),
        sequence: Sequence(sequence),
        acknowledged: Sequence(acknowledged),
    });
    Command { origin, operation }
}

pub(super) fn attach(presented: u64, issued: u64, unacknowledged: bool) -> Operation {
    Operation::AttachSession {
        room: ROOM,
        session: SESSION,
        owner: "ann".parse().unwrap(),
        presented: AttachmentNumber(presented),
        issued: Timestamp(issued),
        unacknowledged,
    }
}

pub(super) fn request(id: &str, operation: Operation) -> Command {
    let origin = Origin::Request {
        project: "project".parse().unwrap(),
        participant: "ann".parse().unwrap(),
        request_id: Bytes::copy_from_slice(id.as_bytes()),
    };
    Command { origin, operation }
}
