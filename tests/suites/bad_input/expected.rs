//! What a mistake must be answered with.

use anyhow::{Result, ensure};
use conclave_client::ClientError;
use conclave_proto::v1::ErrorReason;
use tonic::Code;

#[derive(Debug, Clone)]
pub struct Expected {
    code: Code,
    reason: ErrorReason,
    metadata: Vec<(&'static str, String)>,
    /// Metadata whose value the case does not know.
    told: Vec<&'static str>,
}

pub fn refused(code: Code, reason: ErrorReason) -> Expected {
    Expected { code, reason, metadata: Vec::new(), told: Vec::new() }
}

/// The field is refused by a rule.
pub fn invalid(field: &str) -> Expected {
    refused(Code::InvalidArgument, ErrorReason::FieldInvalid).with("field", field)
}

/// A name breaks its rule.
pub fn bad_name(field: &str) -> Expected {
    refused(Code::InvalidArgument, ErrorReason::NameInvalid).with("field", field)
}

/// The bytes of this field are no update, or no state vector.
pub fn no_update(field: &str) -> Expected {
    refused(Code::InvalidArgument, ErrorReason::UpdateInvalid).with("field", field).telling("rule")
}

/// The update builds on what the document does not hold.
pub fn need_sync() -> Expected {
    refused(Code::FailedPrecondition, ErrorReason::NeedSync)
}

pub fn no_document() -> Expected {
    refused(Code::NotFound, ErrorReason::DocumentNotFound)
}

pub fn nobody(participant: &str) -> Expected {
    refused(Code::NotFound, ErrorReason::ParticipantNotFound).with("participant", participant)
}

/// A cursor beyond the room's history.
pub fn ahead(after_revision: u64) -> Expected {
    let error = refused(Code::OutOfRange, ErrorReason::CursorAhead);
    error.with("after_revision", after_revision).telling("revision")
}

pub fn other_room() -> Expected {
    refused(Code::InvalidArgument, ErrorReason::OtherRoom)
}

/// The token does not hold this.
pub fn needs(scope: &str) -> Expected {
    refused(Code::PermissionDenied, ErrorReason::ScopeMissing).with("needs", scope)
}

/// The field is over its limit.
pub fn too_large(field: &str, limit: usize, actual: usize) -> Expected {
    let error = refused(Code::InvalidArgument, ErrorReason::TooLarge).with("field", field);
    error.with("limit", limit).with("actual", actual)
}

/// The whole request or frame is over its limit.
pub fn all_too_large(what: &str, limit: usize, actual: usize) -> Expected {
    Expected { code: Code::ResourceExhausted, ..too_large(what, limit, actual) }
}

impl Expected {
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    pub fn telling(mut self, key: &'static str) -> Self {
        self.told.push(key);
        self
    }

    pub fn check(&self, error: &ClientError) -> Result<()> {
        ensure!(error.code == self.code, "code {:?} instead of {:?}: {error:?}", error.code, self.code);
        ensure!(error.reason == Some(self.reason), "reason {:?} instead of {:?}", error.reason, self.reason);
        for (key, value) in &self.metadata {
            let found = error.metadata.get(*key);
            ensure!(found == Some(value), "metadata {key} is {found:?} instead of {value:?}: {error:?}");
            if ["limit", "actual"].contains(key) {
                ensure!(error.message.contains(value), "the message does not say {value}: {}", error.message);
            }
        }
        for key in &self.told {
            ensure!(error.metadata.contains_key(*key), "no metadata {key}: {error:?}");
        }
        ensure!(!error.message.is_empty(), "no message");
        Ok(())
    }
}
