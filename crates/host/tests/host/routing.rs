//! A call that came to the wrong host, or too early, says where to go or that it may be tried again.

use conclave_proto::status::metadata_of;
use conclave_proto::v1::ErrorReason;
use tokio::time::timeout;

use crate::calls::{Caller, reason, refusal};
use crate::cluster::{Cluster, Founding, PATIENCE, THREE_HOSTS};

#[tokio::test]
async fn a_shard_that_is_not_hosted_here_is_a_stale_epoch() {
    let apart = Founding { hosts: 2, shards: 2, replication: 1, ahead: Vec::new() };
    let cluster = Cluster::start(apart).await;
    let (leader, _) = cluster.leader("lab").await;
    let other = cluster.caller(1 - leader, "ada").await;
    assert_eq!(refusal(other.create_room("lab").await), ErrorReason::StaleEpoch);
    assert_eq!(refusal(other.begin("lab").await), ErrorReason::StaleEpoch);
    assert!(cluster.caller(leader, "ada").await.create_room("lab").await.is_ok());
}

#[tokio::test]
async fn a_follower_names_the_leader() {
    let cluster = Cluster::start(THREE_HOSTS).await;
    let (leader, _, _) = cluster.with_room("lab", "ada").await;
    let follower = cluster.caller((leader + 1) % 3, "ada").await;
    // The first answers may come before the follower has heard of its leader.
    let named = async {
        loop {
            let status = follower.get_room("lab").await.expect_err("a follower serves nobody");
            assert_eq!(reason(&status), ErrorReason::NotLeader);
            if let Some(named) = metadata_of(&status).remove("leader") {
                return named;
            }
        }
    };
    let named = timeout(PATIENCE, named).await.expect("the follower never hears of its leader");
    assert_eq!(named, cluster.address(leader));
    assert_eq!(refusal(follower.begin("lab").await), ErrorReason::NotLeader);
}

#[tokio::test]
async fn a_host_without_a_table_has_no_leader_to_name() {
    let mut cluster = Cluster::unborn(THREE_HOSTS);
    cluster.start_host(0).await;
    let (address, claims) = (cluster.address(0), cluster.claims("ada"));
    let ada = Caller::connect(address, [1; 32], claims, cluster.shared_clock(0));
    assert_eq!(refusal(ada.get_room("lab").await), ErrorReason::NoLeader);
    assert_eq!(refusal(ada.begin("lab").await), ErrorReason::NoLeader);
}
