//! The words every crate shares: identities, names, positions and limits.
//!
//! Pure: no clock, randomness, async runtime, serialisation or I/O. A value that exists here is valid;
//! parsing happens once, at the edge. Start with [`ids`].

pub mod clock;
pub mod document;
pub mod ids;
pub mod limits;
pub mod names;
pub mod position;

pub use clock::Clock;
pub use document::{AddedClocks, Clocks, DocumentNumber, Fit, RequiredClock, UpdateClocks, YjsClient};
pub use ids::{
    AttachmentNumber, ClusterUuid, DeliveryId, Epoch, GroupId, NodeUuid, ReplicaId, RoomNumber, RoomUid, SessionId,
    ShardId, Slot,
};
pub use names::{DocumentPath, NameError, ParticipantName, ProjectId, QueueName, RoomName};
pub use position::{Revision, Sequence, Timestamp};
