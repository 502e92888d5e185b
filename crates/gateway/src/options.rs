//! What an operator may set.

use conclave_network::Network;

/// See [`GatewayOptions::retained_bytes`].
const RETAINED_BYTES: usize = 64 << 20;

#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// Unary calls in work at once; more are refused with OVERLOADED. Default 4,096.
    pub max_calls: usize,
    /// Sessions at once; more are refused with OVERLOADED. Default 50,000.
    pub max_sessions: usize,
    /// Server streams open at once; more are refused with OVERLOADED. Default 50,000.
    pub max_streams: usize,
    /// Bytes of client frames that all sessions together keep for resending. Past it, a session that keeps unanswered
    /// frames is not read. Half of it at most is for what stays: subscriptions, participants, requests of server
    /// streams. A subscription that finds no place there ends, with a word to its client, when its host is lost; a
    /// server stream is refused with OVERLOADED. Default 64 MiB.
    pub retained_bytes: usize,
    /// Whether the reflection service answers. Default false.
    pub reflection: bool,
    /// Seed of the jitter in waits. Gateways should differ; a simulation fixes it. Default 0.
    pub seed: u64,
    /// What hosts are dialled with. Default the system's.
    pub network: Network,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        GatewayOptions {
            max_calls: 4_096,
            max_sessions: 50_000,
            max_streams: 50_000,
            retained_bytes: RETAINED_BYTES,
            reflection: false,
            seed: 0,
            network: Network::System,
        }
    }
}
