//! Members come and go.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use conclave_raft::{MembershipError, RaftOptions};
use conclave_storage::MemoryEngine;
use conclave_types::ReplicaId;

use crate::harness::{Cluster, peer};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_takes_the_place_of_another() {
    let mut cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let first = cluster.propose("first").await;
    cluster.open(4, Arc::new(MemoryEngine::new())).await;
    let (leader, _) = cluster.leader().await;
    let group = cluster.group(leader);
    let stranger = group.change_members(BTreeSet::from([ReplicaId(leader), ReplicaId(9)])).await;
    assert!(matches!(stranger, Err(MembershipError::Members(_))), "{stranger:?}");

    group.add_learner(ReplicaId(4), peer(4)).await.expect("it is added");
    group.add_learner(ReplicaId(9), peer(9)).await.expect("nobody need answer");
    group.remove_learners(BTreeSet::from([ReplicaId(9)])).await.expect("it has no vote");
    assert_eq!(group.status().learners.into_keys().collect::<Vec<_>>(), [ReplicaId(4)]);
    let leaves = cluster.running().into_iter().find(|replica| *replica != leader && *replica != 4).expect("two");
    let voters: BTreeSet<_> =
        cluster.running().into_iter().filter(|replica| *replica != leaves).map(ReplicaId).collect();
    group.change_members(voters.clone()).await.expect("all are known");
    assert_eq!(group.status().voters.into_keys().collect::<BTreeSet<_>>(), voters);
    let last = cluster.propose("last").await;
    cluster.applied(4, last).await;
    assert_eq!(cluster.ledger(4), [(first, Bytes::from("first")), (last, Bytes::from("last"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_for_another_replica_is_refused() {
    use conclave_raft::{PeerCall, PeerError};
    let cluster = Cluster::start(1, RaftOptions::for_tests()).await;
    let handler = cluster.network.handler(1);
    let call = |group, to| PeerCall { group, to: ReplicaId(to), from: ReplicaId(2), kind: 1, body: Bytes::new() };
    for call in [call(crate::harness::GROUP, 7), call(conclave_types::GroupId(8), 1), call(crate::harness::GROUP, 1)] {
        let answer = handler.handle(call).await;
        assert!(matches!(answer, Err(PeerError::Refused(_))), "{answer:?}");
    }
}
