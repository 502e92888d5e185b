//! What an error says about the operation that got it: certainly not done, or nobody knows.

use conclave_client::ClientError;
use conclave_proto::v1::ErrorReason;
use tonic::Code;

use crate::history::Outcome;

/// What became of something that was asked.
#[derive(Debug)]
pub enum Told<T> {
    Done(T),
    /// It certainly had no effect.
    Refused,
    /// Whoever asked must not build on either.
    Unknown,
}

impl<T> Told<T> {
    pub fn is_known(&self) -> bool {
        !matches!(self, Told::Unknown)
    }
}

/// In doubt it is unknown: an operation wrongly called refused would hide its own effect as somebody's phantom.
pub fn outcome_of(error: &ClientError) -> Outcome {
    let named = error.reason.map_or_else(|| format!("{:?}", error.code), reason_name);
    let refused_by_code = matches!(
        error.code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
    );
    match error.reason {
        Some(ErrorReason::SessionExpired | ErrorReason::OutcomeUnknown | ErrorReason::Superseded) | None => {
            Outcome::Unknown { why: format!("{named}: {}", error.message) }
        }
        Some(ErrorReason::NotApplied) => Outcome::Refused { reason: named },
        Some(_) if refused_by_code => Outcome::Refused { reason: named },
        Some(_) => Outcome::Unknown { why: named },
    }
}

/// As statuses and the documentation of the API say it.
fn reason_name(reason: ErrorReason) -> String {
    reason.as_str_name().trim_start_matches("ERROR_REASON_").to_owned()
}

#[cfg(test)]
mod tests {
    use conclave_proto::status::ApiError;
    use tonic::Status;

    use super::*;

    fn outcome(status: impl Into<Status>) -> Outcome {
        outcome_of(&ClientError::from(status.into()))
    }

    #[test]
    fn a_lost_answer_is_unknown_and_a_reasoned_refusal_is_none() {
        for status in [
            Status::unavailable("connection reset"),
            Status::deadline_exceeded("late"),
            ApiError::outcome_unknown().into(),
            ApiError::no_leader().into(),
            ApiError::new(ErrorReason::SessionExpired, "").into(),
            ApiError::new(ErrorReason::Internal, "").into(),
        ] {
            assert!(matches!(outcome(status.clone()), Outcome::Unknown { .. }), "{status}");
        }
        let refused = outcome(ApiError::new(ErrorReason::NeedSync, ""));
        assert_eq!(refused, Outcome::Refused { reason: "NEED_SYNC".to_owned() });
        for reason in [ErrorReason::RoomNotFound, ErrorReason::NotApplied, ErrorReason::NeedSync] {
            assert!(matches!(outcome(ApiError::new(reason, "")), Outcome::Refused { .. }), "{reason:?}");
        }
    }
}
