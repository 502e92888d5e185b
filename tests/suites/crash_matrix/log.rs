//! Log, votes and applied state.

use anyhow::Result;
use conclave_tests::faults::with_faults;
use conclave_tests::receipts::Receipts;
use conclave_tests::site::Site;

use super::{ALL, ROOM, SHORT_LOG, VICTIM, on_images, stopped_following, stopped_leading};

/// Nobody was told of it: its sender sends it again, and has it there once.
#[test]
fn an_entry_that_was_not_synced_may_vanish() {
    with_faults("log::an_entry_that_was_not_synced_may_vanish", on_images(), &[], async |site| {
        let receipts = Receipts::open(site.cluster(), ROOM).await?;
        let sending = stopped_leading(site, receipts, "log-written:40").await?;
        site.cut_power(&[VICTIM])?;
        sending.progress(10).await?;
        site.start_disarmed(VICTIM)?;
        site.make_leader(VICTIM, ROOM).await?;
        sending.take_back().await?.settle(&[]).await
    });
}

/// With the third host gone, the leader commits nothing without what this one holds.
#[test]
fn an_entry_that_was_synced_counts_after_the_restart() {
    with_faults("log::an_entry_that_was_synced_counts_after_the_restart", on_images(), &[], async |site| {
        let receipts = Receipts::open(site.cluster(), ROOM).await?;
        let sending = stopped_following(site, receipts, "log-synced:40").await?;
        let leader = site.cluster().leader_of(ROOM).await?;
        let third = ALL.into_iter().filter(|host| ![VICTIM, leader].contains(host));
        site.cut_power(&[VICTIM])?;
        third.clone().try_for_each(|host| site.kill_host(host))?;
        site.start_disarmed(VICTIM)?;
        sending.progress(10).await?;
        third.clone().try_for_each(|host| site.start_host(host))?;
        sending.take_back().await?.settle(&[]).await
    });
}

/// The host that asked for it never heard of it, so it may be given to another.
#[test]
fn a_vote_that_was_not_synced_was_never_given() {
    with_faults("log::a_vote_that_was_not_synced_was_never_given", on_images(), &[], async |site| {
        let mut receipts = Receipts::open(site.cluster(), ROOM).await?;
        site.make_leader(ALL[1], ROOM).await?;
        receipts.send(10).await?;
        site.restart_armed(VICTIM, "vote-written")?;
        receipts.send(10).await?;
        let leader = site.cluster().leader_of(ROOM).await?;
        site.kill_host(leader)?;
        // Without the leader nobody is elected unless the victim votes.
        site.stopped(VICTIM).await?;
        site.cut_power(&[VICTIM])?;
        site.start_disarmed(VICTIM)?;
        receipts.send(10).await?;
        site.start_host(leader)?;
        receipts.settle(&[]).await
    });
}

#[test]
fn what_was_applied_and_not_synced_is_applied_again() {
    with_faults("log::what_was_applied_and_not_synced_is_applied_again", on_images(), &[], async |site| {
        let receipts = Receipts::open(site.cluster(), ROOM).await?;
        let sending = stopped_leading(site, receipts, "applied:40").await?;
        lose_power_and_go_on(site)?;
        sending.progress(10).await?;
        sending.take_back().await?.settle(&[]).await
    });
}

/// What the purged entries did is in the store before the purge is, whatever of both reached the disk.
#[test]
fn a_purge_never_outlives_the_state_it_follows() {
    with_faults("log::a_purge_never_outlives_the_state_it_follows", on_images(), &SHORT_LOG, async |site| {
        let receipts = Receipts::open(site.cluster(), ROOM).await?;
        let sending = stopped_leading(site, receipts, "purge-queued").await?;
        lose_power_and_go_on(site)?;
        sending.progress(150).await?;
        site.make_leader(VICTIM, ROOM).await?;
        sending.take_back().await?.settle(&[]).await
    });
}

fn lose_power_and_go_on(site: &mut Site) -> Result<()> {
    site.cut_power(&ALL)?;
    ALL.into_iter().try_for_each(|host| site.start_disarmed(host))
}
