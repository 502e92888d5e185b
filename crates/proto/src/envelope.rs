//! What a gateway reads of what it forwards: field 1 of a request, the numbers and the kind of a frame.
//!
//! Nothing is decoded and nothing copied. Payloads are skipped by their length, so a frame of a feature that this version
//! does not know passes unharmed. The host reads the same bytes with the generated code; where both could differ (a body
//! given twice) the peek refuses.

use crate::wire::{Fields, Malformed};

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

    pub const UPDATE_ROOM: u32 = 20;
    pub const SEND_ITEMS: u32 = 21;
    pub const ACK_DELIVERIES: u32 = 22;

    pub const GET_ROOM: u32 = 60;
    pub const RECEIVE_ITEMS: u32 = 61;
    pub const GET_QUEUE: u32 = 62;
    pub const LIST_QUEUES: u32 = 63;

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
        self.body.filter(|body| body.field == body::HELLO).map(|body| body.message)
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

    proptest! {
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
            let response = v1::SendItemsResponse { first_item, revision };
            let body = Some(server_frame::Body::SendItems(response));
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
