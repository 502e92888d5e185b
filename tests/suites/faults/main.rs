//! One fault at a time, each shown to have happened, and what the cluster promises while it lasts and afterwards.
//!
//! Every test runs the same load and ends with the same comparison: nothing acknowledged is lost, nothing is there that
//! nobody wrote, no read was stale, and all replicas are whole again by themselves.

mod clocks;
mod direct;
mod disks;
mod partitions;
mod pauses;
mod scene;
