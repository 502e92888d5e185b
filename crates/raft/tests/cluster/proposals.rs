//! What a proposer is told.

use bytes::Bytes;
use conclave_raft::{LeaderTerm, ProposeError, RaftOptions};
use conclave_types::ReplicaId;

use crate::harness::{Cluster, propose};

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_reaches_every_replica() {
    let cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let index = cluster.propose("first").await;
    for replica in cluster.running() {
        cluster.applied(replica, index).await;
        assert_eq!(cluster.ledger(replica), [(index, Bytes::from("first"))]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_one_commits_alone() {
    let cluster = Cluster::start(1, RaftOptions::for_tests()).await;
    let index = cluster.propose("alone").await;
    assert_eq!(cluster.ledger(1), [(index, Bytes::from("alone"))]);
    cluster.group(1).read_barrier().await.expect("its own majority");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_names_the_leader() {
    let cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let index = cluster.propose("first").await;
    let (leader, term) = cluster.leader().await;
    let follower = cluster.running().into_iter().find(|replica| *replica != leader).expect("two followers");
    cluster.applied(follower, index).await;
    let refused = propose(&cluster.group(follower), "second").await.expect_err("it follows");
    let ProposeError::NotLeader { leader: Some((named, _)), term: named_term } = refused else {
        panic!("unexpected answer: {refused:?}")
    };
    assert_eq!((named, named_term), (ReplicaId(leader), term.term));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_bound_to_an_earlier_leadership_is_refused() {
    let cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let (first, earlier) = cluster.leader().await;
    cluster.group(first).transfer_leader().await.expect("followers have the whole log");
    let (second, now) = cluster.leader_of(&cluster.running()).await;
    assert_ne!(earlier, now);
    let group = cluster.group(second);
    let refused = group.propose(Bytes::from("late"), Some(earlier)).await.map(|_| ()).expect_err("bound to another");
    assert!(matches!(refused, ProposeError::NotLeader { .. }), "{refused:?}");
    let never = LeaderTerm { term: now.term + 1, leader: now.leader };
    assert!(group.propose(Bytes::from("early"), Some(never)).await.is_err());
    group.propose(Bytes::from("right"), Some(now)).await.expect("bound to the present leadership");
    assert!(cluster.ledger(second).iter().all(|(_, payload)| payload == "right"));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_proposals_than_may_wait_are_refused_as_overloaded() {
    let options = RaftOptions { core_queue: 4, ..RaftOptions::for_tests() };
    let cluster = Cluster::start(3, options).await;
    let (leader, _) = cluster.leader().await;
    for follower in cluster.running().into_iter().filter(|replica| *replica != leader) {
        cluster.network.silence(follower);
    }
    let group = cluster.group(leader);
    let waiting = (0..5).map(|_| {
        let group = group.clone();
        async move { propose(&group, "waits").await }
    });
    let outcomes = futures::future::join_all(waiting).await;
    let overloaded = outcomes.iter().filter(|outcome| **outcome == Err(ProposeError::Overloaded)).count();
    assert_eq!(overloaded, 1, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_begun_first_is_applied_first() {
    let cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let (leader, term) = cluster.leader().await;
    let group = cluster.group(leader);
    let payloads: Vec<Bytes> = (0..50).map(|number| Bytes::from(format!("{number}"))).collect();
    let mut under_way = Vec::new();
    for payload in &payloads {
        under_way.push(group.begin(payload.clone(), Some(term)).await.expect("it leads"));
    }
    // Whoever waits for the last first changes nothing.
    for proposed in under_way.into_iter().rev() {
        proposed.outcome().await.expect("it goes on leading");
    }
    let applied: Vec<Bytes> = cluster.ledger(leader).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(applied, payloads);
}
