//! What a leader had promised when it was lost.

use std::time::Duration;

use anyhow::{Context, ensure};
use conclave_client::Session;
use conclave_proto::v1::{NewItem, ReceiveItemsRequest, SendItemsRequest};
use conclave_tests::faults::with_faults;
use conclave_tests::promise;
use conclave_tests::receipts::Receipts;
use conclave_tests::site::{Layout, Wires};
use conclave_workload::patience::eventually;
use tokio::time::timeout;

use super::{ROOM, VICTIM, plain, stopped_leading};

/// It is committed and applied, and its sender does not know.
#[test]
fn who_sends_again_finds_the_kept_outcome() {
    with_faults("leaders::who_sends_again_finds_the_kept_outcome", plain(), &[], async |site| {
        let receipts = Receipts::open(site.cluster(), ROOM).await?;
        let sending = stopped_leading(site, receipts, "applied:40").await?;
        site.kill_host(VICTIM)?;
        sending.progress(10).await?;
        site.start_disarmed(VICTIM)?;
        sending.take_back().await?.settle(&[]).await
    });
}

#[test]
fn a_delivery_that_died_with_its_leader_comes_again() {
    const LEASE_SECONDS: i64 = 2;
    with_faults("leaders::a_delivery_that_died_with_its_leader_comes_again", plain(), &[], async |site| {
        let client = site.cluster().client_with_room("consumer", ROOM).await?;
        let queue = format!("rooms/{ROOM}/queues/leased");
        site.restart_armed(VICTIM, "lease-committed")?;
        site.make_leader(VICTIM, ROOM).await?;
        let items = vec![NewItem { body: "work".into(), ..Default::default() }];
        let request_id = "the only one".to_owned();
        client.send_items(SendItemsRequest { parent: queue.clone(), items, request_id, ..Default::default() }).await?;
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let (lease, wait) = (seconds(LEASE_SECONDS), seconds(30));
        let receive = ReceiveItemsRequest { parent: queue, max_items: 1, lease, wait, ..Default::default() };
        let receiving = tokio::spawn({
            let (client, receive) = (client.clone(), receive.clone());
            async move { client.receive_items(receive).await }
        });
        site.stopped(VICTIM).await?;
        site.kill_host(VICTIM)?;
        let lost = receiving.await?;
        ensure!(lost.is_err(), "the delivery came though its leader died: {lost:?}");
        site.start_disarmed(VICTIM)?;
        let again = eventually("a delivery", || async { Ok(client.receive_items(receive.clone()).await?) }).await?;
        let delivery = again.deliveries.first().and_then(|delivery| delivery.id);
        let attempt = delivery.context("the item was never delivered again")?.attempt;
        promise!(attempt == 2, "the item came by attempt {attempt}, and the first was committed");
        Ok(())
    });
}

/// Its gateway still reaches it, so nobody else would tell the session.
#[test]
fn a_deposed_leader_ends_its_streams_itself() {
    /// An election, and the session's way to the new leader.
    const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
    let layout = Layout { wires: Wires::Namespaces, ..plain() };
    with_faults("leaders::a_deposed_leader_ends_its_streams_itself", layout, &[], async |site| {
        let mut receipts = Receipts::open(site.cluster(), ROOM).await?;
        receipts.send(5).await?;
        let session = Session::open(receipts.client(), &format!("rooms/{ROOM}")).await?;
        let leader = site.cluster().leader_of(ROOM).await?;
        site.network()?.isolate_from_peers(leader)?;
        let items = vec![NewItem { body: "through the session".into(), ..Default::default() }];
        let parent = format!("rooms/{ROOM}/queues/other");
        let send = session.send_items(SendItemsRequest { parent, items, ..Default::default() });
        let sent = timeout(ANSWERED_WITHIN, send).await;
        promise!(matches!(sent, Ok(Ok(_))), "a session of a leader that was cut off got no answer: {sent:?}");
        ensure!(site.network()?.dropped(leader)? > 0, "nothing was cut off");
        promise!(
            site.cluster().host_log(leader).contains("leadership ended"),
            "a leader without peers goes on leading"
        );
        receipts.send(5).await?;
        site.heal()?;
        session.close().await;
        receipts.settle(&[]).await
    });
}
