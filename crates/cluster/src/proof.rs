//! The proof of the cluster token that every internal call carries.

use tonic::Status;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::token::{ClusterToken, Purpose, from_hex, hex};

/// Metadata key of the proof.
pub const METADATA_KEY: &str = "conclave-cluster-proof";

/// What a caller sends under [`METADATA_KEY`].
pub fn metadata_value(token: &ClusterToken) -> MetadataValue<Ascii> {
    hex(&token.proof(Purpose::Meta, &[])).parse().expect("hexadecimal digits are valid metadata")
}

/// Checks that a call comes from somebody who has the cluster token.
pub fn check(token: &ClusterToken, metadata: &MetadataMap) -> Result<(), Status> {
    let proof = metadata.get(METADATA_KEY).and_then(|value| value.to_str().ok()).and_then(from_hex);
    match proof {
        Some(proof) if token.is_proof(&proof, Purpose::Meta, &[]) => Ok(()),
        Some(_) => Err(Status::unauthenticated("cluster tokens differ")),
        None => Err(Status::unauthenticated("the proof of the cluster token is missing or malformed")),
    }
}
