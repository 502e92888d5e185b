//! The state machine port: what a group drives with committed entries.

use std::any::Any;

use bytes::Bytes;
use conclave_storage::{EngineError, WriteBatch};

/// One committed entry.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Position in the group's log; positions that carry no payload (blank, membership) are left out.
    pub index: u64,
    pub payload: Bytes,
    /// Somebody on this node waits for the reply; without a waiter the reply is dropped unseen.
    pub awaited: bool,
}

/// What applying an entry returns to the proposer on this node.
pub type Reply = Box<dyn Any + Send>;

/// Why a state machine cannot go on. The replica stops; the process keeps its other groups.
#[derive(Debug, thiserror::Error)]
pub enum StateMachineError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The entry cannot be understood: written by a newer version, or damaged.
    #[error("entry {index} cannot be applied: {reason}")]
    Entry { index: u64, reason: String },
}

/// The class byte of what a replica may rearrange for itself: apply writes it too, but a local write may replace it by
/// something else that means the same.
pub const LOCAL_CLASS: u8 = 0x06;

/// Applies committed entries of one group. All its keys are in `Family::State` and begin with the group id, big-endian,
/// followed by a class byte of 0x01 or above; class 0x00 is the façade's own (applied id, membership).
pub trait StateMachine: Send + 'static {
    /// Applies entries in order, writing only through `writes`, which becomes readable after this call returns together
    /// with the applied id. Returns one reply for each entry. Must be deterministic; reads go to the engine.
    fn apply(&mut self, entries: &[Committed], writes: &mut WriteBatch) -> Result<Vec<Reply>, StateMachineError>;

    /// The writes of the last `apply` are readable: effects may run. Called before replies are handed out.
    fn written(&mut self);

    /// The state was replaced by a snapshot: everything derived from it is void.
    fn replaced(&mut self) -> Result<(), StateMachineError>;
}
