//! What commands do to a shard, feature by feature, and the invariants over random histories.

mod audit;
mod harness;

mod queues;
mod requests;
mod rooms;
mod sessions;

mod queue_model;
mod replay;
mod session_model;
mod speed;
