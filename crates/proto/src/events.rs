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
/// `Event.message`.
const MESSAGE: u32 = 10;

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
        let around = v1::Event {
            revision,
            time: Some(timestamp(time)),
            participant: participant.to_owned(),
            kind: None,
        };
        // Fields that stand one behind the other are one message.
        let added = v1::Message { lane: lane.into(), to: to.to_vec(), ..Default::default() };
        let message_len = sent.len() + added.encoded_len();
        let event_len =
            around.encoded_len() + key_len(MESSAGE) + encoded_len_varint(message_len as u64) + message_len;
        let mut bytes = BytesMut::with_capacity(event_len + 6);
        encode_key(EVENTS, WireType::LengthDelimited, &mut bytes);
        encode_varint(event_len as u64, &mut bytes);
        around.encode_raw(&mut bytes);
        encode_key(MESSAGE, WireType::LengthDelimited, &mut bytes);
        encode_varint(message_len as u64, &mut bytes);
        bytes.put_slice(sent);
        added.encode_raw(&mut bytes);
        EncodedEvent(bytes.freeze())
    }

    /// Bytes that it adds to a batch.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
    use super::*;

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
