//! What commands do to a shard, feature by feature, and the invariants over random histories.

mod audit;
mod harness;

mod changes;
mod documents;
mod local;
mod messages;
mod queues;
mod requests;
mod rooms;
mod sessions;

mod document_model;
mod message_model;
mod queue_model;
mod replay;
mod session_model;
mod speed;
