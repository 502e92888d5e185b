//! Groups of three hosts in one process: each host has its own runtime and memory engine, so a kill ends all of it at
//! once, and a power cut takes what was not synced.

mod harness;

mod damage;
mod durability;
mod lagging;
mod leadership;
mod local_writes;
mod membership;
mod proposals;
mod snapshots;
