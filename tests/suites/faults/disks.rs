//! Disks that are full, and disks that answer with errors.

use std::time::Duration;

use anyhow::{Result, ensure};
use conclave_client::Client;
use conclave_proto::v1::{NewMessage, PostMessageRequest};
use conclave_tests::site::damage::store;
use conclave_tests::site::{Clocks, Disks, Layout, Wires};
use conclave_workload::patience::eventually;

use super::scene::{HOSTS, MEND_WITHIN, SHARDS, Scene, play};

const LAYOUT: Layout = Layout {
    hosts: HOSTS,
    shards: SHARDS,
    disks: Disks::Images { mib: 512 },
    wires: Wires::Loopback,
    clocks: Clocks::Shared,
};

/// For a host whose disk fails to notice and to end.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// For the room that the store had set aside before the disk was full to be used up.
const USED_UP_WITHIN: Duration = Duration::from_secs(40);
/// Bytes of one message that uses up room.
const STUFFING: usize = 200 << 10;
/// How long a majority without disks is watched for acknowledgements that it must not make.
const WATCHED_FOR: Duration = Duration::from_secs(3);

#[test]
fn a_host_whose_disk_fails_ends_and_acknowledges_nothing() {
    play("disks::a_host_whose_disk_fails_ends_and_acknowledges_nothing", LAYOUT, async |scene| {
        scene.evidence.require("host ended by itself", 3);
        let (_, leader) = scene.victim().await?;
        let before = store(scene.site.data(leader))?;
        scene.site.fail_disk(leader)?;
        scene.ends(leader, ENDS_WITHIN).await?;
        scene.flows().await?;
        mend(scene, &[leader]).await?;
        ensure!(store(scene.site.data(leader))? == before, "an error of the disk condemned a whole store");

        // Without the disks of a majority nothing that is asked now can be acknowledged: nobody could have synced it.
        let (_, leader) = scene.victim().await?;
        let both = [leader, (leader + 1) % HOSTS];
        for host in both {
            scene.site.fail_disk(host)?;
        }
        ensure!(scene.ledger.flow(WATCHED_FOR).await.is_err(), "writes were acknowledged without a sync on a majority");
        ensure!(scene.ledger.acknowledged_since_flow() == 0, "a write was acknowledged without a sync on a majority");
        for host in both {
            scene.ends(host, ENDS_WITHIN).await?;
        }
        mend(scene, &both).await
    });
}

#[test]
fn a_host_whose_disk_is_full_ends_and_comes_back_when_there_is_room() {
    play("disks::a_host_whose_disk_is_full_ends_and_comes_back_when_there_is_room", LAYOUT, async |scene| {
        scene.evidence.require("host ended by itself", 1);
        let client = scene.site.cluster().client_with_room("stuffer", "stuffing").await?;
        let (_, leader) = scene.victim().await?;
        let before = store(scene.site.data(leader))?;
        scene.site.fill_disk(leader)?;
        used_up(scene, leader, &client).await?;
        scene.flows().await?;
        // It is started again and again, and must not take what it finds for damage. What it clears away as it starts may
        // leave room for a while.
        used_up(scene, leader, &client).await?;
        eventually("room on the disk", || async { scene.site.free_disk(leader) }).await?;
        scene.site.become_whole(MEND_WITHIN).await?;
        ensure!(store(scene.site.data(leader))? == before, "a full disk condemned a whole store");
        Ok(())
    });
}

/// Writes until a host whose disk is nearly full has ended by itself.
async fn used_up(scene: &mut Scene, host: usize, client: &Client) -> Result<()> {
    tokio::select! {
        ended = scene.ends(host, USED_UP_WITHIN) => { ended?; }
        () = stuff(client) => {}
    }
    Ok(())
}

/// Writes without end into a room of its own: every host has to put it on its disk.
async fn stuff(client: &Client) {
    loop {
        let message =
            Some(NewMessage { r#type: "stuffing".into(), body: vec![7; STUFFING].into(), ..Default::default() });
        let request = PostMessageRequest { parent: "rooms/stuffing".into(), message, ..Default::default() };
        // Who answers, and whether, is not what this is about.
        let _ = client.post_message(request).await;
    }
}

/// New disks with what was synced on the old ones; the hosts come back by themselves.
async fn mend(scene: &mut Scene, hosts: &[usize]) -> Result<()> {
    for host in hosts {
        scene.site.mend_disk(*host)?;
        scene.site.start_host(*host)?;
    }
    scene.site.become_whole(MEND_WITHIN).await?;
    scene.flows().await
}
