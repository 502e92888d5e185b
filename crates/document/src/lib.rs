//! Live documents as bytes: what is admitted, what a client lacks, how a document is compacted and read.
//!
//! The one crate that names yrs. yrs reads client bytes by recursion, reserves memory by declared counts and may panic
//! on odd input; a stack that overflows or an allocation that fails takes every room of the process down. So an update is
//! first read by our own iterative parser ([`admission`]), and each call into yrs stands behind
//! [`std::panic::catch_unwind`]. This crate must not know storage, rooms, transport or tasks.
//!
//! Start with [`admission`], which says what an update may be; [`structure`] is its grammar.

pub mod admission;
pub mod compaction;
pub mod join;
pub mod replica;
pub mod state_vector;
pub mod view;

mod guard;
mod load;
mod nesting;
mod steps;
mod structure;

pub use admission::{UpdateError, admit, validate};
pub use compaction::{CompactionError, compact};
pub use join::diff;
pub use load::DocumentError;
pub use nesting::MAX_NESTED_TYPES;
pub use replica::{Edit, Replica, ReplicaError};
pub use state_vector::{VectorError, covers, decode_state_vector, encode_state_vector};
pub use view::to_json;
