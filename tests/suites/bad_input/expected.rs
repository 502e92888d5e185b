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
}

pub fn refused(code: Code, reason: ErrorReason) -> Expected {
    Expected { code, reason, metadata: Vec::new() }
}

/// The field is refused by a rule.
pub fn invalid(field: &str) -> Expected {
    refused(Code::InvalidArgument, ErrorReason::FieldInvalid).with("field", field)
}

/// A name breaks its rule.
pub fn bad_name(field: &str) -> Expected {
    refused(Code::InvalidArgument, ErrorReason::NameInvalid).with("field", field)
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
        ensure!(!error.message.is_empty(), "no message");
        Ok(())
    }
}
