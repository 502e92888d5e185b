//! Who leads, and what is promised while that changes.

use std::time::Duration;

use conclave_raft::{BarrierError, InitializeError, Leadership, ProposeError, RaftOptions};
use conclave_types::ReplicaId;
use tokio::time::Instant;

use crate::harness::{Cluster, PATIENCE, peer, propose};

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_initialized_once() {
    let cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    cluster.propose("first").await;
    assert!(cluster.group(1).is_initialized().await);
    let again = cluster.group(1).initialize([(ReplicaId(1), peer(1))].into()).await;
    assert_eq!(again, Err(InitializeError::AlreadyInitialized));
    let foreign = cluster.group(1).initialize([(ReplicaId(2), peer(2))].into()).await;
    assert!(matches!(foreign, Err(InitializeError::Members(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_without_an_election_timeout() {
    let cluster = Cluster::start(3, RaftOptions::default()).await;
    cluster.propose("first").await;
    let (before, _) = cluster.leader().await;
    let begun = Instant::now();
    let target = cluster.group(before).transfer_leader().await.expect("followers have the whole log");
    let took = begun.elapsed();
    assert_ne!(target, ReplicaId(before));
    // The shortest election would take a lease and a timeout: 1.5 s.
    assert!(took < Duration::from_millis(500), "took {took:?}");
    let (after, _) = cluster.leader_of(&[target.0]).await;
    propose(&cluster.group(after), "second").await.expect("the new leader accepts");
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_while_proposals_come_in() {
    let cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let (before, _) = cluster.leader().await;
    let group = cluster.group(before);
    let proposing = (0..8).map(|_| {
        let group = group.clone();
        tokio::spawn(async move {
            let mut acknowledged = 0;
            loop {
                match propose(&group, "busy").await {
                    Ok(_) => acknowledged += 1,
                    Err(error) => return (acknowledged, error),
                }
            }
        })
    });
    let proposing: Vec<_> = proposing.collect();
    cluster.until("some proposals", || cluster.ledger(before).len() > 50).await;
    group.transfer_leader().await.expect("proposals pause, so a follower catches up");
    for proposer in proposing {
        let (_, error) = proposer.await.expect("no panic");
        assert!(matches!(error, ProposeError::NotLeader { .. }), "none is left in doubt: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_leader_tells_its_proposers_and_is_replaced() {
    let cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let (deposed, term) = cluster.leader().await;
    cluster.network.silence(deposed);
    let begun = Instant::now();
    let outcome = propose(&cluster.group(deposed), "in doubt").await;
    assert_eq!(outcome, Err(ProposeError::Unknown));
    assert!(begun.elapsed() < Duration::from_secs(2), "told after {:?}", begun.elapsed());
    assert_eq!(cluster.group(deposed).read_barrier().await, Err(BarrierError::NoQuorum));
    let leadership = cluster.group(deposed).leadership().borrow().clone();
    assert!(matches!(leadership, Leadership::Follower { .. }), "{leadership:?}");

    let others: Vec<u64> = cluster.running().into_iter().filter(|replica| *replica != deposed).collect();
    let (successor, later) = cluster.leader_of(&others).await;
    assert!(later > term);
    let index = propose(&cluster.group(successor), "afterwards").await.expect("a majority");
    cluster.network.restore(deposed);
    cluster.applied(deposed, index).await;
    assert_eq!(cluster.ledger(deposed), cluster.ledger(successor));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_comes_back_deposes_nobody() {
    let cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let (leader, term) = cluster.leader().await;
    let away = cluster.running().into_iter().find(|replica| *replica != leader).expect("two followers");
    let asked = cluster.network.calls(3);
    cluster.network.silence(away);
    cluster.until("it asked in vain", || cluster.network.calls(3) > asked + 2).await;
    cluster.network.restore(away);
    let index = cluster.propose("still").await;
    cluster.applied(away, index).await;
    assert_eq!(cluster.leader().await, (leader, term), "pre-votes change no term");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_sees_everything_acknowledged_before() {
    let cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    for round in 0..20 {
        let index = cluster.propose(&format!("{round}")).await;
        let (leader, _) = cluster.leader().await;
        cluster.group(leader).read_barrier().await.expect("a majority answers");
        assert!(cluster.ledger(leader).iter().any(|(at, _)| *at == index));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_shut_down_can_be_opened_again() {
    let mut cluster = Cluster::start(3, RaftOptions::for_tests()).await;
    let index = cluster.propose("first").await;
    let (leader, _) = cluster.leader().await;
    let group = cluster.group(leader);
    let mut leadership = group.leadership();
    group.shutdown().await;
    let stopped = leadership.wait_for(|leadership| *leadership == Leadership::Stopped);
    tokio::time::timeout(PATIENCE, stopped).await.expect("it stops").expect("told before it ends");
    let refused = propose(&cluster.group(leader), "late").await;
    assert_eq!(refused, Err(ProposeError::Stopped));
    let engine = cluster.kill(leader).await;
    cluster.open(leader, engine).await;
    cluster.applied(leader, index).await;
}
