//! Limits and times of the transport. One process's own: nodes of a cluster may differ.

use std::time::Duration;

use conclave_network::Network;

/// Most bytes of one call's body. A larger one is refused before it is sent.
pub const MAX_BODY_BYTES: usize = 4 << 20;

/// Most bytes of one message: the largest body beside a full pack of small frames.
pub(crate) const MAX_MESSAGE_BYTES: usize = MAX_BODY_BYTES + (1 << 20);

#[derive(Debug, Clone)]
pub struct PeerTransportOptions {
    /// Longest time until a connection stands and both sides know each other. Default 2 s.
    pub connect_timeout: Duration,
    /// HTTP/2 ping on every connection, also an idle one: without it a node that vanished is not noticed. Default 5 s.
    pub keepalive_interval: Duration,
    /// A ping unanswered for so long ends the connection. Default 3 s.
    pub keepalive_timeout: Duration,
    /// Shortest and longest pause before another attempt to connect; doubles in between. Default 20 ms and 1 s.
    pub backoff: (Duration, Duration),
    /// Frames that wait for one lane to one node; one more is refused as busy. 64 to 1,024, default 1,024.
    pub queue_frames: usize,
    /// Calls on one lane to one node that wait for their answer. Default 8,192: some for each of 4,096 groups.
    pub pending_calls: usize,
    /// Bytes at which a message is full. Default 256 KiB: large enough to amortise, small enough to share a line.
    pub message_bytes: usize,
    /// Received frames of one group that wait for their turn. Default 64.
    pub group_frames: usize,
    /// Received frames of one stream that wait or run. Default 4,096.
    pub stream_frames: usize,
    /// Bytes of those frames' bodies. Default 64 MiB.
    pub stream_bytes: usize,
    /// How often a node tells its wall clock. Default 1 s.
    pub clock_interval: Duration,
    /// A lane that is down and wanted by nobody for so long is forgotten. Default 10 min.
    pub forget_after: Duration,
    /// What peers are dialled with. Default the system's.
    pub network: Network,
}

impl Default for PeerTransportOptions {
    fn default() -> Self {
        PeerTransportOptions {
            connect_timeout: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(3),
            backoff: (Duration::from_millis(20), Duration::from_secs(1)),
            queue_frames: 1_024,
            pending_calls: 8_192,
            message_bytes: 256 << 10,
            group_frames: 64,
            stream_frames: 4_096,
            stream_bytes: 64 << 20,
            clock_interval: Duration::from_secs(1),
            forget_after: Duration::from_secs(600),
            network: Network::System,
        }
    }
}
