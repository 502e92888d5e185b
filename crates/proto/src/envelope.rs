//! What a gateway reads of what it forwards: field 1 of a request, the numbers and the kind of a frame.
//!
//! Nothing is decoded and nothing copied. Payloads are skipped by their length, so a frame of a feature that this version
//! does not know passes unharmed. The host reads the same bytes with the generated code; where both could differ (a body
//! given twice) the peek refuses.

mod again;

use crate::wire::{Fields, Malformed};

pub use again::{resubscribe, with_after_revision, with_credit, without_sequence};

/// Field numbers of a frame's body. In both directions an answer has the number of its request.
pub mod body {
    pub const HELLO: u32 = 10;
    pub const PING: u32 = 11;
    pub const SUBSCRIBE: u32 = 12;
    pub const UNSUBSCRIBE: u32 = 13;
    pub const CREDIT: u32 = 14;

    pub const WELCOME: u32 = 10;
    pub const STATUS: u32 = 11;
    pub const EVENT_BATCH: u32 = 12;
    pub const GAP: u32 = 13;
    pub const LIVE: u32 = 14;
    pub const GO_AWAY: u32 = 15;
    pub const PONG: u32 = 16;
    pub const SUBSCRIBED: u32 = 17;

    pub const UPDATE_ROOM: u32 = 20;
    pub const SEND_ITEMS: u32 = 21;
    pub const ACK_DELIVERIES: u32 = 22;
    pub const PUSH_UPDATE: u32 = 23;
    pub const POST_MESSAGE: u32 = 24;
    pub const RENAME_DOCUMENT: u32 = 25;
    pub const DELETE_DOCUMENT: u32 = 26;
    pub const NACK_DELIVERIES: u32 = 27;
    pub const EXTEND_LEASES: u32 = 28;
    pub const CREATE_QUEUE: u32 = 29;
    pub const UPDATE_QUEUE: u32 = 30;
    pub const CANCEL_ITEMS: u32 = 31;
    pub const MOVE_ITEMS: u32 = 32;
    pub const PURGE_ITEMS: u32 = 33;

    pub const GET_ROOM: u32 = 60;
    pub const RECEIVE_ITEMS: u32 = 61;
    pub const GET_QUEUE: u32 = 62;
    pub const LIST_QUEUES: u32 = 63;
    pub const DESCRIBE_DOCUMENT: u32 = 64;
    pub const LIST_DOCUMENTS: u32 = 65;
    pub const SEND_AWARENESS: u32 = 66;
    pub const SEND_EPHEMERAL: u32 = 67;
    pub const ATTACH_PARTICIPANT: u32 = 68;
    pub const DETACH_PARTICIPANT: u32 = 69;
    pub const LIST_PARTICIPANTS: u32 = 70;
    pub const LIST_ITEMS: u32 = 71;
    pub const GET_QUEUE_STATS: u32 = 72;

    /// Numbers below belong to the envelope.
    pub(super) const FIRST: u32 = 10;
    /// Requests that are applied once and whose outcome is kept until acknowledged, now and later.
    pub(super) const DURABLE: std::ops::Range<u32> = 20..60;
}

/// The body of a frame: which field of the oneof, and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body<'a> {
    /// One of [`body`], or of a later version.
    pub field: u32,
    pub message: &'a [u8],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientEnvelope<'a> {
    pub sequence: u64,
    pub acknowledged: u64,
    pub subscription: u64,
    /// None for a bare acknowledgement.
    pub body: Option<Body<'a>>,
}

impl<'a> ClientEnvelope<'a> {
    /// Reads the envelope of a `ClientFrame`.
    pub fn peek(frame: &'a [u8]) -> Result<Self, Malformed> {
        let ([sequence, acknowledged, subscription], body) = peek(frame)?;
        Ok(ClientEnvelope { sequence, acknowledged, subscription, body })
    }

    /// The frame is a request that is applied once and acknowledged; any other may be sent again at will.
    pub fn is_durable(&self) -> bool {
        self.body.is_some_and(|body| body::DURABLE.contains(&body.field))
    }

    /// The bytes of `Hello`, if this is one. Its room is [`peek_field_1`] of them.
    pub fn hello(&self) -> Option<&'a [u8]> {
        self.message(body::HELLO)
    }

    /// The bytes of `Subscribe`, if this is one; the subscription's number stands in the envelope.
    pub fn subscribe(&self) -> Option<&'a [u8]> {
        self.message(body::SUBSCRIBE)
    }

    /// Ends the envelope's subscription.
    pub fn is_unsubscribe(&self) -> bool {
        self.message(body::UNSUBSCRIBE).is_some()
    }

    /// The bytes of `AttachParticipantRequest`, if this is one.
    pub fn attach_participant(&self) -> Option<&'a [u8]> {
        self.message(body::ATTACH_PARTICIPANT)
    }

    /// The bytes of `DetachParticipantRequest`, if this is one.
    pub fn detach_participant(&self) -> Option<&'a [u8]> {
        self.message(body::DETACH_PARTICIPANT)
    }

    fn message(&self, field: u32) -> Option<&'a [u8]> {
        self.body.filter(|body| body.field == field).map(|body| body.message)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerEnvelope<'a> {
    pub reply_to: u64,
    pub revision: u64,
    pub subscription: u64,
    pub body: Option<Body<'a>>,
}

impl<'a> ServerEnvelope<'a> {
    /// Reads the envelope of a `ServerFrame`.
    pub fn peek(frame: &'a [u8]) -> Result<Self, Malformed> {
        let ([reply_to, revision, subscription], body) = peek(frame)?;
        Ok(ServerEnvelope { reply_to, revision, subscription, body })
    }
}

/// Field 1 of a request: the resource it is about. None when the field is absent, which means empty.
pub fn peek_field_1(request: &[u8]) -> Result<Option<&str>, Malformed> {
    let mut resource = None;
    for field in Fields::of(request) {
        if let (1, value) = field? {
            // As generated code does it, the last one counts.
            resource = Some(value.text()?);
        }
    }
    Ok(resource)
}

/// `after_revision` of `Subscribe` and of every request that has one; `revision` of every element of a server stream.
const REVISION: u32 = 2;

/// The revision of an element of a server stream; 0 where it has none.
pub fn peek_revision(element: &[u8]) -> Result<u64, Malformed> {
    let mut revision = 0;
    for field in Fields::of(element) {
        if let (REVISION, value) = field? {
            revision = value.uint()?;
        }
    }
    Ok(revision)
}

/// Both frames have three numbers as fields 1 to 3 and their body from field 10 on.
fn peek(frame: &[u8]) -> Result<([u64; 3], Option<Body<'_>>), Malformed> {
    let (mut numbers, mut body) = ([0; 3], None);
    for field in Fields::of(frame) {
        match field? {
            (number @ 1..=3, value) => numbers[number as usize - 1] = value.uint()?,
            (field, value) if field >= body::FIRST => {
                let message = value.bytes()?;
                if body.replace(Body { field, message }).is_some() {
                    return Err(Malformed("a frame has two bodies"));
                }
            }
            _ => {}
        }
    }
    Ok((numbers, body))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::v1::{self, client_frame, server_frame};

    fn client_body() -> impl Strategy<Value = client_frame::Body> {
        prop_oneof![
            ("[a-z/]{0,80}", prop::collection::vec(any::<u8>(), 0..300), any::<u64>()).prop_map(
                |(room, token, sent_sequence)| client_frame::Body::Hello(v1::Hello {
                    room,
                    resume_token: token.into(),
                    sent_sequence,
                    ..Default::default()
                })
            ),
            Just(client_frame::Body::Ping(v1::Ping {})),
            ("[a-zä]{0,80}", prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(parent, body)| {
                let item = v1::NewItem { body: body.into(), ..Default::default() };
                client_frame::Body::SendItems(v1::SendItemsRequest { parent, items: vec![item], ..Default::default() })
            }),
            "[a-z]{0,80}".prop_map(|parent| client_frame::Body::ListQueues(v1::ListQueuesRequest {
                parent,
                ..Default::default()
            })),
        ]
    }

    fn field_and_bytes(body: &client_frame::Body) -> (u32, Vec<u8>) {
        match body {
            client_frame::Body::Hello(hello) => (body::HELLO, hello.encode_to_vec()),
            client_frame::Body::Ping(ping) => (body::PING, ping.encode_to_vec()),
            client_frame::Body::SendItems(request) => (body::SEND_ITEMS, request.encode_to_vec()),
            client_frame::Body::ListQueues(request) => (body::LIST_QUEUES, request.encode_to_vec()),
            other => panic!("not generated here: {other:?}"),
        }
    }

    /// Field 9, a varint, of a later version.
    const LATER: [u8; 2] = [0x48, 0x07];
    /// The same of a subscription, which has a field 9: field 15.
    const LATER_IN_SUBSCRIPTION: [u8; 2] = [0x78, 0x07];

    fn frame_of(body: client_frame::Body) -> v1::ClientFrame {
        v1::ClientFrame { sequence: 5, acknowledged: 4, subscription: 3, body: Some(body) }
    }

    fn contains(bytes: &[u8], part: &[u8]) -> bool {
        bytes.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn credit_is_remembered_in_the_subscription() {
        let subscribe = v1::Subscribe { resource: "rooms/a/queues/b".into(), window: 5, ..Default::default() };
        let body = Some(client_frame::Body::Subscribe(subscribe.clone()));
        let mut frame = v1::ClientFrame { subscription: 3, body, ..Default::default() }.encode_to_vec();
        let mut lengths = Vec::new();
        for _ in 0..2 {
            frame = with_credit(&frame, &v1::Credit { events: 7 }.encode_to_vec()).expect("a subscription");
            lengths.push(frame.len());
        }
        assert_eq!(lengths[0], lengths[1], "what was said before is gone");
        let again = v1::ClientFrame::decode(&frame[..]).expect("a frame");
        let expected = client_frame::Body::Subscribe(v1::Subscribe { credit: 14, ..subscribe });
        assert_eq!((again.subscription, again.body), (3, Some(expected)));
    }

    proptest! {
        #[test]
        fn a_subscription_goes_on_where_it_was(first: u64, after_revision: u64, state_vector: Vec<u8>, topics: bool) {
            let mut subscribe = v1::Subscribe {
                resource: "rooms/a".into(),
                after_revision: first,
                state_vector: state_vector.into(),
                create: Some(false),
                topics: if topics { vec![v1::Topic::Queues.into()] } else { vec![] },
                ..Default::default()
            };
            // A later version's fields, in the subscription and behind it.
            let mut inner = subscribe.encode_to_vec();
            inner.extend_from_slice(&LATER_IN_SUBSCRIPTION);
            let mut frame = v1::ClientFrame { sequence: 9, subscription: 3, ..Default::default() }.encode_to_vec();
            prost::encoding::bytes::encode(body::SUBSCRIBE, &inner, &mut frame);
            frame.extend_from_slice(&LATER);
            let again = resubscribe(&frame, after_revision).expect("it subscribes");
            let decoded = v1::ClientFrame::decode(&again[..]).expect("a frame");
            if after_revision != 0 {
                subscribe.after_revision = after_revision;
            }
            let expected = v1::ClientFrame {
                subscription: 3,
                body: Some(client_frame::Body::Subscribe(subscribe)),
                ..Default::default()
            };
            prop_assert_eq!(decoded, expected);
            prop_assert!(again.ends_with(&LATER));
            let inner = ClientEnvelope::peek(&again).expect("a frame").subscribe().expect("it subscribes");
            prop_assert!(contains(inner, &LATER_IN_SUBSCRIPTION));
        }

        #[test]
        fn a_server_stream_goes_on_where_it_was(first: u64, after_revision: u64) {
            let request = v1::FollowMessagesRequest { parent: "rooms/a".into(), after_revision: first };
            let mut bytes = request.encode_to_vec();
            bytes.extend_from_slice(&LATER);
            let again = with_after_revision(&bytes, after_revision);
            let decoded = v1::FollowMessagesRequest::decode(again.clone()).expect("a request");
            let wanted = if after_revision == 0 { first } else { after_revision };
            prop_assert_eq!((decoded.parent, decoded.after_revision), (request.parent, wanted));
            prop_assert!(again.starts_with(&bytes));
        }

        #[test]
        fn the_revision_of_an_element_is_read_as_generated_code_reads_it(revision: u64, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let live = v1::Live { revision: 7, ..Default::default() };
            let body = Some(v1::watch_room_response::Body::Live(live));
            let element = v1::WatchRoomResponse { revision, body }.encode_to_vec();
            prop_assert_eq!(peek_revision(&element), Ok(revision));
            if let (Ok(peeked), Ok(decoded)) = (peek_revision(&bytes), v1::WatchRoomResponse::decode(&bytes[..])) {
                prop_assert_eq!(peeked, decoded.revision);
            }
        }

        #[test]
        fn saying_strange_bytes_again_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), revision: u64) {
            let _ = resubscribe(&bytes, revision);
            if let Ok(again) = without_sequence(&bytes) {
                prop_assert!(again.len() <= bytes.len());
            }
        }

        #[test]
        fn a_peeked_frame_is_the_frame(numbers: [u64; 3], sent in prop::option::of(client_body())) {
            let [sequence, acknowledged, subscription] = numbers;
            let frame = v1::ClientFrame { sequence, acknowledged, subscription, body: sent.clone() }.encode_to_vec();
            let seen = ClientEnvelope::peek(&frame).expect("a frame");
            prop_assert_eq!([seen.sequence, seen.acknowledged, seen.subscription], numbers);
            let body = seen.body.map(|body| (body.field, body.message.to_vec()));
            prop_assert_eq!(body, sent.as_ref().map(field_and_bytes));
            if let Some(client_frame::Body::Hello(hello)) = sent {
                let room = peek_field_1(seen.hello().expect("hello")).expect("text").unwrap_or_default();
                prop_assert_eq!(room, hello.room);
            }
        }

        #[test]
        fn a_peeked_answer_is_the_answer(reply_to: u64, revision: u64, first_item: u64) {
            let response = v1::SendItemsResponse { first_item, revision, duplicates: vec![] };
            let body = Some(server_frame::Body::SendItems(response.clone()));
            let frame = v1::ServerFrame { reply_to, revision, subscription: 0, body }.encode_to_vec();
            let seen = ServerEnvelope::peek(&frame).expect("a frame");
            prop_assert_eq!((seen.reply_to, seen.revision), (reply_to, revision));
            let expected = Body { field: body::SEND_ITEMS, message: &response.encode_to_vec() };
            prop_assert_eq!(seen.body, Some(expected));
        }

        /// Whatever is peeked of strange bytes is what generated code would read of them.
        #[test]
        fn strange_bytes_never_panic_and_never_mislead(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let (peeked, decoded) = (ClientEnvelope::peek(&bytes), v1::ClientFrame::decode(&bytes[..]));
            if let (Ok(peeked), Ok(decoded)) = (peeked, decoded) {
                prop_assert_eq!(peeked.sequence, decoded.sequence);
                prop_assert_eq!(peeked.acknowledged, decoded.acknowledged);
            }
            let (peeked, decoded) = (peek_field_1(&bytes), v1::GetRoomRequest::decode(&bytes[..]));
            if let (Ok(peeked), Ok(decoded)) = (peeked, decoded) {
                prop_assert_eq!(peeked.unwrap_or_default(), decoded.name);
            }
            let _ = ServerEnvelope::peek(&bytes);
        }
    }

    #[test]
    fn a_participant_is_attached_again_without_a_sequence() {
        let attach = v1::AttachParticipantRequest { parent: "rooms/a".into(), ..Default::default() };
        let frame = frame_of(client_frame::Body::AttachParticipant(attach));
        let mut bytes = frame.encode_to_vec();
        bytes.extend_from_slice(&LATER);
        let again = without_sequence(&bytes).expect("a frame");
        let decoded = v1::ClientFrame::decode(&again[..]).expect("a frame");
        assert_eq!(decoded, v1::ClientFrame { sequence: 0, ..frame });
        assert!(again.ends_with(&LATER));
        assert!(without_sequence(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn frames_that_stay_in_force_are_told_apart() {
        let subscribe = frame_of(client_frame::Body::Subscribe(v1::Subscribe::default())).encode_to_vec();
        let unsubscribe = frame_of(client_frame::Body::Unsubscribe(v1::Unsubscribe {})).encode_to_vec();
        let attach = frame_of(client_frame::Body::AttachParticipant(Default::default())).encode_to_vec();
        let detach = frame_of(client_frame::Body::DetachParticipant(Default::default())).encode_to_vec();
        let ping = frame_of(client_frame::Body::Ping(v1::Ping {})).encode_to_vec();
        let kinds = [&subscribe, &unsubscribe, &attach, &detach, &ping].map(|frame| {
            let seen = ClientEnvelope::peek(frame).expect("a frame");
            let kinds = [seen.subscribe(), seen.attach_participant(), seen.detach_participant()].map(|is| is.is_some());
            (kinds, seen.is_unsubscribe(), seen.is_durable())
        });
        let expected = [
            ([true, false, false], false, false),
            ([false; 3], true, false),
            ([false, true, false], false, false),
            ([false, false, true], false, false),
            ([false; 3], false, false),
        ];
        assert_eq!(kinds, expected);
        for other in [unsubscribe, ping] {
            assert!(resubscribe(&other, 5).is_err());
        }
    }

    #[test]
    fn a_frame_with_two_bodies_is_refused() {
        let ping = v1::ClientFrame { body: Some(client_frame::Body::Ping(v1::Ping {})), ..Default::default() };
        let twice = [ping.encode_to_vec(), ping.encode_to_vec()].concat();
        assert!(ClientEnvelope::peek(&twice).is_err());
    }

    #[test]
    fn a_body_of_a_later_version_is_passed_on() {
        // Field 59, three bytes.
        let seen = ClientEnvelope::peek(&[0x08, 0x05, 0xda, 0x03, 0x03, 1, 2, 3]).expect("a frame");
        assert_eq!(seen.sequence, 5);
        assert_eq!(seen.body, Some(Body { field: 59, message: &[1, 2, 3] }));
        assert!(seen.is_durable());
    }
}
