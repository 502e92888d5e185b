//! Why a verb failed, as people read it: the error, the cluster's reason for it, and what to do.

use std::fmt::Write;

use conclave_client::ClientError;
use conclave_proto::v1::ErrorReason;

/// The lines that a failed command prints.
pub fn explain(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error:#}");
    let reason = error.downcast_ref::<ClientError>().and_then(|error| error.reason);
    if let Some(reason) = reason {
        let name = reason.as_str_name();
        // Writing to a string does not fail.
        let _ = write!(text, "\nreason: {}", name.strip_prefix("ERROR_REASON_").unwrap_or(name));
        if let Some(remedy) = remedy(reason) {
            let _ = write!(text, "\nremedy: {remedy}");
        }
    }
    text
}

/// None where the message says all there is to do.
fn remedy(reason: ErrorReason) -> Option<&'static str> {
    let remedy = match reason {
        ErrorReason::TokenMissing | ErrorReason::TokenInvalid => {
            "set CONCLAVE_TOKEN to a token of this cluster, as `conclave token create` makes them"
        }
        ErrorReason::TokenExpired => "make a new token with `conclave token create`",
        ErrorReason::ScopeMissing => "use a token that grants this, as `conclave token create --scope` makes them",
        ErrorReason::RoomNotFound => "create the room with `conclave rooms create`",
        ErrorReason::RoomExists | ErrorReason::DocumentExists => "choose another name, or use what is there",
        ErrorReason::EtagMismatch => "read the room again and decide again",
        ErrorReason::QueueNotFound => {
            "create the queue with `conclave room queue create`, send an item to it, or leave --no-create out"
        }
        ErrorReason::QueueExists => "change it with `conclave room queue update`, or choose another name",
        ErrorReason::QueueClosed => "open the queue with `conclave room queue open`",
        ErrorReason::QueueFull => {
            "receive or purge items, or widen --max-items and --max-bytes with `conclave room queue update`"
        }
        ErrorReason::DeliveryUnknown => "give the delivery ids as `conclave room queue receive` printed them",
        ErrorReason::DocumentNotFound => "look for the path in `conclave room sync list`",
        ErrorReason::NeedSync => "open the document and push what its state vector lacks",
        ErrorReason::CursorAhead => "begin again without --after-revision",
        ErrorReason::ParticipantNotFound => "see who is attached with `conclave room participants list`",
        ErrorReason::ParticipantNameHeld => {
            "wait for the other's lease to end, take the name over with --replace, or use another name"
        }
        ErrorReason::OutcomeUnknown => "look whether it happened before doing it again",
        ErrorReason::NoLeader | ErrorReason::NotLeader | ErrorReason::Draining | ErrorReason::Overloaded => {
            "try again in a moment"
        }
        ErrorReason::Internal => "look for the trace id in the logs of the hosts",
        _ => return None,
    };
    Some(remedy)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use conclave_proto::status::{ApiError, frame_status};

    use super::*;

    fn refused(reason: ErrorReason) -> anyhow::Error {
        ClientError::from(frame_status(&ApiError::new(reason, "no such room").into())).into()
    }

    #[test]
    fn a_refusal_says_message_reason_and_remedy() {
        let text = explain(&refused(ErrorReason::RoomNotFound));
        let expected = "error: NotFound: no such room\nreason: ROOM_NOT_FOUND\n\
                        remedy: create the room with `conclave rooms create`";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_surrounds_a_refusal_does_not_hide_its_reason() {
        let error = Err::<(), _>(refused(ErrorReason::TooLarge)).context("message 2").unwrap_err();
        assert_eq!(explain(&error), "error: message 2: InvalidArgument: no such room\nreason: TOO_LARGE");
    }

    #[test]
    fn an_error_of_this_machine_has_no_reason() {
        assert_eq!(explain(&anyhow::anyhow!("no token")), "error: no token");
    }
}
