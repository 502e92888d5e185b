//! One shard over memory tables, and short ways to write commands.

use std::collections::BTreeSet;

use bytes::Bytes;
use conclave_types::{
    AddedClocks, AttachmentNumber, DeliveryId, DocumentPath, GroupId, RequiredClock, Revision, RoomNumber, RoomUid,
    Sequence, SessionId, Slot, Timestamp, UpdateClocks, YjsClient,
};

use crate::keys::Keys;
use crate::memory::MemoryTables;
use crate::{
    Advance, Applied, Batch, Change, Command, Configure, DeliveredItem, DeliveryResult, DocumentView, Effect,
    ItemOptions, MessageRetention, Operation, Origin, Outcome, QueueView, Receiver, SessionFrame, SettingsPatch,
    Writes, next_due, read,
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

    pub fn view(&self, name: &str) -> QueueView {
        read::queue(&self.tables, GROUP, ROOM, &name.parse().unwrap()).unwrap().unwrap()
    }

    /// (ready, leased, delayed, grouped) of a queue.
    pub fn places(&self, name: &str) -> (u64, u64, u64, u64) {
        let view = self.view(name);
        (view.ready, view.leased, view.delayed, view.grouped)
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

pub(super) fn results(outcome: Outcome) -> Vec<DeliveryResult> {
    match outcome {
        Outcome::Settled { results, .. } => results,
        other => panic!("not settled: {other:?}"),
    }
}

/// The outcome of a send without duplicates.
pub(super) fn sent(first_item: u64, revision: u64) -> Outcome {
    Outcome::Sent { first_item, revision: Revision(revision), duplicates: Vec::new() }
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
    send_with(bodies, ItemOptions::default)
}

/// Items that all ask for the same.
pub(super) fn send_with(bodies: &[&str], options: impl Fn() -> ItemOptions) -> Operation {
    send_each(&bodies.iter().map(|body| (*body, options())).collect::<Vec<_>>())
}

pub(super) fn send_each(items: &[(&str, ItemOptions)]) -> Operation {
    let options = (0..).zip(items).filter(|(_, (_, options))| *options != ItemOptions::default());
    Operation::SendItems {
        room: ROOM,
        queue: queue(),
        create: true,
        sender: "ann".parse().unwrap(),
        items: items.iter().map(|(body, _)| Bytes::copy_from_slice(body.as_bytes())).collect(),
        options: options.map(|(index, (_, options))| (index, options.clone())).collect(),
    }
}

pub(super) fn priority(priority: u8) -> ItemOptions {
    ItemOptions { priority, ..ItemOptions::default() }
}

pub(super) fn ttl(ttl_ms: u64) -> ItemOptions {
    ItemOptions { ttl_ms: Some(ttl_ms), ..ItemOptions::default() }
}

pub(super) fn group(group: &str) -> ItemOptions {
    ItemOptions { group: Some(Bytes::copy_from_slice(group.as_bytes())), ..ItemOptions::default() }
}

pub(super) fn message(id: &str) -> ItemOptions {
    ItemOptions { message_id: Some(Bytes::copy_from_slice(id.as_bytes())), ..ItemOptions::default() }
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
        take: false,
        window: 0,
    }
}

/// A lease for a consumer, which holds at most `window` then.
pub(super) fn lease_for(consumer: &str, max_items: u32, window: u32) -> Operation {
    let mut operation = lease(max_items);
    if let Operation::LeaseItems { consumer: by, window: most, .. } = &mut operation {
        (*by, *most) = (consumer.to_owned(), window);
    }
    operation
}

/// A receive of at most once.
pub(super) fn take(max_items: u32) -> Operation {
    let mut operation = lease(max_items);
    if let Operation::LeaseItems { take, .. } = &mut operation {
        *take = true;
    }
    operation
}

pub(super) fn deliveries(of: &[(u64, u32)]) -> Vec<DeliveryId> {
    of.iter().map(|(item, attempt)| DeliveryId { item: *item, attempt: *attempt }).collect()
}

pub(super) fn ack(of: &[(u64, u32)]) -> Operation {
    Operation::AckDeliveries { room: ROOM, queue: queue(), deliveries: deliveries(of) }
}

pub(super) fn nack(of: &[(u64, u32)], delay_ms: Option<u64>) -> Operation {
    let (room, queue, reason) = (ROOM, queue(), "not now".into());
    Operation::NackDeliveries { room, queue, deliveries: deliveries(of), delay_ms, reject: false, reason }
}

pub(super) fn reject(of: &[(u64, u32)]) -> Operation {
    let (room, queue, reason) = (ROOM, queue(), "no use".into());
    Operation::NackDeliveries { room, queue, deliveries: deliveries(of), delay_ms: None, reject: true, reason }
}

pub(super) fn extend(of: &[(u64, u32)], lease_ms: u64) -> Operation {
    Operation::ExtendLeases { room: ROOM, queue: queue(), deliveries: deliveries(of), lease_ms }
}

/// Makes the queue with these settings.
pub(super) fn make(settings: SettingsPatch) -> Operation {
    Operation::ConfigureQueue { room: ROOM, queue: queue(), how: Configure::Create, settings }
}

pub(super) fn configure(settings: SettingsPatch) -> Operation {
    Operation::ConfigureQueue { room: ROOM, queue: queue(), how: Configure::Update, settings }
}

pub(super) fn cancel(items: &[u64]) -> Operation {
    Operation::CancelItems { room: ROOM, queue: queue(), items: items.to_vec() }
}

pub(super) fn move_items(to: Option<&str>, max_items: u32) -> Operation {
    Operation::MoveItems { room: ROOM, queue: queue(), to: to.map(|name| name.parse().unwrap()), max_items }
}

pub(super) fn purge(max_items: u32) -> Operation {
    Operation::PurgeItems { room: ROOM, queue: queue(), max_items }
}

/// The same on another queue.
pub(super) fn on(name: &str, mut operation: Operation) -> Operation {
    match &mut operation {
        Operation::SendItems { queue, .. }
        | Operation::LeaseItems { queue, .. }
        | Operation::AckDeliveries { queue, .. }
        | Operation::NackDeliveries { queue, .. }
        | Operation::ExtendLeases { queue, .. }
        | Operation::ConfigureQueue { queue, .. }
        | Operation::CancelItems { queue, .. }
        | Operation::MoveItems { queue, .. }
        | Operation::PurgeItems { queue, .. } => *queue = name.parse().unwrap(),
        _ => panic!("not an operation on a queue"),
    }
    operation
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

/// Queues that have more to receive than before.
pub(super) fn wakes(effects: Vec<Effect>) -> Vec<String> {
    let queue = |effect| match effect {
        Effect::QueueReady { queue, .. } => Some(queue.to_string()),
        _ => None,
    };
    effects.into_iter().filter_map(queue).collect()
}

/// Consumers that hold less of a queue than before, each with its queue.
pub(super) fn freed(effects: Vec<Effect>) -> BTreeSet<(String, String)> {
    let consumer = |effect| match effect {
        Effect::ConsumerFreed { queue, consumer, .. } => Some((queue.to_string(), consumer)),
        _ => None,
    };
    effects.into_iter().filter_map(consumer).collect()
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
