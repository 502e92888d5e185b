//! The kinds of faults: how often each comes, whom it takes, how long it lasts.

use std::fmt;
use std::time::Duration;

use crate::site::{Clocks, Disks, Layout, Wires};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL to the host that leads a room, with nothing else wrong: what failover is measured by.
    KillLeader,
    Kill,
    KillMajority,
    KillAll,
    /// SIGTERM: the host hands its leaderships over.
    Stop,
    Pause,
    PauseMajority,
    RestartGateway,
    /// Nothing reaches the host.
    Isolate,
    /// The gateway reaches the host, its peers do not.
    CutFromPeers,
    OneWay,
    PowerCut,
    PowerCutMajority,
    PowerCutAll,
    DiskError,
    DiskFull,
    ClockJump,
    /// A file of a stopped host is changed.
    Damage,
}

/// Whom a fault takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victims {
    Nobody,
    One,
    /// One that leads a room, and nobody else may be in trouble.
    Leader,
    Two,
    Majority,
    All,
}

impl Kind {
    pub const ALL: [Kind; 18] = [
        Kind::KillLeader,
        Kind::Kill,
        Kind::KillMajority,
        Kind::KillAll,
        Kind::Stop,
        Kind::Pause,
        Kind::PauseMajority,
        Kind::RestartGateway,
        Kind::Isolate,
        Kind::CutFromPeers,
        Kind::OneWay,
        Kind::PowerCut,
        Kind::PowerCutMajority,
        Kind::PowerCutAll,
        Kind::DiskError,
        Kind::DiskFull,
        Kind::ClockJump,
        Kind::Damage,
    ];

    /// Those that a site of this layout can suffer.
    pub fn possible(layout: &Layout) -> Vec<Kind> {
        let has_images = matches!(layout.disks, Disks::Images { .. });
        let has_wires = layout.wires == Wires::Namespaces;
        let has_clocks = layout.clocks == Clocks::OfTheirOwn;
        let can = |kind: &Kind| match kind {
            Kind::Isolate | Kind::CutFromPeers | Kind::OneWay => has_wires,
            Kind::PowerCut | Kind::PowerCutMajority | Kind::PowerCutAll | Kind::DiskError | Kind::DiskFull => {
                has_images
            }
            Kind::ClockJump => has_clocks,
            _ => true,
        };
        Kind::ALL.into_iter().filter(can).collect()
    }

    /// How often it comes, against the others: what happens to one host happens more often than what happens to all.
    pub fn weight(self) -> usize {
        match self {
            Kind::KillLeader => 5,
            Kind::Kill | Kind::PowerCut | Kind::CutFromPeers => 3,
            Kind::Pause | Kind::Isolate | Kind::OneWay | Kind::ClockJump | Kind::Stop => 2,
            _ => 1,
        }
    }

    pub fn victims(self) -> Victims {
        match self {
            Kind::RestartGateway => Victims::Nobody,
            Kind::KillLeader => Victims::Leader,
            Kind::OneWay => Victims::Two,
            Kind::KillMajority | Kind::PauseMajority | Kind::PowerCutMajority => Victims::Majority,
            Kind::KillAll | Kind::PowerCutAll => Victims::All,
            _ => Victims::One,
        }
    }

    /// From its beginning to its healing: shortest and longest. What takes a majority is short, so that a run keeps
    /// making progress.
    pub fn lasts(self) -> (Duration, Duration) {
        let range = match self {
            Kind::RestartGateway => (0, 0),
            Kind::KillMajority | Kind::KillAll | Kind::PowerCutMajority | Kind::PowerCutAll => (500, 2_500),
            // Longer than an election, or nothing comes of it.
            Kind::KillLeader | Kind::Kill | Kind::Stop | Kind::PowerCut => (1_000, 6_000),
            Kind::PauseMajority => (2_000, 5_000),
            Kind::Pause | Kind::Isolate | Kind::CutFromPeers | Kind::OneWay => (3_000, 10_000),
            Kind::DiskError | Kind::DiskFull => (3_000, 8_000),
            Kind::ClockJump => (5_000, 15_000),
            Kind::Damage => (500, 1_500),
        };
        (Duration::from_millis(range.0), Duration::from_millis(range.1))
    }

    /// Firewall rules are flushed together, so there is one cut at a time.
    pub fn is_a_cut(self) -> bool {
        matches!(self, Kind::Isolate | Kind::CutFromPeers | Kind::OneWay)
    }

    /// Whether it begins only while every replica is there and has caught up: what is measured by it, or lost to it,
    /// would else be another fault's doing.
    pub fn wants_it_whole(self) -> bool {
        matches!(self, Kind::KillLeader | Kind::Damage)
    }

    /// Whether a host may end by itself because of it, and is right to.
    pub fn ends_hosts(self) -> bool {
        matches!(self, Kind::DiskError | Kind::DiskFull | Kind::Damage)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::KillLeader => "kill of a leader",
            Kind::Kill => "kill",
            Kind::KillMajority => "kill of a majority",
            Kind::KillAll => "kill of all",
            Kind::Stop => "planned stop",
            Kind::Pause => "pause",
            Kind::PauseMajority => "pause of a majority",
            Kind::RestartGateway => "gateway restarted",
            Kind::Isolate => "host isolated",
            Kind::CutFromPeers => "host cut off from its peers",
            Kind::OneWay => "one-way cut",
            Kind::PowerCut => "power cut",
            Kind::PowerCutMajority => "power cut of a majority",
            Kind::PowerCutAll => "power cut of all",
            Kind::DiskError => "disk error",
            Kind::DiskFull => "disk full",
            Kind::ClockJump => "clock jump",
            Kind::Damage => "damage",
        })
    }
}
