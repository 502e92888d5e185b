//! The one place where an error becomes a status, and where a status is read back.
//!
//! Every status carries a `google.rpc.ErrorInfo` with the domain `conclave` and a reason of `error_reason.proto` without
//! its prefix. [`code_of`] is the whole mapping from reason to code. A unary call ends with the [`tonic::Status`], a
//! frame of a session is answered by the [`google.rpc.Status`](crate::google::rpc::Status) with the same content.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use conclave_room::Refusal;
use conclave_types::NameError;
use conclave_types::limits::{MAX_PARTICIPANTS, MAX_SUBSCRIPTIONS};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, RpcStatusExt, StatusExt, pb};

use crate::resource::ResourceError;
use crate::v1::ErrorReason;
use crate::wire::Malformed;

/// `ErrorInfo.domain` of every status that Conclave makes.
pub const DOMAIN: &str = "conclave";

/// A refusal on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub reason: ErrorReason,
    pub code: Code,
    /// Lower case, for developers, without secrets and payloads.
    pub message: String,
    /// As `error_reason.proto` lists it for the reason.
    pub metadata: BTreeMap<&'static str, String>,
    /// How long to wait before trying again; none where waiting does not help or the caller may decide.
    pub retry_after: Option<Duration>,
}

/// The code of each reason. A limit of a whole frame or request is the exception: [`ApiError::request_too_large`].
pub fn code_of(reason: ErrorReason) -> Code {
    match reason {
        ErrorReason::Unspecified => Code::Unknown,
        ErrorReason::Malformed
        | ErrorReason::FieldInvalid
        | ErrorReason::NameInvalid
        | ErrorReason::TooLarge
        | ErrorReason::DeliveryUnknown
        | ErrorReason::SequenceInvalid
        | ErrorReason::OtherRoom
        | ErrorReason::UpdateInvalid => Code::InvalidArgument,
        ErrorReason::TokenMissing | ErrorReason::TokenInvalid | ErrorReason::TokenExpired => Code::Unauthenticated,
        ErrorReason::ScopeMissing | ErrorReason::ResumeTokenInvalid => Code::PermissionDenied,
        ErrorReason::RoomNotFound
        | ErrorReason::QueueNotFound
        | ErrorReason::DocumentNotFound
        | ErrorReason::ParticipantNotFound => Code::NotFound,
        ErrorReason::RoomExists
        | ErrorReason::QueueExists
        | ErrorReason::DocumentExists
        | ErrorReason::ParticipantNameHeld => Code::AlreadyExists,
        ErrorReason::EtagMismatch | ErrorReason::Superseded | ErrorReason::NotApplied | ErrorReason::StaleEpoch => {
            Code::Aborted
        }
        ErrorReason::HelloExpected | ErrorReason::SessionExpired | ErrorReason::NeedSync | ErrorReason::QueueClosed => {
            Code::FailedPrecondition
        }
        ErrorReason::QueueLimit
        | ErrorReason::QueueFull
        | ErrorReason::WindowExceeded
        | ErrorReason::SubscriptionLimit
        | ErrorReason::Overloaded
        | ErrorReason::DocumentLimit
        | ErrorReason::DocumentTooLarge
        | ErrorReason::ParticipantLimit => Code::ResourceExhausted,
        ErrorReason::CursorAhead => Code::OutOfRange,
        ErrorReason::NotLeader | ErrorReason::NoLeader | ErrorReason::OutcomeUnknown | ErrorReason::Draining => {
            Code::Unavailable
        }
        ErrorReason::Unimplemented => Code::Unimplemented,
        ErrorReason::Internal => Code::Internal,
    }
}

impl ApiError {
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        ApiError {
            reason,
            code: code_of(reason),
            message: message.into(),
            metadata: BTreeMap::new(),
            retry_after: None,
        }
    }

    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.insert(key, value.to_string());
        self
    }

    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    pub fn malformed(what: &Malformed) -> Self {
        ApiError::new(ErrorReason::Malformed, what.to_string())
    }

    /// `rule` reads after the field's name: "must be 1 to 128".
    pub fn field_invalid(field: &str, rule: &str) -> Self {
        ApiError::new(ErrorReason::FieldInvalid, format!("{field} {rule}")).with("field", field).with("rule", rule)
    }

    pub fn name_invalid(error: &NameError) -> Self {
        ApiError::new(ErrorReason::NameInvalid, error.to_string()).with("field", error.field).with("rule", error.rule)
    }

    /// One field of a request is over its limit; both in bytes, or both in elements.
    pub fn too_large(field: &str, limit: usize, actual: usize) -> Self {
        let message = format!("{field} is over its limit of {limit}: {actual}");
        ApiError::new(ErrorReason::TooLarge, message).with("field", field).with("limit", limit).with("actual", actual)
    }

    /// A whole frame or request is over its limit.
    pub fn request_too_large(what: &str, limit_bytes: usize, actual_bytes: usize) -> Self {
        ApiError { code: Code::ResourceExhausted, ..ApiError::too_large(what, limit_bytes, actual_bytes) }
    }

    pub fn token_missing() -> Self {
        ApiError::new(ErrorReason::TokenMissing, "no token came with the call: send `authorization: Bearer <token>`")
    }

    pub fn token_invalid() -> Self {
        ApiError::new(ErrorReason::TokenInvalid, "the token is not one of this cluster")
    }

    pub fn token_expired() -> Self {
        ApiError::new(ErrorReason::TokenExpired, "the token has expired: ask for a new one")
    }

    /// `needs` as the scope is written in the documentation of the method, for example `queues.send`.
    pub fn scope_missing(needs: &str) -> Self {
        ApiError::new(ErrorReason::ScopeMissing, format!("the token does not allow this: it needs {needs}"))
            .with("needs", needs)
    }

    pub fn hello_expected() -> Self {
        ApiError::new(ErrorReason::HelloExpected, "the first frame of a stream, and only that, is hello")
    }

    pub fn sequence_invalid(sequence: u64, last: u64) -> Self {
        let message = format!("sequence {sequence} does not follow {last}");
        ApiError::new(ErrorReason::SequenceInvalid, message).with("sequence", sequence).with("last", last)
    }

    pub fn window_exceeded() -> Self {
        let message = "the session has too many unacknowledged frames: acknowledge replies";
        ApiError::new(ErrorReason::WindowExceeded, message)
    }

    pub fn other_room() -> Self {
        ApiError::new(ErrorReason::OtherRoom, "the request names another room than the session's")
    }

    pub fn resume_token_invalid() -> Self {
        let message = "the resume token is not one of this cluster, participant and room";
        ApiError::new(ErrorReason::ResumeTokenInvalid, message)
    }

    pub fn subscription_limit() -> Self {
        let message = format!("the session has as many subscriptions as it may: {MAX_SUBSCRIPTIONS}");
        ApiError::new(ErrorReason::SubscriptionLimit, message).with("limit", MAX_SUBSCRIPTIONS)
    }

    /// `revision` is the room's present one.
    pub fn cursor_ahead(after_revision: u64, revision: u64) -> Self {
        let message = format!("after_revision {after_revision} is beyond the room's revision {revision}");
        ApiError::new(ErrorReason::CursorAhead, message)
            .with("after_revision", after_revision)
            .with("revision", revision)
    }

    pub fn document_not_found(path: &str) -> Self {
        ApiError::new(ErrorReason::DocumentNotFound, format!("the document {path} does not exist"))
    }

    pub fn document_exists() -> Self {
        ApiError::new(ErrorReason::DocumentExists, "a document of this path exists")
    }

    pub fn document_limit() -> Self {
        ApiError::new(ErrorReason::DocumentLimit, "the room holds as many documents as it may")
    }

    /// Both in bytes; `actual` is what the document would have.
    pub fn document_too_large(limit: u64, actual: u64) -> Self {
        let message = format!("the document would be over its limit of {limit} bytes: {actual}");
        ApiError::new(ErrorReason::DocumentTooLarge, message).with("limit", limit).with("actual", actual)
    }

    pub fn need_sync() -> Self {
        let message = "the update does not follow the document's clocks: open it and push what it lacks";
        ApiError::new(ErrorReason::NeedSync, message)
    }

    /// `rule` reads after the field's name, as in [`ApiError::field_invalid`].
    pub fn update_invalid(field: &str, rule: &str) -> Self {
        ApiError::new(ErrorReason::UpdateInvalid, format!("{field} {rule}")).with("field", field).with("rule", rule)
    }

    /// `participant` is the name or uid that was asked for.
    pub fn participant_not_found(participant: &str) -> Self {
        ApiError::new(ErrorReason::ParticipantNotFound, format!("{participant} is not attached to the room"))
            .with("participant", participant)
    }

    pub fn participant_name_held(participant: &str) -> Self {
        ApiError::new(ErrorReason::ParticipantNameHeld, format!("another attaching holds the name {participant}"))
            .with("participant", participant)
    }

    pub fn participant_limit() -> Self {
        let message = format!("as many participants are attached as the room takes: {MAX_PARTICIPANTS}");
        ApiError::new(ErrorReason::ParticipantLimit, message).with("limit", MAX_PARTICIPANTS)
    }

    /// `leader` is the leader's address if it is known.
    pub fn not_leader(leader: Option<&str>, term: u64) -> Self {
        let error = ApiError::new(ErrorReason::NotLeader, "this host does not lead the shard").with("term", term);
        match leader {
            Some(leader) => error.with("leader", leader),
            None => error,
        }
    }

    pub fn no_leader() -> Self {
        ApiError::new(ErrorReason::NoLeader, "no replica leads the shard at the moment: try again")
    }

    pub fn stale_epoch() -> Self {
        ApiError::new(ErrorReason::StaleEpoch, "the caller's shard map is older than the host's")
    }

    pub fn outcome_unknown() -> Self {
        let message = "the write may or may not have happened: repeat it only with the same request_id";
        ApiError::new(ErrorReason::OutcomeUnknown, message)
    }

    pub fn overloaded(retry_after: Duration) -> Self {
        ApiError::new(ErrorReason::Overloaded, "the shard has more work than it takes at the moment")
            .retry_after(retry_after)
    }

    pub fn draining() -> Self {
        ApiError::new(ErrorReason::Draining, "the process is shutting down")
    }

    pub fn unimplemented(what: &str) -> Self {
        ApiError::new(ErrorReason::Unimplemented, format!("{what} is not served by this version"))
    }

    /// A bug. The detail is logged under the trace id where it ends; the client gets only the id.
    pub fn internal(trace_id: &str) -> Self {
        ApiError::new(ErrorReason::Internal, format!("internal error, logged as {trace_id}"))
    }

    fn details(&self) -> ErrorDetails {
        let metadata: HashMap<_, _> = self.metadata.iter().map(|(key, value)| ((*key).into(), value.clone())).collect();
        let mut details = ErrorDetails::with_error_info(name_of(self.reason), DOMAIN, metadata);
        if let Some(delay) = self.retry_after {
            details.set_retry_info(Some(delay));
        }
        details
    }
}

impl From<&ApiError> for Status {
    fn from(error: &ApiError) -> Status {
        Status::with_error_details(error.code, &error.message, error.details())
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Status {
        Status::from(&error)
    }
}

impl From<&ApiError> for pb::Status {
    fn from(error: &ApiError) -> pb::Status {
        frame_status(&Status::from(error))
    }
}

impl From<ApiError> for pb::Status {
    fn from(error: ApiError) -> pb::Status {
        pb::Status::from(&error)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let (reason, message) = match refusal {
            Refusal::RoomNotFound => (ErrorReason::RoomNotFound, "the room does not exist"),
            Refusal::RoomExists => (ErrorReason::RoomExists, "a room of this name exists"),
            Refusal::EtagMismatch => (ErrorReason::EtagMismatch, "the etag is not the room's present one: read again"),
            Refusal::QueueNotFound => (ErrorReason::QueueNotFound, "the queue does not exist"),
            Refusal::QueueLimit => (ErrorReason::QueueLimit, "the room holds as many queues as it may"),
            Refusal::QueueExists => (ErrorReason::QueueExists, "a queue of this name exists: update it instead"),
            Refusal::QueueClosed => (ErrorReason::QueueClosed, "the queue is closed and takes no items"),
            Refusal::QueueFull => (ErrorReason::QueueFull, "the queue holds as many items or bytes as it may"),
            Refusal::SameQueue => return ApiError::field_invalid("destination", "must be another queue"),
            Refusal::DeliveryUnknown { index } => {
                let message = format!("deliveries[{index}] was never issued by this queue");
                return ApiError::new(ErrorReason::DeliveryUnknown, message).with("index", index);
            }
            Refusal::DocumentNotFound => (ErrorReason::DocumentNotFound, "the document does not exist"),
            Refusal::DocumentExists => return ApiError::document_exists(),
            Refusal::DocumentLimit => return ApiError::document_limit(),
            Refusal::NeedSync => return ApiError::need_sync(),
            Refusal::Superseded => (ErrorReason::Superseded, "a newer attachment of this session exists"),
            Refusal::SessionExpired => {
                (ErrorReason::SessionExpired, "the session expired with frames whose outcome is not known any more")
            }
            Refusal::SessionForeign => return ApiError::resume_token_invalid(),
            Refusal::NotApplied => {
                (ErrorReason::NotApplied, "the frame was refused before it reached the log and had no effect")
            }
            Refusal::RequestIdReused => {
                return ApiError::field_invalid("request_id", "must not be used again for another request");
            }
        };
        ApiError::new(reason, message)
    }
}

impl From<Malformed> for ApiError {
    fn from(what: Malformed) -> ApiError {
        ApiError::malformed(&what)
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> ApiError {
        ApiError::name_invalid(&error)
    }
}

impl From<ResourceError> for ApiError {
    fn from(error: ResourceError) -> ApiError {
        match error {
            ResourceError::Name(error) => ApiError::name_invalid(&error),
            ResourceError::Form { expected } => ApiError::new(ErrorReason::NameInvalid, error.to_string())
                .with("field", "resource")
                .with("rule", format!("must be written as {expected}")),
        }
    }
}

/// The status of a unary call as it stands in a frame.
pub fn frame_status(status: &Status) -> pb::Status {
    use prost::Message;

    // The details of a status made here are an encoded google.rpc.Status; of one made by tonic itself they are empty.
    let details = pb::Status::decode(status.details()).map(|whole| whole.details).unwrap_or_default();
    pb::Status { code: status.code() as i32, message: status.message().to_owned(), details }
}

/// The reason of a status that Conclave made; none for any other, and for a reason of a later version.
pub fn reason_of(status: &Status) -> Option<ErrorReason> {
    reason(status.get_details_error_info()?)
}

/// As [`reason_of`], for the status of a frame.
pub fn reason_of_frame(status: &pb::Status) -> Option<ErrorReason> {
    reason(status.get_details_error_info()?)
}

/// The metadata beside the reason; empty for a status that has none.
pub fn metadata_of(status: &Status) -> BTreeMap<String, String> {
    status.get_details_error_info().map(|info| info.metadata.into_iter().collect()).unwrap_or_default()
}

/// As [`metadata_of`], for the status of a frame.
pub fn metadata_of_frame(status: &pb::Status) -> BTreeMap<String, String> {
    status.get_details_error_info().map(|info| info.metadata.into_iter().collect()).unwrap_or_default()
}

/// How long the server asks to wait before trying again.
pub fn retry_after_of(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

const PREFIX: &str = "ERROR_REASON_";

fn reason(info: tonic_types::ErrorInfo) -> Option<ErrorReason> {
    if info.domain != DOMAIN {
        return None;
    }
    ErrorReason::from_str_name(&format!("{PREFIX}{}", info.reason))
}

fn name_of(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix(PREFIX).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::error_reasons;

    #[test]
    fn every_reason_survives_a_status_and_a_frame() {
        for reason in error_reasons() {
            let error = ApiError::new(reason, "why").with("field", "body").retry_after(Duration::from_millis(250));
            let status = Status::from(&error);
            assert_eq!(reason_of(&status), Some(reason));
            assert_eq!(status.code(), code_of(reason));
            assert_eq!(metadata_of(&status)["field"], "body");
            assert_eq!(retry_after_of(&status), Some(Duration::from_millis(250)));
            let frame = pb::Status::from(&error);
            assert_eq!(reason_of_frame(&frame), Some(reason));
            assert_eq!(metadata_of_frame(&frame)["field"], "body");
            assert_eq!((frame.code, frame.message.as_str()), (code_of(reason) as i32, "why"));
        }
    }

    /// Each comment in error_reason.proto names the code; this mapping says the same.
    #[test]
    fn every_reason_has_its_documented_code() {
        for (reason, comment) in crate::descriptor::documented_reasons() {
            let code = format!("{:?}", code_of(reason));
            let documented: String =
                comment.split(|c: char| !c.is_ascii_uppercase() && c != '_').collect::<Vec<_>>().join(" ");
            let wanted = screaming(&code);
            assert!(
                documented.split(' ').any(|word| word == wanted) || reason == ErrorReason::Unspecified,
                "{reason:?} is {wanted}, its comment says {comment:?}"
            );
        }
    }

    fn screaming(camel: &str) -> String {
        let mut text = String::new();
        for c in camel.chars() {
            if c.is_ascii_uppercase() && !text.is_empty() {
                text.push('_');
            }
            text.push(c.to_ascii_uppercase());
        }
        text
    }

    #[test]
    fn a_foreign_status_has_no_reason() {
        assert_eq!(reason_of(&Status::unavailable("connection reset")), None);
        let foreign = ErrorDetails::with_error_info("ROOM_NOT_FOUND", "example.com", HashMap::new());
        assert_eq!(reason_of(&Status::with_error_details(Code::NotFound, "", foreign)), None);
        let later = ErrorDetails::with_error_info("FROM_THE_FUTURE", DOMAIN, HashMap::new());
        assert_eq!(reason_of(&Status::with_error_details(Code::NotFound, "", later)), None);
    }

    #[test]
    fn a_limit_is_told_with_field_limit_and_actual_size() {
        let status = Status::from(ApiError::too_large("items[0].body", 262_144, 300_000));
        assert_eq!(status.code(), Code::InvalidArgument);
        for part in ["items[0].body", "262144", "300000"] {
            assert!(status.message().contains(part), "{}", status.message());
        }
        let whole = ApiError::request_too_large("frame", 1 << 20, 2 << 20);
        assert_eq!((whole.code, whole.reason), (Code::ResourceExhausted, ErrorReason::TooLarge));
    }

    #[test]
    fn what_a_client_decides_by_stands_in_the_metadata() {
        let told = |error: ApiError| -> Vec<(&str, String)> { error.metadata.into_iter().collect() };
        let pair = |key, value: &str| (key, value.to_owned());
        assert_eq!(told(ApiError::cursor_ahead(9, 7)), [pair("after_revision", "9"), pair("revision", "7")]);
        assert_eq!(told(ApiError::document_too_large(10, 11)), [pair("actual", "11"), pair("limit", "10")]);
        assert_eq!(told(ApiError::subscription_limit()), [pair("limit", "1000")]);
        assert_eq!(told(ApiError::participant_limit()), [pair("limit", "1000")]);
        assert_eq!(told(ApiError::participant_not_found("ada")), [pair("participant", "ada")]);
        assert_eq!(told(ApiError::participant_name_held("ada")), [pair("participant", "ada")]);
        let invalid = ApiError::update_invalid("update", "must be a Yjs v1 update");
        assert_eq!(invalid.message, "update must be a Yjs v1 update");
        assert_eq!(told(invalid), [pair("field", "update"), pair("rule", "must be a Yjs v1 update")]);
    }

    #[test]
    fn refusals_of_documents_keep_their_reasons() {
        for (refusal, error) in [
            (Refusal::DocumentExists, ApiError::document_exists()),
            (Refusal::DocumentLimit, ApiError::document_limit()),
            (Refusal::NeedSync, ApiError::need_sync()),
        ] {
            assert_eq!(ApiError::from(refusal), error);
        }
        let reason = ApiError::from(Refusal::DocumentNotFound).reason;
        assert_eq!(reason, ApiError::document_not_found("notes/a").reason);
    }

    #[test]
    fn a_leader_hint_is_given_only_when_there_is_one() {
        let known = metadata_of(&ApiError::not_leader(Some("127.0.0.1:7000"), 4).into());
        assert_eq!((known["leader"].as_str(), known["term"].as_str()), ("127.0.0.1:7000", "4"));
        assert!(!metadata_of(&ApiError::not_leader(None, 4).into()).contains_key("leader"));
    }
}
