//! One bad wall clock moves no lease by more than two seconds.

use std::time::Duration;

use conclave_proto::v1;
use conclave_types::Timestamp;

use crate::calls::{AckResult, Caller, id, items, receive_request};
use crate::cluster::{Cluster, Founding, THREE_HOSTS};

const JOBS: &str = "rooms/lab/queues/jobs";
const TWO_HOURS: Duration = Duration::from_secs(2 * 60 * 60);
/// How far a leader may start from its peers, and what the machine may take for a call.
const TOLERANCE_MS: u64 = 1_000 + 1_000;
const LEASE: Duration = Duration::from_secs(3_600);

fn send_time(delivery: &v1::Delivery) -> Timestamp {
    let time = delivery.send_time.expect("a send time");
    Timestamp(time.seconds as u64 * 1_000 + time.nanos as u64 / 1_000_000)
}

/// Sends and leases one item; how far its send time is from the right time, and the delivery.
async fn stamped(cluster: &Cluster, ada: &Caller) -> (u64, v1::Delivery) {
    let right = cluster.clock(0).right();
    ada.send(items(JOBS, &["work"])).await.unwrap();
    let mut taken = ada.receive(receive_request(JOBS, Duration::ZERO, LEASE)).await.unwrap();
    let delivery = taken.pop().expect("the item that was sent");
    (send_time(&delivery).0.abs_diff(right.0), delivery)
}

#[tokio::test]
async fn a_host_two_hours_ahead_from_the_start_moves_no_stamp() {
    for ahead in 0..3 {
        let mut clocks = vec![Duration::ZERO; 3];
        clocks[ahead] = TWO_HOURS;
        let cluster = Cluster::start(Founding { ahead: clocks, ..THREE_HOSTS }).await;
        let (leader, term, ada) = cluster.with_room("lab", "ada").await;
        let (off, _) = stamped(&cluster, &ada).await;
        assert!(off <= TOLERANCE_MS, "host {leader} leads in term {term}, host {ahead} is ahead: off by {off} ms");
    }
}

#[tokio::test]
async fn a_leaders_wall_clock_that_jumps_moves_no_lease() {
    let cluster = Cluster::start(THREE_HOSTS).await;
    let (leader, _, ada) = cluster.with_room("lab", "ada").await;
    let (_, before) = stamped(&cluster, &ada).await;
    cluster.clock(leader).jump(TWO_HOURS);

    let (off, after) = stamped(&cluster, &ada).await;
    assert!(off <= TOLERANCE_MS, "off by {off} ms");
    let remaining: Duration = after.lease_remaining.expect("a lease").try_into().unwrap();
    assert!(remaining > LEASE - Duration::from_millis(TOLERANCE_MS) && remaining <= LEASE, "{remaining:?}");
    // The lease of an hour that was given before the jump of two is still good.
    assert_eq!(ada.ack(JOBS, &[id(&before)]).await.unwrap(), [AckResult::Acked]);
}

#[tokio::test]
async fn leases_stand_while_leadership_wanders_over_a_skewed_host() {
    let cluster = Cluster::start(THREE_HOSTS).await;
    let (first, mut term, ada) = cluster.with_room("lab", "ada").await;
    let skewed = (first + 1) % 3;
    cluster.clock(skewed).jump(TWO_HOURS);
    let (_, leased) = stamped(&cluster, &ada).await;
    let mut leader = first;
    for _ in 0..4 {
        cluster.drain(leader).await;
        (leader, term) = cluster.next_leader("lab", term).await;
        let (_, _, ada) = cluster.with_room("lab", "ada").await;
        let (off, _) = stamped(&cluster, &ada).await;
        assert!(off <= TOLERANCE_MS, "host {leader} led in term {term}, {skewed} is ahead: off by {off} ms");
    }
    let (_, _, ada) = cluster.with_room("lab", "ada").await;
    assert_eq!(ada.ack(JOBS, &[id(&leased)]).await.unwrap(), [AckResult::Acked]);
}
