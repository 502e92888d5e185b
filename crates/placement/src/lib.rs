//! Where rooms live: slot of a room, shard of a slot, nodes of a shard.
//!
//! Pure functions: the same input gives the same answer on every machine and in every version. This crate must not know
//! the cluster table, time, or how a replica is moved; it proposes, the metadata group commits.
//!
//! Start with [`slots`] (what routing needs), then [`mod@plan`]; [`ring`] proposes the order that a plan starts from.

pub mod plan;
pub mod ring;
pub mod slots;

pub use plan::{CurrentShard, NodeState, Plan, PlanError, PlanInput, PlanNode, PlannedShard, plan};
pub use slots::{shard_of, slot, slots_of};
