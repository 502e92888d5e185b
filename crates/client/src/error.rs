//! What a call or a frame failed with.

use std::collections::BTreeMap;
use std::time::Duration;

use conclave_proto::google::rpc;
use conclave_proto::status::{metadata_of, metadata_of_frame, reason_of, reason_of_frame, retry_after_of};
use conclave_proto::v1::ErrorReason;
use tonic::{Code, Status};

/// A refusal or a failure, as the cluster or the connection reported it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct ClientError {
    pub code: Code,
    /// None when it is not the cluster that speaks: a lost connection, a foreign address.
    pub reason: Option<ErrorReason>,
    /// For people; its wording may change.
    pub message: String,
    /// As `error_reason.proto` lists it for the reason.
    pub metadata: BTreeMap<String, String>,
    /// How long the cluster asks to wait before trying again.
    pub retry_after: Option<Duration>,
}

impl ClientError {
    pub(crate) fn new(code: Code, reason: Option<ErrorReason>, message: impl Into<String>) -> Self {
        ClientError { code, reason, message: message.into(), metadata: BTreeMap::new(), retry_after: None }
    }

    /// The session has ended, by its owner or because it could not be resumed.
    pub(crate) fn closed() -> Self {
        ClientError::new(Code::Cancelled, None, "the session is closed")
    }

    /// The frame may or may not have had its effect: its session ended with this before the reply came.
    pub(crate) fn outcome_unknown(ended: &ClientError) -> Self {
        let message = format!("the session ended before the reply came: {ended}");
        ClientError::new(Code::Unavailable, Some(ErrorReason::OutcomeUnknown), message)
    }

    /// Whether a stream that ended with this may be taken up again. What the cluster refuses for good stays refused.
    pub(crate) fn is_loss(&self) -> bool {
        match self.reason {
            Some(ErrorReason::Overloaded | ErrorReason::StaleEpoch) => true,
            Some(_) => self.code == Code::Unavailable,
            None => matches!(self.code, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled),
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        ClientError {
            code: status.code(),
            reason: reason_of(&status),
            metadata: metadata_of(&status),
            retry_after: retry_after_of(&status),
            message: status.message().to_owned(),
        }
    }
}

impl From<rpc::Status> for ClientError {
    fn from(status: rpc::Status) -> Self {
        ClientError {
            code: Code::from_i32(status.code),
            reason: reason_of_frame(&status),
            metadata: metadata_of_frame(&status),
            retry_after: None,
            message: status.message,
        }
    }
}

#[cfg(test)]
mod tests {
    use conclave_proto::status::ApiError;

    use super::*;

    #[test]
    fn what_is_refused_for_good_is_no_loss() {
        let lost = |status: Status| ClientError::from(status).is_loss();
        assert!(lost(Status::unavailable("connection reset")));
        assert!(lost(Status::unknown("h2 error")));
        assert!(lost(ApiError::no_leader().into()));
        assert!(lost(ApiError::draining().into()));
        assert!(lost(ApiError::stale_epoch().into()));
        assert!(lost(ApiError::overloaded(Duration::from_secs(1)).into()));
        for reason in [ErrorReason::Superseded, ErrorReason::SessionExpired, ErrorReason::RoomNotFound] {
            assert!(!lost(ApiError::new(reason, "").into()), "{reason:?}");
        }
        assert!(!lost(ApiError::token_expired().into()));
        assert!(!lost(Status::unimplemented("")));
    }
}
