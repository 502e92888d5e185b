//! Messages on their way in.
//!
//! A message is stored and passed on as the bytes of the `NewMessage` that its sender encoded, on both lanes.
//! [`ReceivedPost::read`] and [`ReceivedEphemeral::read`] find them inside the request and check their limits without
//! copying a body; fields of a later version stay in the bytes. What leaves a host is an
//! [`EncodedEvent::message`](crate::events::EncodedEvent::message).

use bytes::Bytes;
use conclave_types::limits::{MAX_MESSAGE_BYTES, MAX_MESSAGE_TYPE_BYTES, MAX_RECEIVERS};
use prost::Message;

use crate::items::{Headers, MAX_CONTENT_TYPE_BYTES, at_most, check, check_request_id};
use crate::status::ApiError;
use crate::v1;
use crate::wire::{Fields, Malformed};

/// A `PostMessageRequest` whose message is within its limits. `parent` is not parsed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPost<'a> {
    pub parent: &'a str,
    /// The bytes of a `NewMessage`, a slice of the request.
    pub message: Bytes,
    /// Empty when the request has none; at most 64 bytes.
    pub request_id: &'a str,
}

/// A `SendEphemeralRequest` whose message is within its limits. `parent` and the receivers are not parsed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedEphemeral<'a> {
    pub parent: &'a str,
    /// The bytes of a `NewMessage`, a slice of the request.
    pub message: Bytes,
    /// At most 100; empty means everybody.
    pub to: Vec<&'a str>,
}

impl<'a> ReceivedPost<'a> {
    /// Reads a request: the message of a unary call, or the body of a frame.
    pub fn read(request: &'a Bytes) -> Result<Self, ApiError> {
        let (mut parent, mut message, mut request_id) = ("", None, "");
        for field in Fields::of(request) {
            match field? {
                (1, value) => parent = value.text()?,
                (2, value) => only(&mut message, value.bytes()?)?,
                (3, value) => request_id = value.text()?,
                _ => {}
            }
        }
        check_request_id(request_id)?;
        Ok(ReceivedPost { parent, message: checked(request, message)?, request_id })
    }
}

impl<'a> ReceivedEphemeral<'a> {
    /// Reads a request: the message of a unary call, or the body of a frame.
    pub fn read(request: &'a Bytes) -> Result<Self, ApiError> {
        let (mut parent, mut message, mut to) = ("", None, Vec::new());
        for field in Fields::of(request) {
            match field? {
                (1, value) => parent = value.text()?,
                (2, value) => only(&mut message, value.bytes()?)?,
                (3, value) => to.push(value.text()?),
                _ => {}
            }
        }
        at_most("to", MAX_RECEIVERS, to.len())?;
        Ok(ReceivedEphemeral { parent, message: checked(request, message)?, to })
    }
}

/// The same for a message that generated code has decoded: it is encoded again, which copies its body once.
pub fn encode_message(message: &v1::NewMessage) -> Result<Bytes, ApiError> {
    // Before the copy: the whole may be as large as a request.
    check(message.body.len(), MAX_MESSAGE_BYTES, || name("body"))?;
    let bytes = Bytes::from(message.encode_to_vec());
    check_message(&bytes).map(|()| bytes)
}

/// As [`encode_message`], for the field of a request.
pub fn encode_given_message(message: Option<&v1::NewMessage>) -> Result<Bytes, ApiError> {
    encode_message(message.ok_or_else(missing)?)
}

/// Generated code would merge two messages into one; the bytes of one are passed on.
fn only<'a>(message: &mut Option<&'a [u8]>, found: &'a [u8]) -> Result<(), Malformed> {
    match message.replace(found) {
        None => Ok(()),
        Some(_) => Err(Malformed("a request has two messages")),
    }
}

fn checked(request: &Bytes, message: Option<&[u8]>) -> Result<Bytes, ApiError> {
    let message = message.ok_or_else(missing)?;
    check_message(message)?;
    Ok(request.slice_ref(message))
}

fn missing() -> ApiError {
    ApiError::field_invalid("message", "must be given")
}

fn check_message(message: &[u8]) -> Result<(), ApiError> {
    let mut headers = Headers::default();
    for field in Fields::of(message) {
        match field? {
            (1, value) => check(value.text()?.len(), MAX_MESSAGE_TYPE_BYTES, || name("type"))?,
            (2, value) => check(value.bytes()?.len(), MAX_MESSAGE_BYTES, || name("body"))?,
            (3, value) => check(value.text()?.len(), MAX_CONTENT_TYPE_BYTES, || name("content_type"))?,
            (4, value) => headers.add(value.bytes()?, name)?,
            _ => {}
        }
    }
    headers.check(name)
}

fn name(field: &str) -> String {
    format!("message.{field}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::v1::ErrorReason;

    fn chat(body: Vec<u8>) -> v1::NewMessage {
        v1::NewMessage { r#type: "chat".into(), body: body.into(), ..Default::default() }
    }

    fn post(message: Option<v1::NewMessage>) -> Bytes {
        let request = v1::PostMessageRequest { parent: "rooms/a".into(), message, request_id: "once".into() };
        request.encode_to_vec().into()
    }

    fn ephemeral(message: Option<v1::NewMessage>, to: Vec<String>) -> Bytes {
        v1::SendEphemeralRequest { parent: "rooms/a".into(), message, to }.encode_to_vec().into()
    }

    proptest! {
        #[test]
        fn a_message_is_found_as_it_was_sent(body in prop::collection::vec(any::<u8>(), 0..300), to in prop::collection::vec("[a-z]{1,9}", 0..5)) {
            let message = chat(body);
            let encoded = encode_message(&message).expect("a small message");
            let bytes = post(Some(message.clone()));
            let received = ReceivedPost::read(&bytes).expect("a post");
            prop_assert_eq!((received.parent, received.request_id), ("rooms/a", "once"));
            prop_assert_eq!(&received.message, &encoded);
            prop_assert!(bytes.as_ptr_range().contains(&received.message.as_ptr()));
            let bytes = ephemeral(Some(message), to.clone());
            let received = ReceivedEphemeral::read(&bytes).expect("an ephemeral message");
            prop_assert_eq!((received.parent, &received.message), ("rooms/a", &encoded));
            prop_assert_eq!(received.to, to);
        }

        /// Never panics, and what it accepts generated code reads the same way.
        #[test]
        fn strange_requests_are_read_as_generated_code_reads_them(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let bytes = Bytes::from(bytes);
            if let (Ok(read), Ok(request)) = (ReceivedPost::read(&bytes), v1::PostMessageRequest::decode(bytes.clone())) {
                prop_assert_eq!(read.parent, request.parent);
                let message = v1::NewMessage::decode(read.message).ok();
                prop_assert_eq!(message, request.message);
            }
            if let (Ok(read), Ok(request)) = (ReceivedEphemeral::read(&bytes), v1::SendEphemeralRequest::decode(bytes.clone())) {
                prop_assert_eq!(read.to, request.to);
            }
        }
    }

    #[test]
    fn each_limit_is_named_with_its_field_and_both_numbers() {
        let labelled = |count: usize, key: usize, value: usize| {
            let headers = (0..count).map(|index| (format!("{index:0key$}"), "v".repeat(value))).collect();
            v1::NewMessage { headers, ..Default::default() }
        };
        let cases = [
            (chat(vec![0; MAX_MESSAGE_BYTES + 1]), "message.body", MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES + 1),
            (v1::NewMessage { r#type: "x".repeat(129), ..Default::default() }, "message.type", 128, 129),
            (v1::NewMessage { content_type: "x".repeat(129), ..Default::default() }, "message.content_type", 128, 129),
            (labelled(65, 3, 1), "message.headers", 64, 65),
            (labelled(1, 129, 1), "message.headers key", 128, 129),
            (labelled(1, 1, 4_097), "message.headers value", 4_096, 4_097),
            (labelled(4, 1, 4_096), "message.headers", 16_384, 16_388),
        ];
        for (message, field, limit, actual) in cases {
            let error = ReceivedPost::read(&post(Some(message.clone()))).expect_err("over a limit");
            assert_eq!(error.reason, ErrorReason::TooLarge, "{field}");
            let told = ["field", "limit", "actual"].map(|key| error.metadata[key].clone());
            assert_eq!(told, [field.to_owned(), limit.to_string(), actual.to_string()]);
            assert_eq!(encode_message(&message), Err(error.clone()));
            assert_eq!(ReceivedEphemeral::read(&ephemeral(Some(message), vec![])), Err(error));
        }
        let crowd = ephemeral(Some(chat(vec![])), vec!["ada".to_owned(); MAX_RECEIVERS + 1]);
        assert_eq!(ReceivedEphemeral::read(&crowd).map_err(|error| error.reason), Err(ErrorReason::TooLarge));
    }

    #[test]
    fn a_message_at_its_limit_passes() {
        assert!(ReceivedPost::read(&post(Some(chat(vec![7; MAX_MESSAGE_BYTES])))).is_ok());
    }

    #[test]
    fn a_request_without_a_message_is_refused() {
        let refused = Err(ErrorReason::FieldInvalid);
        assert_eq!(ReceivedPost::read(&post(None)).map_err(|error| error.reason), refused);
        let nobody = ephemeral(None, vec![]);
        assert_eq!(
            ReceivedEphemeral::read(&nobody).map_err(|error| error.metadata["field"].clone()),
            Err("message".into())
        );
        assert_eq!(encode_given_message(None).map_err(|error| error.reason), Err(ErrorReason::FieldInvalid));
    }

    #[test]
    fn a_request_with_two_messages_is_refused() {
        let twice = Bytes::from([post(Some(chat(vec![1]))), post(Some(chat(vec![2])))].concat());
        assert_eq!(ReceivedPost::read(&twice).map_err(|error| error.reason), Err(ErrorReason::Malformed));
    }
}
