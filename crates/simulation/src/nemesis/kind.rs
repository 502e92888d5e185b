//! The kinds of faults.

use std::time::Duration;

use serde::Serialize;

use crate::disk::Pace;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One host is gone at once, mostly with the power of its machine.
    Crash,
    /// One that leads something.
    CrashLeader,
    CrashMajority,
    CrashAll,
    /// One host that comes up and goes down several times.
    Storm,
    /// One host ends in order and comes back.
    Restart,
    /// A leadership is handed over.
    Transfer,
    GatewayCrash,
    /// One host does not reach the other hosts, nor they it.
    Isolate,
    /// One host reaches the others, or they it, not both.
    OneWay,
    /// Each host reaches its two neighbours only.
    Ring,
    /// Two halves.
    Split,
    /// Some of what is sent between hosts never arrives.
    Loss,
    /// What is sent between hosts takes long.
    Delay,
    /// Nothing leaves or reaches a host for a while, then everything at once, as after a pause of its process.
    Hang,
    /// A gateway does not reach one host.
    GatewayCut,
    SlowDisk,
    /// Nothing is synced for a while.
    DiskHang,
    /// A wall clock is two hours off, and right again.
    ClockJump,
    /// More is asked for at once than a shard queues.
    Flood,
}

impl Kind {
    pub const ALL: [Kind; 20] = [
        Kind::Crash,
        Kind::CrashLeader,
        Kind::CrashMajority,
        Kind::CrashAll,
        Kind::Storm,
        Kind::Restart,
        Kind::Transfer,
        Kind::GatewayCrash,
        Kind::Isolate,
        Kind::OneWay,
        Kind::Ring,
        Kind::Split,
        Kind::Loss,
        Kind::Delay,
        Kind::Hang,
        Kind::GatewayCut,
        Kind::SlowDisk,
        Kind::DiskHang,
        Kind::ClockJump,
        Kind::Flood,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Crash => "crash",
            Kind::CrashLeader => "crash of a leader",
            Kind::CrashMajority => "crash of a majority",
            Kind::CrashAll => "crash of all",
            Kind::Storm => "restart storm",
            Kind::Restart => "restart in order",
            Kind::Transfer => "leadership transfer",
            Kind::GatewayCrash => "crash of a gateway",
            Kind::Isolate => "isolated host",
            Kind::OneWay => "one-way cut",
            Kind::Ring => "ring",
            Kind::Split => "split",
            Kind::Loss => "loss",
            Kind::Delay => "delay",
            Kind::Hang => "hang",
            Kind::GatewayCut => "cut between gateway and host",
            Kind::SlowDisk => "slow disk",
            Kind::DiskHang => "hanging disk",
            Kind::ClockJump => "clock jump",
            Kind::Flood => "flood",
        }
    }

    /// Shortest and longest.
    pub fn lasts(self) -> (Duration, Duration) {
        let (shortest, longest) = match self {
            Kind::Crash | Kind::CrashLeader | Kind::Restart => (50, 8_000),
            Kind::CrashMajority | Kind::CrashAll | Kind::GatewayCrash => (50, 4_000),
            Kind::Storm => (20, 800),
            Kind::Transfer | Kind::Flood => (0, 1),
            Kind::Isolate | Kind::OneWay | Kind::Ring | Kind::Split | Kind::GatewayCut => (200, 10_000),
            Kind::Loss | Kind::Delay => (500, 8_000),
            Kind::Hang => (100, 5_000),
            Kind::SlowDisk => (500, 8_000),
            Kind::DiskHang => (100, 4_000),
            Kind::ClockJump => (1_000, 10_000),
        };
        (Duration::from_millis(shortest), Duration::from_millis(longest))
    }

    /// A disk under this fault.
    pub fn harmed(self, pace: Pace) -> Pace {
        match self {
            Kind::SlowDisk => Pace { sync: pace.sync * 40, ..pace },
            Kind::DiskHang => Pace { hangs: true, ..pace },
            _ => pace,
        }
    }

    /// The same disk when the fault is over.
    pub fn healed(self, pace: Pace) -> Pace {
        match self {
            Kind::SlowDisk => Pace { sync: pace.sync / 40, ..pace },
            Kind::DiskHang => Pace { hangs: false, ..pace },
            _ => pace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_healed_disk_is_as_it_was() {
        let pace = Pace { sync: Duration::from_micros(500), hangs: false };
        for kind in Kind::ALL {
            assert_eq!(kind.healed(kind.harmed(pace)), pace, "{kind:?}");
        }
        assert_ne!(Kind::SlowDisk.harmed(pace), pace);
    }
}
