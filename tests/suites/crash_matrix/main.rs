//! What a crash between any two lines may cost: nothing that was acknowledged.
//!
//! A host is stopped at a crash point while a client sends; then it is killed, or its disk loses what was not synced, and
//! it comes back. In the end the queue must hold exactly what was acknowledged. The rows of the crash matrix:
//!
//! | crash | test |
//! |---|---|
//! | after log write, before sync | [`log::an_entry_that_was_not_synced_may_vanish`] |
//! | after sync, before callback | [`log::an_entry_that_was_synced_counts_after_the_restart`] |
//! | vote written, not synced | [`log::a_vote_that_was_not_synced_was_never_given`] |
//! | applied, state not synced | [`log::what_was_applied_and_not_synced_is_applied_again`] |
//! | between purge and anything | [`log::a_purge_never_outlives_the_state_it_follows`] |
//! | during snapshot receive | [`snapshots::a_snapshot_that_was_not_received_whole_leaves_nothing`] |
//! | during ingest | [`snapshots::a_snapshot_replaces_the_state_wholly_or_not_at_all`] |
//! | after ingest, before openraft purges | [`snapshots::a_snapshot_counts_once_it_replaced_the_state`] |
//! | during destroy | none: nothing destroys a replica of a shard yet, so there is no marker to finish |
//! | document compaction swap | [`documents::a_document_is_whole_on_either_side_of_its_compaction`] |
//! | end of the log torn | [`damage::a_torn_end_of_the_log_is_what_a_crash_leaves`] |
//! | middle of the log corrupt | [`damage::a_host_whose_log_is_corrupt_is_rebuilt`] |
//! | a damaged store condemned, its successor not there | [`damage::a_condemned_store_stays_condemned`] |
//! | leader dies after commit, before reply | [`leaders::who_sends_again_finds_the_kept_outcome`] |
//! | leader dies after queue lease commit, before delivery | [`leaders::a_delivery_that_died_with_its_leader_comes_again`] |
//! | one host's clock jumps two hours | `a_clock_that_jumps_moves_no_lease` of `faults`, where hosts have clocks of their own |
//! | leader restarted inside the election timeout | `a_restarted_leader_never_leads_its_old_term` of `mutation_targets` |
//! | deposed leader cut off from its peers | [`leaders::a_deposed_leader_ends_its_streams_itself`] |

mod damage;
mod documents;
mod leaders;
mod log;
mod snapshots;

use anyhow::Result;
use conclave_tests::receipts::{Receipts, Sending};
use conclave_tests::site::{Disks, IMAGE_MIB, Layout, Site};

const ROOM: &str = "matrix";
/// The host that is stopped.
const VICTIM: usize = 0;
const ALL: [usize; 3] = [0, 1, 2];
/// All but that one.
const OTHERS: [usize; 2] = [1, 2];

/// So short a log that a follower which misses some seconds needs a snapshot.
const SHORT_LOG: [(&str, &str); 2] =
    [("CONCLAVE_HOST_COMPACT_AFTER_ENTRIES", "100"), ("CONCLAVE_HOST_KEEP_LOG_ENTRIES", "10")];

/// Hosts whose power can be cut.
fn on_images() -> Layout {
    Layout { disks: Disks::Images { mib: IMAGE_MIB }, ..plain() }
}

fn plain() -> Layout {
    Layout::plain(3, 1)
}

/// Makes the victim lead, to be stopped at its crash point, and sends until it is.
async fn stopped_leading(site: &mut Site, mut receipts: Receipts, point: &str) -> Result<Sending> {
    receipts.send(5).await?;
    site.restart_armed(VICTIM, point)?;
    site.make_leader(VICTIM, ROOM).await?;
    let sending = receipts.keep_sending();
    site.stopped(VICTIM).await?;
    Ok(sending)
}

/// Makes another host lead, and sends until the victim is stopped at its crash point.
async fn stopped_following(site: &mut Site, mut receipts: Receipts, point: &str) -> Result<Sending> {
    site.make_leader(ALL[1], ROOM).await?;
    receipts.send(5).await?;
    site.restart_armed(VICTIM, point)?;
    let sending = receipts.keep_sending();
    site.stopped(VICTIM).await?;
    Ok(sending)
}
