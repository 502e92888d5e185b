//! What is compared, between whom, and what we want of it.

use conclave_bench::report::{OURS, Target};
use conclave_bench::{receive, send};

use crate::nats::{self, Fsync};
use crate::rabbitmq;

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    Ours,
    Nats(Fsync),
    RabbitMq,
}

/// Something that every system does in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Durable sends by so many clients of so many in flight each.
    Send { clients: usize, window: usize },
    /// A queue is emptied and its items acknowledged.
    Receive,
}

/// In the order of a turn. The receive is the last because it begins with the longest fill.
pub const WORKS: [Work; 4] = [
    Work::Send { clients: 1, window: 1 },
    Work::Send { clients: 1, window: 256 },
    Work::Send { clients: 4, window: 256 },
    Work::Receive,
];

impl System {
    pub fn name(self) -> &'static str {
        match self {
            System::Ours => OURS,
            System::Nats(Fsync::AsItComes) => "nats",
            System::Nats(Fsync::Always) => "nats, synced",
            System::RabbitMq => "rabbitmq",
        }
    }

    pub fn version(self) -> String {
        match self {
            System::Ours => env!("CARGO_PKG_VERSION").to_owned(),
            System::Nats(_) => nats::version().unwrap_or_default(),
            System::RabbitMq => rabbitmq::version().unwrap_or_default(),
        }
    }

    /// What is synced before a write is acknowledged.
    pub fn fsync(self) -> &'static str {
        match self {
            System::Ours => "majority",
            System::Nats(Fsync::AsItComes) => "none; every 2 minutes",
            System::Nats(Fsync::Always) => "majority, sync_interval: always",
            System::RabbitMq => "majority",
        }
    }
}

impl Work {
    pub fn title(self) -> &'static str {
        match self {
            Work::Send { .. } => send::WORK,
            Work::Receive => receive::WORK,
        }
    }

    pub fn config(self) -> String {
        match self {
            Work::Send { clients, window } => format!("window={},128B", clients * window),
            Work::Receive => receive::config(),
        }
    }

    /// Whether it is one client that waits for each answer: then its latency is compared, not the rate.
    pub fn is_sequential(self) -> bool {
        matches!(self, Work::Send { clients: 1, window: 1 })
    }

    /// What is peculiar to how a system does it.
    pub fn remark(self, system: System) -> &'static str {
        match (self, system) {
            (Work::Receive, System::RabbitMq) => "consumers=4; acks written, the protocol confirms none",
            (Work::Receive, _) => "consumers=4; ack confirmed; latency of the ack",
            (Work::Send { clients: 4, .. }, _) => "clients=4",
            (Work::Send { .. }, _) => "clients=1",
        }
    }

    /// What ours should be, as a ratio to the peer's.
    pub fn gate(self, peer: System) -> Option<Target> {
        match (peer, self) {
            (System::Nats(Fsync::AsItComes), Work::Receive) => Some(Target::AtLeast(1.5)),
            (System::Nats(Fsync::AsItComes), work) if !work.is_sequential() => Some(Target::AtLeast(1.0)),
            (System::RabbitMq, Work::Send { clients: 1, window: 1 }) => Some(Target::AtMost(1.0)),
            (System::RabbitMq, Work::Send { .. }) => Some(Target::AtLeast(4.0)),
            _ => None,
        }
    }
}
