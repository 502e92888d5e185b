//! Events on their way out: each encoded once, whoever receives it.
//!
//! [`EventBatch`] stands for `conclave.v1.EventBatch` in the generated code. It holds its events encoded, as shared
//! buffers: a host puts the same buffers into the frames of all receivers, which costs each of them one copy of bytes
//! and no work for each event. A receiver decodes with [`EventBatch::events`].

use bytes::{Buf, BufMut, Bytes, BytesMut};
use conclave_types::Timestamp;
use prost::DecodeError;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, encode_key, encode_varint, encoded_len_varint, key_len, skip_field};

use crate::time::timestamp;
use crate::v1;

/// `EventBatch.events`.
const EVENTS: u32 = 1;
/// Fields of `Event`.
const REVISION: u32 = 1;
const TIME: u32 = 2;
const PARTICIPANT: u32 = 3;
const MESSAGE: u32 = 10;
const DOCUMENT_UPDATE: u32 = 11;
/// Fields of `DocumentUpdate`.
const DOCUMENT: u32 = 1;
const UPDATE: u32 = 2;
const STATE: u32 = 3;
const PART: u32 = 4;
const MORE: u32 = 5;

/// One event as it stands in a batch: key, length and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEvent(Bytes);

impl EncodedEvent {
    pub fn of(event: &v1::Event) -> Self {
        let mut bytes = BytesMut::with_capacity(event.encoded_len() + 6);
        prost::encoding::message::encode(EVENTS, event, &mut bytes);
        EncodedEvent(bytes.freeze())
    }

    /// A message event around a `NewMessage` that stays as its sender encoded it, fields of later versions too.
    pub fn message(
        revision: u64,
        time: Timestamp,
        participant: &str,
        sent: &[u8],
        lane: v1::Lane,
        to: &[String],
    ) -> Self {
        // Fields that stand one behind the other are one message.
        let added = v1::Message { lane: lane.into(), to: to.to_vec(), ..Default::default() };
        let kind = Kind { field: MESSAGE, len: sent.len() + added.encoded_len() };
        encoded(revision, Some(time), participant, kind, |bytes| {
            bytes.put_slice(sent);
            added.encode_raw(bytes);
        })
    }

    /// A `DocumentUpdate` event with a whole update, which is copied once. `state`: it brings the document up to the
    /// event's revision rather than being one push.
    pub fn document_update(
        revision: u64,
        time: Timestamp,
        participant: &str,
        path: &str,
        update: &[u8],
        state: bool,
    ) -> Self {
        let part = UpdatePart { document: path, update, state, part: 0, more: false };
        Self::document_update_part(revision, Some(time), participant, &part)
    }

    /// A `DocumentUpdate` event with a part of an update, which is copied once.
    pub fn document_update_part(
        revision: u64,
        time: Option<Timestamp>,
        participant: &str,
        part: &UpdatePart<'_>,
    ) -> Self {
        encoded(revision, time, participant, Kind { field: DOCUMENT_UPDATE, len: part.len() }, |bytes| part.put(bytes))
    }

    /// Bytes that it adds to a batch.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The fields of a `DocumentUpdate`, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct UpdatePart<'a> {
    pub document: &'a str,
    pub update: &'a [u8],
    pub state: bool,
    pub part: u32,
    pub more: bool,
}

impl UpdatePart<'_> {
    fn len(&self) -> usize {
        bytes_len(DOCUMENT, self.document.as_bytes())
            + bytes_len(UPDATE, self.update)
            + uint_len(STATE, self.state.into())
            + uint_len(PART, self.part.into())
            + uint_len(MORE, self.more.into())
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, DOCUMENT, self.document.as_bytes());
        put_bytes(out, UPDATE, self.update);
        put_uint(out, STATE, self.state.into());
        put_uint(out, PART, self.part.into());
        put_uint(out, MORE, self.more.into());
    }
}

/// The kind of an event: its field and the length of its message.
#[derive(Clone, Copy)]
struct Kind {
    field: u32,
    len: usize,
}

/// Encodes an event in one buffer of exactly its size; `content` puts the message of its kind.
fn encoded(
    revision: u64,
    time: Option<Timestamp>,
    participant: &str,
    kind: Kind,
    content: impl FnOnce(&mut Vec<u8>),
) -> EncodedEvent {
    let time = time.map(timestamp);
    let event_len = uint_len(REVISION, revision)
        + time.map_or(0, |time| message_len(TIME, time.encoded_len()))
        + bytes_len(PARTICIPANT, participant.as_bytes())
        + message_len(kind.field, kind.len);
    let mut bytes = Vec::with_capacity(message_len(EVENTS, event_len));
    put_head(&mut bytes, EVENTS, event_len);
    put_uint(&mut bytes, REVISION, revision);
    if let Some(time) = time {
        put_head(&mut bytes, TIME, time.encoded_len());
        time.encode_raw(&mut bytes);
    }
    put_bytes(&mut bytes, PARTICIPANT, participant.as_bytes());
    put_head(&mut bytes, kind.field, kind.len);
    content(&mut bytes);
    debug_assert_eq!(bytes.len(), bytes.capacity(), "the lengths are those of what is put");
    EncodedEvent(bytes.into())
}

/// Bytes of a nested message with its key and length; one that is empty is written too.
fn message_len(field: u32, len: usize) -> usize {
    key_len(field) + encoded_len_varint(len as u64) + len
}

/// Bytes of a field, none for an empty value.
fn bytes_len(field: u32, value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { message_len(field, value.len()) }
}

fn uint_len(field: u32, value: u64) -> usize {
    if value == 0 { 0 } else { key_len(field) + encoded_len_varint(value) }
}

fn put_head(out: &mut Vec<u8>, field: u32, len: usize) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

fn put_bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    if !value.is_empty() {
        put_head(out, field, value.len());
        out.extend_from_slice(value);
    }
}

fn put_uint(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        encode_key(field, WireType::Varint, out);
        encode_varint(value, out);
    }
}

/// Events in order, encoded.
#[derive(Debug, Clone, Default)]
pub struct EventBatch {
    chunks: Vec<Bytes>,
    len: usize,
}

impl EventBatch {
    pub fn of(events: &[v1::Event]) -> Self {
        let mut batch = EventBatch::default();
        events.iter().for_each(|event| batch.push(&EncodedEvent::of(event)));
        batch
    }

    pub fn push(&mut self, event: &EncodedEvent) {
        self.len += event.0.len();
        self.chunks.push(event.0.clone());
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of all events.
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many events; nothing is decoded for it.
    pub fn count(&self) -> usize {
        // A chunk is one event, pushed or received.
        self.chunks.len()
    }

    /// Decodes the events.
    pub fn events(&self) -> Result<Vec<v1::Event>, DecodeError> {
        #[derive(Clone, PartialEq, Message)]
        struct Decoded {
            #[prost(message, repeated, tag = "1")]
            events: Vec<v1::Event>,
        }
        // One buffer, so that payloads are slices of it.
        let whole = match &self.chunks[..] {
            [only] => only.clone(),
            chunks => Bytes::from(chunks.concat()),
        };
        Ok(Decoded::decode(whole)?.events)
    }
}

/// Batches are equal when their bytes are, wherever the buffers end.
impl PartialEq for EventBatch {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.chunks.iter().flatten().eq(other.chunks.iter().flatten())
    }
}

impl Message for EventBatch {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        self.chunks.iter().for_each(|chunk| buffer.put_slice(chunk));
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != EVENTS || wire_type != WireType::LengthDelimited {
            return skip_field(wire_type, tag, buffer, context);
        }
        let mut event = Bytes::new();
        prost::encoding::bytes::merge(wire_type, &mut event, buffer, context)?;
        let mut chunk = BytesMut::with_capacity(event.len() + 6);
        prost::encoding::bytes::encode(EVENTS, &event, &mut chunk);
        self.len += chunk.len();
        self.chunks.push(chunk.freeze());
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.len
    }

    fn clear(&mut self) {
        *self = EventBatch::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_document_update_is_encoded_as_generated_code_does(
            revision in prop_oneof![Just(0), any::<u64>()],
            time in prop::option::of(prop_oneof![Just(0), Just(1_000), 0..u64::MAX / 2].prop_map(Timestamp)),
            participant in "[a-zä]{0,20}",
            document in "[a-z/]{0,200}",
            update in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), Just(vec![7; 20_000])],
            state: bool,
            part in prop_oneof![Just(0), any::<u32>()],
            more: bool,
        ) {
            let whole = part == 0 && !more && time.is_some();
            let encoded = match time {
                Some(time) if whole => {
                    EncodedEvent::document_update(revision, time, &participant, &document, &update, state)
                }
                time => {
                    let part = UpdatePart { document: &document, update: &update, state, part, more };
                    EncodedEvent::document_update_part(revision, time, &participant, &part)
                }
            };
            let update = v1::DocumentUpdate { document, update: update.into(), state, part, more };
            let kind = Some(v1::event::Kind::DocumentUpdate(update));
            let event = v1::Event { revision, time: time.map(timestamp), participant, kind };
            prop_assert_eq!(encoded, EncodedEvent::of(&event));
        }

        #[test]
        fn a_message_is_encoded_as_generated_code_does(
            revision in prop_oneof![Just(0), any::<u64>()],
            body in prop::collection::vec(any::<u8>(), 0..200),
            to in prop::collection::vec("[a-z]{1,9}", 0..3),
        ) {
            let (body, r#type) = (Bytes::from(body), "chat".to_owned());
            let sent = v1::NewMessage { r#type: r#type.clone(), body: body.clone(), ..Default::default() };
            let (time, lane) = (Timestamp(5_001), v1::Lane::Durable);
            let encoded = EncodedEvent::message(revision, time, "ada", &sent.encode_to_vec(), lane, &to);
            let message = v1::Message { r#type, body, lane: lane.into(), to, ..Default::default() };
            let kind = Some(v1::event::Kind::Message(message));
            let event = v1::Event { revision, time: Some(timestamp(time)), participant: "ada".into(), kind };
            prop_assert_eq!(encoded, EncodedEvent::of(&event));
        }
    }

    fn event(revision: u64) -> v1::Event {
        let message = v1::Message { body: Bytes::from(vec![7; revision as usize]), lane: 1, ..Default::default() };
        v1::Event { revision, kind: Some(v1::event::Kind::Message(message)), ..Default::default() }
    }

    fn frame(batch: EventBatch) -> v1::ServerFrame {
        let body = Some(v1::server_frame::Body::EventBatch(batch));
        v1::ServerFrame { revision: 9, subscription: 3, reply_to: 0, body }
    }

    #[test]
    fn a_frame_with_a_batch_survives_the_wire() {
        let events = [event(1), event(300)];
        let sent = frame(EventBatch::of(&events));
        let received = v1::ServerFrame::decode(Bytes::from(sent.encode_to_vec())).expect("a frame");
        assert_eq!(received, sent);
        let Some(v1::server_frame::Body::EventBatch(batch)) = received.body else { panic!("a batch") };
        assert_eq!(batch.count(), 2);
        assert_eq!(batch.events().expect("events"), events);
    }

    #[test]
    fn a_message_is_passed_on_as_it_was_sent() {
        let sent = v1::NewMessage { r#type: "chat".into(), body: Bytes::from_static(b"hi"), ..Default::default() };
        let mut sent = sent.encode_to_vec();
        // Field 60, a varint: of a later version.
        sent.extend_from_slice(&[0xe0, 0x03, 5]);
        let mut batch = EventBatch::default();
        let to = ["bob".to_owned()];
        batch.push(&EncodedEvent::message(4, Timestamp(1_000), "alice", &sent, v1::Lane::Ephemeral, &to));
        let events = batch.events().expect("events");
        let [v1::Event { revision: 4, participant, kind: Some(v1::event::Kind::Message(message)), .. }] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!((participant.as_str(), message.r#type.as_str(), &message.body[..]), ("alice", "chat", &b"hi"[..]));
        assert_eq!((message.lane(), &message.to[..]), (v1::Lane::Ephemeral, &to[..]));
        assert!(batch.chunks[0].windows(3).any(|bytes| bytes == [0xe0, 0x03, 5]));
    }
}
