//! The host's contract with gateways, on real hosts: Raft groups on memory engines, gRPC over loopback.
//!
//! The tests stand where a gateway stands: they find the leader by the hosts' hints, sign claims with the cluster's
//! secret and speak the public services. [`cluster`] starts, kills and drains hosts, [`calls`] speaks to them.

mod awareness;
mod broken;
mod calls;
mod claims;
mod cluster;
mod documents;
mod feeds;
mod leadership;
mod messaging;
mod presence;
mod queues;
mod rebuilding;
mod receives;
mod restarts;
mod rooms;
mod routing;
mod sessions;
mod time;
mod windows;
