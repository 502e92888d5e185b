//! Sessions with one mistake each: one frame is answered with a status and the session goes on, or the stream ends.

mod live;
mod queues;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use conclave_auth::{OpenRooms, Rights, RoomRights};
use conclave_client::ClientError;
use conclave_proto::v1::ErrorReason as Reason;
use conclave_proto::v1::client_frame::Body;
use conclave_proto::v1::{
    ClientFrame, GetQueueRequest, GetRoomRequest, Hello, ListQueuesRequest, NewItem, Ping, SendItemsRequest,
    UpdateRoomRequest,
};
use conclave_tests::raw::{RawClient, RawSession};
use conclave_types::limits::{MAX_BATCH_ITEMS, MAX_FRAME_BYTES, MAX_ITEM_BYTES};
use prost::Message;
use tonic::Code;

use super::calls::{ack, receive, send};
use super::expected::{Expected, all_too_large, bad_name, invalid, refused, too_large};
use super::place::{OTHER_ROOM, Place, QUEUE, ROOM};

pub struct Case {
    pub name: &'static str,
    client: RawClient,
    frames: Vec<Bytes>,
    outcome: Outcome,
}

enum Outcome {
    /// The stream ends with this.
    Ends(Expected),
    /// The frame with sequence 1 is answered with this, and the next one is served.
    Answers(Expected),
}

impl Case {
    pub async fn run(self, _: &Place) -> Result<()> {
        let mut session = match self.client.open().await {
            Ok(session) => session,
            Err(status) => {
                let Outcome::Ends(expected) = &self.outcome else { return Err(status.into()) };
                return expected.check(&status.into());
            }
        };
        for frame in self.frames {
            session.send_bytes(frame);
        }
        match self.outcome {
            Outcome::Ends(expected) => {
                session.finish();
                expected.check(&session.refusal().await?)
            }
            Outcome::Answers(expected) => {
                session.next().await?.context("no Welcome")?;
                let reply = session.reply(1).await?;
                let error = reply.err().context("the frame was served")?;
                expected.check(&error)?;
                goes_on(&mut session).await
            }
        }
    }

    fn by(self, client: RawClient) -> Case {
        Case { client, ..self }
    }
}

/// A frame with sequence 2 is served.
async fn goes_on(session: &mut RawSession) -> Result<()> {
    session.ask(2, Body::GetRoom(GetRoomRequest { name: ROOM.into(), ..Default::default() }));
    let reply: Result<_, ClientError> = session.reply(2).await?;
    ensure!(reply.is_ok(), "the session does not go on: {reply:?}");
    Ok(())
}

pub fn table(place: &Place) -> Vec<Case> {
    let mut all = Vec::new();
    all.extend(openings(place));
    all.extend(orders(place));
    all.extend(malformed(place));
    all.extend(requests(place));
    all.extend(scopes(place));
    all.extend(live::documents(place));
    all.extend(live::messages(place));
    all.extend(live::participants(place));
    all.extend(live::subscriptions(place));
    all.extend(live::other_rooms(place));
    all.extend(live::unnumbered(place));
    all.extend(live::scopes(place));
    all.extend(queues::requests(place));
    all.extend(queues::subscriptions(place));
    all.extend(queues::scopes(place));
    all
}

fn openings(place: &Place) -> Vec<Case> {
    let client = || place.admin.clone();
    let ends = |name, frames, expected| Case { name, client: client(), frames, outcome: Outcome::Ends(expected) };
    let no_hello = || refused(Code::FailedPrecondition, Reason::HelloExpected);
    let hello_with = |token: &'static [u8]| {
        let hello = Hello { room: ROOM.into(), resume_token: token.into(), ..Default::default() };
        vec![frame(0, Body::Hello(hello))]
    };
    let garbage = || refused(Code::PermissionDenied, Reason::ResumeTokenInvalid);
    let with = |token: Result<String>| place.raw.with_token(&token.expect("a token is made")).expect("a header");
    let unauthenticated = |reason| refused(Code::Unauthenticated, reason);
    let opened = |name, reason| ends(name, vec![hello(ROOM)], unauthenticated(reason));
    let elsewhere = OpenRooms::One("elsewhere".parse().expect("a room"));
    let of_other_room = || refused(Code::PermissionDenied, Reason::ScopeMissing).with("needs", "a grant for this room");
    vec![
        ends("no frame at all", vec![], no_hello()),
        ends("a ping before Hello", vec![frame(0, Body::Ping(Ping {}))], no_hello()),
        ends("a send before Hello", vec![frame(1, Body::SendItems(send(QUEUE, 1)))], no_hello()),
        ends("a bare acknowledgement before Hello", vec![bare(0, 7)], no_hello()),
        ends("Hello twice", vec![hello(ROOM), hello(ROOM)], no_hello()),
        ends("Hello to an unknown room", vec![hello("rooms/nowhere")], refused(Code::NotFound, Reason::RoomNotFound)),
        ends("Hello to no room", vec![hello("")], bad_name("resource")),
        ends("Hello to a bad name", vec![hello("rooms/Here")], bad_name("room")),
        ends("Hello to a queue", vec![hello(QUEUE)], bad_name("resource")),
        ends("a garbage resume token", hello_with(b"let me in"), garbage()),
        ends("a resume token of zeros", hello_with(&[0; 120]), garbage()),
        opened("a session without a token", Reason::TokenMissing).by(place.raw.clone()),
        opened("a session with a forged token", Reason::TokenInvalid).by(with(place.forged_token())),
        opened("a session with an expired token", Reason::TokenExpired).by(with(place.expired_token())),
        opened("a session with another project's token", Reason::TokenInvalid).by(with(place.token_of_other_project())),
        opened("a session at a host without claims", Reason::TokenMissing).by(place.host.clone()),
        ends("a session with another room's token", vec![hello(ROOM)], of_other_room()).by(with(place.token(
            "guest",
            elsewhere,
            Rights::admin(),
        ))),
    ]
}

fn orders(place: &Place) -> Vec<Case> {
    let ends = |name, frames, expected| ends(place, name, frames, expected);
    let read = |sequence| frame(sequence, Body::GetRoom(GetRoomRequest { name: ROOM.into(), ..Default::default() }));
    let sequence = |sequence: u64, last: u64| {
        let error = refused(Code::InvalidArgument, Reason::SequenceInvalid);
        error.with("sequence", sequence).with("last", last)
    };
    vec![
        ends("a sequence twice", vec![read(1), read(1)], sequence(1, 1)),
        ends("a sequence that goes down", vec![read(5), read(3)], sequence(3, 5)),
        ends("a send without a sequence", vec![frame(0, Body::SendItems(send(QUEUE, 1)))], invalid("sequence")),
        answers(place, "a ping with a sequence", frame(1, Body::Ping(Ping {})), invalid("sequence")),
    ]
}

fn malformed(place: &Place) -> Vec<Case> {
    let malformed = || refused(Code::InvalidArgument, Reason::Malformed);
    let ends = |name, bytes: Vec<u8>| ends(place, name, vec![bytes.into()], malformed());
    let ping = ClientFrame { body: Some(Body::Ping(Ping {})), ..Default::default() }.encode_to_vec();
    vec![
        ends("a frame of random bytes", vec![0xff; 40]),
        ends("a frame whose length is past its end", vec![0x08, 0x01, 0xaa, 0x01, 0x7f]),
        ends("a frame with two bodies", [ping.clone(), ping].concat()),
        // Field 21, send_items, with an item that is none.
        ends("a frame with a malformed request", vec![0x08, 0x01, 0xaa, 0x01, 0x04, 0x12, 0x02, 0xff, 0xff]),
        // Field 59: durable, of a later version.
        ends("a frame with an unknown durable body", vec![0x08, 0x01, 0xda, 0x03, 0x03, 1, 2, 3]),
        // Field 90: a read, of a later version.
        ends("a frame with an unknown body", vec![0x08, 0x01, 0xd2, 0x05, 0x00]),
        ends("a frame with a sequence and no body", vec![0x08, 0x01]),
    ]
}

fn requests(place: &Place) -> Vec<Case> {
    let answers = |name, body, expected| answers(place, name, frame(1, body), expected);
    let other = || refused(Code::InvalidArgument, Reason::OtherRoom);
    let there = "rooms/elsewhere/queues/jobs";
    let item = |bytes: usize| NewItem { body: vec![0; bytes].into(), ..Default::default() };
    let large = SendItemsRequest { parent: QUEUE.into(), items: vec![item(MAX_ITEM_BYTES + 1)], ..Default::default() };
    let huge = SendItemsRequest { parent: QUEUE.into(), items: vec![item(MAX_FRAME_BYTES)], ..Default::default() };
    let huge = frame(1, Body::SendItems(huge));
    let huge_bytes = huge.len();
    let missing = "rooms/here/queues/nothing";
    let no_queue = || refused(Code::NotFound, Reason::QueueNotFound);
    let unknown = || refused(Code::InvalidArgument, Reason::DeliveryUnknown).with("index", 0);
    let update = |etag: &str| UpdateRoomRequest { name: ROOM.into(), etag: etag.into(), ..Default::default() };
    let get_queue = |name: &str| Body::GetQueue(GetQueueRequest { name: name.into(), ..Default::default() });
    let batch = MAX_BATCH_ITEMS;
    let mut receive_none = receive(missing);
    receive_none.create = Some(false);
    vec![
        ends(place, "a frame over 1 MiB", vec![huge], all_too_large("frame", MAX_FRAME_BYTES, huge_bytes)),
        answers(
            "an item over 256 KiB",
            Body::SendItems(large),
            too_large("items[0].body", MAX_ITEM_BYTES, MAX_ITEM_BYTES + 1),
        ),
        answers("129 items", Body::SendItems(send(QUEUE, batch + 1)), too_large("items", batch, batch + 1)),
        answers("a send to another room", Body::SendItems(send(there, 1)), other()),
        answers("a receive from another room", Body::ReceiveItems(receive(there)), other()),
        answers("an acknowledgement in another room", Body::AckDeliveries(ack(there, &[(1, 1)])), other()),
        answers(
            "a read of another room",
            Body::GetRoom(GetRoomRequest { name: OTHER_ROOM.into(), ..Default::default() }),
            other(),
        ),
        answers(
            "an update of another room",
            Body::UpdateRoom(UpdateRoomRequest { name: OTHER_ROOM.into(), ..Default::default() }),
            other(),
        ),
        answers(
            "a list of another room",
            Body::ListQueues(ListQueuesRequest { parent: OTHER_ROOM.into(), ..Default::default() }),
            other(),
        ),
        answers("a read of an unknown queue", get_queue(missing), no_queue()),
        answers(
            "a send to an unknown queue",
            Body::SendItems(SendItemsRequest { create: Some(false), ..send(missing, 1) }),
            no_queue(),
        ),
        answers("a receive from an unknown queue", Body::ReceiveItems(receive_none), no_queue()),
        answers("an acknowledgement in an unknown queue", Body::AckDeliveries(ack(missing, &[(1, 1)])), no_queue()),
        answers("a queue with a bad name", get_queue("rooms/here/queues/\n"), bad_name("queue")),
        answers("a delivery that was never made", Body::AckDeliveries(ack(QUEUE, &[(99, 1)])), unknown()),
        answers(
            "an etag of another time",
            Body::UpdateRoom(update("999999-1")),
            refused(Code::Aborted, Reason::EtagMismatch),
        ),
        answers("an etag that is none", Body::UpdateRoom(update("yesterday")), invalid("etag")),
    ]
}

fn scopes(place: &Place) -> Vec<Case> {
    // Reading the room is allowed, to see that the session goes on.
    let rights = Rights { rooms: RoomRights { read: true, ..Default::default() }, ..Default::default() };
    let token = place.token("guest", OpenRooms::All, rights).expect("a token is made");
    let guest = place.raw.with_token(&token).expect("a header");
    let needs = |name, body, scope: &str| Case {
        name,
        client: guest.clone(),
        frames: vec![hello(ROOM), frame(1, body)],
        outcome: Outcome::Answers(refused(Code::PermissionDenied, Reason::ScopeMissing).with("needs", scope)),
    };
    vec![
        needs("a send without the scope", Body::SendItems(send(QUEUE, 1)), "queues.send"),
        needs("a receive without the scope", Body::ReceiveItems(receive(QUEUE)), "queues.receive"),
        needs("an acknowledgement without the scope", Body::AckDeliveries(ack(QUEUE, &[(1, 1)])), "queues.receive"),
        needs(
            "an update without the scope",
            Body::UpdateRoom(UpdateRoomRequest { name: ROOM.into(), ..Default::default() }),
            "rooms.write",
        ),
        needs(
            "a list without the scope",
            Body::ListQueues(ListQueuesRequest { parent: ROOM.into(), ..Default::default() }),
            "queues.list",
        ),
    ]
}

/// A session in the room that ends because of these frames.
fn ends(place: &Place, name: &'static str, mut frames: Vec<Bytes>, expected: Expected) -> Case {
    frames.insert(0, hello(ROOM));
    Case { name, client: place.admin.clone(), frames, outcome: Outcome::Ends(expected) }
}

/// A session in the room that answers this frame with a status.
fn answers(place: &Place, name: &'static str, frame: Bytes, expected: Expected) -> Case {
    Case { name, client: place.admin.clone(), frames: vec![hello(ROOM), frame], outcome: Outcome::Answers(expected) }
}

fn hello(room: &str) -> Bytes {
    frame(0, Body::Hello(Hello { room: room.into(), ..Default::default() }))
}

fn frame(sequence: u64, body: Body) -> Bytes {
    ClientFrame { sequence, body: Some(body), ..Default::default() }.encode_to_vec().into()
}

fn bare(sequence: u64, acknowledged: u64) -> Bytes {
    ClientFrame { sequence, acknowledged, ..Default::default() }.encode_to_vec().into()
}
