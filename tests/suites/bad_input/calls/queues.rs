//! Requests about queues with one mistake each, for calls and frames alike: beside what every request can get wrong,
//! which stands in its own table.

use bytes::Bytes;
use conclave_proto::v1::client_frame::Body;
use conclave_proto::v1::queue_settings::State;
use conclave_proto::v1::{
    CancelItemsRequest, ConsumeItemsRequest, CreateQueueRequest, DeliveryId, ErrorReason as Reason,
    ExtendLeasesRequest, GetQueueStatsRequest, ItemState, ListItemsRequest, MoveItemsRequest, NackDeliveriesRequest,
    NewItem, PurgeItemsRequest, QueueSettings, ReceiveItemsRequest, SendItemsRequest, UpdateQueueRequest,
};
use conclave_types::limits::MAX_BATCH_ITEMS;
use prost::Message;
use prost_types::{Duration, Timestamp};
use tonic::Code;

use super::{Call, ack, bytes, call, receive, send};
use crate::expected::{Expected, bad_name, invalid, needs, refused, too_large};
use crate::place::{QUEUE, ROOM};

pub const CONSUME: &str = "QueueService/ConsumeItems";

/// A queue that is not there.
pub const NOTHING: &str = "rooms/here/queues/nothing";
const CROOKED: &str = "rooms/here/queues/\n";
const THERE: &str = "rooms/elsewhere/queues/jobs";
const DAY: i64 = 24 * 60 * 60;

/// What is the same by call and by frame.
pub type Mistake = (&'static str, Body, Expected);

/// The method that takes a frame's request, and the request.
fn unary(body: Body) -> (&'static str, Bytes) {
    fn of(method: &'static str, request: impl Message) -> (&'static str, Bytes) {
        (method, request.encode_to_vec().into())
    }
    match body {
        Body::SendItems(request) => of("QueueService/SendItems", request),
        Body::ReceiveItems(request) => of("QueueService/ReceiveItems", request),
        Body::AckDeliveries(request) => of("QueueService/AckDeliveries", request),
        Body::NackDeliveries(request) => of("QueueService/NackDeliveries", request),
        Body::ExtendLeases(request) => of("QueueService/ExtendLeases", request),
        Body::CreateQueue(request) => of("QueueService/CreateQueue", request),
        Body::UpdateQueue(request) => of("QueueService/UpdateQueue", request),
        Body::CancelItems(request) => of("QueueService/CancelItems", request),
        Body::MoveItems(request) => of("QueueService/MoveItems", request),
        Body::PurgeItems(request) => of("QueueService/PurgeItems", request),
        Body::ListItems(request) => of("QueueService/ListItems", request),
        Body::GetQueueStats(request) => of("QueueService/GetQueueStats", request),
        other => panic!("not of queues: {other:?}"),
    }
}

pub fn table() -> Vec<Call> {
    let call_of = |(name, body, expected)| {
        let (method, request) = unary(body);
        bytes(name, method, vec![request], expected)
    };
    let mut all: Vec<Call> = mistakes().into_iter().map(call_of).collect();
    all.extend(only_by_call());
    all
}

pub fn mistakes() -> Vec<Mistake> {
    let mut all = missing();
    all.extend(forged());
    all.extend(items());
    all.extend(json());
    all.extend(settling());
    all.extend(settings());
    all.extend(whole_queues());
    all
}

/// One request of each kind that needs a scope, with the scope, for a queue that exists.
pub fn gated() -> Vec<(&'static str, &'static str, Body)> {
    let rows = [
        ("create a queue without the scope", "queues.send", create(NOTHING, QueueSettings::default())),
        ("update a queue without the scope", "queues.send", update(QUEUE, QueueSettings::default())),
        ("send without the scope", "queues.send", Body::SendItems(send(QUEUE, 1))),
        ("cancel without the scope", "queues.send", cancel(QUEUE, 1)),
        ("receive without the scope", "queues.receive", Body::ReceiveItems(receive(QUEUE))),
        ("acknowledge without the scope", "queues.receive", Body::AckDeliveries(ack(QUEUE, &[(1, 1)]))),
        ("give back without the scope", "queues.receive", Body::NackDeliveries(nack(QUEUE, &[(1, 1)]))),
        ("extend without the scope", "queues.receive", Body::ExtendLeases(extend(QUEUE, &[(1, 1)]))),
        ("purge without the scope", "queues.receive", purge(QUEUE, 1)),
        ("look at items without the scope", "queues.receive", Body::ListItems(look(QUEUE))),
        ("move without the scope", "queues.receive", carry(QUEUE, "")),
        ("rates without the scope", "queues.list", stats(QUEUE)),
    ];
    rows.into()
}

pub fn call_of_gated((name, scope, body): (&'static str, &'static str, Body)) -> Call {
    let (method, request) = unary(body);
    bytes(name, method, vec![request], needs(scope))
}

pub fn consume(queue: &str) -> ConsumeItemsRequest {
    ConsumeItemsRequest { parent: queue.into(), ..Default::default() }
}

/// What a token may not do that receives here and may not send.
pub fn move_without_a_place() -> Call {
    let (method, request) = unary(carry(QUEUE, NOTHING));
    bytes("a move to where one may not send", method, vec![request], needs("queues.send"))
}

fn missing() -> Vec<Mistake> {
    let no_queue = || refused(Code::NotFound, Reason::QueueNotFound);
    let rows = [
        ("update an unknown queue", update(NOTHING, QueueSettings::default())),
        ("give back in an unknown queue", Body::NackDeliveries(nack(NOTHING, &[(1, 1)]))),
        ("extend in an unknown queue", Body::ExtendLeases(extend(NOTHING, &[(1, 1)]))),
        ("cancel in an unknown queue", cancel(NOTHING, 1)),
        ("move from an unknown queue", carry(NOTHING, QUEUE)),
        ("move dead letters of an unknown queue", carry(NOTHING, "")),
        ("purge an unknown queue", purge(NOTHING, 1)),
        ("look at items of an unknown queue", Body::ListItems(look(NOTHING))),
        ("rates of an unknown queue", stats(NOTHING)),
    ];
    let crooked = [
        ("a created queue's bad name", create(CROOKED, QueueSettings::default())),
        ("an updated queue's bad name", update(CROOKED, QueueSettings::default())),
        ("give back in a queue with a bad name", Body::NackDeliveries(nack(CROOKED, &[(1, 1)]))),
        ("extend in a queue with a bad name", Body::ExtendLeases(extend(CROOKED, &[(1, 1)]))),
        ("cancel in a queue with a bad name", cancel(CROOKED, 1)),
        ("move from a queue with a bad name", carry(CROOKED, QUEUE)),
        ("move to a queue with a bad name", carry(QUEUE, CROOKED)),
        ("purge a queue with a bad name", purge(CROOKED, 1)),
        ("look at a queue with a bad name", Body::ListItems(look(CROOKED))),
        ("rates of a queue with a bad name", stats(CROOKED)),
    ];
    let rows = rows.into_iter().map(|(name, body)| (name, body, no_queue()));
    rows.chain(crooked.into_iter().map(|(name, body)| (name, body, bad_name("queue")))).collect()
}

/// Deliveries that the queue never made. Its one item was never received.
fn forged() -> Vec<Mistake> {
    let unknown = |index: usize| refused(Code::InvalidArgument, Reason::DeliveryUnknown).with("index", index);
    let ids: [&[(u64, u32)]; 5] = [&[(99, 1)], &[(1, 1)], &[(0, 1)], &[(1, 0)], &[(u64::MAX, u32::MAX)]];
    ids.into_iter()
        .flat_map(|ids| {
            [
                ("a forged delivery to give back", Body::NackDeliveries(nack(QUEUE, ids)), unknown(0)),
                ("a forged delivery to extend", Body::ExtendLeases(extend(QUEUE, ids)), unknown(0)),
                ("a forged delivery to reject", reject(nack(QUEUE, ids)), unknown(0)),
            ]
        })
        .collect()
}

fn items() -> Vec<Mistake> {
    let one = |name, item: NewItem, expected| (name, send_one(item), expected);
    let field = |name, item, field: &str| one(name, item, invalid(&format!("items[0].{field}")));
    let priority = |priority| NewItem { priority, ..item() };
    let at = |seconds, nanos| NewItem { deliver_time: Some(Timestamp { seconds, nanos }), ..item() };
    let delayed = |group: &str| NewItem { delay: seconds(5), group: group.into(), ..item() };
    let second = SendItemsRequest { items: vec![item(), priority(10)], ..send(QUEUE, 1) };
    let (soon, text) = (Timestamp { seconds: 1, nanos: 0 }, "x".repeat(129));
    let mut all = vec![
        field("priority 10", priority(10), "priority"),
        field("the highest priority there could be", priority(u32::MAX), "priority"),
        ("a second item's priority", Body::SendItems(second), invalid("items[1].priority")),
        field("a moment in the year 9999", at(253_402_300_799, 999_999_999), "deliver_time"),
        field("a moment that no clock shows", at(i64::MAX, 0), "deliver_time"),
        field("a moment with negative nanoseconds", at(1, -1), "deliver_time"),
        field("a moment with a second of nanoseconds", at(1, 1_000_000_000), "deliver_time"),
        field("a delay and a moment", NewItem { deliver_time: Some(soon), ..delayed("") }, "deliver_time"),
        field("a delay in a group", delayed("g"), "delay"),
        field("a moment in a group", NewItem { group: "g".into(), ..at(1, 0) }, "deliver_time"),
        field("no life at all", NewItem { time_to_live: seconds(0), ..item() }, "time_to_live"),
        one("a group of 129 bytes", NewItem { group: text.clone(), ..item() }, too_large("items[0].group", 128, 129)),
        one(
            "a message id of 129 bytes",
            NewItem { message_id: text, ..item() },
            too_large("items[0].message_id", 128, 129),
        ),
    ];
    all.extend(too_long(366 * DAY).flat_map(|(name, duration)| {
        let duration = Some(duration);
        [
            field(name, NewItem { delay: duration, ..item() }, "delay"),
            field(name, NewItem { time_to_live: duration, ..item() }, "time_to_live"),
        ]
    }));
    all
}

fn json() -> Vec<Mistake> {
    let no_json = [
        ("no JSON at all", Bytes::new()),
        ("JSON that ends early", "{\"a\":".into()),
        ("two JSON values", "{} {}".into()),
        ("JSON with a comma too many", "[1,]".into()),
        ("JSON that is no UTF-8", Bytes::from_static(b"\"\xff\"")),
        ("JSON nested a hundred thousand deep", "[".repeat(100_000).into()),
        ("JSON nested a hundred thousand deep and closed", ["[".repeat(100_000), "]".repeat(100_000)].concat().into()),
    ];
    no_json
        .into_iter()
        .flat_map(|(name, body)| {
            ["application/json", "application/foo+json", "Application/JSON; charset=utf-8"].map(|kind| {
                let item = NewItem { body: body.clone(), content_type: kind.into(), ..Default::default() };
                (name, send_one(item), invalid("items[0].body"))
            })
        })
        .collect()
}

fn settling() -> Vec<Mistake> {
    let of = |ids| nack(QUEUE, ids);
    let batch = MAX_BATCH_ITEMS;
    let many = vec![(1, 1); batch + 1];
    let delayed = |delay| Body::NackDeliveries(NackDeliveriesRequest { delay: Some(delay), ..of(&[(1, 1)]) });
    let leased = |lease| Body::ExtendLeases(ExtendLeasesRequest { lease: Some(lease), ..extend(QUEUE, &[(1, 1)]) });
    let said = NackDeliveriesRequest { reason: "r".repeat(257), ..of(&[(1, 1)]) };
    let waiting = NackDeliveriesRequest { delay: seconds(1), ..of(&[(1, 1)]) };
    let taken = ReceiveItemsRequest { take: true, lease: seconds(30), ..receive(QUEUE) };
    let mut all = vec![
        ("a reason of 257 bytes", Body::NackDeliveries(said), too_large("reason", 256, 257)),
        ("a dead letter that waits", reject(waiting), invalid("delay")),
        ("nothing to give back", Body::NackDeliveries(of(&[])), invalid("deliveries")),
        ("129 to give back", Body::NackDeliveries(of(&many)), too_large("deliveries", batch, batch + 1)),
        ("nothing to extend", Body::ExtendLeases(extend(QUEUE, &[])), invalid("deliveries")),
        ("129 to extend", Body::ExtendLeases(extend(QUEUE, &many)), too_large("deliveries", batch, batch + 1)),
        ("a lease of what is taken", Body::ReceiveItems(taken), invalid("lease")),
        ("an extension by nothing", leased(Duration::default()), invalid("lease")),
        ("an extension under a second", leased(Duration { seconds: 0, nanos: 999_000_000 }), invalid("lease")),
        ("nothing to cancel", cancel(QUEUE, 0), invalid("items")),
        ("129 to cancel", cancel(QUEUE, batch + 1), too_large("items", batch, batch + 1)),
    ];
    all.extend(too_long(366 * DAY).map(|(name, delay)| (name, delayed(delay), invalid("delay"))));
    all.extend(too_long(DAY / 2).map(|(name, lease)| (name, leased(lease), invalid("lease"))));
    all.extend(too_long(60).map(|(name, wait)| {
        let request = ReceiveItemsRequest { wait: Some(wait), ..receive(QUEUE) };
        (name, Body::ReceiveItems(request), invalid("wait"))
    }));
    all
}

/// What a queue may not be told, whether it is made or changed.
fn settings() -> Vec<Mistake> {
    type Set = fn(&mut QueueSettings, Duration);
    let durations: [(i64, &str, Set); 5] = [
        (DAY / 2, "lease", |settings, value| settings.lease = Some(value)),
        (DAY / 2, "backoff", |settings, value| settings.backoff = Some(value)),
        (DAY / 2, "max_backoff", |settings, value| settings.max_backoff = Some(value)),
        (7 * DAY, "deduplication_window", |settings, value| settings.deduplication_window = Some(value)),
        (366 * DAY, "retention", |settings, value| settings.retention = Some(value)),
    ];
    let mut told: Vec<(&'static str, QueueSettings, Expected)> = Vec::new();
    for (longest, field, set) in durations {
        for (name, value) in too_long(longest) {
            let mut settings = QueueSettings::default();
            set(&mut settings, value);
            told.push((name, settings, invalid(&format!("settings.{field}"))));
        }
    }
    let none = QueueSettings::default;
    let buried = |queue: &str| QueueSettings { dead_letter_queue: Some(queue.into()), ..none() };
    let others = [
        ("no lease", QueueSettings { lease: seconds(0), ..none() }, "lease"),
        ("1,001 attempts", QueueSettings { max_attempts: Some(1_001), ..none() }, "max_attempts"),
        ("attempts without end", QueueSettings { max_attempts: Some(u32::MAX), ..none() }, "max_attempts"),
        ("a queue of nothing", QueueSettings { max_items: Some(0), ..none() }, "max_items"),
        ("a queue of too much", QueueSettings { max_items: Some(100_000_001), ..none() }, "max_items"),
        ("a queue without end", QueueSettings { max_items: Some(u64::MAX), ..none() }, "max_items"),
        ("more than a TiB", QueueSettings { max_bytes: Some((1 << 40) + 1), ..none() }, "max_bytes"),
        ("bytes without end", QueueSettings { max_bytes: Some(u64::MAX), ..none() }, "max_bytes"),
        ("nothing in flight", QueueSettings { max_in_flight: Some(0), ..none() }, "max_in_flight"),
        ("10,001 in flight", QueueSettings { max_in_flight: Some(10_001), ..none() }, "max_in_flight"),
        (
            "10,001 in flight for one",
            QueueSettings { max_in_flight_per_consumer: Some(10_001), ..none() },
            "max_in_flight_per_consumer",
        ),
        ("no state", QueueSettings { state: Some(0), ..none() }, "state"),
        ("an unknown state", QueueSettings { state: Some(99), ..none() }, "state"),
        ("a negative state", QueueSettings { state: Some(-1), ..none() }, "state"),
        ("no overflow", QueueSettings { overflow: Some(0), ..none() }, "overflow"),
        ("an unknown overflow", QueueSettings { overflow: Some(99), ..none() }, "overflow"),
    ];
    told.extend(
        others.into_iter().map(|(name, settings, field)| (name, settings, invalid(&format!("settings.{field}")))),
    );
    told.extend([
        ("dead letters in a queue with a slash", buried("a/b"), bad_name("queue")),
        ("dead letters in a queue of 129 bytes", buried(&"q".repeat(129)), bad_name("queue")),
    ]);
    let mut all: Vec<Mistake> = told
        .into_iter()
        .flat_map(|(name, settings, expected)| {
            [(name, create(NOTHING, settings.clone()), expected.clone()), (name, update(QUEUE, settings), expected)]
        })
        .collect();
    let itself = || invalid("settings.dead_letter_queue");
    let paused = QueueSettings { state: Some(State::Paused.into()), ..none() };
    all.extend([
        ("a new queue's dead letters in itself", create(NOTHING, buried("nothing")), itself()),
        ("a queue's dead letters in itself", update(QUEUE, buried("jobs")), itself()),
        ("a queue made again", create(QUEUE, paused), refused(Code::AlreadyExists, Reason::QueueExists)),
    ]);
    all
}

fn whole_queues() -> Vec<Mistake> {
    let batch = MAX_BATCH_ITEMS;
    let moved = |max_items| {
        let (parent, destination) = (QUEUE.into(), NOTHING.into());
        Body::MoveItems(MoveItemsRequest { parent, destination, max_items, ..Default::default() })
    };
    let listed = |request: ListItemsRequest| Body::ListItems(request);
    let of_state = |state| listed(ListItemsRequest { state, ..look(QUEUE) });
    let page = |page_token: &str| {
        let state = ItemState::Leased.into();
        listed(ListItemsRequest { state, page_token: page_token.into(), ..look(QUEUE) })
    };
    vec![
        ("a move to itself", carry(QUEUE, QUEUE), invalid("destination")),
        ("a move to a name without its room", carry(QUEUE, "jobs"), bad_name("resource")),
        ("129 items to move", moved(129), too_large("max_items", batch, batch + 1)),
        ("1,001 items to discard", purge(QUEUE, 1_001), invalid("max_items")),
        ("items of an unknown state", of_state(99), invalid("state")),
        ("items of a negative state", of_state(-1), invalid("state")),
        ("a page of 1,001 items", listed(ListItemsRequest { page_size: 1_001, ..look(QUEUE) }), invalid("page_size")),
        ("a page token of items that is none", page("yesterday"), invalid("page_token")),
        ("a page token of half a byte", page("abc"), invalid("page_token")),
        ("a page token beyond ASCII", page("ää"), invalid("page_token")),
        ("a page token of a kilobyte", page(&"0".repeat(1 << 10)), invalid("page_token")),
    ]
}

fn only_by_call() -> Vec<Call> {
    let (method, elsewhere) = unary(carry(QUEUE, THERE));
    let consuming = |name, request, expected| call(name, CONSUME, request, expected);
    let mut all = vec![
        bytes("a move to another room", method, vec![elsewhere], invalid("destination")),
        consuming("a window of 1,001", ConsumeItemsRequest { window: 1_001, ..consume(QUEUE) }, invalid("window")),
        consuming("the widest window", ConsumeItemsRequest { window: u32::MAX, ..consume(QUEUE) }, invalid("window")),
        consuming(
            "a consumer with a slash",
            ConsumeItemsRequest { consumer: "a/b".into(), ..consume(QUEUE) },
            bad_name("participant"),
        ),
        consuming("consuming a room", consume(ROOM), bad_name("resource")),
        consuming("consuming a queue with a bad name", consume(CROOKED), bad_name("queue")),
        consuming(
            "consuming in an unknown room",
            consume("rooms/nowhere/queues/jobs"),
            refused(Code::NotFound, Reason::RoomNotFound),
        ),
        consuming(
            "consuming with no lease",
            ConsumeItemsRequest { lease: seconds(0), ..consume(QUEUE) },
            invalid("lease"),
        ),
    ];
    all.extend(too_long(DAY / 2).map(|(name, lease)| {
        consuming(name, ConsumeItemsRequest { lease: Some(lease), ..consume(QUEUE) }, invalid("lease"))
    }));
    all
}

/// Times that nothing takes which takes so many seconds at most.
pub fn too_long(longest: i64) -> impl Iterator<Item = (&'static str, Duration)> {
    let of = |seconds, nanos| Duration { seconds, nanos };
    [
        ("a time a little too long", of(longest, 1_000_000)),
        ("a time for ever", of(i64::MAX, 999_999_999)),
        ("a negative time", of(-1, 0)),
        ("a time a little below nothing", of(0, -1_000_000)),
        ("a time that no clock counts", of(i64::MIN, i32::MIN)),
    ]
    .into_iter()
}

fn item() -> NewItem {
    NewItem { body: "bad".into(), ..Default::default() }
}

fn send_one(item: NewItem) -> Body {
    Body::SendItems(SendItemsRequest { parent: QUEUE.into(), items: vec![item], ..Default::default() })
}

fn ids(ids: &[(u64, u32)]) -> Vec<DeliveryId> {
    ids.iter().map(|&(item, attempt)| DeliveryId { item, attempt }).collect()
}

pub fn nack(queue: &str, deliveries: &[(u64, u32)]) -> NackDeliveriesRequest {
    NackDeliveriesRequest { parent: queue.into(), deliveries: ids(deliveries), ..Default::default() }
}

fn reject(request: NackDeliveriesRequest) -> Body {
    Body::NackDeliveries(NackDeliveriesRequest { reject: true, ..request })
}

fn extend(queue: &str, deliveries: &[(u64, u32)]) -> ExtendLeasesRequest {
    ExtendLeasesRequest { parent: queue.into(), deliveries: ids(deliveries), ..Default::default() }
}

fn create(queue: &str, settings: QueueSettings) -> Body {
    Body::CreateQueue(CreateQueueRequest { name: queue.into(), settings: Some(settings), ..Default::default() })
}

fn update(queue: &str, settings: QueueSettings) -> Body {
    Body::UpdateQueue(UpdateQueueRequest { name: queue.into(), settings: Some(settings), ..Default::default() })
}

fn cancel(queue: &str, items: usize) -> Body {
    Body::CancelItems(CancelItemsRequest { parent: queue.into(), items: vec![1; items], ..Default::default() })
}

pub fn carry(from: &str, to: &str) -> Body {
    let (parent, destination) = (from.into(), to.into());
    Body::MoveItems(MoveItemsRequest { parent, destination, max_items: 1, ..Default::default() })
}

fn purge(queue: &str, max_items: u32) -> Body {
    Body::PurgeItems(PurgeItemsRequest { parent: queue.into(), max_items, ..Default::default() })
}

fn look(queue: &str) -> ListItemsRequest {
    ListItemsRequest { parent: queue.into(), ..Default::default() }
}

fn stats(queue: &str) -> Body {
    Body::GetQueueStats(GetQueueStatsRequest { name: queue.into(), ..Default::default() })
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}
