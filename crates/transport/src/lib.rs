//! Peer transport: calls between the replicas of two nodes, over a few long-lived gRPC streams.
//!
//! Implements the peer port of `conclave-raft`. There is one stream for each ordered node pair and lane, each on a
//! connection of its own; frames of all groups share it, so a message carries whatever was queued when the line became
//! free and heartbeats of many groups travel together without a timer that waits for them.
//!
//! This crate must not know openraft, what a call means, or the cluster table: the host feeds [`GrpcTransport`] with
//! addresses and asks [`PeerClocks`] what the other nodes' clocks say.
//!
//! Start with [`handshake`] (who may talk to whom), then [`grpc_transport`] (the calling side) and [`service`] (the
//! answering side).

pub mod clocks;
mod frames;
pub mod grpc_transport;
pub mod handshake;
mod link;
pub mod options;
pub mod service;

pub use clocks::{ClockReading, PeerClocks};
pub use grpc_transport::GrpcTransport;
pub use handshake::{HandshakeError, LocalIdentity, PROTOCOL_VERSION};
pub use options::PeerTransportOptions;
pub use service::{PeerMux, peer_service};
