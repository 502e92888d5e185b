//! What subscriptions and streams of events hand out.

use conclave_proto::events::EventBatch;
use conclave_proto::v1::{Gap, Live};

/// One element of a subscription or a stream of events.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The cursor after this element: all events up to this room revision were handed out. 0 while that cannot be said.
    pub revision: u64,
    pub kind: UpdateKind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum UpdateKind {
    /// Still encoded; [`EventBatch::events`] decodes.
    Events(EventBatch),
    /// Something that cannot be had any more: said, never passed over.
    Gap(Gap),
    /// Caught up: what follows is new. Comes again after a reconnection.
    Live(Live),
}
