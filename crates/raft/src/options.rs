//! What the groups of one node are tuned with.

use std::time::Duration;

use conclave_faults::{Bug, planted};
use conclave_types::GroupId;
use openraft::{Config, ConfigError, SnapshotPolicy};

/// Settings every group of a node shares. Timeouts must agree across a cluster within a small factor.
#[derive(Debug, Clone)]
pub struct RaftOptions {
    /// How often a leader tells followers that it lives. Default 300 ms.
    pub heartbeat_interval: Duration,
    /// A follower that heard an append less than this ago gets no heartbeat. Default 200 ms; zero sends always.
    pub heartbeat_min_interval: Duration,
    /// A follower that hears nothing waits one lease (`election_timeout_max`) and then a random time between these two
    /// before it stands for election. Default 600 ms to 900 ms: a dead leader is replaced in 1.5 to 1.8 s.
    pub election_timeout_min: Duration,
    pub election_timeout_max: Duration,
    /// Most entries of one append; its bytes are bounded by [`crate::limits::MAX_APPEND_BYTES`]. Default 256.
    pub max_payload_entries: u64,
    /// Most requests that wait for one group's core; more proposals are refused as overloaded. Default 4,096.
    pub core_queue: u64,
    /// Most commands that wait for one group's state machine. Default 64.
    pub apply_queue: u64,
    /// Log of one group since its last compaction that starts the next one. Default 64 MiB or 50,000 entries.
    pub compact_after_bytes: u64,
    pub compact_after_entries: u64,
    /// Log kept below a compaction for followers that lag, whichever is less. Default 64 MiB or 10,000 entries.
    pub keep_log_bytes: u64,
    pub keep_log_entries: u64,
    /// A learner this many entries behind counts as caught up. Default 500.
    pub caught_up_entries: u64,
    /// Entries that all groups of this node keep in memory for replication and apply. Default 64 MiB.
    pub log_cache_bytes: usize,
    /// How long sending one whole snapshot may take. Default 10 minutes.
    pub snapshot_timeout: Duration,
    /// Most bytes of snapshots that this node sends in a second, all groups together. Default 32 MiB.
    pub snapshot_bytes_per_second: u64,
    /// Most bytes of kept log that are read in a second after a start, to find damage. Default 32 MiB.
    pub scrub_bytes_per_second: u64,
    /// How long one call to a peer may take before it counts as lost: appends, and parts of a snapshot. Default 3 s and
    /// 15 s. Votes and heartbeats get the election timeout.
    pub append_timeout: Duration,
    pub snapshot_part_timeout: Duration,
    /// How long a leadership transfer may take before it counts as failed. Default 2 s.
    pub transfer_timeout: Duration,
}

impl Default for RaftOptions {
    fn default() -> Self {
        RaftOptions {
            heartbeat_interval: Duration::from_millis(300),
            heartbeat_min_interval: Duration::from_millis(200),
            election_timeout_min: Duration::from_millis(600),
            election_timeout_max: Duration::from_millis(900),
            max_payload_entries: 256,
            core_queue: 4_096,
            apply_queue: 64,
            compact_after_bytes: 64 << 20,
            compact_after_entries: 50_000,
            keep_log_bytes: 64 << 20,
            keep_log_entries: 10_000,
            caught_up_entries: 500,
            log_cache_bytes: 64 << 20,
            snapshot_timeout: Duration::from_secs(600),
            snapshot_bytes_per_second: 32 << 20,
            scrub_bytes_per_second: 32 << 20,
            append_timeout: Duration::from_secs(3),
            snapshot_part_timeout: Duration::from_secs(15),
            transfer_timeout: Duration::from_secs(2),
        }
    }
}

impl RaftOptions {
    /// Fast elections and small thresholds, so that tests reach every path in little time.
    pub fn for_tests() -> Self {
        RaftOptions {
            heartbeat_interval: Duration::from_millis(50),
            heartbeat_min_interval: Duration::ZERO,
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: Duration::from_millis(300),
            max_payload_entries: 16,
            core_queue: 256,
            apply_queue: 8,
            compact_after_bytes: 64 << 10,
            compact_after_entries: 200,
            keep_log_bytes: 32 << 10,
            keep_log_entries: 50,
            caught_up_entries: 20,
            log_cache_bytes: 1 << 20,
            snapshot_timeout: Duration::from_secs(5),
            snapshot_bytes_per_second: 256 << 20,
            scrub_bytes_per_second: 256 << 20,
            append_timeout: Duration::from_secs(1),
            snapshot_part_timeout: Duration::from_secs(2),
            transfer_timeout: Duration::from_secs(2),
        }
    }
}

impl RaftOptions {
    /// These settings in openraft's terms, with what is the same everywhere.
    pub(crate) fn openraft(&self, group: GroupId) -> Result<Config, ConfigError> {
        let election_timeout_max = millis(self.election_timeout_max);
        Config {
            cluster_name: format!("group {}", group.0),
            heartbeat_interval: millis(self.heartbeat_interval),
            heartbeat_min_interval: Some(millis(self.heartbeat_min_interval)),
            election_timeout_min: millis(self.election_timeout_min),
            election_timeout_max,
            max_payload_entries: self.max_payload_entries,
            api_channel_size: Some(self.core_queue),
            notification_channel_size: Some(self.core_queue),
            state_machine_channel_size: Some(self.apply_queue),
            // The keeper decides by bytes and entries when there is one, and what goes after it.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            replication_lag_threshold: self.caught_up_entries,
            install_snapshot_timeout: millis(self.snapshot_timeout),
            enable_pre_vote: Some(true),
            // State is applied without a sync: a leader that came back inside its own lease could serve reads from
            // before what it had acknowledged. A restarted replica always begins as a follower.
            enable_leader_restore: Some(planted(Bug::RestoreLeadership)),
            // Where a leader lost its majority but still reaches some, its heartbeats would keep them from electing
            // another. It is silent every other such interval.
            quorum_loss_probe_interval: Some(2 * election_timeout_max + 500),
            ..Config::default()
        }
        .validate()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_profiles_are_accepted() {
        for options in [RaftOptions::default(), RaftOptions::for_tests()] {
            options.openraft(GroupId(1)).expect("a valid profile");
        }
    }

    #[test]
    fn an_election_timeout_below_the_heartbeat_is_refused() {
        let options = RaftOptions { election_timeout_min: Duration::from_millis(100), ..RaftOptions::default() };
        assert!(options.openraft(GroupId(1)).is_err());
    }
}
